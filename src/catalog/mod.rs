//! The lasting list of groups, volumes, plexes and snapshots: load, commit, import, repair.
//!
//! A group has a state directory, locked by the one daemon that serves it, and in it the configuration as a text that
//! vouches for itself. It changes by whole transactions (ordering rule 17), in which each step leaves either the old
//! configuration or the new one:
//!
//! ```text
//! write configuration.new ─ fsync it ─ link configuration as configuration.GENERATION ─ rename configuration.new over
//! configuration ─ fsync the directory ─ remove the oldest past generations
//! ```
//!
//! The number of a generation is never used twice, not even when its commit failed half-way: two texts of one generation
//! are two heads, and nobody but a person can tell which is right.
//!
//! The labels on the media carry the configuration as well ([`labels`]); a label newer than the catalogue wins. What a
//! label says of its plex is weighed by a table ([`judge`]).
//!
//! Room promises: calls block and are for workers, except those of [`labels`], which run on whatever ring the device
//! belongs to; nothing is removed before what replaces it is durable; a text that does not make sense is never taken,
//! and one of a newer version is never written over.

mod directory;
pub mod files;
pub mod filesystem;
pub mod judge;
pub mod labels;
pub mod look;
mod remains;
mod signature;

pub use directory::{Directory, StateFiles, group_directories};
pub use remains::{settle_remains, unsettled_directories};
pub use signature::foreign_signature;

use std::io;
use std::path::Path;

use crate::base::limits::PAGE_BYTES;
use crate::base::museum::{self, Exhibit};
use crate::base::{Errno, FaultPoint, Generation, Kind, Refusal, Refused, Uuid};
use crate::format::config::{self, ConfigError};
use crate::state::restore::is_archive_name;
use crate::state::{Group, refuse};

/// The file that holds the configuration.
const HEAD: &str = "configuration";

/// The file in which the next configuration is written.
const NEXT: &str = "configuration.new";

/// A group whose directory holds this file is being removed, whatever else is there still.
const REMOVED: &str = "group.removed";

/// A head that could not be read is kept under this name.
const DAMAGED: &str = "configuration.damaged";

/// Past generations kept: enough to go back behind a mistake that was seen late, little enough to look through.
const PAST_KEPT: usize = 8;

fn past_name(generation: Generation) -> String {
    format!("{HEAD}.{:020}", generation.0)
}

/// A configuration that was made durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Its generation.
    pub generation: Generation,
    /// Its text, as labels carry it.
    pub text: String,
}

/// A configuration that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The group.
    pub group: Group,
    /// Its generation.
    pub generation: Generation,
    /// What was wrong on the way, each one line: a damaged head, a past generation taken in its place.
    pub warnings: Vec<String>,
    /// The generation of a configuration that was written and never took effect.
    pub interrupted: Option<Generation>,
}

/// The catalogue of one group.
#[derive(Debug)]
pub struct Catalog<F: StateFiles = Directory> {
    files: F,
    /// Generation of the head; none while it is damaged.
    head: Option<Generation>,
    /// The highest number ever used.
    used: Generation,
}

impl Catalog<Directory> {
    /// Make the state directory of a new group, lock it, and commit `group` as its first generation.
    ///
    /// # Errors
    /// `group.exists`, `state.locked`, `state.directory`, `state.commit`.
    pub fn create(path: &Path, group: &Group) -> Result<(Self, Generation), Refused> {
        Self::create_on(Directory::create(path)?, group)
    }

    /// Lock the state directory of a group and read its configuration.
    ///
    /// # Errors
    /// `state.locked` names the daemon that serves it; `state.directory`; `group.two-heads`, `group.newer-format`,
    /// `group.damaged`.
    pub fn open(path: &Path) -> Result<(Self, Loaded), Refused> {
        Self::open_on(Directory::open(path)?)
    }
}

/// Why a group was not destroyed.
#[derive(Debug)]
pub struct Undestroyed {
    /// What failed.
    pub refused: Refused,
    /// Whether it is gone all the same, if not now then after the next start.
    pub has_begun: bool,
}

impl<F: StateFiles> Catalog<F> {
    /// [`Catalog::create`] on any kind of files.
    ///
    /// # Errors
    /// `group.exists`, `state.commit`.
    pub fn create_on(files: F, group: &Group) -> Result<(Self, Generation), Refused> {
        let (catalog, committed) = Self::import_on(files, group, Generation(0))?;
        Ok((catalog, committed.generation))
    }

