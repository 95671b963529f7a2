//! device_virtio_vsock
