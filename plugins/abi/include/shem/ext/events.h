/* shem.events/1, both: descriptors and timers on the VMM's event loop. The host
 * waits for all of them, and calls the device.
 *
 * They can be added from `create` on. The loop runs while the guest does, and a
 * virtio device's is served while its driver uses it: what comes earlier waits. */
#ifndef SHEM_EXT_EVENTS_H
#define SHEM_EXT_EVENTS_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_EVENTS "shem.events/1"

/* What to wait for, and what has come: flags. */
#define SHEM_EVENT_READ 1u    /* readable, or the peer ended its side */
#define SHEM_EVENT_WRITE 2u   /* writable */
#define SHEM_EVENT_HANG_UP 4u /* only as an answer, always waited for: error or end */

/* The most descriptors and timers of one device. */
#define SHEM_EVENT_LIMIT 1024

typedef struct shem_host_events {
  uint32_t struct_size;
  uint32_t reserved;

  /* [any] Waits for `events` on `fd` and hands `token` to `on_event`, for as long
   * as it is so, not only when it becomes so (level-triggered). `events` may be 0.
   * `fd` stays the device's: it removes it before it closes it. -EEXIST: it is
   * there already. -ENOSPC: SHEM_EVENT_LIMIT. -EINVAL: unknown flag. Other
   * numbers are epoll_ctl(2)'s. */
  int32_t (*add)(const shem_host_t *host, int32_t fd, uint32_t events, uint64_t token);

  /* [any] Replaces what `fd` is waited for, and its token. -ENOENT: not added. */
  int32_t (*modify)(const shem_host_t *host, int32_t fd, uint32_t events, uint64_t token);

  /* [any] Ends the wait. When it is called inside of a callback, `on_event` is
   * not called for `fd` any more; otherwise a call may be under way. -ENOENT: not
   * added. */
  int32_t (*remove)(const shem_host_t *host, int32_t fd);

  /* [any] Sets the timer named `token` to ring after `after_ns` nanoseconds and
   * then, unless `period_ns` is 0, in each such period. `after_ns` 0 ends the
   * timer. A ring that has not been told yet is forgotten. -ENOSPC:
   * SHEM_EVENT_LIMIT. */
  int32_t (*set_timer)(const shem_host_t *host, uint64_t token, uint64_t after_ns,
                       uint64_t period_ns);
} shem_host_events_t;
SHEM_LAYOUT(sizeof(shem_host_events_t) == 40);

typedef struct shem_device_events {
  uint32_t struct_size;
  uint32_t reserved;

  /* [loop], required. `events` (SHEM_EVENT_*) hold for `fd`. Comes again until
   * they do not. A negative number fails the device. */
  int32_t (*on_event)(shem_device_t *device, int32_t fd, uint32_t events, uint64_t token);

  /* [loop], required if `set_timer` is used. The timer named `token` has rung, once
   * or, if the loop was late, more often. A negative number fails the device. */
  int32_t (*on_timer)(shem_device_t *device, uint64_t token);
} shem_device_events_t;
SHEM_LAYOUT(sizeof(shem_device_events_t) == 24);

#ifdef __cplusplus
}
#endif

#endif