    /// Commit a group that is taken in from labels of generation `newest` as a newer one.
    ///
    /// # Errors
    /// As [`Catalog::create_on`].
    pub fn import_on(files: F, group: &Group, newest: Generation) -> Result<(Self, Committed), Refused> {
        let mut catalog = Self { files, head: None, used: newest };
        // A mark that was left would take the new group away at the next start.
        remains::settle_remains(&catalog.files)
            .map_err(|error| catalog.failed("cannot be cleared of a removed group", &error))?;
        match catalog.files.read(HEAD, 1) {
            Ok(None) => {}
            Ok(Some(_)) => return Err(refuse::group_exists(group.name())),
            Err(error) => return Err(catalog.failed("cannot be read", &error)),
        }
        let committed = catalog.commit(group)?;
        Ok((catalog, committed))
    }

    /// [`Catalog::open`] on any kind of files.
    ///
    /// # Errors
    /// `group.two-heads`, `group.newer-format`, `group.damaged`, `state.directory`.
    pub fn open_on(files: F) -> Result<(Self, Loaded), Refused> {
        let mut catalog = Self { files, head: None, used: Generation(0) };
        let mut warnings = Vec::new();
        let mut texts = Vec::new();
        for name in catalog.candidates()? {
            let text = catalog.read(&name)?;
            match config::decode::<Group>(&text) {
                Err(ConfigError::UnknownVersion { found, newest }) => {
                    return Err(catalog.newer(&name, found, newest));
                }
                Err(error) => {
                    // What the head's number was is not known: one behind every other that is.
                    warnings.push(format!("{}/{name}: {error}", catalog.files.place()));
                }
                Ok((generation, group)) => {
                    catalog.used = catalog.used.max(generation);
                    match group.check() {
                        Ok(()) => texts.push(Text { name, generation, bytes: text, group }),
                        Err(refused) => warnings.push(format!("{}/{name}: {refused}", catalog.files.place())),
                    }
                }
            }
        }
        catalog.refuse_two_heads(&texts)?;
        let next = texts.iter().find(|text| text.name == NEXT).map(|text| text.generation);
        catalog.head = texts.iter().find(|text| text.name == HEAD).map(|text| text.generation);
        let best = texts.into_iter().filter(|text| text.name != NEXT).max_by_key(|text| text.generation);
        let Some(best) = best else {
            return Err(Refusal::new(
                Kind::Damaged,
                "group.damaged",
                catalog.files.place(),
                if warnings.is_empty() { "holds no configuration".to_owned() } else { warnings.join("; ") },
                "bring the directory back from a backup; the labels of its media carry the configuration too",
            ));
        };
        // A daemon that was killed may have left it in memory alone: what is believed from here on must not be taken back by
        // a power cut.
        catalog
            .files
            .sync(&best.name)
            .and_then(|()| catalog.files.sync_directory())
            .map_err(|error| catalog.failed("cannot be made durable", &error))?;
        if best.name != HEAD {
            catalog.used = catalog.used.next();
            warnings.push(format!(
                "{}/{}: taken in place of the newest configuration, which cannot be read",
                catalog.files.place(),
                best.name
            ));
        }
        let interrupted = next.filter(|next| *next > best.generation);
        // An export that was cut off before this directory was given up has not happened.
        let loaded =
            Loaded { group: best.group.served(), generation: best.generation, warnings, interrupted };
        Ok((catalog, loaded))
    }

    /// Make `group` the next generation, durably.
    ///
    /// After an error the disk holds the old configuration or the new one, both whole; the caller goes on with the old
    /// one, and its next commit has a higher number than either.
    ///
    /// # Errors
    /// `state.commit`; `state.too-large` for a configuration that labels cannot carry; `group.inconsistent`.
    pub fn commit(&mut self, group: &Group) -> Result<Committed, Refused> {
        group.check()?;
        self.used = self.used.next();
        let generation = self.used;
        let text = config::encode(generation, group).map_err(|error| too_large(group, error))?;
        self.write(generation, text.as_bytes())
            .map_err(|error| self.failed("the configuration cannot be committed", &error))?;
        Ok(Committed { generation, text })
    }

    /// Make `group` the next generation without the directory, which cannot be written: labels alone will carry it, and
    /// are taken over by the next start because they are newer (ordering rule 16).
    ///
    /// # Errors
    /// `state.too-large`, `group.inconsistent`.
    pub fn outside(&mut self, group: &Group) -> Result<Committed, Refused> {
        group.check()?;
        self.used = self.used.next();
        let generation = self.used;
        let text = config::encode(generation, group).map_err(|error| too_large(group, error))?;
        Ok(Committed { generation, text })
    }

    /// Remove the configuration and the maps of a group without volumes. It is gone from the moment at which a mark says so
    /// durably; were its files removed one by one without it, a past generation could be taken for the newest.
    ///
    /// # Errors
    /// `group.not-empty`, `group.leaving`, `state.directory`.
    pub fn destroy(&mut self, group: &Group) -> Result<(), Undestroyed> {
        crate::state::change::destroy_group(group)
            .map_err(|refused| Undestroyed { refused, has_begun: false })?;
        self.remove_all()
    }

