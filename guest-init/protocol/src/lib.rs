//! guest_protocol
