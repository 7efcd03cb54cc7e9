# `make` alone prints the targets for images. Everything it does is one command of wheelyard or pytest.
.DEFAULT_GOAL := help
.PHONY: help help-all plan build devcontainer verify test test-all test-unit test-builds test-inside test-devcontainer test-engines test-peers test-image test-arm64 test-kinds test-projects test-use test-hostile test-mutations coverage fuzz lint drift format lock render bench bench-engines bench-publish bench-project bench-lazy site test-site test-docs requirements distribution clean

MATRIX ?= all
NAME ?= combined
ARGS ?=
TEST_MATRIX ?= pytorch-2.3.1,tensorflow-2.21.0-cuda12.5-cudnn9.3-py3.11-runtime
# What `make test` runs from inside: one image, in one way that this user has.
TEST_IMAGE ?= pytorch-2.3.1-runtime
TEST_BACKEND ?= $(if $(filter 0,$(shell id -u)),chroot,docker)
# With TEST_MATRIX one of every kind: CUDA 13 with nvcc, cuDNN 8 under TensorFlow, both frameworks.
KINDS := pytorch-2.15.0-devel-py3.11-amd64,tensorflow-2.15.1-devel,pytorch-2.10.0-tensorflow-2.20.0-cuda12.8-cudnn9.10-py3.11-devel
# How tests/image runs images; a podman per image is left to test-kinds, for the time it takes.
BACKENDS ?= docker chroot
# What people do with images is played in: old and new of both frameworks, and both in one.
USE_MATRIX ?= pytorch-2.3.1-cuda12.1-cudnn8.9-* pytorch-2.15.0-*-py3.13-*[a-z] tensorflow-2.15.1-* \
    tensorflow-2.21.0-cuda12.5-*-py3.11-* pytorch-2.10.0-tensorflow-2.20.0-*-py3.11-*
# What a registry, a bundle, a wheel, a base or a name from outside may try: parts of the suites above.
HOSTILE := $(wildcard tests/unit/test_hostile_*.py tests/builds/test_hostile_*.py tests/peers/test_hostile_*.py) \
    tests/unit/test_bundle.py tests/builds/test_mutants.py \
    tests/unit/test_digests.py tests/unit/test_fuzz.py tests/unit/test_guard.py tests/unit/test_redacted.py \
    tests/unit/test_redirects.py tests/unit/test_replies.py tests/unit/test_rootfolder.py \
    tests/unit/test_signed_catalogue.py tests/peers/test_confined.py tests/peers/test_nginx.py
BIN := .venv/bin
# Of another Python than that of .venv, which does not start with them.
unexport PYTHONHOME PYTHONPATH
# Without its bytecode every process that a suite starts compiles all it imports: a third more work.
unexport PYTHONDONTWRITEBYTECODE

