# The door to everything. `make` alone lists the targets. Needs GNU make and a POSIX shell.
.DEFAULT_GOAL := help
.PHONY: help up down reset logs status followers scale observe simulator dev smoke test explore bench campaign check format lint types imports unit browser promtool venv
.SILENT:
SHELL := /bin/sh

PYTHON ?= python3
PY := .venv/bin/python
# Settings given like `make up SIMULATOR=off WEBHOOK_PORT=8080` reach the programs: make exports them.

help: ## this list
	awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	echo

##@ Run the hub (needs Python 3.11 and make; downloads the rest at the first start)
up: venv ## start everything, or bring a running hub up to date; returns when it is ready
	$(PY) -m stack up

smoke: ## send one question through the running hub and print the answer (needs: make up)
	$(NEEDS_VENV)
	./hub ask "làm căn cước cần giấy tờ gì vậy" --page tan-chanh-hiep

followers: ## let invented people follow the demonstration's pages, for broadcasts: make followers N=60 (needs: make up)
	$(NEEDS_VENV)
	$(PY) -m stack followers $(N)

status: ## addresses, health, lag, dead letters (needs: make up)
	$(NEEDS_VENV)
	./hub status

logs: ## follow all logs, or one: make logs S=router (needs: make up)
	$(NEEDS_VENV)
	$(PY) -m stack logs $(S)

scale: venv ## run more instances of a service: make scale notifier=2
	$(PY) -m stack scale $(strip $(foreach s,intake router notifier console,$(if $(filter command line,$(origin $(s))),$(s)=$($(s)))))

observe: ## Prometheus with the alert rules over the running hub (needs: make up, and Prometheus); PORT= chooses its port
	$(NEEDS_VENV)
	$(PY) -m stack observe $(if $(PORT),--port $(PORT))

down: ## stop everything in order; data is kept
	$(NEEDS_VENV)
	$(PY) -m stack down

reset: ## stop everything and delete all data of this hub; asks first, FORCE=1 does not
	$(NEEDS_VENV)
	$(PY) -m stack reset $(if $(FORCE),--force)

simulator: venv ## the Zalo simulator alone on port 9000 (PORT=), folder .simulator: phone page, Zalo's API, control API
	test -f .simulator/zalo.yaml || $(PY) -m simulator --example-config .simulator/zalo.yaml
	$(PY) -m simulator --config .simulator/zalo.yaml --state-dir .simulator --port $(or $(PORT),9000)

##@ Work on the code (needs the same)
dev: venv ## servers in the background, services and simulator in this one process; reloads on change. For a debugger: make dev RELOAD=off
	$(PY) -m stack dev $(if $(filter off no 0,$(RELOAD)),--no-reload)

check: format lint types imports unit ## the whole gate before a commit: format, lint, strict types, import rules, unit tests

format: venv ## ruff format --check (repair: .venv/bin/ruff format)
	.venv/bin/ruff format --check --quiet . || { echo "✗ Not formatted: the files above. Repair: .venv/bin/ruff format" >&2; .venv/bin/ruff format --check . >&2; exit 1; }

lint: venv ## ruff check (repair: .venv/bin/ruff check --fix)
	.venv/bin/ruff check .

types: venv ## mypy --strict over everything
	$(PY) -m mypy

imports: venv ## import rules between services, shared, simulator, stack and cli
	.venv/bin/lint-imports

unit: venv ## unit tests; no server needed
	$(PY) -m pytest -q -n logical --dist loadfile tests/unit

test: venv browser promtool ## every test, on real servers. A part: make test T=tests/e2e. In WORKERS= (2) processes, 0: in this one
	$(PY) -m pytest -n $(or $(WORKERS),2) --dist loadfile --no-loadscope-reorder $(or $(T),tests)

explore: venv ## property and state-machine tests with random examples, TIMES= (20) as many as in a build. A part: T=tests/unit/notifier
	EXPLORE=$(or $(TIMES),20) $(PY) -m pytest -m hypothesis --timeout 0 $(or $(T),tests/unit)

bench: venv ## intake, router, notifier and understanding beside bare programs on the same servers; one of them: make bench T=router. Also T=growth, T=broadcasts, T=rate
	$(PY) -m tests.bench $(T)

campaign: venv ## a broadcast to 59,881 followers while replicas, brokers and the database are killed; smaller: make campaign T="--followers 5000"
	$(PY) -m tests.campaigns.broadcast $(T)

browser: ## install Chromium for the browser tests when there is none (as root, with apt-get)
	sh stack/browser.sh

promtool: ## fetch promtool for the tests of the alert rules when there is none (Debian: from its package)
	sh stack/prometheus.sh >/dev/null || true

venv: ## make .venv from the locks; does nothing when they are unchanged
	command -v $(PYTHON) >/dev/null 2>&1 || { echo "✗ There is no $(PYTHON) on the PATH. The hub needs Python 3.11 or newer: install it, or name it: make up PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) stack/bootstrap.py

NEEDS_VENV = test -x $(PY) || { echo "✗ The hub has not been started in this folder yet. Start it: make up" >&2; exit 1; }
