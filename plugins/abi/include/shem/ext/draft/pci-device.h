/* shem.pci-device/1, both, DRAFT: a function on the VM's PCI bus. The plugin is
 * the function, real or not; the host holds the bus, places BARs, and turns
 * vectors into interrupts. A draft may change; no host offers it yet. */
#ifndef SHEM_EXT_DRAFT_PCI_DEVICE_H
#define SHEM_EXT_DRAFT_PCI_DEVICE_H

#include "../../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHEM_EXT_PCI_DEVICE "shem.pci-device/1"

#define SHEM_PCI_BARS 6
#define SHEM_PCI_BAR_PREFETCHABLE 1u
#define SHEM_PCI_BAR_64_BIT 2u

/* A part of a BAR that the guest reaches without an exit. Never changes. */
typedef struct shem_pci_mapping {
  uint64_t offset; /* in the BAR, of whole pages */
  uint64_t len;
  void *data;      /* mapped in this process until `destroy` */
} shem_pci_mapping_t;
SHEM_LAYOUT(sizeof(shem_pci_mapping_t) == 24);

typedef struct shem_pci_bar {
  uint32_t struct_size;
  uint32_t flags; /* SHEM_PCI_BAR_* */
  uint64_t size;  /* a power of two from 4096 on; 0: no BAR */
  const shem_pci_mapping_t *mappings;
  size_t mapping_count;
} shem_pci_bar_t;
SHEM_LAYOUT(sizeof(shem_pci_bar_t) == 32);

typedef struct shem_host_pci {
  uint32_t struct_size;
  uint32_t reserved;

  /* [any] An event descriptor that raises MSI-X vector `vector` when it is
   * written: the host's, valid until `destroy`. -EINVAL: no such vector. */
  int32_t (*vector_fd)(const shem_host_t *host, uint32_t vector);
} shem_host_pci_t;
SHEM_LAYOUT(sizeof(shem_host_pci_t) == 16);

typedef struct shem_pci_device {
  uint32_t struct_size;
  uint32_t vectors; /* MSI-X vectors, 0 to 2048 */
  const shem_pci_bar_t *const *bars; /* SHEM_PCI_BARS of them */

  /* [vcpu], required. Reads `len` (1, 2 or 4) bytes of configuration space at
   * `offset`. The host answers for BARs and MSI-X itself. */
  int32_t (*read_config)(shem_device_t *device, uint32_t offset, void *data, size_t len);

  /* [vcpu], required. As above. */
  int32_t (*write_config)(shem_device_t *device, uint32_t offset, const void *data,
                          size_t len);

  /* [vcpu], required. Reads `len` (1, 2, 4 or 8) bytes of BAR `bar`, where it is
   * not mapped. */
  int32_t (*read_bar)(shem_device_t *device, uint32_t bar, uint64_t offset, void *data,
                      size_t len);

  /* [vcpu], required. As above. */
  int32_t (*write_bar)(shem_device_t *device, uint32_t bar, uint64_t offset,
                       const void *data, size_t len);

  /* [vcpu], required. The guest unmasked vectors from the first to `count` (0:
   * none): connect them to the descriptors of `vector_fd`. */
  int32_t (*set_vectors)(shem_device_t *device, uint32_t count);

  /* [vcpu] or [owner], required. The function is reset. */
  int32_t (*reset)(shem_device_t *device);
} shem_pci_device_t;
SHEM_LAYOUT(sizeof(shem_pci_device_t) == 64);

#ifdef __cplusplus
}
#endif

#endif
