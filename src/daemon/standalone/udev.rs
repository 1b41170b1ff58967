//! What udev is told of a disk: whether it carries a plex, and whose.
//!
//! A plex begins with the volume's own bytes, so whoever looks at its disk finds the volume's file system there, with its UUID
//! and label: a mount by one of these could get the disk instead of the volume. The rules hide what is found on a disk of which
//! this says that it is a medium. No daemon is asked, so that it holds before one runs.
//!
//! A disk whose labels are in a file is known by the groups' records alone: it is hidden once the state directory can be read.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Question, media, unreadable};
use crate::base::{Kind, Refusal, Refused, Uuid};
use crate::catalog::{group_directories, look};
use crate::format::config;
use crate::state::{Group, Plex, Volume};

/// The properties of the medium that `question` names, one `NAME=VALUE` a line; none when it bears no label.
///
/// # Errors
/// No medium is named, or it cannot be read.
pub(super) fn properties(question: &Question, state: &Path) -> Result<String, Refused> {
    let path = question.medium.as_deref().ok_or_else(|| {
        Refusal::new(Kind::Usage, "offline.medium", "udev", "needs a medium", "name it with --medium PATH")
    })?;
    match of_labels(path).map_err(|error| unreadable(path, &error))? {
        Some(text) => Ok(text),
        None => Ok(of_records(path, state).unwrap_or_default()),
    }
}

fn of_labels(path: &Path) -> std::io::Result<Option<String>> {
    let copies = media::copies(path, None)?;
    let Some(label) = media::newest(&copies) else { return Ok(None) };
    // Names are a help for people; a configuration that cannot be read does not make it less of a medium.
    let group = config::decode::<Group>(&label.configuration).ok();
    let named = group.as_ref().and_then(|(_, group)| {
        let volume = group.volume_by_id(label.volume)?;
        Some((group, volume, volume.plex_by_id(label.plex)?))
    });
    Ok(Some(shown(label.plex, named)))
}

/// What the records say of a disk that lies below a plex with a label file.
fn of_records(path: &Path, state: &Path) -> Option<String> {
    let number = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        found.file_type().is_block_device().then(|| found.rdev())
    };
    let disk = number(path)?;
    for directory in group_directories(state).ok()? {
        let Ok(texts) = look::texts(&directory) else { continue };
        let Some((_, group)) = look::best(&texts) else { continue };
        for volume in group.volumes() {
            let apart = volume.plexes().iter().filter(|plex| plex.medium().label_file.is_some());
            for plex in apart {
                if number(plex.medium().path.as_path()) == Some(disk) {
                    return Some(shown(plex.uuid(), Some((group, volume, plex))));
                }
            }
        }
    }
    None
}

fn shown(uuid: Uuid, named: Option<(&Group, &Volume, &Plex)>) -> String {
    let mut text = format!("CLEAVE_MEDIUM=1\nCLEAVE_PLEX_UUID={uuid}\n");
    if let Some((group, volume, plex)) = named {
        text += &format!(
            "CLEAVE_GROUP={}\nCLEAVE_VOLUME={}\nCLEAVE_PLEX={}\n",
            group.name(),
            volume.name(),
            plex.name()
        );
    }
    text
}
