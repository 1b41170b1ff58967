//! `cleaved`: parse, call, exit code.

use cleave::daemon::freeze;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let [verb, point, limit] = &words[..]
        && verb == freeze::VERB
        && let Some(limit) = limit.to_str().and_then(|limit| limit.parse().ok())
    {
        return ExitCode::from(freeze::guard_main(Path::new(point), Duration::from_millis(limit)));
    }
    ExitCode::SUCCESS
}
