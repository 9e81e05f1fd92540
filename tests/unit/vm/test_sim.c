#include "../harness.h"
#include "support.h"

#include <string.h>

static void open_sim(struct bench *b, struct blx__vm_sim_options o) {
  bench_open(b);
  o.on_event = bench_event;
  o.user = b;
  ck_assert_int_eq(blx__vm_sim_open(b->loop, &o, &b->driver, NULL).code, 0);
}

static struct blx__vm_desc desc(const char *name, uint64_t uid) {
  return (struct blx__vm_desc){.key = {.instance = name, .uid = uid, .epoch = 5}, .vcpus = 1, .memory_mib = 128};
}

START_TEST(sim__life_of_an_instance__is_that_of_a_real_one) {
  struct bench b;
  open_sim(&b, (struct blx__vm_sim_options){.prepare_ms = 1, .start_ms = 1, .ready_ms = 1, .stop_ms = 1});
  struct blx__vm_desc d = desc("web-1", 1);
  struct waited w = bench_start(&b, &d);
  ck_assert(w.failed && w.err.code == BLX_E_NOT_FOUND);
  ck_assert(!bench_prepare(&b, &d).failed);
  ck_assert_int_eq(bench_adopt(&b, &d.key).status.state, BLX__VM_PREPARED);
  ck_assert(!bench_start(&b, &d).failed);
  bench_wait_event(&b, BLX__VM_EVENT_READY, 1, 1);
  ck_assert_uint_eq(b.events[0].epoch, 5);
  ck_assert_uint_eq(blx__vm_sim_running(b.driver), 1);
  w = bench_destroy(&b, &d.key);
  ck_assert(w.failed && w.err.code == BLX_E_CONFLICT);
  w = bench_stop(&b, &d.key, 1000);
  ck_assert(!w.failed);
  ck_assert_uint_eq(bench_events(&b, BLX__VM_EVENT_EXITED, 1), 1);
  ck_assert_uint_eq(w.events_before, 2); /* the event first, then done */
  ck_assert(bench_last(&b, 1)->stopping);
  ck_assert(!bench_start(&b, &d).failed);
  ck_assert(blx__vm_sim_end(b.driver, &d.key, -1, 9));
  ck_assert(!blx__vm_sim_end(b.driver, &d.key, -1, 9));
  ck_assert_int_eq(bench_adopt(&b, &d.key).status.signal, 9);
  ck_assert(!bench_destroy(&b, &d.key).failed);
  ck_assert_int_eq(bench_adopt(&b, &d.key).status.state, BLX__VM_ABSENT);
  bench_close(&b);
}
END_TEST

START_TEST(sim__second_operation__is_refused_as_busy_and_a_stop_overtakes_a_prepare) {
  struct bench b;
  open_sim(&b, (struct blx__vm_sim_options){.prepare_ms = 1000000});
  struct blx__vm_desc d = desc("web-1", 1);
  struct waited first = {.bench = &b}, second = {.bench = &b};
  b.driver->ops->prepare(b.driver, &d, bench_done, &first);
  b.driver->ops->prepare(b.driver, &d, bench_done, &second);
  bench_wait_done(&b, &second);
  ck_assert(second.failed && second.err.code == BLX_E_BUSY);
  ck_assert(!bench_stop(&b, &d.key, 10).failed);
  bench_wait_done(&b, &first);
  ck_assert(first.failed && first.err.code == BLX_E_CANCELLED);
  bench_close(&b);
}
END_TEST

START_TEST(sim__kill__overtakes_a_stop) {
  struct bench b;
  open_sim(&b, (struct blx__vm_sim_options){.stop_ms = 1000000});
  struct blx__vm_desc d = desc("web-1", 1);
  struct waited stop = {.bench = &b};
  ck_assert(!bench_prepare(&b, &d).failed);
  ck_assert(!bench_start(&b, &d).failed);
  b.driver->ops->stop(b.driver, &d.key, 2000000, bench_done, &stop);
  ck_assert(!bench_kill(&b, &d.key).failed);
  bench_wait_done(&b, &stop);
  ck_assert(stop.failed && stop.err.code == BLX_E_CANCELLED);
  ck_assert_uint_eq(bench_events(&b, BLX__VM_EVENT_EXITED, 1), 1);
  bench_close(&b);
}
END_TEST

