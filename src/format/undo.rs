//! An undo archive: the bytes of a volume that a restore overwrites, in units, with a table that says where they stood.
//!
//! Invariants:
//! * The header is written last, once everything behind it is durable: a file with a sound header is complete.
//! * The units in the table rise; a unit is at most [`MAX_UNIT_BYTES`] long and divides the regions of the volume. The last
//!   unit of a volume may be cut off by its end: what stands behind that in the archive is zero.
//! * Each unit's checksum stands in the table, so that what is put back is what was saved.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "CLVUNDOH"
//!      8     4  CRC-32C of the header, this field as zero
//!     12     2  version, 1
//!     14     1  bytes of the volume's name
//!     15     1  zero
//!     16    16  UUID of the archive
//!     32    16  UUID of the volume
//!     48     8  length of the volume in bytes
//!     56     8  bytes of a unit
//!     64     8  number of units
//!     72     8  when the archive was begun, in seconds since 1970 (UTC)
//!     80   128  name of the volume, zeroes behind it
//!    208  3888  zero
//! ```
//!
//! A page of the table, and an entry of it:
//!
//! ```text
//! offset  size  field
//!      0     8  magic "CLVUNDOT"
//!      8     4  CRC-32C of the page, this field as zero
//!     12     2  version, 1
//!     14     2  number of entries
//!     16    16  UUID of the archive
//!     32     8  index of the page
//!     40  4044  entries
//!   4084    12  zero
//! ```
//!
//! ```text
//! offset  size  field
//!      0     8  number of the unit in the volume
//!      8     4  CRC-32C of its bytes
//! ```
//!
//! The file's zones, in blocks of 4 KiB; [`Zone`] computes them:
//!
//! ```text
//! | header | table page 0 | table page 1 | ... | unit 0 | unit 1 | ...
//! ```

use crate::base::limits::{MAX_NAME_BYTES, MAX_VOLUME_BYTES, PAGE_BYTES, REGION_BYTES_MIN};
use crate::base::{Name, Uuid};

use super::layout::{Head, fields};
use super::{Damage, Structure};

/// Bytes of the largest unit: what a copy moves at a time is made of whole ones.
pub const MAX_UNIT_BYTES: u64 = 64 << 10;

/// Entries of a page of the table.
pub const ENTRIES: usize = 337;

fields! {
    MAGIC: 8, "magic \"CLVUNDOH\"";
    CRC: 4, "CRC-32C of the header, this field as zero";
    VERSION: 2, "version, 1";
    NAME_LENGTH: 1, "bytes of the volume's name";
    ZERO: 1, "zero";
    ARCHIVE: 16, "UUID of the archive";
    VOLUME: 16, "UUID of the volume";
    LENGTH: 8, "length of the volume in bytes";
    UNIT: 8, "bytes of a unit";
    COUNT: 8, "number of units";
    TIME: 8, "when the archive was begun, in seconds since 1970 (UTC)";
    NAME: MAX_NAME_BYTES, "name of the volume, zeroes behind it";
    RESERVED: PAGE_BYTES - 208, "zero";
}

const _: () = assert!(END == PAGE_BYTES);
const _: () = assert!(RESERVED.at == 208);
const _: () = assert!(NAME.size == MAX_NAME_BYTES && MAX_NAME_BYTES <= u8::MAX as usize);

const HEAD: Head = Head { magic: MAGIC, crc: CRC, version: VERSION };
const MAGIC_BYTES: &[u8; 8] = b"CLVUNDOH";
const NEWEST: u16 = 1;

/// What the page of the on-disk format shows.
pub(super) const HEADER: Structure =
    Structure { name: "undo header", head: Some((MAGIC_BYTES, NEWEST)), fields: FIELDS };
pub(super) const ENTRY: Structure = Structure { name: "undo entry", head: None, fields: entry::ALL };

/// The header of an undo archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UndoHeader {
    /// The archive.
    pub archive: Uuid,
    /// The volume that its bytes are of.
    pub volume: Uuid,
    /// What the volume was called.
    pub name: Name,
    /// Bytes of the volume.
    pub length: u64,
    /// Bytes of a unit: a power of two from 16 KiB to [`MAX_UNIT_BYTES`].
    pub unit: u64,
    /// How many units it holds.
    pub units: u64,
    /// When it was begun, in seconds since 1970-01-01 UTC.
    pub unix_s: i64,
}

