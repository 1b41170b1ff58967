//! The memory body of a block device: the reference that other bodies are compared with, and the test double where no
//! fault is wanted.
//!
//! Promises: a request is carried out whole at its first poll, so requests take effect in the order of submission;
//! everything is durable at once; space is allocated by pages of 4 KiB on first write and given back by discard and by
//! write-zeroes with [`Space::Release`]. Clones share the bytes and may go to other threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BlockDevice, Buffer, Geometry, OwnedBuffer, Request, Space};
use crate::base::limits::PAGE_BYTES;
use crate::base::{ByteRange, Errno};

const PAGE: u64 = PAGE_BYTES as u64;

type Page = Box<[u8]>;

fn empty_page() -> Page {
    vec![0; PAGE_BYTES].into_boxed_slice()
}

/// A block device in memory.
#[derive(Clone)]
pub struct Memory {
    geometry: Geometry,
    pages: Arc<Mutex<BTreeMap<u64, Page>>>,
}

impl Memory {
    /// A device of `length` zero bytes with blocks of `block_size` bytes; discarded ranges read as zero.
    ///
    /// # Panics
    /// When the length is not in whole blocks.
    #[must_use]
    pub fn new(length: u64, block_size: u32) -> Self {
        assert!(length.is_multiple_of(u64::from(block_size)), "the length is in whole blocks");
        let geometry = Geometry { length, block_size, memory_alignment: 1, discard_zeroes: true };
        Self { geometry, pages: Arc::default() }
    }

    fn pages(&self) -> MutexGuard<'_, BTreeMap<u64, Page>> {
        // A panic of another test thread leaves whole pages behind: every change below is a plain copy.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of `range`.
    ///
    /// # Panics
    /// When the range leaves the device.
    #[must_use]
    pub fn peek(&self, range: ByteRange) -> Vec<u8> {
        assert!(range.end() <= self.geometry.length, "{range} leaves the device");
        let mut bytes = Vec::with_capacity(range.length as usize);
        let pages = self.pages();
        for piece in range.pieces(PAGE) {
            let inside = (piece.offset % PAGE) as usize;
            match pages.get(&(piece.offset / PAGE)) {
                Some(page) => bytes.extend_from_slice(&page[inside..inside + piece.length as usize]),
                None => bytes.resize(bytes.len() + piece.length as usize, 0),
            }
        }
        bytes
    }

    /// Put `bytes` at `offset`.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        let range = ByteRange::new(offset, bytes.len() as u64);
        assert!(range.end() <= self.geometry.length, "{range} leaves the device");
        let mut pages = self.pages();
        for piece in range.pieces(PAGE) {
            let inside = (piece.offset % PAGE) as usize;
            let from = (piece.offset - offset) as usize;
            let page = pages.entry(piece.offset / PAGE).or_insert_with(empty_page);
            page[inside..inside + piece.length as usize]
                .copy_from_slice(&bytes[from..from + piece.length as usize]);
        }
    }

    fn zero(&self, range: ByteRange, space: Space) {
        let mut pages = self.pages();
        for piece in range.pieces(PAGE) {
            let index = piece.offset / PAGE;
            let inside = (piece.offset % PAGE) as usize;
            let whole = piece.length == PAGE || (inside == 0 && piece.end() == self.geometry.length);
            match space {
                Space::Release if whole => {
                    pages.remove(&index);
                }
                Space::Release => {
                    if let Some(page) = pages.get_mut(&index) {
                        page[inside..inside + piece.length as usize].fill(0);
                    }
                }
                Space::Keep => {
                    let page = pages.entry(index).or_insert_with(empty_page);
                    page[inside..inside + piece.length as usize].fill(0);
                }
            }
        }
    }

    /// Bytes that are allocated.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.pages().len() as u64 * PAGE
    }
}

/// The bytes of a buffer that a device without a ring can use. A registered buffer lives on its own ring alone.
fn owned(buffer: &Buffer) -> &OwnedBuffer {
    match buffer {
        Buffer::Owned(owned) => owned,
        Buffer::Registered(_) => panic!("a registered buffer reached a device in memory"),
    }
}

