//! A medium: an open file or disk that all threads share. It is opened once for the process and locked once, which is
//! the fence of ordering rule 20: the kernel drops the lock of a dead process only when its last operation has ended.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, Statx, StatxFlags, fallocate,
    fcntl_getfl, fcntl_setfl, flock, fstat, fstatfs, fsync, ioctl_blksszget, open, openat, seek, stat, statx,
    unlinkat,
};
use rustix::io::Errno as Code;
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::error::{Fault, MediumError};
use super::locks::lock_holder;
use crate::base::limits::{MAX_VOLUME_BYTES, PAGE_BYTES, SECTOR_BYTES};
use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno};
use crate::device::FinalFlush;

/// How long to wait between two looks at a lock that a dying predecessor still holds.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// What a medium may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading and writing, under an exclusive lock.
    ReadWrite,
    /// Reading alone, under a lock that other readers may share.
    ReadOnly,
}

/// How to open a medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// What it will be used for.
    pub access: Access,
    /// Bytes that it must have at least.
    pub needed: u64,
    /// How long to wait for a lock that another holds: zero refuses at once, a starting daemon waits for its
    /// predecessor's last operation to end.
    pub patience: Duration,
}

impl Opening {
    /// Reading and writing, of any length, refused at once when in use.
    pub const WRITE: Self = Self { access: Access::ReadWrite, needed: 0, patience: Duration::ZERO };
    /// Reading, of any length, refused at once when a writer has it.
    pub const READ: Self = Self { access: Access::ReadOnly, needed: 0, patience: Duration::ZERO };

    /// The same with another patience.
    #[must_use]
    pub const fn waiting(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same with a least length in bytes.
    #[must_use]
    pub const fn at_least(self, needed: u64) -> Self {
        Self { needed, ..self }
    }
}

/// What a medium is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediaKind {
    /// A regular file.
    File,
    /// A block device.
    Disk,
}

/// What tells that two names mean one medium.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Identity {
    /// A file: its file system's device number and its inode.
    File {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// A block device: its number.
    Disk {
        /// `st_rdev`.
        number: u64,
    },
}

/// What stands at the path of a file that is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    /// It does.
    Its,
    /// Nothing does.
    Gone,
    /// Something else does.
    Another,
}

/// How a new file gets its space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocation {
    /// All of it at once; writes and zeroes never run out of it.
    Full,
    /// As it is written; a write may fail with `ENOSPC`.
    Sparse,
}

/// Which ways to zero without writing have not been refused by the medium.
pub(super) struct Zeroing {
    pub(super) punch: AtomicBool,
    pub(super) zero_range: AtomicBool,
}

struct Inner {
    path: PathBuf,
    file: OwnedFd,
    identity: Identity,
    access: Access,
    /// Changed by [`Medium::fit`] alone.
    length: AtomicU64,
    block_size: u32,
    memory_alignment: u32,
    direct: bool,
    in_memory: bool,
    sparse: bool,
    zeroing: Zeroing,
    flushes: FinalFlush,
}

/// An open, locked file or disk, with the file that has its labels where that is another one. Clones share it; the lock goes with
/// the last of them.
#[derive(Clone)]
pub struct Medium(Arc<Inner>, Option<Arc<Inner>>);

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Medium({})", self.0.path.display())
    }
}

impl Medium {
    /// Open and lock the file or disk at `path`. Symbolic links are followed: disks are named by them.
    ///
    /// O_DIRECT is used where the file system vouches for it by giving alignments in `STATX_DIOALIGN`, and on disks.
    /// Elsewhere (tmpfs and btrfs accept the flag and buffer all the same) the page cache stands between, which reports a
    /// failed write to nobody: there every write is made durable before it completes.
    ///
    /// # Errors
    /// [`Fault`] has them; a lock that is held for longer than the patience is [`Fault::InUse`].
    ///
    /// This blocks the calling thread: it is for workers, not for ring threads.
    pub fn open(path: &Path, opening: Opening) -> Result<Self, MediumError> {
        let system = |step: &'static str| move |code: Code| MediumError::system(path, step, code);
        // Look before opening: opening a pipe or a character device can have effects.
        let kind = media_kind(path, stat(path).map_err(system("find"))?.st_mode)?;
        let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        flags |= match opening.access {
            Access::ReadWrite => OFlags::RDWR,
            Access::ReadOnly => OFlags::RDONLY,
        };
        let deadline = Instant::now() + opening.patience;
        let file = match kind {
            MediaKind::File => open_file(path, flags, opening.access, deadline)?,
            MediaKind::Disk => open_disk(path, flags, opening.access, deadline)?,
        };
        Self::adopt(path, file, kind, opening)
    }

