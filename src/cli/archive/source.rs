//! What is archived or compared: a block device or a file that nobody writes to.

use super::buffer::Chunk;
use super::{Named, cannot_read};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::clean;
use crate::cli::verbs::mount::cannot_open;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

/// An opened source.
#[derive(Debug)]
pub struct Source {
    file: File,
    named: Named,
    /// Its length when it was opened.
    pub length_bytes: u64,
}

impl Source {
    /// Opens `named` for reading from its start.
    ///
    /// # Errors
    /// When it is missing, neither block device nor file, mounted for writing, or held by the daemon.
    pub fn open(named: &Named) -> Result<Self, Refused> {
        let refuse = |error: std::io::Error| cannot_open(&named.name, &named.path, &error);
        let kind = std::fs::metadata(&named.path).map_err(refuse)?;
        let mut options = OpenOptions::new();
        options.read(true);
        if kind.file_type().is_block_device() {
            // Past the page cache: it may hold what the device had before a mounted file system wrote.
            options.custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32);
        } else if !kind.is_file() {
            return Err(Refusal::new(
                Kind::Usage,
                "archive.not-a-device",
                clean(&named.name),
                "is neither a block device nor a file",
                "name a volume or the path of a device",
            ));
        }
        let mut file = options.open(&named.path).map_err(refuse)?;
        if kind.file_type().is_block_device() {
            refuse_mounted(named, kind.rdev())?;
        } else {
            // The daemon locks the files of its plexes.
            if flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
                return Err(in_use(named, "is held by another process, as a plex in use is"));
            }
        }
        let length_bytes = file.seek(SeekFrom::End(0)).and_then(|end| file.rewind().map(|()| end));
        let length_bytes = length_bytes.map_err(|error| cannot_read(&named.path, &error))?;
        Ok(Self { file, named: named.clone(), length_bytes })
    }

    /// Fills `chunk` with the next bytes; empty at the end.
    ///
    /// # Errors
    /// [`Kind::Io`].
    pub fn read(&mut self, chunk: &mut Chunk) -> Result<(), Refused> {
        let room = chunk.room();
        let mut filled = 0;
        while filled < room.len() {
            match self.file.read(&mut room[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(cannot_read(&self.named.path, &error)),
            }
        }
        chunk.set_filled(filled);
        Ok(())
    }
}

fn in_use(named: &Named, reason: &str) -> Refused {
    Refusal::new(
        Kind::Open,
        "archive.in-use",
        clean(&named.name),
        format!("{reason}: it would change under the copy"),
        "archive a snapshot of it, or stop it first",
    )
}

fn refuse_mounted(named: &Named, device: u64) -> Result<(), Refused> {
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // Without /proc nothing can be told; nothing is refused then.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match writable_mount(&mounts, &number) {
        Some(place) => Err(in_use(named, &format!("is mounted for writing on {}", clean(place)))),
        None => Ok(()),
    }
}

/// Where the device `number` (major:minor) is mounted with a file system that may write, in the lines of
/// /proc/PID/mountinfo: `id parent major:minor root place options [tags] - type source options-of-the-file-system`.
fn writable_mount<'a>(mounts: &'a str, number: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(2);
        let (device, _root, place) = (fields.next()?, fields.next()?, fields.next()?);
        let writable = right.split(' ').nth(2)?.split(',').any(|option| option == "rw");
        (device == number && writable).then_some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_writable_mount_of_that_device_counts() {
        let mounts = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 259:0 / /mnt/ro ro,relatime - ext4 /dev/ublkb0 ro
31 22 259:1 / /mnt/bind ro,relatime - xfs /dev/ublkb1 rw,nouuid
garbage";
        assert_eq!(writable_mount(mounts, "8:1"), Some("/"));
        assert_eq!(writable_mount(mounts, "259:0"), None);
        assert_eq!(
            writable_mount(mounts, "259:1"),
            Some("/mnt/bind"),
            "a read-only bind of a writable file system"
        );
        assert_eq!(writable_mount(mounts, "259:2"), None);
    }

    #[test]
    fn a_locked_file_a_directory_and_a_missing_one_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plex");
        std::fs::write(&path, b"data").unwrap();
        let named =
            |path: &std::path::Path| Named { name: path.display().to_string(), path: path.to_path_buf() };
        assert_eq!(Source::open(&named(&path)).unwrap().length_bytes, 4);
        let held = File::open(&path).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        assert_eq!(Source::open(&named(&path)).unwrap_err().kind, Kind::Open);
        assert_eq!(Source::open(&named(dir.path())).unwrap_err().id, "archive.not-a-device");
        assert_eq!(Source::open(&named(&dir.path().join("none"))).unwrap_err().kind, Kind::NotFound);
    }
}
