//! What is looked at, and what was found.
//!
//! The ids are stable: one that was released keeps its meaning, and none is used again. `tests/golden/doctor.txt` holds the
//! table ([`table`]) against accidents.

use serde::Serialize;
use std::fmt;

macro_rules! checks {
    ($($(#[$doc:meta])* $variant:ident = $id:literal: $about:literal,)+) => {
        /// What is looked at.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
        pub enum Check {
            $(#[doc = $about] #[serde(rename = $id)] $variant,)+
        }

        impl Check {
            /// All of them, in the order in which they are told.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The id by which scripts know it.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)+
                }
            }

            /// What it is about.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => $about,)+
                }
            }
        }
    };
}

checks! {
    KernelRelease = "kernel.release": "the kernel is new enough",
    UblkModule = "ublk.module": "the kernel's ublk driver is loaded, or could be",
    UblkControl = "ublk.control": "the driver's control node is there and can be opened",
    UblkFeatures = "ublk.features": "the driver tells what it can do; told only when it does not",
    UblkRecovery = "ublk.recovery": "devices outlive their daemon",
    UblkZeroCopy = "ublk.zero-copy": "the driver lends requests' own pages",
    UblkSafeStop = "ublk.safe-stop": "the driver stops a device only when nobody has it open",
    UblkResize = "ublk.resize": "the driver can change the size of a device",
    UblkQuiesce = "ublk.quiesce": "the driver can bring a device to rest under a living server",
    UblkDevices = "ublk.devices": "the driver admits more devices",
    RingAllowed = "io-uring.allowed": "the system's settings allow io_uring",
    RingMade = "io-uring.ring": "an io_uring can be made, and takes the commands of drivers",
    LockedMemory = "memory.locked": "the daemon's memory is locked, or could be",
    DaemonRuns = "daemon.runs": "the daemon runs and answers",
    DaemonVersion = "daemon.version": "cleave and cleaved are of one version",
    DaemonVolumes = "daemon.volumes": "how many volumes the daemon serves, and what it waits for",
    VolumeHealth = "volume.health": "volumes are well",
    VolumeData = "volume.data": "which way the data of a started volume travel",
    StateDirectory = "state.directory": "a state directory is there, and root's alone",
    StateFileSystem = "state.filesystem": "it lies on a file system that lasts",
    StateRoom = "state.room": "there is room below it",
    StateBelow = "state.below": "it does not lie on a volume",
    Links = "links.lead": "the links of started volumes lead to their devices",
    Udev = "udev.runs": "udev runs",
    UsersGroup = "users.group": "there is a group of users who may look",
    PlexMedium = "plex.medium": "a plex's file or disk is there, and lies on no ublk device",
    PlexFileSystem = "plex.filesystem": "a file plex lies on a file system that lasts",
    PlexDirect = "plex.direct": "a plex is written past the page cache",
    PlexRoom = "plex.room": "there is room below a sparse plex for all that it may come to hold",
}

/// How good it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing, or not to be looked at.
    Note,
    /// It works, less surely or less well than it should.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub id: Check,
    /// How good it is.
    pub level: Level,
    /// The object.
    pub object: String,
    /// What is so.
    pub found: String,
    /// What to do about it; empty when all is as it should be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub way_out: String,
}

/// What was found so far.
#[derive(Default, Debug)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, id: Check, level: Level, words: [&dyn fmt::Display; 3]) {
        let [object, found, way_out] = words.map(ToString::to_string);
        self.0.push(Finding { id, level, object, found, way_out });
    }

    pub(super) fn ok(&mut self, id: Check, object: impl fmt::Display, found: impl fmt::Display) {
        self.add(id, Level::Ok, [&object, &found, &""]);
    }

    pub(super) fn note(
        &mut self,
        id: Check,
        object: impl fmt::Display,
        found: impl fmt::Display,
        way_out: impl fmt::Display,
    ) {
        self.add(id, Level::Note, [&object, &found, &way_out]);
    }

    pub(super) fn warn(
        &mut self,
        id: Check,
        object: impl fmt::Display,
        found: impl fmt::Display,
        way_out: impl fmt::Display,
    ) {
        self.add(id, Level::Warn, [&object, &found, &way_out]);
    }

    pub(super) fn fail(
        &mut self,
        id: Check,
        object: impl fmt::Display,
        found: impl fmt::Display,
        way_out: impl fmt::Display,
    ) {
        self.add(id, Level::Fail, [&object, &found, &way_out]);
    }

    /// All of them, in the order of the table.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.id as usize);
        self.0
    }
}

/// The checks, a line each.
#[must_use]
pub fn table() -> String {
    let width = Check::ALL.iter().map(|check| check.id().len()).max().unwrap_or(0);
    Check::ALL.iter().map(|check| format!("{:<width$}  {}\n", check.id(), check.about())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_two_words_and_once_each() {
        let mut ids: Vec<_> = Check::ALL.iter().map(|check| check.id()).collect();
        for (check, id) in Check::ALL.iter().zip(&ids) {
            let (object, what) = id.split_once('.').unwrap();
            for word in [object, what] {
                assert!(!word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{id}");
            }
            assert_eq!(serde_json::to_string(check).unwrap(), format!("\"{id}\""));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Check::ALL.len());
    }

    #[test]
    fn the_table_is_as_documented() {
        let kept = include_str!("../../../../tests/golden/doctor.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/doctor.txt");
            std::fs::write(path, table()).unwrap();
        }
        assert_eq!(table(), kept);
    }
}
