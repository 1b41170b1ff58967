//! The guard process of a frozen file system, as far as a host without a file system to freeze can show it.

use cleave::daemon::freeze::FreezeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cleaved");

/// What the guard says when it hears `words`, and how it ends.
fn guard(point: &str, words: &[u8]) -> (String, Option<i32>) {
    let mut child = Command::new(PROGRAM)
        .args(["freeze-guard", point, "1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // A guard that has ended by then hears nothing.
    let _ = child.stdin.take().unwrap().write_all(words);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    (said, child.wait().unwrap().code())
}

#[test]
fn a_file_system_that_cannot_be_frozen_gives_an_error_line() {
    let (said, code) = guard("/proc", b"freeze\nthaw\n");
    // EOPNOTSUPP, or EPERM for a caller that may freeze nothing.
    assert!(["ready\nerror: freeze 95\n", "ready\nerror: freeze 1\n"].contains(&said.as_str()), "{said}");
    assert_eq!(code, Some(5));
    assert_eq!(guard("/nowhere/at/all", b"freeze\n"), ("error: open 2\n".to_owned(), Some(5)));
}

#[test]
fn a_daemon_that_dies_before_the_freeze_leaves_nothing_frozen() {
    assert_eq!(guard("/proc", b""), ("ready\n".to_owned(), Some(0)));
    assert_eq!(guard("/proc", b"free"), ("ready\n".to_owned(), Some(0)));
    assert_eq!(guard("/proc", b"other\n"), ("ready\n".to_owned(), Some(0)));
}

#[test]
fn the_daemon_hears_why_its_guard_could_not_freeze() {
    let refused = FreezeSet::freeze_by(Path::new(PROGRAM), &[PathBuf::from("/proc")], Duration::from_secs(1))
        .unwrap_err();
    assert!(["freeze.unsupported", "freeze.not-permitted"].contains(&refused.id.as_str()), "{refused}");
    assert_eq!(refused.object, "/proc");
}
