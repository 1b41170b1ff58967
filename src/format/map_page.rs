//! A page of an intent map or change map: 4 KiB that know their place and check themselves.
//!
//! Invariants:
//! * The checksum covers all other bytes of the page.
//! * A page is written alternately to its two slots, to slot `sequence % 2`; its predecessor stays until the next write.
//! * Both slots are written when the file is made: one that reads as zero is damaged.
//! * A disk keeps or loses a sector of 512 bytes whole. So a write that a crash tore is told from damage: where the first
//!   sector is the new one, each other sector is what this write or the one before it put there, by their checksums, and one
//!   at least is the old; where the first sector is the old one, the slot is older than the other.
//! * The sequence number of a page rises with each of its writes.
//! * `run` is the run generation of the daemon's run that wrote the page; `stop` is that of the clean stop that ended the
//!   run, or zero while it lasts.
//! * Bit `i` of the map is bit `i % PAGE_BITS` of page `i / PAGE_BITS`, least significant bit of the first byte first.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "CLVMPAGE"
//!      8     4  CRC-32C of the page, this field as zero
//!     12     2  version, 1
//!     14     1  kind: 1 intent, 2 change
//!     15     1  zero
//!     16    16  owner: UUID of the volume (intent) or of the map (change)
//!     32     8  index of the page
//!     40     8  sequence number
//!     48     8  run generation
//!     56     8  stop generation, 0 while running
//!     64    28  CRC-32C of each sector of 512 bytes but the first
//!     92    28  the same of what stood in the slot before
//!    120     4  CRC-32C of the first sector, this field and the page's as zero
//!    124     4  zero
//!    128  3968  bits, turned by a mask of the sequence number
//! ```

use crate::base::checksum;
use crate::base::limits::{MAX_COUNT, PAGE_BYTES, SECTOR_BYTES};
use crate::base::{Generation, Uuid};
use crate::bitmap::{PAGE_BITS, PAGE_MAP_BYTES};

use super::layout::{Field, Head, fields};
use super::{Damage, Structure};

fields! {
    MAGIC: 8, "magic \"CLVMPAGE\"";
    CRC: 4, "CRC-32C of the page, this field as zero";
    VERSION: 2, "version, 1";
    KIND: 1, "kind: 1 intent, 2 change";
    ZERO: 1, "zero";
    OWNER: 16, "owner: UUID of the volume (intent) or of the map (change)";
    INDEX: 8, "index of the page";
    SEQUENCE: 8, "sequence number";
    RUN: 8, "run generation";
    STOP: 8, "stop generation, 0 while running";
    SECTORS: SUMS_BYTES, "CRC-32C of each sector of 512 bytes but the first";
    BEFORE: SUMS_BYTES, "the same of what stood in the slot before";
    FIRST: 4, "CRC-32C of the first sector, this field and the page's as zero";
    RESERVED: 4, "zero";
    BITS: PAGE_MAP_BYTES, "bits, turned by a mask of the sequence number";
}

const _: () = assert!(END == PAGE_BYTES);
// The whole head lies in the first sector, and every other one holds bits alone.
const _: () = assert!(BITS.at <= SECTOR && PAGE_BYTES == (SECTOR_SUMS + 1) * SECTOR);
const _: () = assert!(BITS.at == 128);
const _: () = assert!(BITS.size as u64 * 8 == PAGE_BITS);
const _: () = assert!(INDEX.at.is_multiple_of(8) && BITS.at.is_multiple_of(8));
// 1 TiB in extents of 4 MiB is nine pages.
const _: () = assert!((1u64 << 18).div_ceil(PAGE_BITS) == 9);

/// Bytes that a disk keeps or loses together.
const SECTOR: usize = SECTOR_BYTES as usize;
const SECTOR_SUMS: usize = 7;
const SUMS_BYTES: usize = SECTOR_SUMS * 4;

/// The CRC-32C of each sector of a block but the first.
pub type SectorSums = [u32; SECTOR_SUMS];

/// The checksums of what stands in a slot, for the next write to it. A block of another length has none.
#[must_use]
pub fn sector_sums(block: &[u8]) -> SectorSums {
    let mut sums = [0; SECTOR_SUMS];
    for (sum, sector) in sums.iter_mut().zip(block.chunks(SECTOR).skip(1)) {
        *sum = checksum::crc32c(sector);
    }
    sums
}