impl UndoHeader {
    /// The header's 4096 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut block = [0; PAGE_BYTES];
        let name = self.name.as_str().as_bytes();
        // A name is at most as long as its field, see above.
        NAME_LENGTH.put(&mut block, &[name.len() as u8]);
        block[NAME.at..NAME.at + name.len()].copy_from_slice(name);
        ARCHIVE.put_uuid(&mut block, self.archive);
        VOLUME.put_uuid(&mut block, self.volume);
        LENGTH.put_u64(&mut block, self.length);
        UNIT.put_u64(&mut block, self.unit);
        COUNT.put_u64(&mut block, self.units);
        TIME.put(&mut block, &self.unix_s.to_le_bytes());
        HEAD.seal(&mut block, MAGIC_BYTES, NEWEST);
        block
    }

    /// The header in `block`.
    ///
    /// # Errors
    /// [`Damage`]; [`Damage::Blank`] for an archive that was never completed.
    pub fn decode(block: &[u8]) -> Result<Self, Damage> {
        HEAD.check(block, PAGE_BYTES, MAGIC_BYTES, NEWEST)?;
        let name = NAME.bytes(block);
        let (name, rest) = name
            .split_at_checked(usize::from(NAME_LENGTH.u8(block)))
            .ok_or(Damage::Absurd("length of the name"))?;
        let name = std::str::from_utf8(name).ok().and_then(|name| Name::new(name).ok());
        let header = Self {
            archive: ARCHIVE.uuid(block),
            volume: VOLUME.uuid(block),
            name: name.ok_or(Damage::Absurd("name of the volume"))?,
            length: LENGTH.u64(block),
            unit: UNIT.u64(block),
            units: COUNT.u64(block),
            unix_s: TIME.u64(block).cast_signed(),
        };
        if header.length == 0 || header.length > MAX_VOLUME_BYTES {
            return Err(Damage::Absurd("length of the volume"));
        }
        if !header.unit.is_power_of_two()
            || !(u64::from(REGION_BYTES_MIN)..=MAX_UNIT_BYTES).contains(&header.unit)
        {
            return Err(Damage::Absurd("bytes of a unit"));
        }
        if header.units > header.length.div_ceil(header.unit) {
            return Err(Damage::Absurd("more units than the volume has"));
        }
        if !ZERO.is_zero(block) || !RESERVED.is_zero(block) || rest.iter().any(|&byte| byte != 0) {
            return Err(Damage::Absurd("reserved bytes are not zero"));
        }
        Ok(header)
    }

    /// Pages of the table.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.units.div_ceil(ENTRIES as u64)
    }

    /// Bytes of the whole file.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.offset(Zone::Unit { index: self.units })
    }

    /// Offset of `zone` in the file, in bytes.
    #[must_use]
    pub const fn offset(&self, zone: Zone) -> u64 {
        const PAGE: u64 = PAGE_BYTES as u64;
        match zone {
            Zone::Header => 0,
            Zone::Table { page } => PAGE * (1 + page),
            Zone::Unit { index } => PAGE * (1 + self.pages()) + self.unit * index,
        }
    }
}

/// A part of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zone {
    /// The header.
    Header,
    /// A page of the table.
    Table {
        /// Its index.
        page: u64,
    },
    /// The bytes of a unit.
    Unit {
        /// The index of its entry in the table.
        index: u64,
    },
}

/// An entry of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Number of the unit in the volume.
    pub unit: u64,
    /// CRC-32C of its bytes, as the archive holds them.
    pub crc: u32,
}

/// An entry of the table, in bytes.
mod entry {
    use super::super::layout::fields;
    use super::Entry;

    fields! {
        UNIT: 8, "number of the unit in the volume";
        SUM: 4, "CRC-32C of its bytes";
    }
    pub(super) const ALL: &[super::super::layout::Field] = FIELDS;
    pub(super) const BYTES: usize = END;

    pub(super) fn put(bytes: &mut [u8], entry: Entry) {
        UNIT.put_u64(bytes, entry.unit);
        SUM.put(bytes, &entry.crc.to_le_bytes());
    }

    pub(super) fn get(bytes: &[u8]) -> Entry {
        Entry { unit: UNIT.u64(bytes), crc: SUM.u32(bytes) }
    }
}

