/* Devices of each kind that do their work, and with a word in their configuration
 * misbehave in the callback of that name: {"do": "queue_ready=-5"} returns that,
 * {"do": "queue_ready sleep"} takes 30 ms, {"do": "queue_ready say"} sets an error's
 * text, {"do": "thread"} calls the host from a thread of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <shem/ext/events.h>
#include <shem/ext/guest-config.h>
#include <shem/ext/guest-memory.h>
#include <shem/ext/interrupts.h>
#include <shem/ext/lifecycle.h>
#include <shem/ext/log.h>
#include <shem/ext/net-backend.h>
#include <shem/ext/virtio-device.h>

#define MTU 1500
#define FRAME 1514

typedef struct {
  shem_device_t device;
  const shem_host_t *host;
  const shem_host_virtio_t *virtio;
  const shem_host_events_t *events;
  const shem_host_net_t *net;
  char told[256];
  uint8_t config[4];
  uint32_t interest;
  int fds[2];
} all_t;

static all_t *of(shem_device_t *device) { return device->plugin_data; }

/* What the configuration has this callback return, or `good`. */
static int32_t answer(all_t *all, const char *callback, int32_t good) {
  const char *found = strstr(all->told, callback);
  if (!found) return good;
  found += strlen(callback);
  if (strncmp(found, " sleep", 6) == 0) {
    struct timespec time = {0, 30000000};
    nanosleep(&time, NULL);
  }
  if (strncmp(found, " say", 4) == 0) {
    all->host->set_error(all->host, shem_str("the cable is unplugged"));
    return -ENOLINK;
  }
  return *found == '=' ? (int32_t)atol(found + 1) : good;
}

static void *from_a_thread(void *data) {
  all_t *all = data;
  all->host->set_error(all->host, shem_str("from nowhere"));
  return NULL;
}

/* virtio: copies what it reads to where it may write, each byte plus one. */

static void read_config(shem_device_t *device, uint64_t offset, void *data, size_t len) {
  for (size_t i = 0; i < len && offset < 4 && offset + i < 4; i++)
    ((uint8_t *)data)[i] = of(device)->config[offset + i];
}

static void write_config(shem_device_t *device, uint64_t offset, const void *data, size_t len) {
  for (size_t i = 0; i < len && offset < 4 && offset + i < 4; i++)
    of(device)->config[offset + i] = ((const uint8_t *)data)[i];
}

static int32_t activate(shem_device_t *device) {
  const shem_host_guest_memory_t *memory =
      of(device)->host->get_extension(of(device)->host, shem_str(SHEM_EXT_GUEST_MEMORY));
  shem_memory_region_t region;
  uint32_t value = 0x12345678, back = 0;
  int32_t bad = memory->region(of(device)->host, 0, &region);
  bad |= memory->write(of(device)->host, region.address + region.len - 4, &value, 4);
  bad |= memory->read(of(device)->host, region.address + region.len - 4, &back, 4);
  if (bad || back != value) return -EIO;
  if (memory->read(of(device)->host, region.address + region.len - 3, &back, 4) != -EFAULT)
    return -EIO;
  return answer(of(device), "activate", 0);
}

static int32_t queue_ready(shem_device_t *device, uint16_t queue) {
  all_t *all = of(device);
  shem_chain_t chain = {.struct_size = sizeof(chain)};
  int32_t got;
  while ((got = all->virtio->pop(all->host, queue, &chain)) == 1) {
    uint32_t written = 0;
    size_t in = 0, at = 0;
    for (size_t piece = 0; piece < chain.writable_count; piece++)
      for (size_t i = 0; i < chain.writable[piece].len; i++) {
        while (in < chain.readable_count && at == chain.readable[in].len) in++, at = 0;
        if (in == chain.readable_count) break;
        uint8_t byte = ((const uint8_t *)chain.readable[in].data)[at++];
        ((uint8_t *)chain.writable[piece].data)[i] = (uint8_t)(byte + 1);
        written++;
      }
    if (strstr(all->told, "too-much")) {
      if (all->virtio->complete(all->host, queue, chain.head, written + 100000) != -EINVAL)
        return -EPROTO;
      if (all->virtio->complete(all->host, queue, (uint16_t)(chain.head + 7), 0) != -ENOENT)
        return -EPROTO;
    }
    if (all->virtio->complete(all->host, queue, chain.head, written)) return -EPROTO;
  }
  return answer(all, "queue_ready", 0);
}

static void deactivate(shem_device_t *device) { answer(of(device), "deactivate", 0); }

static const uint16_t sizes[] = {64, 16};
static const uint16_t odd_sizes[] = {63};
static const shem_virtio_device_t virtio = {
    .struct_size = sizeof(virtio), .device_type = 42, .features = 5, .queue_sizes = sizes,
    .queue_count = 2, .read_config = read_config, .write_config = write_config,
    .activate = activate, .queue_ready = queue_ready, .deactivate = deactivate};
static const shem_virtio_device_t odd_virtio = {
    .struct_size = sizeof(virtio), .device_type = 42, .queue_sizes = odd_sizes,
    .queue_count = 1, .activate = activate, .queue_ready = queue_ready,
    .deactivate = deactivate};
