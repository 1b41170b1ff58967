//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)) and `/proc/swaps`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::stack::DeviceNumber;

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// The device number of its file system; major 0 for those without a device of their own, btrfs among them.
    pub number: DeviceNumber,
    /// Where it is seen.
    pub point: PathBuf,
    /// The type of its file system.
    pub filesystem: String,
    /// What was mounted, as the file system tells it: `/dev/sda1`.
    pub source: String,
    /// A process that sees it, when this one does not: it is in another mount namespace.
    pub seen_by: Option<u32>,
}

impl Mount {
    /// Whether both show one file system at one place, each in its namespace.
    pub(super) fn is_copy_of(&self, other: &Self) -> bool {
        (self.number, &self.point, &self.source) == (other.number, &other.point, &other.source)
    }
}

/// Undo the octal escapes that the kernel writes for spaces, tabs, newlines and backslashes.
fn unescape(text: &str) -> OsString {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = digits.and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(out)
}

/// The mounts of a `mountinfo`; a line of another shape is left out.
pub(super) fn parse_mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            // "36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
            let (place, kind) = line.split_once(" - ")?;
            let mut place = place.split(' ').skip(2);
            let number = DeviceNumber::parse(place.next()?)?;
            let point = PathBuf::from(unescape(place.nth(1)?));
            let mut kind = kind.split(' ');
            let filesystem = kind.next()?.to_owned();
            let source = unescape(kind.next()?).to_string_lossy().into_owned();
            Some(Mount { number, point, filesystem, source, seen_by: None })
        })
        .collect()
}

/// The files and devices that are swapped to.
pub(super) fn parse_swaps(text: &str) -> Vec<PathBuf> {
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| unescape(name).into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_escapes_and_optional_fields() {
        let text = "36 35 98:0 /root /mnt/my\\040disk rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw\n\
                    22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                    broken line\n\
                    40 27 259:3 / / rw - ext4 /dev/ublkb0p1 rw\n";
        let mounts = parse_mounts(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].point, PathBuf::from("/mnt/my disk"));
        assert_eq!(
            (mounts[0].number, mounts[0].filesystem.as_str()),
            (DeviceNumber { major: 98, minor: 0 }, "ext3")
        );
        assert_eq!((mounts[2].source.as_str(), mounts[2].number.minor), ("/dev/ublkb0p1", 3));
    }

    #[test]
    fn swaps_are_read() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/zram0                              partition\t100\t0\t-2\n/swap\\040file file 1 0 -3\n";
        assert_eq!(parse_swaps(text), [PathBuf::from("/dev/zram0"), PathBuf::from("/swap file")]);
        assert!(parse_swaps("").is_empty());
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape("a\\b\\134\\9"), OsString::from("a\\b\\\\9"));
    }
}
