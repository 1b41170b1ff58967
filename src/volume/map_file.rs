//! A map's file as it is written and read: pages in alternating slots, and the header that says which run they belong to.
//!
//! Whether the bits may be believed is ordering rule 15:
//!
//! | volume | header | the map is |
//! | --- | --- | --- |
//! | stopped cleanly | carries that stop, and the sum of the pages read | valid as it is |
//! | crashed | carries the crashed run, or the clean stop before it | valid once OR-ed with intent |
//! | crashed again while it was started | carries the crashed run, or one of those starts | valid once OR-ed with intent |
//! | any | anything else, or unreadable | all ones |
//!
//! A single page that fails its check counts as all ones. Every slot is written when the file is made, so one that reads as
//! zero fails it. One of two slots may have been torn by a crash, and then the other counts; damaged in any way that tearing
//! does not explain, it may have been the newer one, and the page counts as all ones too.

use std::cell::{Cell, RefCell};

use futures_util::future::join_all;

use crate::base::limits::PAGE_BYTES;
use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno, Generation, Uuid};
use crate::bitmap::{BitMap, ChangeMap, ExtentMap, PAGE_MAP_BYTES};
use crate::device::{BlockDevice, Buffer, Durability, OwnedBuffer, Request};
use crate::format::map_file::{self, MapHeader, Zone, file_size, page_count, slot_offset};
use crate::format::map_page::{self, MapKind, MapPage, Place, SectorSums, Slot, sector_sums};

/// Bytes of one read when a file is loaded.
const LOAD_BYTES: u64 = 256 << 10;

const _: () = assert!(LOAD_BYTES.is_multiple_of(2 * PAGE_BYTES as u64));

/// Which map a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapIdentity {
    /// Intent or change map.
    pub kind: MapKind,
    /// The volume for an intent map, the map itself for a change map.
    pub owner: Uuid,
    /// The volume.
    pub volume: Uuid,
    /// Length in bits.
    pub bits: u64,
    /// Bytes that one bit stands for.
    pub granularity: u64,
}

impl MapIdentity {
    /// The intent map of `volume`.
    #[must_use]
    pub fn intent(volume: Uuid, map: &ExtentMap) -> Self {
        let granularity = crate::base::limits::EXTENT_BYTES;
        Self { kind: MapKind::Intent, owner: volume, volume, bits: map.bits().len(), granularity }
    }

    /// The change map `owner` of `volume`.
    #[must_use]
    pub fn change(owner: Uuid, volume: Uuid, map: &ChangeMap) -> Self {
        let granularity = map.region_size().bytes();
        Self { kind: MapKind::Change, owner, volume, bits: map.bits().len(), granularity }
    }

    /// Bytes of the file: it is preallocated to this length (ordering rule 18).
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        file_size(self.bits)
    }
}

/// How the volume ended, as the catalogue has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// Generation of the last run.
    pub run: Generation,
    /// The run that crashed before it, when starts since then may have been cut off before they showed a device.
    pub before: Option<Generation>,
    /// Generation of the last clean stop.
    pub stop: Generation,
    /// Whether the last run ended with that stop.
    pub clean: bool,
}

/// What a loaded map is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// Exactly what was stored at the clean stop.
    Exact,
    /// A superset once it is OR-ed with the intent map.
    WithIntent,
    /// Nothing was known: all bits are set.
    Nothing,
}

struct Numbers {
    header: u64,
    pages: Vec<u64>,
    /// What stands in the slots of each page, by its sectors: the next write says what it replaces.
    slots: Vec<[SectorSums; 2]>,
}

impl Numbers {
    /// Those of a new file: each slot was written once.
    fn made(&mut self) {
        self.header = 1;
        self.pages.fill(2);
        self.slots.fill([2, 1].map(map_page::empty_sums));
    }
}

/// The file of one map, on a medium or on a thread's handle of it.
pub struct MapFile<T> {
    on: T,
    identity: Cell<MapIdentity>,
    run: Generation,
    numbers: RefCell<Numbers>,
}

impl<T> MapFile<T> {
    /// The file of the map `identity` on `on`, to be written in the run `run`. [`MapFile::load`] or
    /// [`MapFile::create`] comes next, or for a new file that is not empty [`MapFile::begin`].
    pub fn new(on: T, identity: MapIdentity, run: Generation) -> Self {
        let count = page_count(identity.bits) as usize;
        let slots = vec![[sector_sums(&[0; PAGE_BYTES]); 2]; count];
        let numbers = RefCell::new(Numbers { header: 0, pages: vec![0; count], slots });
        Self { on, identity: Cell::new(identity), run, numbers }
    }