START_TEST(sim__told_to_fail_end_or_lie__does) {
  struct bench b;
  open_sim(
      &b, (struct blx__vm_sim_options){
              .fail_prepare_every = 3, .fail_start_every = 2, .exit_every = 1, .exit_after_ms = 300, .lie_dead = true});
  struct blx__vm_desc d[3] = {desc("web-1", 1), desc("web-2", 2), desc("web-3", 3)};
  ck_assert(!bench_prepare(&b, &d[0]).failed);
  ck_assert(!bench_prepare(&b, &d[1]).failed);
  ck_assert(bench_prepare(&b, &d[2]).failed);
  ck_assert(!bench_start(&b, &d[0]).failed);
  ck_assert(bench_start(&b, &d[1]).failed);
  bench_wait_event(&b, BLX__VM_EVENT_EXITED, 1, 1);
  ck_assert(!bench_last(&b, 1)->stopping);
  ck_assert(!bench_start(&b, &d[1]).failed);
  ck_assert(!bench_kill(&b, &d[1].key).failed);
  ck_assert_uint_eq(blx__vm_sim_running(b.driver), 1);
  bench_close(&b);
}
END_TEST

START_TEST(sim__closed_under_way__completes_with_cancelled_and_ends_readers) {
  struct bench b;
  open_sim(&b, (struct blx__vm_sim_options){.start_ms = 1000000});
  struct blx__vm_desc d = desc("web-1", 1);
  ck_assert(!bench_prepare(&b, &d).failed);
  struct reading r = {.bench = &b, .refuse = 1};
  struct blx__vm_logs *logs;
  blx__buf_init(&r.text, 4096);
  ck_assert_int_eq(
      b.driver->ops->logs(b.driver, &d.key, 10, true, bench_log_bytes, bench_log_end, &r, &logs, NULL).code, 0);
  bench_wait_text(&b, &r, "console of web-1\n");
  ck_assert_uint_eq(r.pieces, 1);
  ck_assert_uint_le(r.piece[0].at_ms, blx__loop_wall_ms(b.loop));
  ck_assert_uint_gt(r.piece[0].at_ms, blx__loop_wall_ms(b.loop) - 60000);
  struct waited w = {.bench = &b};
  b.driver->ops->start(b.driver, &d, bench_done, &w);
  bench_close(&b);
  ck_assert_uint_eq(w.times, 1);
  ck_assert(w.failed && w.err.code == BLX_E_CANCELLED);
  ck_assert(r.ended);
  blx__buf_free(&r.text);
}
END_TEST

START_TEST(sim__statistics__follow_a_rule_and_are_of_what_runs) {
  struct bench b;
  open_sim(&b, (struct blx__vm_sim_options){.ready_ms = 1});
  struct blx__vm_desc d = desc("web-1", 3), e = desc("web-2", 4);
  struct measured none = {.bench = &b}, last = {.bench = &b};
  ck_assert(!bench_prepare(&b, &d).failed && !bench_prepare(&b, &e).failed);
  ck_assert_int_eq(b.driver->ops->stats(b.driver, bench_measured, &none, NULL).code, 0);
  bench_wait_measured(&b, &none);
  ck_assert(none.code == 0 && none.count == 0);
  ck_assert(!bench_start(&b, &d).failed);
  struct blx__usage u = bench_usage(&b), later;
  ck_assert(u.has_cpu && u.has_memory && u.has_uptime && u.has_balloon && u.has_read && u.has_written);
  ck_assert(u.has_guest && u.guest_memory_bytes == 128 << 20 && u.guest_available_bytes == 125 << 20);
  do later = bench_usage(&b);
  while (later.at_us < u.at_us + 20000);
  ck_assert_uint_eq((later.cpu_us - u.cpu_us) * 100, (later.at_us - u.at_us) * (5 + 21)); /* 26 % for uid 3 */
  ck_assert_uint_eq(later.memory_bytes, 35 << 20);
  ck_assert_uint_eq(later.uptime_ms - u.uptime_ms, (later.at_us - u.at_us) / 1000);
  ck_assert_int_eq(b.driver->ops->stats(b.driver, bench_measured, &last, NULL).code, 0);
  bench_close(&b);
  ck_assert(last.times == 1 && last.code == BLX_E_CANCELLED && last.count == 0);
}
END_TEST

/* ---- on a host that outlives the driver */

static unsigned host_runs, host_ends;

static void on_run(void *user, const struct blx__vm_key *key, bool runs) {
  (void)user;
  ck_assert_uint_eq(key->epoch, 5);
  if (runs)
    host_runs++;
  else
    host_ends++;
}

static void open_on(struct bench *b, struct blx__vm_sim_host *host) {
  bench_open(b);
  host->on_run = on_run;
  host->options.on_event = bench_event;
  host->options.user = b;
  ck_assert_int_eq(blx__vm_sim_open_on(b->loop, host, &b->driver, NULL).code, 0);
}

