//! The file that holds a map: its header, twice, and its pages, twice each.
//!
//! Invariants:
//! * The file is preallocated to its full size, and each slot of each page is written once before its first header is.
//! * Header and pages are written to slot `sequence % 2`; the sound one with the higher sequence number counts.
//! * While the volume runs, the header's `stop` is that of the clean stop before the run, or zero after a crash. A clean
//!   stop writes the pages, flushes, then writes the header with its own stop generation and the sum of the sequence
//!   numbers of all pages, then flushes.
//! * So a header with a stop generation whose sum is not that of the pages read has lost a page, even where each
//!   page read is sound: the map counts as all ones.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "CLVMHEAD"
//!      8     4  CRC-32C of the header, this field as zero
//!     12     2  version, 1
//!     14     1  kind: 1 intent, 2 change
//!     15     1  zero
//!     16    16  owner: UUID of the volume (intent) or of the map (change)
//!     32    16  UUID of the volume
//!     48     8  length of the map in bits
//!     56     8  bytes that one bit stands for
//!     64     8  number of pages
//!     72     8  sequence number of the header
//!     80     8  run generation
//!     88     8  stop generation, 0 when the run did not end cleanly
//!     96     8  sum of the pages' sequence numbers at that stop
//!    104  3992  zero
//! ```
//!
//! The file's zones, in blocks of 4 KiB; [`Zone`] computes them:
//!
//! ```text
//! | header even | header odd | page 0 even | page 0 odd | page 1 even | page 1 odd | ...
//! ```

use crate::base::limits::{EXTENT_BYTES, MAX_COUNT, MAX_VOLUME_BYTES, PAGE_BYTES, REGION_BYTES_MAX};
use crate::base::{Generation, Uuid};
use crate::bitmap::PAGE_BITS;

use super::layout::{Head, fields};
use super::map_page::{MapKind, Newest, Slot, newest_by};
use super::{Damage, Structure};

fields! {
    MAGIC: 8, "magic \"CLVMHEAD\"";
    CRC: 4, "CRC-32C of the header, this field as zero";
    VERSION: 2, "version, 1";
    KIND: 1, "kind: 1 intent, 2 change";
    ZERO: 1, "zero";
    OWNER: 16, "owner: UUID of the volume (intent) or of the map (change)";
    VOLUME: 16, "UUID of the volume";
    LENGTH: 8, "length of the map in bits";
    GRANULARITY: 8, "bytes that one bit stands for";
    PAGES: 8, "number of pages";
    SEQUENCE: 8, "sequence number of the header";
    RUN: 8, "run generation";
    STOP: 8, "stop generation, 0 when the run did not end cleanly";
    SUM: 8, "sum of the pages' sequence numbers at that stop";
    RESERVED: PAGE_BYTES - 104, "zero";
}

const _: () = assert!(END == PAGE_BYTES);
const _: () = assert!(RESERVED.at == 104);

const HEAD: Head = Head { magic: MAGIC, crc: CRC, version: VERSION };
const MAGIC_BYTES: &[u8; 8] = b"CLVMHEAD";
const NEWEST: u16 = 1;

/// What the page of the on-disk format shows.
pub(super) const STRUCTURE: Structure =
    Structure { name: "map header", head: Some((MAGIC_BYTES, NEWEST)), fields: FIELDS };

/// Bits of the longest map: the intent map of the largest volume.
pub const MAX_MAP_BITS: u64 = MAX_VOLUME_BYTES / EXTENT_BYTES;

/// How many pages a map of `bits` bits has.
#[must_use]
pub const fn page_count(bits: u64) -> u64 {
    bits.div_ceil(PAGE_BITS)
}

/// Bytes of the file of a map of `bits` bits, at most [`MAX_MAP_BITS`].
#[must_use]
pub const fn file_size(bits: u64) -> u64 {
    Zone::Page { index: page_count(bits), slot: Slot::Even }.offset()
}

/// Offset in the file of `slot` of page `page`.
#[must_use]
pub const fn slot_offset(page: u64, slot: Slot) -> u64 {
    Zone::Page { index: page, slot }.offset()
}

/// A block of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zone {
    /// One of the two headers.
    Header {
        /// Which.
        slot: Slot,
    },
    /// One of the two slots of a page.
    Page {
        /// Index of the page.
        index: u64,
        /// Which slot.
        slot: Slot,
    },
}

impl Zone {
    /// Bytes of each block.
    pub const SIZE: usize = PAGE_BYTES;

    /// Offset of the block in the file, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        let block = match self {
            Self::Header { slot } => slot.index(),
            Self::Page { index, slot } => (index + 1) * 2 + slot.index(),
        };
        block * Self::SIZE as u64
    }
}