/// The bits as they stand on the disk, or back: turned by a mask of the write's number, so that no two writes leave a sector
/// alike, and no bit that flips makes the new one of the old.
fn turned(bits: &[u8], sequence: u64) -> [u8; PAGE_MAP_BYTES] {
    let mut turned = [0; PAGE_MAP_BYTES];
    let (into, _) = turned.as_chunks_mut::<8>();
    let (from, _) = bits.as_chunks::<8>();
    // Word by word: byte by byte it was a quarter of all that a write to a cold place costs.
    for ((into, from), at) in into.iter_mut().zip(from).zip(0u64..) {
        // The finish of SplitMix64, which spreads each bit of its input over all of its output.
        let mut mask = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at);
        mask = (mask ^ (mask >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mask = (mask ^ (mask >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mask ^= mask >> 31;
        *into = (u64::from_le_bytes(*from) ^ mask).to_le_bytes();
    }
    turned
}

/// The checksums of the sectors of a page without a bit set.
#[must_use]
pub fn empty_sums(sequence: u64) -> SectorSums {
    let mut block = [0; PAGE_BYTES];
    BITS.put(&mut block, &turned(&[0; PAGE_MAP_BYTES], sequence));
    sector_sums(&block)
}

fn first_sum(block: &[u8]) -> u32 {
    let mut first = [0; SECTOR];
    first.copy_from_slice(&block[..SECTOR]);
    CRC.put(&mut first, &[0; 4]);
    FIRST.put(&mut first, &[0; 4]);
    checksum::crc32c(&first)
}

const HEAD: Head = Head { magic: MAGIC, crc: CRC, version: VERSION };
const MAGIC_BYTES: &[u8; 8] = b"CLVMPAGE";
const NEWEST: u16 = 1;

/// What the page of the on-disk format shows.
pub(super) const STRUCTURE: Structure =
    Structure { name: "map page", head: Some((MAGIC_BYTES, NEWEST)), fields: FIELDS };

/// Which map a page or file belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MapKind {
    /// Intent map of a volume: one bit an extent.
    Intent,
    /// Change map: one bit a region.
    Change,
}

impl MapKind {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Intent => 1,
            Self::Change => 2,
        }
    }

    pub(super) const fn of_code(code: u8) -> Result<Self, Damage> {
        match code {
            1 => Ok(Self::Intent),
            2 => Ok(Self::Change),
            _ => Err(Damage::Absurd("unknown kind of map")),
        }
    }
}

/// One of the two places of a page or header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Slot {
    /// Taken by even sequence numbers.
    Even,
    /// Taken by odd sequence numbers.
    Odd,
}

impl Slot {
    /// Both, in the order in which they lie.
    pub const BOTH: [Self; 2] = [Self::Even, Self::Odd];

    /// The slot that the write numbered `sequence` goes to.
    #[must_use]
    pub const fn of(sequence: u64) -> Self {
        if sequence.is_multiple_of(2) { Self::Even } else { Self::Odd }
    }

    /// 0 or 1: which of the two neighbouring places it is.
    #[must_use]
    pub const fn index(self) -> u64 {
        match self {
            Self::Even => 0,
            Self::Odd => 1,
        }
    }
}

/// Where a page is expected, and whose it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Kind of the map.
    pub kind: MapKind,
    /// UUID of the volume (intent) or of the map (change).
    pub owner: Uuid,
    /// Index of the page in its map.
    pub index: u64,
    /// Which of the page's two slots was read.
    pub slot: Slot,
}

/// A page of a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapPage {
    /// Kind of the map.
    pub kind: MapKind,
    /// UUID of the volume (intent) or of the map (change).
    pub owner: Uuid,
    /// Index of the page in its map.
    pub index: u64,
    /// Number of the write; it chooses the slot.
    pub sequence: u64,
    /// Run generation in which the page was written.
    pub run: Generation,
    /// Stop generation, once the run has ended cleanly.
    pub stop: Option<Generation>,
    /// What stood in the slot before, by its sectors.
    pub before: SectorSums,
    /// The bits, as [`BitMap::page_bytes`](crate::bitmap::BitMap::page_bytes) gives and
    /// [`load_page`](crate::bitmap::BitMap::load_page) takes them.
    pub bits: [u8; PAGE_MAP_BYTES],
}

