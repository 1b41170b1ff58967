//! Who holds a file's lock, read from `/proc/locks` (proc_locks(5)).

use std::fs;

/// The process ids that hold a `flock` on the file `inode` of the device `major:minor`, from the text of `/proc/locks`.
fn holders(text: &str, major: u32, minor: u32, inode: u64) -> Vec<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    text.lines()
        .filter_map(|line| {
            // "3: FLOCK  ADVISORY  WRITE 1429 fe:00:1835015 0 EOF"; a waiter has "->" behind the number.
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [_, "FLOCK", _, _, pid, place, ..] if place == file => pid.parse().ok(),
                _ => None,
            }
        })
        .collect()
}

/// The holder of the lock on a file, as text for a refusal: command and process id; empty when nothing is known.
pub(super) fn lock_holder(major: u32, minor: u32, inode: u64) -> String {
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    let Some(pid) = holders(&text, major, minor, inode).into_iter().next() else { return String::new() };
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match command.trim() {
        "" => format!("process {pid}"),
        command => format!("{command} (process {pid})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_found_and_waiters_are_not() {
        let text = "1: POSIX  ADVISORY  WRITE 77 fe:00:1835015 0 EOF\n\
                    2: FLOCK  ADVISORY  WRITE 1429 fe:00:1835015 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 1500 fe:00:1835015 0 EOF\n\
                    3: FLOCK  ADVISORY  WRITE 1430 fe:01:1835015 0 EOF\n\
                    short\n";
        assert_eq!(holders(text, 0xfe, 0, 1_835_015), [1429]);
        assert_eq!(holders(text, 0xfe, 2, 1_835_015), [0u32; 0]);
    }
}