    /// Make a file of `length` bytes that only root may read, and open it for writing. Nothing is followed or
    /// overwritten: when the name exists, even as a dangling link, it is refused. The file and its name are durable when
    /// this returns; after an error there is no file.
    ///
    /// # Errors
    /// [`Fault::Exists`], [`Fault::NoSpace`], [`Fault::Missing`] where only devices belong, and what [`open`](Self::open)
    /// has.
    pub fn create_file(path: &Path, length: u64, allocation: Allocation) -> Result<Self, MediumError> {
        let system = |step: &'static str| move |code: Code| MediumError::system(path, step, code);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(MediumError::new(path, Fault::Directory, None));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let directory = open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(system("open the directory of"))?;
        // The name of a disk that is not there, or was mistyped, would become a file in memory.
        if is_among_devices(&directory).map_err(system("look at the directory of"))? {
            return Err(MediumError::new(path, Fault::Missing, None));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(system("create"))?;
        let made = (|| {
            match allocation {
                Allocation::Full if length > 0 => {
                    fallocate(&file, FallocateFlags::empty(), 0, length).map_err(system("allocate"))?;
                }
                Allocation::Full | Allocation::Sparse => {
                    rustix::fs::ftruncate(&file, length).map_err(system("extend"))?;
                }
            }
            fsync(&file).map_err(system("write"))?;
            fsync(&directory).map_err(system("write the directory of"))?;
            flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(system("lock"))?;
            Self::adopt(path, file, MediaKind::File, Opening::WRITE.at_least(length))
        })();
        made.map_err(|mut error| {
            // What was half made is taken back. Should that fail as well, an empty name is left, and the first error is
            // the one that matters.
            let _ = unlinkat(&directory, name, AtFlags::empty());
            let _ = fsync(&directory);
            if error.errno == Some(Errno::NO_SPACE) || error.errno == Some(Errno::from_raw(libc::EDQUOT)) {
                error.fault = Fault::NoSpace { needed: length };
            }
            error
        })
    }

    fn adopt(path: &Path, file: OwnedFd, kind: MediaKind, opening: Opening) -> Result<Self, MediumError> {
        let system = |step: &'static str| move |code: Code| MediumError::system(path, step, code);
        let found = fstat(&file).map_err(system("look at"))?;
        if media_kind(path, found.st_mode)? != kind {
            return Err(MediumError::new(path, Fault::Missing, None));
        }
        let length = seek(&file, SeekFrom::End(0)).map_err(system("measure"))?.min(MAX_VOLUME_BYTES);
        if length < opening.needed {
            return Err(MediumError::new(path, Fault::TooSmall { length, needed: opening.needed }, None));
        }
        let alignment = direct_alignment(&file);
        let (identity, block_size, memory_alignment, direct) = match kind {
            MediaKind::File => {
                let identity = Identity::File { device: found.st_dev, inode: found.st_ino };
                match alignment {
                    Some((memory, offset)) => (identity, offset, memory, true),
                    None => (identity, 512, 1, false),
                }
            }
            MediaKind::Disk => {
                // The kernel opens a read-only disk for writing and fails the writes.
                if opening.access == Access::ReadWrite && is_read_only(&file).map_err(system("look at"))? {
                    return Err(MediumError::new(path, Fault::ReadOnly, None));
                }
                let sector = ioctl_blksszget(&file).map_err(system("ask for the block size of"))?;
                let (memory, offset) = alignment.unwrap_or((sector, sector));
                (Identity::Disk { number: found.st_rdev }, offset.max(sector), memory, true)
            }
        };
        // NONBLOCK was for the opening alone: a ring would fail what it cannot do at once.
        let mut flags = fcntl_getfl(&file).map_err(system("open"))? - OFlags::NONBLOCK;
        flags.set(OFlags::DIRECT, direct);
        fcntl_setfl(&file, flags).map_err(system("open for direct I/O"))?;
        let in_memory = kind == MediaKind::File && is_in_memory(&file).map_err(system("look at"))?;
        let allocated = found.st_blocks.unsigned_abs() * SECTOR_BYTES;
        let inner = Arc::new(Inner {
            path: path.to_owned(),
            file,
            identity,
            access: opening.access,
            length: AtomicU64::new(length),
            block_size: block_size.max(512),
            memory_alignment,
            direct,
            in_memory,
            sparse: kind == MediaKind::File && allocated < length,
            zeroing: Zeroing { punch: AtomicBool::new(true), zero_range: AtomicBool::new(true) },
            flushes: FinalFlush::default(),
        });
        Ok(Self(inner, None))
    }

    /// The same, with its labels on another one.
    #[must_use]
    pub fn with_labels(self, labels: Self) -> Self {
        Self(self.0, Some(labels.0))
    }

    /// The medium that has its labels: itself, or another one.
    #[must_use]
    pub fn labels(&self) -> Self {
        Self(Arc::clone(self.1.as_ref().unwrap_or(&self.0)), None)
    }

    /// The name it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether it is a file or a disk.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        match self.0.identity {
            Identity::File { .. } => MediaKind::File,
            Identity::Disk { .. } => MediaKind::Disk,
        }
    }

    /// What tells it from others, whatever it is called.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.identity
    }

    /// What it was opened for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.0.access
    }

    /// Bytes that it had when it was opened, or was [fitted](Self::fit) last.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.0.length.load(Ordering::Relaxed)
    }

    /// Bytes that it has now.
    ///
    /// # Errors
    /// The file system's.
    pub fn size_now(&self) -> Result<u64, Errno> {
        match self.kind() {
            // The size alone: once somebody has looked at a file's times, kernels from 6.13 on give the next write a time of
            // its own, which costs it a transaction of the file system and a worker thread of the ring.
            MediaKind::File => match statx(&self.0.file, "", AtFlags::EMPTY_PATH, StatxFlags::SIZE) {
                Ok(found) => Ok(found.stx_size),
                Err(code) => Err(Errno::from_raw(code.raw_os_error())),
            },
            MediaKind::Disk => Ok(self.length()),
        }
    }

    /// Whether the path that it was opened by leads to it still.
    ///
    /// # Errors
    /// The file system's.
    pub fn name_now(&self) -> Result<Name, Errno> {
        match stat(&self.0.path) {
            Ok(found) => {
                let there = Identity::File { device: found.st_dev, inode: found.st_ino };
                Ok(if self.kind() == MediaKind::Disk || there == self.0.identity {
                    Name::Its
                } else {
                    Name::Another
                })
            }
            Err(Code::NOENT | Code::NOTDIR) => Ok(Name::Gone),
            Err(code) => Err(Errno::from_raw(code.raw_os_error())),
        }
    }

    /// That a file still has the bytes that it had when it was opened. One that was cut off reads as zero where it was
    /// written since, and nobody would know.
    ///
    /// # Errors
    /// [`Errno::GONE`] when it is shorter; what `statx(2)` has.
    pub(super) fn check_size(&self) -> Result<(), Errno> {
        if self.size_now()? < self.length() { Err(Errno::GONE) } else { Ok(()) }
    }

    /// Unit and alignment of offsets and lengths, in bytes: at least 512.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.0.block_size
    }

    /// Alignment that memory needs, in bytes.
    #[must_use]
    pub fn memory_alignment(&self) -> u32 {
        self.0.memory_alignment
    }

    /// Whether its I/O passes by the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.0.direct
    }

    /// Whether it is a file of tmpfs: nothing is waited for below it.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.0.in_memory
    }

    /// Whether it is a file with less space than length, which may give more of it back.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.0.sparse
    }

    pub(super) fn zeroing(&self) -> &Zeroing {
        &self.0.zeroing
    }

    pub(super) fn flushes(&self) -> &FinalFlush {
        &self.0.flushes
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }

    pub(super) fn set_length(&self, length: u64) {
        self.0.length.store(length, Ordering::Relaxed);
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.0.file.as_raw_fd()
    }

    /// The first range inside `span` that may hold anything but zeroes. A disk cannot tell and answers the whole span.
    pub(super) fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        if span.is_empty() {
            return Ok(None);
        }
        if self.kind() == MediaKind::Disk {
            return Ok(Some(span));
        }
        // Behind the end of a file that was cut off there is no data, which does not mean zeroes.
        let found = self.next_data_of_file(span)?;
        self.check_size()?;
        Ok(found)
    }

    fn next_data_of_file(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        // The file offset that this moves is used by nobody: all I/O names its own.
        let find = |from| seek(self.0.file.as_fd(), from);
        let start = match find(SeekFrom::Data(span.offset)) {
            Ok(start) if start < span.end() => start,
            Ok(_) | Err(Code::NXIO) => return Ok(None),
            // A file system that cannot tell.
            Err(Code::INVAL | Code::OPNOTSUPP) => return Ok(Some(span)),
            Err(code) => return Err(Errno::from_raw(code.raw_os_error())),
        };
        let end = match find(SeekFrom::Hole(start)) {
            Ok(end) => end.min(span.end()),
            Err(_) => span.end(),
        };
        // The kernel answers in bytes; callers think in blocks.
        let data = ByteRange::new(start, end - start).widen(u64::from(self.block_size()), span.end());
        Ok(Some(data.intersection(span)))
    }
}

