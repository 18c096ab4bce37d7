# `make` alone checks and tests. Every target sets up what it needs first; nothing but Python 3.11+, make and a network.
.DEFAULT_GOAL := all
PYTHON ?= python3
UV := $(shell command -v uv || echo .venv/bin/uv)
export UV_PROJECT_ENVIRONMENT := .venv

# Clients that .venv cannot hold, and node with its npm for those in JavaScript.
CLIENTS := agents litellm llama_index llm llm_comply openapi schemathesis validators node
# Servers of others, which `BENCH_PEERS=1 make bench` measures too.
PEERS := langgraph_openai_serve litellm_proxy
NOT_AFTER = $(shell sed -n 's/^exclude-newer = "\(.*\)"/\1/p' pyproject.toml)
NPM := PATH="$(CURDIR)/.venv-clients/node/bin:$$PATH" npm --prefix tests/clients

.PHONY: all setup dev lock lock-node clients serve demo chat mcp studio notebooks check format test nightly eval bench bench-replicas bench-sessions soak audit

all: check test

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@command -v $(UV) >/dev/null || { $(PYTHON) -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check uv; }
	@test -x .venv/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip install --python .venv/bin/python --require-hashes --constraints requirements.lock \
	  --requirements pyproject.toml --extra demo --extra otel --extra postgres
	$(UV) pip install --python .venv/bin/python --no-deps --editable .
	@touch $@

# What tests, notebooks and Studio need beside that.
dev: .venv/.dev

.venv/.dev: .venv/.ready
	$(UV) pip sync --python .venv/bin/python --require-hashes requirements.lock
	$(UV) pip install --python .venv/bin/python --no-deps --editable .
	@touch $@

lock:
	$(UV) export --quiet --all-extras --all-groups --no-emit-project --no-header --no-annotate -o requirements.lock
	for name in $(CLIENTS) $(PEERS); do $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate tests/clients/requirements-$$name.in -o tests/clients/requirements-$$name.lock || exit; done

lock-node: .venv-clients/node/.ready
	$(NPM) update --package-lock-only --before=$(NOT_AFTER)

clients: $(CLIENTS:%=.venv-clients/%/.ready) tests/clients/node_modules/.ready

.venv-clients/%/.ready: tests/clients/requirements-%.lock | dev
	@test -x $(@D)/bin/python || $(UV) venv --quiet --python $(PYTHON) $(@D)
	$(UV) pip sync --quiet --python $(@D)/bin/python --require-hashes $<
	@touch $@

tests/clients/node_modules/.ready: tests/clients/package.json tests/clients/package-lock.json .venv-clients/node/.ready
	$(NPM) ci
	@touch $@

serve demo chat mcp: setup
	.venv/bin/chat-agent $@ $(ARGS)

# It would ask for newer versions of itself and report each start to its makers.
studio: export LANGGRAPH_NO_VERSION_CHECK := 1
studio: export LANGGRAPH_CLI_NO_ANALYTICS := 1
studio: dev
	.venv/bin/langgraph dev $(ARGS)

notebooks: dev
	.venv/bin/jupyter-lab notebooks $(ARGS)

check: dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m tests.support.house

format: dev
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

test: dev
	.venv/bin/pytest --numprocesses=auto --dist=loadgroup $(ARGS)

nightly: dev
	.venv/bin/pytest --numprocesses=auto --dist=loadgroup -m nightly $(ARGS)

eval: dev
	.venv/bin/python -m benchmarks.tool_choice

bench-sessions: dev
	.venv/bin/python -m benchmarks.many_sessions $(ARGS)

bench-replicas: dev
	.venv/bin/python -m benchmarks.replicas $(ARGS)

soak: dev
	.venv/bin/python -m benchmarks.soak $(ARGS)

# Known vulnerabilities of what the lock has, by the index's own list of them.
audit: dev
	$(UV) tool run pip-audit@2.10.1 --strict --requirement requirements.lock --no-deps --disable-pip $(ARGS)

bench: dev $(if $(BENCH_PEERS),$(PEERS:%=.venv-clients/%/.ready))
	.venv/bin/python -m benchmarks.speed $(ARGS)
	.venv/bin/python -m benchmarks.session_cost
