//! What is archived or compared: a block device or a file that nobody writes to.

use super::buffer::{CHUNK_BYTES, Chunk};
use super::stream::Chunks;
use super::{Named, cannot_read};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::clean;
use crate::cli::verbs::mount::cannot_open;
use rustix::fs::{FlockOperation, SeekFrom as Find, flock, seek};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};

/// An opened source.
#[derive(Debug)]
pub struct Source {
    file: File,
    named: Named,
    /// Its length when it was opened.
    pub length_bytes: u64,
    at_bytes: u64,
    /// The stretch of data that begins at or behind `at_bytes`, before it a hole. Of a device everything is data.
    data: Range<u64>,
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
        let length_bytes = file.seek(SeekFrom::End(0)).map_err(|error| cannot_read(&named.path, &error))?;
        let data = if kind.is_file() { 0..0 } else { 0..u64::MAX };
        Ok(Self { file, named: named.clone(), length_bytes, at_bytes: 0, data })
    }

    /// The first stretch of data that ends behind `at`. A file system that cannot tell has data everywhere.
    fn data_from(&self, at: u64) -> std::io::Result<Range<u64>> {
        let start = match seek(&self.file, Find::Data(at)) {
            Ok(start) => start,
            // No data any more: a hole to the end, wherever that is by now.
            Err(rustix::io::Errno::NXIO) => self.file.metadata()?.len().max(at),
            Err(_) => return Ok(at..u64::MAX),
        };
        match seek(&self.file, Find::Hole(start)) {
            Ok(end) => Ok(start..end),
            Err(_) => Ok(start..u64::MAX),
        }
    }

    fn fill(&mut self, chunk: &mut Chunk) -> std::io::Result<()> {
        let end = self.at_bytes.saturating_add(CHUNK_BYTES as u64);
        if self.data.end <= self.at_bytes {
            self.data = self.data_from(self.at_bytes)?;
        }
        if self.data.start >= end {
            chunk.set_zero(CHUNK_BYTES);
            return Ok(());
        }
        let room = chunk.room();
        let mut filled = 0;
        while filled < room.len() {
            match self.file.read_at(&mut room[filled..], self.at_bytes + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        chunk.set_filled(filled);
        Ok(())
    }
}

impl Chunks for Source {
    fn next(&mut self, chunk: &mut Chunk) -> Result<(), Refused> {
        self.fill(chunk).map_err(|error| cannot_read(&self.named.path, &error))?;
        self.at_bytes += chunk.bytes().len() as u64;
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

    #[test]
    fn holes_are_zeroes_and_what_lies_between_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let chunk_bytes = CHUNK_BYTES as u64;
        let file = File::create(&path).unwrap();
        let length = 40 * chunk_bytes + 5;
        file.set_len(length).unwrap();
        let marks = [3 * chunk_bytes - 1, 3 * chunk_bytes, 17 * chunk_bytes + 9, 39 * chunk_bytes];
        for mark in marks {
            file.write_all_at(b"!", mark).unwrap();
        }
        let named = Named { name: "sparse".to_owned(), path };
        let mut source = Source::open(&named).unwrap();
        let (mut chunk, mut at, mut seen) = (Chunk::default(), 0, Vec::new());
        loop {
            source.next(&mut chunk).unwrap();
            if chunk.bytes().is_empty() {
                break;
            }
            let set = chunk.bytes().iter().enumerate().filter(|(_, byte)| **byte != 0);
            seen.extend(set.map(|(offset, _)| at + offset as u64));
            at += chunk.bytes().len() as u64;
        }
        assert_eq!((at, seen.as_slice()), (length, marks.as_slice()));
        file.set_len(2 * chunk_bytes + 7).unwrap();
        let mut cut = Source::open(&named).unwrap();
        file.set_len(chunk_bytes).unwrap();
        let lengths = [(); 3].map(|()| {
            cut.next(&mut chunk).unwrap();
            chunk.bytes().len()
        });
        assert_eq!(lengths, [CHUNK_BYTES, 0, 0], "a file cut meanwhile ends where it ends");
    }
}
