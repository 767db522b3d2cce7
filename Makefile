# make demo      the whole story on this machine, in a minute; ARGS=--keep to play with it afterwards
# make test      the whole check: ruff, import-linter, mypy, pytest; makes .venv first
# make quick     what starts no process and needs no PostgreSQL, in a minute; ARGS="-k reply -n 0" are for pytest
# make faults    the real daemon under load, kills, locks and cuts, and whether what it promises held;
#                ARGS="--seconds 600 --seed 7 --database postgres --nodes 2", and --help for the rest
# make matrix    the long tests: all of tests/faults, of which it writes the table tests/faults/README.md, what is marked
#                long elsewhere, and every property with all its examples; PANICMAIL_FUZZ=50 is fifty times as many
# make bench     how fast it is beside its rivals, and writes the table of tests/bench/README.md; takes 25 minutes,
#                ARGS=--quick four; `python -m tests.bench --help` names the measurements
# make wheel     the wheel into dist/, from a bare clone and hashed parts: two builds are equal octet by octet
# make sdist     the source archive into dist/, as equal
# make dist      both, with dist/SHA256SUMS
# make man       writes deploy/man/panicmail.1 anew from the commands' help
# make goldens  write everything panicmail says into tests/goldens, to be read
# make lint      ruff, and which room imports which
# make types     mypy alone
# make lock      write requirements/*.txt anew from pyproject.toml
# make clean     remove what the others made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNNABLE := $(VENV)/.runnable
BUILDER := .build-venv
BUILD := $(BUILDER)/bin/python -m hatchling build -d dist
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
ENOUGH := $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("panicmail needs Python 3.11 or newer: make PYTHON=python3.11")'
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
           --no-annotate --no-header pyproject.toml \
           --extra postgres --extra encryption --extra attachments

.PHONY: demo test quick faults matrix bench wheel sdist dist man goldens lint types lock clean

demo: $(RUNNABLE)
	@$(BIN)/python -m panicmail demo $(ARGS)

test: lint types
	$(BIN)/python -m pytest

quick: $(INSTALLED)
	$(BIN)/python -m pytest tests/unit tests/stories tests/contract -m "not postgres and not browser" $(ARGS)

faults: $(INSTALLED)
	@$(BIN)/python -m tests.checker $(ARGS)

matrix: $(INSTALLED)
	$(BIN)/python -m tests.faults.table

bench: $(INSTALLED)
	@$(BIN)/python -m tests.bench --write $(ARGS)

wheel: $(BUILDER)/.ready
	@$(BUILD) -t wheel

sdist: $(BUILDER)/.ready
	@$(BUILD) -t sdist

dist: wheel sdist
	cd dist && sha256sum *.whl *.tar.gz > SHA256SUMS

man: $(INSTALLED)
	$(BIN)/python -m tests.manual

goldens: $(INSTALLED)
	$(BIN)/python -m tests.goldens_of

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo

types: $(INSTALLED)
	$(BIN)/mypy

lock: $(INSTALLED)
	$(PIP) install uv
	$(COMPILE) --output-file requirements/run.txt
	$(COMPILE) --group dev --output-file requirements/test.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --group build --output-file requirements/build.txt

clean:
	rm -rf $(VENV) $(BUILDER) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements/test.txt pyproject.toml
	@$(ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements/test.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@ $(RUNNABLE)

# What panicmail runs on, without what tests it: the demo needs no more, and this takes seconds.
$(RUNNABLE): requirements/run.txt
	@$(ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements/run.txt
	touch $@

# What a wheel and a source archive are built with, and nothing else.
$(BUILDER)/.ready: requirements/build.txt
	@$(ENOUGH)
	@$(PYTHON) -m venv $(BUILDER)
	@$(BUILDER)/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes --requirement requirements/build.txt
	@touch $@