/// The header of a map's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapHeader {
    /// Kind of the map.
    pub kind: MapKind,
    /// UUID of the volume (intent) or of the map (change).
    pub owner: Uuid,
    /// UUID of the volume.
    pub volume: Uuid,
    /// Length of the map in bits.
    pub bits: u64,
    /// Bytes that one bit stands for: the region size, or 4 MiB.
    pub granularity: u64,
    /// Number of the header's write; it chooses the slot.
    pub sequence: u64,
    /// Run generation in which the header was written.
    pub run: Generation,
    /// Stop generation of the last clean stop that the map took part in.
    pub stop: Option<Generation>,
    /// Wrapping sum of the sequence numbers of all pages at that stop, zero without one.
    pub sequence_sum: u64,
}

impl MapHeader {
    /// How many pages the map has.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        page_count(self.bits)
    }

    /// The header's 4096 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut block = [0; PAGE_BYTES];
        KIND.put(&mut block, &[self.kind.code()]);
        OWNER.put_uuid(&mut block, self.owner);
        VOLUME.put_uuid(&mut block, self.volume);
        LENGTH.put_u64(&mut block, self.bits);
        GRANULARITY.put_u64(&mut block, self.granularity);
        PAGES.put_u64(&mut block, self.pages());
        SEQUENCE.put_u64(&mut block, self.sequence);
        RUN.put_u64(&mut block, self.run.0);
        STOP.put_stop(&mut block, self.stop);
        SUM.put_u64(&mut block, self.sequence_sum);
        HEAD.seal(&mut block, MAGIC_BYTES, NEWEST);
        block
    }

    /// The header in `block`, which was read from `slot`. Whose map it is, and how long it should be, is checked by
    /// [`belongs`](Self::belongs).
    ///
    /// # Errors
    /// [`Damage`].
    pub fn decode(block: &[u8], slot: Slot) -> Result<Self, Damage> {
        HEAD.check(block, PAGE_BYTES, MAGIC_BYTES, NEWEST)?;
        let header = Self {
            kind: MapKind::of_code(KIND.u8(block))?,
            owner: OWNER.uuid(block),
            volume: VOLUME.uuid(block),
            bits: LENGTH.u64(block),
            granularity: GRANULARITY.u64(block),
            sequence: SEQUENCE.u64(block),
            run: Generation(RUN.u64(block)),
            stop: STOP.stop(block),
            sequence_sum: SUM.u64(block),
        };
        if Slot::of(header.sequence) != slot {
            return Err(Damage::Absurd("header in its other slot"));
        }
        let counts = [Generation(header.sequence), header.run, header.stop.unwrap_or_default()];
        if counts.iter().any(|count| *count > MAX_COUNT) {
            return Err(Damage::Absurd("a number that no counting reaches"));
        }
        if header.bits == 0 || header.bits > MAX_MAP_BITS {
            return Err(Damage::Absurd("length of the map"));
        }
        if PAGES.u64(block) != header.pages() {
            return Err(Damage::Absurd("number of pages does not fit the length"));
        }
        let intent = header.kind == MapKind::Intent;
        if !header.granularity.is_power_of_two()
            || header.granularity > u64::from(REGION_BYTES_MAX)
            || intent && header.granularity != EXTENT_BYTES
        {
            return Err(Damage::Absurd("bytes a bit"));
        }
        if intent && header.owner != header.volume {
            return Err(Damage::Absurd("an intent map that its volume does not own"));
        }
        if header.stop.is_none() && header.sequence_sum != 0 {
            return Err(Damage::Absurd("a sum without a stop"));
        }
        if !ZERO.is_zero(block) || !RESERVED.is_zero(block) {
            return Err(Damage::Absurd("reserved bytes are not zero"));
        }
        Ok(header)
    }

    /// Check that the file belongs to the map `owner` of `kind` with `bits` bits of `granularity` bytes.
    ///
    /// # Errors
    /// [`Damage::WrongOwner`], or [`Damage::Absurd`] for another shape: then no page of the file may be used.
    pub fn belongs(&self, kind: MapKind, owner: Uuid, bits: u64, granularity: u64) -> Result<(), Damage> {
        if self.owner != owner {
            return Err(Damage::WrongOwner { found: self.owner, expected: owner });
        }
        if (self.kind, self.bits, self.granularity) != (kind, bits, granularity) {
            return Err(Damage::Absurd("a map of another kind, length or granularity"));
        }
        Ok(())
    }
}

/// The newer of the two headers.
///
/// # Errors
/// The damage of both when neither can be read.
pub fn newest(slots: [Result<MapHeader, Damage>; 2]) -> Result<Newest<MapHeader>, [Damage; 2]> {
    newest_by(slots, |header| header.sequence)
}

