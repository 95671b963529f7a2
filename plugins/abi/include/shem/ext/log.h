/* shem.log/1, host: lines in the VMM's log. They appear under the target
 * `plugin::NAME` with the device's id. */
#ifndef SHEM_EXT_LOG_H
#define SHEM_EXT_LOG_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_LOG "shem.log/1"

#define SHEM_LOG_ERROR 1u /* what was asked for did not happen */
#define SHEM_LOG_WARN 2u  /* odd but harmless */
#define SHEM_LOG_INFO 3u  /* rare, for operators */
#define SHEM_LOG_DEBUG 4u /* for the plugin's developers */
#define SHEM_LOG_TRACE 5u

typedef struct shem_host_log {
  uint32_t struct_size;
  uint32_t reserved;

  /* [any] 1 when a line of `level` goes anywhere, else 0. May change. */
  int32_t (*enabled)(const shem_host_t *host, uint32_t level);

  /* [any] One line, without its end. At most 4096 bytes are kept. What a guest
   * can cause at will has to be limited by the plugin. Another level is error. */
  void (*write)(const shem_host_t *host, uint32_t level, shem_str_t text);
} shem_host_log_t;
SHEM_LAYOUT(sizeof(shem_host_log_t) == 24);

#ifdef __cplusplus
}
#endif

#endif
