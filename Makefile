# Every target is one line that calls a tool; `make help` lists them.
PYTHON ?= python3
RUN := .venv/bin/python
READY := .venv/ready

.PHONY: help book serve test fast exercises results bench lint lock clean
.DEFAULT_GOAL := help

help:       ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: $(READY)       ## build the site into _build/html: execute the chapters, then render them
	@$(RUN) -m tools.book

serve: book       ## build the site and serve it on http://localhost:8000
	@$(RUN) -m http.server --directory _build/html --bind 127.0.0.1 8000

test: $(READY)       ## run everything that CI runs: style, types, tests, notebooks, book
	@$(RUN) -m tools.test

fast: $(READY)       ## run the quick tests only: the loop while you write code
	@$(RUN) -m pytest -q -m "not slow"

exercises: $(READY)       ## execute solutions/ and make the students' version in exercises/ from it
	@$(RUN) -m tools.exercises

results: $(READY)       ## measure on five seeds what changed, and store it for the book's tables
	@$(RUN) -m tools.results

bench: $(READY)       ## measure the fused kernels on this machine
	@.venv/bin/lnorm bench

lint: $(READY)       ## format the code and check style and types
	@$(RUN) -m ruff format . && $(RUN) -m ruff check --fix . && $(RUN) -m mypy

lock: $(READY)       ## pin again what pyproject.toml asks for, into requirements.txt
	@$(RUN) -m tools.lock

clean:       ## remove what the build made; the environment stays
	@rm -rf _build results .pytest_cache .mypy_cache .ruff_cache

$(READY): requirements.txt pyproject.toml tools/setup.py
	@$(PYTHON) tools/setup.py