static const shem_virtio_device_t deaf_virtio = {
    .struct_size = sizeof(virtio), .device_type = 42, .queue_sizes = sizes,
    .queue_count = 1, .activate = activate, .deactivate = deactivate};
static const shem_virtio_device_t short_virtio = {.struct_size = 8};
static const shem_virtio_device_t huge_virtio = {.struct_size = UINT32_MAX};

/* net: a cable from the guest to itself. */

static int32_t describe(shem_device_t *device, shem_net_info_t *info) {
  info->queue_pairs = 1;
  info->mtu = MTU;
  info->max_frame = strstr(of(device)->told, "giant") ? 1 << 20 : FRAME;
  info->mac[0] = 2;
  return answer(of(device), "describe", 0);
}

static int32_t start(shem_device_t *device, const shem_net_setup_t *setup) {
  (void)setup;
  return answer(of(device), "start", 0);
}

static void stop(shem_device_t *device) {
  all_t *all = of(device);
  all->interest = 0;
  if (!strstr(all->told, "unplug")) return;
  all->net->link(all->host, 0);
  all->net->ready(all->host, 0, SHEM_NET_SEND);
}

static int32_t set_interest(shem_device_t *device, uint16_t queue, uint32_t directions) {
  all_t *all = of(device);
  (void)queue;
  all->interest = directions;
  uint32_t events = directions & SHEM_NET_RECEIVE ? SHEM_EVENT_READ : 0;
  int32_t bad = all->events->modify(all->host, all->fds[0], events, 7);
  events = directions & SHEM_NET_SEND ? SHEM_EVENT_WRITE : 0;
  return bad ? bad : all->events->modify(all->host, all->fds[1], events, 8);
}

static int32_t send_frame(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                          size_t count) {
  (void)queue;
  if (count == 0 || pieces[0].len > FRAME) return -EMSGSIZE;
  ssize_t sent = writev(of(device)->fds[1], (const struct iovec *)pieces, (int)count);
  if (sent < 0) return -errno;
  return answer(of(device), "send", 0);
}

static int32_t receive(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                       size_t count) {
  (void)queue;
  ssize_t got = readv(of(device)->fds[0], (const struct iovec *)pieces, (int)count);
  if (got < 0) return -errno;
  return answer(of(device), "receive", (int32_t)got);
}

static const shem_net_backend_t net = {
    .struct_size = sizeof(net), .describe = describe, .start = start, .stop = stop,
    .set_interest = set_interest, .send = send_frame, .receive = receive};
static const shem_net_backend_t dumb_net = {
    .struct_size = sizeof(net), .describe = describe, .start = start, .stop = stop,
    .set_interest = set_interest, .receive = receive};

/* events and lifecycle */

static int32_t on_event(shem_device_t *device, int32_t fd, uint32_t events, uint64_t token) {
  all_t *all = of(device);
  (void)fd;
  uint32_t direction = token == 7 ? SHEM_NET_RECEIVE : SHEM_NET_SEND;
  if (!(events & (token == 7 ? SHEM_EVENT_READ : SHEM_EVENT_WRITE))) return -EPROTO;
  if (all->net && all->interest & direction) all->net->ready(all->host, 0, direction);
  return answer(all, "on_event", 0);
}

static int32_t on_timer(shem_device_t *device, uint64_t token) {
  all_t *all = of(device);
  const shem_host_interrupts_t *interrupts =
      all->host->get_extension(all->host, shem_str(SHEM_EXT_INTERRUPTS));
  if (token != 9) return -EPROTO;
  interrupts->config_changed(all->host);
  return answer(all, "on_timer", 0);
}

static int32_t before_boot(shem_device_t *device) {
  all_t *all = of(device);
  const shem_host_guest_config_t *guest =
      all->host->get_extension(all->host, shem_str(SHEM_EXT_GUEST_CONFIG));
  int32_t bad = guest->add_env(all->host, shem_str("A"), shem_str("b"));
  bad |= guest->add_module(all->host, shem_str("virtio_rng"));
  bad |= guest->add_module(all->host, shem_str("virtio_rng"));
  bad |= guest->add_mount(all->host, shem_str("/usr/lib"), shem_str("/driver"));
  bad |= guest->add_layer(all->host, shem_str("/images/driver.gvmi"));
  if (guest->add_layer(all->host, shem_str("relative")) != -EINVAL) return -EPROTO;
  return answer(all, "before_boot", bad);
}

static int32_t agent_ready(shem_device_t *device) {
  all_t *all = of(device);
  const shem_host_guest_config_t *guest =
      all->host->get_extension(all->host, shem_str(SHEM_EXT_GUEST_CONFIG));
  if (guest->add_module(all->host, shem_str("late")) != -EBUSY) return -EPROTO;
  return answer(all, "agent_ready", 0);
}

static int32_t join_network(shem_device_t *device, shem_str_t network) {
  if (!shem_str_is(network, "{\"id\":\"n\"}")) return -EPROTO;
  return answer(of(device), "join_network", 0);
}

