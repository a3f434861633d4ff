# Everything that this project does by one command each; `make help` lists them.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
WHEEL_VENV := .wheel-venv
PIP_INSTALL := -m pip --quiet --disable-pip-version-check install
WHERE_PACKAGES_ARE := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

# Programs that the tests drive, each with the Debian package that has it.
ENGINES := promtool=prometheus prometheus=prometheus amtool=prometheus-alertmanager systemd-analyze=systemd \
	prometheus-alertmanager=prometheus-alertmanager redis-server=redis-server chromium=chromium
# The collector `rotel` needs Python's shared library: Debian has it in a package of its own, other builds beside them.
LIBPYTHON := import ctypes, os, sysconfig; file = "libpython" + sysconfig.get_python_version() + ".so.1.0"; \
	os.path.exists(os.path.join(sysconfig.get_config_var("LIBDIR"), file)) or ctypes.CDLL(file)
# The official Genesys SDKs, which place calls through the gateway: only where CI=true, for they are large.
SDKS := $(if $(filter true,$(CI)),.engines/sdk/.done .engines/jssdk/.done)
JAVASCRIPT_SDK := purecloud-platform-client-v2@262.0.0
CHECKS := $(addprefix check-,pyright mypy ruff layers generated image)
# Scripts that make committed files, each with --check.
GENERATORS := $(wildcard docs/build.py dashboards/build.py dashboards/newrelic/build.py)
# How many tests run side by side; they wait half of the time, so four keep two processors busy. The long ones come first.
JOBS ?= 4
# 0: a run against the wheel may leave branches untested.
COVERAGE ?= 1

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

ready: $(VENV)/.dev $(SDKS)  ## install what the tests need

demo: $(VENV)/.demo  ## install what the program needs, and show it on loopback; FOR=60s ends it, ARGS=… adds options
	@$(BIN)/call-initiation-exporter demo $(if $(FOR),--for $(FOR)) $(ARGS)

test: ready engines  ## install what the tests need, and run them; ARGS=… goes to pytest
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(CHECKS)  ## linters, type checkers, layers, generated files, Dockerfile

$(CHECKS): $(VENV)/.dev

check-ruff:
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

check-mypy:
	@$(BIN)/mypy

check-pyright:
	@$(BIN)/pyright --pythonpath $(BIN)/python

check-layers:
	@$(BIN)/lint-imports --no-logo --no-cache

check-generated:
	@for generator in $(GENERATORS); do $(BIN)/python $$generator --check || exit 1; done

check-image:
	@$(BIN)/hadolint Dockerfile

bench: $(VENV)/.dev  ## measure what the README says of speed; ARGS=… goes to benchmarks/run.py
	@$(BIN)/python benchmarks/run.py $(ARGS)

docs: $(VENV)/.dev  ## write the generated documents and dashboards anew
	@for generator in $(GENERATORS); do $(BIN)/python $$generator || exit 1; done

pictures: $(VENV)/.dev engines  ## draw the dashboards with Grafana's own components, from live data (3 minutes)
	@command -v npm >/dev/null || { $(call apt-get-install,nodejs npm); }
	@$(BIN)/python dashboards/render.py $(ARGS)

wheel: $(VENV)/.dev  ## build dist/*.whl
	@rm -rf dist
	@$(BIN)/python -m pip --quiet wheel --no-deps --no-build-isolation --wheel-dir dist .

