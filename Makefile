# Every target makes its own set-up: a virtual environment with pinned versions.
PYTHON ?= python3
VENV := .venv
# The demonstration and the tests start hundreds of processes: what one has compiled serves the others.
export PYTHONDONTWRITEBYTECODE :=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test crash-long large-long soak ct sanitize fuzz fuzz-long mutants lint bench bench-peers bench-kernel tour protos docs clean

KERNEL := $(wildcard connector_psi/oprf/kernel/*.[ch])

$(STAMP): pyproject.toml constraints.txt $(KERNEL)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/connector-psi demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile -rs

# The long form of the crash tests: every event of the story, and 1,000 kills of processes.
crash-long: $(STAMP)
	$(BIN)/python -m pytest -m slow -s tests/simulation/test_crash_points.py tests/simulation/test_operations_model.py tests/simulation/test_case_walk.py tests/integration/test_kill.py

# A declaration of 2 GB in bounded memory.
large-long: $(STAMP)
	$(BIN)/python -m pytest -m slow -s tests/integration/test_large_ens.py

# Nodes at work for an hour, with random kills and broken links; then the long forms of all tests of faults, which take some hours. The first
# part goes on where it was stopped; `rm -rf .venv/soak` begins anew.
SOAK_MINUTES ?= 60
SOAK_DIR ?= $(VENV)/soak
SOAK_SEED ?= 1
SOAK_RATE ?= 4

soak: $(STAMP)
	$(BIN)/python -m tests.faults.soak --minutes $(SOAK_MINUTES) --dir $(SOAK_DIR) --seed $(SOAK_SEED) --rate $(SOAK_RATE)
	$(BIN)/python -m pytest -m slow -s tests/faults tests/simulation/test_histories.py tests/simulation/test_inbox.py tests/simulation/test_idempotency.py
	$(MAKE) --no-print-directory crash-long large-long

# The PRF kernel below Python: constant time (machine code, valgrind, running times; some 15 minutes), and sanitizers.
CT_SAMPLES ?= 1000000

ct: $(STAMP)
	$(BIN)/python -m tests.kernel ct --samples $(CT_SAMPLES)

sanitize: $(STAMP)
	$(BIN)/python -m tests.kernel sanitize

# Random and mutated bytes into every decoder: seconds for each of them, and the names of some (default: all).
FUZZ_SECONDS ?= 60
FUZZ_ONLY ?=
FUZZ_STAMP := $(VENV)/.fuzz-installed

$(FUZZ_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	touch $(FUZZ_STAMP)

fuzz: $(FUZZ_STAMP)
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_ONLY)

fuzz-long: FUZZ_SECONDS = 600
fuzz-long: fuzz

# Small changes to the modules that decide about disclosures: tests must notice at least 90 % of them. Goes on where it was
# stopped; `rm -rf mutants` begins anew.
MUTANTS_STAMP := $(VENV)/.mutants-installed

$(MUTANTS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	touch $(MUTANTS_STAMP)

mutants: $(MUTANTS_STAMP)
	$(BIN)/mutmut run
	$(BIN)/python -m tests.mutants

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory protos
	git diff --exit-code -- connector_psi/rpc/v1

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py

# P1 beside libsodium, OpenMined PSI and SPU, each peer in an environment of its own (about 1 GB). A peer that cannot be
# installed is reported, the others are measured, and the target fails with 3. After `make bench`, which writes P1 first.
bench-peers: $(STAMP)
	$(BIN)/python benchmarks/peers.py

# Cycles of each step of the kernel: the table of docs/kernel.md.
bench-kernel: $(STAMP)
	$(BIN)/python benchmarks/kernel/run.py

# The screenshots of docs/console.md, in Chromium on two served nodes.
tour: $(STAMP)
	$(BIN)/python -m tests.console.tour

PROTOS := $(wildcard protos/connector_psi/rpc/v1/*.proto)

protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --grpc_python_out=. \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
		--mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info
