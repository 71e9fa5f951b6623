//! The `bzzz` program.

fn main() {}
