# `make all` rebuilds every artifact, `make test` checks them; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PROFILE ?= cpu
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PIP := $(PY) -m pip install -q --disable-pip-version-check
# uv installs the same pinned set faster, where it is there; pip takes over where it fails.
UV := $(if $(shell command -v uv),uv pip install -q --python $(PY),false)
OUT := build/$(PROFILE)
NAMES := $(basename $(notdir $(sort $(wildcard notebooks/[0-9]*.ipynb))))
# These two read what the others publish.
STORIES := $(filter-out 10_findings 11_report,$(NAMES))
DONE := $(filter-out $(OUT)/11_report.ipynb,$(NAMES:%=$(OUT)/%.ipynb))
REPORT := $(OUT)/11_report.ipynb
# All that a notebook could be made with; build/deps.mk says which of it each one is.
LIB := $(shell find remi_lib notebooks -name "*.py") $(wildcard remi_lib/data/*.* remi_lib/data/claims/*)
PAGES := $(OUT)/pages.done
RECEIPT := $(OUT)/receipt.csv
# Two single-threaded processes beat two threads on two cores; libraries that ask get one.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export JUPYTER_PREFER_ENV_PATH := 1
export PYTHONHASHSEED := 0
export PYTHONUTF8 := 1
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/build/.hypothesis
NBVAL := -q -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout=3000 \
	--nbval-sanitize-with tests/nbval.cfg

# A check draws into build/nbval and compares with build/reference, which is what git has: never
# with figures/, which `make all` rewrites.
CHECKED := REMI_FIGURES="$(CURDIR)/build/nbval" REMI_REFERENCE="$(CURDIR)/build/reference/figures" \
	REMI_PROGRESS="$(CURDIR)/build/check.log" IPYTHONDIR="$(CURDIR)/build/ipython"
JOBS ?= 2

.PHONY: all overnight overnight-status env html times test unit check bench gpu-check \
	gpu-hours soak data refresh reference compare calibration choose wheel-check lock lint clean \
	distclean help

ifeq ($(PROFILE),overnight)
# No notebook runs in it: those of the cpu profile show the long runs beside their own.
all: $(STAMP)
	@$(PY) -m remi_lib.experiments.overnight run --rebuild; code=$$?; \
		$(PY) -m remi_lib.experiments.overnight tables && exit $$code
else
all: $(DONE) $(REPORT) $(PAGES) $(RECEIPT) ## rebuild every artifact of the profile (PROFILE=cpu|overnight|gpu32|gpu)
endif

env: $(STAMP) ## set up .venv with the pinned packages

$(STAMP): requirements.txt constraints.txt pyproject.toml
	@echo "setting up $(VENV) (about a minute)"
	$(PYTHON) -m venv $(VENV)
	$(UV) -c constraints.txt $(PIP_OPTIONS) -r requirements.txt || \
		$(PIP) -c constraints.txt $(PIP_OPTIONS) -r requirements.txt
	$(PIP) --no-deps -e .
	@touch $@

# From the imports: an edit to one experiment executes one notebook again.
build/deps.mk: remi_lib/replication/imports.py $(wildcard notebooks/[0-9]*.ipynb) $(LIB) \
		$(shell find remi_lib -type d ! -name __pycache__)
	@mkdir -p build && $(PYTHON) remi_lib/replication/imports.py > $@.$$$$ && mv $@.$$$$ $@
ifeq ($(filter help env clean distclean lint lock,$(MAKECMDGOALS)),)
-include build/deps.mk
endif

$(DONE): $(OUT)/%.ipynb: notebooks/%.ipynb params/$(PROFILE)/%.yaml | $(STAMP)
	@echo "$* ($(PROFILE))"
	@$(PY) -m remi_lib.experiments run $* --profile $(PROFILE)

# 05 trains beside what 04 has trained: which runs share a batch decides how their sums are rounded.
$(OUT)/05_lambda_sweep.ipynb: $(OUT)/04_benchmark.ipynb
# On a GPU notebook 07's networks are runs of Table 2, which then need not be trained again.
ifneq ($(filter gpu%,$(PROFILE)),)
$(OUT)/04_benchmark.ipynb: | $(OUT)/07_out_of_distribution.ipynb
endif
$(OUT)/10_findings.ipynb: $(STORIES:%=$(OUT)/%.ipynb)

overnight: $(STAMP) ## the overnight profile's long runs, resumed, and their tables in figures/overnight
	$(PY) -m remi_lib.experiments.overnight run; code=$$?; \
		$(PY) -m remi_lib.experiments.overnight tables && exit $$code

overnight-status: $(STAMP) ## what of them is done, running and missing, and how long the rest takes
	@$(PY) -m remi_lib.experiments.overnight status

$(REPORT): notebooks/11_report.ipynb params/$(PROFILE)/11_report.yaml $(DONE) \
		$(wildcard remi_lib/data/claims/*.yaml remi_lib/data/messages.yaml) \
		$(wildcard figures/gpu*/claims/*.json) \
		remi_lib/data/pages/ledger.html.j2
	@echo "11_report ($(PROFILE))"
	@$(PY) -m remi_lib.experiments run 11_report --profile $(PROFILE)

html: $(PAGES) ## notebooks as web pages in figures/<profile>/html

$(PAGES): $(DONE) $(REPORT) remi_lib/replication/pages.py $(wildcard remi_lib/data/pages/*)
	@echo "pages ($(PROFILE))"
	@$(PY) -m remi_lib.experiments pages --profile $(PROFILE)
	@touch $@

# What came out, beside what is committed; it reports and never fails.
$(RECEIPT): $(DONE) $(REPORT)
	@$(PY) -m remi_lib.replication.receipt compare --profile $(PROFILE)

times: $(STAMP) ## how long each notebook took here, and the rates that were measured
	@$(PY) -m remi_lib.replication.receipt times --profile $(PROFILE)

# `make drift` is `make build/cpu/01_drift.ipynb`.
define alias
.PHONY: $(shell echo $(1) | sed 's/^[0-9]*_//')
$(shell echo $(1) | sed 's/^[0-9]*_//'): $(OUT)/$(1).ipynb
endef
$(foreach name,$(NAMES),$(eval $(call alias,$(name))))

test: lint unit check ## static checks, unit tests, then nbval, then the numbers

unit: $(STAMP) ## unit tests, notebook and parameter contracts; line coverage of the library
	$(PY) -m pytest tests --ignore=tests/repository/test_artifacts.py -n $(JOBS) --dist loadfile \
		--cov=remi_lib --cov-report=term:skip-covered --cov-fail-under=93

check: $(STAMP) ## nbval: run the committed notebooks and compare them and their numbers
	rm -rf build/nbval build/check.log && mkdir -p build/nbval
	$(PY) -m remi_lib.replication.receipt reference
	@# Evidence of the larger profiles is not made here; the ledger reads the committed one.
	@for profile in $(sort $(filter-out cpu,$(notdir $(wildcard build/reference/figures/* figures/*)))); do \
		! [ -d build/reference/figures/$$profile ] || cp -R build/reference/figures/$$profile build/nbval/$$profile; done
	@echo "running every notebook; progress: tail -f build/check.log"
	@$(MAKE) --no-print-directory -j $(JOBS) --keep-going build/nbval/11_report.checked
	$(PY) -m pytest tests/repository/test_artifacts.py

# In the order in which `make all` makes them, and for its reasons; the last one needs all.
build/nbval/%.checked: notebooks/%.ipynb
	@$(CHECKED) $(PY) -m pytest $(NBVAL) $< > $@.log 2>&1 || { cat $@.log; exit 1; }
	@mv $@.log $@ && echo "  $* agrees"
build/nbval/05_lambda_sweep.checked: build/nbval/04_benchmark.checked
build/nbval/10_findings.checked: $(STORIES:%=build/nbval/%.checked)
build/nbval/11_report.checked: build/nbval/10_findings.checked

bench: $(STAMP) ## engines against plain loops, the modules against the losses they replace, in one run
	$(PY) -m tools.bench

gpu-check: $(STAMP) ## on a CUDA machine: can the GPU profile be believed, and how long is it
	$(PY) -m remi_lib.experiments.gpu_check

gpu-hours: $(STAMP) ## the table of GPU-hours in docs/gpu.md, from params/gpu32 and params/gpu
	$(PY) -m remi_lib.experiments.gpu_hours

soak: $(STAMP) ## kill `make all` twenty times, and run two at once; compare with an undisturbed run
	$(PY) -m tools.soak

data: $(STAMP) ## download CIFAR-10, CIFAR-100 and MNIST into data/, verified by checksum
	$(PY) -m remi_lib.experiments data

ifneq ($(filter refresh,$(MAKECMDGOALS)),)
ifneq ($(PROFILE),cpu)
$(error PROFILE: refresh copies the notebooks of the cpu profile)
endif
endif
refresh: all ## copy the executed notebooks into notebooks/ and the results into README.md
	$(PY) -m remi_lib.experiments refresh
	$(PY) -m remi_lib.experiments.report

lint: $(STAMP) ## ruff and mypy
	$(VENV)/bin/ruff check -q . && $(VENV)/bin/ruff format -q --check . && $(VENV)/bin/mypy remi_lib

API = $(shell find remi_lib -name "[a-z]*.py" -o -name __init__.py | sed 's/\.py$$//; s/\/__init__$$//; s/\//./g')
reference: $(STAMP) ## API reference from the docstrings into build/api
	$(PY) -m pdoc -d google --no-search --no-show-source -o build/api $(API)

# Other people's estimators: one beside the library, one that needs older versions in a place of
# its own.  Nothing else in the project needs them.
BMI := build/bmi/bin/python
build/bmi/.installed: requirements-bmi.txt
	$(PYTHON) -m venv build/bmi
	$(BMI) -m pip install -q --disable-pip-version-check $(PIP_OPTIONS) --no-deps -r requirements-bmi.txt
	@touch $@

compare: $(STAMP) build/bmi/.installed ## estimate_mi against public estimators, hours; MINUTES=60 ends earlier
	$(PIP) $(PIP_OPTIONS) --no-deps -r requirements-compare.txt
	REMI_BMI_PYTHON="$(CURDIR)/$(BMI)" $(PY) -m remi_lib.estimators.comparison compare $(if $(MINUTES),--minutes $(MINUTES))

calibration: $(STAMP) ## the p-value's size and power, the bound's and interval's coverage, half an hour
	$(PY) -m remi_lib.estimators.calibration

choose: $(STAMP) ## the evidence for estimate_mi's defaults, half an hour
	$(PY) -m remi_lib.estimators.comparison choose

wheel-check: ## a wheel installed alone: its losses, its estimate_mi, its data
	rm -rf build/wheel && $(PYTHON) -m venv build/wheel/env
	build/wheel/env/bin/pip wheel -q --disable-pip-version-check --no-deps -w build/wheel .
	build/wheel/env/bin/pip install -q --disable-pip-version-check -c constraints.txt build/wheel/*.whl
	cd build/wheel && env/bin/python ../../tools/wheel_check.py

lock: ## resolve requirements.txt afresh into constraints.txt
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install -q -r requirements.txt
	build/lock/bin/pip freeze | sed 's/+cpu$$//' > constraints.txt
	rm -rf build/lock

clean: ## remove build/ (executed notebooks, the cache of computed runs), but for the reference
	@mkdir -p build && find build -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +

distclean: clean ## and the environment
	rm -rf $(VENV)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo "  one notebook:   $(foreach name,$(NAMES),make $(shell echo $(name) | sed 's/^[0-9]*_//'),)"
