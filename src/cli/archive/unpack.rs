//! Reading archives: checking, comparing, and getting the bytes back.

use super::buffer::Chunk;
use super::reader::{Reader, verify};
use super::source::Source;
use super::stream::Ahead;
use super::target::NewFile;
use super::{Meter, Named, refuse_terminal};
use crate::base::units::{exact_bytes, human_bytes};
use crate::base::zero::is_zero;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, cannot_write, clean};
use crate::cli::progress::{Progress, seconds};
use serde_json::json;
use std::io::Write;
use std::path::Path;

/// Zeros of at least this length become holes: the block of most file systems.
const HOLE_BYTES: usize = 4096;

/// Checks the archive `path`, and that it equals `against`.
///
/// # Errors
/// [`Kind::Damaged`] when it is not whole, [`Kind::Differs`] when it differs from `against`.
pub fn check(path: &Path, against: Option<&Named>, progress: &mut Progress) -> Result<Answer, Refused> {
    let archive = Reader::open(path)?;
    let trailer = archive.trailer();
    let length_bytes = trailer.length_bytes;
    let source = against.map(Source::open).transpose()?;
    if let (Some(source), Some(named)) = (&source, against)
        && source.length_bytes != length_bytes
    {
        let (has, packed) = (exact_bytes(source.length_bytes), exact_bytes(length_bytes));
        let reason = format!("has {has}, the archive {packed}");
        return Err(differs(named, &reason));
    }
    let mut meter = Meter::new(progress, format!("check {}", clean(path.display())), length_bytes);
    let archive = Ahead::new(archive);
    let mut source = source.map(Ahead::unhashed);
    let mut offset = 0;
    while let Some(ours) = archive.next() {
        if let (Some(chunks), Some(named)) = (&source, against) {
            let Some(theirs) = chunks.next() else {
                source.take().map(Ahead::finish).transpose()?;
                return Err(differs(named, &format!("ends at byte {offset}")));
            };
            if let Some(at) = ours.first_difference(&theirs) {
                return Err(differs(named, &format!("differs first at byte {}", offset + at as u64)));
            }
            chunks.give_back(theirs);
        }
        let count = ours.bytes().len() as u64;
        archive.give_back(ours);
        offset += count;
        meter.advance(count);
    }
    let hash = verify(path, &trailer, &archive.finish()?)?;
    let elapsed_ms = meter.finish();
    let equal = against.map(|named| format!(", equal to {}", clean(&named.name))).unwrap_or_default();
    let text = format!(
        "{}: good, {}{equal}, checked in {}, blake3 {hash}\n",
        clean(path.display()),
        human_bytes(length_bytes),
        seconds(elapsed_ms)
    );
    let compared = against.map(|named| named.path.clone());
    let json = json!({
        "file": path, "compared_with": compared, "bytes": length_bytes, "blake3": hash, "elapsed_ms": elapsed_ms,
    });
    Ok(Answer::done(json, text))
}

fn differs(named: &Named, reason: &str) -> Refused {
    Refusal::new(Kind::Differs, "archive.differs", clean(&named.name), reason, "")
}

/// Reads the archive `path` back into the new file `target`, or to standard output.
///
/// # Errors
/// [`Kind::Damaged`] when it is not whole, and then no file is left; [`Kind::Exists`] when the target exists.
pub fn run(path: &Path, target: Option<&Path>, progress: &mut Progress) -> Result<Answer, Refused> {
    let archive = Reader::open(path)?;
    let trailer = archive.trailer();
    let length_bytes = trailer.length_bytes;
    if target.is_none() {
        refuse_terminal()?;
    }
    let mut file = target.map(NewFile::create).transpose()?;
    let mut out = std::io::stdout().lock();
    let mut meter = Meter::new(progress, format!("unarchive {}", clean(path.display())), length_bytes);
    let archive = Ahead::new(archive);
    while let Some(chunk) = archive.next() {
        match &mut file {
            Some(file) => write_with_holes(file, &chunk)?,
            None => out.write_all(chunk.bytes()).map_err(|error| cannot_write("standard output", &error))?,
        }
        let count = chunk.bytes().len() as u64;
        archive.give_back(chunk);
        meter.advance(count);
    }
    let hash = verify(path, &trailer, &archive.finish()?)?;
    if let Some(file) = file {
        file.publish(length_bytes)?;
    }
    out.flush().map_err(|error| cannot_write("standard output", &error))?;
    let elapsed_ms = meter.finish();
    let to = target.map_or_else(|| "standard output".to_owned(), |target| clean(target.display()));
    let text = format!(
        "{}: {} to {to} in {}, blake3 {hash}\n",
        clean(path.display()),
        human_bytes(length_bytes),
        seconds(elapsed_ms)
    );
    let json = json!({ "file": path, "target": target, "bytes": length_bytes, "blake3": hash, "elapsed_ms": elapsed_ms });
    Ok(Answer { beside: target.is_none(), ..Answer::done(json, text) })
}

fn write_with_holes(file: &mut NewFile, chunk: &Chunk) -> Result<(), Refused> {
    if chunk.is_zero() {
        return file.skip(chunk.bytes().len() as u64);
    }
    let blocks: Vec<(bool, &[u8])> =
        chunk.bytes().chunks(HOLE_BYTES).map(|block| (is_zero(block), block)).collect();
    let mut at = 0;
    for run in blocks.chunk_by(|(a, _), (b, _)| a == b) {
        let length: usize = run.iter().map(|(_, block)| block.len()).sum();
        if run[0].0 {
            file.skip(length as u64)?;
        } else {
            file.write(&chunk.bytes()[at..at + length])?;
        }
        at += length;
    }
    Ok(())
}