impl MapPage {
    /// The page's 4096 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PAGE_BYTES] {
        self.encode_with_sums().0
    }

    /// The page's 4096 bytes, and [what](sector_sums) its next write but one puts into [`before`](Self::before).
    #[must_use]
    pub fn encode_with_sums(&self) -> ([u8; PAGE_BYTES], SectorSums) {
        let mut block = [0; PAGE_BYTES];
        KIND.put(&mut block, &[self.kind.code()]);
        OWNER.put_uuid(&mut block, self.owner);
        INDEX.put_u64(&mut block, self.index);
        SEQUENCE.put_u64(&mut block, self.sequence);
        RUN.put_u64(&mut block, self.run.0);
        STOP.put_stop(&mut block, self.stop);
        BITS.put(&mut block, &turned(&self.bits, self.sequence));
        let sums = sector_sums(&block);
        for (sums, field) in [(sums, SECTORS), (self.before, BEFORE)] {
            let mut bytes = [0; SUMS_BYTES];
            for (into, sum) in bytes.chunks_exact_mut(4).zip(sums) {
                into.copy_from_slice(&sum.to_le_bytes());
            }
            field.put(&mut block, &bytes);
        }
        MAGIC.put(&mut block, MAGIC_BYTES);
        VERSION.put(&mut block, &NEWEST.to_le_bytes());
        let first = first_sum(&block);
        FIRST.put(&mut block, &first.to_le_bytes());
        HEAD.seal(&mut block, MAGIC_BYTES, NEWEST);
        (block, sums)
    }

    /// The page in `block`, which was read at `place`.
    ///
    /// # Errors
    /// [`Damage`]; also for a sound page that belongs to another place, slot or owner.
    pub fn decode(block: &[u8], place: &Place) -> Result<Self, Damage> {
        HEAD.check(block, PAGE_BYTES, MAGIC_BYTES, NEWEST)?;
        let kind = MapKind::of_code(KIND.u8(block))?;
        if kind != place.kind {
            return Err(Damage::Absurd("page of another kind of map"));
        }
        let owner = OWNER.uuid(block);
        if owner != place.owner {
            return Err(Damage::WrongOwner { found: owner, expected: place.owner });
        }
        let index = INDEX.u64(block);
        if index != place.index {
            return Err(Damage::WrongAddress { found: index, expected: place.index });
        }
        let sequence = SEQUENCE.u64(block);
        if Slot::of(sequence) != place.slot {
            return Err(Damage::Absurd("page in its other slot"));
        }
        let (run, stop) = (Generation(RUN.u64(block)), STOP.stop(block));
        if [Generation(sequence), run, stop.unwrap_or_default()].iter().any(|count| *count > MAX_COUNT) {
            return Err(Damage::Absurd("a number that no counting reaches"));
        }
        if !ZERO.is_zero(block) || !RESERVED.is_zero(block) {
            return Err(Damage::Absurd("reserved bytes are not zero"));
        }
        if sums(block, SECTORS) != sector_sums(block) || FIRST.u32(block) != first_sum(block) {
            return Err(Damage::Absurd("checksums of sectors that are not theirs"));
        }
        let bits = turned(BITS.bytes(block), sequence);
        Ok(Self { kind, owner, index, sequence, run, stop, before: sums(block, BEFORE), bits })
    }
}

fn sums(block: &[u8], field: Field) -> SectorSums {
    let mut sums = [0; SECTOR_SUMS];
    for (sum, bytes) in sums.iter_mut().zip(field.bytes(block).chunks_exact(4)) {
        let mut le = [0; 4];
        le.copy_from_slice(bytes);
        *sum = u32::from_le_bytes(le);
    }
    sums
}

/// The page that counts, of the two that were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Newest<T> {
    /// The one with the higher sequence number among the sound ones.
    pub value: T,
    /// The sequence number of the other slot, or why it could not be read. After a crash a slot that fails its checksum is
    /// the last write, torn; nothing had come to rely on it. After a clean stop it is rot and may have been the newer one.
    pub other: Result<u64, Damage>,
}

