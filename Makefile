# Everything that is built, checked and shown about Stepwell. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
# Where cargo writes; scripts look for the binary there too.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
STEPWELL := $(CARGO_TARGET_DIR)/debug/stepwell
# The acceptance cases live beside the clone, not in it; without them that part is skipped, aloud.
ACCEPTANCE ?= ../shared/acceptance
# YES=1 answers the demo's approval, for use without a terminal.
YES ?=
# How long `make fuzz` fuzzes in all; the time is shared by the targets.
FUZZ_SECONDS ?= 60
# How many histories `make test` plays, and for how long `make soak` plays fresh ones. Each commit has seeds of its own, so
# that the gate plays new ones with every change, and the same ones again for the same.
HISTORIES ?= 20000
FIRST_SEED ?= $(shell printf '%d' 0x$$(git rev-parse --short=12 HEAD 2>/dev/null || echo 1))
MINUTES ?= 60
SIMULATOR = $(CARGO) run --locked --quiet --package stepwell-simulator --bin stepwell-sim -- --jobs $$(nproc)
# How long `make bench` loads the server for each workload.
BENCH_SECONDS ?= 20

.PHONY: help check fmt clippy unit doc deny breakages dependencies test integration test-aws test-localstack binary corpus conformance acceptance pages fuzz demo histories soak sizes mutants bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

check: fmt clippy unit doc deny dependencies breakages ## the gate: format, lints, unit tests, rustdoc, licences, dependency list

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings

unit:
	$(CARGO) test --locked --quiet --lib --bins

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

deny: ## licences, duplicate and banned crates, sources; advisories where their database is reachable
	scripts/deny

breakages:
	scripts/mutants --check

dependencies: ## every direct dependency stands in docs/adr/0001-dependencies.md, and only those
	scripts/check-dependencies

test: check integration test-localstack test-aws histories corpus acceptance pages fuzz ## everything: the gate, integration and crash tests, histories under faults, corpus, docs, a minute of fuzzing, the demo
	$(MAKE) demo YES=1
	@echo "make test: all passed"

integration:
	$(CARGO) test --locked --quiet --workspace $(addprefix --exclude stepwell-,agreement dynamodb functions fuzz serverless) --test '*'
	$(CARGO) test --locked --quiet --doc
	$(CARGO) test --locked --quiet --package stepwell-agreement
	# Stack frames and overflow checks differ in release: the evaluator's limits must hold in both.
	CARGO_PROFILE_RELEASE_LTO=off $(CARGO) test --locked --quiet --release --package stepwell-expression --test hostile

test-aws: binary ## the adapters of the serverless home, and the deployed stack on LocalStack (python 3.13, java, mvn and a C compiler must be there)
	$(CARGO) test --locked --quiet --package stepwell-dynamodb --test local
	ACCEPTANCE="$(ACCEPTANCE)" $(CARGO) test --locked --quiet --package stepwell-serverless
	scripts/build-functions
	ACCEPTANCE="$(ACCEPTANCE)" STEPWELL=$(STEPWELL) tests/aws/run

test-localstack: ## the template's rules, and what the plugin changes in LocalStack (python 3.13, java and mvn must be there)
	scripts/lint-template
	localstack/check

histories: ## random workflows under random faults (HISTORIES, default 20000, from FIRST_SEED on)
	$(SIMULATOR) --histories $(HISTORIES) --first-seed $(FIRST_SEED)

soak: ## the same from fresh seeds, which it prints, for MINUTES (default 60), whatever breaks
	$(SIMULATOR) --minutes $(MINUTES) --keep-going

binary:
	$(CARGO) build --locked --quiet --bin stepwell

corpus: conformance ## the conformance corpus in each home, and the examples with their own tests
	$(STEPWELL) test examples

conformance: binary ## the conformance corpus as a table: how much passes of each feature, in each home
	$(STEPWELL) test tests/conformance --homes memory,sqlite --table

acceptance: binary
	@if [ -d "$(ACCEPTANCE)" ]; then $(STEPWELL) test "$(ACCEPTANCE)"; \
	else echo "acceptance: skipped, there is no $(ACCEPTANCE)"; fi

pages: binary ## the examples in docs/ are valid workflows, every error code has its page, every link its target
	scripts/check-docs $(STEPWELL)

fuzz: ## fuzz the workflow parser and the expression evaluator (FUZZ_SECONDS, default 60)
	scripts/fuzz $(FUZZ_SECONDS)

demo: binary ## the incident triage of the examples, on this machine's real facts (YES=1 approves)
	STEPWELL=$(STEPWELL) YES=$(YES) examples/incident-triage/demo.sh

sizes: ## what each Lambda function costs before it does anything: its zip, its start, its memory (some ten minutes to build)
	scripts/build-functions --release
	scripts/measure-functions

mutants: ## break the engine on purpose, in each way of tests/mutants, and see that the tests notice (about an hour)
	scripts/mutants

bench: ## throughput and latency, see docs/performance.md; BENCH_SECONDS=2 for a quick look
	$(CARGO) build --locked --release --bin stepwell --bin stepwell-bench
	$(CARGO_TARGET_DIR)/release/stepwell-bench --stepwell $(CARGO_TARGET_DIR)/release/stepwell --dir $(CARGO_TARGET_DIR) --seconds $(BENCH_SECONDS)

clean:
	$(CARGO) clean
