# All commands there are. Each installs what it needs: a virtual environment in .venv, and Debian packages when missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# So that a test that starts a server finds the same one as the shell.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo serve test check bench faults debian-packages

demo: $(INSTALLED)
	$(BIN)/callhouse demo

serve: $(INSTALLED)
	$(BIN)/callhouse serve

test: $(INSTALLED) debian-packages
	$(BIN)/pytest --numprocesses logical --dist loadfile --no-loadscope-reorder
	$(BIN)/pytest --numprocesses logical --dist loadfile --no-loadscope-reorder --store postgresql

check: $(INSTALLED)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(INSTALLED) debian-packages
	$(BIN)/python benchmarks/fuse_reads.py
	$(BIN)/python benchmarks/dev_reads.py
	$(BIN)/python benchmarks/plivo_reads.py
	$(BIN)/python benchmarks/filter_reads.py
	$(BIN)/python benchmarks/busy_reads.py
	$(BIN)/python benchmarks/console_pages.py
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/sources.py
	$(BIN)/python benchmarks/mirror.py
	$(BIN)/python benchmarks/alternatives.py

faults: $(INSTALLED) debian-packages
	$(BIN)/python tests/faults/kill_rounds.py --rounds 100
	$(BIN)/python tests/faults/kill_rounds.py --rounds 100 --store postgresql
	MALLOC_ARENA_MAX=2 $(BIN)/python tests/faults/soak.py --minutes 10

$(INSTALLED): pyproject.toml
	$(PYTHON) scripts/install.py $(VENV)
	touch $@

debian-packages:
	sh scripts/debian-packages.sh php:php-cli curl:curl chromium:chromium php-curl:php-curl php-xml:php-xml node:nodejs npm:npm \
		kamailio:kamailio sipp:sip-tester sqlite3:sqlite3 postgres:postgresql kamailio-acc_json:kamailio-extra-modules \
		kamailio-http_client:kamailio-utils-modules kamailio-db_sqlite:kamailio-sqlite-modules faketime:faketime
