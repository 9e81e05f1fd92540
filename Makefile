# Blixard. `make help` lists the targets. Non-recursive; one build tree per flavour ($(B)); parallel-safe.
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
SHELL := /bin/bash
VERSION := 0.1.0
SOVERSION := 0

PREFIX ?= /usr/local
DESTDIR ?=
B ?= build/release
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
V ?= 0
Q := $(if $(filter 1,$(V)),,@)

# ---- the house: each folder of lib/ and the folders it may include (DESIGN: "The house"; tests/lint checks the same table)
FOLDERS := base schema lease placement state control io consensus rpc client measure host vm agent history node offline api
DEPS_base :=
DEPS_schema := base
DEPS_lease := schema base
DEPS_placement := schema base
DEPS_state := placement lease schema base
DEPS_control := state placement lease schema base
DEPS_io := base
DEPS_consensus := io schema base
DEPS_rpc := io schema base
DEPS_client := rpc io schema base
DEPS_measure := base
DEPS_host := base
DEPS_vm := host measure io schema base
DEPS_agent := vm host measure io lease schema base
DEPS_history := schema base
DEPS_node := history agent vm host measure client rpc consensus io control state placement lease schema base
DEPS_offline := node $(DEPS_node)
DEPS_api := offline node $(DEPS_node)

PC := libuv jansson libnghttp2 openssl
LIBS_base := -lcrypto
LIBS_schema := -ljansson -lm
LIBS_io := -luv
LIBS_consensus := -lraft -luv
LIBS_rpc := -lnghttp2
LIBS_history := -lsqlite3
LIBS_all := -lraft -luv -lnghttp2 -lsqlite3 -ljansson -lcrypto -lm

WARN := -Wall -Wextra -Wconversion -Wshadow -Wswitch-enum -Wvla -Werror
OPT ?= -O2 -g
SAN ?=
CFLAGS_ALL := -std=gnu11 -D_GNU_SOURCE -Ilib -Iinclude -I$(B)/gen $(WARN) $(OPT) -fPIC -fvisibility=hidden \
  -fstack-protector-strong $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=undefined -fno-omit-frame-pointer,-D_FORTIFY_SOURCE=2) $(CFLAGS)
LDFLAGS_ALL := $(if $(SAN),-fsanitize=$(SAN)) -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)

src_of = $(wildcard lib/$(1)/*.c lib/$(1)/*/*.c)
obj_of = $(patsubst %.c,$(B)/obj/%.o,$(call src_of,$(1)))
with_deps = $(1) $(DEPS_$(1))
objs_with_deps = $(foreach f,$(call with_deps,$(1)),$(call obj_of,$(f)))
libs_with_deps = $(foreach f,$(call with_deps,$(1)),$(LIBS_$(f)))

