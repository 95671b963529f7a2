/* Devices that break a rule that only shows in use: the one that their configuration
 * names, as in {"do": "crash"}. With another word they are sound. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <shem/ext/events.h>
#include <shem/ext/guest-memory.h>
#include <shem/ext/net-backend.h>
#include <shem/ext/virtio-device.h>

typedef struct {
  shem_device_t device;
  const shem_host_t *host;
  char word[32];
  int fd;
  uint16_t *used; /* in guest memory, once it has been active */
} bad_t;

static bad_t *of(shem_device_t *device) { return device->plugin_data; }

static int is(const bad_t *bad, const char *word) { return strcmp(bad->word, word) == 0; }

static void *for_ever(void *data) {
  for (;;) pause();
  return data;
}

/* What is wrong in any callback, and in create. */
static int32_t misbehave(bad_t *bad) {
  if (is(bad, "crash")) *(volatile int *)8 = 1;
  if (is(bad, "abort")) abort();
  if (is(bad, "exit")) _exit(7);
  if (is(bad, "hang")) for_ever(NULL);
  if (is(bad, "mute")) return -EINVAL;
  if (is(bad, "thread")) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, for_ever, NULL)) return -EAGAIN;
  }
  if (is(bad, "descriptor") && eventfd(0, 0) < 0) return -errno;
  if (is(bad, "overrun") || is(bad, "leak")) {
    volatile char *bytes = malloc(13);
    if (is(bad, "overrun")) bytes[13] = 1;
    if (is(bad, "overrun")) free((void *)bytes);
  }
  return 0;
}

/* off the bus: a descriptor that is ready for ever */

static int32_t on_event(shem_device_t *device, int32_t fd, uint32_t events, uint64_t token) {
  (void)device, (void)fd, (void)events, (void)token;
  return 0;
}
static const shem_device_events_t events = {sizeof(events), 0, on_event, NULL};

/* virtio: does not know that a driver can break its rings, or goes on when it is not
 * active */

#define USED_INDEX 0x1202 /* where the check's driver has it */

static void read_config(shem_device_t *device, uint64_t offset, void *data, size_t len) {
  (void)offset, (void)data, (void)len;
  if (of(device)->used) ++*of(device)->used;
}

static int32_t activate(shem_device_t *device) {
  bad_t *bad = of(device);
  const shem_host_guest_memory_t *memory =
      bad->host->get_extension(bad->host, shem_str(SHEM_EXT_GUEST_MEMORY));
  shem_memory_region_t region;
  if (!is(bad, "late")) return 0;
  if (memory->region(bad->host, 0, &region)) return -EIO;
  bad->used = (uint16_t *)((char *)region.data + USED_INDEX);
  return 0;
}
static int32_t queue_ready(shem_device_t *device, uint16_t queue) {
  const shem_host_t *host = of(device)->host;
  const shem_host_virtio_t *virtio = host->get_extension(host, shem_str(SHEM_EXT_VIRTIO_DEVICE));
  shem_chain_t chain = {.struct_size = sizeof(chain)};
  int32_t got;
  while ((got = virtio->pop(host, queue, &chain)) == 1)
    virtio->complete(host, queue, chain.head, 0);
  return is(of(device), "rings") ? got : 0;
}
static void deactivate(shem_device_t *device) { (void)device; }
static const uint16_t sizes[] = {64};
static const shem_virtio_device_t virtio = {
    .struct_size = sizeof(virtio), .device_type = 42, .queue_sizes = sizes, .queue_count = 1,
    .read_config = read_config, .activate = activate, .queue_ready = queue_ready,
    .deactivate = deactivate};

/* net: drops what it is sent */

static int32_t describe(shem_device_t *device, shem_net_info_t *info) {
  (void)device;
  info->queue_pairs = 1;
  info->max_frame = 1514;
  return 0;
}
static int32_t start(shem_device_t *device, const shem_net_setup_t *setup) {
  (void)device, (void)setup;
  return 0;
}
static void stop(shem_device_t *device) { (void)device; }
static int32_t set_interest(shem_device_t *device, uint16_t queue, uint32_t directions) {
  const shem_host_t *host = of(device)->host;
  const shem_host_net_t *net = host->get_extension(host, shem_str(SHEM_EXT_NET_BACKEND));
  if (is(of(device), "silent")) return 0;
  return net->ready(host, queue, directions & SHEM_NET_SEND);
}
static int32_t send_frame(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                          size_t count) {
  (void)device, (void)queue, (void)pieces, (void)count;
  return 0;
}
static int32_t receive(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                       size_t count) {
  (void)queue;
  if (!is(of(device), "beyond")) return -EAGAIN;
  memset(pieces[count - 1].data, 0, pieces[count - 1].len + 1);
  return 60;
}
static const shem_net_backend_t net = {
    .struct_size = sizeof(net), .describe = describe, .start = start, .stop = stop,
    .set_interest = set_interest, .send = send_frame, .receive = receive};

static const void *get_extension(shem_device_t *device, shem_str_t id) {
  bad_t *bad = of(device);
  if (shem_str_is(id, SHEM_EXT_EVENTS)) return &events;
  if (shem_str_is(id, SHEM_EXT_VIRTIO_DEVICE) && (is(bad, "rings") || is(bad, "late")))
    return &virtio;
  if (shem_str_is(id, SHEM_EXT_NET_BACKEND) && (is(bad, "silent") || is(bad, "beyond")))
    return &net;
  return NULL;
}

static void destroy(shem_device_t *device) {
  if (of(device)->fd >= 0) close(of(device)->fd);
  free(of(device));
}

/* The configuration is {"do":"WORD"}, or empty. */
static int32_t create(const shem_host_t *host, shem_str_t id, shem_str_t config,
                      shem_device_t **device) {
  bad_t *bad = calloc(1, sizeof(*bad));
  (void)id;
  if (!bad) return -ENOMEM;
  bad->device = (shem_device_t){sizeof(shem_device_t), 0, bad, get_extension, destroy};
  bad->host = host;
  bad->fd = -1;
  for (size_t i = 7; i + 2 < config.len && i < 7 + sizeof(bad->word) - 1; i++)
    bad->word[i - 7] = config.data[i];
  if (is(bad, "spin")) {
    const shem_host_events_t *loop = host->get_extension(host, shem_str(SHEM_EXT_EVENTS));
    bad->fd = eventfd(1, 0);
    loop->add(host, bad->fd, SHEM_EVENT_READ, 0);
  }
  int32_t outcome = misbehave(bad);
  *device = &bad->device;
  if (outcome) free(bad);
  return outcome;
}

static const shem_driver_t driver = {
    .struct_size = sizeof(driver), .name = SHEM_STR("bad"), .summary = SHEM_STR("Breaks rules"),
    .config_schema = SHEM_STR("{\"properties\":{\"do\":{\"type\":\"string\"}},\"additionalProperties\":false}"),
    .create = create};
/* Checks nothing of its configuration and says so nowhere. */
static const shem_driver_t open_driver = {
    .struct_size = sizeof(driver), .name = SHEM_STR("bad-open"), .create = create};
static const shem_driver_t *const drivers[] = {&driver, &open_driver};

const shem_plugin_entry_t shem_plugin_entry = {
    .struct_size = sizeof(shem_plugin_entry), .abi_major = SHEM_ABI_MAJOR,
    .abi_minor = SHEM_ABI_MINOR, .name = SHEM_STR("bad"), .version = SHEM_STR("1.0.0"),
    .summary = SHEM_STR("Breaks rules"), .drivers = drivers, .driver_count = 2};
