//! A thread that reads chunks ahead and hashes them, while its user compresses, compares or writes them.

use super::buffer::{CHUNK_BYTES, Chunk};
use crate::base::Refused;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

/// Chunks between the threads: one in use, the others read at the same time or waiting to be used.
pub const CHUNKS: usize = 4;

/// What gives chunks in their order.
pub trait Stream: Send + 'static {
    /// Fills chunks of `hand` and gives them on, one after the other: whole ones except at the end. Runs to the end of the
    /// stream, or until nobody wants more.
    ///
    /// # Errors
    /// When they cannot be read, or are not what they should be.
    fn run(self, hand: &mut Hand) -> Result<(), Refused>;
}

/// The reading thread's end of the two channels that chunks go round in.
#[derive(Debug)]
pub struct Hand {
    empty: Receiver<Chunk>,
    full: SyncSender<Chunk>,
    digest: Option<Digest>,
}

impl Hand {
    /// A chunk to be filled; `None` when the user has given up, and then its refusal is the one that counts.
    #[must_use]
    pub fn take(&self) -> Option<Chunk> {
        self.empty.recv().ok()
    }

    /// A chunk to be filled, if there is one now.
    #[must_use]
    pub fn try_take(&self) -> Option<Chunk> {
        self.empty.try_recv().ok()
    }

    /// Hashes a filled chunk, where that is wanted, and gives it on; false when the user has given up.
    pub fn give(&mut self, chunk: Chunk) -> bool {
        if let Some(digest) = &mut self.digest {
            digest.add(&chunk);
        }
        self.full.send(chunk).is_ok()
    }
}

/// The checksum of a content: BLAKE3 over the BLAKE3 hashes of its chunks. That of a chunk of zeroes is computed once.
#[derive(Debug)]
pub struct Digest {
    chunks: blake3::Hasher,
    zero: Option<blake3::Hash>,
    /// Bytes added so far.
    pub length_bytes: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { chunks: blake3::Hasher::new(), zero: None, length_bytes: 0 }
    }
}

impl Digest {
    /// Adds the next chunk, which is whole unless it is the last.
    pub fn add(&mut self, chunk: &Chunk) {
        debug_assert!(self.length_bytes.is_multiple_of(CHUNK_BYTES as u64), "nothing follows a short chunk");
        let hash = || blake3::hash(chunk.bytes());
        let hash = if chunk.is_whole_zero() { *self.zero.get_or_insert_with(hash) } else { hash() };
        self.chunks.update(hash.as_bytes());
        self.length_bytes += chunk.bytes().len() as u64;
    }

    /// The checksum of what was added.
    #[must_use]
    pub fn hash(&self) -> blake3::Hash {
        self.chunks.finalize()
    }
}

/// The user's side of the thread.
#[derive(Debug)]
pub struct Ahead {
    full: Receiver<Chunk>,
    empty: Sender<Chunk>,
    thread: JoinHandle<Result<Option<Digest>, Refused>>,
}

impl Ahead {
    /// Begins to read `stream` to its end.
    #[must_use]
    pub fn new(stream: impl Stream) -> Self {
        Self::begin(stream, Some(Digest::default()))
    }

    /// Begins to read `stream` to its end, without its checksum.
    #[must_use]
    pub fn unhashed(stream: impl Stream) -> Self {
        Self::begin(stream, None)
    }

    fn begin(stream: impl Stream, digest: Option<Digest>) -> Self {
        let (full_to, full) = sync_channel(CHUNKS);
        let (empty_to, empty) = channel::<Chunk>();
        for _ in 0..CHUNKS {
            // Its receiver is at hand.
            let _ = empty_to.send(Chunk::default());
        }
        let thread = thread::spawn(move || {
            let mut hand = Hand { empty, full: full_to, digest };
            stream.run(&mut hand)?;
            Ok(hand.digest)
        });
        Self { full, empty: empty_to, thread }
    }

    /// The next chunk; `None` at the end and after a failure, which [`Self::finish`] tells apart.
    #[must_use]
    pub fn next(&self) -> Option<Chunk> {
        self.full.recv().ok()
    }

    /// Gives a chunk back for reading into.
    pub fn give_back(&self, chunk: Chunk) {
        // The thread may have ended.
        let _ = self.empty.send(chunk);
    }

    /// The length and checksum of all that was read; nothing of what is unhashed.
    ///
    /// # Errors
    /// That of the reading.
    ///
    /// # Panics
    /// When the reading panicked.
    pub fn finish(self) -> Result<Digest, Refused> {
        drop((self.full, self.empty));
        let digest = self.thread.join().expect("the reading thread does not panic")?;
        Ok(digest.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_hashes_of_the_chunks() {
        let (mut digest, mut expected) = (Digest::default(), Vec::new());
        let mut chunk = Chunk::default();
        assert_eq!(digest.hash(), blake3::hash(&[]));
        for (byte, bytes) in [(0, CHUNK_BYTES), (3, CHUNK_BYTES), (0, CHUNK_BYTES), (0, 700)] {
            chunk.room()[..bytes].fill(byte);
            chunk.set_filled(bytes);
            digest.add(&chunk);
            expected.extend(blake3::hash(&vec![byte; bytes]).as_bytes());
        }
        assert_eq!(digest.hash(), blake3::hash(&expected));
        assert_eq!(digest.length_bytes, 3 * CHUNK_BYTES as u64 + 700);
    }
}
