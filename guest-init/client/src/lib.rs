//! guest_client
