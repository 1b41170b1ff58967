//! What is archived or compared: a block device or a file that nobody writes to. Several chunks of it are read at the same
//! time, by io_uring: while one is hashed and compressed the device has the next ones to do.

use super::buffer::{CHUNK_BYTES, Chunk};
use super::stream::{CHUNKS, Hand, Stream};
use super::{Named, cannot_read};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::clean;
use crate::cli::verbs::mount::cannot_open;
use rustix::fs::{FlockOperation, SeekFrom as Find, flock, seek};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::rc::Rc;
use tokio_uring::buf::BoundedBuf;

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

    /// Whether the whole chunk at `at_bytes` lies in a hole.
    fn is_hole(&mut self) -> std::io::Result<bool> {
        if self.data.end <= self.at_bytes {
            self.data = self.data_from(self.at_bytes)?;
        }
        Ok(self.data.start >= self.at_bytes.saturating_add(CHUNK_BYTES as u64))
    }

    /// Reads ahead in as many chunks as `hand` has free, and gives them on in their order.
    async fn read_all(&mut self, hand: &mut Hand) -> std::io::Result<()> {
        let file = Rc::new(tokio_uring::fs::File::from_std(self.file.try_clone()?));
        let mut coming = VecDeque::with_capacity(CHUNKS);
        let mut outcome = Ok(());
        let mut wanted = true;
        while wanted {
            let free = if coming.is_empty() { hand.take() } else { hand.try_take() };
            if let Some(chunk) = free {
                match self.is_hole() {
                    Ok(hole) => coming.push_back(tokio_uring::spawn(fill(
                        Rc::clone(&file),
                        chunk,
                        (!hole).then_some(self.at_bytes),
                    ))),
                    Err(error) => (outcome, wanted) = (Err(error), false),
                }
                self.at_bytes += CHUNK_BYTES as u64;
                continue;
            }
            let Some(first) = coming.pop_front() else { break };
            match first.await.map_err(std::io::Error::other).and_then(|filled| filled) {
                Ok(chunk) => {
                    let short = chunk.bytes().len() < CHUNK_BYTES;
                    wanted = (chunk.bytes().is_empty() || hand.give(chunk)) && !short;
                }
                Err(error) => (outcome, wanted) = (Err(error), false),
            }
        }
        // Every read ends before the ring does.
        for rest in coming {
            let _ = rest.await;
        }
        outcome
    }
}

/// Fills `chunk` from `file` at that offset, or with zeroes when there is none; short only at the end of the file.
async fn fill(
    file: Rc<tokio_uring::fs::File>,
    mut chunk: Chunk,
    offset: Option<u64>,
) -> std::io::Result<Chunk> {
    let Some(offset) = offset else {
        chunk.set_zero(CHUNK_BYTES);
        return Ok(chunk);
    };
    let (mut raw, start) = chunk.into_raw();
    let mut filled = 0;
    while filled < CHUNK_BYTES {
        let room = raw.slice(start + filled..start + CHUNK_BYTES);
        let (count, room) = file.read_at(room, offset + filled as u64).await;
        raw = room.into_inner();
        match count {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Chunk::from_raw(raw, start, filled))
}

impl Stream for Source {
    fn run(mut self, hand: &mut Hand) -> Result<(), Refused> {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder());
        let runtime = runtime.map_err(|error| no_ring(&self.named, &error))?;
        let path = self.named.path.clone();
        runtime.block_on(self.read_all(hand)).map_err(|error| cannot_read(&path, &error))
    }
}

fn in_use(named: &Named, reason: &str) -> Refused {
    Refusal::new(
        Kind::Open,
        "archive.in-use",
        clean(&named.name),
        format!("{reason}: it would change under the copy"),
        "archive a snapshot of it, or unmount it first",
    )
}

fn no_ring(named: &Named, error: &std::io::Error) -> Refused {
    Refusal::new(
        Kind::System,
        "archive.io-uring",
        clean(&named.name),
        format!("io_uring is not available ({error})"),
        "allow it: see /proc/sys/kernel/io_uring_disabled",
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
    use super::super::stream::Ahead;
    use super::*;
    use std::os::unix::fs::FileExt;

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
        let held_by_another = Source::open(&named(&path)).unwrap_err();
        assert_eq!((held_by_another.id.as_str(), held_by_another.kind), ("archive.in-use", Kind::Open));
        assert_eq!(Source::open(&named(dir.path())).unwrap_err().id, "archive.not-a-device");
        assert_eq!(Source::open(&named(&dir.path().join("none"))).unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn without_io_uring_it_is_told_where_it_is_allowed() {
        let named = Named { name: "v".to_owned(), path: "/dev/cleave/default/v".into() };
        let refused = no_ring(&named, &std::io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!((refused.id.as_str(), refused.kind), ("archive.io-uring", Kind::System));
        assert!(refused.way_out.contains("io_uring_disabled") && !refused.to_string().contains('\n'));
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
        let (mut at, mut seen) = (0, Vec::new());
        for chunk in read(Source::open(&named).unwrap()) {
            let set = chunk.iter().enumerate().filter(|(_, byte)| **byte != 0);
            seen.extend(set.map(|(offset, _)| at + offset as u64));
            at += chunk.len() as u64;
        }
        assert_eq!((at, seen.as_slice()), (length, marks.as_slice()));
        file.set_len(2 * chunk_bytes + 7).unwrap();
        let cut = Source::open(&named).unwrap();
        file.set_len(chunk_bytes).unwrap();
        let lengths: Vec<_> = read(cut).iter().map(Vec::len).collect();
        assert_eq!(lengths, [CHUNK_BYTES], "a file cut meanwhile ends where it ends");
    }

    fn read(source: Source) -> Vec<Vec<u8>> {
        let ahead = Ahead::new(source);
        let mut chunks = Vec::new();
        while let Some(chunk) = ahead.next() {
            chunks.push(chunk.bytes().to_vec());
            ahead.give_back(chunk);
        }
        ahead.finish().unwrap();
        chunks
    }

    #[test]
    fn who_gives_up_early_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        std::fs::write(&path, vec![7; 9 * CHUNK_BYTES]).unwrap();
        let ahead = Ahead::new(Source::open(&Named { name: "long".to_owned(), path }).unwrap());
        let first = ahead.next().unwrap();
        assert_eq!(first.bytes(), [7; CHUNK_BYTES]);
        assert!(ahead.finish().unwrap().length_bytes < 9 * CHUNK_BYTES as u64);
    }
}
