//! Writing an archive: one thread reads and hashes, this one compresses and writes.

use super::buffer::Chunk;
use super::source::Source;
use super::target::NewFile;
use super::trailer::{TRAILER_BYTES, Trailer};
use super::{Meter, Named};
use crate::base::units::human_bytes;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, cannot_write, clean};
use crate::cli::progress::{Progress, seconds};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Chunks between the threads: one being read, one being compressed, two to even out.
const CHUNKS: usize = 4;

/// Counts and keeps what the compressor writes; its error is kept, because the compressor would hide the refusal.
struct Counted {
    file: NewFile,
    bytes: u64,
    failure: Option<Refused>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.file.write(bytes) {
            Ok(()) => {
                self.bytes += bytes.len() as u64;
                Ok(bytes.len())
            }
            Err(refusal) => {
                self.failure = Some(refusal);
                Err(std::io::Error::other("kept aside"))
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Copies `named` into the new archive `path`.
///
/// # Errors
/// When the source cannot be read to its end or changes its length, or the file cannot be written; then no file is left.
pub fn run(named: &Named, path: &Path, level: i32, progress: &mut Progress) -> Result<Answer, Refused> {
    let source = Source::open(named)?;
    let expected = source.length_bytes;
    let mut counted = Counted { file: NewFile::create(path)?, bytes: 0, failure: None };
    let mut meter = Meter::new(progress, format!("archive {}", clean(&named.name)), expected);
    let (full_to, full) = sync_channel(CHUNKS);
    let (empty_to, empty) = channel();
    for _ in 0..CHUNKS {
        let _ = empty_to.send(Chunk::default());
    }
    let reader = thread::spawn(move || read_all(source, &empty, &full_to));
    let compressed = compress(&mut counted, level, full, &empty_to, &mut meter);
    drop(empty_to);
    let read = reader.join().expect("the reading thread does not panic");
    if let Some(refusal) = counted.failure.take() {
        return Err(refusal);
    }
    let (length_bytes, hash) = read?;
    compressed.map_err(|error| cannot_write(&clean(path.display()), &error))?;
    if length_bytes != expected {
        return Err(Refusal::new(
            Kind::Io,
            "archive.length",
            clean(&named.name),
            format!("gave {length_bytes} bytes of {expected}"),
            "see that nobody resizes it, then archive again",
        ));
    }
    counted.file.write(&Trailer { length_bytes, blake3: *hash.as_bytes() }.encode())?;
    let packed_bytes = counted.bytes + TRAILER_BYTES as u64;
    counted.file.publish(packed_bytes)?;
    let elapsed_ms = meter.finish();
    let json = json!({
        "source": named.path, "file": path, "bytes": length_bytes, "archive_bytes": packed_bytes,
        "blake3": hash.to_hex().as_str(), "elapsed_ms": elapsed_ms,
    });
    let text = format!(
        "{}: {} in {} of {} in {}, blake3 {}\n",
        clean(&named.name),
        human_bytes(length_bytes),
        human_bytes(packed_bytes),
        clean(path.display()),
        seconds(elapsed_ms),
        hash.to_hex()
    );
    Ok(Answer::done(json, text))
}

fn read_all(
    mut source: Source,
    empty: &Receiver<Chunk>,
    full: &SyncSender<Chunk>,
) -> Result<(u64, blake3::Hash), Refused> {
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    // Either channel ends early only when the writer gave up, and then its refusal is the one that counts.
    while let Ok(mut chunk) = empty.recv() {
        source.read(&mut chunk)?;
        if chunk.bytes().is_empty() {
            break;
        }
        length += chunk.bytes().len() as u64;
        hasher.update(chunk.bytes());
        if full.send(chunk).is_err() {
            break;
        }
    }
    Ok((length, hasher.finalize()))
}

fn compress(
    counted: &mut Counted,
    level: i32,
    full: Receiver<Chunk>,
    empty: &Sender<Chunk>,
    meter: &mut Meter<'_>,
) -> std::io::Result<()> {
    let mut encoder = zstd::Encoder::new(counted, level)?;
    for chunk in full {
        encoder.write_all(chunk.bytes())?;
        meter.advance(chunk.bytes().len() as u64);
        let _ = empty.send(chunk);
    }
    encoder.finish().map(|_| ())
}
