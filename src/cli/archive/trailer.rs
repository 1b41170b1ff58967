//! The end of an archive: a skippable frame of zstd (RFC 8878, section 3.1.2) with length and checksum of the content.
//!
//! ```text
//!  offset  bytes
//!       0      4  0x184D2A5C, one of zstd's magic numbers for frames to skip
//!       4      4  bytes that follow: 56
//!       8     12  "cleavearchv1"
//!      20      4  bytes of a chunk: 1048576
//!      24      8  bytes of the content
//!      32     32  BLAKE3 of the BLAKE3 hashes (32 bytes each) of the content's chunks in their order
//! ```
//! Numbers are little-endian. Each chunk is whole except the last, and has a frame of its own.

use super::buffer::CHUNK_BYTES;

/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 64;

const MAGIC: u32 = 0x184D_2A5C;
const BODY_BYTES: u32 = 56;
const WORD: &[u8; 12] = b"cleavearchv1";

const AT_WORD: usize = 8;
const AT_CHUNK: usize = AT_WORD + WORD.len();
const AT_LENGTH: usize = AT_CHUNK + 4;
const AT_HASH: usize = AT_LENGTH + 8;

/// Its fields as the page of the on-disk format shows them: offset, bytes, and what they are.
pub const FIELDS: [(usize, usize, &str); 6] = [
    (0, 4, "0x184D2A5C, one of zstd's magic numbers for frames to skip"),
    (4, AT_WORD - 4, "bytes that follow: 56"),
    (AT_WORD, WORD.len(), "\"cleavearchv1\""),
    (AT_CHUNK, AT_LENGTH - AT_CHUNK, "bytes of a chunk: 1048576"),
    (AT_LENGTH, AT_HASH - AT_LENGTH, "bytes of the content"),
    (
        AT_HASH,
        TRAILER_BYTES - AT_HASH,
        "BLAKE3 of the BLAKE3 hashes (32 bytes each) of the content's chunks in their order",
    ),
];

const _: () = assert!(AT_HASH + 32 == TRAILER_BYTES);
const _: () = assert!(8 + BODY_BYTES as usize == TRAILER_BYTES);

/// What an archive says of its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// Bytes of the content.
    pub length_bytes: u64,
    /// BLAKE3 of the BLAKE3 hashes of its chunks.
    pub blake3: [u8; 32],
}

impl Trailer {
    /// The bytes of the trailer.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..AT_WORD].copy_from_slice(&BODY_BYTES.to_le_bytes());
        bytes[AT_WORD..AT_CHUNK].copy_from_slice(WORD);
        bytes[AT_CHUNK..AT_LENGTH].copy_from_slice(&(CHUNK_BYTES as u32).to_le_bytes());
        bytes[AT_LENGTH..AT_HASH].copy_from_slice(&self.length_bytes.to_le_bytes());
        bytes[AT_HASH..].copy_from_slice(&self.blake3);
        bytes
    }

    /// The trailer in `bytes`, `None` when they are no trailer.
    #[must_use]
    pub fn decode(bytes: &[u8; TRAILER_BYTES]) -> Option<Self> {
        let mut length = [0; 8];
        length.copy_from_slice(&bytes[AT_LENGTH..AT_HASH]);
        let mut blake3 = [0; 32];
        blake3.copy_from_slice(&bytes[AT_HASH..]);
        let trailer = Self { length_bytes: u64::from_le_bytes(length), blake3 };
        // What is constant is compared whole, by encoding again.
        (trailer.encode() == *bytes).then_some(trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_has_these_bytes() {
        let trailer = Trailer { length_bytes: 0x0102_0304_0506_0708, blake3: [0xab; 32] };
        let mut golden = vec![0x5c, 0x2a, 0x4d, 0x18, 56, 0, 0, 0];
        golden.extend(b"cleavearchv1\0\0\x10\0");
        golden.extend([8, 7, 6, 5, 4, 3, 2, 1]);
        golden.extend([0xab; 32]);
        assert_eq!(trailer.encode().as_slice(), golden);
        assert_eq!(Trailer::decode(&trailer.encode()), Some(trailer));
    }

    #[test]
    fn the_diagram_is_the_layout() {
        let rows = FIELDS.map(|(at, size, what)| format!("//! {at:7} {size:6}  {what}\n"));
        assert!(include_str!("trailer.rs").contains(&rows.concat()));
        assert_eq!((MAGIC, BODY_BYTES, CHUNK_BYTES), (0x184D_2A5C, 56, 1_048_576));
    }

    #[test]
    fn a_changed_constant_is_no_trailer() {
        let good = Trailer { length_bytes: 7, blake3: [1; 32] }.encode();
        for at in 0..AT_LENGTH {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(Trailer::decode(&bad), None, "byte {at}");
        }
    }
}