START_TEST(sim__guests_on_a_host__outlive_their_driver_and_end_without_one) {
  struct bench b;
  struct blx__vm_sim_host host = {.options = {.ready_ms = 1}};
  struct blx__vm_desc d = desc("web-1", 1), other = desc("web-2", 2);
  host_runs = host_ends = 0;
  open_on(&b, &host);
  ck_assert(!bench_prepare(&b, &d).failed && !bench_prepare(&b, &other).failed);
  ck_assert(!bench_start(&b, &d).failed && !bench_start(&b, &other).failed);
  bench_wait_event(&b, BLX__VM_EVENT_READY, 1, 1);
  bench_close(&b);
  ck_assert_uint_eq(host_runs, 2);
  ck_assert_uint_eq(host_ends, 0);
  ck_assert(blx__vm_sim_host_end(&host, &other.key, 3, 0));
  ck_assert(!blx__vm_sim_host_end(&host, &other.key, 3, 0));
  open_on(&b, &host);
  ck_assert_int_eq(bench_adopt(&b, &d.key).status.state, BLX__VM_READY);
  struct waited w = bench_adopt(&b, &other.key);
  ck_assert_int_eq(w.status.state, BLX__VM_EXITED);
  ck_assert_int_eq(w.status.exit_status, 3);
  bench_close(&b);
  blx__vm_sim_host_power_off(&host);
  ck_assert_uint_eq(host_ends, 2);
  open_on(&b, &host);
  w = bench_adopt(&b, &d.key);
  ck_assert_int_eq(w.status.state, BLX__VM_EXITED);
  ck_assert_int_eq(w.status.exit_status, -1);
  ck_assert(!bench_destroy(&b, &d.key).failed);
  bench_close(&b);
  blx__vm_sim_host_free(&host);
}
END_TEST

START_TEST(sim__options_of_a_host__may_change_while_it_runs) {
  struct bench b;
  struct blx__vm_sim_host host = {.options = {.lie_start_every = 1, .fail_adopt_every = 1}};
  struct blx__vm_desc d = desc("web-1", 1);
  host_runs = host_ends = 0;
  open_on(&b, &host);
  ck_assert(!bench_prepare(&b, &d).failed);
  struct waited w = bench_start(&b, &d);
  ck_assert(w.failed && w.err.code == BLX_E_IO);
  ck_assert_uint_eq(host_runs, 1); /* and yet it runs */
  w = bench_adopt(&b, &d.key);
  ck_assert(w.failed && w.err.code == BLX_E_UNAVAILABLE);
  ck_assert(!bench_kill(&b, &d.key).failed);
  host.options.lie_start_every = host.options.fail_adopt_every = 0;
  ck_assert(!bench_start(&b, &d).failed);
  ck_assert_int_ne(bench_adopt(&b, &d.key).status.state, BLX__VM_EXITED);
  bench_close(&b);
  blx__vm_sim_host_free(&host);
}
END_TEST

START_TEST(hypervisors__absent_or_unknown_or_with_an_impossible_amount__say_why) {
  blx_error err;
  ck_assert_int_eq(blx__vm_hypervisor_check("qemu", 1, 128, &err).code, 0);
  ck_assert_int_eq(blx__vm_hypervisor_check(NULL, 3, 0, &err).code, 0);
  ck_assert_int_eq(blx__vm_hypervisor_check("qemu", 1, 2048, &err).code, BLX_E_INVALID);
  ck_assert_ptr_nonnull(strstr(err.message, "2048 MiB"));
  ck_assert_int_eq(blx__vm_hypervisor_check("cloud_hypervisor", 1, 128, &err).code, BLX_E_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(err.message, "not supported yet"));
  ck_assert_int_eq(blx__vm_hypervisor_check("firecracker", 1, 128, &err).code, BLX_E_UNSUPPORTED);
  ck_assert_int_eq(blx__vm_hypervisor_check("vmware", 1, 128, &err).code, BLX_E_INVALID);
}
END_TEST

BLX_TEST_MAIN("vm/sim", sim__life_of_an_instance__is_that_of_a_real_one,
              sim__second_operation__is_refused_as_busy_and_a_stop_overtakes_a_prepare, sim__kill__overtakes_a_stop,
              sim__told_to_fail_end_or_lie__does, sim__closed_under_way__completes_with_cancelled_and_ends_readers,
              sim__statistics__follow_a_rule_and_are_of_what_runs,
              sim__guests_on_a_host__outlive_their_driver_and_end_without_one,
              sim__options_of_a_host__may_change_while_it_runs,
              hypervisors__absent_or_unknown_or_with_an_impossible_amount__say_why)
