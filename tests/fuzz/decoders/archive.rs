//! Archives: the trailer, and the frames in front of it.
//!
//! An input is four bytes with the length that the trailer tells, and the frames; a trailer is put behind them.

use super::mutate::Shape;
use super::{Decoder, meter};
use cleave::base::{Kind, Refused};
use cleave::cli::archive::buffer::{CHUNK_BYTES, Chunk};
use cleave::cli::archive::reader::{Reader, verify};
use cleave::cli::archive::stream::Digest;
use cleave::cli::archive::trailer::{TRAILER_BYTES, Trailer};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Archives.
pub const ARCHIVE: Decoder = Decoder { name: "archive", max_len: 256, shape: Shape::Binary, check, seeds };

/// Heap of a reader: its window of some frames of the greatest size, one chunk, and the frame of zeroes that it knows. What
/// the archive claims adds nothing.
const HEAP: usize = 8 << 20;

thread_local! {
    static SCRATCH: (File, PathBuf) = {
        let file = File::from(rustix::fs::memfd_create("archive", rustix::fs::MemfdFlags::CLOEXEC).expect("memory"));
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        (file, path)
    };
}

/// The digest of all chunks of the archive with these bytes, and its trailer; or why it is not whole.
fn read(bytes: &[u8]) -> Result<(Digest, Trailer), Refused> {
    SCRATCH.with(|(file, path)| {
        file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("memory");
        meter::within(HEAP, || {
            let mut reader = Reader::open(path)?;
            let trailer = reader.trailer();
            let (mut digest, mut chunk) = (Digest::default(), Chunk::default());
            loop {
                reader.next(&mut chunk)?;
                if chunk.bytes().is_empty() {
                    break;
                }
                assert!(chunk.bytes().len() <= CHUNK_BYTES);
                digest.add(&chunk);
                assert!(
                    digest.length_bytes <= trailer.length_bytes,
                    "it stops before it expands more than it says"
                );
            }
            assert_eq!(digest.length_bytes, trailer.length_bytes);
            Ok((digest, trailer))
        })
    })
}

fn refused(refused: &Refused) {
    super::told(refused);
    assert_eq!(refused.kind, Kind::Damaged, "{refused}");
}

fn check(data: &[u8]) -> bool {
    if let Err(error) = read(data) {
        refused(&error);
    }
    let Some((length, frames)) = data.split_first_chunk() else { return false };
    let length_bytes = u64::from(u32::from_le_bytes(*length));
    let whole = |trailer: Trailer| [frames, &trailer.encode()].concat();
    let (digest, wrong) = match read(&whole(Trailer { length_bytes, blake3: [0; 32] })) {
        Ok(read) => read,
        Err(error) => {
            refused(&error);
            return false;
        }
    };
    SCRATCH.with(|(_, path)| refused(&verify(path, &wrong, &digest).expect_err("another checksum")));
    let trailer = Trailer { length_bytes, blake3: *digest.hash().as_bytes() };
    assert_eq!(Trailer::decode(&trailer.encode()), Some(trailer));
    let bytes = whole(trailer);
    let (digest, told) = read(&bytes).expect("it was read before");
    assert_eq!(told, trailer);
    SCRATCH.with(|(_, path)| assert!(verify(path, &told, &digest).is_ok()));
    // Cut anywhere in its trailer it is none.
    for end in [bytes.len() - 1, bytes.len() - TRAILER_BYTES] {
        refused(&read(&bytes[..end]).expect_err("it is cut off"));
    }
    true
}

/// A frame (RFC 8878, section 3.1.1) of one segment with `blocks`, each of a kind (0 as it is, 1 one byte many times), a
/// length and bytes.
fn frame(content: u32, blocks: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(content.to_le_bytes());
    for (at, (kind, length, bytes)) in blocks.iter().enumerate() {
        let last = u32::from(at + 1 == blocks.len());
        frame.extend(&(last | kind << 1 | length << 3).to_le_bytes()[..3]);
        frame.extend(*bytes);
    }
    frame
}

/// The content of the archive with these bytes, `None` when it is not whole.
pub fn content(bytes: &[u8]) -> Option<Vec<u8>> {
    let (digest, trailer) = read(bytes).inspect_err(refused).ok()?;
    SCRATCH.with(|(_, path)| {
        verify(path, &trailer, &digest).ok()?;
        let (mut reader, mut chunk, mut content) = (Reader::open(path).ok()?, Chunk::default(), Vec::new());
        while reader.next(&mut chunk).is_ok() && !chunk.bytes().is_empty() {
            content.extend_from_slice(chunk.bytes());
        }
        Some(content)
    })
}

/// A small archive.
pub fn small() -> Vec<u8> {
    let frames = frame(300, &[(0, 4, b"head"), (1, 289, b"x"), (0, 7, b"archive")]);
    let trailer = |blake3| [&frames[..], &Trailer { length_bytes: 300, blake3 }.encode()].concat();
    let (digest, _) = read(&trailer([0; 32])).expect("good frames");
    trailer(*digest.hash().as_bytes())
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let zeroes = frame(CHUNK_BYTES as u32, &[(1, 128 << 10, &[0][..]); 8]);
    let words = frame(11, &[(0, 11, b"hello world")]);
    let mixed = frame(300, &[(0, 4, b"head"), (1, 296, b"x")]);
    let seed = |name: &str, length: u32, frames: &[&[u8]]| {
        (name.to_owned(), [&length.to_le_bytes()[..], &frames.concat()].concat())
    };
    vec![
        seed("empty", 0, &[]),
        seed("words", 11, &[&words]),
        seed("mixed", 300, &[&mixed]),
        seed("zeroes", 2 * CHUNK_BYTES as u32 + 11, &[&zeroes, &zeroes, &words]),
    ]
}
