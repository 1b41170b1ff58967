//! What lasts of a restore: the one under way, and the undo archives of those that are done.
//!
//! ```text
//!            archive durable                everything copied
//!   SAVING ──────────────────► WRITING ──────────────────────► no restore; the archive is kept as an Undo
//!     │ cut off: as if it        │ told to end, with an archive
//!     ▼ had never begun          ▼            everything put back
//!   no restore                UNDOING ─────────────────────────► no restore; the archive is removed
//!                                ▲
//!                                └── undo of an archive that was kept
//! ```
//! From the first overwritten byte to the last one the record says so (WRITING or UNDOING): the volume has no device then,
//! and whoever comes next goes on. Both copies may be repeated from their beginning.

use serde::{Deserialize, Serialize};

use crate::base::calendar::utc;
use crate::base::{Name, Uuid};

/// How far a restore has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestorePhase {
    /// What will be overwritten is copied to the undo archive; nothing is overwritten yet.
    Saving,
    /// The volume is overwritten from the snapshot.
    Writing,
    /// The volume is overwritten from an undo archive.
    Undoing,
}

/// A volume that is being overwritten from a snapshot or from an undo archive. It has no device until that is done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// How far it has come.
    pub phase: RestorePhase,
    /// The snapshot volume that is restored; none for the undo of an earlier restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Uuid>,
    /// The plex of the snapshot volume that is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plex: Option<Uuid>,
    /// How many plexes of the snapshot volume go back to the volume when it is done.
    #[serde(default)]
    pub returns: usize,
    /// The undo archive; none when the way back was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// Whether the archive is kept when it has been put back.
    #[serde(default)]
    pub keep: bool,
}

/// An undo archive: a file in the group's state directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its identity, which the file bears too.
    pub id: Uuid,
    /// The file's name.
    pub file: String,
    /// When it was begun, in seconds since 1970-01-01 UTC.
    pub unix_s: i64,
    /// Bytes of the volume that it holds.
    pub bytes: u64,
}

impl Archive {
    /// The archive `id` of `volume`, called `VOLUME-YYYY-MM-DD-HH:MM:SS.ID`.
    #[must_use]
    pub fn new(volume: &Name, id: Uuid, unix_s: i64, bytes: u64) -> Self {
        let time = utc(u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000)).replace(' ', "-");
        Self { id, file: format!("{volume}-{time}.{}", short(id)), unix_s, bytes }
    }

    /// What people call it: the end of its file's name.
    #[must_use]
    pub fn short_id(&self) -> String {
        short(self.id)
    }
}

fn short(id: Uuid) -> String {
    id.to_string().chars().take(8).collect()
}

/// Whether `name` has the form of an undo archive's name.
#[must_use]
pub fn is_archive_name(name: &str) -> bool {
    const TIME: &str = "-dddd-dd-dd-dd:dd:dd.hhhhhhhh";
    let Some(at) = name.len().checked_sub(TIME.len()).filter(|at| name.is_char_boundary(*at)) else {
        return false;
    };
    let (volume, rest) = name.split_at(at);
    Name::new(volume).is_ok()
        && rest.chars().zip(TIME.chars()).all(|(seen, wanted)| match wanted {
            'd' => seen.is_ascii_digit(),
            'h' => matches!(seen, '0'..='9' | 'a'..='f'),
            other => seen == other,
        })
}

/// A way back: the archive of a restore that is done, and what was written since.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// What was overwritten.
    pub archive: Archive,
    /// The change map of what the volume changed since: outside of the archive it would not be undone.
    pub map: Uuid,
}

/// Undo archives that a volume may have: every write is marked in the map of each.
pub const MAX_UNDOS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_called_by_volume_time_and_identity() {
        let id = Uuid::from_random([0xab; 16]);
        let archive = Archive::new(&Name::new("da-ta").unwrap(), id, 1_709_164_800, 7);
        assert_eq!(archive.file, "da-ta-2024-02-29-00:00:00.abababab");
        assert_eq!(archive.short_id(), "abababab");
        assert!(is_archive_name(&archive.file));
        assert!(is_archive_name(&Archive::new(&Name::new("v").unwrap(), id, i64::MIN, 0).file));
        for other in
            ["", "v", "-2024-02-29-00:00:00.abababab", "v-2024-02-29-00:00:00.ABABABAB", "configuration"]
        {
            assert!(!is_archive_name(other), "{other}");
        }
        let cut = "ü-2024-02-29-00:00:00.abababab";
        assert!(!is_archive_name(cut) && !is_archive_name(&cut[2..]));
    }
}
