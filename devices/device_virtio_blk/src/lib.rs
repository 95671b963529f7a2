//! device_virtio_blk
