//! A medium as a block device on one thread.

use io_uring::{opcode, squeue, types};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::medium::{Access, MediaKind, Medium, Zeroing};
#[cfg(test)]
use super::requests::Lease;
use super::submit::{Held, Submitter};
#[cfg(feature = "museum")]
use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, Buffer, Direction, Durability, Geometry, OwnedBuffer, Request, Space};

/// Bytes of one write of zeroes, and of the buffer that all of them share.
const ZEROES_BYTES: u64 = 1 << 20;

/// Bytes that one fallocate may cover, so that none of them holds an inode or a disk for long.
const FALLOCATE_BYTES: u64 = 64 << 20;

/// Bytes of a transfer in memory that are long enough for others to be waiting.
const LONG_IN_MEMORY_BYTES: usize = 64 << 10;

/// Bytes of a read in memory from which a worker of the kernel's does it, beside this thread: the mover's comparisons took
/// 0.6 of the time on two processors and 1.07 on one. Writes stay: workers do those of one file one after the other.
const WORKER_IN_MEMORY_BYTES: usize = 256 << 10;

/// One thread's handle of a [`Medium`].
///
/// * A discard zeroes, so that all plexes of a volume read the same after it (ordering rule 9). Space is given back only
///   by disks and by files that are sparse already: a fully allocated file stays so.
/// * On a medium behind the page cache each write is durable when it completes, or its failure would be told to nobody.
/// * A file that was cut off while it was open is [`Errno::GONE`] to reads and writes, wherever they go.
/// * After a flush that failed none succeeds, until the medium is opened anew.
/// * A short transfer is continued; where it ends inside a block, or at the medium's end, it is [`Errno::IO`].
#[derive(Clone)]
pub struct RingDevice<S> {
    /// Counted by this thread alone: each operation holds it.
    medium: Rc<Medium>,
    submitter: S,
    /// The turn of the ring in which the size of the file was looked at last.
    looked: Cell<u64>,
}

/// How a range is zeroed without being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// The space goes back; reads see zeroes.
    Punch,
    /// The space stays; reads see zeroes.
    ZeroRange,
}

impl Way {
    const fn mode(self) -> i32 {
        match self {
            Self::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Self::ZeroRange => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
        }
    }

    const fn allowed(self, zeroing: &Zeroing) -> &AtomicBool {
        match self {
            Self::Punch => &zeroing.punch,
            Self::ZeroRange => &zeroing.zero_range,
        }
    }
}

/// The ways to zero, best first; after the last come written zeroes.
fn ways(kind: MediaKind, sparse: bool, space: Space) -> &'static [Way] {
    match (kind, sparse, space) {
        // PUNCH_HOLE on a disk is a discard that must read as zero, or refused; ZERO_RANGE lets the kernel write where
        // the disk has no command for it.
        (MediaKind::Disk, _, Space::Release) => &[Way::Punch, Way::ZeroRange],
        (MediaKind::File, true, Space::Release) => &[Way::Punch, Way::ZeroRange],
        (MediaKind::File, false, _) | (_, _, Space::Keep) => &[Way::ZeroRange],
    }
}

fn zeroes() -> &'static OwnedBuffer {
    static ZEROES: OnceLock<OwnedBuffer> = OnceLock::new();
    ZEROES.get_or_init(|| OwnedBuffer::zeroed(ZEROES_BYTES as usize))
}

impl<S: Submitter> RingDevice<S> {
    /// A handle of `medium` that submits through `submitter`.
    #[must_use]
    pub fn new(medium: Medium, submitter: S) -> Self {
        Self { medium: Rc::new(medium), submitter, looked: Cell::new(u64::MAX) }
    }

    /// That a file was not cut off: looked at once for all that completed together.
    fn check_size(&self) -> Result<(), Errno> {
        let turn = self.submitter.turn();
        if self.looked.get() == turn {
            return Ok(());
        }
        self.medium.check_size()?;
        self.looked.set(turn);
        Ok(())
    }