    /// Remove the configuration and the maps of a group that labels elsewhere carry from now on; see [`Self::destroy`].
    ///
    /// # Errors
    /// `state.directory`.
    ///
    /// # Panics
    /// When the group was not exported.
    pub fn give_up(&mut self, group: &Group) -> Result<(), Undestroyed> {
        assert!(group.is_exported(), "nothing else has what is removed here");
        self.remove_all()
    }

    fn remove_all(&mut self) -> Result<(), Undestroyed> {
        let marked = self
            .files
            .write(REMOVED, b"")
            .and_then(|()| self.files.sync(REMOVED))
            .and_then(|()| self.files.sync_directory());
        if let Err(error) = marked {
            let is_marked = self.files.names().map_or(true, |names| names.iter().any(|name| name == REMOVED));
            let take_back = || self.files.remove(REMOVED).and_then(|()| self.files.sync_directory());
            let has_begun = is_marked && take_back().is_err();
            return Err(Undestroyed { refused: self.failed("cannot be removed", &error), has_begun });
        }
        remains::clear(&self.files).map_err(|error| {
            let refused = self.failed("is removed, but its files only at the next start", &error);
            Undestroyed { refused, has_begun: true }
        })
    }

    /// Remove the directory of a group that was destroyed, and that of its media, if they are empty.
    ///
    /// # Errors
    /// The system call's: a directory may lie elsewhere by a link, or have something mounted on it.
    pub fn remove_directory(&self) -> io::Result<()> {
        self.files.clear()
    }

    /// Take the configuration that a label carries in place of an older one, as a new generation.
    ///
    /// # Errors
    /// `group.two-heads` when it differs from a text of the same generation here; `group.damaged` when it cannot be read
    /// or is another group's; as [`Catalog::commit`].
    pub fn adopt(&mut self, from: &str, text: &[u8], group: &Group) -> Result<(Committed, Group), Refused> {
        let damaged = |what: String| {
            Refusal::new(
                Kind::Damaged,
                "group.damaged",
                from,
                what,
                "leave the medium out, or erase its label",
            )
        };
        let (generation, found) =
            config::decode::<Group>(text).map_err(|error| damaged(format!("its configuration {error}")))?;
        if found.uuid() != group.uuid() {
            return Err(damaged(format!("it belongs to group {}", found.name())));
        }
        found.check().map_err(|refused| damaged(refused.to_string()))?;
        for name in self.candidates()? {
            let other = self.read(&name)?;
            if config::generation(&other).is_ok_and(|other| other == generation) && other != text {
                return Err(two_heads(self.files.place(), &name, from, generation));
            }
        }
        self.used = self.used.max(generation);
        // It tells what stood on the labels before it.
        let adopted = found.without_labelled().served();
        let committed = self.commit(&adopted)?;
        Ok((committed, adopted))
    }

