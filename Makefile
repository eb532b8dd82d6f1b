# Penstock's commands. Every one does the set-up that it needs, in .venv, and does it once.

PYTEST_OPTIONS ?=
# Processes that share the tests: those of one file stay together, and share its systems. A third one, on the two cores of
# CI, would take the time from those that hold bounds of seconds.
TEST_PROCESSES ?= 2
BENCH_OPTIONS ?=
CHAOS_OPTIONS ?=
SIMULATE_SECONDS ?= 600
SIMULATE_HA_SECONDS ?= 7200
SIMULATE_HA_SCHEDULES ?= 100000
PEERS ?=
COVERED ?=
ADD ?=
# Docker's own Compose, or the older program of that name.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
# What tests start as processes of their own, many hundred times, is compiled once: they may be told to write no bytecode.
STARTED := coordinator agent sdk tests examples benchmarks
SETUP_SOURCES := pyproject.toml constraints.txt scripts/setup.sh
BIN := .venv/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev demo test coverage hooks check format proto constraints states settings-docs bench bench-ratio bench-guard bench-large bench-artifacts bench-logs bench-peers bench-plot flood malformed schedules simulate simulate-ha mutants random-dags outages chaos chaos-ha env up down migrate seed clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.ready-run ## Make the virtual environment .venv with all parts of Penstock.
	@echo "Ready: . .venv/bin/activate, or call .venv/bin/penstock"

setup-dev: .venv/.ready-dev ## The same with the tools for tests and checks.
	@echo "Ready: . .venv/bin/activate"

.venv/.ready-run: $(SETUP_SOURCES)
	@PYTHON='$(PYTHON)' scripts/setup.sh run
	@touch $@

.venv/.ready-dev: $(SETUP_SOURCES)
	@PYTHON='$(PYTHON)' scripts/setup.sh dev
	@touch .venv/.ready-run $@

.venv/.ready-bench: $(SETUP_SOURCES)
	@PYTHON='$(PYTHON)' scripts/setup.sh bench
	@touch .venv/.ready-run .venv/.ready-dev $@

demo: .venv/.ready-run ## Run a real ETL on two agents and show its result.
	@$(BIN)/python -m examples.etl.demo

test: .venv/.ready-dev ## Run all tests (PYTEST_OPTIONS="-k chain" runs some).
	@$(BIN)/python -m compileall -q $(STARTED)
	@$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) $(PYTEST_OPTIONS)

coverage: .venv/.ready-dev ## Run the tests and tell which lines none of them comes to (COVERED="tests/unit" takes some, ADD=1 adds to the former).
	@test -n "$(ADD)" || rm -rf .coverage; mkdir -p .coverage
	@$(BIN)/python -m coverage run -m pytest -q -n $(TEST_PROCESSES) $(PYTEST_OPTIONS) $(COVERED); ended=$$?; \
		$(BIN)/python -m coverage combine -q --append && $(BIN)/python -m coverage html -q -d .coverage/html && \
		$(BIN)/python -m coverage report && exit $$ended

hooks: .venv/.ready-dev ## Have git run checks before each commit and each push.
	@$(BIN)/pre-commit install

check: .venv/.ready-dev ## Check format, style, types, layers, protos and generated code.
	@scripts/check.sh

format: .venv/.ready-dev ## Rewrite code and protos in the agreed format.
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet . && $(BIN)/buf format -w proto

proto: .venv/.ready-dev ## Write the stubs again after a change of the protos.
	@scripts/generate_stubs.sh

states: .venv/.ready-dev ## Write docs/states.md again after a change of the rules of runs.
	@$(BIN)/python -m scripts.describe_states

settings-docs: .venv/.ready-dev ## Write the tables of docs/configuration.md again after a change of settings.
	@$(BIN)/python -m scripts.settings_docs

constraints: .venv/.ready-dev ## Renew the pinned versions in constraints.txt.
	@scripts/constrain.sh

bench: .venv/.ready-dev ## Measure Penstock and a bare loop in turn; prints one JSON line per measurement.
	@$(BIN)/python -m benchmarks $(BENCH_OPTIONS)

bench-ratio: .venv/.ready-dev ## Measure only what Penstock and the bare loop do in turn.
	@$(BIN)/python -m benchmarks chain40 fan1000 diamonds200 start singles10000 $(BENCH_OPTIONS)

bench-guard: .venv/.ready-dev ## Fail if Penstock has become much slower against the bare loop.
	@$(BIN)/python -m benchmarks.guard

bench-large: .venv/.ready-dev ## Measure large runs: layers, a map of 50,000, a chain of 10,000, a large cancel.
	@$(BIN)/python -m benchmarks layered map50000 chain10000 cancel50000 $(BENCH_OPTIONS)

bench-artifacts: .venv/.ready-dev ## Move 2 GiB between two agents on a disk and on S3, with ratios; then 10,000 outputs of 100 KB.
	@$(BIN)/python -m benchmarks.artifact_transfer
	@$(BIN)/python -m benchmarks outputs100k $(BENCH_OPTIONS)

bench-logs: .venv/.ready-dev ## One million lines of 20 steps against the null device, and one who follows them.
	@$(BIN)/python -m benchmarks.logs $(BENCH_OPTIONS)