    /// The medium.
    #[must_use]
    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.medium.raw_fd())
    }

    /// Submit what `entry` makes, again after an interruption; the count of the completion or its error.
    async fn count(&self, buffer: Option<&Buffer>, entry: impl Fn() -> squeue::Entry) -> Result<u32, Errno> {
        loop {
            let mut held = Held { medium: Some(Rc::clone(&self.medium)), ..Held::default() };
            match buffer {
                Some(Buffer::Owned(memory)) => held.buffer = Some(memory.clone()),
                // Each time anew: the request may have been answered meanwhile, and another be in its slot.
                Some(Buffer::Registered(part)) => {
                    // Not the medium's fault.
                    let late =
                        if part.direction == Direction::Drain { Errno::INVALID } else { Errno::CANCELED };
                    held.lease = Some(self.submitter.lease(part.slot).ok_or(late)?);
                }
                None => {}
            }
            // SAFETY: every entry made in this file names the medium's descriptor, and memory of `buffer` alone or a slot
            // of the ring's table.
            let result = unsafe { self.submitter.submit(entry(), held) }.await;
            match u32::try_from(result) {
                Ok(count) => return Ok(count),
                Err(_) if result == -libc::EINTR || result == -libc::EAGAIN => {}
                Err(_) => return Err(Errno::from_raw(-result)),
            }
        }
    }

    fn write_flags(&self, durability: Durability) -> i32 {
        if durability == Durability::Durable || !self.medium.is_direct() { libc::RWF_DSYNC } else { 0 }
    }

    fn transfer_entry(&self, offset: u64, buffer: &Buffer, write: Option<Durability>) -> squeue::Entry {
        let fd = self.fd();
        // A request's length fits: the largest is far below 2 GiB.
        let len = buffer.len() as u32;
        let (address, slot) = match buffer {
            Buffer::Owned(memory) => (memory.as_ptr(), self.submitter.registered(memory)),
            // In the table of ublk's requests an address is an offset into the request.
            Buffer::Registered(part) => (part.offset as usize as *mut u8, Some(part.slot)),
        };
        match (write, slot) {
            (None, None) => opcode::Read::new(fd, address, len).offset(offset).build(),
            (None, Some(slot)) => opcode::ReadFixed::new(fd, address, len, slot).offset(offset).build(),
            (Some(durability), None) => opcode::Write::new(fd, address, len)
                .offset(offset)
                .rw_flags(self.write_flags(durability))
                .build(),
            (Some(durability), Some(slot)) => opcode::WriteFixed::new(fd, address, len, slot)
                .offset(offset)
                .rw_flags(self.write_flags(durability))
                .build(),
        }
    }

    async fn transfer(
        &self,
        mut offset: u64,
        mut buffer: Buffer,
        write: Option<Durability>,
    ) -> Result<(), Errno> {
        if let Buffer::Registered(part) = &buffer {
            let wanted = if write.is_some() { Direction::Drain } else { Direction::Fill };
            if part.direction != wanted || !part.in_table {
                return Err(Errno::INVALID);
            }
        }
        if buffer.len() > i32::MAX as usize {
            return Err(Errno::INVALID);
        }
        loop {
            let for_worker =
                self.medium.is_in_memory() && write.is_none() && buffer.len() >= WORKER_IN_MEMORY_BYTES;
            let count = match &buffer {
                Buffer::Owned(memory) if self.medium.is_in_memory() && !for_worker => {
                    self.transfer_in_memory(offset, memory, write.is_some()).await?
                }
                _ => {
                    let entry = || match self.transfer_entry(offset, &buffer, write) {
                        entry if for_worker => entry.flags(squeue::Flags::ASYNC),
                        entry => entry,
                    };
                    self.count(Some(&buffer), entry).await? as usize
                }
            };
            if count == buffer.len() {
                return Ok(());
            }
            if count == 0 || count > buffer.len() || !count.is_multiple_of(self.medium.block_size() as usize)
            {
                return Err(Errno::IO);
            }
            offset += count as u64;
            buffer = buffer.slice(count, buffer.len() - count);
        }
    }

    /// A short transfer or a write of a file in memory, by this thread: the ring would hand it to a worker of the kernel's,
    /// which costs ten times as much as the copying of a page. What is flushed there is nothing.
    async fn transfer_in_memory(
        &self,
        offset: u64,
        memory: &OwnedBuffer,
        write: bool,
    ) -> Result<usize, Errno> {
        let (file, start, len, at) =
            (self.medium.raw_fd(), memory.as_ptr(), memory.len(), offset.cast_signed());
        if len >= LONG_IN_MEMORY_BYTES {
            // Whoever moves much lets the other tasks of its thread have their turn.
            tokio::task::yield_now().await;
        }
        loop {
            // SAFETY: the buffer is that long, and is there until this returns; what shares it sees what the kernel would do.
            let moved = unsafe {
                match write {
                    true => libc::pwrite(file, start.cast(), len, at),
                    false => libc::pread(file, start.cast(), len, at),
                }
            };
            match usize::try_from(moved).map_err(|_| std::io::Error::last_os_error()) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Errno::from(error)),
            }
        }
    }

    async fn flush(&self) -> Result<(), Errno> {
        let entry = || {
            #[cfg(feature = "museum")]
            if museum::shows(Exhibit::FlushOfTheWrongKind) {
                return opcode::Nop::new().build();
            }
            opcode::Fsync::new(self.fd()).flags(types::FsyncFlags::DATASYNC).build()
        };
        self.medium.flushes().run(async { self.count(None, entry).await.map(drop) }).await
    }

    /// Zero without writing; `false` when the medium cannot do it this way.
    async fn fallocate(&self, way: Way, range: ByteRange) -> Result<bool, Errno> {
        for piece in range.pieces(FALLOCATE_BYTES) {
            let entry = || {
                opcode::Fallocate::new(self.fd(), piece.length).offset(piece.offset).mode(way.mode()).build()
            };
            match self.count(None, entry).await {
                Ok(_) => {}
                // ENOSYS, ENODEV and ENOTTY: answers of layered file systems and drivers to a mode they do not have.
                Err(errno)
                    if errno == Errno::UNSUPPORTED
                        || matches!(errno.raw(), libc::ENOSYS | libc::ENODEV | libc::ENOTTY) =>
                {
                    Zeroing::refuse(way.allowed(self.medium.zeroing()));
                    return Ok(false);
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    async fn write_zeroes(
        &self,
        range: ByteRange,
        space: Space,
        durability: Durability,
    ) -> Result<(), Errno> {
        for way in ways(self.medium.kind(), self.medium.is_sparse(), space) {
            let allowed = way.allowed(self.medium.zeroing()).load(Ordering::Relaxed);
            if allowed && self.fallocate(*way, range).await? {
                return match durability {
                    Durability::Durable => self.flush().await,
                    Durability::Volatile => Ok(()),
                };
            }
        }
        for piece in range.pieces(ZEROES_BYTES) {
            // The length of a piece is at most that of the buffer.
            let part = Buffer::Owned(zeroes().slice(0, piece.length as usize));
            self.transfer(piece.offset, part, Some(durability)).await?;
        }
        Ok(())
    }
}

impl<S: Submitter> BlockDevice for RingDevice<S> {
    fn geometry(&self) -> Geometry {
        let block_size = self.medium.block_size();
        Geometry {
            length: self.medium.length() / u64::from(block_size) * u64::from(block_size),
            block_size,
            memory_alignment: self.medium.memory_alignment(),
            discard_zeroes: true,
        }
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        if request.changes() && self.medium.access() == Access::ReadOnly {
            return Err(Errno::READ_ONLY);
        }
        if request.range().end() > self.medium.length() {
            return Err(Errno::INVALID);
        }
        if request.changes() {
            // A write behind the end would make the file as long as it was.
            self.check_size()?;
        }
        match request {
            Request::Read { offset, buffer } => {
                let read = self.transfer(offset, buffer, None).await;
                // Zeroes of a hole that a later write made behind the cut are no data; nor is an end that came too soon.
                self.check_size().and(read)
            }
            Request::Write { offset, buffer, durability } => {
                self.transfer(offset, buffer, Some(durability)).await
            }
            Request::WriteZeroes { range, space, durability } => {
                Box::pin(self.write_zeroes(range, space, durability)).await
            }
            Request::Discard { range } => {
                Box::pin(self.write_zeroes(range, Space::Release, Durability::Volatile)).await
            }
            Request::Flush => Box::pin(self.flush()).await,
        }
    }

    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        self.medium.next_data(span)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::base::limits::MIB;
    use crate::ring::{Allocation, Medium};

    /// Notes the operations that it is given, and answers that each moved all its bytes.
    #[derive(Clone, Default)]
    struct Recorder(Rc<RefCell<Vec<u32>>>, Rc<Cell<u64>>);

    impl Submitter for Recorder {
        unsafe fn submit(&self, entry: squeue::Entry, held: Held) -> impl Future<Output = i32> + 'static {
            self.0.borrow_mut().push(entry.get_opcode());
            std::future::ready(held.buffer.map_or(0, |buffer| buffer.len() as i32))
        }
        fn registered(&self, _: &OwnedBuffer) -> Option<u16> {
            None
        }
        fn lease(&self, _: u16) -> Option<Lease> {
            None
        }
        fn turn(&self) -> u64 {
            self.1.replace(self.1.get() + 1)
        }
    }

    #[test]
    fn a_file_of_tmpfs_is_in_memory_and_one_of_a_disk_is_not() {
        // TMPFS_MAGIC; whoever builds in memory has no disk to tell from it.
        let is_tmpfs = |place: &std::path::Path| rustix::fs::statfs(place).unwrap().f_type == 0x0102_1994;
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        for place in [std::path::Path::new("/dev/shm"), &place] {
            let _ = std::fs::create_dir_all(place);
            let directory = tempfile::tempdir_in(place).unwrap();
            let medium = Medium::create_file(&directory.path().join("m"), MIB, Allocation::Sparse).unwrap();
            let device = std::rc::Rc::new(RingDevice::new(medium, Recorder::default()));
            assert_eq!(device.medium().is_in_memory(), is_tmpfs(place), "{}", directory.path().display());
        }
        assert!(is_tmpfs(std::path::Path::new("/dev/shm")));
    }

    #[test]
    fn a_file_that_was_cut_off_is_gone_until_it_is_whole_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m");
        let medium = Medium::create_file(&path, MIB, Allocation::Full).unwrap();
        let device = RingDevice::new(medium.clone(), Recorder::default());
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let submit =
            |request| match pin!(device.submit(request)).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => result,
                Poll::Pending => panic!("the recorder answers at once"),
            };
        let (range, space, durability) = (ByteRange::new(0, 4096), Space::Keep, Durability::Volatile);
        let buffer = || OwnedBuffer::zeroed(4096).into();
        for (size, expected) in
            [(MIB, Ok(())), (MIB - 4096, Err(Errno::GONE)), (0, Err(Errno::GONE)), (MIB, Ok(()))]
        {
            file.set_len(size).unwrap();
            // Wherever it goes: a hole that was made behind the cut reads as zero, and that is no data.
            assert_eq!(submit(Request::Read { offset: 0, buffer: buffer() }), expected, "{size}");
            assert_eq!(
                submit(Request::Write { offset: 0, buffer: buffer(), durability }),
                expected,
                "{size}"
            );
            assert_eq!(submit(Request::WriteZeroes { range, space, durability }), expected, "{size}");
            assert_eq!(medium.next_data(range).map(drop), expected, "{size}: no data is no proof of zeroes");
            assert_eq!(medium.size_now(), Ok(size));
        }
    }

    #[test]
    fn a_file_that_lost_its_name_is_told_from_one_that_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m");
        let medium = Medium::create_file(&path, MIB, Allocation::Full).unwrap();
        assert_eq!(medium.name_now(), Ok(crate::ring::Name::Its));
        std::fs::rename(&path, directory.path().join("n")).unwrap();
        assert_eq!(medium.name_now(), Ok(crate::ring::Name::Gone));
        std::fs::write(&path, "another").unwrap();
        assert_eq!(medium.name_now(), Ok(crate::ring::Name::Another));
    }

    #[test]
    fn each_request_goes_out_as_the_operation_of_its_kind() {
        let directory = tempfile::tempdir().unwrap();
        let medium = Medium::create_file(&directory.path().join("m"), MIB, Allocation::Full).unwrap();
        let recorder = Recorder::default();
        let device = RingDevice::new(medium, recorder.clone());
        let range = ByteRange::new(0, 4096);
        let buffer = || OwnedBuffer::zeroed(4096).into();
        let (space, durability) = (Space::Keep, Durability::Volatile);
        let (fsync, zero) = (opcode::Fsync::CODE, opcode::Fallocate::CODE);
        for (request, expected) in [
            (Request::Read { offset: 0, buffer: buffer() }, &[opcode::Read::CODE][..]),
            (Request::Write { offset: 0, buffer: buffer(), durability }, &[opcode::Write::CODE]),
            (Request::WriteZeroes { range, space, durability }, &[zero]),
            (Request::WriteZeroes { range, space, durability: Durability::Durable }, &[zero, fsync]),
            (Request::Discard { range }, &[zero]),
            (Request::Flush, &[fsync]),
        ] {
            let said = format!("{request:?}");
            let done = pin!(device.submit(request)).poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(done, Poll::Ready(Ok(())), "{said}");
            let expected: Vec<u32> = expected.iter().copied().map(u32::from).collect();
            assert_eq!(recorder.0.take(), expected, "{said}");
        }
    }

    #[test]
    fn only_sparse_files_and_disks_give_space_back() {
        for space in [Space::Keep, Space::Release] {
            assert_eq!(ways(MediaKind::File, false, space), [Way::ZeroRange]);
        }
        assert_eq!(ways(MediaKind::File, true, Space::Keep), [Way::ZeroRange]);
        assert_eq!(ways(MediaKind::Disk, false, Space::Keep), [Way::ZeroRange]);
        assert_eq!(ways(MediaKind::File, true, Space::Release)[0], Way::Punch);
        assert_eq!(ways(MediaKind::Disk, false, Space::Release)[0], Way::Punch);
    }
}