#[cfg(test)]
mod tests {
    use super::super::layout::testing::{diagram_is_in, every_flip_and_truncation, hex};
    use super::*;
    use crate::base::RegionSize;
    use proptest::prelude::*;

    fn header() -> MapHeader {
        MapHeader {
            kind: MapKind::Change,
            owner: Uuid::from_random([1; 16]),
            volume: Uuid::from_random([2; 16]),
            bits: 1 << 24,
            granularity: RegionSize::DEFAULT.bytes(),
            sequence: 6,
            run: Generation(9),
            stop: Some(Generation(4)),
            sequence_sum: 1000,
        }
    }

    #[test]
    fn golden_bytes() {
        let block = header().encode();
        assert_eq!(
            hex(&block[..112]),
            [
                "434c564d48454144",
                "db653133",
                "0100",
                "02",
                "00",
                "01010101010141018101010101010101",
                "02020202020242028202020202020202",
                "0000000100000000",
                "0000010000000000",
                "1102000000000000",
                "0600000000000000",
                "0900000000000000",
                "0400000000000000",
                "e803000000000000",
                "0000000000000000",
            ]
            .concat()
        );
        assert!(block[112..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn the_diagram_is_the_layout() {
        diagram_is_in(include_str!("map_file.rs"), FIELDS);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_seen() {
        every_flip_and_truncation(&header().encode(), |block| MapHeader::decode(block, Slot::Even).is_err());
    }

    #[test]
    fn zones_follow_each_other_without_gap_or_overlap() {
        let mut zones: Vec<_> = Slot::BOTH.iter().map(|&slot| Zone::Header { slot }).collect();
        for index in 0..529 {
            zones.extend(Slot::BOTH.iter().map(|&slot| Zone::Page { index, slot }));
        }
        for (block, zone) in zones.iter().enumerate() {
            assert_eq!(zone.offset(), (block * PAGE_BYTES) as u64);
        }
        assert_eq!(file_size(1 << 24), (zones.len() * PAGE_BYTES) as u64);
        assert_eq!(slot_offset(0, Slot::Odd), 3 * 4096);
        assert!(file_size(MAX_MAP_BITS) < i64::MAX as u64);
    }

    #[test]
    fn absurd_headers_are_refused() {
        let decode = |change: fn(&mut MapHeader)| {
            let mut header = header();
            change(&mut header);
            MapHeader::decode(&header.encode(), Slot::Even)
        };
        assert_eq!(decode(|_| ()), Ok(header()));
        for broken in [
            decode(|h| h.bits = 0),
            decode(|h| h.bits = MAX_MAP_BITS + 1),
            decode(|h| h.granularity = 0),
            decode(|h| h.granularity = 3 << 20),
            decode(|h| h.granularity = 1 << 63),
            decode(|h| h.sequence = 7),
            decode(|h| h.stop = None),
            decode(|h| h.sequence = MAX_COUNT.0 + 2),
            decode(|h| h.run = MAX_COUNT.next()),
            decode(|h| h.stop = Some(MAX_COUNT.next())),
            decode(|h| h.kind = MapKind::Intent),
            decode(|h| (h.kind, h.granularity) = (MapKind::Intent, EXTENT_BYTES)),
        ] {
            assert!(matches!(broken, Err(Damage::Absurd(_))), "{broken:?}");
        }
    }

    #[test]
    fn a_file_of_another_map_or_shape_does_not_belong() {
        let (header, kind, size) = (header(), MapKind::Change, RegionSize::DEFAULT.bytes());
        assert_eq!(header.belongs(kind, header.owner, 1 << 24, size), Ok(()));
        assert!(matches!(header.belongs(kind, header.volume, 1 << 24, size), Err(Damage::WrongOwner { .. })));
        assert!(header.belongs(MapKind::Intent, header.owner, 1 << 24, size).is_err());
        assert!(header.belongs(kind, header.owner, 1 << 23, size).is_err());
        assert!(header.belongs(kind, header.owner, 1 << 24, 2 * size).is_err());
    }

    #[test]
    fn the_newer_header_counts() {
        let later = MapHeader { sequence: 7, ..header() };
        assert_eq!(newest([Ok(header()), Ok(later)]).unwrap().value, later);
        assert_eq!(newest([Ok(header()), Err(Damage::BadChecksum)]).unwrap().value, header());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let mut block = vec![0; PAGE_BYTES];
            block[..bytes.len()].copy_from_slice(&bytes);
            HEAD.seal(&mut block, MAGIC_BYTES, NEWEST);
            let _ = MapHeader::decode(&block, Slot::Even);
            let _ = MapHeader::decode(&bytes, Slot::Odd);
        }
    }
}
