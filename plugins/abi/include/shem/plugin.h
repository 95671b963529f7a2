/* The core of shem's plugin ABI: what a plugin exports, what it is given, and
 * how the two ask each other for extensions. Each extension has a header of its
 * own in `shem/ext`; those in `shem/ext/draft` may still change.
 *
 * A plugin is a shared library that exports one object, `shem_plugin_entry`. It
 * runs inside of the VMM's process with all rights of it and is trusted like the
 * VMM's own code. The guest is hostile: whatever comes out of guest memory is
 * input to be checked.
 *
 * The promise. Within one major number nothing changes but by appending:
 * - Every struct that may grow begins with `struct_size`, the size that its maker
 *   knew. Who reads it copies what both know; what only the reader knows is zero,
 *   and a zero function is one that is not there.
 * - Structs without `struct_size` never change.
 * - What a number, a flag or an extension's id means never changes. A new
 *   revision of an extension is a new id, offered beside the old one.
 * - A host refuses another major number, and loads every minor number of its own.
 *
 * Threads. Each function says where it is called, in brackets:
 *   [owner]  the thread that builds and ends the VM. It may open files.
 *   [vcpu]   a thread that runs guest code and waits for the answer.
 *   [loop]   the event loop, which serves every device of the VM.
 *   [call]   host functions only: inside of any callback of this device.
 *   [any]    host functions only: any thread, inside of a callback or not.
 * The host never makes two calls for one device at the same time, on whichever
 * threads. It does call different devices of one driver at the same time. On
 * [vcpu] and [loop] a callback does a bounded amount of work and never blocks: the
 * host measures, and names in its log what takes long. A plugin may start threads
 * in `create`, and must have ended them when `destroy` returns.
 *
 * Errors. A function that can fail returns 0 or a positive number, or a negative
 * errno. Before that it may say more by `set_error`. A negative number is an
 * answer where the function says so, as -EAGAIN often is. Every other one, and
 * every value that the function does not allow, makes the device fail: the host
 * logs the reason, tells the guest that the device needs a reset, and from then on
 * calls nothing of the device but `destroy`. No C++ exception and no other
 * unwinding may leave a callback.
 *
 * Ownership. What a call passes by pointer belongs to the one who passed it, and
 * is valid until the call returns, where nothing else is said. What either side
 * wants to keep it copies.
 */
#ifndef SHEM_PLUGIN_H
#define SHEM_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#define SHEM_LAYOUT(what) static_assert(what, #what)
#else
#define SHEM_LAYOUT(what) _Static_assert(what, #what)
#endif

/* The version of this ABI that a plugin is built with. */
#define SHEM_ABI_MAJOR 1
#define SHEM_ABI_MINOR 1

/* Put before a plugin's one exported object, in a build with
 * -fvisibility=hidden. */
#if defined(__GNUC__)
#define SHEM_EXPORT __attribute__((visibility("default")))
#else
#define SHEM_EXPORT
#endif

SHEM_LAYOUT(sizeof(void *) == 8);

/* UTF-8 without a zero at the end; `data` may be anything when `len` is 0.
 * Never changes. */
typedef struct shem_str {
  const char *data;
  size_t len;
} shem_str_t;
SHEM_LAYOUT(sizeof(shem_str_t) == 16);

/* Initialises a static string from a literal. */
#define SHEM_STR(literal) {(literal), sizeof(literal) - 1}

/* A string that ends with a zero, for as long as that one lives. */
static inline shem_str_t shem_str(const char *text) {
  shem_str_t str;
  str.data = text;
  str.len = strlen(text);
  return str;
}

/* Whether `str` is the text `text`. */
static inline int shem_str_is(shem_str_t str, const char *text) {
  return str.len == strlen(text) && memcmp(str.data, text, str.len) == 0;
}

/* Memory in pieces, guest memory among it. Never changes. */
typedef struct shem_iovec {
  void *data;
  size_t len;
} shem_iovec_t;
SHEM_LAYOUT(sizeof(shem_iovec_t) == 16);

/* What the host gives to one device: made before `create`, valid until `destroy`
 * has returned. Every host function takes it first. */
typedef struct shem_host {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  void *host_data;   /* the host's own */

  /* [call] Says in words why this callback is about to return an error: lower
   * case, no final dot, naming the thing and the remedy. Copied; at most 4096
   * bytes are kept. The last one of a callback counts, and none outlives it. */
  void (*set_error)(const struct shem_host *host, shem_str_t text);

  /* [any] The host's side of extension `id`, or NULL when it has none. The same
   * pointer each time, valid as long as `host`. Its type is in the extension's
   * header and it begins with `struct_size`. */
  const void *(*get_extension)(const struct shem_host *host, shem_str_t id);
} shem_host_t;
SHEM_LAYOUT(sizeof(shem_host_t) == 32);

