//! `cleave`: parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    ExitCode::from(cleave::cli::run(&argv))
}
