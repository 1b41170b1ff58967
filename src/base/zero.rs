//! Whether bytes are all zero.

use super::limits::PAGE_BYTES;

/// Whether all bytes are zero. The or-fold of a page vectorises without unsafe code and runs at the speed of memory; between
/// pages it can stop.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE_BYTES).all(|page| page.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        let mut bytes = vec![0; 3 * PAGE_BYTES + 17];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in (0..bytes.len()).step_by(101).chain([bytes.len() - 1]) {
            bytes[at] = 0x80;
            assert!(!is_zero(&bytes), "byte {at}");
            bytes[at] = 0;
        }
    }
}
