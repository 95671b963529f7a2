//! The C headers as texts, to put beside a plugin's sources.

/// Path in the folder of the headers, and text, of each.
pub const HEADERS: &[(&str, &str)] = &[
    (
        "shem/ext/draft/dma-map.h",
        include_str!("../include/shem/ext/draft/dma-map.h"),
    ),
    (
        "shem/ext/draft/pci-device.h",
        include_str!("../include/shem/ext/draft/pci-device.h"),
    ),
    (
        "shem/ext/events.h",
        include_str!("../include/shem/ext/events.h"),
    ),
    (
        "shem/ext/guest-config.h",
        include_str!("../include/shem/ext/guest-config.h"),
    ),
    (
        "shem/ext/guest-memory.h",
        include_str!("../include/shem/ext/guest-memory.h"),
    ),
    (
        "shem/ext/interrupts.h",
        include_str!("../include/shem/ext/interrupts.h"),
    ),
    (
        "shem/ext/lifecycle.h",
        include_str!("../include/shem/ext/lifecycle.h"),
    ),
    ("shem/ext/log.h", include_str!("../include/shem/ext/log.h")),
    (
        "shem/ext/net-backend.h",
        include_str!("../include/shem/ext/net-backend.h"),
    ),
    (
        "shem/ext/virtio-device.h",
        include_str!("../include/shem/ext/virtio-device.h"),
    ),
    ("shem/plugin.h", include_str!("../include/shem/plugin.h")),
];
