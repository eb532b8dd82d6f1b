CREATE FUNCTION public.attempt_cost(detail bytea, place integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((length(detail) >= 33) AND (get_byte(detail, 0) = 193)) THEN ((('x'::text || encode(substr(detail, (2 + (8 * place)), 8), 'hex'::text)))::bit(64))::bigint ELSE NULL::bigint END;
CREATE TABLE public.agent_links (
    agent_id text NOT NULL COLLATE pg_catalog."C",
    coordinator_id text NOT NULL COLLATE pg_catalog."C",
    session_epoch bigint NOT NULL,
    boot_id text NOT NULL
);
CREATE TABLE public.agents (
    agent_id text NOT NULL COLLATE pg_catalog."C",
    session_epoch bigint NOT NULL,
    connect_time bigint NOT NULL,
    goodbye boolean NOT NULL,
    description bytea NOT NULL,
    paused boolean DEFAULT false NOT NULL
);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.artifact_uses (
    run_id uuid NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    generation integer NOT NULL,
    attempt integer NOT NULL,
    token bigint NOT NULL,
    pipeline text NOT NULL COLLATE pg_catalog."C",
    version_digest text NOT NULL COLLATE pg_catalog."C",
    step_name text NOT NULL COLLATE pg_catalog."C",
    display_name text NOT NULL COLLATE pg_catalog."C",
    code_digest text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL,
    digest text NOT NULL COLLATE pg_catalog."C",
    input text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.artifact_uses_default (
    run_id uuid CONSTRAINT artifact_uses_run_id_not_null NOT NULL,
    step integer CONSTRAINT artifact_uses_step_not_null NOT NULL,
    item integer CONSTRAINT artifact_uses_item_not_null NOT NULL,
    generation integer CONSTRAINT artifact_uses_generation_not_null NOT NULL,
    attempt integer CONSTRAINT artifact_uses_attempt_not_null NOT NULL,
    token bigint CONSTRAINT artifact_uses_token_not_null NOT NULL,
    pipeline text CONSTRAINT artifact_uses_pipeline_not_null NOT NULL COLLATE pg_catalog."C",
    version_digest text CONSTRAINT artifact_uses_version_digest_not_null NOT NULL COLLATE pg_catalog."C",
    step_name text CONSTRAINT artifact_uses_step_name_not_null NOT NULL COLLATE pg_catalog."C",
    display_name text CONSTRAINT artifact_uses_display_name_not_null NOT NULL COLLATE pg_catalog."C",
    code_digest text CONSTRAINT artifact_uses_code_digest_not_null NOT NULL COLLATE pg_catalog."C",
    at bigint CONSTRAINT artifact_uses_at_not_null NOT NULL,
    digest text CONSTRAINT artifact_uses_digest_not_null NOT NULL COLLATE pg_catalog."C",
    input text CONSTRAINT artifact_uses_input_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.artifacts (
    run_id uuid NOT NULL,
    seq bigint NOT NULL,
    "position" integer NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    generation integer NOT NULL,
    attempt integer NOT NULL,
    token bigint NOT NULL,
    pipeline text NOT NULL COLLATE pg_catalog."C",
    version_digest text NOT NULL COLLATE pg_catalog."C",
    step_name text NOT NULL COLLATE pg_catalog."C",
    display_name text NOT NULL COLLATE pg_catalog."C",
    code_digest text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL,
    digest text NOT NULL COLLATE pg_catalog."C",
    name bytea NOT NULL,
    size bigint NOT NULL,
    media_type bytea NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    codec bytea NOT NULL,
    metadata bytea NOT NULL
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.artifacts_default (
    run_id uuid CONSTRAINT artifacts_run_id_not_null NOT NULL,
    seq bigint CONSTRAINT artifacts_seq_not_null NOT NULL,
    "position" integer CONSTRAINT artifacts_position_not_null NOT NULL,
    step integer CONSTRAINT artifacts_step_not_null NOT NULL,
    item integer CONSTRAINT artifacts_item_not_null NOT NULL,
    generation integer CONSTRAINT artifacts_generation_not_null NOT NULL,
    attempt integer CONSTRAINT artifacts_attempt_not_null NOT NULL,
    token bigint CONSTRAINT artifacts_token_not_null NOT NULL,
    pipeline text CONSTRAINT artifacts_pipeline_not_null NOT NULL COLLATE pg_catalog."C",
    version_digest text CONSTRAINT artifacts_version_digest_not_null NOT NULL COLLATE pg_catalog."C",
    step_name text CONSTRAINT artifacts_step_name_not_null NOT NULL COLLATE pg_catalog."C",
    display_name text CONSTRAINT artifacts_display_name_not_null NOT NULL COLLATE pg_catalog."C",
    code_digest text CONSTRAINT artifacts_code_digest_not_null NOT NULL COLLATE pg_catalog."C",
    at bigint CONSTRAINT artifacts_at_not_null NOT NULL,
    digest text CONSTRAINT artifacts_digest_not_null NOT NULL COLLATE pg_catalog."C",
    name bytea CONSTRAINT artifacts_name_not_null NOT NULL,
    size bigint CONSTRAINT artifacts_size_not_null NOT NULL,
    media_type bytea CONSTRAINT artifacts_media_type_not_null NOT NULL,
    kind text CONSTRAINT artifacts_kind_not_null NOT NULL COLLATE pg_catalog."C",
    codec bytea CONSTRAINT artifacts_codec_not_null NOT NULL,
    metadata bytea CONSTRAINT artifacts_metadata_not_null NOT NULL
);
CREATE TABLE public.attempts (
    run_id uuid NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    number integer NOT NULL,
    token bigint NOT NULL,
    outcome smallint NOT NULL,
    start_time bigint NOT NULL,
    end_time bigint NOT NULL,
    agent text NOT NULL COLLATE pg_catalog."C",
    detail bytea NOT NULL
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.attempts_default (
    run_id uuid CONSTRAINT attempts_run_id_not_null NOT NULL,
    step integer CONSTRAINT attempts_step_not_null NOT NULL,
    item integer CONSTRAINT attempts_item_not_null NOT NULL,
    number integer CONSTRAINT attempts_number_not_null NOT NULL,
    token bigint CONSTRAINT attempts_token_not_null NOT NULL,
    outcome smallint CONSTRAINT attempts_outcome_not_null NOT NULL,
    start_time bigint CONSTRAINT attempts_start_time_not_null NOT NULL,
    end_time bigint CONSTRAINT attempts_end_time_not_null NOT NULL,
    agent text CONSTRAINT attempts_agent_not_null NOT NULL COLLATE pg_catalog."C",
    detail bytea CONSTRAINT attempts_detail_not_null NOT NULL
);
CREATE UNLOGGED TABLE public.board (
    coordinator_id text NOT NULL COLLATE pg_catalog."C",
    entry bytea NOT NULL,
    publish_time timestamp with time zone NOT NULL,
    expire_time timestamp with time zone NOT NULL
);
CREATE TABLE public.budget_charges (
    run_id uuid NOT NULL,
    first_seq bigint NOT NULL,
    pipeline text NOT NULL COLLATE pg_catalog."C",
    at bigint NOT NULL,
    slot_time bigint NOT NULL,
    cpu_time bigint NOT NULL,
    price bigint NOT NULL
);
CREATE TABLE public.budget_raises (
    pipeline text NOT NULL COLLATE pg_catalog."C",
    window_start bigint NOT NULL,
    slot_time bigint NOT NULL,
    cpu_time bigint NOT NULL,
    price bigint NOT NULL,
    requested_by bytea NOT NULL,
    at bigint NOT NULL
);
CREATE TABLE public.bulk_jobs (
    job_id uuid NOT NULL,
    state smallint NOT NULL,
    create_time bigint NOT NULL,
    end_time bigint,
    cursor uuid,
    description bytea NOT NULL,
    progress bytea NOT NULL
);
CREATE TABLE public.bundles (
    digest text NOT NULL COLLATE pg_catalog."C",
    create_time bigint NOT NULL,
    content bytea NOT NULL
);
ALTER TABLE ONLY public.bundles ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE TABLE public.cache_entries (
    id bigint NOT NULL,
    key bytea NOT NULL,
    run_id uuid NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    attempt integer NOT NULL,
    create_time bigint NOT NULL,
    expire_time bigint,
    pipeline text NOT NULL COLLATE pg_catalog."C",
    step_name text NOT NULL COLLATE pg_catalog."C",
    display_name text NOT NULL COLLATE pg_catalog."C",
    artifacts text[] NOT NULL COLLATE pg_catalog."C",
    output bytea NOT NULL
);
ALTER TABLE public.cache_entries ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.cache_entries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.cache_reservations (
    key bytea NOT NULL,
    run_id uuid NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    token bigint NOT NULL,
    display_name text NOT NULL COLLATE pg_catalog."C",
    expire_time timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.coordinator_epochs
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.coordinators (
    coordinator_id text NOT NULL COLLATE pg_catalog."C",
    state smallint NOT NULL,
    epoch bigint NOT NULL,
    renewals bigint NOT NULL,
    lease bigint NOT NULL,
    address text NOT NULL COLLATE pg_catalog."C",
    http_address text NOT NULL COLLATE pg_catalog."C",
    began bigint NOT NULL,
    appointed boolean DEFAULT false NOT NULL,
    head_epoch bigint DEFAULT 0 NOT NULL,
    secrets_key text DEFAULT ''::text NOT NULL
);
CREATE TABLE public.cost_days (
    day bigint NOT NULL,
    pipeline text NOT NULL COLLATE pg_catalog."C",
    labels_digest bytea NOT NULL,
    labels text[] NOT NULL COLLATE pg_catalog."C",
    attempts bigint NOT NULL,
    slot_time bigint NOT NULL,
    cpu_time bigint NOT NULL,
    peak_memory_bytes bigint NOT NULL,
    bytes_moved bigint NOT NULL,
    memory_time double precision NOT NULL,
    wasted_attempts bigint NOT NULL,
    wasted_slot_time bigint NOT NULL,
    wasted_cpu_time bigint NOT NULL,
    wasted_peak_memory_bytes bigint NOT NULL,
    wasted_bytes_moved bigint NOT NULL,
    wasted_memory_time double precision NOT NULL
);
CREATE TABLE public.dead_letters (
    run_id uuid NOT NULL,
    seq bigint NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    generation integer NOT NULL,
    budget smallint NOT NULL,
    attempts integer NOT NULL,
    at bigint NOT NULL,
    pipeline text NOT NULL COLLATE pg_catalog."C",
    step_name text NOT NULL COLLATE pg_catalog."C",
    display_name text NOT NULL COLLATE pg_catalog."C",
    reason bytea NOT NULL,
    message bytea NOT NULL,
    state smallint DEFAULT 1 NOT NULL,
    close_time bigint,
    closed_by bytea DEFAULT '\x'::bytea NOT NULL,
    error_class bytea DEFAULT '\x'::bytea NOT NULL
);
CREATE TABLE public.fences (
    coordinator_id text NOT NULL COLLATE pg_catalog."C",
    lane integer NOT NULL,
    epoch bigint NOT NULL
);
CREATE TABLE public.log_chunks (
    run_id uuid NOT NULL,
    "position" bigint NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    attempt integer NOT NULL,
    first_number bigint NOT NULL,
    at bigint NOT NULL,
    lines bytea NOT NULL
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.log_chunks_default (
    run_id uuid CONSTRAINT log_chunks_run_id_not_null NOT NULL,
    "position" bigint CONSTRAINT log_chunks_position_not_null NOT NULL,
    step integer CONSTRAINT log_chunks_step_not_null NOT NULL,
    item integer CONSTRAINT log_chunks_item_not_null NOT NULL,
    attempt integer CONSTRAINT log_chunks_attempt_not_null NOT NULL,
    first_number bigint CONSTRAINT log_chunks_first_number_not_null NOT NULL,
    at bigint CONSTRAINT log_chunks_at_not_null NOT NULL,
    lines bytea CONSTRAINT log_chunks_lines_not_null NOT NULL
);
CREATE TABLE public.log_names (
    name text NOT NULL COLLATE pg_catalog."C",
    run_id uuid NOT NULL,
    at bigint NOT NULL
);
CREATE TABLE public.log_packs (
    run_id uuid NOT NULL,
    last_position bigint NOT NULL,
    first_position bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    rows integer NOT NULL,
    lines integer NOT NULL,
    size integer NOT NULL,
    digest bytea NOT NULL,
    first_time bigint NOT NULL,
    last_time bigint NOT NULL
);
CREATE TABLE public.log_parts (
    run_id uuid NOT NULL,
    pack bigint NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    attempt integer NOT NULL,
    lines integer NOT NULL,
    first_number bigint NOT NULL,
    last_number bigint NOT NULL,
    first_time bigint NOT NULL,
    last_time bigint NOT NULL
);
CREATE SEQUENCE public.log_positions
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.pipeline_versions (
    pipeline text NOT NULL COLLATE pg_catalog."C",
    number integer NOT NULL,
    digest text NOT NULL COLLATE pg_catalog."C",
    step_count integer NOT NULL,
    create_time bigint NOT NULL,
    spec bytea NOT NULL
);
CREATE TABLE public.pipelines (
    name text NOT NULL COLLATE pg_catalog."C",
    create_time bigint NOT NULL,
    delete_time bigint,
    latest integer NOT NULL
);
CREATE UNLOGGED TABLE public.post (
    letter_id bigint NOT NULL,
    recipient text NOT NULL COLLATE pg_catalog."C",
    letter bytea NOT NULL,
    expire_time timestamp with time zone NOT NULL
);
ALTER TABLE public.post ALTER COLUMN letter_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.post_letter_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.removed_runs (
    run_id uuid NOT NULL,
    remove_time bigint NOT NULL,
    pipeline text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    run_key text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    gone boolean DEFAULT false NOT NULL,
    labels text[] DEFAULT '{}'::text[] NOT NULL COLLATE pg_catalog."C",
    create_time bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.requests (
    key bytea NOT NULL,
    digest bytea NOT NULL,
    answer bytea NOT NULL,
    run_id uuid,
    create_time bigint NOT NULL
);
CREATE TABLE public.run_events (
    run_id uuid NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    at bigint NOT NULL,
    payload bytea NOT NULL
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.run_events_default (
    run_id uuid CONSTRAINT run_events_run_id_not_null NOT NULL,
    first_seq bigint CONSTRAINT run_events_first_seq_not_null NOT NULL,
    last_seq bigint CONSTRAINT run_events_last_seq_not_null NOT NULL,
    at bigint CONSTRAINT run_events_at_not_null NOT NULL,
    payload bytea CONSTRAINT run_events_payload_not_null NOT NULL
);
CREATE TABLE public.run_keys (
    pipeline text NOT NULL COLLATE pg_catalog."C",
    run_key text NOT NULL COLLATE pg_catalog."C",
    run_id uuid NOT NULL
);
CREATE TABLE public.runs (
    run_id uuid NOT NULL,
    pipeline text NOT NULL COLLATE pg_catalog."C",
    version_number integer NOT NULL,
    version_digest text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    state smallint NOT NULL,
    create_time bigint NOT NULL,
    start_time bigint,
    end_time bigint,
    labels text[] NOT NULL COLLATE pg_catalog."C",
    reason bytea NOT NULL,
    trace_context bytea NOT NULL,
    parameters bytea NOT NULL,
    summary bytea,
    generation integer DEFAULT 1 NOT NULL,
    parent_run_id uuid,
    run_key text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    origin bytea DEFAULT '\x'::bytea NOT NULL,
    output bytea
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.runs_default (
    run_id uuid CONSTRAINT runs_run_id_not_null NOT NULL,
    pipeline text CONSTRAINT runs_pipeline_not_null NOT NULL COLLATE pg_catalog."C",
    version_number integer CONSTRAINT runs_version_number_not_null NOT NULL,
    version_digest text CONSTRAINT runs_version_digest_not_null NOT NULL COLLATE pg_catalog."C",
    owner text CONSTRAINT runs_owner_not_null NOT NULL COLLATE pg_catalog."C",
    state smallint CONSTRAINT runs_state_not_null NOT NULL,
    create_time bigint CONSTRAINT runs_create_time_not_null NOT NULL,
    start_time bigint,
    end_time bigint,
    labels text[] CONSTRAINT runs_labels_not_null NOT NULL COLLATE pg_catalog."C",
    reason bytea CONSTRAINT runs_reason_not_null NOT NULL,
    trace_context bytea CONSTRAINT runs_trace_context_not_null NOT NULL,
    parameters bytea CONSTRAINT runs_parameters_not_null NOT NULL,
    summary bytea,
    generation integer DEFAULT 1 CONSTRAINT runs_generation_not_null NOT NULL,
    parent_run_id uuid,
    run_key text DEFAULT ''::text CONSTRAINT runs_run_key_not_null NOT NULL COLLATE pg_catalog."C",
    origin bytea DEFAULT '\x'::bytea CONSTRAINT runs_origin_not_null NOT NULL,
    output bytea
);
CREATE TABLE public.secrets (
    name text NOT NULL COLLATE pg_catalog."C",
    key_id text NOT NULL COLLATE pg_catalog."C",
    content bytea NOT NULL,
    create_time bigint NOT NULL,
    update_time bigint NOT NULL
);
CREATE SEQUENCE public.session_epochs
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.signing_keys (
    number integer NOT NULL,
    secret bytea NOT NULL,
    create_time bigint NOT NULL,
    expire_time bigint
);
ALTER TABLE public.signing_keys ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.signing_keys_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.step_runs (
    run_id uuid NOT NULL,
    step integer NOT NULL,
    item integer NOT NULL,
    generation integer NOT NULL,
    state smallint NOT NULL,
    attempts integer NOT NULL,
    ready_time bigint,
    start_time bigint,
    end_time bigint NOT NULL,
    agent text NOT NULL COLLATE pg_catalog."C",
    output bytea,
    failure bytea,
    source bytea
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.step_runs_default (
    run_id uuid CONSTRAINT step_runs_run_id_not_null NOT NULL,
    step integer CONSTRAINT step_runs_step_not_null NOT NULL,
    item integer CONSTRAINT step_runs_item_not_null NOT NULL,
    generation integer CONSTRAINT step_runs_generation_not_null NOT NULL,
    state smallint CONSTRAINT step_runs_state_not_null NOT NULL,
    attempts integer CONSTRAINT step_runs_attempts_not_null NOT NULL,
    ready_time bigint,
    start_time bigint,
    end_time bigint CONSTRAINT step_runs_end_time_not_null NOT NULL,
    agent text CONSTRAINT step_runs_agent_not_null NOT NULL COLLATE pg_catalog."C",
    output bytea,
    failure bytea,
    source bytea
);
ALTER TABLE ONLY public.artifact_uses ATTACH PARTITION public.artifact_uses_default DEFAULT;
ALTER TABLE ONLY public.artifacts ATTACH PARTITION public.artifacts_default DEFAULT;
ALTER TABLE ONLY public.attempts ATTACH PARTITION public.attempts_default DEFAULT;
ALTER TABLE ONLY public.log_chunks ATTACH PARTITION public.log_chunks_default DEFAULT;
ALTER TABLE ONLY public.run_events ATTACH PARTITION public.run_events_default DEFAULT;
ALTER TABLE ONLY public.runs ATTACH PARTITION public.runs_default DEFAULT;
ALTER TABLE ONLY public.step_runs ATTACH PARTITION public.step_runs_default DEFAULT;
ALTER TABLE ONLY public.agent_links
    ADD CONSTRAINT agent_links_pkey PRIMARY KEY (agent_id, coordinator_id);
ALTER TABLE ONLY public.agents
    ADD CONSTRAINT agents_pkey PRIMARY KEY (agent_id);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.artifact_uses
    ADD CONSTRAINT artifact_uses_pkey PRIMARY KEY (run_id, step, item, token, input, digest);
ALTER TABLE ONLY public.artifact_uses_default
    ADD CONSTRAINT artifact_uses_default_pkey PRIMARY KEY (run_id, step, item, token, input, digest);
ALTER TABLE ONLY public.artifacts
    ADD CONSTRAINT artifacts_pkey PRIMARY KEY (run_id, seq, "position");
ALTER TABLE ONLY public.artifacts_default
    ADD CONSTRAINT artifacts_default_pkey PRIMARY KEY (run_id, seq, "position");
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (run_id, step, item, number, token);
ALTER TABLE ONLY public.attempts_default
    ADD CONSTRAINT attempts_default_pkey PRIMARY KEY (run_id, step, item, number, token);
ALTER TABLE ONLY public.board
    ADD CONSTRAINT board_pkey PRIMARY KEY (coordinator_id);
ALTER TABLE ONLY public.budget_charges
    ADD CONSTRAINT budget_charges_pkey PRIMARY KEY (run_id, first_seq);
ALTER TABLE ONLY public.budget_raises
    ADD CONSTRAINT budget_raises_pkey PRIMARY KEY (pipeline, window_start);
ALTER TABLE ONLY public.bulk_jobs
    ADD CONSTRAINT bulk_jobs_pkey PRIMARY KEY (job_id);
ALTER TABLE ONLY public.bundles
    ADD CONSTRAINT bundles_pkey PRIMARY KEY (digest);
ALTER TABLE ONLY public.cache_entries
    ADD CONSTRAINT cache_entries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.cache_reservations
    ADD CONSTRAINT cache_reservations_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.coordinators
    ADD CONSTRAINT coordinators_pkey PRIMARY KEY (coordinator_id);
ALTER TABLE ONLY public.cost_days
    ADD CONSTRAINT cost_days_pkey PRIMARY KEY (day, pipeline, labels_digest);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY public.fences
    ADD CONSTRAINT fences_pkey PRIMARY KEY (coordinator_id, lane);
ALTER TABLE ONLY public.log_chunks
    ADD CONSTRAINT log_chunks_pkey PRIMARY KEY (run_id, "position");
ALTER TABLE ONLY public.log_chunks_default
    ADD CONSTRAINT log_chunks_default_pkey PRIMARY KEY (run_id, "position");
ALTER TABLE ONLY public.log_chunks
    ADD CONSTRAINT log_chunks_run_id_step_item_attempt_first_number_key UNIQUE (run_id, step, item, attempt, first_number);
ALTER TABLE ONLY public.log_chunks_default
    ADD CONSTRAINT log_chunks_default_run_id_step_item_attempt_first_number_key UNIQUE (run_id, step, item, attempt, first_number);
ALTER TABLE ONLY public.log_names
    ADD CONSTRAINT log_names_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.log_packs
    ADD CONSTRAINT log_packs_pkey PRIMARY KEY (run_id, last_position);
ALTER TABLE ONLY public.log_parts
    ADD CONSTRAINT log_parts_pkey PRIMARY KEY (run_id, pack, step, item, attempt);
ALTER TABLE ONLY public.pipeline_versions
    ADD CONSTRAINT pipeline_versions_pipeline_digest_key UNIQUE (pipeline, digest);
ALTER TABLE ONLY public.pipeline_versions
    ADD CONSTRAINT pipeline_versions_pkey PRIMARY KEY (pipeline, number);
ALTER TABLE ONLY public.pipelines
    ADD CONSTRAINT pipelines_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.post
    ADD CONSTRAINT post_pkey PRIMARY KEY (letter_id);
ALTER TABLE ONLY public.removed_runs
    ADD CONSTRAINT removed_runs_pkey PRIMARY KEY (run_id);
ALTER TABLE ONLY public.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.run_events
    ADD CONSTRAINT run_events_pkey PRIMARY KEY (run_id, first_seq);
ALTER TABLE ONLY public.run_events_default
    ADD CONSTRAINT run_events_default_pkey PRIMARY KEY (run_id, first_seq);
ALTER TABLE ONLY public.run_keys
    ADD CONSTRAINT run_keys_pkey PRIMARY KEY (pipeline, run_key);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (run_id);
ALTER TABLE ONLY public.runs_default
    ADD CONSTRAINT runs_default_pkey PRIMARY KEY (run_id);
ALTER TABLE ONLY public.secrets
    ADD CONSTRAINT secrets_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.step_runs
    ADD CONSTRAINT step_runs_pkey PRIMARY KEY (run_id, step, item, generation);
ALTER TABLE ONLY public.step_runs_default
    ADD CONSTRAINT step_runs_default_pkey PRIMARY KEY (run_id, step, item, generation);
CREATE INDEX artifact_uses_by_digest ON ONLY public.artifact_uses USING btree (digest, at);
CREATE INDEX artifact_uses_default_digest_at_idx ON public.artifact_uses_default USING btree (digest, at);
CREATE INDEX artifacts_by_digest ON ONLY public.artifacts USING btree (digest, at);
CREATE INDEX artifacts_by_time ON ONLY public.artifacts USING btree (at, run_id, seq, "position");
CREATE INDEX artifacts_default_at_run_id_seq_position_idx ON public.artifacts_default USING btree (at, run_id, seq, "position");
CREATE INDEX artifacts_default_digest_at_idx ON public.artifacts_default USING btree (digest, at);
CREATE INDEX artifacts_of_series ON ONLY public.artifacts USING btree (pipeline, step_name, name, at);
CREATE INDEX artifacts_default_pipeline_step_name_name_at_idx ON public.artifacts_default USING btree (pipeline, step_name, name, at);
CREATE INDEX budget_charges_by_pipeline ON public.budget_charges USING btree (pipeline, at);
CREATE INDEX budget_charges_by_time ON public.budget_charges USING btree (at);
CREATE INDEX bulk_jobs_live ON public.bulk_jobs USING btree (job_id) WHERE (state = 1);
CREATE INDEX cache_entries_by_artifact ON public.cache_entries USING gin (artifacts) WHERE (artifacts <> '{}'::text[]);
CREATE INDEX cache_entries_by_expiry ON public.cache_entries USING btree (expire_time) WHERE (expire_time IS NOT NULL);
CREATE INDEX cache_entries_by_key ON public.cache_entries USING btree (key, id);
CREATE INDEX cache_entries_by_time ON public.cache_entries USING btree (create_time);
CREATE INDEX dead_letters_by_time ON public.dead_letters USING btree (at, run_id, seq);
CREATE INDEX dead_letters_closed ON public.dead_letters USING btree (close_time) WHERE (state <> 1);
CREATE INDEX dead_letters_open ON public.dead_letters USING btree (run_id) WHERE (state = 1);
CREATE INDEX log_names_by_time ON public.log_names USING btree (at, name);
CREATE INDEX log_parts_of_attempt ON public.log_parts USING btree (run_id, step, item, attempt, last_number);
CREATE INDEX pipeline_versions_by_digest ON public.pipeline_versions USING btree (digest);
CREATE INDEX post_by_recipient ON public.post USING btree (recipient, letter_id);
CREATE INDEX removed_runs_by_time ON public.removed_runs USING btree (remove_time) WHERE gone;
CREATE INDEX removed_runs_left ON public.removed_runs USING btree (run_id) WHERE (NOT gone);
CREATE INDEX requests_by_time ON public.requests USING btree (create_time);
CREATE INDEX runs_by_key ON ONLY public.runs USING btree (pipeline, run_key, run_id) WHERE (run_key <> ''::text);
CREATE INDEX runs_by_label ON ONLY public.runs USING gin (labels) WHERE (labels <> '{}'::text[]);
CREATE INDEX runs_default_labels_idx ON public.runs_default USING gin (labels) WHERE (labels <> '{}'::text[]);
CREATE INDEX runs_live ON ONLY public.runs USING btree (owner, run_id) WHERE (state < 6);
CREATE INDEX runs_default_owner_run_id_idx ON public.runs_default USING btree (owner, run_id) WHERE (state < 6);
CREATE INDEX runs_live_of_parent ON ONLY public.runs USING btree (parent_run_id) WHERE ((state < 6) AND (parent_run_id IS NOT NULL));
CREATE INDEX runs_default_parent_run_id_idx ON public.runs_default USING btree (parent_run_id) WHERE ((state < 6) AND (parent_run_id IS NOT NULL));
CREATE INDEX runs_of_parent ON ONLY public.runs USING btree (parent_run_id, run_id) WHERE (parent_run_id IS NOT NULL);
CREATE INDEX runs_default_parent_run_id_run_id_idx ON public.runs_default USING btree (parent_run_id, run_id) WHERE (parent_run_id IS NOT NULL);
CREATE INDEX runs_live_of_pipeline ON ONLY public.runs USING btree (pipeline) WHERE (state < 6);
CREATE INDEX runs_default_pipeline_idx ON public.runs_default USING btree (pipeline) WHERE (state < 6);
CREATE INDEX runs_of_pipeline ON ONLY public.runs USING btree (pipeline, run_id);
CREATE INDEX runs_default_pipeline_run_id_idx ON public.runs_default USING btree (pipeline, run_id);
CREATE INDEX runs_default_pipeline_run_key_run_id_idx ON public.runs_default USING btree (pipeline, run_key, run_id) WHERE (run_key <> ''::text);
CREATE UNIQUE INDEX signing_keys_newest ON public.signing_keys USING btree ((true)) WHERE (expire_time IS NULL);
ALTER INDEX public.artifact_uses_by_digest ATTACH PARTITION public.artifact_uses_default_digest_at_idx;
ALTER INDEX public.artifact_uses_pkey ATTACH PARTITION public.artifact_uses_default_pkey;
ALTER INDEX public.artifacts_by_time ATTACH PARTITION public.artifacts_default_at_run_id_seq_position_idx;
ALTER INDEX public.artifacts_by_digest ATTACH PARTITION public.artifacts_default_digest_at_idx;
ALTER INDEX public.artifacts_of_series ATTACH PARTITION public.artifacts_default_pipeline_step_name_name_at_idx;
ALTER INDEX public.artifacts_pkey ATTACH PARTITION public.artifacts_default_pkey;
ALTER INDEX public.attempts_pkey ATTACH PARTITION public.attempts_default_pkey;
ALTER INDEX public.log_chunks_pkey ATTACH PARTITION public.log_chunks_default_pkey;
ALTER INDEX public.log_chunks_run_id_step_item_attempt_first_number_key ATTACH PARTITION public.log_chunks_default_run_id_step_item_attempt_first_number_key;
ALTER INDEX public.run_events_pkey ATTACH PARTITION public.run_events_default_pkey;
ALTER INDEX public.runs_by_label ATTACH PARTITION public.runs_default_labels_idx;
ALTER INDEX public.runs_live ATTACH PARTITION public.runs_default_owner_run_id_idx;
ALTER INDEX public.runs_live_of_parent ATTACH PARTITION public.runs_default_parent_run_id_idx;
ALTER INDEX public.runs_of_parent ATTACH PARTITION public.runs_default_parent_run_id_run_id_idx;
ALTER INDEX public.runs_live_of_pipeline ATTACH PARTITION public.runs_default_pipeline_idx;
ALTER INDEX public.runs_of_pipeline ATTACH PARTITION public.runs_default_pipeline_run_id_idx;
ALTER INDEX public.runs_by_key ATTACH PARTITION public.runs_default_pipeline_run_key_run_id_idx;
ALTER INDEX public.runs_pkey ATTACH PARTITION public.runs_default_pkey;
ALTER INDEX public.step_runs_pkey ATTACH PARTITION public.step_runs_default_pkey;
ALTER TABLE ONLY public.pipeline_versions
    ADD CONSTRAINT pipeline_versions_pipeline_fkey FOREIGN KEY (pipeline) REFERENCES public.pipelines(name);
