/* shem.guest-config/1, host: what the guest is, and what a device adds to it. */
#ifndef SHEM_EXT_GUEST_CONFIG_H
#define SHEM_EXT_GUEST_CONFIG_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_GUEST_CONFIG "shem.guest-config/1"

/* The guest as it will be. The caller sets `struct_size`. */
typedef struct shem_guest {
  uint32_t struct_size;
  uint32_t vcpus;
  uint64_t memory; /* RAM in bytes */
} shem_guest_t;
SHEM_LAYOUT(sizeof(shem_guest_t) == 16);

/* Each `add_…` is allowed in `create` and in the lifecycle's `before_boot`: later
 * it is -EBUSY. What is added twice is there once. -EINVAL: not a name or path of
 * that kind. -ENOSPC: SHEM_GUEST_CONFIG_LIMIT of a kind. */
#define SHEM_GUEST_CONFIG_LIMIT 256

typedef struct shem_host_guest_config {
  uint32_t struct_size;
  uint32_t reserved;

  /* [any] Writes at most `guest->struct_size` bytes. */
  int32_t (*describe)(const shem_host_t *host, shem_guest_t *guest);

  /* [call] A variable of every process in the guest, unless the process or the
   * image sets it. */
  int32_t (*add_env)(const shem_host_t *host, shem_str_t name, shem_str_t value);

  /* [call] A kernel module to load before the guest's devices are used, by its
   * name in the kernel pack. */
  int32_t (*add_module)(const shem_host_t *host, shem_str_t name);

  /* [call] A Golem image at an absolute path of the host, read-only below the
   * image's own files. */
  int32_t (*add_layer)(const shem_host_t *host, shem_str_t path);

  /* [call] A folder at an absolute path of the host, mounted at an absolute path
   * of the guest, read-only. */
  int32_t (*add_mount)(const shem_host_t *host, shem_str_t source, shem_str_t target);
} shem_host_guest_config_t;
SHEM_LAYOUT(sizeof(shem_host_guest_config_t) == 48);

#ifdef __cplusplus
}
#endif

#endif
