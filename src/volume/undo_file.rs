//! An undo archive's file as it is written and read back: units of a volume, each with its checksum.
//!
//! The header is written last, when everything behind it is durable: a file that was cut off has none. What is put back
//! is checked first, unit by unit: a rotten one is an error and never reaches the volume.

use std::cell::{Cell, RefCell};

use crate::base::limits::PAGE_BYTES;
use crate::base::{ByteRange, Errno, checksum};
use crate::bitmap::ChangeMap;
use crate::device::{BlockDevice, Durability, Geometry, OwnedBuffer, Request};
use crate::format::undo::{ENTRIES, Entry, MAX_UNIT_BYTES, UndoHeader, Zone, table};

/// Bytes of a unit for a volume with that map: a region, or what a copy moves at a time when that is less.
#[must_use]
pub fn unit_bytes(map: &ChangeMap) -> u64 {
    map.region_size().bytes().min(MAX_UNIT_BYTES)
}

/// How many units the marked regions of `map` are.
#[must_use]
pub fn unit_count(map: &ChangeMap) -> u64 {
    let unit = unit_bytes(map);
    map.dirty_ranges().map(|range| range.length.div_ceil(unit)).sum()
}

async fn read<D: BlockDevice>(on: &D, offset: u64, buffer: &OwnedBuffer) -> Result<(), Errno> {
    on.submit(Request::Read { offset, buffer: buffer.clone().into() }).await
}

async fn write<D: BlockDevice>(on: &D, offset: u64, buffer: OwnedBuffer) -> Result<(), Errno> {
    on.submit(Request::Write { offset, buffer: buffer.into(), durability: Durability::Volatile }).await
}

/// An archive that is being written.
pub struct UndoWriter<D> {
    on: D,
    header: UndoHeader,
    /// In the order of the volume; checksums come as units are kept.
    table: RefCell<Vec<Entry>>,
    kept: Cell<u64>,
}

impl<D: BlockDevice> UndoWriter<D> {
    /// The archive `header` of the marked regions of `map`, to be written to `on`, which is empty and long enough.
    ///
    /// # Panics
    /// When `header` counts other units than `map` has.
    pub fn new(on: D, header: UndoHeader, map: &ChangeMap) -> Self {
        let units = map.dirty_ranges().flat_map(|range| {
            let first = range.offset / header.unit;
            first..first + range.length.div_ceil(header.unit)
        });
        let entries: Vec<_> = units.map(|unit| Entry { unit, crc: 0 }).collect();
        assert_eq!(entries.len() as u64, header.units, "an archive of other regions");
        Self { on, header, table: RefCell::new(entries), kept: Cell::new(0) }
    }

    /// Keep the volume's bytes at `range`: whole units, the last one of a volume cut off by its end.
    ///
    /// # Errors
    /// The device's; [`Errno::INVALID`] for what the archive is not made for.
    pub async fn keep(&self, range: ByteRange, bytes: &OwnedBuffer) -> Result<(), Errno> {
        let unit = self.header.unit;
        let at = self.table.borrow().binary_search_by_key(&(range.offset / unit), |entry| entry.unit);
        let at = at.map_err(|_| Errno::INVALID)?;
        let units = range.length.div_ceil(unit);
        if !range.offset.is_multiple_of(unit) {
            return Err(Errno::INVALID);
        }
        let whole = if range.length == units * unit {
            bytes.clone()
        } else {
            let whole = OwnedBuffer::zeroed((units * unit) as usize);
            bytes.with_bytes(|bytes| whole.fill_from(0, bytes));
            whole
        };
        {
            let mut entries = self.table.borrow_mut();
            let mut entries = entries.get_mut(at..at + units as usize).ok_or(Errno::INVALID)?.iter_mut();
            let first = range.offset / unit;
            whole.with_bytes(|bytes| {
                for (number, bytes) in (first..).zip(bytes.chunks_exact(unit as usize)) {
                    match entries.next() {
                        Some(entry) if entry.unit == number => entry.crc = checksum::crc32c(bytes),
                        Some(_) | None => return Err(Errno::INVALID),
                    }
                }
                Ok(())
            })?;
        }
        self.kept.set(self.kept.get() + units);
        write(&self.on, self.header.offset(Zone::Unit { index: at as u64 }), whole).await
    }

