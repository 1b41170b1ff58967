//! Pages of intent and change maps, and the header of their file.

use super::mutate::Shape;
use super::{Decoder, meter, seal, told, u64_at, uuid_at};
use cleave::base::limits::{EXTENT_BYTES, PAGE_BYTES};
use cleave::base::{Generation, RegionSize, Uuid};
use cleave::bitmap::{BitMap, PAGE_BITS, PAGE_MAP_BYTES};
use cleave::format::Damage;
use cleave::format::map_file::{self, MAX_MAP_BITS, MapHeader};
use cleave::format::map_page::{self, MapKind, MapPage, Place, Slot};

/// Pages of an intent map.
pub const INTENT_PAGE: Decoder = Decoder {
    name: "intent-page",
    max_len: 512,
    shape: Shape::Binary,
    check: |data| page(MapKind::Intent, data),
    seeds: || page_seeds(MapKind::Intent),
};

/// Pages of a change map.
pub const CHANGE_PAGE: Decoder = Decoder {
    name: "change-page",
    check: |data| page(MapKind::Change, data),
    seeds: || page_seeds(MapKind::Change),
    ..INTENT_PAGE
};

/// The header of a map's file.
pub const MAP_HEADER: Decoder =
    Decoder { name: "map-header", max_len: 256, shape: Shape::Binary, check: header, seeds: header_seeds };

/// `data` in front of as many zeroes as a block has.
fn padded(data: &[u8]) -> [u8; PAGE_BYTES] {
    let mut block = [0; PAGE_BYTES];
    let length = data.len().min(PAGE_BYTES);
    block[..length].copy_from_slice(&data[..length]);
    block
}

/// Makes the checksums of a page's sectors good.
fn seal_sectors(block: &mut [u8; PAGE_BYTES]) {
    const SECTORS_AT: usize = 64;
    const FIRST_AT: usize = 120;
    block[..8].copy_from_slice(b"CLVMPAGE");
    for (at, sum) in map_page::sector_sums(block).iter().enumerate() {
        block[SECTORS_AT + 4 * at..][..4].copy_from_slice(&sum.to_le_bytes());
    }
    let mut first = block[..512].to_vec();
    first[8..12].fill(0);
    first[FIRST_AT..FIRST_AT + 4].fill(0);
    block[FIRST_AT..FIRST_AT + 4].copy_from_slice(&cleave::base::checksum::crc32c(&first).to_le_bytes());
}

/// Neither decoder needs memory of its own.
fn decode_page(block: &[u8], place: &Place) -> Result<MapPage, Damage> {
    meter::within(0, || MapPage::decode(block, place))
}

fn page(kind: MapKind, data: &[u8]) -> bool {
    let mut block = padded(data);
    // The place that the block itself names, as far as one is asked for.
    let (owner, index, sequence) = (uuid_at(&block, 16), u64_at(&block, 32), u64_at(&block, 40));
    let place = Place { kind, owner, index, slot: Slot::of(sequence) };
    for bytes in [data, &block] {
        if let Err(damage) = decode_page(bytes, &place) {
            told(&damage);
        }
    }
    seal_sectors(&mut block);
    seal(&mut block, b"CLVMPAGE");
    let page = match decode_page(&block, &place) {
        Ok(page) => page,
        Err(damage) => {
            assert!(!matches!(damage, Damage::BadChecksum | Damage::BadMagic | Damage::Blank), "{damage}");
            told(&damage);
            return false;
        }
    };
    assert_eq!(page.encode(), block, "it is encoded as it was");
    let other_owner = Uuid::from_bytes(owner.bytes().map(|byte| !byte));
    let other_slot = Slot::of(sequence ^ 1);
    let other_kind = if kind == MapKind::Intent { MapKind::Change } else { MapKind::Intent };
    for elsewhere in [
        Place { owner: other_owner, ..place },
        Place { index: index ^ 1, ..place },
        Place { slot: other_slot, ..place },
        Place { kind: other_kind, ..place },
    ] {
        told(&decode_page(&block, &elsewhere).expect_err("it belongs elsewhere"));
    }
    // What a map makes of its bits, when the map ends anywhere in the page.
    let bits = 1 + page.run.0 % PAGE_BITS;
    let map = BitMap::new(bits);
    map.load_page(0, &page.bits);
    map.self_check();
    let mut kept = page.bits;
    for (at, byte) in kept.iter_mut().enumerate() {
        let inside = bits.saturating_sub(at as u64 * 8).min(8) as u32;
        *byte &= (1u16 << inside).wrapping_sub(1) as u8;
    }
    assert_eq!(map.page_bytes(0), kept, "bits behind the end are dropped, no others");
    // The next write has a number.
    let next = MapPage { sequence: page.sequence + 1, ..page.clone() };
    let newest = map_page::newest([Ok(page), Ok(next.clone())]).expect("two sound pages");
    assert_eq!(newest.value.sequence, next.sequence);
    true
}