    /// The same file by another handle.
    pub fn on<U>(self, open: impl FnOnce(&T) -> U) -> MapFile<U> {
        MapFile { on: open(&self.on), identity: self.identity, run: self.run, numbers: self.numbers }
    }

    /// What it is on.
    pub const fn place(&self) -> &T {
        &self.on
    }

    /// It was created by another handle.
    pub fn was_created(&self) {
        self.numbers.borrow_mut().made();
    }

    /// The number of its header, as it was read or written last; every [`MapFile::begin`] has one of its own.
    pub fn header_number(&self) -> u64 {
        self.numbers.borrow().header
    }

    /// Which map it holds.
    pub const fn identity(&self) -> MapIdentity {
        self.identity.get()
    }
}

impl<D: BlockDevice> MapFile<D> {
    /// Write the pages of a new file, no bit set, then its header.
    ///
    /// # Errors
    /// Something could not be written.
    pub async fn create(&self) -> Result<(), Errno> {
        let first = slot_offset(0, Slot::Even);
        for piece in ByteRange::new(first, self.identity().file_bytes() - first).pieces(LOAD_BYTES) {
            // Pieces end at multiples of a pair of slots.
            let pair = 2 * PAGE_BYTES as u64;
            let index = (piece.offset - first) / pair;
            let mut bytes = Vec::with_capacity(piece.length as usize);
            for index in index..index + piece.length / pair {
                // The odd slot has the first number, as if they had been written one after the other.
                for sequence in [2, 1] {
                    bytes.extend_from_slice(&self.page(index, sequence, None, [0; PAGE_MAP_BYTES]).encode());
                }
            }
            let buffer = Buffer::Owned(OwnedBuffer::from_slice(&bytes));
            let request = Request::Write { offset: piece.offset, buffer, durability: Durability::Volatile };
            self.on.submit(request).await?;
        }
        self.on.submit(Request::Flush).await?;
        self.numbers.borrow_mut().made();
        self.numbers.borrow_mut().header = 0;
        self.write_header(None, 0).await
    }

    fn page(
        &self,
        index: u64,
        sequence: u64,
        stop: Option<Generation>,
        bits: [u8; PAGE_MAP_BYTES],
    ) -> MapPage {
        let MapIdentity { kind, owner, .. } = self.identity();
        let before = self.numbers.borrow().slots[index as usize][Slot::of(sequence).index() as usize];
        MapPage { kind, owner, index, sequence, run: self.run, stop, before, bits }
    }

    /// Read the map into `bits`, as far as it can be believed after `ending`. What could not be believed is set; a page with
    /// such bits is due to be written. [`MapFile::begin`] comes next.
    ///
    /// # Errors
    /// The file could not be flushed or read. A map that cannot be believed is no error.
    pub async fn load(&self, bits: &BitMap, ending: Ending) -> Result<Worth, Errno> {
        // A write that a killed daemon left under way may be read and not be durable: what we believe must stay.
        self.on.submit(Request::Flush).await?;
        let header = self.read_header(bits).await?;
        let vouched = header.as_ref().map_or(Worth::Nothing, |header| vouched(header, ending));
        // Also when nothing is believed: a page that is written with a lower number than the old one would lose against it.
        let sum = self.load_pages(bits, vouched).await?;
        if let Some(header) = header.as_ref().filter(|header| header.bits < bits.len()) {
            // The volume has become longer since: nothing was noted of what it got.
            bits.set_range(header.bits, bits.len());
        }
        let worth = match header {
            Some(header) if vouched == Worth::Exact && sum != header.sequence_sum => Worth::Nothing,
            _ => vouched,
        };
        if worth == Worth::Nothing {
            bits.set_all();
            (0..bits.pages()).for_each(|page| bits.mark_page(page));
        }
        Ok(worth)
    }

    /// Begin the run: write what is due of `bits`, then the header that vouches for it (ordering rule 15). Were the header
    /// first, a crash between them would have the old pages believed.
    ///
    /// # Errors
    /// A page or the header could not be written: the file is what it was to the next start.
    pub async fn begin(&self, bits: &BitMap) -> Result<(), Errno> {
        self.write_pages(bits, &bits.take_dirty_pages()).await?;
        self.write_header(None, 0).await
    }

