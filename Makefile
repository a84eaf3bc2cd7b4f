# One line per goal; `make` alone prints them. Everything installed is in .venv/ and .stack/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=
# Tests wait for servers half of their time, so that two cores are busy with three. What is picked by ARGS runs in one.
TESTS = run -m "not alone" --numprocesses 3 --dist loadfile --no-loadscope-reorder || failed=1; run -m alone || failed=1

.PHONY: help run demo test simulate mutants chaos chaos-kafka check bench benches clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

run: .venv/run ## install, then run the service with the lab and sample alerts; Ctrl-C stops it
	@.venv/bin/soar run --lab --init --config .soar/soar.yaml $(ARGS)

demo: .venv/run ## install, then show the whole path once, in under a minute
	@.venv/bin/soar demo $(ARGS)

test: .venv/dev ## install, start real Kafka, OPA and PostgreSQL, run every test, stop them; ARGS="-k word" picks
	@trap 'scripts/stack down' EXIT; run() { .venv/bin/pytest "$$@"; }; failed=0; \
	$(if $(ARGS),run $(ARGS),$(TESTS); exit $$failed)

simulate: .venv/dev ## run seeds of the simulation; ARGS="42" prints what happens in one, ARGS="--seeds 1000-20000" tries many
	@.venv/bin/python -m tests.simulation $(ARGS)

mutants: .venv/dev ## plant each known bug in a copy and see that the tests find it; ARGS="approval" picks
	@trap 'scripts/stack down' EXIT; .venv/bin/python scripts/mutants $(ARGS)

chaos: .venv/dev ## die at every write, kill, stop, fill and jump, then count; ARGS="kills-sqlite --seed 7" picks and repeats
	@trap 'scripts/stack down' EXIT; $(if $(ARGS),,SOAR_CHAOS=1 .venv/bin/pytest tests/crash -s &&) .venv/bin/python -m tests.chaos $(ARGS)

chaos-kafka: .venv/dev ## the same to a stream of 100,000s of records from Kafka; ARGS="workers --part 0.1" picks and scales
	@trap 'scripts/stack down' EXIT; .venv/bin/python -m tests.chaos --kafka $(ARGS)

check: .venv/dev ## formatting, lint, types, layers, shape
	@scripts/check

bench: .venv/run ## one table: alerts a second beside a hand-written ceiling and ansible-rulebook, in ten minutes
	@scripts/stack up kafka postgres; trap 'scripts/stack down kafka postgres' EXIT; \
	export $$(scripts/stack env kafka postgres); \
	.venv/bin/python benchmarks/throughput.py --kafka "$$SOAR_STACK_KAFKA" --postgres "$$SOAR_STACK_POSTGRES" $(ARGS)

benches: .venv/run ## the other quick benchmarks, in some minutes; docs/performance.md tells of all of them
	@scripts/stack get opa; scripts/stack up postgres; trap 'scripts/stack down postgres' EXIT; \
	dsn="$$(scripts/stack env postgres | cut -d= -f2-)"; run() { .venv/bin/python "benchmarks/$$@"; }; \
	run matching.py; run journal.py --entries 100000; \
	run durable.py --postgres "$$dsn" --workers 1 --runs 500 --rounds 2; \
	run waiting.py --postgres "$$dsn" --runs 10000; \
	run policy.py --opa "$$(scripts/stack env opa | sed -n 's/^SOAR_STACK_OPA_BINARY=//p')"

clean: ## stop the servers and delete all that was installed, downloaded or written here
	@! test -d .stack || scripts/stack wipe
	@rm -rf .venv .stack .soar build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# The two stamps: what is installed is newer than what asks for it.
.venv/run: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing soar into .venv"
	@$(PIP) --editable .
	@touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing soar and its development tools into .venv"
	@$(PIP) --editable '.[dev]'
	@touch .venv/run $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "soar needs Python 3.11 or later: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv
