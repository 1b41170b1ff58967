//! The two checksums in use: CRC-32C for pages that are rewritten in place, BLAKE3 for configuration text.

/// CRC-32C (Castagnoli) of `bytes`, as iSCSI, ext4 and btrfs use it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC-32C of `bytes` with the four bytes at `hole..hole + 4` (the checksum's own field) taken as zero.
///
/// # Panics
/// When the hole does not lie inside `bytes`: the layouts' constants guarantee it.
#[must_use]
pub fn crc32c_without(bytes: &[u8], hole: usize) -> u32 {
    let crc = crc32c::crc32c(&bytes[..hole]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &bytes[hole + 4..])
}

/// BLAKE3 of `bytes` as 64 lower-case hexadecimal digits.
#[must_use]
pub fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn the_hole_counts_as_zero_wherever_it_lies() {
        let mut bytes = *b"abcdefgh12345678";
        for hole in 0..=bytes.len() - 4 {
            let mut zeroed = bytes;
            zeroed[hole..hole + 4].fill(0);
            assert_eq!(crc32c_without(&bytes, hole), crc32c(&zeroed));
        }
        bytes[0] ^= 1;
        assert_ne!(crc32c_without(&bytes, 8), crc32c_without(b"abcdefgh12345678", 8));
    }
}
