/* shem.guest-memory/1, host: the guest's RAM, for a virtio device from `activate`
 * until `deactivate`, by guest-physical address. Chains of a virtqueue come as
 * pointers already and need none of this.
 *
 * The guest changes its memory at any time, also under a reader: copy once, then
 * check the copy. */
#ifndef SHEM_EXT_GUEST_MEMORY_H
#define SHEM_EXT_GUEST_MEMORY_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_GUEST_MEMORY "shem.guest-memory/1"

/* A range of RAM that is contiguous for guest and host. Never changes. */
typedef struct shem_memory_region {
  uint64_t address; /* guest-physical */
  uint64_t len;
  void *data; /* where it is in this process */
} shem_memory_region_t;
SHEM_LAYOUT(sizeof(shem_memory_region_t) == 24);

typedef struct shem_host_guest_memory {
  uint32_t struct_size;
  uint32_t reserved;

  /* [any] Region `index`, from 0 on, in the order of addresses. Its pointer is
   * valid until `destroy` has returned; use it while the device is active.
   * -ENOENT: there are no more. -ENXIO: the device is not active. */
  int32_t (*region)(const shem_host_t *host, size_t index, shem_memory_region_t *region);

  /* [any] Copies `len` bytes out of RAM. -EFAULT: not all of it is RAM, and
   * `to` then holds anything. -ENXIO: the device is not active. */
  int32_t (*read)(const shem_host_t *host, uint64_t address, void *to, size_t len);

  /* [any] Copies `len` bytes into RAM. As `read`. */
  int32_t (*write)(const shem_host_t *host, uint64_t address, const void *from, size_t len);
} shem_host_guest_memory_t;
SHEM_LAYOUT(sizeof(shem_host_guest_memory_t) == 32);

#ifdef __cplusplus
}
#endif

#endif