    /// The header, where it is that of this map, or of what this was when its volume had another length: what stands in the
    /// pages is the same then, as far as both have it.
    async fn read_header(&self, map: &BitMap) -> Result<Option<MapHeader>, Errno> {
        let blocks = self.read(ByteRange::new(0, 2 * PAGE_BYTES as u64)).await?;
        let slots = Slot::BOTH.map(|slot| MapHeader::decode(block(&blocks, slot.index() as usize), slot));
        let Ok(newest) = map_file::newest(slots) else { return Ok(None) };
        self.numbers.borrow_mut().header = newest.value.sequence;
        let MapIdentity { kind, owner, bits, granularity, .. } = self.identity();
        debug_assert_eq!(bits, map.len(), "the map that the file is loaded into");
        let was = newest.value.bits;
        Ok(newest.value.belongs(kind, owner, was, granularity).is_ok().then_some(newest.value))
    }

    /// Load all pages; the sum of their sequence numbers.
    async fn load_pages(&self, bits: &BitMap, worth: Worth) -> Result<u64, Errno> {
        let end = self.identity().file_bytes();
        let mut sum = 0u64;
        for piece in
            ByteRange::new(slot_offset(0, Slot::Even), end - slot_offset(0, Slot::Even)).pieces(LOAD_BYTES)
        {
            // Pieces end at multiples of a pair of slots, and so does the header.
            let blocks = self.read(piece).await?;
            for at in 0..blocks.len() / (2 * PAGE_BYTES) {
                let index = (piece.offset - slot_offset(0, Slot::Even)) / (2 * PAGE_BYTES as u64) + at as u64;
                sum = sum.wrapping_add(self.load_page(
                    bits,
                    index,
                    [block(&blocks, 2 * at), block(&blocks, 2 * at + 1)],
                    worth,
                ));
            }
        }
        Ok(sum)
    }

    /// Load one page from its two slots; its sequence number.
    fn load_page(&self, bits: &BitMap, index: u64, slots: [&[u8]; 2], worth: Worth) -> u64 {
        self.numbers.borrow_mut().slots[index as usize] = slots.map(sector_sums);
        let MapIdentity { kind, owner, .. } = self.identity();
        let read = Slot::BOTH
            .map(|slot| MapPage::decode(slots[slot.index() as usize], &Place { kind, owner, index, slot }));
        match map_page::newest(read) {
            Ok(newest) => {
                bits.load_page(index as usize, &newest.value.bits);
                if !museum::shows(Exhibit::PageNumbersNotLoaded) {
                    self.numbers.borrow_mut().pages[index as usize] = newest.value.sequence;
                }
                // After a clean stop the sum of the numbers tells whether it was the newer slot that is damaged.
                let other = slots[1 - Slot::of(newest.value.sequence).index() as usize];
                if worth == Worth::WithIntent && !newest.other_was_torn(other) {
                    bits.set_page(index as usize);
                    bits.mark_page(index as usize);
                }
                newest.value.sequence
            }
            Err(_) => {
                bits.set_page(index as usize);
                bits.mark_page(index as usize);
                0
            }
        }
    }

    /// Write the pages `due` of `bits` durably.
    ///
    /// # Errors
    /// One of them could not be written: none counts as written then.
    pub async fn write_pages(&self, bits: &BitMap, due: &[usize]) -> Result<(), Errno> {
        let writes = due.iter().map(|&index| self.write_page(bits, index, None));
        join_all(writes).await.into_iter().collect()
    }

    async fn write_page(&self, bits: &BitMap, index: usize, stop: Option<Generation>) -> Result<(), Errno> {
        let sequence = self.numbers.borrow().pages[index] + 1;
        let slot = Slot::of(sequence);
        let (page, sums) = self.encoded(bits, index, sequence, stop);
        self.write(slot_offset(index as u64, slot), page).await?;
        let mut numbers = self.numbers.borrow_mut();
        numbers.pages[index] = sequence;
        numbers.slots[index][slot.index() as usize] = sums;
        Ok(())
    }

