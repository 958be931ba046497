# stethos: every job in one word. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS_ARG = $(if $(SECONDS_GIVEN),--for $(SECONDS_GIVEN),)
# bash sets SECONDS itself; only a value given on make's command line or in its environment counts
SECONDS_GIVEN := $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),)
# an environment fits if it was made here (not copied, not moved) and to its end, and if its Python still starts
FITS := $(shell [ -e $(VENV)/.demo ] && grep -qsF " $$(pwd -P)/$(VENV)" $(VENV)/pyvenv.cfg && $(BIN)/python -Ic 'import pip' 2>/dev/null && echo yes)
# a home that cannot be written, such as a service user's, holds no cache
HOME_HOLDS := $(shell d=$${XDG_CACHE_HOME:-$${HOME:-}/.cache}/uv; until [ -e "$$d" ]; do d=$$(dirname "$$d"); done; [ -d "$$d" ] && [ -w "$$d" ] && echo yes)
ifeq ($(HOME_HOLDS),)
export XDG_CACHE_HOME := $(CURDIR)/.cache
endif
# modules of other programs stand in nobody's way
unexport PYTHONPATH

.PHONY: help demo demo-kafka test test-full bench kafka check lint types clean install install-test servers lock docs anew

help: ## list these jobs
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

demo: install ## install, then play real recordings through the pipeline until Ctrl-C; SECONDS=60 ends by itself
	@$(BIN)/stethos demo $(SECONDS_ARG)

test: install-test servers ## all tests but the slow ones; installs what they need
	@$(BIN)/python scripts/test.py $(PYTEST_ARGS)

test-full: install-test servers ## all tests, slow ones too; goes on where it stopped
	@$(BIN)/python scripts/test_full.py $(PYTEST_ARGS)

bench: install-test ## measure speed and memory, each beside its peer or limit
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

kafka: servers ## a local Kafka broker on 127.0.0.1 until Ctrl-C, for trying the Kafka engine
	@$(BIN)/python -m tests.servers.try_kafka

demo-kafka: servers ## the demonstration on real Kafka: two workers, one is killed; SECONDS=60 ends by itself
	@$(BIN)/python -m tests.servers.try_kafka $(BIN)/python -m pipeline.demo.kafka_demo --kafka BOOTSTRAP $(SECONDS_ARG)

check: install-test ## lint, types, licences, size
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python scripts/licences.py --check

install: $(VENV)/.demo ## what `make demo` needs

install-test: $(VENV)/.test ## what `make test` needs

servers: install-test ## real Kafka, InfluxDB, Prometheus, browser and sound device for the tests
	@scripts/install-servers

$(BIN)/uv: $(if $(FITS),,anew)
	@[ ! -e $(VENV) ] || echo "$(VENV) is of another folder, of a Python that is gone, or incomplete: making it anew; other extras are to be installed again"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stethos needs Python 3.11 or later; name one with make PYTHON=...")'
	@[ ! -e $(VENV) ] || [ -e $(VENV)/.demo ] || [ -e $(BIN)/uv ] || { rm -rf $(VENV).before; mv $(VENV) $(VENV).before; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { echo "python venv is missing: install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --require-hashes -r locks/uv.lock
	@touch $@

$(VENV)/.demo: locks/demo.lock pyproject.toml $(BIN)/uv
	@echo "installing stethos into $(VENV) …"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r locks/demo.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: locks/test.lock $(VENV)/.demo
	@scripts/install-servers packages
	@echo "installing what the tests need …"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r locks/test.lock
	@touch $@

lock: | $(BIN)/uv ## make the lock files anew: versions and hashes, no addresses
	@echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -o locks/uv.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group build --extra dev --extra kafka --extra influxdb --extra microphone --extra models --extra mqtt --extra signature --extra simulate --extra train -o locks/test.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --group build --extra models --constraints locks/test.lock -o locks/demo.lock

docs: install-test ## write the generated parts of README and ARCHITECTURE, and the schemas, anew
	@$(BIN)/python scripts/generate_docs.py
	@$(BIN)/python -c "from pipeline.schemas import write_all; write_all()"

clean: ## remove the environment and everything that was written here
	rm -rf $(VENV) var build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
