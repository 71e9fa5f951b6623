# What people and the continuous integration run. Each suite stands in one target; to add one, write
# a target with `$(SUITE) NAME BUDGET_S COMMAND` and name it in `check` or `test`.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
SUITE := scripts/suite
SIM := $(TARGET)/sim/bzzz-sim
BZZZ := $(TARGET)/release/bzzz

# Options of the simulation runs.
SIM_SHAPE ?= --nodes 5 --seconds 60
# Seven vote and two follow.
FOLLOWERS_SHAPE ?= --nodes 9 --seconds 30
# Few know each other in half of the runs, and followers follow followers.
LARGE_SHAPE ?= --nodes 20 --seconds 8
LARGE_SEEDS ?= 0..4
# Two: either one's loss leaves no majority, and either one may have to lead on its way out.
PAIR_SHAPE ?= --nodes 2 --seconds 60
# Seeds of two nodes that have found something once.
PAIR_SEEDS ?= 86 216 313
CHECK_SEEDS ?= 0..20
TEST_SEEDS ?= 0..60
SOAK_SEEDS ?= 0..10000
META_SEEDS ?= 1 2 3
# Which changes `mutants` draws.
SEED ?= 1
DEMO_FILES ?= README.md ARCHITECTURE.md Cargo.lock

.DEFAULT_GOAL := help
# One suite at a time: they share the build directory, and their times mean something.
.NOTPARALLEL:

.PHONY: help
help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: check
check: suite-setup suite-fmt suite-clippy suite-tidy suite-unit suite-sim-check ## Before a commit: style, rules, unit tests, a few simulations.

.PHONY: test
test: suite-setup suite-fmt suite-clippy suite-tests suite-api suite-sim-build suite-swarm suite-clocks suite-planted suite-meta ## Everything that has to pass.

.PHONY: demo
demo: suite-setup ## Run a cluster of five on this machine and show what it does.
	@scripts/demo-time $(TARGET)/demo
	$(CARGO) build --profile demo --locked --bin bzzz
	$(TARGET)/demo/bzzz dev --nodes 5 --tour $(DEMO_FILES)

.PHONY: bench
bench: ## Measure a cluster of three, beside etcd where it is installed.
	$(CARGO) build --release --locked --bin bzzz
	$(CARGO) build --release --locked --package bzzz-bench
	$(TARGET)/release/bzzz-bench --bzzz $(BZZZ)

.PHONY: soak
soak: suite-sim-build ## Be rude to real nodes and print the seconds, then simulate for hours; SOAK_SEEDS=A..B names the seeds.
	$(CARGO) build --release --locked --bin bzzz
	$(CARGO) build --release --locked --package bzzz-bench
	$(TARGET)/release/bzzz-bench --bzzz $(BZZZ) --only clocks --only logs --only neighbours
	$(CARGO) test --release --locked --test network members_that_move -- --nocapture --test-threads 1
	$(TARGET)/release/bzzz-bench --bzzz $(BZZZ) --only crashes
	scripts/api-check $(BZZZ) --seconds 180
	$(SIM) swarm --seeds $(SOAK_SEEDS) $(SIM_SHAPE)

.PHONY: mutants
mutants: suite-setup ## Change a hundred rules at random; SEED=N draws others. Takes up to 90 minutes.
	scripts/mutants --seed $(SEED)

.PHONY: fmt
fmt: ## Format all code.
	$(CARGO) fmt --all

.PHONY: clean
clean: ## Remove what was built.
	$(CARGO) clean

.PHONY: suite-setup
suite-setup:
	@$(SUITE) setup 120 scripts/setup

.PHONY: suite-fmt
suite-fmt:
	@$(SUITE) fmt 10 $(CARGO) fmt --all --check

.PHONY: suite-clippy
suite-clippy:
	@$(SUITE) clippy 600 $(CARGO) clippy --workspace --all-targets --locked -- -D warnings

.PHONY: suite-tidy
suite-tidy:
	@$(SUITE) tidy 60 $(CARGO) test --workspace --locked --test tidy

.PHONY: suite-unit
suite-unit:
	@$(SUITE) unit 600 $(CARGO) test --workspace --locked --no-fail-fast --lib --bins

.PHONY: suite-tests
suite-tests:
	@$(SUITE) tests 900 $(CARGO) test --workspace --locked --no-fail-fast

# The API keeps to its own document. Uses the node that the tests have built.
.PHONY: suite-api
suite-api: suite-tests
	@$(SUITE) api 90 scripts/api-check $(TARGET)/debug/bzzz --examples 10

.PHONY: suite-sim-build
suite-sim-build:
	@$(SUITE) sim-build 600 $(CARGO) build --profile sim --package bzzz-sim --locked

.PHONY: suite-sim-check
suite-sim-check: suite-sim-build
	@$(SUITE) sim-check 30 $(SIM) swarm --seeds $(CHECK_SEEDS) $(SIM_SHAPE)

.PHONY: suite-swarm
suite-swarm: suite-sim-build
	@$(SUITE) swarm 120 $(SIM) swarm --seeds $(TEST_SEEDS) $(SIM_SHAPE)
	@$(SUITE) swarm-followers 120 $(SIM) swarm --seeds $(TEST_SEEDS) $(FOLLOWERS_SHAPE)
	@$(SUITE) swarm-large 60 $(SIM) swarm --seeds $(LARGE_SEEDS) $(LARGE_SHAPE)
	@$(SUITE) swarm-pair 60 $(SIM) swarm --seeds $(TEST_SEEDS) $(PAIR_SHAPE)
	@$(SUITE) pair-seeds 10 sh -ec 'for seed in $(PAIR_SEEDS); do $(SIM) run --seed $$seed $(PAIR_SHAPE); done'

# Every way in which the clocks of a minority can be wrong.
.PHONY: suite-clocks
suite-clocks: suite-sim-build
	@$(SUITE) clocks 150 $(SIM) clocks

# What breaks a rule is seen.
.PHONY: suite-planted
suite-planted: suite-sim-build
	@$(SUITE) planted 240 scripts/planted $(SIM) simulations/planted.txt

# The same seed in two processes gives the same trace.
.PHONY: suite-meta
suite-meta: suite-sim-build
	@$(SUITE) meta 30 sh -ec 'for seed in $(META_SEEDS); do $(SIM) meta --seed $$seed $(SIM_SHAPE); done'