fn media_kind(path: &Path, mode: u32) -> Result<MediaKind, MediumError> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Ok(MediaKind::File),
        FileType::BlockDevice => Ok(MediaKind::Disk),
        FileType::Directory => Err(MediumError::new(path, Fault::Directory, None)),
        _ => Err(MediumError::new(path, Fault::NotAFileOrDisk, None)),
    }
}

fn read_only(path: &Path, access: Access, code: Code) -> MediumError {
    let mut error = MediumError::system(path, "open", code);
    if access == Access::ReadWrite && matches!(code, Code::ACCESS | Code::PERM | Code::ROFS) {
        error.fault = Fault::ReadOnly;
    }
    error
}

fn open_file(path: &Path, flags: OFlags, access: Access, deadline: Instant) -> Result<OwnedFd, MediumError> {
    let file = open(path, flags, Mode::empty()).map_err(|code| read_only(path, access, code))?;
    let lock = match access {
        Access::ReadWrite => FlockOperation::NonBlockingLockExclusive,
        Access::ReadOnly => FlockOperation::NonBlockingLockShared,
    };
    // Polled, because a blocking flock has no time limit.
    loop {
        match flock(&file, lock) {
            Ok(()) => return Ok(file),
            Err(Code::WOULDBLOCK) if museum::shows(Exhibit::SuccessorDoesNotWait) => return Ok(file),
            Err(Code::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(Code::WOULDBLOCK) => {
                let found = fstat(&file).map_err(|code| MediumError::system(path, "look at", code))?;
                let device = found.st_dev;
                let holder = lock_holder(rustix::fs::major(device), rustix::fs::minor(device), found.st_ino);
                return Err(MediumError::new(path, Fault::InUse { holder }, Some(Errno::BUSY)));
            }
            Err(Code::INTR) => {}
            Err(code) => return Err(MediumError::system(path, "lock", code)),
        }
    }
}

/// Disks are held by O_EXCL, which keeps out mounts and other holders too; a `flock` on a disk would stop udev from
/// looking at it.
fn open_disk(path: &Path, flags: OFlags, access: Access, deadline: Instant) -> Result<OwnedFd, MediumError> {
    loop {
        match open(path, flags | OFlags::EXCL, Mode::empty()) {
            Ok(file) => return Ok(file),
            Err(Code::BUSY) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(Code::BUSY) => {
                let holder = "a mount, a device on top of it or another process".to_owned();
                return Err(MediumError::new(path, Fault::InUse { holder }, Some(Errno::BUSY)));
            }
            Err(Code::INTR) => {}
            Err(code) => return Err(read_only(path, access, code)),
        }
    }
}

/// Whether `directory` is on the file system of device nodes, which is no disk's.
fn is_among_devices(directory: &OwnedFd) -> Result<bool, Code> {
    let (nodes, root) = (stat("/dev")?.st_dev, stat("/")?.st_dev);
    Ok(nodes != root && fstat(directory)?.st_dev == nodes)
}

/// Whether `file` is on tmpfs.
fn is_in_memory(file: &OwnedFd) -> Result<bool, Code> {
    const TMPFS_MAGIC: libc::c_long = 0x0102_1994;
    Ok(fstatfs(file)?.f_type == TMPFS_MAGIC)
}

/// The alignments of memory and offset that direct I/O needs, where it is really there.
fn direct_alignment(file: &OwnedFd) -> Option<(u32, u32)> {
    let found: Statx = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let known = found.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let (memory, offset) = (found.stx_dio_mem_align, found.stx_dio_offset_align);
    let usable = |alignment: u32| alignment.is_power_of_two() && alignment as usize <= PAGE_BYTES;
    (known && usable(memory) && usable(offset)).then_some((memory, offset))
}

impl Zeroing {
    /// Take the refusal of one way: it is not tried again.
    pub(super) fn refuse(way: &AtomicBool) {
        way.store(false, Ordering::Relaxed);
    }
}

/// Whether the block device is set to refuse writes.
fn is_read_only(disk: &OwnedFd) -> Result<bool, Code> {
    const BLKROGET: Opcode = opcode::none(0x12, 94);
    // SAFETY: this ioctl of block devices stores one `int` where its argument points, which is what `Getter` gives it
    // room for; the descriptor is borrowed.
    unsafe { ioctl(disk, Getter::<BLKROGET, std::ffi::c_int>::new()) }.map(|flag| flag != 0)
}
