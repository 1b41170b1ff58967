//! Why a medium could not be opened or made, ready to be told.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::units::exact_bytes;
use crate::base::{Errno, Kind, Refusal, Refused};

/// What is wrong with a medium.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing has this name.
    Missing,
    /// Something has this name already.
    Exists,
    /// Another process, or this one, holds it; who, where that can be told.
    InUse {
        /// Process id and command of the holder, or what else is known; empty when nothing is.
        holder: String,
    },
    /// It can only be read.
    ReadOnly,
    /// The name is a directory's.
    Directory,
    /// It is a pipe, a socket or a character device.
    NotAFileOrDisk,
    /// It is shorter than what is to lie on it.
    TooSmall {
        /// Bytes that it has.
        length: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// The file system has no room for it.
    NoSpace {
        /// Bytes that were asked for.
        needed: u64,
    },
    /// A system call failed with something else.
    System {
        /// What was being done: a verb in the infinitive.
        step: &'static str,
    },
}

/// A medium that could not be opened or made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediumError {
    /// Its name as it was given.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: Fault,
    /// The kernel's number, where a system call failed.
    pub errno: Option<Errno>,
}

impl MediumError {
    /// The error of a medium at `path`.
    #[must_use]
    pub fn new(path: &Path, fault: Fault, errno: Option<Errno>) -> Self {
        Self { path: path.to_owned(), fault, errno }
    }

    /// The error of a system call that failed while it should `step`.
    pub(super) fn system(path: &Path, step: &'static str, errno: rustix::io::Errno) -> Self {
        let fault = match errno {
            rustix::io::Errno::NOENT | rustix::io::Errno::NXIO | rustix::io::Errno::NODEV => Fault::Missing,
            rustix::io::Errno::EXIST => Fault::Exists,
            rustix::io::Errno::ROFS => Fault::ReadOnly,
            rustix::io::Errno::ISDIR => Fault::Directory,
            _ => Fault::System { step },
        };
        Self::new(path, fault, Some(Errno::from_raw(errno.raw_os_error())))
    }

    fn reason(&self) -> String {
        match &self.fault {
            Fault::Missing => "no such file or disk".to_owned(),
            Fault::Exists => "it exists already".to_owned(),
            Fault::InUse { holder } if holder.is_empty() => "it is in use".to_owned(),
            Fault::InUse { holder } => format!("it is in use by {holder}"),
            Fault::ReadOnly => "it is read-only".to_owned(),
            Fault::Directory => "it is a directory".to_owned(),
            Fault::NotAFileOrDisk => "it is neither a regular file nor a block device".to_owned(),
            Fault::TooSmall { length, needed } => {
                format!("it has {}, but {} are needed", exact_bytes(*length), exact_bytes(*needed))
            }
            Fault::NoSpace { needed } => format!("its file system has no room for {}", exact_bytes(*needed)),
            Fault::System { step } => {
                let why = self.errno.map_or_else(|| "unknown error".to_owned(), |errno| errno.to_string());
                format!("cannot {step} it: {why}")
            }
        }
    }

    const fn way_out(&self) -> &'static str {
        match self.fault {
            Fault::Missing => "check the name, or attach the disk again",
            Fault::Exists => "choose another name, or remove it first",
            Fault::InUse { .. } => "end what uses it, or choose another",
            Fault::ReadOnly => "make it writable (for a sandboxed daemon in its unit too), or choose another",
            Fault::Directory => "name a file inside it",
            Fault::NotAFileOrDisk => "name a regular file or a block device",
            Fault::TooSmall { .. } => "make it larger, or choose another",
            Fault::NoSpace { .. } => "free some room there, or choose another place",
            Fault::System { .. } => "",
        }
    }

    const fn id(&self) -> (Kind, &'static str) {
        match self.fault {
            Fault::Missing => (Kind::Medium, "medium.missing"),
            Fault::Exists => (Kind::Exists, "medium.exists"),
            Fault::InUse { .. } => (Kind::Medium, "medium.in-use"),
            Fault::ReadOnly => (Kind::Medium, "medium.read-only"),
            Fault::Directory => (Kind::Medium, "medium.directory"),
            Fault::NotAFileOrDisk => (Kind::Medium, "medium.not-a-disk"),
            Fault::TooSmall { .. } => (Kind::NoSpace, "medium.too-small"),
            Fault::NoSpace { .. } => (Kind::NoSpace, "medium.no-space"),
            Fault::System { .. } => (Kind::System, "medium.system"),
        }
    }

    /// The error as a person is told it.
    #[must_use]
    pub fn refusal(&self) -> Refused {
        let (kind, id) = self.id();
        Refusal::new(kind, id, self.path.display(), self.reason(), self.way_out())
    }
}

impl fmt::Display for MediumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal().fmt(f)
    }
}

impl std::error::Error for MediumError {}

impl From<MediumError> for Refused {
    fn from(error: MediumError) -> Self {
        error.refusal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Allocation, Medium, Opening};

    #[track_caller]
    fn refused(outcome: Result<Medium, MediumError>, id: &str, kind: Kind) {
        let refused: Refused = outcome.unwrap_err().into();
        assert_eq!((refused.id.as_str(), refused.kind), (id, kind), "{refused}");
        assert!(!refused.to_string().contains('\n'), "{refused}");
    }

    #[test]
    fn what_cannot_be_a_medium_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), [0; 4096]).unwrap();
        let open = |path: &Path| Medium::open(path, Opening::WRITE);
        let create = |path: &Path, bytes| Medium::create_file(path, bytes, Allocation::Full);
        refused(open(&at("none")), "medium.missing", Kind::Medium);
        refused(open(directory.path()), "medium.directory", Kind::Medium);
        refused(open(Path::new("/dev/null")), "medium.not-a-disk", Kind::Medium);
        refused(open(&at(&"x".repeat(300))), "medium.system", Kind::System);
        let longer = Medium::open(&at("file"), Opening::WRITE.at_least(8192));
        refused(longer, "medium.too-small", Kind::NoSpace);
        refused(create(&at("file"), 4096), "medium.exists", Kind::Exists);
        refused(create(&at("huge"), 1 << 43), "medium.no-space", Kind::NoSpace);
        let _first = open(&at("file")).unwrap();
        refused(open(&at("file")), "medium.in-use", Kind::Medium);
        assert!(!at("huge").exists());
    }
}
