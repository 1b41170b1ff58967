//! The pages of ublk's requests in a ring's buffer table, and the memory of ours that stands in for them where they are not
//! lent to a device.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use tokio::sync::Semaphore;

use crate::base::Errno;
use crate::base::limits::{MAX_REQUEST_BYTES, QUEUE_DEPTH};
use crate::device::{Clock, Direction, OwnedBuffer, RegisteredBuffer};

/// Where the bytes of registered requests can be read and written.
#[derive(Debug)]
pub struct RequestPages {
    file: OwnedFd,
    first: u64,
    stride: u64,
    /// Slots whose requests were answered before all work on them had ended.
    retired: RefCell<BTreeSet<u16>>,
    lent: Rc<Lent>,
}

/// Pages that an operation has until this is dropped.
pub struct Lease(Rc<Lent>);

/// The count of what is lent, which all threads share; its holders on one thread are counted by that thread alone.
#[derive(Debug)]
struct Lent(Arc<AtomicU32>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

impl RequestPages {
    /// The bytes of slot 0's request begin at `first` in `file`, those of each other `stride` behind the one before. A
    /// transfer is a copy in memory and waits for nothing. `lent` counts operations that have pages of the requests.
    #[must_use]
    pub fn new(file: OwnedFd, first: u64, stride: u64, lent: Arc<AtomicU32>) -> Self {
        Self { file, first, stride, retired: RefCell::new(BTreeSet::new()), lent: Rc::new(Lent(lent)) }
    }

    fn lends(&self, slot: u16) -> bool {
        !self.retired.borrow().contains(&slot)
    }

    /// For one operation with the pages of `slot`'s request; `None` when they are not lent any more.
    pub(super) fn lease(&self, slot: u16) -> Option<Lease> {
        self.lends(slot).then(|| {
            self.lent.0.fetch_add(1, Ordering::Relaxed);
            Lease(Rc::clone(&self.lent))
        })
    }

    pub(super) fn retire(&self, slot: u16) {
        self.retired.borrow_mut().insert(slot);
    }

    fn position(&self, pages: RegisteredBuffer) -> i64 {
        (self.first + u64::from(pages.slot) * self.stride + u64::from(pages.offset)).cast_signed()
    }

    /// Copy the bytes of a write's `pages` into `memory`, which is as long.
    ///
    /// By a call of its own: as an operation of the ring it goes through a worker thread of the kernel's, since the file does
    /// not say that it never waits, and costs twenty times as much.
    pub(super) fn fetch(&self, pages: RegisteredBuffer, memory: &OwnedBuffer) -> Result<(), Errno> {
        let (file, at, len) = (self.file.as_raw_fd(), self.position(pages), memory.len());
        if !self.lends(pages.slot) {
            return Err(Errno::INVALID);
        }
        // SAFETY: the memory is that long, and nobody else has it yet.
        transferred(len, || unsafe { libc::pread(file, memory.as_ptr().cast(), len, at) })
    }

    /// Copy `memory` into a read's `pages`, which are as long.
    pub(super) fn deliver(&self, pages: RegisteredBuffer, memory: &OwnedBuffer) -> Result<(), Errno> {
        let (file, at, len) = (self.file.as_raw_fd(), self.position(pages), memory.len());
        if !self.lends(pages.slot) {
            return Err(Errno::INVALID);
        }
        // SAFETY: the memory is that long.
        transferred(len, || unsafe { libc::pwrite(file, memory.as_ptr().cast(), len, at) })
    }
}

/// `call` until it is not interrupted; it must move `len` bytes.
fn transferred(len: usize, call: impl Fn() -> isize) -> Result<(), Errno> {
    loop {
        match usize::try_from(call()) {
            Ok(count) if count == len => return Ok(()),
            Ok(_) => return Err(Errno::IO),
            Err(_) => match std::io::Error::last_os_error() {
                error if error.kind() == std::io::ErrorKind::Interrupted => {}
                error => return Err(Errno::from(error)),
            },
        }
    }
}

/// Bytes of memory that are made present at a time: a request that comes meanwhile waits for them.
const POPULATE_BYTES: usize = 64 << 10;

/// Between two such pieces.
const POPULATE_PAUSE: Duration = Duration::from_millis(1);

/// How long it is before the first, in naps after each of which it may have ended.
const POPULATE_NAP: Duration = Duration::from_millis(5);
const POPULATE_AFTER_NAPS: usize = 100;

/// Have the kernel give us the memory at `places`, addresses with lengths, before requests need it: one that is sent because
/// memory is short must not wait for some. Not at once, because a take-over is waited for; not when it has `ended`.
pub async fn populate<C: Clock>(clock: C, places: Vec<(usize, usize)>, ended: impl Fn() -> bool) {
    let naps = std::iter::repeat_n(None, POPULATE_AFTER_NAPS);
    let pieces = places.into_iter().flat_map(|(at, len)| {
        (0..len).step_by(POPULATE_BYTES).map(move |from| (at + from, POPULATE_BYTES.min(len - from)))
    });
    for piece in naps.chain(pieces.map(Some)) {
        clock.sleep(if piece.is_some() { POPULATE_PAUSE } else { POPULATE_NAP }).await;
        if ended() {
            return;
        }
        let Some((at, len)) = piece else { continue };
        // SAFETY: the advice changes no byte. Should there be other memory by now, pages of ours are made present in vain, or
        // none are.
        let given = unsafe { madvise(at as *mut libc::c_void, len, Advice::LinuxPopulateWrite) };
        if let Err(error) = given {
            tracing::debug!(%error, "request memory is not made present");
        }
    }
}

/// Pieces of memory of one size.
struct Class {
    bytes: usize,
    count: usize,
    /// As many permits as `free` has pieces: who has one takes one.
    permits: Semaphore,
    free: RefCell<Vec<OwnedBuffer>>,
}

impl Class {
    fn new(bytes: usize, count: usize) -> Self {
        Self { bytes, count, permits: Semaphore::new(0), free: RefCell::default() }
    }

    fn fill(&self) {
        self.free.borrow_mut().extend((0..self.count).map(|_| OwnedBuffer::zeroed(self.bytes)));
        self.permits.add_permits(self.count);
    }
}

/// Memory for the requests of one thread whose pages are not lent. All of it is there before the first request needs it, and
/// who finds none waits until another request is done: memory that is asked for in a write's way may be had only by writing.
///
/// Reads have theirs and writes have theirs: a write may wait for a plex that hangs, which a read need not, or for a read.
#[derive(Default)]
pub(super) struct Pool {
    reads: Classes,
    writes: Classes,
    filled: Cell<bool>,
}

struct Classes {
    small: Class,
    large: Class,
}

/// Pieces of the size of the largest request.
const LARGE_PIECES: usize = 4;

impl Default for Classes {
    fn default() -> Self {
        // For every request of a queue a piece that most fit into, and some of the size of the largest: 3 MiB in all.
        Self {
            small: Class::new(16 << 10, usize::from(QUEUE_DEPTH)),
            large: Class::new(MAX_REQUEST_BYTES as usize, LARGE_PIECES),
        }
    }
}

impl Pool {
    fn class(&self, len: usize, direction: Direction) -> Option<&Class> {
        let classes = match direction {
            Direction::Fill => &self.reads,
            Direction::Drain => &self.writes,
        };
        [&classes.small, &classes.large].into_iter().find(|class| len <= class.bytes)
    }

    /// Have the memory ready; where it lies, when this is the first time.
    pub(super) fn fill(&self) -> Vec<(usize, usize)> {
        if self.filled.replace(true) {
            return Vec::new();
        }
        let classes = [&self.writes.small, &self.writes.large, &self.reads.small, &self.reads.large];
        classes.iter().for_each(|class| class.fill());
        let place = |memory: &OwnedBuffer| (memory.as_ptr() as usize, memory.len());
        classes.iter().flat_map(|class| class.free.borrow().iter().map(place).collect::<Vec<_>>()).collect()
    }

    /// Memory for `len` bytes that go in `direction`, with whatever was last in it.
    pub(super) async fn take(&self, len: usize, direction: Direction) -> OwnedBuffer {
        self.fill();
        let Some(class) = self.class(len, direction) else { return OwnedBuffer::zeroed(len) };
        class.permits.acquire().await.expect("nobody closes it").forget();
        let whole = class.free.borrow_mut().pop().expect("there are as many as permits");
        whole.slice(0, len)
    }

    /// Take back what [`take`](Self::take) gave. In place of what somebody still holds there is other memory from now on.
    pub(super) fn put(&self, memory: OwnedBuffer, direction: Direction) {
        let Some(class) = self.class(memory.len(), direction) else { return };
        let whole = if memory.is_unshared() { memory.whole() } else { OwnedBuffer::zeroed(class.bytes) };
        class.free.borrow_mut().push(whole);
        class.permits.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const READ: Direction = Direction::Fill;

    fn taken(pool: &Pool, len: usize, direction: Direction) -> Option<OwnedBuffer> {
        match pin!(pool.take(len, direction)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(memory) => Some(memory),
            Poll::Pending => None,
        }
    }

    #[test]
    fn memory_is_used_again_unless_somebody_holds_it() {
        let pool = Pool::default();
        let first = taken(&pool, 5000, READ).unwrap();
        assert_eq!(first.len(), 5000);
        let at = first.as_ptr();
        pool.put(first, READ);
        let again = taken(&pool, 8192, READ).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (at, 8192));
        let held = again.clone();
        pool.put(again, READ);
        assert_ne!(taken(&pool, 8192, READ).unwrap().as_ptr(), at, "a straggler may still write from it");
        drop(held);
    }

    #[test]
    fn who_finds_none_waits_for_what_is_given_back() {
        let pool = Pool::default();
        assert_eq!(pool.fill().len(), 2 * (usize::from(QUEUE_DEPTH) + LARGE_PIECES));
        assert!(pool.fill().is_empty(), "once");
        let large = MAX_REQUEST_BYTES as usize;
        let mut all: Vec<_> =
            (0..LARGE_PIECES).map(|_| taken(&pool, large, Direction::Drain).unwrap()).collect();
        let mut waiting = pin!(pool.take(large, Direction::Drain));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert!(taken(&pool, 4096, Direction::Drain).is_some(), "small ones do not wait for large ones");
        assert!(taken(&pool, large, READ).is_some(), "nor reads for writes");
        pool.put(all.pop().unwrap(), Direction::Drain);
        assert!(taken(&pool, large, Direction::Drain).is_none(), "nobody is overtaken");
        assert!(waiting.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn what_is_lent_is_counted_until_it_is_back() {
        let lent = Arc::new(AtomicU32::new(0));
        let pages = RequestPages::new(tempfile::tempfile().unwrap().into(), 0, 4096, Arc::clone(&lent));
        let lease = pages.lease(3).unwrap();
        pages.retire(3);
        assert!(pages.lease(3).is_none() && pages.lease(4).is_some());
        assert_eq!(lent.load(Ordering::Relaxed), 1);
        drop(lease);
        assert_eq!(lent.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_request_is_copied_from_and_to_its_own_place() {
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..8_u8 {
            file.write_all(&[number; 1024]).unwrap();
        }
        let look = file.try_clone().unwrap();
        let pages = RequestPages::new(file.into(), 1024, 2048, Arc::default());
        let part =
            |slot, direction| RegisteredBuffer { slot, offset: 512, len: 1024, direction, in_table: false };
        let memory = OwnedBuffer::zeroed(1024);
        pages.fetch(part(2, Direction::Drain), &memory).unwrap();
        assert_eq!(memory.to_vec(), [[5; 512], [6; 512]].concat());
        assert_eq!(pages.fetch(part(3, Direction::Drain), &memory), Err(Errno::IO), "it ends there");
        memory.fill_from(0, &[9; 1024]);
        pages.deliver(part(1, Direction::Fill), &memory).unwrap();
        let mut bytes = [0; 8192];
        look.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes[3584..4608], [9; 1024]);
        assert_eq!((bytes[3583], bytes[4608]), (3, 4));
    }
}