impl Newest<MapPage> {
    /// Whether a crash explains what is wrong with the other slot, which reads `other`: it was being written, and nothing had
    /// come to rely on it. Anything else is damage, and what is damaged may have been the newer one.
    #[must_use]
    pub fn other_was_torn(&self, other: &[u8]) -> bool {
        match self.other {
            Ok(_) => true,
            Err(Damage::BadChecksum) => other.len() == PAGE_BYTES && self.is_torn_beside(other),
            Err(
                Damage::Blank
                | Damage::BadMagic
                | Damage::WrongLength { .. }
                | Damage::UnknownVersion { .. }
                | Damage::WrongAddress { .. }
                | Damage::WrongOwner { .. }
                | Damage::Absurd(_),
            ) => false,
        }
    }

    fn is_torn_beside(&self, other: &[u8]) -> bool {
        let page = &self.value;
        let its = KIND.u8(other) == page.kind.code()
            && OWNER.uuid(other) == page.owner
            && INDEX.u64(other) == page.index;
        // Its first sector alone tells what the rest should be.
        if !its || FIRST.u32(other) != first_sum(other) {
            return false;
        }
        let sequence = SEQUENCE.u64(other);
        if sequence < page.sequence {
            return sequence + 1 == page.sequence;
        }
        let (found, new, old) = (sector_sums(other), sums(other, SECTORS), sums(other, BEFORE));
        let known = (0..SECTOR_SUMS).all(|at| found[at] == new[at] || found[at] == old[at]);
        sequence == page.sequence + 1 && known && found != new
    }
}

/// The newer of the two slots of a page.
///
/// # Errors
/// The damage of both slots when neither can be read: the page then counts as all ones.
pub fn newest(slots: [Result<MapPage, Damage>; 2]) -> Result<Newest<MapPage>, [Damage; 2]> {
    newest_by(slots, |page| page.sequence)
}

