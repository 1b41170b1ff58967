//! A look at a state directory without its lock and without touching it: for who asks while the daemon does not run, and
//! for what is damaged.
//!
//! What is read may be changed by a daemon meanwhile. Nothing may be decided by it that a daemon would not decide again.

use std::io::{self, Read};
use std::path::Path;

use crate::base::Generation;
use crate::base::limits::MAX_CONFIG_BYTES;
use crate::format::config::{self, ConfigError};
use crate::state::Group;

use super::{HEAD, NEXT, past_generation};

/// A configuration text, as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// The name of its file.
    pub name: String,
    /// Its bytes, up to one more than a configuration may have.
    pub bytes: Vec<u8>,
    /// What it says, or why it cannot be believed, one line.
    pub read: Result<(Generation, Group), String>,
    /// Whether it is of a format that only a newer program knows.
    pub newer: bool,
}

/// The texts in `directory`, the head first.
///
/// # Errors
/// The system call's, of the directory itself; a file that cannot be read says so.
pub fn texts(directory: &Path) -> io::Result<Vec<Text>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string()
            && (name.starts_with(HEAD) && (name == HEAD || name == NEXT || past_generation(&name).is_some()))
        {
            names.push(name);
        }
    }
    // The head, then the next one, then past ones from the latest.
    names.sort_unstable_by_key(|name| (name != HEAD, name != NEXT, std::cmp::Reverse(past_generation(name))));
    Ok(names.into_iter().map(|name| text(directory, name)).collect())
}

fn text(directory: &Path, name: String) -> Text {
    let mut bytes = Vec::new();
    let limit = MAX_CONFIG_BYTES as u64 + 1;
    let read =
        std::fs::File::open(directory.join(&name)).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    if let Err(error) = read {
        let why = format!("cannot be read: {}", crate::base::Errno::from(error));
        return Text { name, bytes, read: Err(why), newer: false };
    }
    match config::decode::<Group>(&bytes) {
        Ok((generation, group)) => {
            let read = group.check().map_err(|refused| refused.to_string()).map(|()| (generation, group));
            Text { name, bytes, read, newer: false }
        }
        Err(error) => {
            let newer = matches!(error, ConfigError::UnknownVersion { .. });
            Text { name, bytes, read: Err(error.to_string()), newer }
        }
    }
}

/// The text that a daemon would go by: the newest sound one that was committed.
#[must_use]
pub fn best(texts: &[Text]) -> Option<(Generation, &Group)> {
    let sound = texts.iter().filter(|text| text.name != NEXT).filter_map(|text| text.read.as_ref().ok());
    sound.max_by_key(|(generation, _)| *generation).map(|(generation, group)| (*generation, group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Uuid;
    use crate::catalog::Catalog;
    use crate::state::Ids;
    use crate::state::change::create_group;

    #[test]
    fn what_stands_there_is_told_and_nothing_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g");
        let group = create_group("g", &[], &mut Ids::from_seed([1; 32])).unwrap();
        let (mut catalog, _) = Catalog::create(&path, &group).unwrap();
        catalog.commit(&group).unwrap();
        // The daemon holds the lock, and is not in the way.
        let seen = texts(&path).unwrap();
        let names: Vec<_> = seen.iter().map(|text| text.name.as_str()).collect();
        assert_eq!(names, ["configuration", "configuration.00000000000000000001"]);
        assert_eq!(
            best(&seen).map(|(generation, found)| (generation, found.uuid())),
            Some((Generation(2), group.uuid()))
        );
        assert_ne!(group.uuid(), Uuid::NIL);

        std::fs::write(path.join("configuration"), b"garbage").unwrap();
        let before: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let seen = texts(&path).unwrap();
        assert!(seen[0].read.is_err() && !seen[0].newer && seen[0].bytes == b"garbage");
        assert_eq!(best(&seen).map(|(generation, _)| generation), Some(Generation(1)));
        let after: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(before, after);

        let newer = String::from_utf8(seen[1].bytes.clone()).unwrap();
        let newer = newer.replacen(" 1 ", " 9 ", 1);
        std::fs::write(path.join("configuration"), newer).unwrap();
        assert!(texts(&path).unwrap()[0].newer);
        assert!(texts(&directory.path().join("none")).is_err());
    }
}