/// A page of the table.
pub mod table {
    use super::super::layout::{Head, fields};
    use super::super::{Damage, Structure};
    use super::entry::{self, BYTES as ENTRY_BYTES};
    use super::{ENTRIES, Entry, NEWEST, PAGE_BYTES, UndoHeader};

    fields! {
        MAGIC: 8, "magic \"CLVUNDOT\"";
        CRC: 4, "CRC-32C of the page, this field as zero";
        VERSION: 2, "version, 1";
        COUNT: 2, "number of entries";
        ARCHIVE: 16, "UUID of the archive";
        INDEX: 8, "index of the page";
        BODY: ENTRIES * ENTRY_BYTES, "entries";
        RESERVED: 12, "zero";
    }

    const _: () = assert!(END == PAGE_BYTES);

    const HEAD: Head = Head { magic: MAGIC, crc: CRC, version: VERSION };
    const MAGIC_BYTES: &[u8; 8] = b"CLVUNDOT";

    pub(in crate::format) const PAGE: Structure =
        Structure { name: "undo table page", head: Some((MAGIC_BYTES, NEWEST)), fields: FIELDS };

    /// How many entries page `index` of the archive has.
    #[must_use]
    pub fn entries(header: &UndoHeader, index: u64) -> usize {
        let before = index.saturating_mul(ENTRIES as u64);
        header.units.saturating_sub(before).min(ENTRIES as u64) as usize
    }

    /// Page `index` of the table of `header`'s archive: its entries, at most [`ENTRIES`].
    ///
    /// # Panics
    /// For more entries than a page has room for.
    #[must_use]
    pub fn encode(header: &UndoHeader, index: u64, page: &[Entry]) -> [u8; PAGE_BYTES] {
        assert!(page.len() <= ENTRIES, "{} entries on a page", page.len());
        let mut block = [0; PAGE_BYTES];
        COUNT.put(&mut block, &(page.len() as u16).to_le_bytes());
        ARCHIVE.put_uuid(&mut block, header.archive);
        INDEX.put_u64(&mut block, index);
        for (entry, bytes) in page.iter().zip(block[BODY.at..].chunks_exact_mut(ENTRY_BYTES)) {
            entry::put(bytes, *entry);
        }
        HEAD.seal(&mut block, MAGIC_BYTES, NEWEST);
        block
    }