    /// A page as it is written, with its sums. Not inside the futures that write it: several of them are moved about together.
    fn encoded(
        &self,
        bits: &BitMap,
        index: usize,
        sequence: u64,
        stop: Option<Generation>,
    ) -> (OwnedBuffer, SectorSums) {
        let (page, sums) = self.page(index as u64, sequence, stop, bits.page_bytes(index)).encode_with_sums();
        (OwnedBuffer::from_slice(&page), sums)
    }

    /// The volume becomes longer while it runs: have `bits` bits, no fewer than now, with no new one set. The file is long
    /// enough. New pages are written first, then the header that vouches for them.
    ///
    /// # Errors
    /// Something could not be written: the file is that of the shorter map.
    pub async fn grow(&self, bits: u64) -> Result<(), Errno> {
        let before = self.identity();
        let (old, new) = (page_count(before.bits) as usize, page_count(bits) as usize);
        let resize = |pages: usize| {
            let mut numbers = self.numbers.borrow_mut();
            numbers.pages.resize(pages, 0);
            numbers.slots.resize(pages, [sector_sums(&[0; PAGE_BYTES]); 2]);
        };
        resize(new);
        let written = async {
            for index in old..new {
                for sequence in [1, 2] {
                    let (slot, bits) = (Slot::of(sequence), [0; PAGE_MAP_BYTES]);
                    let page = self.page(index as u64, sequence, None, bits).encode();
                    self.write(slot_offset(index as u64, slot), OwnedBuffer::from_slice(&page)).await?;
                }
                let mut numbers = self.numbers.borrow_mut();
                numbers.pages[index] = 2;
                numbers.slots[index] = [2, 1].map(map_page::empty_sums);
            }
            self.identity.set(MapIdentity { bits, ..before });
            self.write_header(None, 0).await
        }
        .await;
        if written.is_err() {
            self.identity.set(before);
            resize(old);
        }
        written
    }

    /// End the run: write what is due, then the header with the stop generation (ordering rule 15).
    ///
    /// # Errors
    /// The file is that of a crashed run then.
    pub async fn end_run(&self, bits: &BitMap, stop: Generation) -> Result<(), Errno> {
        let due = bits.take_dirty_pages();
        if let Err(errno) = self.write_pages(bits, &due).await {
            due.iter().for_each(|page| bits.mark_page(*page));
            return Err(errno);
        }
        self.on.submit(Request::Flush).await?;
        let sum = self.numbers.borrow().pages.iter().fold(0u64, |sum, number| sum.wrapping_add(*number));
        self.write_header(Some(stop), sum).await
    }

    async fn write_header(&self, stop: Option<Generation>, sequence_sum: u64) -> Result<(), Errno> {
        let MapIdentity { kind, owner, volume, bits, granularity } = self.identity();
        let sequence = self.numbers.borrow().header + 1;
        let run = self.run;
        let header = MapHeader { kind, owner, volume, bits, granularity, sequence, run, stop, sequence_sum };
        let block = OwnedBuffer::from_slice(&header.encode());
        self.write(Zone::Header { slot: Slot::of(sequence) }.offset(), block).await?;
        self.numbers.borrow_mut().header = sequence;
        Ok(())
    }

    async fn read(&self, range: ByteRange) -> Result<Vec<u8>, Errno> {
        let buffer = OwnedBuffer::zeroed(range.length as usize);
        self.on.submit(Request::Read { offset: range.offset, buffer: Buffer::Owned(buffer.clone()) }).await?;
        Ok(buffer.to_vec())
    }

    async fn write(&self, offset: u64, block: OwnedBuffer) -> Result<(), Errno> {
        let buffer = Buffer::Owned(block);
        self.on.submit(Request::Write { offset, buffer, durability: Durability::Durable }).await
    }
}

/// What `header` makes of the pages behind it, after `ending`.
fn vouched(header: &MapHeader, ending: Ending) -> Worth {
    let stopped_with = |stop| header.stop == Some(stop);
    let crashed = ending.before.unwrap_or(ending.run)..=ending.run;
    match ending.clean {
        true if stopped_with(ending.stop) => Worth::Exact,
        false if crashed.contains(&header.run) || stopped_with(ending.stop) => Worth::WithIntent,
        true | false if museum::shows(Exhibit::UntrackedRunBelieved) => Worth::WithIntent,
        true | false => Worth::Nothing,
    }
}

fn block(blocks: &[u8], index: usize) -> &[u8] {
    &blocks[index * PAGE_BYTES..(index + 1) * PAGE_BYTES]
}
