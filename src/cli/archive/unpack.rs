//! Reading archives: checking, comparing, and getting the bytes back.

use super::buffer::{CHUNK_BYTES, Chunk};
use super::source::Source;
use super::target::NewFile;
use super::trailer::{TRAILER_BYTES, Trailer};
use super::{Meter, Named, cannot_read};
use crate::base::units::human_bytes;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, cannot_write, clean};
use crate::cli::progress::{Progress, seconds};
use crate::cli::verbs::mount::cannot_open;
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, ErrorKind, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Zeros of at least this length become holes: the block of most file systems.
const HOLE_BYTES: usize = 4096;

/// An archive whose trailer has been read.
struct Opened {
    decoder: zstd::Decoder<'static, BufReader<std::io::Take<File>>>,
    trailer: Trailer,
    hasher: blake3::Hasher,
    read_bytes: u64,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, Refused> {
        let object = path.display().to_string();
        let mut file = File::open(path).map_err(|error| cannot_open(&object, path, &error))?;
        let fail = |error: std::io::Error| cannot_read(path, &error);
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(damaged(path, "archive.not-a-file", "is no file"));
        }
        let length = file.seek(SeekFrom::End(0)).map_err(fail)?;
        let mut bytes = [0; TRAILER_BYTES];
        let stream = length.checked_sub(TRAILER_BYTES as u64);
        let trailer = match stream {
            None => None,
            Some(start) => {
                file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes)).map_err(fail)?;
                Trailer::decode(&bytes)
            }
        };
        let (Some(trailer), Some(stream)) = (trailer, stream) else {
            return Err(damaged(path, "archive.no-trailer", "is no archive, or its end is missing"));
        };
        file.rewind().map_err(fail)?;
        let decoder = zstd::Decoder::new(file.take(stream)).map_err(fail)?;
        Ok(Self { decoder, trailer, hasher: blake3::Hasher::new(), read_bytes: 0 })
    }

    /// Fills `buffer`, short only at the end; never gives more than the trailer announced.
    fn read(&mut self, path: &Path, buffer: &mut [u8]) -> Result<usize, Refused> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.decoder.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error().is_some() => return Err(cannot_read(path, &error)),
                Err(error) => return Err(damaged(path, "archive.damaged", &format!("is damaged ({error})"))),
            }
        }
        self.read_bytes += filled as u64;
        if self.read_bytes > self.trailer.length_bytes {
            return Err(damaged(path, "archive.too-long", "holds more than it says"));
        }
        self.hasher.update(&buffer[..filled]);
        Ok(filled)
    }

    /// At the end of the stream: whether all is there and right.
    fn finish(&self, path: &Path) -> Result<String, Refused> {
        if self.read_bytes != self.trailer.length_bytes {
            let reason = format!("holds {} bytes of {}", self.read_bytes, self.trailer.length_bytes);
            return Err(damaged(path, "archive.too-short", &reason));
        }
        let hash = self.hasher.finalize();
        if *hash.as_bytes() != self.trailer.blake3 {
            return Err(damaged(path, "archive.checksum", "does not have the checksum that it says"));
        }
        Ok(hash.to_hex().to_string())
    }
}

fn damaged(path: &Path, id: &str, reason: &str) -> Refused {
    Refusal::new(Kind::Damaged, id, clean(path.display()), reason, "archive again from a good copy")
}

/// Checks the archive `path`, and that it equals `against`.
///
/// # Errors
/// [`Kind::Damaged`] when it is not whole, [`Kind::Differs`] when it differs from `against`.
pub fn check(path: &Path, against: Option<&Named>, progress: &mut Progress) -> Result<Answer, Refused> {
    let mut archive = Opened::open(path)?;
    let length_bytes = archive.trailer.length_bytes;
    let mut source = against.map(Source::open).transpose()?;
    if let (Some(source), Some(named)) = (&source, against)
        && source.length_bytes != length_bytes
    {
        let reason = format!("has {} bytes, the archive {length_bytes}", source.length_bytes);
        return Err(differs(named, &reason));
    }
    let mut meter = Meter::new(progress, format!("check {}", clean(path.display())), length_bytes);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut chunk = Chunk::default();
    loop {
        let offset = archive.read_bytes;
        let count = archive.read(path, &mut buffer)?;
        if let (Some(source), Some(named)) = (&mut source, against) {
            source.read(&mut chunk)?;
            if chunk.bytes() != &buffer[..count] {
                let same = chunk.bytes().iter().zip(&buffer[..count]).take_while(|(a, b)| a == b).count();
                return Err(differs(named, &format!("differs first at byte {}", offset + same as u64)));
            }
        }
        if count == 0 {
            break;
        }
        meter.advance(count as u64);
    }
    let hash = archive.finish(path)?;
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
    let mut archive = Opened::open(path)?;
    let length_bytes = archive.trailer.length_bytes;
    let mut file = target.map(NewFile::create).transpose()?;
    let mut out = std::io::stdout().lock();
    if file.is_none() && out.is_terminal() {
        let way_out = "name a file, or send the output to another command";
        return Err(Refusal::new(Kind::Usage, "archive.terminal", "-", "is a terminal", way_out));
    }
    let mut meter = Meter::new(progress, format!("unarchive {}", clean(path.display())), length_bytes);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = archive.read(path, &mut buffer)?;
        if count == 0 {
            break;
        }
        match &mut file {
            Some(file) => write_with_holes(file, &buffer[..count])?,
            None => {
                out.write_all(&buffer[..count]).map_err(|error| cannot_write("standard output", &error))?
            }
        }
        meter.advance(count as u64);
    }
    let hash = archive.finish(path)?;
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

fn write_with_holes(file: &mut NewFile, bytes: &[u8]) -> Result<(), Refused> {
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let blocks: Vec<&[u8]> = bytes.chunks(HOLE_BYTES).collect();
    let mut at = 0;
    for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let length: usize = run.iter().map(|block| block.len()).sum();
        if is_zero(run[0]) {
            file.skip(length as u64)?;
        } else {
            file.write(&bytes[at..at + length])?;
        }
        at += length;
    }
    Ok(())
}
