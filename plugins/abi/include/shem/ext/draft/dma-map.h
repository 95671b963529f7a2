/* shem.dma-map/1, both, DRAFT: guest RAM for a device that reaches it by itself.
 * The host tells every range; the plugin maps it into its device's IOMMU at the
 * guest-physical address. A draft may change; no host offers it yet. */
#ifndef SHEM_EXT_DRAFT_DMA_MAP_H
#define SHEM_EXT_DRAFT_DMA_MAP_H

#include "../../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_DMA_MAP "shem.dma-map/1"

typedef struct shem_dma_map {
  uint32_t struct_size;
  uint32_t reserved;

  /* [owner], required. RAM of `len` bytes at guest-physical `address`, mapped here
   * at `data` and staying so until `unmap` or `destroy`. Called for all of it
   * before the guest runs. A negative number refuses, and the VM does not start. */
  int32_t (*map)(shem_device_t *device, uint64_t address, uint64_t len, void *data);

  /* [owner], required. The range of an earlier `map`: when it returns, no DMA
   * reaches it. */
  int32_t (*unmap)(shem_device_t *device, uint64_t address, uint64_t len);
} shem_dma_map_t;
SHEM_LAYOUT(sizeof(shem_dma_map_t) == 24);

#ifdef __cplusplus
}
#endif

#endif
