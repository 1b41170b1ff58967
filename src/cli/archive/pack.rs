//! Writing an archive: one thread reads ahead and hashes, this one compresses and writes.

use super::buffer::{CHUNK_BYTES, Chunk};
use super::source::Source;
use super::stream::Ahead;
use super::target::NewFile;
use super::trailer::{TRAILER_BYTES, Trailer};
use super::{Meter, Named, refuse_terminal};
use crate::base::units::{exact_bytes, human_bytes};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, cannot_write, clean};
use crate::cli::progress::{Progress, seconds};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

/// Makes the frame of each chunk; that of a chunk of zeroes once.
struct Frames {
    compressor: Compressor<'static>,
    frame: Vec<u8>,
    zero: Option<Vec<u8>>,
}

impl Frames {
    fn new(level: i32) -> std::io::Result<Self> {
        let frame = Vec::with_capacity(compress_bound(CHUNK_BYTES));
        Ok(Self { compressor: Compressor::new(level)?, frame, zero: None })
    }

    /// The frame of `chunk`.
    fn frame(&mut self, chunk: &Chunk) -> std::io::Result<&[u8]> {
        if !chunk.is_whole_zero() {
            self.compressor.compress_to_buffer(chunk.bytes(), &mut self.frame)?;
            return Ok(&self.frame);
        }
        if self.zero.is_none() {
            self.zero = Some(self.compressor.compress(chunk.bytes())?);
        }
        Ok(self.zero.as_deref().unwrap_or_default())
    }
}

/// Where an archive goes.
enum Target {
    File(NewFile),
    /// Standard output.
    Stream(std::io::StdoutLock<'static>),
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(out) => {
                out.write_all(bytes).map_err(|error| cannot_write("standard output", &error))
            }
        }
    }

    /// The end of an archive of `length_bytes`.
    fn finish(self, length_bytes: u64) -> Result<(), Refused> {
        match self {
            Self::File(file) => file.publish(length_bytes),
            Self::Stream(mut out) => out.flush().map_err(|error| cannot_write("standard output", &error)),
        }
    }
}

/// Copies `named` into the new archive `path`, or to standard output.
///
/// # Errors
/// When the source cannot be read to its end or changes its length, or the file cannot be written; then no file is left, and what
/// went to standard output has no checksum behind it. [`Kind::Usage`] when that is a terminal.
pub fn run(
    named: &Named,
    path: Option<&Path>,
    level: i32,
    progress: &mut Progress,
) -> Result<Answer, Refused> {
    if path.is_none() {
        refuse_terminal()?;
    }
    let source = Source::open(named)?;
    let expected = source.length_bytes;
    let mut file = match path {
        Some(path) => Target::File(NewFile::create(path)?),
        None => Target::Stream(std::io::stdout().lock()),
    };
    let to = path.map_or_else(|| "standard output".to_owned(), |path| clean(path.display()));
    let fail = |error: std::io::Error| cannot_write(&to, &error);
    let mut frames = Frames::new(level).map_err(fail)?;
    let mut meter = Meter::new(progress, format!("archive {}", clean(&named.name)), expected);
    let mut packed_bytes = TRAILER_BYTES as u64;
    let source = Ahead::new(source);
    while let Some(chunk) = source.next() {
        let frame = frames.frame(&chunk).map_err(fail)?;
        file.write(frame)?;
        packed_bytes += frame.len() as u64;
        meter.advance(chunk.bytes().len() as u64);
        source.give_back(chunk);
    }
    let digest = source.finish()?;
    let (length_bytes, hash) = (digest.length_bytes, digest.hash());
    if length_bytes != expected {
        return Err(Refusal::new(
            Kind::Io,
            "archive.length",
            clean(&named.name),
            format!("gave {} of {}", exact_bytes(length_bytes), exact_bytes(expected)),
            "see that nobody resizes it, then archive again",
        ));
    }
    file.write(&Trailer { length_bytes, blake3: *hash.as_bytes() }.encode())?;
    file.finish(packed_bytes)?;
    let elapsed_ms = meter.finish();
    let json = json!({
        "source": named.path, "file": path, "bytes": length_bytes, "archive_bytes": packed_bytes,
        "blake3": hash.to_hex().as_str(), "elapsed_ms": elapsed_ms,
    });
    let text = format!(
        "{}: {} in {} {} {to} in {}, blake3 {}\n",
        clean(&named.name),
        human_bytes(length_bytes),
        human_bytes(packed_bytes),
        if path.is_some() { "of" } else { "to" },
        seconds(elapsed_ms),
        hash.to_hex()
    );
    Ok(Answer { beside: path.is_none(), ..Answer::done(json, text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_of_zeroes_is_made_once_and_only_for_whole_chunks() {
        let mut frames = Frames::new(1).unwrap();
        let mut chunk = Chunk::default();
        chunk.set_zero(CHUNK_BYTES);
        let first = frames.frame(&chunk).unwrap();
        let (place, zero) = (first.as_ptr(), first.to_vec());
        chunk.room()[9] = 9;
        chunk.set_filled(CHUNK_BYTES);
        let mut stream = zero.clone();
        stream.extend(frames.frame(&chunk).unwrap());
        chunk.set_zero(CHUNK_BYTES);
        let again = frames.frame(&chunk).unwrap();
        assert_eq!((again.as_ptr(), again), (place, zero.as_slice()), "the same one");
        stream.extend(again);
        chunk.set_zero(77);
        stream.extend(frames.frame(&chunk).unwrap());
        let mut expected = vec![0; 3 * CHUNK_BYTES + 77];
        expected[CHUNK_BYTES + 9] = 9;
        assert!(zstd::decode_all(stream.as_slice()).unwrap() == expected, "an ordinary stream");
    }
}
