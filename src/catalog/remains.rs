//! What the making or removal of a group left in its directory when it was interrupted, and how it is brought to its end.
//!
//! ```text
//! a mark says that the group is removed       the rest is removed too, the mark last
//! no configuration, a next one alone          the group was never made: it is removed
//! ```
//! Only files that Cleave itself names are removed, so a directory of somebody else's below the root is never touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::{HOLDER, MEDIA, StateFiles};
use super::{DAMAGED, HEAD, NEXT, REMOVED, files, past_generation};
use crate::base::{Errno, Kind, Refusal, Refused};
use crate::state::Unfinished;
use crate::state::restore::is_archive_name;

/// Whether a file of that name is one that a group keeps, apart from the mark of its removal.
pub(super) fn is_ours(name: &str) -> bool {
    matches!(name, HEAD | NEXT | DAMAGED)
        || past_generation(name).is_some()
        || files::is_state_file(name)
        || is_archive_name(name)
}

/// Remove what a group keeps in its directory. The mark goes when everything else has gone durably.
pub(super) fn clear<F: StateFiles>(state: &F) -> io::Result<()> {
    for name in state.names()?.iter().filter(|name| is_ours(name)) {
        state.remove(name)?;
    }
    state.sync_directory()?;
    state.remove(REMOVED)?;
    state.sync_directory()
}

/// Bring to its end what was interrupted in the directory of a group that is being removed, or was never made; none when
/// neither is so.
///
/// # Errors
/// The file operation's; it is repeated at the next start.
pub fn settle_remains<F: StateFiles>(state: &F) -> io::Result<Option<Unfinished>> {
    let names = state.names()?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let place = state.place().to_owned();
    if has(REMOVED) {
        clear(state)?;
        return Ok(Some(Unfinished::GroupRemoval { place }));
    }
    let known = |name: &String| matches!(name.as_str(), NEXT | HOLDER | MEDIA);
    if has(NEXT) && names.iter().all(known) {
        clear(state)?;
        return Ok(Some(Unfinished::GroupMaking { place }));
    }
    Ok(None)
}

/// The directories below `root` in which something may have to be settled.
///
/// # Errors
/// `state.directory` when `root` cannot be listed; a root that is not there has none.
pub fn unsettled_directories(root: &Path) -> Result<Vec<PathBuf>, Refused> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let (reason, way_out) = ("cannot be listed", "see to the state directory, then try again");
            let reason = format!("{reason}: {}", Errno::from(error));
            return Err(Refusal::new(Kind::System, "state.directory", root.display(), reason, way_out));
        }
    };
    // Looked at before it is locked, which leaves a file in it.
    let unsettled = |path: &PathBuf| {
        let has = |name: &str| path.join(name).symlink_metadata().is_ok();
        has(REMOVED) || (has(NEXT) && !has(HEAD))
    };
    Ok(entries.flatten().map(|entry| entry.path()).filter(unsettled).collect())
}