# The simulated twin of lib/io is for tests: nothing in the library calls it.
LIB_OBJS := $(filter-out $(B)/obj/lib/io/sim%.o,$(foreach f,$(FOLDERS),$(call obj_of,$(f))))
SO := $(B)/lib/libblixard.so.$(SOVERSION)
PROGRAMS := blixardd blixard blixard-shim blixard-watchdog blixard-guest
EXAMPLES := $(patsubst examples/%.c,$(B)/examples/%,$(wildcard examples/*.c))

.PHONY: all deps check check-fast lint bench asan install quickstart quickstart-down help clean schema sim
all: $(SO) $(B)/lib/libblixard.a $(B)/lib/pkgconfig/blixard.pc $(PROGRAMS:%=$(B)/bin/%) $(B)/bin/schemagen $(EXAMPLES) ## build everything into build/release

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

# ---- compile
$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC  $<")
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_$(subst /,_,$(<D))) -MMD -MP -c $< -o $@

CFLAGS_tools_cli := -Itools/cli
CFLAGS_daemon := -DBLX__PREFIX='"$(PREFIX)"'
CFLAGS_lib_node := -DBLX__PREFIX='"$(PREFIX)"' -DBLX__VERSION='"$(VERSION)"'
CFLAGS_lib_api := -DBLX__VERSION='"$(VERSION)"'

# ---- libraries
$(SO): $(LIB_OBJS) lib/libblixard.map
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD  $@")
	$(Q)$(CC) -shared -Wl,-soname,libblixard.so.$(SOVERSION) -Wl,--version-script=lib/libblixard.map -Wl,--no-undefined \
	  $(LDFLAGS_ALL) -o $@ $(LIB_OBJS) $(LIBS_all)
	$(Q)ln -sf libblixard.so.$(SOVERSION) $(B)/lib/libblixard.so

$(B)/lib/libblixard.a: $(LIB_OBJS)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJS)

$(B)/lib/pkgconfig/blixard.pc: lib/blixard.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@VERSION@|$(VERSION)|g' $< > $@

# ---- programs: the daemon and the CLI see the public headers only; the shim carries the parts it needs
prog_objs = $(patsubst %.c,$(B)/obj/%.o,$(wildcard $(1)))
$(B)/bin/blixardd: $(call prog_objs,daemon/blixardd*.c) $(SO)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,-rpath,'$$ORIGIN/../lib' -o $@ $(filter %.o,$^) -L$(B)/lib -lblixard -lyaml -lpthread
$(B)/bin/blixard: $(call prog_objs,tools/cli/*.c) $(SO)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,-rpath,'$$ORIGIN/../lib' -o $@ $(filter %.o,$^) -L$(B)/lib -lblixard -ljansson -lyaml
# Of lib/vm the shim takes the pure parts, and all of lib/measure and lib/host; of base and schema, through an archive, only what it calls: it stays small.
SHIM_SHARED := $(patsubst %,$(B)/obj/lib/vm/%.o,proto_guest proto_qmp proto_shim cgroup) $(call obj_of,measure) $(call obj_of,host)
$(B)/obj/shim.a: $(call objs_with_deps,schema)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/bin/blixard-shim: $(call prog_objs,daemon/shim*.c) $(SHIM_SHARED) $(B)/obj/shim.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,--gc-sections -o $@ $^ -ljansson -lm
$(B)/bin/blixard-watchdog: $(call prog_objs,daemon/watchdog*.c) $(B)/obj/lib/lease/page.o $(call obj_of,base)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,--gc-sections -o $@ $^ -lcrypto
# Static and free of sanitizers in every flavour: it runs inside guests.
$(B)/bin/blixard-guest: $(wildcard tools/guest/*.c) lib/vm/proto_guest.c lib/vm/proto_guest.h tools/guest/guest.h
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -Os -static -ffunction-sections -fdata-sections -Wl,--gc-sections -s \
	  -Ilib -Iinclude -o $@ $(filter %.c,$^)
# What tests put together with programs of this version: shims and agents of the one before (step -1) and after (1).
APART := $(foreach s,-1 1,$(B)/tests/apart/blixard-shim$(s) $(B)/tests/apart/blixard-guest$(s))
apart: $(APART)
$(B)/tests/apart/blixard-shim%: $(wildcard daemon/shim*.[ch]) $(wildcard lib/vm/proto_*.[ch]) $(SHIM_SHARED) $(B)/obj/shim.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -DBLX__PROTOCOL_STEP='($*)' $(LDFLAGS_ALL) -Wl,--gc-sections -o $@ \
	  $(wildcard daemon/shim*.c) lib/vm/proto_shim.c lib/vm/proto_guest.c \
	  $(filter-out %/proto_shim.o %/proto_guest.o,$(SHIM_SHARED)) $(B)/obj/shim.a -ljansson -lm
$(B)/tests/apart/blixard-guest%: $(wildcard tools/guest/*.[ch]) $(wildcard lib/vm/proto_guest.[ch])
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -Os -static -s -DBLX__PROTOCOL_STEP='($*)' -Ilib -Iinclude -o $@ \
	  $(filter %.c,$^)
# Nothing of lib/schema: it must be able to remake outputs that no longer compile.
$(B)/bin/schemagen: $(call prog_objs,tools/schemagen/*.c) $(call obj_of,base)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(LIBS_base)

EXAMPLE_MORE_own_driver := -D_POSIX_C_SOURCE=200809L
EXAMPLE_MORE_uv_loop := -D_POSIX_C_SOURCE=200809L -luv
$(B)/examples/%: examples/%.c $(SO)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 $(WARN) $(OPT) $(if $(SAN),-fsanitize=$(SAN)) -Iinclude -Wl,-rpath,'$$ORIGIN/../lib' -o $@ $< -L$(B)/lib -lblixard $(EXAMPLE_MORE_$*)

# ---- unit tests: one program per file, linked with its folder and what that folder may include, nothing else
UNIT := $(wildcard tests/unit/*/test_*.c)
UNIT_BINS := $(patsubst %.c,$(B)/%,$(UNIT))
define unit_rules
$(patsubst %.c,$(B)/%,$(wildcard tests/unit/$(1)/test_*.c)): $(B)/tests/unit/$(1)/test_%: $(B)/obj/tests/unit/$(1)/test_%.o $(call objs_with_deps,$(1)) $(call prog_objs,tests/unit/$(1)/support*.c)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS_ALL) -o $$@ $$(filter %.o,$$^) $(call libs_with_deps,$(1)) -lcheck -lsubunit -lm -lrt -lpthread
.PHONY: unit-$(1)
unit-$(1): $(patsubst %.c,$(B)/%,$(wildcard tests/unit/$(1)/test_*.c))
	@set -e; for t in $$^; do echo "  TEST $$$$t"; CK_FORK=no $$$$t; done
