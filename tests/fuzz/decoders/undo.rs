//! The header of an undo archive, and the pages of its table.

use super::mutate::Shape;
use super::{Decoder, meter, seal, told, u64_at, uuid_at};
use cleave::base::limits::PAGE_BYTES;
use cleave::base::{Name, Uuid};
use cleave::format::Damage;
use cleave::format::undo::{ENTRIES, Entry, UndoHeader, Zone, table};

/// The header of an undo archive.
pub const UNDO_HEADER: Decoder =
    Decoder { name: "undo-header", max_len: 256, shape: Shape::Binary, check: header, seeds: header_seeds };

/// A page of the table of an undo archive.
pub const UNDO_TABLE: Decoder =
    Decoder { name: "undo-table", max_len: PAGE_BYTES, shape: Shape::Binary, check: page, seeds: page_seeds };

/// A name is at most as long as its field.
const NAME_BYTES: usize = 256;

/// `data` in front of as many zeroes as a block has.
fn padded(data: &[u8]) -> [u8; PAGE_BYTES] {
    let mut block = [0; PAGE_BYTES];
    let length = data.len().min(PAGE_BYTES);
    block[..length].copy_from_slice(&data[..length]);
    block
}

fn decode_header(block: &[u8]) -> Result<UndoHeader, Damage> {
    meter::within(NAME_BYTES, || UndoHeader::decode(block))
}

fn header(data: &[u8]) -> bool {
    let mut block = padded(data);
    for bytes in [data, &block] {
        if let Err(damage) = decode_header(bytes) {
            told(&damage);
        }
    }
    seal(&mut block, b"CLVUNDOH");
    let header = match decode_header(&block) {
        Ok(header) => header,
        Err(damage) => {
            assert!(!matches!(damage, Damage::BadChecksum | Damage::BadMagic | Damage::Blank), "{damage}");
            told(&damage);
            return false;
        }
    };
    assert_eq!(header.encode(), block, "it is encoded as it was");
    // What it says of its file never overflows, and its zones follow each other.
    let end = header.offset(Zone::Unit { index: header.units });
    assert!(header.file_bytes() == end && end <= 2 * header.length.next_multiple_of(header.unit) + (1 << 20));
    assert!(header.pages() == 0 || table::entries(&header, header.pages() - 1) > 0);
    assert_eq!(table::entries(&header, header.pages()), 0);
    true
}

/// The archive whose table the page `block` could be of.
fn archive_of(block: &[u8], units: u64) -> UndoHeader {
    UndoHeader {
        archive: uuid_at(block, 16),
        volume: Uuid::NIL,
        name: Name::new("v").expect("a good name"),
        length: 1 << 40,
        unit: 64 << 10,
        units,
        unix_s: 0,
    }
}

fn decode_page(header: &UndoHeader, index: u64, block: &[u8]) -> Result<Vec<Entry>, Damage> {
    meter::within(ENTRIES * size_of::<Entry>(), || table::decode(header, index, None, block))
}

fn page(data: &[u8]) -> bool {
    let mut block = padded(data);
    let count = u64::from(u16::from_le_bytes([block[14], block[15]])).min(ENTRIES as u64);
    // The page that the block itself names, as far as an archive has that many.
    let index = u64_at(&block, 32) % (1 << 15);
    let header = archive_of(&block, index * ENTRIES as u64 + count);
    for bytes in [data, &block] {
        if let Err(damage) = decode_page(&header, index, bytes) {
            told(&damage);
        }
    }
    seal(&mut block, b"CLVUNDOT");
    let entries = match decode_page(&header, index, &block) {
        Ok(entries) => entries,
        Err(damage) => {
            assert!(!matches!(damage, Damage::BadChecksum | Damage::BadMagic | Damage::Blank), "{damage}");
            told(&damage);
            return false;
        }
    };
    assert_eq!(table::encode(&header, index, &entries), block, "it is encoded as it was");
    assert!(entries.is_sorted_by(|a, b| a.unit < b.unit));
    let other =
        UndoHeader { archive: Uuid::from_bytes(header.archive.bytes().map(|byte| !byte)), ..header.clone() };
    told(&decode_page(&other, index, &block).expect_err("it is of another archive"));
    told(&decode_page(&header, index ^ 1, &block).expect_err("it is another page"));
    if let Some(first) = entries.first() {
        let behind = table::decode(&header, index, Some(first.unit), &block);
        told(&behind.expect_err("it does not follow that unit"));
    }
    true
}

fn cut(block: &[u8]) -> Vec<u8> {
    let end = block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    block[..end].to_vec()
}

fn header_seeds() -> Vec<(String, Vec<u8>)> {
    let one = |name: &str, length, unit, units, unix_s| {
        let header = UndoHeader {
            archive: Uuid::from_random([1; 16]),
            volume: Uuid::from_random([2; 16]),
            name: Name::new(name).expect("a good name"),
            length,
            unit,
            units,
            unix_s,
        };
        cut(&header.encode())
    };
    vec![
        ("usual".to_owned(), one("data1", 1 << 30, 64 << 10, 400, 1_700_000_000)),
        ("empty".to_owned(), one("v", 1 << 20, 16 << 10, 0, 0)),
        ("whole".to_owned(), one(&"n".repeat(120), 1 << 60, 64 << 10, 1 << 44, -1)),
    ]
}

fn page_seeds() -> Vec<(String, Vec<u8>)> {
    let one = |index: u64, units: &[u64]| {
        let entries: Vec<_> = units.iter().map(|&unit| Entry { unit, crc: unit as u32 ^ 0x5a5a }).collect();
        let header = UndoHeader {
            archive: Uuid::from_random([1; 16]),
            ..archive_of(&[0; PAGE_BYTES], index * ENTRIES as u64 + units.len() as u64)
        };
        cut(&table::encode(&header, index, &entries))
    };
    let full: Vec<u64> = (0..ENTRIES as u64).map(|unit| unit * 3 + 7).collect();
    vec![
        ("one".to_owned(), one(0, &[5])),
        ("last".to_owned(), one(2, &[900, 901, (1 << 24) - 1])),
        ("full".to_owned(), one(1, &full)),
    ]
}
