# Two commands do everything on a fresh machine with git, make and Python 3.11 or newer:
#   make demo    the console on sample runs, with an embedded Postgres
#   make test    everything that is tested, browser included

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo demo-reset test lint browser faults repeats bench shots messages axe lock clean

demo: .venv/installed
	@$(BIN)/python manage.py demo

demo-reset: .venv/installed
	@$(BIN)/python manage.py demo --reset

test: lint browser
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	SECRET_KEY=check $(BIN)/python manage.py check
	SECRET_KEY=check $(BIN)/python manage.py makemigrations --check --dry-run

# Real processes, killed, frozen, cut off and raced, with an oracle and one table at the end: see
# docs/faults.md. 40 to 55 minutes on two cores; FAULTS="--short" or "--only capture --seed 7".
faults: .venv/installed
	$(BIN)/python -m tests.faults $(FAULTS)

# Tests of `make test` at length: 100 repetitions of every job, POST and stale form, 100 random
# graphs, each shape of pause at each durability; 30 times one person on a bad network. About a
# quarter of an hour.
repeats: .venv/installed browser
	COUNTERSIGN_REPEATS=100 COUNTERSIGN_EXAMPLES=100 $(BIN)/python -m pytest --timeout 1800 tests/test_never_unseen.py tests/test_random_graphs.py tests/test_every_pause.py tests/contract
	COUNTERSIGN_SEEDS=30 $(BIN)/python -m pytest --numprocesses 4 tests/test_bad_network.py

# What pages and capture cost, as ratios to an empty page of the same server.
bench: .venv/installed
	$(BIN)/python -m pytest -s --timeout 900 tests/bench_pages.py tests/bench_flow.py tests/bench_live.py tests/bench_next.py

# The README's pictures, of a demo that runs: PORT=… make shots
shots: .venv/installed browser
	$(BIN)/python -m docs.screenshots --only edited question-edited

# The catalogues of translations, brought up to date with the sources; what is new is to be written.
messages: .venv/installed
	$(BIN)/python -m tests.messages

# Every page and state by every rule of axe: both languages, both themes. About three minutes.
axe: .venv/installed browser
	COUNTERSIGN_AXE=long $(BIN)/python -m pytest --timeout 900 tests/test_accessibility.py

# Playwright's own Chromium where it can be had, else the system's.
browser: .venv/installed
	@$(BIN)/python -m tests.browser

# A reviewer's five minutes by keyboard, of a demo that runs, as a Playwright trace.
recording: .venv/installed browser
	$(BIN)/python -m docs.five_minutes

lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock
	uv pip compile pyproject.toml -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements-run.lock

.venv/installed: requirements.lock
	@$(PYTHON) -c "import sys; sys.exit('Countersign needs Python 3.11 or newer; name one with PYTHON=…' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

clean:
	rm -rf .venv .data staticfiles