endef
$(foreach f,$(FOLDERS),$(eval $(call unit_rules,$(f))))

# ---- simulation: the real consensus and state on a simulated disk, network and clock
SIM_OBJS := $(call prog_objs,tests/sim/*.c)
$(B)/tests/sim/sim: $(SIM_OBJS) $(foreach f,consensus $(DEPS_consensus) control $(DEPS_control),$(call obj_of,$(f)))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(sort $(filter %.o,$^)) $(LIBS_all)

# Whole nodes: lib/node and all below it as they are, over another body of lib/io; the linker sends the few system calls
# above lib/io, and what the simulator may break, to tests/sim/nodes (twin_file.c, wraps.c).
NODES_FOLDERS := $(filter-out io vm host history,$(call with_deps,node))
NODES_WRAPS := open close flock fstatfs statvfs stat faccessat unlink unlinkat opendir readdir closedir pthread_create \
  pthread_join $(addprefix blx__,vm_sim_open vm_sim_set_kill_at vm_microvm_open consensus_open consensus_propose consensus_deliver \
  state_end state_restore state_share state_share_index state_apply state_key_put placement_feasible rpc_call_reply rpc_call_send control_step load_read)
NODES_LIB := $(foreach f,$(NODES_FOLDERS),$(call obj_of,$(f))) \
  $(patsubst %,$(B)/obj/lib/%.o,io/sim io/sim_disk vm/sim vm/sim_session vm/hypervisor vm/cgroup)
$(B)/tests/sim/sim-nodes: $(call prog_objs,tests/sim/nodes/*.c) $(NODES_LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) $(NODES_WRAPS:%=-Wl,--wrap=%) -o $@ $^ -lraft -lnghttp2 -ljansson -lcrypto -lm

SEEDS ?= 1000
FROM ?= 1
sim: $(B)/tests/sim/sim sim-nodes ## simulate SEEDS clusters, beginning with seed FROM: members alone, then whole nodes
	@$< --seeds $(SEEDS) --from $(FROM)
.PHONY: sim-nodes
sim-nodes: $(B)/tests/sim/sim-nodes
	@$< --seeds $(SEEDS) --from $(FROM)

.PHONY: soak
soak: $(B)/tests/sim/sim $(B)/tests/sim/sim-nodes ## 50,000 simulations, 2,400 times open and close under AddressSanitizer
	@$(MAKE) --no-print-directory -j$$(nproc) B=build/asan SAN=address,undefined OPT="-O1 -g" build/asan/tests/unit/consensus/test_disk
	@CK_FORK=no BLX_CYCLES=2400 build/asan/tests/unit/consensus/test_disk
	@$< --seeds 50000 --from 1
	@$(B)/tests/sim/sim-nodes --seeds 10000 --from 1

# ---- fuzzing: one program for each file tests/fuzz/fuzz_*.c, by clang; $(MAKE) again, for a build tree of its own
FUZZ_SECONDS ?= $(or $(SECONDS),20)
FUZZ_FOLDERS := base schema lease placement state io consensus rpc vm
FUZZ_BINS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SUPPORT := $(wildcard tests/fuzz/support*.c tests/unit/schema/support*.c tests/unit/state/support*.c)
$(B)/obj/fuzz.a: $(FUZZ_SUPPORT:%.c=$(B)/obj/%.o) $(foreach f,$(FUZZ_FOLDERS),$(call obj_of,$(f)))
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^
$(FUZZ_BINS): $(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/fuzz.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS_all)
.PHONY: fuzz fuzz-bins
fuzz-bins: $(FUZZ_BINS)
FUZZ_MAKE = $(MAKE) --no-print-directory B=build/fuzz CC=clang SAN=fuzzer-no-link,address,undefined OPT="-O1 -g" fuzz-bins
fuzz: ## fuzz each decoder for FUZZ_SECONDS (20); what is found is kept below build/fuzz
	@$(FUZZ_MAKE) -j$$(nproc)
	@/usr/bin/python3 tests/fuzz/run.py --build build/fuzz --seconds $(FUZZ_SECONDS)

# ---- coverage by line, and data races; build trees of their own
COVERED := schema consensus
COVERAGE_MAKE = $(MAKE) --no-print-directory B=build/coverage OPT="-O1 -g" CFLAGS=--coverage LDFLAGS=--coverage
.PHONY: coverage tsan
coverage: ## line coverage of lib/schema and lib/consensus by their unit tests; fails below 90 %
	@$(COVERAGE_MAKE) -j$$(nproc) $(foreach f,$(COVERED),$(patsubst %.c,build/coverage/%,$(wildcard tests/unit/$(f)/test_*.c)))
	@find build/coverage -name '*.gcda' -delete
	@$(COVERAGE_MAKE) $(COVERED:%=unit-%) > build/coverage/log || { tail -40 build/coverage/log; exit 1; }
	@/usr/bin/python3 tests/coverage.py build/coverage $(COVERED)

TSAN_BINS := $(foreach f,io rpc client api consensus history,$(patsubst %.c,build/tsan/%,$(wildcard tests/unit/$(f)/test_*.c)))
tsan: ## unit tests of io, rpc, client, api, consensus and history under ThreadSanitizer
	@$(MAKE) --no-print-directory -j$$(nproc) B=build/tsan SAN=thread OPT="-O1 -g" $(TSAN_BINS)
	@TSAN_OPTIONS=halt_on_error=1:suppressions=$(CURDIR)/tests/tsan.supp $(RUN_TESTS) --unit $(TSAN_BINS)

# ---- all checks. The last line of each is `N passed, N failed, N skipped`
RUN_TESTS := /usr/bin/python3 tests/run.py
SIM_CHECK = "simulation:$(SEEDS)=$(B)/tests/sim/sim --seeds $(SEEDS) --from $(FROM)"
NODES_CHECK = "simulation of whole nodes:$(SEEDS)=$(B)/tests/sim/sim-nodes --seeds $(SEEDS) --from $(FROM)" \
  "invariants that notice:16=$(B)/tests/sim/sim-nodes --prove"
SCHEMA_CHECK = "stock protobuf:1=/usr/bin/python3 tests/schema/cross.py --bin $(B)/tests/schema/filter"
LINT_CHECK = "lint:1=$(MAKE) --no-print-directory B=$(B) lint"
FUZZ_CHECK = "fuzzing:$(words $(FUZZ_BINS))=$(MAKE) --no-print-directory FUZZ_SECONDS=10 fuzz"
COVERAGE_CHECK = "coverage:$(words $(COVERED))=$(MAKE) --no-print-directory coverage"
CLANG_CHECK = "clang:1=$(MAKE) --no-print-directory CC=clang B=build/clang -j2 all unit-bins"

.PHONY: unit-bins
unit-bins: $(UNIT_BINS) $(APART)

check: ## install what is needed, build, run every test
	@tools/quickstart/deps.sh
	@$(MAKE) --no-print-directory -j$$(nproc) all unit-bins $(B)/tests/sim/sim $(B)/tests/sim/sim-nodes $(B)/tests/schema/filter
	@$(MAKE) --no-print-directory -j$$(nproc) B=build/asan SAN=address,undefined OPT="-O1 -g" unit-bins \
	  build/asan/tests/sim/sim build/asan/tests/sim/sim-nodes
	@BLX_BUILD=$(B) $(RUN_TESTS) --unit $(UNIT_BINS) $(UNIT_BINS:$(B)/%=build/asan/%) \
	  --cmd $(SIM_CHECK) $(NODES_CHECK) $(SCHEMA_CHECK) $(LINT_CHECK) $(CLANG_CHECK) $(FUZZ_CHECK) $(COVERAGE_CHECK) \
	    "simulation under ASan and UBSan:20=build/asan/tests/sim/sim --seeds 20 --from 1" \
	    "simulation of whole nodes under ASan and UBSan:20=build/asan/tests/sim/sim-nodes --seeds 20 --from 1" \
	  --pytest tests/lint tests/schema tests/integration tests/campaign

check-fast: all unit-bins $(B)/tests/sim/sim $(B)/tests/sim/sim-nodes ## unit tests, a few simulations and lint, in under 3 minutes
	@BLX_BUILD=$(B) $(RUN_TESTS) --unit $(UNIT_BINS) \
	  --cmd $(LINT_CHECK) "simulation:20=$(B)/tests/sim/sim --seeds 20 --from 1" \
	    "simulation of whole nodes:20=$(B)/tests/sim/sim-nodes --seeds 20 --from 1"

asan: ## unit tests and simulation under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory -j$$(nproc) B=build/asan SAN=address,undefined OPT="-O1 -g" unit-bins build/asan/tests/sim/sim \
	  build/asan/tests/sim/sim-nodes
	@$(RUN_TESTS) --unit $(UNIT_BINS:$(B)/%=build/asan/%) --cmd "simulation:20=build/asan/tests/sim/sim --seeds 20 --from 1" \
	  "simulation of whole nodes:20=build/asan/tests/sim/sim-nodes --seeds 20 --from 1"

lint: $(B)/bin/schemagen ## house rules: includes, sizes, bans, format, stale outputs
	@/usr/bin/python3 tests/lint/lint.py --schemagen $(B)/bin/schemagen

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

clean: ## remove the build trees
	rm -rf build

# ---- schema: what derives from the tables is committed; `make lint` runs schema-check
schema: $(B)/bin/schemagen ## write anew what derives from lib/schema/*.def
	$(Q)mkdir -p docs/reference && $< $(UNLOCK) .
.PHONY: schema-check
schema-check: $(B)/bin/schemagen
	$(Q)$< --check .


# ---- what it takes to build and run; three nodes with guests on this machine; figures
deps: ## install what is missing of Debian's packages, fetch the guests' kernel
	@tools/quickstart/deps.sh

quickstart: ## three nodes and three guests on this machine, from nothing
	@tools/quickstart/deps.sh build run
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@BLX_BUILD=$(B) tools/quickstart/up.sh

quickstart-down: ## remove what quickstart made
	@BLX_BUILD=$(B) tools/quickstart/down.sh

$(B)/tests/bench/%: tests/bench/%.c $(SO)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) $(OPT) -Iinclude -Wl,-rpath,'$$ORIGIN/../../lib' -o $@ $< -L$(B)/lib -lblixard -lpthread

$(B)/tests/bench/schema: $(B)/obj/tests/bench/schema.o $(call objs_with_deps,schema)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(call libs_with_deps,schema)

$(B)/tests/bench/state: $(B)/obj/tests/bench/state.o $(call objs_with_deps,state)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(call libs_with_deps,state)

# How well it packs, through the public header as an embedder would, and as a leader; the trace is not ours to ship: OPENB names its folder.
OPENB ?= $(or $(BLX_OPENB),../shared/data/openb)
$(B)/tests/bench/quality: $(call prog_objs,tests/bench/quality*.c) $(call objs_with_deps,placement) $(SO)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -Wl,-rpath,'$$ORIGIN/../../lib' -o $@ $(filter %.o,$^) -L$(B)/lib -lblixard \
	  $(call libs_with_deps,placement) -lm

.PHONY: bench-quality bench-placement plots
bench-quality: $(B)/tests/bench/quality ## how well placement packs, beside other strategies; OPENB: the folder of the trace
	@$< '$(OPENB)' $(B)/tests/bench/quality.csv

bench-placement: $(B)/tests/bench/placement ## how fast placement decides, beside a scan of every node
	@$< $(B)/tests/bench/placement.csv

plots: ## docs/placement-*.svg anew, from what bench-quality and bench-placement wrote
	@/usr/bin/python3 tests/bench/plot.py $(B)/tests/bench/quality.csv $(B)/tests/bench/placement.csv docs

$(B)/tests/bench/placement: $(B)/obj/tests/bench/placement.o $(call objs_with_deps,placement)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(call libs_with_deps,placement)

# Members of examples/replicated_counter.c are killed, one and two at once; `check` does a few of these rounds.
.PHONY: soak soak-counter
soak: soak-counter
soak-counter: all
	@cd tests/integration && BLX_BUILD=$(B) BLX_COUNTER_ROUNDS=200 BLX_COUNTER_PAIRS=50 \
	  /usr/bin/python3 -m pytest -q -s -p no:cacheprovider test_counter.py

# A daemon with real guests dies at every place of lib/base/failpoint.h; `check` takes a third of them.
.PHONY: soak soak-failpoints
soak: soak-failpoints
soak-failpoints: all deps
	@cd tests/integration && BLX_BUILD=$(B) BLX_FAILPOINTS=all \
	  /usr/bin/python3 -m pytest -q -p no:cacheprovider test_failpoints.py test_failpoints_shim.py

# Real daemons in namespaces of their own, through every fault; `check` has each once. The last line is the sum.
CAMPAIGN_MINUTES ?= 60
.PHONY: soak soak-campaign
soak: soak-campaign
soak-campaign: all deps ## real daemons through faults of network, disk, clock and machine for CAMPAIGN_MINUTES (60)
	@cd tests/campaign && BLX_BUILD=$(B) BLX_CAMPAIGN_MINUTES=$(CAMPAIGN_MINUTES) \
	  /usr/bin/python3 -m pytest -q -s -p no:cacheprovider test_machines.py test_network.py
	@cd tests/campaign && set -o pipefail && BLX_BUILD=$(B) BLX_CAMPAIGN_MINUTES=$(CAMPAIGN_MINUTES) \
	  /usr/bin/python3 -m pytest -q -s -p no:cacheprovider test_campaign.py | tee $(CURDIR)/$(B)/campaign.log; \
	  status=$$?; grep '^campaign minutes=' $(CURDIR)/$(B)/campaign.log | tail -1; exit $$status

# Speaks gRPC by lib/rpc, to etcd as to us.
$(B)/tests/bench/rpc: $(B)/obj/tests/bench/rpc.o $(LIB_OBJS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_all)

# A worker's calls are members' own.
$(B)/tests/bench/workers: $(B)/obj/tests/bench/workers.o $(LIB_OBJS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_all)

$(B)/tests/bench/assign: $(B)/obj/tests/bench/assign.o $(call objs_with_deps,control)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(sort $^) $(LIBS_all)

# Its floor speaks over the members' own sockets, which only the inside knows.
$(B)/tests/bench/consensus: $(call prog_objs,tests/bench/consensus*.c) $(LIB_OBJS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_all)

.PHONY: bench-consensus
bench-consensus: $(B)/tests/bench/consensus
	@dir=$$(mktemp -d "$${BLX_BENCH_DIR:-/var/tmp}/blixard-bench-XXXXXX") && trap 'rm -rf "$$dir"' EXIT && $< "$$dir"

.PHONY: bench-snapshot
bench-snapshot: $(B)/tests/bench/snapshot
	@dir=$$(mktemp -d "$${BLX_BENCH_DIR:-/var/tmp}/blixard-bench-XXXXXX") && trap 'rm -rf "$$dir"' EXIT && $< "$$dir"

.PHONY: bench-etcd
bench-etcd: all $(B)/tests/bench/rpc
	@BLX_BUILD=$(B) tests/bench/etcd.py

.PHONY: bench-workers
bench-workers: all $(B)/tests/bench/workers ## what 2,000 idle workers (WORKERS) cost three servers: processor, memory, log entries
	@BLX_BUILD=$(abspath $(B)) /usr/bin/python3 tests/bench/scale.py

bench: all $(B)/tests/bench/create $(B)/tests/bench/workers $(B)/tests/bench/schema $(B)/tests/bench/state $(B)/tests/bench/quality $(B)/tests/bench/placement bench-consensus bench-snapshot bench-etcd ## print figures of consensus, creates and assignments a second, time to serve, real VMs, memory, size
	@BLX_BUILD=$(B) tests/bench/bench.py
	@BLX_BUILD=$(B) tests/bench/vms.py
	@$(B)/tests/bench/schema
	@$(B)/tests/bench/state
	@BLX_BUILD=$(B) tests/bench/failover.py
	@$(MAKE) --no-print-directory B=$(B) -k bench-placement bench-quality

# Everything goes below $(DESTDIR)$(PREFIX); the .pc file is made for this PREFIX, whatever the tree was built for.
install: all ## install into $(DESTDIR)$(PREFIX)
	@tools/quickstart/install.sh $(B) '$(DESTDIR)' '$(PREFIX)' $(VERSION) $(SOVERSION)
$(B)/tests/schema/filter: $(call prog_objs,tests/schema/*.c) $(call prog_objs,tests/unit/schema/support*.c) $(call objs_with_deps,schema)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(call libs_with_deps,schema)
.PHONY: schema-cross
schema-cross: $(B)/tests/schema/filter
	$(Q)tests/schema/cross.py --bin $<
