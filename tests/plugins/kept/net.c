/* A cable with both ends in the guest, that holds a few frames, those of a host that
 * flushes until it does. */
#include "kept.h"

#define FRAMES 4
#define FRAME 1514

typedef struct {
  shem_device_t device;
  const shem_host_t *host;
  uint32_t interest;
  uint32_t first, count, held;
  uint16_t flushes;
  uint32_t lens[FRAMES];
  uint8_t frames[FRAMES][FRAME];
} cable_t;

static cable_t cables[DEVICES];

static cable_t *of(shem_device_t *device) { return device->plugin_data; }

static int32_t tell(cable_t *cable) {
  const shem_host_net_t *net =
      cable->host->get_extension(cable->host, shem_str(SHEM_EXT_NET_BACKEND));
  uint32_t now = 0;
  if (cable->count > cable->held) now |= SHEM_NET_RECEIVE;
  if (cable->count < FRAMES) now |= SHEM_NET_SEND;
  now &= cable->interest;
  return now ? net->ready(cable->host, 0, now) : 0;
}

static int32_t describe(shem_device_t *device, shem_net_info_t *info) {
  (void)device;
  info->queue_pairs = 1;
  info->max_frame = FRAME;
  return 0;
}
static int32_t start(shem_device_t *device, const shem_net_setup_t *setup) {
  of(device)->first = of(device)->count = of(device)->held = of(device)->interest = 0;
  of(device)->flushes = setup->flushes;
  return setup->queue_pairs == 1 ? 0 : -EINVAL;
}
static void stop(shem_device_t *device) { of(device)->interest = 0; }
static int32_t set_interest(shem_device_t *device, uint16_t queue, uint32_t directions) {
  (void)queue;
  of(device)->interest = directions;
  return tell(of(device));
}

static int32_t send_frame(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                          size_t count) {
  cable_t *cable = of(device);
  size_t len = 0;
  (void)queue;
  for (size_t i = 0; i < count; i++) len += pieces[i].len;
  if (len == 0 || len > FRAME) return -EMSGSIZE;
  if (cable->count == FRAMES) return -EAGAIN;
  uint32_t slot = (cable->first + cable->count++) % FRAMES;
  cable->lens[slot] = (uint32_t)len;
  len = 0;
  for (size_t i = 0; i < count; len += pieces[i].len, i++)
    memcpy(cable->frames[slot] + len, pieces[i].data, pieces[i].len);
  if (!cable->flushes) return tell(cable);
  cable->held++;
  return 0;
}

static int32_t flush(shem_device_t *device, uint16_t queue) {
  (void)queue;
  of(device)->held = 0;
  return tell(of(device));
}

static int32_t receive(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                       size_t count) {
  cable_t *cable = of(device);
  size_t at = 0;
  (void)queue;
  if (cable->count == cable->held) return -EAGAIN;
  uint32_t slot = cable->first, len = cable->lens[slot];
  for (size_t i = 0; i < count && at < len; i++) {
    size_t part = pieces[i].len < len - at ? pieces[i].len : len - at;
    memcpy(pieces[i].data, cable->frames[slot] + at, part);
    at += part;
  }
  cable->first = (cable->first + 1) % FRAMES;
  cable->count--;
  tell(cable);
  return (int32_t)len;
}

static const shem_net_backend_t net = {
    .struct_size = sizeof(net), .describe = describe, .start = start, .stop = stop,
    .set_interest = set_interest, .send = send_frame, .receive = receive, .flush = flush};

static const void *get_extension(shem_device_t *device, shem_str_t id) {
  (void)device;
  return shem_str_is(id, SHEM_EXT_NET_BACKEND) ? &net : NULL;
}

static void destroy(shem_device_t *device) { device->struct_size = 0; }

static int32_t create(const shem_host_t *host, shem_str_t id, shem_str_t config,
                      shem_device_t **device) {
  (void)id, (void)config;
  for (int i = 0; i < DEVICES; i++) {
    shem_device_t *free = &cables[i].device;
    if (free->struct_size) continue;
    cables[i].host = host;
    free->plugin_data = &cables[i];
    free->get_extension = get_extension;
    free->destroy = destroy;
    free->struct_size = sizeof(shem_device_t);
    *device = free;
    return 0;
  }
  host->set_error(host, shem_str("there are 8 devices"));
  return -ENOSPC;
}

PLUGIN("kept-net", create)