static const shem_device_events_t events = {sizeof(events), 0, on_event, on_timer};
static const shem_lifecycle_t lifecycle = {sizeof(lifecycle), 0, before_boot, agent_ready,
                                           join_network, NULL};

static const void *get_extension(shem_device_t *device, shem_str_t id) {
  all_t *all = of(device);
  if (shem_str_is(id, SHEM_EXT_EVENTS)) return &events;
  if (shem_str_is(id, SHEM_EXT_LIFECYCLE)) return &lifecycle;
  if (shem_str_is(id, SHEM_EXT_NET_BACKEND) && all->net)
    return strstr(all->told, "dumb") ? &dumb_net : &net;
  if (shem_str_is(id, SHEM_EXT_VIRTIO_DEVICE) && all->virtio) {
    if (strstr(all->told, "odd")) return &odd_virtio;
    if (strstr(all->told, "deaf")) return &deaf_virtio;
    if (strstr(all->told, "short")) return &short_virtio;
    if (strstr(all->told, "huge")) return &huge_virtio;
    return &virtio;
  }
  return NULL;
}

static void destroy(shem_device_t *device) {
  all_t *all = of(device);
  if (all->fds[0] >= 0) {
    close(all->fds[0]);
    close(all->fds[1]);
  }
  free(all);
}

static int32_t make(const shem_host_t *host, shem_str_t config, shem_device_t **device,
                    all_t **made) {
  all_t *all = calloc(1, sizeof(*all));
  if (!all) return -ENOMEM;
  all->device = (shem_device_t){sizeof(shem_device_t), 0, all, get_extension, destroy};
  all->host = host;
  all->fds[0] = all->fds[1] = -1;
  all->events = host->get_extension(host, shem_str(SHEM_EXT_EVENTS));
  snprintf(all->told, sizeof(all->told), "%.*s", (int)config.len, config.data);
  if (strstr(all->told, "thread")) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, from_a_thread, all)) return -EAGAIN;
    pthread_join(thread, NULL);
  }
  if (strstr(all->told, "headless")) all->device.destroy = NULL;
  if (strstr(all->told, "tiny")) all->device.struct_size = 0;
  if (strstr(all->told, "timer")) all->events->set_timer(host, 9, 1, 0);
  *device = strstr(all->told, "nothing") ? NULL : &all->device;
  *made = all;
  int32_t outcome = answer(all, "create", 0);
  if (outcome) free(all);
  return outcome;
}

static int32_t create_plain(const shem_host_t *host, shem_str_t id, shem_str_t config,
                            shem_device_t **device) {
  all_t *all;
  (void)id;
  return make(host, config, device, &all);
}

static int32_t create_virtio(const shem_host_t *host, shem_str_t id, shem_str_t config,
                             shem_device_t **device) {
  all_t *all;
  int32_t outcome = make(host, config, device, &all);
  (void)id;
  if (!outcome) all->virtio = host->get_extension(host, shem_str(SHEM_EXT_VIRTIO_DEVICE));
  return outcome;
}

static int32_t create_net(const shem_host_t *host, shem_str_t id, shem_str_t config,
                          shem_device_t **device) {
  all_t *all;
  int32_t outcome = make(host, config, device, &all);
  (void)id;
  if (outcome) return outcome;
  all->net = host->get_extension(host, shem_str(SHEM_EXT_NET_BACKEND));
  if (pipe2(all->fds, 04000 /* O_NONBLOCK */ | 040000 /* O_DIRECT */)) return -errno;
  int32_t bad = all->events->add(host, all->fds[0], 0, 7);
  return bad ? bad : all->events->add(host, all->fds[1], 0, 8);
}

#define SCHEMA "{\"properties\":{\"do\":{\"type\":\"string\"}},\"additionalProperties\":false}"

static const shem_driver_t plain_driver = {sizeof(shem_driver_t), 0, SHEM_STR("c-plain"),
                                           SHEM_STR("Off the bus"), SHEM_STR(SCHEMA),
                                           create_plain};
static const shem_driver_t virtio_driver = {sizeof(shem_driver_t), 0, SHEM_STR("c-virtio"),
                                            SHEM_STR("Adds one"), SHEM_STR(SCHEMA),
                                            create_virtio};
static const shem_driver_t net_driver = {sizeof(shem_driver_t), 0, SHEM_STR("c-net"),
                                         SHEM_STR("A cable"), SHEM_STR(SCHEMA), create_net};
static const shem_driver_t *const drivers[] = {&plain_driver, &virtio_driver, &net_driver};

const shem_plugin_entry_t shem_plugin_entry = {
    .struct_size = sizeof(shem_plugin_entry_t),
    .abi_major = SHEM_ABI_MAJOR,
    .abi_minor = SHEM_ABI_MINOR,
    .name = SHEM_STR("c-devices"),
    .version = SHEM_STR("1.0.0"),
    .summary = SHEM_STR("Devices of each kind"),
    .drivers = drivers,
    .driver_count = 3,
};
