//! The asserting wrapper between layers: range, alignment and outcome, checked once for all.
//!
//! [`Checked`] asserts the contract of [`crate::device`] on every request that passes and on every answer that comes
//! back, and names the layer that broke it. A breach is a bug of ours, never a fault of a disk or a user, so it panics
//! also in release builds; the checks are a handful of compares. Only the look at buffers in flight, whose cost grows
//! with the queue depth, is left to builds with debug assertions.

use std::cell::RefCell;

use super::{BlockDevice, Buffer, Geometry, Request};
use crate::base::{ByteRange, Errno};

/// Memory that a request in flight may touch: first address, one past the last, whether the device writes into it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    start: usize,
    end: usize,
    filled: bool,
}

impl Held {
    fn of(request: &Request) -> Option<Self> {
        let (buffer, filled) = match request {
            Request::Read { buffer, .. } => (buffer, true),
            Request::Write { buffer, .. } => (buffer, false),
            Request::WriteZeroes { .. } | Request::Discard { .. } | Request::Flush => return None,
        };
        let owned = buffer.owned()?;
        let start = owned.as_ptr() as usize;
        Some(Self { start, end: start + owned.len(), filled })
    }

    /// Two requests may read the same memory, as a fan-out does; nobody may touch what another one fills.
    const fn conflicts(&self, other: &Self) -> bool {
        (self.filled || other.filled) && self.start < other.end && other.start < self.end
    }
}

/// Takes the memory off the list when the request ends, also when its future is dropped with its world.
struct Registration<'a> {
    list: &'a RefCell<Vec<Held>>,
    held: Option<Held>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held {
            let mut list = self.list.borrow_mut();
            if let Some(at) = list.iter().position(|other| *other == held) {
                list.swap_remove(at);
            }
        }
    }
}

/// A block device whose users and whose body are held to the contract.
pub struct Checked<D> {
    inner: D,
    layer: &'static str,
    geometry: Geometry,
    in_flight: RefCell<Vec<Held>>,
}

impl<D: BlockDevice> Checked<D> {
    /// `inner`, checked; `layer` is the name that a panic gives it.
    ///
    /// # Panics
    /// When the geometry itself breaks the contract.
    #[must_use]
    pub fn new(inner: D, layer: &'static str) -> Self {
        let geometry = inner.geometry();
        let Geometry { length, block_size, memory_alignment, discard_zeroes: _ } = geometry;
        assert!(
            block_size.is_power_of_two() && block_size >= 512,
            "{layer}: block size {block_size} is not a power of two of 512 or more"
        );
        assert!(
            memory_alignment.is_power_of_two(),
            "{layer}: memory alignment {memory_alignment} is not a power of two"
        );
        assert!(
            length.is_multiple_of(u64::from(block_size)),
            "{layer}: length {length} is not a multiple of the block size {block_size}"
        );
        Self { inner, layer, geometry, in_flight: RefCell::default() }
    }

    /// The device behind the checks.
    #[must_use]
    pub const fn inner(&self) -> &D {
        &self.inner
    }

    fn check_range(&self, what: &str, range: ByteRange) {
        let Self { layer, geometry, .. } = self;
        let block = u64::from(geometry.block_size);
        assert!(
            range.end() <= geometry.length,
            "{layer}: {what} {range} leaves the device of {} bytes",
            geometry.length
        );
        assert!(
            range.offset.is_multiple_of(block) && range.length.is_multiple_of(block),
            "{layer}: {what} {range} is not in whole blocks of {block} bytes"
        );
        assert!(!range.is_empty(), "{layer}: {what} at {} has no block", range.offset);
    }

    fn check_buffer(&self, what: &str, buffer: &Buffer) {
        let alignment = self.geometry.memory_alignment as usize;
        // The pages of a registered buffer are the kernel's, its offset is what we choose.
        let address = match buffer {
            Buffer::Owned(owned) => owned.as_ptr() as usize,
            Buffer::Registered(registered) => registered.offset as usize,
        };
        assert!(
            address.is_multiple_of(alignment),
            "{}: memory of the {what} at {address:#x} is not aligned to {alignment} bytes",
            self.layer
        );
    }

    fn check(&self, request: &Request) {
        assert!(
            self.inner.geometry() == self.geometry,
            "{}: the geometry changed from {:?} to {:?}",
            self.layer,
            self.geometry,
            self.inner.geometry()
        );
        match request {
            Request::Read { buffer, .. } => {
                self.check_range("read", request.range());
                self.check_buffer("read", buffer);
            }
            Request::Write { buffer, .. } => {
                self.check_range("write", request.range());
                self.check_buffer("write", buffer);
            }
            Request::WriteZeroes { range, .. } => self.check_range("write-zeroes", *range),
            Request::Discard { range } => self.check_range("discard", *range),
            Request::Flush => {}
        }
    }

    fn hold(&self, request: &Request) -> Registration<'_> {
        let held = if cfg!(debug_assertions) { Held::of(request) } else { None };
        if let Some(held) = held {
            let mut list = self.in_flight.borrow_mut();
            assert!(
                !list.iter().any(|other| held.conflicts(other)),
                "{}: {request:?} uses memory that another request in flight fills or reads",
                self.layer
            );
            list.push(held);
        }
        Registration { list: &self.in_flight, held }
    }
}

