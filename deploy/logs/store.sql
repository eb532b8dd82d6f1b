-- The store of the logs: a table in PostgreSQL, in a database of its own. See docs/logging.md.

create table penstock_logs (
    at timestamptz not null,
    service text not null,
    level text not null,
    event text,
    run text,
    step text,
    attempt int,
    agent text,
    session bigint,
    trace text,
    fields jsonb,
    line text
);

comment on column penstock_logs.fields is 'all of the line; null: it is no JSON';
comment on column penstock_logs.line is 'a line that is no JSON, such as a crash of the interpreter writes it';

create index penstock_logs_at on penstock_logs using brin (at);
create index penstock_logs_run on penstock_logs (run, at) where run is not null;
create index penstock_logs_trace on penstock_logs (trace, at) where trace is not null;

-- Whoever ships says service and line alone. No line is refused: one that cannot be taken apart is kept as it is.
create function penstock_logs_parse() returns trigger language plpgsql as $$
begin
    new.fields := new.line::jsonb;
    new.at := new.fields ->> 'time';
    new.level := coalesce(new.fields ->> 'level', 'info');
    new.event := new.fields ->> 'event';
    new.run := new.fields ->> 'run';
    new.step := new.fields ->> 'step';
    new.attempt := new.fields ->> 'attempt';
    new.agent := new.fields ->> 'agent';
    new.session := new.fields ->> 'session';
    new.trace := new.fields ->> 'trace';
    if new.at is null then
        raise invalid_text_representation;
    end if;
    new.line := null;
    return new;
exception
    when data_exception then
        new.fields := null;
        new.at := now();
        -- gRPC's own lines begin with the letter of their level.
        new.level := case
            when new.line ~ '^I\d{4} ' then 'info' when new.line ~ '^W\d{4} ' then 'warning' else 'error'
        end;
        return new;
end
$$;

create trigger penstock_logs_parse before insert on penstock_logs for each row execute function penstock_logs_parse();
