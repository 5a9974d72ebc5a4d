//! The `gr2` binary.
fn main() {}