    /// Everything is kept: make it durable, then let the header say so.
    ///
    /// # Errors
    /// The device's; [`Errno::INVALID`] when something was not kept.
    pub async fn finish(&self) -> Result<(), Errno> {
        if self.kept.get() != self.header.units {
            return Err(Errno::INVALID);
        }
        let entries = self.table.take();
        for (page, entries) in (0..).zip(entries.chunks(ENTRIES)) {
            let block = OwnedBuffer::from_slice(&table::encode(&self.header, page, entries));
            write(&self.on, self.header.offset(Zone::Table { page }), block).await?;
        }
        self.on.submit(Request::Flush).await?;
        write(&self.on, 0, OwnedBuffer::from_slice(&self.header.encode())).await?;
        self.on.submit(Request::Flush).await
    }
}

/// What is wrong with an archive that is to be put back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// It cannot be read.
    Unreadable(Errno),
    /// What was read is not the archive that it should be; the reason as a person is told.
    Damaged(String),
}

/// An archive that is read: a device as long as the volume, of which only what it holds can be read, in whole units.
pub struct UndoReader<D> {
    on: D,
    header: UndoHeader,
    table: Vec<Entry>,
}

impl<D: BlockDevice> UndoReader<D> {
    /// The archive on `on`, whose table is read and checked.
    ///
    /// # Errors
    /// [`Unfit`].
    pub async fn open(on: D) -> Result<Self, Unfit> {
        let page = OwnedBuffer::zeroed(PAGE_BYTES);
        let damaged = |what: &dyn std::fmt::Display| Unfit::Damaged(what.to_string());
        read(&on, 0, &page).await.map_err(Unfit::Unreadable)?;
        let header = page.with_bytes(UndoHeader::decode).map_err(|damage| damaged(&damage))?;
        // Before the table is read: what a damaged count could ask for is bounded by what the file has.
        if header.file_bytes() > on.geometry().length {
            return Err(damaged(&"is shorter than its header says"));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(header.units as usize);
        for index in 0..header.pages() {
            let offset = header.offset(Zone::Table { page: index });
            read(&on, offset, &page).await.map_err(Unfit::Unreadable)?;
            let last = entries.last().map(|entry| entry.unit);
            let found = page.with_bytes(|block| table::decode(&header, index, last, block));
            entries.extend(found.map_err(|damage| damaged(&damage))?);
        }
        Ok(Self { on, header, table: entries })
    }

    /// Its header.
    pub const fn header(&self) -> &UndoHeader {
        &self.header
    }

    /// Mark in `map` what it holds.
    pub fn mark(&self, map: &ChangeMap) {
        for entry in &self.table {
            let offset = entry.unit * self.header.unit;
            map.mark(ByteRange::new(offset, self.header.unit.min(self.header.length - offset)));
        }
    }

    /// Read all of it once, so that nothing is put back of an archive that cannot be put back as a whole.
    ///
    /// # Errors
    /// [`Unfit`].
    pub async fn check(&self) -> Result<(), Unfit> {
        let unit = OwnedBuffer::zeroed(self.header.unit as usize);
        for index in 0..self.table.len() {
            self.unit(index, &unit).await?;
        }
        Ok(())
    }

    /// The bytes of entry `index`.
    async fn unit(&self, index: usize, buffer: &OwnedBuffer) -> Result<(), Unfit> {
        let offset = self.header.offset(Zone::Unit { index: index as u64 });
        read(&self.on, offset, buffer).await.map_err(Unfit::Unreadable)?;
        let Entry { unit, crc } = self.table[index];
        match buffer.with_bytes(checksum::crc32c) == crc {
            true => Ok(()),
            false => Err(Unfit::Damaged(format!("unit {unit} fails its checksum"))),
        }
    }

    async fn read(&self, range: ByteRange, buffer: &OwnedBuffer) -> Result<(), Errno> {
        let unit = self.header.unit;
        let is_whole = range.offset.is_multiple_of(unit)
            && (range.length.is_multiple_of(unit) || range.end() == self.header.length);
        let first = self.table.binary_search_by_key(&(range.offset / unit), |entry| entry.unit);
        let (true, Ok(first)) = (is_whole, first) else { return Err(Errno::INVALID) };
        let whole = OwnedBuffer::zeroed(unit as usize);
        for (at, piece) in (first..).zip(range.pieces(unit)) {
            if self.table.get(at).is_none_or(|entry| entry.unit != piece.offset / unit) {
                return Err(Errno::INVALID);
            }
            self.unit(at, &whole).await.map_err(|unfit| match unfit {
                Unfit::Unreadable(errno) => errno,
                Unfit::Damaged(_) => Errno::IO,
            })?;
            let part = whole.slice(0, piece.length as usize);
            part.with_bytes(|bytes| buffer.fill_from((piece.offset - range.offset) as usize, bytes));
        }
        Ok(())
    }
}

impl<D: BlockDevice> BlockDevice for UndoReader<D> {
    fn geometry(&self) -> Geometry {
        Geometry { length: self.header.length, ..self.on.geometry() }
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        let range = request.range();
        match request {
            Request::Read { buffer, .. } => match buffer.owned() {
                Some(buffer) => self.read(range, buffer).await,
                None => Err(Errno::INVALID),
            },
            Request::Flush => Ok(()),
            Request::Write { .. } | Request::WriteZeroes { .. } | Request::Discard { .. } => {
                Err(Errno::READ_ONLY)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Name, RegionSize, Uuid};
    use crate::device::Memory;
    use futures_util::FutureExt;

    const KIB: u64 = 1 << 10;

    fn run(test: impl Future<Output = ()>) {
        test.now_or_never().expect("memory never waits");
    }

    fn map(region: u32, length: u64, marked: &[(u64, u64)]) -> ChangeMap {
        let map = ChangeMap::new(length, RegionSize::new(region).unwrap());
        marked.iter().for_each(|(offset, length)| {
            map.mark(ByteRange::new(*offset, *length));
        });
        map
    }

    fn header_for(map: &ChangeMap) -> UndoHeader {
        UndoHeader {
            archive: Uuid::from_random([1; 16]),
            volume: Uuid::from_random([2; 16]),
            name: Name::new("v").unwrap(),
            length: map.length(),
            unit: unit_bytes(map),
            units: unit_count(map),
            unix_s: 7,
        }
    }

    fn bytes_at(offset: u64, length: u64) -> OwnedBuffer {
        let bytes: Vec<u8> = (offset..offset + length).map(|at| (at / 509) as u8 ^ at as u8).collect();
        OwnedBuffer::from_slice(&bytes)
    }

    async fn saved(map: &ChangeMap, piece: u64) -> std::rc::Rc<Memory> {
        let header = header_for(map);
        let file = std::rc::Rc::new(Memory::new(header.file_bytes(), 4096));
        let writer = UndoWriter::new(std::rc::Rc::clone(&file), header, map);
        for range in map.dirty_ranges() {
            assert_eq!(writer.finish().await, Err(Errno::INVALID), "not everything is kept yet");
            let mut at = range.offset;
            while at < range.end() {
                let part = ByteRange::new(at, piece.min(range.end() - at));
                writer.keep(part, &bytes_at(part.offset, part.length)).await.unwrap();
                at = part.end();
            }
        }
        writer.finish().await.unwrap();
        file
    }

    #[test]
    fn what_was_kept_is_read_back_and_nothing_else() {
        run(async {
            for region in [16 << 10, 64 << 10, 1 << 20] {
                let length = 9 * 1024 * KIB + 20 * KIB;
                let map = map(region, length, &[(0, 1), (3 << 20, 700 * KIB), (length - 1, 1)]);
                let reader = UndoReader::open(saved(&map, 512 * KIB).await).await.unwrap();
                reader.check().await.unwrap();
                let found = ChangeMap::new(length, map.region_size());
                reader.mark(&found);
                assert_eq!(found.dirty_ranges().collect::<Vec<_>>(), map.dirty_ranges().collect::<Vec<_>>());
                for range in map.dirty_ranges() {
                    let buffer = OwnedBuffer::zeroed(range.length as usize);
                    let read = Request::Read { offset: range.offset, buffer: buffer.clone().into() };
                    reader.submit(read).await.unwrap();
                    assert_eq!(buffer.to_vec(), bytes_at(range.offset, range.length).to_vec(), "{range}");
                }
                let buffer = OwnedBuffer::zeroed(region as usize);
                let outside = Request::Read { offset: 2 << 20, buffer: buffer.into() };
                assert_eq!(reader.submit(outside).await, Err(Errno::INVALID));
            }
        });
    }

    #[test]
    fn what_was_cut_off_or_has_rotted_is_never_put_back() {
        run(async {
            let map = map(64 << 10, 4 << 20, &[(0, 1), (1 << 20, 200 * KIB)]);
            let header = header_for(&map);
            let blank = Memory::new(header.file_bytes(), 4096);
            assert_eq!(
                UndoReader::open(blank).await.err(),
                Some(Unfit::Damaged("was never written".to_owned()))
            );
            // Every page of the file in turn: header, table, the first and the last unit.
            for at in [0, 4096, 8192, header.file_bytes() - 4096] {
                let file = saved(&map, 64 * KIB).await;
                let mut bytes = file.peek(ByteRange::new(at, 4096));
                bytes[100] ^= 1;
                file.poke(at, &bytes);
                let fit = match UndoReader::open(file).await {
                    Ok(reader) => reader.check().await,
                    Err(unfit) => Err(unfit),
                };
                assert!(matches!(fit, Err(Unfit::Damaged(_))), "{at}: {fit:?}");
            }
        });
    }
}
