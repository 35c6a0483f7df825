# `make help` lists what there is. Needs make, a POSIX shell and Python 3.11 or newer, nothing else.

VENV ?= .venv
PORT ?= 3001
PYTHON ?=
ARGS ?=

bin := $(VENV)/bin
pip := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0 $(bin)/python -m pip install -qq
compile := $(bin)/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
lock := $(compile) --extra local pyproject.toml requirements/run.in

# An environment is up to date when it was installed from these very contents, whatever the files' dates say.
key = $(shell cat pyproject.toml requirements/$(1).txt | cksum | tr ' ' '-')
run_stamp := $(VENV)/.run-$(call key,run)
test_stamp := $(VENV)/.test-$(call key,test)
docs_stamp := $(VENV)/.docs-$(call key,docs)
# The clients of Noa's that are tested and run in Node.
clients := tests/integration/clients/node
clients_stamp := $(clients)/node_modules/.installed-$(shell cat $(clients)/package*.json | cksum | tr ' ' '-')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check nightly format docs lock clean bench bench-compare bench-swap node-clients

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
	@echo 'PORT=… is where `make run` serves, PYTHON=… is what the environment is made with, VENV=… is where it stands,'
	@echo 'ARGS=… goes to pytest in `make test`, and to the benchmarks.'

run: $(run_stamp) ## serve the demo model on http://localhost:3001, in the foreground
	@exec $(bin)/noa demo --port $(PORT)

test: check node-clients ## everything CI runs: format, lint, types, import contracts, all tests
	$(bin)/pytest -n 2 --dist loadfile $(ARGS)

check: $(test_stamp) ## everything but the tests: seconds, no network once installed
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/pytest -q tests/style

nightly: $(test_stamp) ## what takes too long for every change: storms, kills, soaks, random schedules, broken headers, junk
	$(bin)/pytest -m nightly $(ARGS)
	$(bin)/pytest tests/simulation
	PYTHONPATH=tests $(bin)/python -m simulation --seeds 20000
	$(bin)/python tests/simulation/gguf_mutations.py --count 100000
	$(bin)/python tests/fuzz/fuzz_dialects.py --seconds 60

format: $(test_stamp) ## put the code into shape
	$(bin)/ruff format .
	$(bin)/ruff check --fix .

docs: $(docs_stamp) ## write the reference anew and build the documentation as a site, in .cache/site
	$(bin)/python -m scripts.reference
	@rm -rf .cache/docs && mkdir -p .cache/docs/bench && cp bench/README.md .cache/docs/bench
	@cp -R README.md CHANGELOG.md CONTRIBUTING.md LICENSE docs examples deploy .cache/docs
	@$(bin)/python -m scripts.llms_txt > .cache/docs/llms.txt
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict

lock: $(test_stamp) ## pin the newest allowed versions, with hashes, in requirements/
	$(lock) --upgrade -o requirements/run.txt
	$(lock) --upgrade requirements/test.in --constraint requirements/run.txt -o requirements/test.txt
	$(compile) --upgrade requirements/docs.in --constraint requirements/test.txt -o requirements/docs.txt

bench: $(run_stamp) ## Noa beside LiteLLM, Portkey and nginx, which it installs under .cache; takes about half an hour
	$(bin)/python -m bench.gateways $(ARGS)

bench-compare: $(run_stamp) ## whether this build costs more than another: BASE=… is a git ref
	$(bin)/python -m bench.compare $(or $(BASE),HEAD) $(ARGS)

bench-swap: $(run_stamp) ## what Noa adds to a model's start and to a switch, against the bare engine
	$(bin)/python -m bench.swap $(ARGS)

# Without Node the rest is tested all the same; pytest lists what was skipped, and why.
node-clients: ## what the tests of clients in Node need, once; says so if it cannot be had
	@test -e $(clients_stamp) || { \
		echo 'Installing the clients in Node that the tests use.' >&2; \
		{ command -v npm >/dev/null && (cd $(clients) && npm ci --ignore-scripts --loglevel=error >&2) && touch $(clients_stamp); } || { \
			rm -rf $(clients)/node_modules; \
			echo 'They need Node 20 or newer and npm, and a registry of npm; their tests are skipped.' >&2; \
		}; \
	}

clean: ## remove the environment and every cache
	rm -rf $(clients)/node_modules
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

# A checkout that was moved or copied along with its environment gets a new one: the old one's scripts and its editable
# install go on pointing to the old place. So does one whose interpreter is gone, as after an upgrade of the system's.
place := $(shell test -x $(bin)/python && { cat $(VENV)/.place 2>/dev/null || echo '$(CURDIR)'; })
ifneq ($(place),$(CURDIR))
.PHONY: $(bin)/python
endif

# What failed half-way is removed, since the next run would take it for whole.
$(bin)/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Making $(VENV) with $$($$python --version)." >&2; \
			"$$python" -m venv --clear $(VENV) && echo '$(CURDIR)' > $(VENV)/.place && exit 0; \
			rm -rf $(VENV); \
			echo 'The environment could not be made. On Debian and Ubuntu: apt install python3-venv.' >&2; \
			exit 1; \
		fi; \
	done; \
	echo 'Noa needs Python 3.11 or newer, which $(or $(PYTHON),python3) is not. Install one, or name one: make run PYTHON=….' >&2; \
	exit 1

$(run_stamp): $(bin)/python
	@echo 'Installing Noa and its local engine (about 50 MB, once).' >&2
	@$(pip) --only-binary :all: --require-hashes -r requirements/run.txt
	@$(pip) --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.run-* && touch $@

$(test_stamp): $(run_stamp)
	@echo 'Installing what the tests need.' >&2
	@$(pip) --only-binary :all: --require-hashes -r requirements/test.txt
	@rm -f $(VENV)/.test-* && touch $@

$(docs_stamp): $(run_stamp)
	@echo 'Installing what builds the documentation.' >&2
	@$(pip) --only-binary :all: --require-hashes -r requirements/docs.txt
	@rm -f $(VENV)/.docs-* && touch $@
