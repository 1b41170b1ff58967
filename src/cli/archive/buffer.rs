//! Chunks: what is read, hashed and compressed at once, in memory aligned for direct I/O.

use crate::base::zero::is_zero;

/// What every direct read in use is content with: the page.
const ALIGNMENT: usize = 4096;

/// Bytes of a chunk, part of the archive's format: large enough that a disk streams and that a frame's header weighs
/// nothing, small enough that four of them stay in the cache.
pub const CHUNK_BYTES: usize = 1 << 20;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(ALIGNMENT));

/// A chunk whose bytes begin at a multiple of the alignment.
#[derive(Debug)]
pub struct Chunk {
    raw: Vec<u8>,
    start: usize,
    filled: usize,
    /// The good bytes are known to be zeroes.
    zero: bool,
}

impl Default for Chunk {
    fn default() -> Self {
        let raw = vec![0; CHUNK_BYTES + ALIGNMENT];
        let start = raw.as_ptr().align_offset(ALIGNMENT);
        Self { raw, start, filled: 0, zero: true }
    }
}

impl Chunk {
    /// The whole room, to be written; no bytes are good until [`Self::set_filled`].
    pub fn room(&mut self) -> &mut [u8] {
        (self.filled, self.zero) = (0, false);
        &mut self.raw[self.start..self.start + CHUNK_BYTES]
    }

    /// The memory itself, for a read that goes on while nobody else looks, and where the room lies in it.
    #[must_use]
    pub fn into_raw(self) -> (Vec<u8>, usize) {
        (self.raw, self.start)
    }

    /// A chunk of what [`Self::into_raw`] gave, with so many good bytes.
    #[must_use]
    pub fn from_raw(raw: Vec<u8>, start: usize, bytes: usize) -> Self {
        let mut chunk = Self { raw, start, filled: 0, zero: false };
        chunk.set_filled(bytes);
        chunk
    }

    /// Sets how many bytes of the room are good, and looks whether they are zeroes.
    ///
    /// # Panics
    /// Beyond the room.
    pub fn set_filled(&mut self, bytes: usize) {
        assert!(bytes <= CHUNK_BYTES);
        self.filled = bytes;
        self.zero = is_zero(self.bytes());
    }

    /// Makes the good bytes so many zeroes; costs nothing when they are that already.
    ///
    /// # Panics
    /// Beyond the room.
    pub fn set_zero(&mut self, bytes: usize) {
        if !self.zero || self.filled < bytes {
            self.room()[..bytes].fill(0);
        }
        (self.filled, self.zero) = (bytes, true);
    }

    /// The good bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.filled]
    }

    /// Whether all good bytes are zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.zero
    }

    /// Whether it is a chunk of the full length with nothing but zeroes: one like all others of its kind.
    #[must_use]
    pub fn is_whole_zero(&self) -> bool {
        self.zero && self.filled == CHUNK_BYTES
    }

    /// The first byte in which it and `other` differ; the end of the shorter counts. `None` when they are equal.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<usize> {
        let (a, b) = (self.bytes(), other.bytes());
        if a.len() == b.len() && (self.zero && other.zero || a == b) {
            return None;
        }
        Some(a.iter().zip(b).take_while(|(a, b)| a == b).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: &[u8]) -> Chunk {
        let mut chunk = Chunk::default();
        chunk.room()[..bytes.len()].copy_from_slice(bytes);
        chunk.set_filled(bytes.len());
        chunk
    }

    #[test]
    fn the_room_is_aligned() {
        let mut chunk = Chunk::default();
        assert_eq!(chunk.room().as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!(chunk.room().len(), CHUNK_BYTES);
        chunk.room()[2] = 7;
        chunk.set_filled(3);
        assert_eq!(chunk.bytes(), [0, 0, 7]);
    }

    #[test]
    fn a_chunk_made_zero_forgets_what_it_held() {
        let mut chunk = chunk(&[1; 100]);
        assert!(!chunk.is_zero());
        chunk.set_zero(60);
        assert!(chunk.is_zero() && !chunk.is_whole_zero());
        assert_eq!(chunk.bytes(), [0; 60]);
        chunk.set_zero(100);
        assert_eq!(chunk.bytes(), [0; 100], "what lay behind the first zeroes is cleared too");
        chunk.set_zero(CHUNK_BYTES);
        assert!(chunk.is_whole_zero() && chunk.bytes().iter().all(|byte| *byte == 0));
        chunk.set_zero(5);
        assert_eq!(chunk.bytes().len(), 5);
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(chunk(&[0, 0]).first_difference(&chunk(&[0, 0])), None);
        assert_eq!(chunk(&[1, 2]).first_difference(&chunk(&[1, 2])), None);
        assert_eq!(chunk(&[1, 2]).first_difference(&chunk(&[1, 3])), Some(1));
        assert_eq!(chunk(&[0, 0]).first_difference(&chunk(&[0, 0, 0])), Some(2));
        assert_eq!(chunk(&[0, 0]).first_difference(&chunk(&[0, 9])), Some(1));
    }
}
