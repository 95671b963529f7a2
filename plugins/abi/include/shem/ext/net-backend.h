/* shem.net-backend/1, both: Ethernet frames in and out, behind the VMM's own
 * virtio-net frontend, which alone deals with the guest and its queues. A backend
 * never sees a descriptor; frames lie in guest memory, from where they can go to a
 * descriptor of the backend without a copy.
 *
 * Readiness is told, never polled: the frontend says by `set_interest` what it
 * waits for, and the backend says by the host's `ready` that it may try again. A
 * backend adds its descriptors by shem.events/1 and tells from `on_event`. */
#ifndef SHEM_EXT_NET_BACKEND_H
#define SHEM_EXT_NET_BACKEND_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_NET_BACKEND "shem.net-backend/1"

/* Offloads: flags. A frame that uses one says so in its header, so that each
 * needs one. The first half is what the guest may send, the second what it may
 * be sent. */
#define SHEM_NET_SEND_CHECKSUM 0x01u
#define SHEM_NET_SEND_TSO4 0x02u
#define SHEM_NET_SEND_TSO6 0x04u
#define SHEM_NET_SEND_USO 0x08u
#define SHEM_NET_RECEIVE_CHECKSUM 0x100u
#define SHEM_NET_RECEIVE_TSO4 0x200u
#define SHEM_NET_RECEIVE_TSO6 0x400u
#define SHEM_NET_RECEIVE_USO 0x800u

/* Directions: flags. */
#define SHEM_NET_RECEIVE 1u /* a frame for the guest has come */
#define SHEM_NET_SEND 2u    /* a frame of the guest's can go */

#define SHEM_NET_QUEUE_PAIRS 8 /* the most queue pairs */
#define SHEM_NET_HEADER 12     /* struct virtio_net_hdr_v1, VIRTIO 1.2 section 5.1.6 */

/* What a backend can do. Made by the host with `struct_size` set and all else 0. */
typedef struct shem_net_info {
  uint32_t struct_size;
  uint32_t offloads;    /* SHEM_NET_SEND_…, SHEM_NET_RECEIVE_…, if `header` */
  uint16_t queue_pairs; /* 1 to SHEM_NET_QUEUE_PAIRS */
  uint16_t mtu;         /* 68 to 65535, without the Ethernet header; 0: say nothing */
  uint8_t mac[6];       /* all 0: the host makes one */
  uint8_t header;       /* 1: each frame begins with SHEM_NET_HEADER bytes */
  uint8_t link_down;    /* 1: no link yet */
  uint32_t max_frame;   /* longest frame either way, header included, 60 to 65562 */
} shem_net_info_t;
SHEM_LAYOUT(sizeof(shem_net_info_t) == 24);

/* What the guest's driver has accepted of it. */
typedef struct shem_net_setup {
  uint32_t struct_size;
  uint32_t offloads;
  uint16_t queue_pairs;
  uint16_t flushes; /* 1: `flush` follows the last of some frames. Since 1.1 */
  uint16_t reserved[2];
} shem_net_setup_t;
SHEM_LAYOUT(sizeof(shem_net_setup_t) == 16);

typedef struct shem_host_net {
  uint32_t struct_size;
  uint32_t reserved;

  /* [call] The `directions` (SHEM_NET_RECEIVE, SHEM_NET_SEND) of queue pair
   * `queue` are worth another try: when this callback has returned, the frontend
   * calls `receive` or `send`. Too often is harmless. -EINVAL: no such queue or
   * direction. */
  int32_t (*ready)(const shem_host_t *host, uint16_t queue, uint32_t directions);

  /* [call] The link is there (1) or not (0), which the guest sees. */
  int32_t (*link)(const shem_host_t *host, uint32_t up);
} shem_host_net_t;
SHEM_LAYOUT(sizeof(shem_host_net_t) == 24);

typedef struct shem_net_backend {
  uint32_t struct_size;
  uint32_t reserved;

  /* [owner], required. Says what the backend can do. Called once, after `create`. A
   * negative number refuses, and the VM does not start. */
  int32_t (*describe)(shem_device_t *device, shem_net_info_t *info);

  /* [vcpu] or [loop], required. The driver is ready: frames will go, with no
   * interest in any direction yet. A negative number leaves the device inactive;
   * the driver may try again. Comes again, after `stop`, when the driver uses
   * another number of queue pairs. */
  int32_t (*start)(shem_device_t *device, const shem_net_setup_t *setup);

  /* [vcpu] or [owner] or [loop], required. The driver reset the device or the VM
   * ends: when it returns no frame memory is touched. Only called when started. */
  void (*stop)(shem_device_t *device);

  /* [vcpu] or [loop], required. From now on call `ready` for these directions of
   * `queue` whenever it is so, at once if it is so now; and for the others not.
   * Without interest a full backend or a full guest costs nothing. */
  int32_t (*set_interest)(shem_device_t *device, uint16_t queue, uint32_t directions);

  /* [loop], required. Sends one frame, header first if there is one, in at most 64
   * pieces of guest memory. 0: it went, was copied to go at `flush`, or was dropped
   * for good. -EAGAIN: not now; the frontend keeps it and sets its interest.
   * -EMSGSIZE: too long or too short; dropped and counted. Other negative numbers
   * fail the device. */
  int32_t (*send)(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                  size_t count);

  /* [loop], required. Receives one frame, header first if there is one, into
   * `pieces`, which hold `max_frame` bytes or more. Its length, 1 to `max_frame`.
   * -EAGAIN: none; the frontend sets its interest. -EMSGSIZE: one that did not
   * fit; dropped and counted. 0 and other negative numbers fail the device. */
  int32_t (*receive)(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                     size_t count);

  /* [loop]. There are no more frames to send on `queue` for now: those that `send`
   * has taken and kept are to go together, and what does not go now goes as soon as
   * it can. A negative number fails the device. Only called after `send`, and only
   * where `flushes` of shem_net_setup_t is 1. Since 1.1. */
  int32_t (*flush)(shem_device_t *device, uint16_t queue);
} shem_net_backend_t;
SHEM_LAYOUT(sizeof(shem_net_backend_t) == 64);

#ifdef __cplusplus
}
#endif

#endif
