/* shem.lifecycle/1, plugin: what a device does around its VM's life.
 *
 *   create → before_boot → (guest boots) → agent_ready → join_network …
 *          → before_stop → destroy */
#ifndef SHEM_EXT_LIFECYCLE_H
#define SHEM_EXT_LIFECYCLE_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_LIFECYCLE "shem.lifecycle/1"

/* All are optional and called at most once, `join_network` excepted. */
typedef struct shem_lifecycle {
  uint32_t struct_size;
  uint32_t reserved;

  /* [owner] Every device is made and nothing runs: the last moment to open files
   * and to add to the guest's configuration. A negative number refuses, and the VM
   * does not start. */
  int32_t (*before_boot)(shem_device_t *device);

  /* [owner] The guest's agent answers. A negative number ends the VM. */
  int32_t (*agent_ready)(shem_device_t *device);

  /* [owner] The VM joins the network that the JSON object `network` describes.
   * A negative number refuses that and nothing else. */
  int32_t (*join_network)(shem_device_t *device, shem_str_t network);

  /* [owner] The VM is about to stop, for whatever reason: the guest may run no
   * more. */
  void (*before_stop)(shem_device_t *device);
} shem_lifecycle_t;
SHEM_LAYOUT(sizeof(shem_lifecycle_t) == 40);

#ifdef __cplusplus
}
#endif

#endif
