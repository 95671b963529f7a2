/* shem.virtio-device/1, both: a whole virtio device (VIRTIO 1.2). The plugin is
 * the device; the host holds its transport, its status machine and its rings, and
 * hands out descriptor chains as memory.
 *
 *            ack_features         activate
 *   [reset] ─────────────▶ [set] ─────────▶ [active: queue_ready, pop, complete]
 *      ▲                                        │
 *      └────────────── deactivate ◀─────────────┘
 *
 * The guest chooses everything that arrives here. */
#ifndef SHEM_EXT_VIRTIO_DEVICE_H
#define SHEM_EXT_VIRTIO_DEVICE_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_VIRTIO_DEVICE "shem.virtio-device/1"

/* The most queues of a device, and the most descriptors of one. */
#define SHEM_VIRTIO_QUEUES 64
#define SHEM_VIRTIO_QUEUE_SIZE 1024

/* A descriptor chain: what the driver has written for the device (`readable`) and
 * where the device is to write (`writable`). The pieces lie in guest memory, which
 * the guest may change meanwhile. They are the host's and valid until the chain
 * is completed or the device deactivated. The caller sets `struct_size`. */
typedef struct shem_chain {
  uint32_t struct_size;
  uint16_t head; /* names the chain for `complete` */
  uint16_t reserved;
  const shem_iovec_t *readable;
  size_t readable_count;
  const shem_iovec_t *writable;
  size_t writable_count;
} shem_chain_t;
SHEM_LAYOUT(sizeof(shem_chain_t) == 40);

typedef struct shem_host_virtio {
  uint32_t struct_size;
  uint32_t reserved;

  /* [any] Takes the next chain of queue `queue`. 1: `*chain` is one. 0: there is
   * none, and `queue_ready` will be called for the next. A chain that is no memory
   * comes with no pieces. -ENXIO: not active, or the driver left the queue
   * unused. -EIO: the driver broke the rings, and has been told to reset. */
  int32_t (*pop)(const shem_host_t *host, uint16_t queue, shem_chain_t *chain);

  /* [any] Gives a chain back with `written` bytes in its writable pieces. Each
   * chain goes back once, in any order. -ENOENT: no such chain is out. -EINVAL:
   * more than its writable pieces hold; it is still out. Else as `pop`. */
  int32_t (*complete)(const shem_host_t *host, uint16_t queue, uint16_t head,
                      uint32_t written);

  /* [any] Interrupts the driver if chains went back since the last time and it
   * wants to know. The host does this by itself after `queue_ready`, `on_event`
   * and `on_timer`. As `pop`. */
  int32_t (*notify)(const shem_host_t *host, uint16_t queue);
} shem_host_virtio_t;
SHEM_LAYOUT(sizeof(shem_host_virtio_t) == 32);

typedef struct shem_virtio_device {
  uint32_t struct_size;
  uint32_t device_type; /* VIRTIO 1.2 section 5: 4 is an entropy source */

  /* Feature bits of the device type: 0 to 23 and 50 to 63. */
  uint64_t features;

  /* Most descriptors of each queue: powers of two. */
  const uint16_t *queue_sizes;
  size_t queue_count;

  /* [vcpu], optional. The driver accepted these of `features`. */
  void (*ack_features)(shem_device_t *device, uint64_t features);

  /* [vcpu], optional. Fills `data`, already zero, from configuration space. The
   * guest chooses offset and length; beyond the end nothing is written. */
  void (*read_config)(shem_device_t *device, uint64_t offset, void *data, size_t len);

  /* [vcpu], optional. The driver wrote `data` to configuration space. */
  void (*write_config)(shem_device_t *device, uint64_t offset, const void *data, size_t len);

  /* [vcpu], required. The driver is ready. Chains can be taken from now on, and
   * those that are there already are told by `queue_ready`. A negative number
   * leaves the device inactive and tells the driver to reset it, after which it
   * may try again: it is not a failure of the device. */
  int32_t (*activate)(shem_device_t *device);

  /* [loop], required. Queue `queue` may have chains: take them until there is
   * none, or call `pop` again later. Called once after `activate` for each queue
   * in use, then for each kick. A negative number fails the device. */
  int32_t (*queue_ready)(shem_device_t *device, uint16_t queue);

  /* [vcpu] or [owner] or [loop], required. The driver reset the device or the VM
   * ends. All chains are forgotten; when it returns the device touches no guest
   * memory. Only called when the device is active. */
  void (*deactivate)(shem_device_t *device);
} shem_virtio_device_t;
SHEM_LAYOUT(sizeof(shem_virtio_device_t) == 80);

#ifdef __cplusplus
}
#endif

#endif