.PHONY: bench-tracing
bench-tracing: .venv/.ready-dev ## CPU per step without traces and with a tenth of the runs sampled, 20 pairs, with the ratio.
	@$(BIN)/python -m benchmarks.tracing $(BENCH_OPTIONS)

bench-peers: .venv/.ready-dev ## Measure others in environments of their own (PEERS="ray dask" takes some).
	@$(BIN)/python -m benchmarks.peers $(PEERS) $(BENCH_OPTIONS)

bench-plot: .venv/.ready-bench ## Draw docs/performance.svg from benchmarks/results.jsonl.
	@$(BIN)/python -m benchmarks.plot benchmarks/results.jsonl docs/performance.svg

flood: .venv/.ready-dev ## Offer ten times the starts that can be done for a minute, and see that all promises hold.
	@$(BIN)/python -m benchmarks.flood $(BENCH_OPTIONS)

malformed: .venv/.ready-dev ## Send 10,000 malformed frames and 2,000 garbage connections, and see that nobody minds.
	@$(BIN)/python -m benchmarks.malformed $(BENCH_OPTIONS)

schedules: .venv/.ready-dev ## Drive 200,000 random schedules through the rules of runs (CI: 10,000).
	@PENSTOCK_SCHEDULES=200000 $(BIN)/python -m pytest -q --timeout 3600 tests/unit/run/test_schedules.py

simulate: .venv/.ready-dev ## Play 100,000 random schedules of the cores with faults in ten minutes, then some of the shell.
	@$(BIN)/python -m tests.simulation.cores --seconds $(SIMULATE_SECONDS) --schedules $$(($(SIMULATE_SECONDS) * 500 / 3))
	@$(BIN)/python -m tests.simulation.shell --seconds $$(($(SIMULATE_SECONDS) / 10)) --processes 2

simulate-ha: .venv/.ready-dev ## Play 100,000 random schedules of three coordinators, half of them with members, with partitions, frozen owners and hand-overs.
	@$(BIN)/python -m tests.simulation.cores --several --seconds $(SIMULATE_HA_SECONDS) --schedules $$(($(SIMULATE_HA_SCHEDULES) / 2))
	@$(BIN)/python -m tests.simulation.cores --members --seconds $(SIMULATE_HA_SECONDS) --schedules $$(($(SIMULATE_HA_SCHEDULES) / 2))

.PHONY: monitoring
monitoring: .venv/.ready-dev ## Write the rules of objectives and the dashboards again.
	@$(BIN)/python -m scripts.write_slo_rules
	@$(BIN)/python -m scripts.write_dashboards

mutants: .venv/.ready-dev ## Break promises on purpose, one by one, and see that each break is found.
	@$(BIN)/python -m tests.mutants

random-dags: .venv/.ready-dev ## Run 1,000 random pipelines on a whole system and compare with a plain evaluator (CI: 300).
	@PENSTOCK_RANDOM_DAGS=$${PENSTOCK_RANDOM_DAGS:-1000} $(BIN)/python -m pytest -q tests/e2e/random_dags

outages: .venv/.ready-dev ## Take PostgreSQL away in every way, for 90 s each (PENSTOCK_OUTAGE_SECONDS; CI: 5 s, half of the ways).
	@PENSTOCK_OUTAGE_SECONDS=$${PENSTOCK_OUTAGE_SECONDS:-90} PENSTOCK_UNKNOWN_COMMITS=1000 $(BIN)/python -m pytest -q --timeout 1200 tests/e2e/outages tests/contract/test_postgres_traps.py

chaos: .venv/.ready-dev ## Kill, freeze and cut off real processes under load for 20 minutes, and see that nothing is lost (CI: 2).
	@$(BIN)/python -m tests.chaos $(CHAOS_OPTIONS)

chaos-ha: .venv/.ready-dev ## Kill, freeze and cut off one of three coordinators 50 times, and Redis; freeze an owner for 60 s (CHAOS_OPTIONS=--members: all may own runs; CI: so, in short).
	@$(BIN)/python -m tests.chaos --coordinators 3 --round 180 --every 11 $(CHAOS_OPTIONS)
	@PENSTOCK_FROZEN_SECONDS=$${PENSTOCK_FROZEN_SECONDS:-60} $(BIN)/python -m pytest -q --timeout 1200 -k frozen tests/e2e/ownership

env: ## Write .env, which has the passwords and keys of docker-compose.yml, if there is none.
	@scripts/write_env.sh

up: env ## Build the images and start everything in containers (docs/deployment.md).
	@# One service of each image: two that export one tag at once make a first build fail.
	@$(COMPOSE) build migrate agent-1
	@$(COMPOSE) up --detach
	@echo "Coordinators: 127.0.0.1:7400 and :7401. make seed runs the examples, make down ends it; the data stays."

down: ## End what make up has started; the data stays in its volumes.
	@$(COMPOSE) down

migrate: env ## Bring the schema of the database in containers up to date.
	@$(COMPOSE) run --rm migrate

seed: env ## Apply the example pipelines in the containers and run each once.
	@$(COMPOSE) run --rm seed

clean: ## Remove the virtual environment, caches and the data of the demo.
	rm -rf .venv .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .penstock-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
