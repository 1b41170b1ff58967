//! Buffers: memory of ours that is shared by reference count, or a request buffer that the kernel holds.
//!
//! An [`OwnedBuffer`] is the memory that the kernel may read or write while a request is in flight; the request's clone
//! keeps it alive. A [`RegisteredBuffer`] names pages of a ublk request in a ring's buffer table: its bytes are never
//! seen here, it is valid on one ring, for one request, in one direction.

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::base::limits::PAGE_BYTES;

/// Page-aligned memory that the kernel and one user at a time may touch.
struct Memory {
    /// The first byte that is used: the first of a page.
    start: NonNull<u8>,
    allocated: NonNull<u8>,
    layout: Layout,
    /// Whether it is a mapping of its own, rather than the allocator's.
    mapped: bool,
}

/// From so many bytes on memory is mapped by itself, and goes back to the kernel when it is dropped. The allocator would keep it
/// for its thread, and cannot give pages back that are locked in memory but by unmapping them.
const MAPPED_FROM: usize = 16 << 10;

/// The allocator clears memory of a greater alignment itself, byte by byte; of this one it asks the kernel for pages that
/// are zero, and that are none until they are touched.
const LAZY_ALIGNMENT: usize = 16;

// SAFETY: `Memory` is plain bytes without thread affinity. Who may touch them when is the block device contract: the
// owner of the one request that is in flight on a range, or nobody.
unsafe impl Send for Memory {}
// SAFETY: as for `Send`; all access goes through raw-pointer copies, no reference to the bytes is ever made.
unsafe impl Sync for Memory {}

/// Have the allocator map what else is large by itself too, for as long as the process lives: the maps of volumes. glibc begins
/// like that, but raises the limit with each large piece that it gets back, up to 32 MiB (mallopt(3), `M_MMAP_THRESHOLD`).
/// Other allocators are left as they are.
pub fn map_large_apart() {
    const LARGE_BYTES: libc::c_int = 128 << 10;
    #[cfg(target_env = "gnu")]
    // SAFETY: a setting of the allocator, a plain number; it has no other effect.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.mapped {
            // SAFETY: it was mapped in `OwnedBuffer::mapped` with exactly this size and is given back once; no clone is left.
            let given_back = unsafe { munmap(self.allocated.as_ptr().cast(), self.layout.size()) };
            // Whole pages that are mapped: only the limit of mappings could refuse, and then they stay.
            debug_assert!(given_back.is_ok(), "{given_back:?}");
            return;
        }
        // SAFETY: it was allocated in `OwnedBuffer::allocate` with exactly this layout and is freed once.
        unsafe { dealloc(self.allocated.as_ptr(), self.layout) }
    }
}

/// A slice of page-aligned memory, shared by clones. The kernel may be writing into it while a request is in flight, so
/// bytes are copied in and out and never borrowed.
#[derive(Clone)]
pub struct OwnedBuffer {
    memory: Arc<Memory>,
    offset: usize,
    len: usize,
}

