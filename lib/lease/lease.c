#include "lease/lease.h"

#include "schema/codec.h"
#include "schema/validate.h"

enum {
  QUESTIONS = 3,         /* that must fit before instances are paused */
  KILLER_MIN_MS = 200,   /* between the kill and the lease's end */
  MILLION = 1000 * 1000, /* parts of rate_ppm */
};

struct blx_lease_settings blx__lease_defaults(void) {
  struct blx_lease_settings s = BLX_LEASE_SETTINGS_INIT;
  s.renew_ms = 3000;
  s.lease_ms = 20000;
  s.kill_ms = 5000;
  s.watchdog_ms = 10000;
  s.margin_ms = 3000;
  s.rate_ppm = 5000;
  s.suspect_ms = 9000;
  return s;
}

static uint32_t part(uint32_t lease_ms, uint32_t of_default_ms, uint32_t least_ms) {
  uint64_t ms = (uint64_t)lease_ms * of_default_ms / 20000;
  return ms < least_ms ? least_ms : (uint32_t)ms;
}

struct blx_lease_settings blx__lease_scaled(uint32_t lease_ms) {
  struct blx_lease_settings s = blx__lease_defaults();
  BLX__ASSERT(lease_ms >= 2000 && lease_ms <= 400000);
  s.lease_ms = lease_ms;
  s.renew_ms = part(lease_ms, s.renew_ms, 100);
  s.kill_ms = part(lease_ms, s.kill_ms, 500);
  s.watchdog_ms = part(lease_ms, s.watchdog_ms, 1000);
  s.margin_ms = part(lease_ms, s.margin_ms, 100);
  s.suspect_ms = part(lease_ms, s.suspect_ms, 300);
  return s;
}

static uint32_t last_part(const struct blx_lease_settings *s) {
  return s->kill_ms * 2 / 5;
}

blx__rc blx__lease_check(const struct blx_lease_settings *s, blx_error *err) {
  BLX__TRY(blx__msg_validate(blx__desc_lease_settings(), s, err));
  if (s->kill_ms >= s->lease_ms || (uint64_t)QUESTIONS * s->renew_ms > s->lease_ms - s->kill_ms)
    return blx__fail(err, BLX_E_INVALID, "lease",
                     "lease_ms less kill_ms (%u - %u) must be at least three times renew_ms (%u): one lost question "
                     "would pause instances",
                     s->lease_ms, s->kill_ms, s->renew_ms);
  if (last_part(s) < KILLER_MIN_MS)
    return blx__fail(err, BLX_E_INVALID, "lease",
                     "kill_ms: %u is below %u: instances are killed when two fifths of it are left, and that must be "
                     "at least %d ms",
                     s->kill_ms, KILLER_MIN_MS * 5 / 2, (int)KILLER_MIN_MS);
  if (s->suspect_ms < 2 * s->renew_ms)
    return blx__fail(err, BLX_E_INVALID, "lease",
                     "suspect_ms: %u is below twice renew_ms (%u): one lost question would make a node suspect",
                     s->suspect_ms, s->renew_ms);
  if (s->suspect_ms > s->lease_ms)
    return blx__fail(err, BLX_E_INVALID, "lease",
                     "suspect_ms: %u is above lease_ms (%u): a node must be suspect before its lease ends",
                     s->suspect_ms, s->lease_ms);
  return BLX__OK;
}

uint64_t blx__lease_t_safe_ms(const struct blx_lease_settings *s, uint64_t lease_ms) {
  uint64_t ms = (lease_ms ? lease_ms : s->lease_ms) + s->watchdog_ms;
  uint64_t slack = (ms * s->rate_ppm + MILLION - 1) / MILLION;
  return ms + slack + s->margin_ms;
}

uint64_t blx__lease_pause_ms(const struct blx_lease_settings *s, uint64_t lease_ms) {
  return (lease_ms ? lease_ms : s->lease_ms) - s->kill_ms;
}

uint64_t blx__lease_kill_ms(const struct blx_lease_settings *s, uint64_t lease_ms) {
  return (lease_ms ? lease_ms : s->lease_ms) - last_part(s);
}

uint64_t blx__lease_fence_ms(const struct blx_lease_settings *s) {
  return s->lease_ms + s->lease_ms / 20; /* the answer's way, and the clocks' rates */
}
