/* What the kept plugins share: they need no library, and so have a few devices in
 * static memory instead of a heap. */
#include <shem/ext/lifecycle.h>
#include <shem/ext/log.h>
#include <shem/ext/net-backend.h>
#include <shem/ext/virtio-device.h>

#define EAGAIN 11
#define EINVAL 22
#define ENOSPC 28
#define EMSGSIZE 90
#define DEVICES 8

/* Compilers put these calls where they like. */
void *memcpy(void *to, const void *from, size_t len) {
  for (size_t i = 0; i < len; i++) ((char *)to)[i] = ((const char *)from)[i];
  return to;
}
void *memset(void *to, int byte, size_t len) {
  for (size_t i = 0; i < len; i++) ((char *)to)[i] = (char)byte;
  return to;
}
int memcmp(const void *a, const void *b, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (((const char *)a)[i] != ((const char *)b)[i]) return 1;
  return 0;
}
size_t strlen(const char *text) {
  size_t len = 0;
  while (text[len]) len++;
  return len;
}

#define PLUGIN(NAME, CREATE)                                                        \
  static const shem_driver_t driver = {                                             \
      sizeof(driver), 0, SHEM_STR(NAME), SHEM_STR("Kept"),                          \
      SHEM_STR("{\"additionalProperties\":false}"), CREATE};                        \
  static const shem_driver_t *const drivers[] = {&driver};                          \
  const shem_plugin_entry_t shem_plugin_entry = {                                   \
      .struct_size = sizeof(shem_plugin_entry), .abi_major = SHEM_ABI_MAJOR,        \
      .abi_minor = SHEM_ABI_MINOR, .name = SHEM_STR(NAME),                          \
      .version = SHEM_STR("1.0.0"), .summary = SHEM_STR("Kept"), .drivers = drivers, \
      .driver_count = 1};
