//! `cleaved`: parse, call, exit code.

fn main() {}