impl BlockDevice for Memory {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        if request.range().end() > self.geometry.length {
            return Err(Errno::INVALID);
        }
        match &request {
            Request::Read { buffer, .. } => owned(buffer).fill_from(0, &self.peek(request.range())),
            Request::Write { offset, buffer, .. } => self.poke(*offset, &owned(buffer).to_vec()),
            Request::WriteZeroes { range, space, .. } => self.zero(*range, *space),
            Request::Discard { range } => self.zero(*range, Space::Release),
            Request::Flush => {}
        }
        Ok(())
    }

    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        if span.end() > self.geometry.length {
            return Err(Errno::INVALID);
        }
        if span.is_empty() {
            return Ok(None);
        }
        let pages = self.pages();
        let Some((&first, _)) = pages.range(span.offset / PAGE..span.end().div_ceil(PAGE)).next() else {
            return Ok(None);
        };
        let mut end = first + 1;
        while end * PAGE < span.end() && pages.contains_key(&end) {
            end += 1;
        }
        Ok(Some(ByteRange::new(first * PAGE, (end - first) * PAGE).intersection(span)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Durability;
    use futures_util::FutureExt;

    fn run(device: &Memory, request: Request) -> Result<(), Errno> {
        device.submit(request).now_or_never().expect("memory never waits")
    }

    fn next(device: &Memory, offset: u64, length: u64) -> Option<ByteRange> {
        device.next_data(ByteRange::new(offset, length)).now_or_never().unwrap().unwrap()
    }

    fn write(offset: u64, bytes: &[u8]) -> Request {
        Request::Write {
            offset,
            buffer: OwnedBuffer::from_slice(bytes).into(),
            durability: Durability::Volatile,
        }
    }

    #[test]
    fn bytes_come_back_across_pages() {
        let device = Memory::new(1 << 20, 512);
        let bytes: Vec<u8> = (0..2048_u32).map(|i| i as u8 | 1).collect();
        run(&device, write(3 * 1024, &bytes)).unwrap();
        let buffer = OwnedBuffer::zeroed(4096);
        run(&device, Request::Read { offset: 2560, buffer: buffer.clone().into() }).unwrap();
        let mut expected = vec![0; 512];
        expected.extend(&bytes);
        expected.resize(4096, 0);
        assert_eq!(buffer.to_vec(), expected);
    }

    #[test]
    fn data_is_found_where_it_was_written_and_given_up_where_discarded() {
        let device = Memory::new(1 << 20, 512);
        assert_eq!(next(&device, 0, 1 << 20), None);
        run(&device, write(8192 + 512, &[1; 8192])).unwrap();
        assert_eq!(next(&device, 0, 1 << 20), Some(ByteRange::new(8192, 12288)));
        assert_eq!(next(&device, 9216, 512), Some(ByteRange::new(9216, 512)));
        run(&device, Request::Discard { range: ByteRange::new(8192, 8192) }).unwrap();
        assert_eq!(next(&device, 0, 1 << 20), Some(ByteRange::new(16384, 4096)));
        assert_eq!(device.peek(ByteRange::new(8192, 8192)), vec![0; 8192]);
        assert_eq!(device.allocated(), 4096);
    }

    #[test]
    fn zeroes_keep_space_when_told() {
        let device = Memory::new(8192, 512);
        let range = ByteRange::new(512, 4096);
        run(&device, write(0, &[9; 8192])).unwrap();
        run(&device, Request::WriteZeroes { range, space: Space::Release, durability: Durability::Volatile })
            .unwrap();
        let mut expected = vec![9; 512];
        expected.resize(4608, 0);
        expected.resize(8192, 9);
        assert_eq!(device.peek(ByteRange::new(0, 8192)), expected);
        run(&device, Request::Discard { range: ByteRange::new(0, 8192) }).unwrap();
        assert_eq!(device.allocated(), 0);
        run(&device, Request::WriteZeroes { range, space: Space::Keep, durability: Durability::Durable })
            .unwrap();
        assert_eq!(device.allocated(), 8192);
    }

    #[test]
    fn a_range_past_the_end_is_refused() {
        let device = Memory::new(8192, 512);
        assert_eq!(run(&device, write(8192, &[0; 512])), Err(Errno::INVALID));
    }
}
