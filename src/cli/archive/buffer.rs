//! Buffers aligned for direct I/O.

/// What every direct read in use is content with: the page.
const ALIGNMENT: usize = 4096;

/// Bytes read at once: large enough that a disk streams, small enough that four of them stay in the cache.
pub const CHUNK_BYTES: usize = 1 << 20;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(ALIGNMENT));

/// A chunk whose bytes begin at a multiple of the alignment.
#[derive(Debug)]
pub struct Chunk {
    raw: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Default for Chunk {
    fn default() -> Self {
        let raw = vec![0; CHUNK_BYTES + ALIGNMENT];
        let start = raw.as_ptr().align_offset(ALIGNMENT);
        Self { raw, start, filled: 0 }
    }
}

impl Chunk {
    /// The whole room.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.raw[self.start..self.start + CHUNK_BYTES]
    }

    /// Sets how many bytes of the room are good.
    pub fn set_filled(&mut self, bytes: usize) {
        assert!(bytes <= CHUNK_BYTES);
        self.filled = bytes;
    }

    /// The good bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.filled]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_aligned() {
        let mut chunk = Chunk::default();
        assert_eq!(chunk.room().as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!(chunk.room().len(), CHUNK_BYTES);
        chunk.room()[2] = 7;
        chunk.set_filled(3);
        assert_eq!(chunk.bytes(), [0, 0, 7]);
    }
}
