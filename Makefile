# One line a verb. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
SEED ?=
export RUST_BACKTRACE ?= 0

.DEFAULT_GOAL := help
.PHONY: help c judge_c demo check test long sim interop bench python node dist fuzz protocol peers deny clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1  /p' Makefile | sed 's/^  make \([a-z]*\)  /\1\t/' | expand -t 12 | sed 's/^/  make /'

demo: ## real GPS tracks through a broker in this process and back, read by a group of two of which one leaves
	@$(CARGO) run --quiet --package ottla-cli -- demo

check: ## format, lints, the repository's own rules, unit tests; needs nothing installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) test --workspace --lib --bins --quiet
	$(CARGO) test --workspace --test tidy --quiet

# The same random choices in every run, so that a change is judged by what the one before it was judged by; `long` makes new ones.
test: export OTTLA_SEED ?= 1
test: export PROPTEST_RNG_SEED ?= 1
test: peers check deny judge_c python node ## everything that judges a change: `check`, then Kafka's own programs as judges
	rm -rf target/ottla-test-data
	$(CARGO) test --workspace --no-fail-fast 2>&1 | tee target/test.log || { tests/failed target/test.log; exit 1; }
	SCHEDULES=20000 $(CARGO) test --package ottla-simulation --profile checked --test schedules

sim: ## the simulated room of consumers and their coordinator: tells what happens in one SEED, or runs SCHEDULES from SEED on
	@if [ -n "$${SCHEDULES:-}" ]; then $(CARGO) test --package ottla-simulation --profile checked --test schedules -- --nocapture; \
	else $(CARGO) run --quiet --package ottla-simulation --profile checked; fi

node: ## the Node binding: builds the addon, runs its tests on each Node there is, checks its types
	bindings/node/scripts/test

c: judge_c ## the library for C: its tests, then the library itself in target/c. `cmake --install target/c --prefix ...` installs it
	cmake -S bindings/c -B target/c -DOTTLA_TARGET_DIR=$(CURDIR)/target
	cmake --build target/c
	ctest --test-dir target/c --output-on-failure --tests-regex '^(smoke|installed)'

# As Python and Node, in the profile that stops at assertions and overflows. Built together with Node's addon, since cargo chooses the
# features of what both are made of by all the packages it is told to build: each alone would compile everything anew.
judge_c:
	cmake -S bindings/c -B target/c-checked -DOTTLA_TARGET_DIR=$(CURDIR)/target -DOTTLA_CARGO_PROFILE=checked "-DOTTLA_CARGO_ARGUMENTS=--package;ottla-node;--locked"
	cmake --build target/c-checked
	ctest --test-dir target/c-checked --output-on-failure --parallel 2
	cmake -S bindings/c -B target/c-without-cluster -DOTTLA_TARGET_DIR=$(CURDIR)/target -DOTTLA_CARGO_PROFILE=dev -DOTTLA_CLUSTER=OFF
	cmake --build target/c-without-cluster
	ctest --test-dir target/c-without-cluster --output-on-failure

long: peers ## the long proofs: 50 kills, ten minutes of churn for each kind of group, the fault table of the producer, a million schedules, seeded bugs, new seeds for every property, fuzzing
	rm -rf target/ottla-test-data
	SCHEDULES=1000000 $(CARGO) test --package ottla-client-state --release --test schedules -- --nocapture
	$(CARGO) test --package ottla-client-state --test seeded_bugs -- --ignored --nocapture
	SCHEDULES=1000000 SUMMARY=$(CURDIR)/target/room.md $(CARGO) test --package ottla-simulation --profile checked --test schedules
	SUMMARY=$(CURDIR)/target/room-bugs.md $(CARGO) test --package ottla-simulation --profile checked --test seeded_bugs -- --ignored --nocapture
	for round in {1..20}; do $(CARGO) test --quiet --package ottla-protocol --package ottla-client-state --package ottla-broker-state; $(CARGO) test --quiet --package ottla-broker --package ottla --lib; done
	OTTLA_LONG=1 $(CARGO) test --package ottla-tests --test kill --test delivery_cuts --test delivery_brokers --test fuzz_smoke --test hostile --test hostile_broker --test groups_churn --test groups_kill --test partitioners --test recovery --test tools_data -- --nocapture
	protocol/fuzz/run

interop: peers ## the table: producer x consumer x broker x codec
	$(CARGO) test --package ottla-tests --test interop

bench: peers ## Ottla beside librdkafka, franz-go and Java, on both brokers, about 17 minutes; into bench/results
	bench/peers setup
	bench/peers report

python: ## the Python package: built, installed below target/python, judged by its tests and two type checkers
	bindings/python/run

dist: ## what is published, into dist/, tried outside of it: crates, Python wheels and sdist, npm tarballs, the archive for C
	bindings/dist

fuzz: ## the fuzz targets, a minute each (FUZZ_SECONDS)
	protocol/fuzz/run

protocol: peers ## regenerate the messages from Kafka's schemas
	$(CARGO) run --quiet --package ottla-protocol-generate

peers: ## install the programs that judge (.peers): Apache Kafka, clients of other languages, cargo-deny
	@tests/peers/setup

deny: peers ## licences, sources, refused crates
	$(CARGO) fetch --locked --quiet
	.peers/cargo-deny/bin/cargo-deny --offline --log-level error check bans licenses sources

clean: ## build results, not the installed peers
	$(CARGO) clean
