/* Says hello, and counts what it is told of its VM's life in the log. */
#include "kept.h"

static void say(const shem_host_t *host, const char *text) {
  const shem_host_log_t *log = host->get_extension(host, shem_str(SHEM_EXT_LOG));
  log->write(host, SHEM_LOG_INFO, shem_str(text));
}

static int32_t before_boot(shem_device_t *device) {
  say(device->plugin_data, "before boot");
  return 0;
}
static int32_t agent_ready(shem_device_t *device) {
  say(device->plugin_data, "agent ready");
  return 0;
}
static int32_t join_network(shem_device_t *device, shem_str_t network) {
  const shem_host_t *host = device->plugin_data;
  if (shem_str_is(network, "{}")) return 0;
  host->set_error(host, shem_str("hello knows no networks"));
  return -EINVAL;
}
static void before_stop(shem_device_t *device) { say(device->plugin_data, "before stop"); }

static const shem_lifecycle_t lifecycle = {sizeof(lifecycle), 0,           before_boot,
                                           agent_ready,       join_network, before_stop};

static const void *get_extension(shem_device_t *device, shem_str_t id) {
  (void)device;
  return shem_str_is(id, SHEM_EXT_LIFECYCLE) ? &lifecycle : NULL;
}

static shem_device_t devices[DEVICES];

static void destroy(shem_device_t *device) { device->struct_size = 0; }

static int32_t create(const shem_host_t *host, shem_str_t id, shem_str_t config,
                      shem_device_t **device) {
  (void)id, (void)config;
  for (int i = 0; i < DEVICES; i++) {
    if (devices[i].struct_size) continue;
    devices[i].plugin_data = (void *)host;
    devices[i].get_extension = get_extension;
    devices[i].destroy = destroy;
    devices[i].struct_size = sizeof(shem_device_t);
    *device = &devices[i];
    say(host, "hello");
    return 0;
  }
  host->set_error(host, shem_str("there are 8 devices"));
  return -ENOSPC;
}

PLUGIN("kept-hello", create)