# The wheel's own environment, and after it the packages of the checkout's: of these, a path shows no editable install.
test-wheel: wheel engines $(SDKS)  ## run the tests against the built wheel, with coverage
	@$(BIN)/python -m venv --clear --without-pip $(WHEEL_VENV)
	@PIP_PYTHON=$(WHEEL_VENV) $(BIN)/python $(PIP_INSTALL) --no-deps dist/*.whl
	@$(BIN)/python $(WHERE_PACKAGES_ARE) >"$$($(WHEEL_VENV)/bin/python $(WHERE_PACKAGES_ARE))/dev.pth"
	@$(WHEEL_VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --cov=call_initiation \
		$(if $(filter 1,$(COVERAGE)),--cov-fail-under=100) $(ARGS)

lock: $(BIN)/uv  ## resolve requirements/*.txt anew from pyproject.toml; UPGRADE=1 takes the newest releases
	@$(LOCK) pyproject.toml --extra service --group dev --output-file requirements/dev.txt
	@$(LOCK) pyproject.toml --extra service --constraint requirements/dev.txt --output-file requirements/runtime.txt
	@$(LOCK) --group sdk --output-file requirements/sdk.txt
	@$(LOCK) --group build --constraint requirements/dev.txt --output-file requirements/build.txt

engines:  ## install the programs that the tests drive (Debian packages), where that is allowed
	@missing=; \
	for engine in $(ENGINES); do command -v $${engine%=*} >/dev/null || missing="$$missing $${engine#*=}"; done; \
	test -z "$$missing" || { $(call apt-get-install,$$missing); } || true
	@package=$$($(PYTHON) -c 'import sysconfig; print("libpython" + sysconfig.get_python_version())'); \
	$(PYTHON) -c '$(LIBPYTHON)' 2>/dev/null || { $(call apt-get-install,$$package); } || true

sdks: .engines/sdk/.done .engines/jssdk/.done  ## install the official Genesys SDKs into .engines/ (240 MB), for the tests that drive them

clean:  ## remove all that make has made
	@rm -rf $(VENV) $(WHEEL_VENV) .engines dist build .coverage .coverage.* .hypothesis .*_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help ready demo test check $(CHECKS) bench docs pictures wheel test-wheel lock engines sdks clean

# $(call apt-get-install,PACKAGES) fails with the command to run where we aren't root and sudo would ask.
apt-get-install = if test "$$(id -u)" = 0; then as=; else as='sudo -n'; fi; \
	{ command -v apt-get && $$as true; } >/dev/null 2>&1 && $$as apt-get -qq update && \
	$$as env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $(1) >/dev/null || \
	{ echo 'missing Debian packages; install them with: sudo apt-get install --no-install-recommends' $(1) >&2; false; }

# $(call make-venv,FOLDER): Debian keeps what venv needs in a package of its own.
define make-venv
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed: install it, or name it with PYTHON=…' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		$(call apt-get-install,$$package); }
	@$(PYTHON) -m venv $(1)
endef

# pip is the last thing that venv puts there: a broken-off venv is made again.
$(BIN)/pip:
	$(call make-venv,$(VENV))

# A recipe and no prerequisite: a lock that is older than pyproject.toml is no reason to install it first.
$(BIN)/uv:
	@$(MAKE) --no-print-directory $(VENV)/.dev

# The project itself is installed by the locked build backend: nothing is downloaded but what the locks name.
$(VENV)/.demo: requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/pip
	@echo 'installing the program into $(VENV)'
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/pip
	@echo 'installing the program and its tests into $(VENV)'
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.demo $@

# After the first environment: what Debian's packages lack is installed by one process at a time.
.engines/sdk/.done: requirements/sdk.txt | $(BIN)/pip
	@echo 'installing the official Python SDK into .engines/sdk'
	$(call make-venv,.engines/sdk)
	@.engines/sdk/bin/python $(PIP_INSTALL) --require-hashes -r requirements/sdk.txt
	@touch $@

.engines/jssdk/.done: | $(BIN)/pip
	@echo 'installing the official JavaScript SDK into .engines/jssdk'
	@command -v npm >/dev/null || { $(call apt-get-install,nodejs npm); }
	@mkdir -p .engines/jssdk && npm install --prefix .engines/jssdk --no-save --no-audit --no-fund --silent $(JAVASCRIPT_SDK)
	@touch $@
