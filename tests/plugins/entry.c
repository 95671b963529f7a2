/* A plugin that does nothing, and with -D all that can be wrong about an entry. */
#include <shem/plugin.h>

#ifndef MAJOR
#define MAJOR SHEM_ABI_MAJOR
#endif
#ifndef MINOR
#define MINOR SHEM_ABI_MINOR
#endif
#ifndef ENTRY_SIZE
#define ENTRY_SIZE sizeof(shem_plugin_entry_t)
#endif
#ifndef DRIVER_SIZE
#define DRIVER_SIZE sizeof(shem_driver_t)
#endif
#ifndef NAME
#define NAME "no-op"
#endif
#ifndef DRIVER_NAME
#define DRIVER_NAME "no-op"
#endif
#ifndef SCHEMA
#define SCHEMA "{\"type\":\"object\",\"additionalProperties\":false}"
#endif
#ifndef CREATE
#define CREATE create
#endif
#ifndef DRIVERS
#define DRIVERS &driver
#endif
#ifndef DRIVER_COUNT
#define DRIVER_COUNT (sizeof(drivers) / sizeof(drivers[0]))
#endif
#ifndef PATH
#define PATH "/dev/net/tun"
#endif
#ifndef OFFER
#define OFFER "[1, true]"
#endif

static void destroy(shem_device_t *device) { (void)device; }

static shem_device_t the_device = {sizeof(shem_device_t), 0, NULL, NULL, destroy};

__attribute__((unused)) static int32_t create(const shem_host_t *host, shem_str_t id,
                                              shem_str_t config, shem_device_t **device) {
  (void)host, (void)id, (void)config;
  *device = &the_device;
  return 0;
}

static const shem_driver_t driver = {DRIVER_SIZE,       0, SHEM_STR(DRIVER_NAME),
                                     SHEM_STR("Nothing"), SHEM_STR(SCHEMA), CREATE};
static const shem_driver_t *const drivers[] = {DRIVERS};
static const shem_str_t syscalls[] = {SHEM_STR("socket"), SHEM_STR("bind")};
static const shem_path_t paths[] = {{SHEM_STR(PATH), SHEM_PATH_READ | SHEM_PATH_WRITE, 0}};
static const shem_property_t offer[] = {{SHEM_STR("golem.inf.test"), SHEM_STR(OFFER)}};

#ifndef NO_ENTRY
const shem_plugin_entry_t shem_plugin_entry = {
    .struct_size = ENTRY_SIZE,
    .abi_major = MAJOR,
    .abi_minor = MINOR,
    .name = SHEM_STR(NAME),
    .version = SHEM_STR("1.2.3"),
    .summary = SHEM_STR("A plugin that does nothing"),
    .syscalls = syscalls,
    .syscall_count = 2,
    .paths = paths,
    .path_count = 1,
    .offer_properties = offer,
    .offer_property_count = 1,
    .drivers = drivers,
    .driver_count = DRIVER_COUNT,
};
#else
SHEM_EXPORT const void *const something_else[] = {&syscalls, &paths, &offer, &drivers};
#endif

#ifdef UNDEFINED
void nobody_defines_this(void);
SHEM_EXPORT void uses_it(void);
SHEM_EXPORT void uses_it(void) { nobody_defines_this(); }
#endif