    /// The entries of page `index`, whose first unit must lie behind `last`.
    ///
    /// # Errors
    /// [`Damage`].
    pub fn decode(
        header: &UndoHeader,
        index: u64,
        last: Option<u64>,
        block: &[u8],
    ) -> Result<Vec<Entry>, Damage> {
        HEAD.check(block, PAGE_BYTES, MAGIC_BYTES, NEWEST)?;
        let (archive, found) = (ARCHIVE.uuid(block), INDEX.u64(block));
        if archive != header.archive {
            return Err(Damage::WrongOwner { found: archive, expected: header.archive });
        }
        if found != index {
            return Err(Damage::WrongAddress { found, expected: index });
        }
        let count = usize::from(COUNT.u16(block));
        if count != entries(header, index) {
            return Err(Damage::Absurd("number of entries on the page"));
        }
        let (body, rest) = BODY.bytes(block).split_at(count * ENTRY_BYTES);
        let page: Vec<_> = body.chunks_exact(ENTRY_BYTES).map(entry::get).collect();
        let rises = last.into_iter().chain(page.iter().map(|entry| entry.unit)).is_sorted_by(|a, b| a < b);
        if !rises || page.last().is_some_and(|entry| entry.unit >= header.length.div_ceil(header.unit)) {
            return Err(Damage::Absurd("units that do not rise, or lie behind the volume"));
        }
        if !RESERVED.is_zero(block) || rest.iter().any(|&byte| byte != 0) {
            return Err(Damage::Absurd("reserved bytes are not zero"));
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::testing::{diagram_is_in, every_flip_and_truncation, hex};
    use super::*;
    use proptest::prelude::*;

    fn header() -> UndoHeader {
        UndoHeader {
            archive: Uuid::from_random([1; 16]),
            volume: Uuid::from_random([2; 16]),
            name: Name::new("data1").unwrap(),
            length: 1 << 30,
            unit: 64 << 10,
            units: 400,
            unix_s: 1_700_000_000,
        }
    }

    fn page(first: u64, count: u64) -> Vec<Entry> {
        (first..first + count).map(|unit| Entry { unit, crc: unit as u32 * 3 }).collect()
    }

    #[test]
    fn golden_bytes() {
        let block = header().encode();
        assert_eq!(
            hex(&block[..88]),
            [
                "434c56554e444f48",
                "db695512",
                "0100",
                "05",
                "00",
                "01010101010141018101010101010101",
                "02020202020242028202020202020202",
                "0000004000000000",
                "0000010000000000",
                "9001000000000000",
                "00f1536500000000",
                "6461746131000000",
            ]
            .concat()
        );
        assert!(block[88..].iter().all(|&byte| byte == 0));
        let block = table::encode(&header(), 1, &page(337, 63));
        assert_eq!(
            hex(&block[..64]),
            [
                "434c56554e444f54",
                "c275a96c",
                "0100",
                "3f00",
                "01010101010141018101010101010101",
                "0100000000000000",
                "5101000000000000",
                "f3030000",
                "5201000000000000",
                "f6030000",
            ]
            .concat()
        );
    }

    #[test]
    fn the_diagrams_are_the_layouts() {
        for fields in [FIELDS, table::PAGE.fields, entry::ALL] {
            diagram_is_in(include_str!("undo.rs"), fields);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_seen() {
        every_flip_and_truncation(&header().encode(), |block| UndoHeader::decode(block).is_err());
        let block = table::encode(&header(), 1, &page(337, 63));
        every_flip_and_truncation(&block, |block| table::decode(&header(), 1, Some(336), block).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(UndoHeader::decode(&header().encode()), Ok(header()));
        for (index, first, count) in [(0, 5, 337), (1, 400, 63)] {
            let entries = page(first, count);
            let block = table::encode(&header(), index, &entries);
            assert_eq!(table::decode(&header(), index, None, &block), Ok(entries));
        }
        let zones = [Zone::Header, Zone::Table { page: 0 }, Zone::Table { page: 1 }, Zone::Unit { index: 0 }];
        assert_eq!(zones.map(|zone| header().offset(zone)), [0, 4096, 8192, 12288]);
        assert_eq!(header().file_bytes(), 12288 + (400 << 16));
    }

    #[test]
    fn absurd_archives_are_refused() {
        let decode = |change: fn(&mut UndoHeader)| {
            let mut header = header();
            change(&mut header);
            UndoHeader::decode(&header.encode())
        };
        for broken in [
            decode(|h| h.length = 0),
            decode(|h| h.length = MAX_VOLUME_BYTES + 1),
            decode(|h| h.unit = 0),
            decode(|h| h.unit = 48 << 10),
            decode(|h| h.unit = 128 << 10),
            decode(|h| h.unit = 4096),
            decode(|h| h.units = (1 << 14) + 1),
        ] {
            assert!(matches!(broken, Err(Damage::Absurd(_))), "{broken:?}");
        }
        let header = header();
        let other = UndoHeader { archive: header.volume, ..header.clone() };
        let falls = [Entry { unit: 9, crc: 0 }, Entry { unit: 9, crc: 0 }];
        let two = UndoHeader { units: 2, ..header.clone() };
        for (of, index, last, block) in [
            (&other, 1, None, table::encode(&header, 1, &page(337, 63))),
            (&header, 0, None, table::encode(&header, 1, &page(337, 63))),
            (&header, 1, Some(337), table::encode(&header, 1, &page(337, 63))),
            (&header, 1, None, table::encode(&header, 1, &page(337, 62))),
            (&header, 1, None, table::encode(&header, 1, &page((1 << 14) - 62, 63))),
            (&two, 0, None, table::encode(&two, 0, &falls)),
        ] {
            assert!(table::decode(of, index, last, &block).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut block = vec![0; PAGE_BYTES];
            block[..bytes.len()].copy_from_slice(&bytes);
            HEAD.seal(&mut block, MAGIC_BYTES, NEWEST);
            if let Ok(header) = UndoHeader::decode(&block) {
                let _ = (header.pages(), header.file_bytes());
            }
            let _ = UndoHeader::decode(&bytes);
            let _ = table::decode(&header(), 0, None, &bytes);
        }
    }
}