impl<D: BlockDevice> BlockDevice for Checked<D> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        self.check(&request);
        let _registration = self.hold(&request);
        self.inner.submit(request).await
    }

    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        self.check_range("search for data in", span);
        let found = self.inner.next_data(span).await?;
        if let Some(data) = found {
            let layer = self.layer;
            assert!(!data.is_empty() && span.contains(data), "{layer}: data {data} found outside {span}");
            let block = u64::from(self.geometry.block_size);
            assert!(
                data.offset.is_multiple_of(block) && data.length.is_multiple_of(block),
                "{layer}: data {data} is not in whole blocks of {block} bytes"
            );
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Durability, OwnedBuffer};
    use futures_util::FutureExt;
    use std::cell::Cell;

    /// Answers what it is told, never waits unless told.
    struct Puppet {
        length: Cell<u64>,
        data: Option<ByteRange>,
        wait: bool,
    }

    impl BlockDevice for Puppet {
        fn geometry(&self) -> Geometry {
            Geometry {
                length: self.length.get(),
                block_size: 512,
                memory_alignment: 512,
                discard_zeroes: true,
            }
        }
        async fn submit(&self, _: Request) -> Result<(), Errno> {
            if self.wait {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
        async fn next_data(&self, _: ByteRange) -> Result<Option<ByteRange>, Errno> {
            Ok(self.data)
        }
    }

    fn checked(data: Option<ByteRange>, wait: bool) -> Checked<Puppet> {
        Checked::new(Puppet { length: Cell::new(8192), data, wait }, "puppet")
    }

    fn write(offset: u64, buffer: &OwnedBuffer) -> Request {
        Request::Write { offset, buffer: buffer.clone().into(), durability: Durability::Volatile }
    }

    fn read(offset: u64, buffer: &OwnedBuffer) -> Request {
        Request::Read { offset, buffer: buffer.clone().into() }
    }

    #[test]
    fn what_keeps_the_contract_passes() {
        let device = checked(Some(ByteRange::new(512, 1024)), false);
        let buffer = OwnedBuffer::zeroed(1024);
        for request in [
            write(7168, &buffer),
            read(0, &buffer),
            Request::Flush,
            Request::Discard { range: ByteRange::new(0, 8192) },
        ] {
            assert_eq!(device.submit(request).now_or_never(), Some(Ok(())));
        }
        let span = ByteRange::new(0, 8192);
        assert_eq!(device.next_data(span).now_or_never(), Some(Ok(Some(ByteRange::new(512, 1024)))));
    }

    #[test]
    #[should_panic(expected = "puppet: write 7680+1024 leaves the device of 8192 bytes")]
    fn a_range_past_the_end_panics() {
        let _ = checked(None, false).submit(write(7680, &OwnedBuffer::zeroed(1024))).now_or_never();
    }

    #[test]
    #[should_panic(expected = "puppet: read 256+512 is not in whole blocks")]
    fn an_offset_inside_a_block_panics() {
        let _ = checked(None, false).submit(read(256, &OwnedBuffer::zeroed(512))).now_or_never();
    }

    #[test]
    #[should_panic(expected = "puppet: discard at 512 has no block")]
    fn an_empty_range_panics() {
        let _ =
            checked(None, false).submit(Request::Discard { range: ByteRange::new(512, 0) }).now_or_never();
    }

    #[test]
    #[should_panic(expected = "is not aligned to 512 bytes")]
    fn memory_off_its_alignment_panics() {
        let buffer = OwnedBuffer::zeroed(1024).slice(8, 512);
        let _ = checked(None, false).submit(read(0, &buffer)).now_or_never();
    }

    #[test]
    #[should_panic(expected = "puppet: the geometry changed")]
    fn a_changed_geometry_panics() {
        let device = checked(None, false);
        device.inner().length.set(4096);
        let _ = device.submit(Request::Flush).now_or_never();
    }

    #[test]
    #[should_panic(expected = "puppet: data 4096+1024 found outside 0+4096")]
    fn data_outside_the_span_panics() {
        let _ = checked(Some(ByteRange::new(4096, 1024)), false)
            .next_data(ByteRange::new(0, 4096))
            .now_or_never();
    }

    #[test]
    fn a_fan_out_may_share_its_buffer() {
        let device = checked(None, true);
        let buffer = OwnedBuffer::zeroed(512);
        let mut first = Box::pin(device.submit(write(0, &buffer)));
        let mut second = Box::pin(device.submit(write(512, &buffer)));
        assert_eq!(first.as_mut().now_or_never(), None);
        assert_eq!(second.as_mut().now_or_never(), None);
        drop((first, second));
        assert!(device.in_flight.borrow().is_empty());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "uses memory that another request in flight")]
    fn a_read_into_memory_under_write_panics() {
        let device = checked(None, true);
        let buffer = OwnedBuffer::zeroed(1024);
        let mut first = Box::pin(device.submit(write(0, &buffer)));
        let _ = first.as_mut().now_or_never();
        let _ = device.submit(read(4096, &buffer.slice(512, 512))).now_or_never();
    }
}
