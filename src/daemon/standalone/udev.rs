//! What udev is told of a disk: whether it carries a plex, and whose.
//!
//! A plex begins with the volume's own bytes, so whoever looks at its disk finds the volume's file system there, with its UUID
//! and label: a mount by one of these could get the disk instead of the volume. The rules hide what is found on a disk of which
//! this says that it is a medium. No daemon is asked, so that it holds before one runs.

use std::path::Path;

use super::{Question, media, unreadable};
use crate::base::{Kind, Refusal, Refused};
use crate::format::config;
use crate::state::Group;

/// The properties of the medium that `question` names, one `NAME=VALUE` a line; none when it bears no label.
///
/// # Errors
/// No medium is named, or it cannot be read.
pub(super) fn properties(question: &Question) -> Result<String, Refused> {
    let path = question.medium.as_deref().ok_or_else(|| {
        Refusal::new(Kind::Usage, "offline.medium", "udev", "needs a medium", "name it with --medium PATH")
    })?;
    of_medium(path).map_err(|error| unreadable(path, &error))
}

fn of_medium(path: &Path) -> std::io::Result<String> {
    let copies = media::copies(path, None)?;
    let Some(label) = media::newest(&copies) else { return Ok(String::new()) };
    let mut text = format!("CLEAVE_MEDIUM=1\nCLEAVE_PLEX_UUID={}\n", label.plex);
    // Names are a help for people; a configuration that cannot be read does not make it less of a medium.
    if let Ok((_, group)) = config::decode::<Group>(&label.configuration)
        && let Some(volume) = group.volume_by_id(label.volume)
        && let Some(plex) = volume.plex_by_id(label.plex)
    {
        text += &format!(
            "CLEAVE_GROUP={}\nCLEAVE_VOLUME={}\nCLEAVE_PLEX={}\n",
            group.name(),
            volume.name(),
            plex.name()
        );
    }
    Ok(text)
}
