# Tapeflow's whole workflow. Needs make and Python 3.11, 3.12 or 3.13; the rest comes by itself.
.DEFAULT_GOAL := help
.PHONY: help setup demo airflow test check clean

PYTHON ?= python3
UV_VERSION := 0.13.8
UV := .tools/bin/uv
READY := .venv/.ready-$(UV_VERSION)
export UV_PYTHON_DOWNLOADS := never

help:
	@echo "make setup                the environment, with .venv/bin/tapeflow; the others do it too"
	@echo "make demo [DATA=/folder]  lose thousands of files, get them back from virtual tapes"
	@echo "make airflow              open Airflow on what the last demo did"
	@echo "make test                 all tests"
	@echo "make check                formatting, lint, types, import rules"
	@echo "make clean                remove the environment and everything that was generated"

setup: $(READY)

$(UV):
	@scripts/install-uv "$(PYTHON)" "$(UV_VERSION)"

$(READY): uv.lock pyproject.toml | $(UV)
	@$(UV) sync --frozen --extra airflow --compile-bytecode --python "$(PYTHON)"
	@touch $@

demo: $(READY)
	@.venv/bin/python -m demo $(if $(DATA),--data "$(DATA)")

airflow: $(READY)
	@.venv/bin/python -m demo.airflow_local

test: $(READY)
	.venv/bin/pytest -n 2 --dist loadfile $(TESTS)

check: $(READY)
	$(UV) lock --check
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

clean:
	rm -rf .venv .tools var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
