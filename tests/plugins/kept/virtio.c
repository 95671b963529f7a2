/* A virtio device that copies what it reads to where it may write, each byte plus
 * one, and whose configuration space is four bytes. */
#include "kept.h"

typedef struct {
  shem_device_t device;
  const shem_host_t *host;
  uint8_t space[4];
  int active;
} copier_t;

static copier_t copiers[DEVICES];

static copier_t *of(shem_device_t *device) { return device->plugin_data; }

static void read_config(shem_device_t *device, uint64_t offset, void *data, size_t len) {
  for (size_t i = 0; i < len && offset < 4 && offset + i < 4; i++)
    ((uint8_t *)data)[i] = of(device)->space[offset + i];
}
static void write_config(shem_device_t *device, uint64_t offset, const void *data, size_t len) {
  for (size_t i = 0; i < len && offset < 4 && offset + i < 4; i++)
    of(device)->space[offset + i] = ((const uint8_t *)data)[i];
}
static int32_t activate(shem_device_t *device) {
  of(device)->active = 1;
  return 0;
}
static void deactivate(shem_device_t *device) { of(device)->active = 0; }

static int32_t queue_ready(shem_device_t *device, uint16_t queue) {
  const shem_host_t *host = of(device)->host;
  const shem_host_virtio_t *virtio = host->get_extension(host, shem_str(SHEM_EXT_VIRTIO_DEVICE));
  shem_chain_t chain = {.struct_size = sizeof(chain)};
  if (!of(device)->active) return -EINVAL;
  while (virtio->pop(host, queue, &chain) == 1) {
    uint32_t written = 0;
    size_t piece = 0, at = 0;
    for (size_t out = 0; out < chain.writable_count; out++)
      for (size_t i = 0; i < chain.writable[out].len; i++) {
        while (piece < chain.readable_count && at == chain.readable[piece].len) piece++, at = 0;
        if (piece == chain.readable_count) break;
        const uint8_t *from = chain.readable[piece].data;
        ((uint8_t *)chain.writable[out].data)[i] = (uint8_t)(from[at++] + 1);
        written++;
      }
    virtio->complete(host, queue, chain.head, written);
  }
  return 0;
}

static const uint16_t sizes[] = {64};
static const shem_virtio_device_t virtio = {
    .struct_size = sizeof(virtio), .device_type = 42, .features = 5, .queue_sizes = sizes,
    .queue_count = 1, .read_config = read_config, .write_config = write_config,
    .activate = activate, .queue_ready = queue_ready, .deactivate = deactivate};

static const void *get_extension(shem_device_t *device, shem_str_t id) {
  (void)device;
  return shem_str_is(id, SHEM_EXT_VIRTIO_DEVICE) ? &virtio : NULL;
}

static void destroy(shem_device_t *device) { device->struct_size = 0; }

static int32_t create(const shem_host_t *host, shem_str_t id, shem_str_t config,
                      shem_device_t **device) {
  (void)id, (void)config;
  for (int i = 0; i < DEVICES; i++) {
    shem_device_t *free = &copiers[i].device;
    if (free->struct_size) continue;
    copiers[i].host = host;
    free->plugin_data = &copiers[i];
    free->get_extension = get_extension;
    free->destroy = destroy;
    free->struct_size = sizeof(shem_device_t);
    *device = free;
    return 0;
  }
  host->set_error(host, shem_str("there are 8 devices"));
  return -ENOSPC;
}

PLUGIN("kept-virtio", create)