/* One device, made by `create`. Its memory is the plugin's, and the host reads
 * it once, when `create` has returned. */
typedef struct shem_device {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  void *plugin_data; /* the plugin's own */

  /* [owner] The device's side of extension `id`, or NULL when it has none: the
   * host then never calls it. Asked once for each id that the host knows, after
   * `create`. The answer stays valid and unchanged until `destroy`; it begins
   * with `struct_size`. NULL here means that the device has no extensions. */
  const void *(*get_extension)(struct shem_device *device, shem_str_t id);

  /* [owner] or [loop], required. The last call for this device: ends its threads,
   * closes what it opened, frees its memory. Nothing of the host may be touched
   * by the device when it returns. Called once for each `create` that
   * succeeded, also when the device has failed. */
  void (*destroy)(struct shem_device *device);
} shem_device_t;
SHEM_LAYOUT(sizeof(shem_device_t) == 32);

/* A kind of device. Static: valid as long as the library is loaded. */
typedef struct shem_driver {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */

  /* What a configuration asks for: letters, digits and -, at most 64 bytes,
   * unique among all drivers that are loaded. */
  shem_str_t name;
  /* One line. */
  shem_str_t summary;

  /* JSON Schema of the configuration. The host checks each configuration
   * against it and only then calls `create`. Empty: any JSON object, and
   * `create` checks. Known keywords: type, enum, const, properties, required,
   * additionalProperties (true or false), minProperties, maxProperties, items
   * (one schema), minItems, maxItems, minLength, maxLength, minimum, maximum; and,
   * without effect, title, description, default, examples, $schema, $comment.
   * A schema with any other keyword is refused when the plugin is loaded. */
  shem_str_t config_schema;

  /* [owner], required. Makes a device named `id` (unique in the VM) from its
   * configuration, a JSON object. Opens here what the device will ever open: when
   * the guest runs, nothing can be opened any more. `*device` is the host's to
   * read from then until `destroy`, and is not read after an error. Any negative
   * number refuses, and the VM does not start. `host` may be kept. */
  int32_t (*create)(const shem_host_t *host, shem_str_t id, shem_str_t config,
                    shem_device_t **device);
} shem_driver_t;
SHEM_LAYOUT(sizeof(shem_driver_t) == 64);

/* What a plugin does with a path: flags. */
#define SHEM_PATH_READ 1u
#define SHEM_PATH_WRITE 2u
#define SHEM_PATH_EXECUTE 4u

/* A file or folder, with all that is in it. Never changes. */
typedef struct shem_path {
  shem_str_t path; /* absolute */
  uint32_t access; /* SHEM_PATH_*, at least one */
  uint32_t reserved;
} shem_path_t;
SHEM_LAYOUT(sizeof(shem_path_t) == 24);

/* A property of a Golem offer. Never changes. */
typedef struct shem_property {
  shem_str_t name;  /* golem.inf.… */
  shem_str_t value; /* JSON */
} shem_property_t;
SHEM_LAYOUT(sizeof(shem_property_t) == 32);

/* The one exported object. It is data and the host calls nothing to read it, so
 * that a plugin can be shown, refused and confined before any of its functions
 * runs. The first three fields are the same in every major number. */
typedef struct shem_plugin_entry {
  uint32_t struct_size;
  uint16_t abi_major; /* SHEM_ABI_MAJOR */
  uint16_t abi_minor; /* SHEM_ABI_MINOR */

  shem_str_t name;    /* letters, digits and -, at most 64 bytes */
  shem_str_t version; /* of the plugin, as 1.2.3 */
  shem_str_t summary; /* one line */

  /* System calls, by name as in man pages, that its callbacks make on [vcpu] and
   * [loop] beside those of memory, clocks, and reads and writes of open
   * descriptors. A call that nobody has declared ends the process. */
  const shem_str_t *syscalls;
  size_t syscall_count;

  /* Paths that it opens in `create` and in its lifecycle. */
  const shem_path_t *paths;
  size_t path_count;

  /* What a provider that has this plugin offers. */
  const shem_property_t *offer_properties;
  size_t offer_property_count;

  /* At least one. */
  const shem_driver_t *const *drivers;
  size_t driver_count;
} shem_plugin_entry_t;
SHEM_LAYOUT(sizeof(shem_plugin_entry_t) == 120);
SHEM_LAYOUT(offsetof(shem_plugin_entry_t, abi_major) == 4);

/* Each plugin defines it. */
extern SHEM_EXPORT const shem_plugin_entry_t shem_plugin_entry;

#ifdef __cplusplus
}
#endif

#endif