help: ## Print the targets for images; `make help-all`: those for developing Wheelyard, too
	$(call targets, ## )

help-all: ### Print all targets
	$(call targets, ###* )

# Prints the targets whose comment starts with $(1), sorted by name, in 80 columns.
define targets
@grep -hE '^[a-z0-9-]+:.*$(1)' $(MAKEFILE_LIST) | LC_ALL=C sort -t : -k 1,1 | awk -F ':.*##+ ' '{ \
    line = sprintf("  %-18s", $$1); count = split($$2, words, " "); \
    for (i = 1; i <= count; i++) { \
        if (length(line) + length(words[i]) >= 80) { print line; line = sprintf("%20s", "") } \
        line = line " " words[i] } \
    print line }'
endef

plan: .venv/run ## List the images: make plan MATRIX=cuda12.1
	$(BIN)/wheelyard plan $(MATRIX) $(ARGS)

build: .venv/run ## Build images into dist/: make build MATRIX=cuda12.1
	$(BIN)/wheelyard build $(MATRIX) $(ARGS)

test: ## Lint, drift, unit tests, and one image from inside: ten minutes at most after a build
	@echo "make test: lint, drift, unit tests, and $(TEST_IMAGE) from inside ($(TEST_BACKEND))."
	@echo "Up to 10 minutes on two cores after \`make build MATRIX=pytorch-2.3.1\`, and nothing to fetch then but"
	@echo "what the tests need themselves (.venv, 150 MB); without that build, 3 GB and 4 minutes more."
	@$(MAKE) --no-print-directory lint drift test-unit test-inside

test-all: test test-builds test-image test-peers test-devcontainer test-site test-docs test-engines test-kinds test-use test-projects ### Everything: root, Docker, hours, 60 GB

# Two files at a time: these tests wait for daemons and disks about as long as they compute.
test-peers: .venv/dev ### skopeo, umoci, Docker, a registry, mirrors, ordinary users (root; needs their packages)
	$(BIN)/pytest tests/peers --numprocesses 2 --dist loadfile --layout dist $(ARGS)

test-engines: .venv/dev ### Docker 20.10 and 26.1, podman, buildah, Slurm (root; needs their packages; 26.1 comes from Debian trixie)
	$(BIN)/pytest tests/engines --layout dist $(ARGS)

devcontainer: .venv/run ## Make the image of a dev container and load it: make devcontainer NAME=pytorch
	@$(BIN)/wheelyard devcontainer prepare $(NAME) $(ARGS)

test-devcontainer: .venv/dev ### Dev containers by their CLI (root; Docker, Node 20, Chromium; a built devel image of PyTorch 2.3.1)
	$(BIN)/pytest tests/devcontainer --layout dist $(ARGS)

verify: .venv/run ## Run the checks that images carry; page in reports/verify: make verify MATRIX=cuda12.1
	$(BIN)/wheelyard verify $(MATRIX) $(ARGS)

# A file's tests stay in one process: they share what its fixtures build.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile
# Unit tests wait for sockets and clocks as long as they compute: three processes a core.
UNIT := tests/unit --numprocesses $(shell expr 3 \* `nproc`) --maxprocesses 8 --dist loadfile \
    --no-loadscope-reorder
test-unit: .venv/dev ### Unit tests: 75 s on two cores, no engine, no network
	$(BIN)/pytest $(UNIT) $(ARGS)

test-builds: .venv/dev ### Small builds again and again, thousands of mutants: minutes, no engine, no network
	$(BIN)/pytest tests/builds $(PARALLEL) $(ARGS)

coverage: .venv/dev ### Which lines and branches the unit tests reach
	$(BIN)/pytest $(UNIT) --cov --cov-report term $(ARGS)

test-inside: .venv/dev
	$(BIN)/wheelyard build $(TEST_IMAGE) --no-load
	$(BIN)/pytest tests/image --layout dist --images $(TEST_IMAGE) --backend $(TEST_BACKEND) $(ARGS)

test-image: .venv/dev ### Build the images under test and test them from inside: TEST_MATRIX=pytorch-2.3.1
	$(BIN)/wheelyard build $(TEST_MATRIX) --no-load
	$(BIN)/pytest tests/image tests/gpu tests/benchmark --layout dist --images $(TEST_MATRIX) $(BACKENDS:%=--backend %) $(ARGS)

test-arm64: .venv/dev ### Images for arm64 under qemu: versions, libraries, a training (root; qemu-user-static; 10 GB free)
	$(BIN)/wheelyard build pytorch:2.15.0-arm64,jax:0.12.0.1-arm64 --no-load
	$(BIN)/pytest tests/arm64 --layout dist -v $(ARGS)

test-kinds: ### The same for one image of every other kind, in Docker and in podman (an hour, 40 GB)
	$(MAKE) test-image TEST_MATRIX=$(KINDS) BACKENDS="docker podman"

test-use: .venv/dev ### Real programs as every kind of user, in Docker, rootless podman, chroot (root, an index; 20 minutes an image, 20 GB free)
	@set -f; failed=; for one in $(USE_MATRIX); do \
	    { $(BIN)/wheelyard build "$$one" --no-load \
	    && $(BIN)/pytest tests/use --layout dist --images "$$one" --record reports/use.json $(ARGS); } || failed=1; \
	done; test -z "$$failed"

test-projects: .venv/dev ### Public projects locked, built, run one step in Docker and rootless podman (root, an index; half an hour, 10 GB free)
	$(BIN)/python -m tests.projects $(ARGS)

test-mutations: .venv/dev ### Faults in selfcheck, each by itself, and who sees them (root; three built images; goes on where it was interrupted)
	$(BIN)/python -m tests.mutations $(ARGS)

fuzz: .venv/dev ### Feed mutated wheels, layers, locks, bundles to their readers (5 minutes): make fuzz ARGS="--minutes 60"
	PYTHONPATH=tests/unit $(BIN)/python -m tests.fuzz $(ARGS)

test-hostile: .venv/dev ### Only what strangers may send; prints how many of the situations held (root, and the peers' packages, for some)
	$(BIN)/pytest $(HOSTILE) $(ARGS)

lint: .venv/dev ### ruff, mypy, yamllint, shellcheck, hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows docs/examples/project-github.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci docs/examples/project-gitlab.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/shellcheck tools/make-venv .ci/run tests/devcontainer/gpu-host devcontainer/features/wheelyard/install.sh
	$(BIN)/hadolint images/*/Dockerfile images/bases/*/Dockerfile

drift: .venv/dev ### Locks are up to date with the matrix, generated files with both
	$(BIN)/wheelyard lock --check
	$(BIN)/wheelyard render --check

format: .venv/dev ### Format the Python code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/run ## Resolve versions again (network): make lock MATRIX=pytorch-2.3
	$(BIN)/wheelyard lock $(MATRIX) $(ARGS)

render: .venv/run ## Write images/*/Dockerfile
	$(BIN)/wheelyard render

bench: .venv/dev ### Measure speed, size and memory; ratios against what runs beside
	$(BIN)/python -m tests.benchmark $(ARGS)

bench-engines: .venv/dev ### One image by pip, docker, bake, buildah and assemble, in both image stores (root; 70 minutes, up to 45 GB)
	$(BIN)/python -m tests.benchmark.engines $(ARGS)

bench-publish: .venv/dev ### Wheels to a registry to a training step, by Docker and by us (root; 20 minutes, 20 GB)
	$(BIN)/python -m tests.benchmark.publish $(ARGS)

bench-project: .venv/dev ### From a change in a user's project to a pushed image, by Docker and by us (root; 15 minutes, 20 GB)
	$(BIN)/python -m tests.benchmark.project $(ARGS)

bench-lazy: .venv/dev ### Bytes and seconds to a training step, pulled whole and lazily (root; containerd, stargz-snapshotter; half an hour, 20 GB)
	$(BIN)/python -m tests.benchmark.lazy $(ARGS)

requirements: .venv/dev ### Pin the tool's own dependencies again
	$(BIN)/uv --no-config pip compile pyproject.toml --extra build --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header --no-emit-index-url -o requirements/run.txt
	$(BIN)/uv --no-config pip compile pyproject.toml --extra build --extra dev --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header --no-emit-index-url -o requirements/dev.txt
	$(BIN)/uv --no-config pip compile pyproject.toml --extra build --extra docs -c requirements/dev.txt --universal \
	    --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url -o requirements/docs.txt

site: .venv/docs ## Build the site into public/: guides, catalogue, reference (no network)
	$(BIN)/python -m wheelyard.site tmp/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

test-site: site .venv/dev ### The site in Chromium: pick, list, links, accessibility, size (Node 20, Chromium)
	$(BIN)/pytest tests/site $(ARGS)

test-docs: .venv/dev ### The commands of README and docs, without an engine, and in a Docker of its own (root; 16 GB free)
	$(BIN)/pytest tests/docs $(ARGS)

distribution: .venv/dev ### sdist and wheel into build/distribution, checked as an index does
	rm -rf build/distribution
	$(BIN)/uv --no-config build --quiet --no-build-isolation --out-dir build/distribution
	$(BIN)/twine check --strict build/distribution/*.whl build/distribution/*.tar.gz

clean: ## Remove dist/ and .venv/; the cache of wheels and layers stays
	rm -rf dist .venv

.venv/run: requirements/run.txt pyproject.toml
	tools/make-venv run
	@touch $@

.venv/dev: requirements/dev.txt pyproject.toml
	tools/make-venv dev
	@touch .venv/run $@

.venv/docs: requirements/docs.txt pyproject.toml
	tools/make-venv docs
	@touch .venv/run $@