    /// How often `volume` was tried to be taken over in a row without success. What cannot be read counts as never: a volume
    /// is rather tried once too often than left.
    #[must_use]
    pub fn attempts(&self, volume: Uuid) -> u32 {
        let read = self.files.read(&files::recovery_file_name(volume), 64).ok().flatten();
        read.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok()).unwrap_or(0)
    }

    /// Keep, durably, that `volume` was tried `attempts` times in a row; 0 forgets it.
    ///
    /// # Errors
    /// The system call's; then the old number stands, or the new one.
    pub fn keep_attempts(&self, volume: Uuid, attempts: u32) -> io::Result<()> {
        let name = files::recovery_file_name(volume);
        if attempts == 0 {
            if self.files.read(&name, 1)?.is_none() {
                return Ok(());
            }
            self.files.remove(&name)?;
        } else {
            let next = format!("{name}.new");
            self.files.write(&next, format!("{attempts}\n").as_bytes())?;
            self.files.sync(&next)?;
            self.files.rename_if_there(&next, &name)?;
        }
        self.files.sync_directory()
    }

    /// Names of maps and intent maps in the directory that no record of `group` names: what a crash left.
    ///
    /// # Errors
    /// `state.directory`.
    pub fn orphans(&self, group: &Group) -> Result<Vec<String>, Refused> {
        let names = self.files.names().map_err(|error| self.failed("cannot be listed", &error))?;
        let known = files::state_files(group);
        let is_orphan = |name: &String| {
            let unknown = !known.contains(name);
            unknown
                && (files::is_state_file(name) || is_archive_name(name) && self.is_unfinished_archive(name))
        };
        Ok(names.into_iter().filter(is_orphan).collect())
    }

    /// Whether the undo archive `name` was never completed. One that was is a way back, and nobody's to remove.
    fn is_unfinished_archive(&self, name: &str) -> bool {
        match self.files.read(name, PAGE_BYTES) {
            Ok(Some(header)) => header.iter().all(|&byte| byte == 0),
            Ok(None) | Err(_) => false,
        }
    }

    fn write(&mut self, generation: Generation, text: &[u8]) -> io::Result<()> {
        self.files.write(NEXT, text)?;
        let synced = self.files.sync(NEXT);
        if !museum::shows(Exhibit::CommitAfterFailedSync) {
            synced?;
        }
        FaultPoint::CommitWritten.reached();
        match self.head {
            Some(head) => self.files.link(HEAD, &past_name(head))?,
            None => self.files.rename_if_there(HEAD, DAMAGED)?,
        }
        FaultPoint::CommitLinked.reached();
        self.files.rename_if_there(NEXT, HEAD)?;
        self.head = Some(generation);
        FaultPoint::CommitRenamed.reached();
        self.files.sync_directory()?;
        FaultPoint::CommitDurable.reached();
        self.forget_oldest();
        Ok(())
    }

    /// Remove past generations beyond those that are kept. What fails here is repeated after the next commit: the one
    /// that was just made stands.
    fn forget_oldest(&self) {
        let mut past: Vec<_> = self.files.names().unwrap_or_default();
        past.retain(|name| past_generation(name).is_some());
        past.sort_unstable();
        for name in past.iter().rev().skip(PAST_KEPT) {
            let _ = self.files.remove(name);
        }
    }

    /// The names under which a configuration may stand, the head first.
    fn candidates(&self) -> Result<Vec<String>, Refused> {
        let mut names = self.files.names().map_err(|error| self.failed("cannot be listed", &error))?;
        names.retain(|name| name == HEAD || name == NEXT || past_generation(name).is_some());
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Refused> {
        // One byte more than a configuration may have shows that it is too large.
        let limit = crate::base::limits::MAX_CONFIG_BYTES + 1;
        let text = self.files.read(name, limit).map_err(|error| self.failed("cannot be read", &error))?;
        Ok(text.unwrap_or_default())
    }

    /// Two texts of one generation with different content, apart from a next one that was never renamed.
    fn refuse_two_heads(&self, texts: &[Text]) -> Result<(), Refused> {
        for (at, text) in texts.iter().enumerate() {
            let twin = texts[at + 1..]
                .iter()
                .find(|other| other.generation == text.generation && other.bytes != text.bytes);
            if let Some(twin) = twin {
                let other = format!("{}/{}", self.files.place(), twin.name);
                return Err(two_heads(self.files.place(), &text.name, &other, text.generation));
            }
        }
        Ok(())
    }

    fn newer(&self, name: &str, found: u16, newest: u16) -> Refused {
        Refusal::new(
            Kind::Damaged,
            "group.newer-format",
            format!("{}/{name}", self.files.place()),
            format!("the configuration has format {found}, this program knows formats up to {newest}"),
            "use the newer program that wrote it",
        )
    }

    fn failed(&self, what: &str, error: &io::Error) -> Refused {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::IO.raw()));
        let (kind, id) = match (what.contains("commit"), errno) {
            (true, Errno::NO_SPACE) => (Kind::NoSpace, "state.commit"),
            (true, _) => (Kind::System, "state.commit"),
            (false, Errno::NO_SPACE) => (Kind::NoSpace, "state.directory"),
            (false, _) => (Kind::System, "state.directory"),
        };
        let way_out = "see to the disk below the state directory, then try again";
        Refusal::new(kind, id, self.files.place(), format!("{what}: {errno}"), way_out)
    }
}

/// A configuration text that was read and makes sense.
struct Text {
    name: String,
    generation: Generation,
    bytes: Vec<u8>,
    group: Group,
}

fn past_generation(name: &str) -> Option<Generation> {
    let digits = name.strip_prefix(HEAD)?.strip_prefix('.')?;
    let number = digits.parse().ok().filter(|_| digits.len() == 20)?;
    Some(Generation(number))
}

fn too_large(group: &Group, error: ConfigError) -> Refused {
    Refusal::new(
        Kind::NoSpace,
        "state.too-large",
        group.name(),
        format!("the configuration {error}"),
        "make a second group for further volumes",
    )
}

fn two_heads(place: &str, name: &str, other: &str, generation: Generation) -> Refused {
    Refusal::new(
        Kind::Damaged,
        "group.two-heads",
        format!("{place}/{name}"),
        format!("it and {other} both are generation {generation}, with different content"),
        "move the wrong one away",
    )
}

#[cfg(test)]
mod tests;