pub(super) fn newest_by<T>(
    slots: [Result<T, Damage>; 2],
    sequence: impl Fn(&T) -> u64,
) -> Result<Newest<T>, [Damage; 2]> {
    match slots {
        // Slots are told apart by the number's parity, so that two sound ones never have the same.
        [Ok(even), Ok(odd)] if sequence(&even) > sequence(&odd) => {
            Ok(Newest { other: Ok(sequence(&odd)), value: even })
        }
        [Ok(even), Ok(odd)] => Ok(Newest { other: Ok(sequence(&even)), value: odd }),
        [Ok(value), Err(damage)] | [Err(damage), Ok(value)] => Ok(Newest { value, other: Err(damage) }),
        [Err(even), Err(odd)] => Err([even, odd]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::testing::{diagram_is_in, every_flip_and_truncation, hex};
    use super::*;
    use proptest::prelude::*;

    fn page() -> MapPage {
        let mut bits = [0; PAGE_MAP_BYTES];
        (bits[0], bits[1], bits[PAGE_MAP_BYTES - 1]) = (0x81, 0x42, 0xff);
        MapPage {
            kind: MapKind::Change,
            owner: Uuid::from_random([7; 16]),
            index: 3,
            sequence: 0x0102_0304_0506_0709,
            run: Generation(21),
            stop: None,
            before: [0x0a0b_0c0d; SECTOR_SUMS],
            bits,
        }
    }

    fn place() -> Place {
        Place { kind: MapKind::Change, owner: Uuid::from_random([7; 16]), index: 3, slot: Slot::Odd }
    }

    /// `page()` with `change` applied to its bytes and the checksum made good.
    fn forged(change: impl FnOnce(&mut [u8])) -> Result<MapPage, Damage> {
        let mut block = page().encode();
        change(&mut block);
        let crc = crate::base::checksum::crc32c_without(&block, CRC.at);
        CRC.put(&mut block, &crc.to_le_bytes());
        MapPage::decode(&block, &place())
    }

    #[test]
    fn golden_bytes() {
        let block = page().encode();
        assert_eq!(
            hex(&block[..136]),
            [
                "434c564d50414745",
                "89806ccb",
                "0100",
                "02",
                "00",
                "07070707070747078707070707070707",
                "0300000000000000",
                "0907060504030201",
                "1500000000000000",
                "0000000000000000",
                "4ff978d71ad91ca9b6573606f2f4d79d3394cec864a86405283ce998",
                "0d0c0b0a0d0c0b0a0d0c0b0a0d0c0b0a0d0c0b0a0d0c0b0a0d0c0b0a",
                "e18ca99f",
                "00000000",
                "ddc2f20c5bb48606",
            ]
            .concat()
        );
        assert_eq!(hex(&block[4088..]), "8b1be0d9aedc2b62");
    }

    #[test]
    fn the_diagram_is_the_layout() {
        diagram_is_in(include_str!("map_page.rs"), FIELDS);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_seen() {
        every_flip_and_truncation(&page().encode(), |block| MapPage::decode(block, &place()).is_err());
    }

    #[test]
    fn a_page_torn_at_any_sector_is_seen_and_its_predecessor_stands() {
        let old = page();
        let mut new = page();
        (new.sequence, new.bits) = (old.sequence + 2, [0xa5; PAGE_MAP_BYTES]);
        let mut before = page();
        before.sequence = old.sequence + 1;
        for cut in (512..PAGE_BYTES).step_by(512) {
            let mut torn = old.encode();
            torn[..cut].copy_from_slice(&new.encode()[..cut]);
            let odd = MapPage::decode(&torn, &place());
            assert_eq!(odd, Err(Damage::BadChecksum), "cut at {cut}");
            let even = MapPage::decode(&before.encode(), &Place { slot: Slot::Even, ..place() });
            let newest = newest([even, odd]).unwrap();
            assert_eq!(newest.value, before);
            assert_eq!(newest.other, Err(Damage::BadChecksum));
        }
    }

    #[test]
    fn sound_pages_of_elsewhere_are_refused() {
        let block = page().encode();
        let decode = |place: Place| MapPage::decode(&block, &place).unwrap_err();
        let other = Uuid::from_random([8; 16]);
        assert_eq!(
            decode(Place { owner: other, ..place() }),
            Damage::WrongOwner { found: page().owner, expected: other }
        );
        assert_eq!(decode(Place { index: 4, ..place() }), Damage::WrongAddress { found: 3, expected: 4 });
        assert!(matches!(decode(Place { slot: Slot::Even, ..place() }), Damage::Absurd(_)));
        assert!(matches!(decode(Place { kind: MapKind::Intent, ..place() }), Damage::Absurd(_)));
    }

    #[test]
    fn a_right_checksum_does_not_excuse_absurd_content() {
        assert_eq!(forged(|b| b[VERSION.at] = 2), Err(Damage::UnknownVersion { found: 2, newest: 1 }));
        assert!(matches!(forged(|b| b[VERSION.at] = 0), Err(Damage::Absurd(_))));
        assert!(matches!(forged(|b| b[KIND.at] = 3), Err(Damage::Absurd(_))));
        assert!(matches!(forged(|b| b[ZERO.at] = 1), Err(Damage::Absurd(_))));
        assert!(matches!(forged(|b| b[RESERVED.at + 3] = 1), Err(Damage::Absurd(_))));
        for counter in [SEQUENCE, RUN, STOP] {
            // Odd, so that the page stays in its slot.
            let beyond = |b: &mut [u8]| counter.put_u64(b, MAX_COUNT.0 + 1);
            assert_eq!(forged(beyond), Err(Damage::Absurd("a number that no counting reaches")));
        }
        assert_eq!(MapPage::decode(&[0; PAGE_BYTES], &place()), Err(Damage::Blank));
        assert_eq!(MapPage::decode(&[0xff; PAGE_BYTES], &place()), Err(Damage::BadMagic));
    }

    #[test]
    fn the_higher_sequence_counts() {
        let at = |sequence| Ok(MapPage { sequence, ..page() });
        assert_eq!(newest([at(4), at(5)]).unwrap().value.sequence, 5);
        assert_eq!(newest([at(6), at(5)]).unwrap().value.sequence, 6);
        assert_eq!(newest([at(6), at(5)]).unwrap().other, Ok(5));
        assert_eq!(newest([Err(Damage::Blank), at(5)]).unwrap().other, Err(Damage::Blank));
        assert_eq!(
            newest([Err(Damage::Blank), Err(Damage::BadMagic)]),
            Err([Damage::Blank, Damage::BadMagic])
        );
    }

    /// The two slots after `new` was being written over `old`, whose slot it shares; beside it stands the page between them.
    fn beside(slot: &[u8]) -> bool {
        let between = MapPage { sequence: page().sequence + 1, ..page() };
        let even = MapPage::decode(&between.encode(), &Place { slot: Slot::Even, ..place() });
        newest([even, MapPage::decode(slot, &place())]).unwrap().other_was_torn(slot)
    }

    #[test]
    fn a_write_that_tore_is_told_from_damage() {
        let old = page();
        let new = MapPage {
            sequence: old.sequence + 2,
            bits: [0xa5; PAGE_MAP_BYTES],
            before: sector_sums(&old.encode()),
            ..page()
        };
        let (old, new) = (old.encode(), new.encode());
        // Every mixture of sectors of the one and of the other.
        for mixture in 1..255u32 {
            let mut torn = old;
            for sector in (0..8).filter(|sector| mixture & (1 << sector) != 0) {
                torn[sector * SECTOR..][..SECTOR].copy_from_slice(&new[sector * SECTOR..][..SECTOR]);
            }
            assert!(beside(&torn), "sectors {mixture:#b}");
            // And no bit of a mixture flips unseen where it would make a difference: the first sector is the new one.
            for byte in (0..PAGE_BYTES).step_by(97).filter(|_| mixture & 1 != 0) {
                let mut rotten = torn;
                rotten[byte] ^= 4;
                assert!(byte < 12 || !beside(&rotten), "sectors {mixture:#b}, byte {byte}");
            }
        }
        // A page that was whole, and has rotted, also in the one bit in which the write before it differed: nothing is older.
        let mut bits = page().bits;
        bits[3000] ^= 1;
        let one =
            MapPage { sequence: page().sequence + 2, bits, before: sector_sums(&old), ..page() }.encode();
        let differing = (BITS.at + 3000) * 8;
        for bit in (0..PAGE_BYTES * 8).step_by(7).chain([differing]) {
            for whole in [&new, &one] {
                let mut rotten = *whole;
                rotten[bit / 8] ^= 1 << (bit % 8);
                assert!(!beside(&rotten), "bit {bit}");
            }
        }
        // The older of the two is wanted by nobody, whatever has become of its bits.
        let mut rotten = old;
        rotten[3000] ^= 1;
        assert!(beside(&rotten));
        assert!(!beside(&[0; PAGE_BYTES]), "each slot was written when the file was made");
    }

    #[test]
    fn what_is_no_torn_write_is_damage() {
        let block = |sequence| MapPage { sequence, ..page() }.encode();
        let explained =
            |damage, block: &[u8]| newest([Err(damage), Ok(page())]).unwrap().other_was_torn(block);
        let mut torn = block(page().sequence + 1);
        torn[4000] ^= 1;
        let (found, expected) = (Uuid::from_random([8; 16]), page().owner);
        for damage in [
            Damage::BadChecksum,
            Damage::Blank,
            Damage::BadMagic,
            Damage::WrongOwner { found, expected },
            Damage::WrongAddress { found: 4, expected: 3 },
            Damage::UnknownVersion { found: 2, newest: 1 },
            Damage::Absurd("page in its other slot"),
        ] {
            assert!(!explained(damage, &torn), "{damage}");
        }
        for sequence in [page().sequence + 3, page().sequence - 3] {
            let mut elsewhen = block(sequence);
            elsewhen[4000] ^= 1;
            assert!(!explained(Damage::BadChecksum, &elsewhen), "{sequence:#x}");
        }
        assert!(newest([Ok(page()), Ok(page())]).unwrap().other_was_torn(&[]));
    }

    proptest! {
        #[test]
        fn pages_survive_the_round_trip(
            sequence in 0..=MAX_COUNT.0, index: u64, run in 0..=MAX_COUNT.0, stop in 0..=MAX_COUNT.0, seed: u8,
        ) {
            let mut page = page();
            (page.sequence, page.index, page.run) = (sequence, index, Generation(run));
            page.stop = Some(Generation(stop)).filter(|stop| stop.0 != 0);
            page.bits.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i as u8).wrapping_mul(seed));
            let place = Place { index, slot: Slot::of(sequence), ..place() };
            prop_assert_eq!(MapPage::decode(&page.encode(), &place), Ok(page));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256), sound_head: bool) {
            let mut block = vec![0; PAGE_BYTES];
            block[..bytes.len()].copy_from_slice(&bytes);
            if sound_head {
                HEAD.seal(&mut block, MAGIC_BYTES, NEWEST);
            }
            let _ = MapPage::decode(&block, &place());
            let _ = MapPage::decode(&bytes, &place());
        }
    }
}
