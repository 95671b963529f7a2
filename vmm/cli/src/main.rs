//! shem

fn main() {}