fn page_seeds(kind: MapKind) -> Vec<(String, Vec<u8>)> {
    let seed = |name: &str, sequence, stop, bits: &[u8]| {
        let mut page = MapPage {
            kind,
            owner: Uuid::from_random([7; 16]),
            index: 3,
            sequence,
            run: Generation(20 * 8 + 3),
            stop,
            before: [3; 7],
            bits: [0; PAGE_MAP_BYTES],
        };
        page.bits[..bits.len()].copy_from_slice(bits);
        (name.to_owned(), page.encode()[..128 + bits.len().next_multiple_of(8)].to_vec())
    };
    vec![
        seed("running", 0x0102_0304_0506_0709, None, &[0x81, 0x42]),
        seed("stopped", 8, Some(Generation(4)), &[]),
        seed("full", 1, None, &[0xff; 32]),
    ]
}

fn decode_header(block: &[u8], slot: Slot) -> Result<MapHeader, Damage> {
    meter::within(0, || MapHeader::decode(block, slot))
}

fn header(data: &[u8]) -> bool {
    let mut block = padded(data);
    let sequence = u64_at(&block, 72);
    let slot = Slot::of(sequence);
    for bytes in [data, &block] {
        if let Err(damage) = decode_header(bytes, slot) {
            told(&damage);
        }
    }
    seal(&mut block, b"CLVMHEAD");
    let header = match decode_header(&block, slot) {
        Ok(header) => header,
        Err(damage) => {
            assert!(!matches!(damage, Damage::BadChecksum | Damage::BadMagic | Damage::Blank), "{damage}");
            told(&damage);
            return false;
        }
    };
    assert_eq!(header.encode(), block, "it is encoded as it was");
    decode_header(&block, Slot::of(sequence ^ 1)).expect_err("it belongs into its slot");
    let MapHeader { kind, owner, bits, granularity, .. } = header;
    assert!(header.belongs(kind, owner, bits, granularity).is_ok());
    let other = Uuid::from_bytes(owner.bytes().map(|byte| !byte));
    told(&header.belongs(kind, other, bits, granularity).expect_err("another owner"));
    told(&header.belongs(kind, owner, bits + 1, granularity).expect_err("another length"));
    told(&header.belongs(kind, owner, bits, granularity * 2).expect_err("another granularity"));
    assert!(bits <= MAX_MAP_BITS && map_file::file_size(bits) < i64::MAX as u64);
    assert!(map_file::slot_offset(header.pages() - 1, Slot::Odd) < map_file::file_size(bits));
    let next = MapHeader { sequence: header.sequence + 1, ..header };
    assert_eq!(map_file::newest([Ok(next), Ok(header)]).expect("two sound headers").value, next);
    true
}

fn header_seeds() -> Vec<(String, Vec<u8>)> {
    let change = MapHeader {
        kind: MapKind::Change,
        owner: Uuid::from_random([1; 16]),
        volume: Uuid::from_random([2; 16]),
        bits: 1 << 24,
        granularity: RegionSize::DEFAULT.bytes(),
        sequence: 6,
        run: Generation(9),
        stop: Some(Generation(4)),
        sequence_sum: 1000,
    };
    let intent = MapHeader {
        kind: MapKind::Intent,
        owner: change.volume,
        bits: MAX_MAP_BITS,
        granularity: EXTENT_BYTES,
        sequence: 7,
        stop: None,
        sequence_sum: 0,
        ..change
    };
    [("change", change), ("intent", intent)]
        .map(|(name, header)| (name.to_owned(), header.encode()[..104].to_vec()))
        .into()
}
