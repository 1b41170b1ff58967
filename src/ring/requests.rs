//! The pages of ublk's requests in a ring's buffer table, and the memory that their bytes are fetched into.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::base::Errno;
use crate::base::limits::PAGE_BYTES;
use crate::device::{OwnedBuffer, RegisteredBuffer};

/// Bytes of fetched requests that a thread keeps memory for, beyond those that are under way.
const KEPT_BYTES: usize = 4 << 20;

/// Where the bytes of registered requests can be read.
#[derive(Debug)]
pub struct RequestPages {
    /// The file; a read of it is a copy in memory and waits for nothing.
    pub file: OwnedFd,
    /// Position in it of the first byte of slot 0's request.
    pub first: u64,
    /// From one slot's first byte to the next one's.
    pub stride: u64,
}

impl RequestPages {
    fn position(&self, pages: RegisteredBuffer) -> u64 {
        self.first + u64::from(pages.slot) * self.stride + u64::from(pages.offset)
    }

    /// Copy the bytes of `pages` into `memory`, which is as long.
    ///
    /// By a call of its own: as an operation of the ring it goes through a worker thread of the kernel's, since the file does
    /// not say that it never waits, and costs twenty times as much.
    pub(super) fn copy(&self, pages: RegisteredBuffer, memory: &OwnedBuffer) -> Result<(), Errno> {
        let (at, len) = (self.position(pages).cast_signed(), memory.len());
        loop {
            // SAFETY: the memory is that long, and nobody else has it yet.
            let count = unsafe { libc::pread(self.file.as_raw_fd(), memory.as_ptr().cast(), len, at) };
            match usize::try_from(count) {
                Ok(count) if count == len => return Ok(()),
                Ok(_) => return Err(Errno::IO),
                Err(_) => match std::io::Error::last_os_error() {
                    error if error.kind() == std::io::ErrorKind::Interrupted => {}
                    error => return Err(Errno::from(error)),
                },
            }
        }
    }
}

/// Memory that was given back, by its size: powers of two from a page on.
#[derive(Default)]
pub(super) struct Spare {
    sizes: Vec<Vec<OwnedBuffer>>,
    bytes: usize,
}

impl Spare {
    /// Memory for `len` bytes, with whatever was last in it.
    pub(super) fn take(&mut self, len: usize) -> OwnedBuffer {
        let size = len.next_power_of_two().max(PAGE_BYTES);
        let found = self.sizes.get_mut(place(size)).and_then(Vec::pop);
        let whole = match found {
            Some(whole) => {
                self.bytes -= size;
                whole
            }
            None => OwnedBuffer::unfilled(size),
        };
        whole.slice(0, len)
    }

    /// Keep what [`take`](Self::take) gave, unless somebody still has it or there is enough.
    pub(super) fn put(&mut self, memory: OwnedBuffer) {
        if !memory.is_unshared() {
            return;
        }
        let whole = memory.whole();
        let size = whole.len();
        if !size.is_power_of_two() || size < PAGE_BYTES || self.bytes + size > KEPT_BYTES {
            return;
        }
        let place = place(size);
        if self.sizes.len() <= place {
            self.sizes.resize_with(place + 1, Vec::new);
        }
        self.sizes[place].push(whole);
        self.bytes += size;
    }
}

const fn place(size: usize) -> usize {
    size.trailing_zeros() as usize - PAGE_BYTES.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Direction;
    use std::io::Write;

    #[test]
    fn memory_is_used_again_unless_somebody_holds_it() {
        let mut spare = Spare::default();
        let first = spare.take(5000);
        assert_eq!(first.len(), 5000);
        let at = first.as_ptr();
        spare.put(first);
        assert_eq!(spare.bytes, 8192);
        let again = spare.take(8192);
        assert_eq!((again.as_ptr(), again.len(), spare.bytes), (at, 8192, 0));
        let held = again.clone();
        spare.put(again);
        assert_eq!(spare.bytes, 0);
        assert_ne!(spare.take(8192).as_ptr(), at, "a straggler may still write from it");
        drop(held);
    }

    #[test]
    fn no_more_is_kept_than_is_said() {
        let mut spare = Spare::default();
        let all: Vec<_> = (0..6).map(|_| spare.take(1 << 20)).collect();
        all.into_iter().for_each(|memory| spare.put(memory));
        assert_eq!(spare.bytes, KEPT_BYTES);
    }

    #[test]
    fn each_request_is_copied_from_its_own_place() {
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..8_u8 {
            file.write_all(&[number; 1024]).unwrap();
        }
        let pages = RequestPages { file: file.into(), first: 1024, stride: 2048 };
        let part = |slot| RegisteredBuffer { slot, offset: 512, len: 1024, direction: Direction::Drain };
        let memory = OwnedBuffer::zeroed(1024);
        pages.copy(part(2), &memory).unwrap();
        assert_eq!(memory.to_vec(), [[5; 512], [6; 512]].concat());
        assert_eq!(pages.copy(part(3), &memory), Err(Errno::IO), "it ends there");
    }
}