impl OwnedBuffer {
    /// `len` zero bytes, aligned to a page. What is never touched of a large one takes no memory.
    ///
    /// # Panics
    /// For zero bytes; when memory is exhausted the process ends, as for every allocation.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        if len >= MAPPED_FROM {
            return Self::mapped(len);
        }
        // SAFETY: `allocate` gives a layout of a size above zero.
        Self::allocate(len, LAZY_ALIGNMENT, |layout| unsafe { alloc_zeroed(layout) })
    }

    /// `len` bytes of the memory that `get` gives for their layout, which has `alignment`.
    fn allocate(len: usize, alignment: usize, get: impl FnOnce(Layout) -> *mut u8) -> Self {
        assert!(len > 0, "a buffer has at least one byte");
        let spare = PAGE_BYTES.saturating_sub(alignment);
        let layout = Layout::from_size_align(len + spare, alignment);
        let layout = layout.expect("buffer lengths are far below isize::MAX");
        let Some(allocated) = NonNull::new(get(layout)) else { handle_alloc_error(layout) };
        let before = allocated.align_offset(PAGE_BYTES);
        assert!(before <= spare, "memory is aligned as its layout says");
        // SAFETY: that many bytes and `len` more are in the allocation, by its layout.
        let start = unsafe { allocated.add(before) };
        Self { memory: Arc::new(Memory { start, allocated, layout, mapped: false }), offset: 0, len }
    }

    /// `len` zero bytes in a mapping of their own.
    fn mapped(len: usize) -> Self {
        let layout = Layout::from_size_align(len, PAGE_BYTES);
        let layout = layout.expect("buffer lengths are far below isize::MAX");
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at a place that the kernel chooses, touches no memory that is there.
        let mapping = unsafe { mmap_anonymous(std::ptr::null_mut(), len, access, MapFlags::PRIVATE) };
        let start = mapping.ok().and_then(|start| NonNull::new(start.cast()));
        let Some(start) = start else { handle_alloc_error(layout) };
        Self { memory: Arc::new(Memory { start, allocated: start, layout, mapped: true }), offset: 0, len }
    }

    /// A buffer that holds a copy of `bytes`.
    ///
    /// # Panics
    /// As [`OwnedBuffer::zeroed`].
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Self {
        if bytes.len() >= MAPPED_FROM {
            let buffer = Self::mapped(bytes.len());
            buffer.fill_from(0, bytes);
            return buffer;
        }
        Self::allocate(bytes.len(), PAGE_BYTES, |layout| {
            // SAFETY: `allocate` gives a layout of a size above zero.
            let start = unsafe { alloc(layout) };
            if !start.is_null() {
                // SAFETY: new memory of that many bytes, which are all written before anybody can read them.
                unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            }
            start
        })
    }

    /// Number of bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte; only a slice can be so.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part `offset .. offset + len`, sharing the memory.
    ///
    /// # Panics
    /// When the part does not lie inside.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        assert!(offset + len <= self.len, "slice outside its buffer");
        Self { memory: Arc::clone(&self.memory), offset: self.offset + offset, len }
    }

    /// All of the memory that this is a part of.
    #[must_use]
    pub fn whole(self) -> Self {
        let before = self.memory.start.as_ptr() as usize - self.memory.allocated.as_ptr() as usize;
        let len = self.memory.layout.size() - before;
        Self { memory: self.memory, offset: 0, len }
    }

    /// Whether no other clone or slice holds the memory, so that it can be used again.
    #[must_use]
    pub fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.memory) == 1
    }

    /// Copy `bytes` to `offset`.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn fill_from(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len, "copy outside the buffer");
        // SAFETY: the destination lies inside the allocation (asserted); `bytes` is a foreign borrow, so no overlap.
        unsafe { self.as_ptr().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Copy the bytes from `offset` on into `bytes`.
    ///
    /// # Panics
    /// When the buffer is shorter.
    pub fn copy_to(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.len, "copy outside the buffer");
        // SAFETY: the source lies inside the allocation (asserted); `bytes` is a foreign borrow, so no overlap.
        unsafe { self.as_ptr().add(offset).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// A copy of all bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.copy_to(0, &mut bytes);
        bytes
    }

    /// Run `look` on the bytes. No request that writes into the buffer may be in flight: the caller has just awaited the
    /// one that filled it and holds the only right to it.
    pub fn with_bytes<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        // SAFETY: inside the allocation; the block device contract gives the caller sole use after completion, and the
        // borrow ends with the call.
        look(unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) })
    }

    /// Address of the first byte, for the rings.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: `offset` lies inside the allocation, by construction and by `slice`'s assertion.
        unsafe { self.memory.start.as_ptr().add(self.offset) }
    }
}

impl fmt::Debug for OwnedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedBuffer({} bytes)", self.len)
    }
}

/// Which way the bytes of a registered buffer may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Into the request's pages: it is a read.
    Fill,
    /// Out of the request's pages: it is a write.
    Drain,
}

/// A range of a ublk request's pages, registered in the buffer table of the queue's ring. Only a device on that ring
/// can use it, only until the request is completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisteredBuffer {
    /// Index in the ring's buffer table: the request's tag.
    pub slot: u16,
    /// First byte, counted from the start of the request.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
    /// Which way the bytes may go.
    pub direction: Direction,
    /// Whether they stand in the table; where the kernel could not put them there, they can only be copied.
    pub in_table: bool,
}

/// The memory of a read or write. A layer that must see the bytes asks for [`Buffer::owned`] and says so in its docs.
#[derive(Clone, Debug)]
pub enum Buffer {
    /// Memory of this process.
    Owned(OwnedBuffer),
    /// Pages of the request itself, unseen.
    Registered(RegisteredBuffer),
}

