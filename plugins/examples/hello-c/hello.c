/* Says hello in the VMM's log. */
#include <shem/ext/log.h>

static void destroy(shem_device_t *device) { (void)device; }
static shem_device_t hello = {.struct_size = sizeof(hello), .destroy = destroy};

static int32_t create(const shem_host_t *host, shem_str_t id, shem_str_t config, shem_device_t **device) {
  (void)config;
  ((const shem_host_log_t *)host->get_extension(host, shem_str(SHEM_EXT_LOG)))->write(host, SHEM_LOG_INFO, id);
  *device = &hello;
  return 0;
}

static const shem_driver_t driver = {.struct_size = sizeof(driver), .name = SHEM_STR("hello-c"),
    .config_schema = SHEM_STR("{\"additionalProperties\": false}"), .create = create};
static const shem_driver_t *const drivers[] = {&driver};
const shem_plugin_entry_t shem_plugin_entry = {
    sizeof(shem_plugin_entry), SHEM_ABI_MAJOR, SHEM_ABI_MINOR, .name = SHEM_STR("hello-c"),
    .version = SHEM_STR("1.0.0"), .summary = SHEM_STR("Says hello"), .drivers = drivers, .driver_count = 1};
