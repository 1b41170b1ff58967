//! The enumerations of requests, rows and replies, each with the word by which people and `--json` know it.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for this value.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The value that `word` stands for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// Kernel state of a volume or plex, in VxVM's words.
    KernelState {
        /// Reads and writes.
        Enabled = "ENABLED",
        /// No I/O of the volume; maintenance only.
        Detached = "DETACHED",
        /// Not started.
        Disabled = "DISABLED",
    }
}

words! {
    /// State of a volume.
    VolumeState {
        /// Never started since it was made.
        Empty = "EMPTY",
        /// Stopped, all plexes in step.
        Clean = "CLEAN",
        /// Started, or not stopped before a crash.
        Active = "ACTIVE",
        /// Started after a crash; its plexes are being made equal.
        Sync = "SYNC",
        /// Must be made equal at the next start.
        NeedSync = "NEEDSYNC",
    }
}

words! {
    /// How a volume is, for who looks after it.
    Health {
        /// All is as it should be.
        Ok = "ok",
        /// It serves, or can be started, with less than it should have.
        Degraded = "degraded",
        /// It does not serve, or fails requests.
        Failed = "failed",
    }
}

impl Health {
    /// The worse of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::ALL.iter().copied().rfind(|health| *health == self || *health == other).unwrap_or(self)
    }
}

words! {
    /// State of a plex.
    PlexState {
        /// Not initialised.
        Empty = "EMPTY",
        /// Good; the volume is stopped.
        Clean = "CLEAN",
        /// In use, or was when the machine went down.
        Active = "ACTIVE",
        /// May lack data; it is tracked what.
        Stale = "STALE",
        /// Left after an I/O error.
        Iofail = "IOFAIL",
        /// A snapshot mirror that is being copied.
        Snapatt = "SNAPATT",
        /// A snapshot mirror in step, ready for the cut.
        Snapdone = "SNAPDONE",
        /// Prepared by a snapstart that has not begun to copy.
        Snaptmp = "SNAPTMP",
        /// Part of an operation of several steps.
        Temp = "TEMP",
        /// Taken out by hand: associated, not updated.
        Offline = "OFFLINE",
    }
}

words! {
    /// What a plex does for its volume.
    PlexMode {
        /// Reads and writes.
        ReadWrite = "RW",
        /// Writes only.
        WriteOnly = "WO",
        /// Reads only.
        ReadOnly = "RO",
    }
}

words! {
    /// How a volume chooses the plex to read from.
    ReadPolicy {
        /// The volume's own choice.
        Select = "SELECT",
        /// In turn.
        Round = "ROUND",
        /// A named plex as long as it can.
        Prefer = "PREFER",
    }
}

words! {
    /// How consistent a snapshot is asked to be.
    Consistency {
        /// As if the power had gone at the cut.
        Crash = "crash",
        /// The file system is frozen first when it is mounted.
        Fs = "fs",
        /// The caller has brought an application to rest, and a mounted file system is frozen too.
        App = "app",
    }
}

words! {
    /// How consistent a snapshot is.
    Grade {
        /// As if the power had gone at the cut: recovery needed, usually automatic.
        Crash = "crash",
        /// The mounted file system was frozen, or none was mounted and nothing had it open.
        Fs = "fs",
        /// An application was at rest, and a mounted file system frozen.
        App = "app",
    }
}

words! {
    /// How the plexes of a new volume become equal.
    Init {
        /// The first plex keeps its content, the others are copied from it; files just made need no copy.
        Sync = "sync",
        /// All plexes are zeroed.
        Zero = "zero",
        /// The caller knows that they are equal, or will write before reading.
        Active = "active",
    }
}

words! {
    /// How request data travel between the kernel and the plexes.
    #[derive(Default)]
    DataPath {
        #[default]
        /// As `zero` of a volume with one plex, where the kernel can; as `copy` of one with several.
        Auto = "auto",
        /// Through memory of the daemon.
        Copy = "copy",
        /// From the requests' own pages, to all plexes.
        Zero = "zero",
    }
}

words! {
    /// What a task does.
    TaskKind {
        /// Copies a snapshot mirror.
        SnapStart = "snapstart",
        /// Copies a new mirror.
        Mirror = "mirror",
        /// Copies back what differs between a returned plex and its volume.
        SnapBack = "snapback",
        /// Overwrites a volume from a snapshot.
        Restore = "restore",
        /// Overwrites a volume from an undo archive.
        Undo = "undo",
        /// Copies to a stale plex what it missed.
        Resync = "resync",
        /// Makes all plexes equal after a crash.
        Recover = "recover",
        /// Compares all plexes.
        Verify = "verify",
        /// Compares all plexes in the background, and repairs if told so.
        Scrub = "scrub",
        /// Writes zeroes to a new volume, or to what an old one gets.
        Zero = "zero",
    }
}

impl TaskKind {
    /// The type that `vxtask list` shows.
    #[must_use]
    pub const fn vx_type(self) -> &'static str {
        match self {
            Self::SnapStart | Self::Mirror | Self::SnapBack | Self::Resync | Self::Restore | Self::Undo => {
                "ATCOPY"
            }
            Self::Recover => "RDWRBACK",
            Self::Verify | Self::Scrub => "VERIFY",
            Self::Zero => "INIT",
        }
    }
}

words! {
    /// State of a task.
    TaskState {
        /// At work.
        Running = "running",
        /// Waits for `resume`.
        Paused = "paused",
        /// Backs out on request.
        Aborting = "aborting",
        /// Ended well.
        Done = "done",
        /// Ended by an error; the row says which.
        Failed = "failed",
        /// Ended on request.
        Aborted = "aborted",
    }
}

impl TaskState {
    /// The letter that `vxtask list` shows.
    #[must_use]
    pub const fn vx_letter(self) -> char {
        match self {
            Self::Running => 'R',
            Self::Paused => 'P',
            Self::Aborting => 'A',
            Self::Done | Self::Failed | Self::Aborted => 'X',
        }
    }

    /// Whether the task will not move any more.
    #[must_use]
    pub const fn ended(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Aborting => false,
            Self::Done | Self::Failed | Self::Aborted => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_json_agree_both_ways() {
        for state in PlexState::ALL {
            assert_eq!(serde_json::to_string(state).unwrap(), format!("\"{state}\""));
            assert_eq!(PlexState::from_word(state.word()), Some(*state));
        }
        assert_eq!(PlexState::ALL.len(), 10);
        assert_eq!(Consistency::from_word("CRASH"), None);
        assert_eq!(format!("{:>9}|", PlexMode::WriteOnly), "       WO|");
    }
}
