//! The `mongotap` command.

fn main() {}