impl Buffer {
    /// Number of bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Owned(buffer) => buffer.len(),
            Self::Registered(buffer) => buffer.len as usize,
        }
    }

    /// Whether there is no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part `offset .. offset + len`.
    ///
    /// # Panics
    /// When the part does not lie inside.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Owned(buffer) => Self::Owned(buffer.slice(offset, len)),
            Self::Registered(buffer) => {
                assert!(offset + len <= buffer.len as usize, "slice outside its buffer");
                // The sum stays below the request's length, which is a `u32`.
                Self::Registered(RegisteredBuffer {
                    offset: buffer.offset + offset as u32,
                    len: len as u32,
                    ..*buffer
                })
            }
        }
    }

    /// The owned memory, if it is such.
    #[must_use]
    pub const fn owned(&self) -> Option<&OwnedBuffer> {
        match self {
            Self::Owned(buffer) => Some(buffer),
            Self::Registered(_) => None,
        }
    }
}

impl From<OwnedBuffer> for Buffer {
    fn from(buffer: OwnedBuffer) -> Self {
        Self::Owned(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_memory_and_keep_it_alive() {
        let whole = OwnedBuffer::from_slice(b"0123456789");
        let part = whole.slice(2, 5).slice(1, 3);
        assert!(!whole.is_unshared());
        assert_eq!(part.to_vec(), b"345");
        part.fill_from(0, b"abc");
        assert_eq!(whole.to_vec(), b"012abc6789");
        drop(whole);
        assert!(part.is_unshared());
        assert_eq!(part.to_vec(), b"abc");
    }

    #[test]
    fn memory_is_page_aligned() {
        assert_eq!(OwnedBuffer::zeroed(512).as_ptr() as usize % PAGE_BYTES, 0);
    }

    #[test]
    fn the_memory_of_large_ones_goes_back_when_they_are_dropped() {
        let filled = || {
            let buffer = OwnedBuffer::zeroed(MAPPED_FROM);
            (0..buffer.len()).step_by(PAGE_BYTES).for_each(|at| buffer.fill_from(at, &[1]));
            // Something small that stays behind it, as there is always something.
            (buffer, vec![1_u8; 2000])
        };
        let (buffers, small): (Vec<_>, Vec<_>) = (0..200).map(|_| filled()).unzip();
        let places: Vec<usize> = buffers.iter().map(|buffer| buffer.as_ptr() as usize).collect();
        drop(buffers);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
        let spans = maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
        let spans: Vec<_> = spans.map(|(from, to)| number(from)..number(to)).collect();
        let left = places.iter().filter(|place| spans.iter().any(|span| span.contains(*place))).count();
        // Other tests run beside this one, and some of their memory may stand there by now.
        assert!(left < 100, "{left} of 200 are still mapped");
        drop(small);
    }

    #[test]
    fn a_large_one_is_whole_again_and_holds_what_it_was_made_of() {
        let bytes: Vec<u8> = (0..300_001_u32).map(|i| (i % 251) as u8).collect();
        let part = OwnedBuffer::from_slice(&bytes).slice(7, 300);
        assert_eq!(part.to_vec(), bytes[7..307]);
        let whole = part.whole();
        assert_eq!((whole.len(), whole.to_vec() == bytes), (bytes.len(), true));
        assert_eq!(whole.as_ptr() as usize % PAGE_BYTES, 0);
    }

    #[test]
    fn what_is_not_touched_of_a_large_one_takes_no_memory() {
        let resident = || {
            let numbers = std::fs::read_to_string("/proc/self/statm").unwrap();
            (numbers.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE_BYTES) >> 20
        };
        let before = resident();
        let large = OwnedBuffer::zeroed(1 << 30);
        large.fill_from((1 << 30) - 1, &[1]);
        // Other tests run beside this one.
        assert!(resident() < before + 512, "{} MiB after {before}", resident());
        large.slice((1 << 30) - 2, 2).with_bytes(|bytes| assert_eq!(bytes, [0, 1]));
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_slice_cannot_leave_its_buffer() {
        let _ = Buffer::Registered(RegisteredBuffer {
            slot: 0,
            offset: 0,
            len: 512,
            direction: Direction::Fill,
            in_table: true,
        })
        .slice(256, 512);
    }
}
