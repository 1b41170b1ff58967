//! What plexes lie on, as records name it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Component, Path};

use super::group::is_false;
use super::refuse;
use crate::base::limits::medium_bytes;
use crate::base::units::exact_bytes;
use crate::base::{Name, Refused};

/// Longest path that `open(2)` takes, without its final NUL.
const MAX_PATH_BYTES: usize = 4095;

/// The path of a medium: absolute, UTF-8, without `.`, `..`, doubled slashes and control characters, so that it prints
/// and parses back and two spellings of one path are equal. Links are not followed here.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediumPath(Box<str>);

impl MediumPath {
    /// `text` as a path.
    ///
    /// # Errors
    /// `medium.path` says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, Refused> {
        if text.chars().any(char::is_control) {
            return Err(refuse::medium_path(text, "has a control character"));
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(refuse::medium_path(text, "is longer than 4095 bytes"));
        }
        if !text.starts_with('/') {
            return Err(refuse::medium_path(text, "is not an absolute path"));
        }
        let mut tidy = String::with_capacity(text.len());
        for part in Path::new(text).components() {
            match part {
                Component::Normal(name) => {
                    tidy.push('/');
                    tidy.push_str(&name.to_string_lossy());
                }
                Component::ParentDir => return Err(refuse::medium_path(text, "has '..' in it")),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if tidy.is_empty() {
            return Err(refuse::medium_path(text, "is the root directory"));
        }
        Ok(Self(tidy.into()))
    }

    /// The file `name` below this directory.
    ///
    /// # Errors
    /// As [`MediumPath::new`], when the whole is too long.
    pub fn join(&self, name: &str) -> Result<Self, Refused> {
        Self::new(&format!("{self}/{name}"))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for system calls.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(self.as_str())
    }

    /// The last part.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for MediumPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for MediumPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for MediumPath {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        Self::new(&text)
    }
}

impl From<MediumPath> for String {
    fn from(path: MediumPath) -> Self {
        path.0.into()
    }
}

/// What a plex lies on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediumKind {
    /// A file that Cleave made, and removes with the plex.
    Made,
    /// A file that was there before; it is left when the plex goes.
    Foreign,
    /// A file of a volume that is released, whoever made it: it is left when the plex goes, without the room for labels.
    Image,
    /// A block device; it is left when the plex goes.
    Block,
}

/// Where a plex lies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlexMedium {
    /// The file or block device.
    pub path: MediumPath,
    /// What it is.
    pub kind: MediumKind,
    /// Whether space is taken as it is written; only where it was asked for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sparse: bool,
    /// The file that has its labels, where it has no room for them itself. Cleave made it, and removes it with the plex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_file: Option<MediumPath>,
}

impl PlexMedium {
    /// The file or block device that bears its labels.
    #[must_use]
    pub fn labels(&self) -> &MediumPath {
        self.label_file.as_ref().unwrap_or(&self.path)
    }

    /// Bytes that it needs at least to carry a volume of `length` bytes.
    #[must_use]
    pub const fn needed_bytes(&self, length: u64) -> u64 {
        match self.label_file {
            Some(_) => length,
            None => medium_bytes(length),
        }
    }
}

/// A medium of the group's pool, on which new plexes may be put.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolMedium {
    /// The directory or block device.
    pub path: MediumPath,
    /// Whether it is a block device, which takes one plex; else a directory, which takes many.
    pub block: bool,
    /// The name that it was given; without one it is called after the last part of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

/// What a file plex looked like after the last write of a clean stop (ordering rule 15).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time in nanoseconds since 1970-01-01 UTC.
    pub mtime_ns: i64,
    /// Its change time in nanoseconds since 1970-01-01 UTC.
    pub ctime_ns: i64,
}

impl Noted {
    /// How a file that looks like `now` differs from what was noted of it, if it does.
    #[must_use]
    pub fn difference(self, now: Self) -> Option<String> {
        if self.size != now.size {
            Some(format!("its size was {} and is {}", exact_bytes(self.size), exact_bytes(now.size)))
        } else if self.mtime_ns != now.mtime_ns {
            Some("its modification time differs".to_owned())
        } else if self.ctime_ns != now.ctime_ns {
            Some("its change time differs".to_owned())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_tidied_and_hostile_ones_refused() {
        assert_eq!(MediumPath::new("/a//b/./c/").unwrap().as_str(), "/a/b/c");
        assert_eq!(MediumPath::new("/a/b c").unwrap().file_name(), "b c");
        let long = format!("/{}", "x".repeat(4096));
        for (bad, why) in [
            ("", "is not an absolute path"),
            ("a/b", "is not an absolute path"),
            ("/", "is the root directory"),
            ("/a/../b", "has '..' in it"),
            ("/a\nb", "has a control character"),
            ("/a\0", "has a control character"),
            (long.as_str(), "is longer than 4095 bytes"),
        ] {
            let refused = MediumPath::new(bad).unwrap_err();
            assert_eq!((refused.id.as_str(), refused.reason.as_str()), ("medium.path", why), "{bad:?}");
        }
    }

    #[test]
    fn a_medium_has_room_for_data_and_both_labels() {
        assert_eq!(medium_bytes(1 << 30), (1 << 30) + (2 << 20));
        assert_eq!(medium_bytes((1 << 30) + 4096), (1 << 30) + (3 << 20));
    }
}
