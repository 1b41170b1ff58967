//! `cleave archive` and `cleave unarchive`: a volume's bytes as a zstd stream in a file, and back, without the daemon.
//!
//! An archive is an ordinary zstd file: `zstd -dc FILE` gives the bytes of the volume. It is a row of frames, one for each
//! chunk of 1 MiB, the last chunk being what remains. A skippable frame at its end ([`trailer`]) carries the number of the
//! bytes and their checksum, so that checking needs nothing else and stops before it would expand more than was packed.
//!
//! The checksum is BLAKE3 over the BLAKE3 hashes of the chunks, one behind the other. With that, a chunk of zeroes costs
//! hardly more than looking at it: its hash is computed once and its frame is made once, and whoever reads an archive knows
//! that frame again without decompressing it. Volumes are mostly zeroes; the holes of a file are not even read.
//!
//! Compression is at level 1 unless asked otherwise: an archive should keep up with the disks.
//!
//! A source that may still change gives no copy of any moment, so a volume mounted for writing is refused, and so is a
//! plex file that the daemon holds.

pub mod buffer;
pub mod pack;
pub mod reader;
pub mod source;
pub mod stream;
pub mod target;
pub mod trailer;
pub mod unpack;

use super::answer::Answer;
use super::plan::{Action, Options};
use super::progress::{Progress, Step};
use super::verbs::mount::{device, errno};
use super::words;
use crate::base::{Kind, Refusal, Refused};
use clap::Args;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The words of `archive`.
#[derive(Args, Debug)]
#[command(after_help = "\
An archive is a zstd file, followed by a checksum that zstd skips: zstd -dc FILE reads it too.

It is written in one pass, so that it can go to another command:
  cleave archive VOLUME - | ssh HOST 'cat >FILE'
Its checksum comes last: see to it that the whole of it has arrived, with cleave archive --check FILE.")]
pub struct ArchiveArgs {
    /// The volume, or the path of a device or plex file; with --check, the archive
    source: String,
    /// The new archive, or - for standard output; with --check, a volume or path to compare it with
    file: Option<String>,
    /// Check an archive: archive --check FILE [VOLUME]
    #[arg(short, long)]
    check: bool,
    /// How hard to compress, from 1, the fastest, to 19
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
}

/// The words of `unarchive`.
#[derive(Args, Debug)]
pub struct UnarchiveArgs {
    /// The archive
    file: String,
    /// The file to make, with holes where the volume had zeros; - for standard output
    target: String,
}

/// What is to be done with an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArchiveWork {
    /// Copy a source into a new archive.
    Pack {
        /// A device or file, and its name for people.
        source: Named,
        /// The new archive; standard output without one.
        file: Option<PathBuf>,
        /// How hard to compress.
        level: i32,
    },
    /// Check an archive, and compare it when there is something to compare with.
    Check {
        /// The archive.
        file: PathBuf,
        /// A device or file, and its name for people.
        against: Option<Named>,
    },
    /// Read an archive back; to standard output without a target.
    Unpack {
        /// The archive.
        file: PathBuf,
        /// The file to make.
        target: Option<PathBuf>,
    },
}

/// A path, and what the user called it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// What the user typed.
    pub name: String,
    /// The path.
    pub path: PathBuf,
}

impl Named {
    /// `word` as a path when it has a slash, else as a volume.
    fn new(options: &Options, word: &str) -> Result<Self, Refused> {
        let path = if word.contains('/') {
            words::path(word)?
        } else {
            device(&options.group(), &words::name(word)?)
        };
        Ok(Self { name: word.to_owned(), path })
    }
}

impl ArchiveArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and paths; [`Kind::Usage`] without a file to write.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let work = match (self.check, &self.file) {
            (true, against) => ArchiveWork::Check {
                file: archive_to_read(&self.source)?,
                against: against.as_deref().map(|word| Named::new(options, word)).transpose()?,
            },
            (false, Some(file)) => ArchiveWork::Pack {
                source: Named::new(options, &self.source)?,
                file: if file == "-" { None } else { Some(words::path(file)?) },
                level: self.level,
            },
            (false, None) => {
                let way_out = "write: cleave archive VOLUME FILE";
                return Err(Refusal::new(Kind::Usage, "argument.missing", "FILE", "is missing", way_out));
            }
        };
        Ok(Action::Archive(work))
    }
}

impl UnarchiveArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of paths.
    pub fn action(self, _options: &Options) -> Result<Action, Refused> {
        let target = if self.target == "-" { None } else { Some(words::path(&self.target)?) };
        Ok(Action::Archive(ArchiveWork::Unpack { file: archive_to_read(&self.file)?, target }))
    }
}

/// The path of an archive that is read.
///
/// # Errors
/// That of paths; [`Kind::Usage`] for standard input.
fn archive_to_read(word: &str) -> Result<PathBuf, Refused> {
    if word != "-" {
        return words::path(word);
    }
    Err(Refusal::new(
        Kind::Usage,
        "archive.standard-input",
        word,
        "an archive is read from its end on, which standard input does not have at first",
        "write it into a file first; without the check zstd -dc reads it at once",
    ))
}

/// Refuse to fill a terminal with what no person can read.
///
/// # Errors
/// [`Kind::Usage`].
fn refuse_terminal() -> Result<(), Refused> {
    if !std::io::stdout().is_terminal() {
        return Ok(());
    }
    let way_out = "name a file, or send the output to another command";
    Err(Refusal::new(Kind::Usage, "archive.terminal", "-", "is a terminal", way_out))
}

impl ArchiveWork {
    /// Does it.
    ///
    /// # Errors
    /// See [`pack`] and [`unpack`].
    pub fn run(&self, progress: &mut Progress) -> Result<Answer, Refused> {
        match self {
            Self::Pack { source, file, level } => pack::run(source, file.as_deref(), *level, progress),
            Self::Check { file, against } => unpack::check(file, against.as_ref(), progress),
            Self::Unpack { file, target } => unpack::run(file, target.as_deref(), progress),
        }
    }
}

/// Tells progress of a stream of known length.
struct Meter<'a> {
    progress: &'a mut Progress,
    step: Step,
    begun: Instant,
}

impl<'a> Meter<'a> {
    fn new(progress: &'a mut Progress, label: String, total_bytes: u64) -> Self {
        let step =
            Step { key: 0, label, done_bytes: 0, total_bytes, rate_bytes: 0, eta_ms: None, ended: None };
        Self { progress, step, begun: Instant::now() }
    }

    fn advance(&mut self, bytes: u64) {
        let step = &mut self.step;
        step.done_bytes += bytes;
        let elapsed = self.begun.elapsed().as_millis().max(1);
        step.rate_bytes = u64::try_from(u128::from(step.done_bytes) * 1000 / elapsed).unwrap_or(u64::MAX);
        let left = step.total_bytes.saturating_sub(step.done_bytes);
        step.eta_ms = left.saturating_mul(1000).checked_div(step.rate_bytes);
        self.progress.step(step);
    }

    /// The end: milliseconds it took.
    fn finish(mut self) -> u64 {
        self.step.ended = Some("done");
        self.progress.step(&self.step);
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The refusal for an error of reading `path`.
fn cannot_read(path: &Path, error: &std::io::Error) -> Refused {
    let reason = format!("cannot be read ({})", errno(error));
    Refusal::new(Kind::Io, "archive.read", path.display(), reason, "")
}
