//! The frames of an archive, read back one by one.

use super::buffer::{CHUNK_BYTES, Chunk};
use super::cannot_read;
use super::stream::{Digest, Hand, Stream};
use super::trailer::{TRAILER_BYTES, Trailer};
use crate::base::units::exact_bytes;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::clean;
use crate::cli::verbs::mount::cannot_open;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use zstd::bulk::Decompressor;
use zstd::zstd_safe::{compress_bound, find_frame_compressed_size, get_error_name};

/// Frames of the greatest size that the window holds: moving what is left to its front is rare then, also where frames
/// are small.
const WINDOW_FRAMES: usize = 4;

/// The stream of an archive, and as much of it as is in memory.
struct Window {
    file: File,
    /// Bytes of the stream not yet read from the file.
    left_bytes: u64,
    raw: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    fn new(file: File, stream_bytes: u64) -> Self {
        let raw = vec![0; WINDOW_FRAMES * compress_bound(CHUNK_BYTES)];
        Self { file, left_bytes: stream_bytes, raw, start: 0, end: 0 }
    }

    /// Sees that the greatest frame is in memory, or all that is left.
    fn fill(&mut self) -> std::io::Result<()> {
        if self.end - self.start >= compress_bound(CHUNK_BYTES) || self.left_bytes == 0 {
            return Ok(());
        }
        self.raw.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < self.raw.len() && self.left_bytes > 0 {
            let most = self.left_bytes.min((self.raw.len() - self.end) as u64) as usize;
            match self.file.read(&mut self.raw[self.end..self.end + most]) {
                // Somebody cut the file; what is missing shows.
                Ok(0) => self.left_bytes = 0,
                Ok(count) => {
                    self.end += count;
                    self.left_bytes -= count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        &self.raw[self.start..self.end]
    }
}

/// An archive whose trailer has been read.
pub struct Reader {
    path: PathBuf,
    window: Window,
    decompressor: Decompressor<'static>,
    trailer: Trailer,
    /// The frame of a chunk of zeroes, once one was seen: those that equal it need not be decompressed. It is learned and
    /// not made, because other levels and versions of zstd may write other frames.
    zero: Option<Vec<u8>>,
    at_bytes: u64,
}

impl Reader {
    /// Opens the archive `path` and reads its trailer.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is none; [`Kind::Io`]; those of opening.
    pub fn open(path: &Path) -> Result<Self, Refused> {
        let object = path.display().to_string();
        let mut file = File::open(path).map_err(|error| cannot_open(&object, path, &error))?;
        let fail = |error: std::io::Error| cannot_read(path, &error);
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(damaged(path, Kind::Damaged, "archive.not-a-file", "is no file"));
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
            return Err(damaged(
                path,
                Kind::Damaged,
                "archive.no-trailer",
                "is no archive, or its end is missing",
            ));
        };
        file.rewind().map_err(fail)?;
        Ok(Self {
            path: path.to_path_buf(),
            window: Window::new(file, stream),
            decompressor: Decompressor::new().map_err(fail)?,
            trailer,
            zero: None,
            at_bytes: 0,
        })
    }

    /// What the archive says of its content.
    #[must_use]
    pub fn trailer(&self) -> Trailer {
        self.trailer
    }

    /// Decompresses the frame at the start of the window, which must give `bytes` bytes; returns the frame's length.
    fn decompress(&mut self, chunk: &mut Chunk, bytes: usize) -> Result<usize, String> {
        let window = self.window.bytes();
        let frame = find_frame_compressed_size(window).map_err(|code| get_error_name(code).to_owned())?;
        let room = &mut chunk.room()[..bytes];
        let count = self.decompressor.decompress_to_buffer(&window[..frame], room);
        match count.map_err(|error| error.to_string())? {
            count if count == bytes => chunk.set_filled(bytes),
            count => return Err(format!("it gives {count} bytes instead of {bytes}")),
        }
        if chunk.is_whole_zero() {
            self.zero = Some(window[..frame].to_vec());
        }
        Ok(frame)
    }
}

impl Stream for Reader {
    fn run(mut self, hand: &mut Hand) -> Result<(), Refused> {
        while let Some(mut chunk) = hand.take() {
            self.next(&mut chunk)?;
            if chunk.bytes().is_empty() || !hand.give(chunk) {
                break;
            }
        }
        Ok(())
    }
}

impl Reader {
    /// Fills `chunk` with the next bytes; none at the end.
    ///
    /// # Errors
    /// [`Kind::Damaged`] for a frame that cannot be expanded, too few bytes or too many; [`Kind::Io`].
    pub fn next(&mut self, chunk: &mut Chunk) -> Result<(), Refused> {
        self.window.fill().map_err(|error| cannot_read(&self.path, &error))?;
        let announced = self.trailer.length_bytes;
        let bytes = (announced - self.at_bytes).min(CHUNK_BYTES as u64) as usize;
        match (self.window.bytes().is_empty(), bytes) {
            (true, 0) => {
                chunk.set_zero(0);
                return Ok(());
            }
            (true, _) => {
                let (holds, announced) = (exact_bytes(self.at_bytes), exact_bytes(announced));
                let reason = format!("holds {holds} of {announced}");
                return Err(damaged(&self.path, Kind::Damaged, "archive.too-short", &reason));
            }
            (false, 0) => {
                return Err(damaged(
                    &self.path,
                    Kind::Damaged,
                    "archive.too-long",
                    "holds more than it says",
                ));
            }
            (false, _) => {}
        }
        let known = self.zero.as_ref().filter(|_| bytes == CHUNK_BYTES);
        let frame = match known.filter(|zero| self.window.bytes().starts_with(zero)) {
            Some(zero) => {
                chunk.set_zero(bytes);
                zero.len()
            }
            None => self.decompress(chunk, bytes).map_err(|reason| {
                let reason = format!("is damaged in the frame of byte {} ({reason})", self.at_bytes);
                damaged(&self.path, Kind::Damaged, "archive.damaged", &reason)
            })?,
        };
        self.window.start += frame;
        self.at_bytes += bytes as u64;
        Ok(())
    }
}

/// Whether `digest`, that of all chunks, is what the trailer of `path` says: the checksum in hexadecimal.
///
/// # Errors
/// [`Kind::Damaged`].
pub fn verify(path: &Path, trailer: &Trailer, digest: &Digest) -> Result<String, Refused> {
    let hash = digest.hash();
    if *hash.as_bytes() != trailer.blake3 {
        return Err(damaged(
            path,
            Kind::Damaged,
            "archive.checksum",
            "does not have the checksum that it says",
        ));
    }
    Ok(hash.to_hex().to_string())
}

fn damaged(path: &Path, kind: Kind, id: &str, reason: &str) -> Refused {
    Refusal::new(kind, id, clean(path.display()), reason, "archive again from a good copy")
}
