/* shem.interrupts/1, host: the way from a virtio device to its driver beside the
 * used rings, from `activate` until `deactivate`. */
#ifndef SHEM_EXT_INTERRUPTS_H
#define SHEM_EXT_INTERRUPTS_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_INTERRUPTS "shem.interrupts/1"

typedef struct shem_host_interrupts {
  uint32_t struct_size;
  uint32_t reserved;

  /* [any] The device's configuration space has changed. -ENXIO: not active. */
  int32_t (*config_changed)(const shem_host_t *host);

  /* [any] The driver broke the protocol: it has to reset the device, which gets
   * no more kicks until then. -ENXIO: not active. */
  int32_t (*needs_reset)(const shem_host_t *host);
} shem_host_interrupts_t;
SHEM_LAYOUT(sizeof(shem_host_interrupts_t) == 24);

#ifdef __cplusplus
}
#endif

#endif
