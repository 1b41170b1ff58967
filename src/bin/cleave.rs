//! `cleave`: parse, call, exit code.

fn main() {}
