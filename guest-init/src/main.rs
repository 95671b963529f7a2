//! guest_init

fn main() {}
