//! virtio_transport
