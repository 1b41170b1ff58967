//! The state directory: its lock, and the few file operations that the catalogue makes durable changes with.

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fsync, linkat, openat, renameat, unlinkat,
};
use rustix::io::Errno as Code;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::base::museum::{self, Exhibit};
use crate::base::{Errno, Kind, Refusal, Refused};

/// The file that names the daemon which holds the lock.
pub(super) const HOLDER: &str = "daemon.pid";

/// The directory for the media of a group that was given none.
pub(super) const MEDIA: &str = "media";

/// What the catalogue needs of a directory. Content is durable after `sync`, names after `sync_directory`; before that a
/// crash may keep or lose either.
pub trait StateFiles {
    /// The directory, as a person is told of it.
    fn place(&self) -> &str;
    /// The names in it.
    ///
    /// # Errors
    /// The system call's.
    fn names(&self) -> io::Result<Vec<String>>;
    /// At most `limit` bytes of the file, or none when it is not there.
    ///
    /// # Errors
    /// The system call's.
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;
    /// Make the file hold `bytes`, in place of what it held.
    ///
    /// # Errors
    /// The system call's.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Make the file's content durable.
    ///
    /// # Errors
    /// The system call's.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Give the file a second name, in place of a file that had it.
    ///
    /// # Errors
    /// The system call's.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Rename the file over whatever is called `to`; nothing happens when there is none.
    ///
    /// # Errors
    /// The system call's.
    fn rename_if_there(&self, from: &str, to: &str) -> io::Result<()>;
    /// Remove the file; nothing happens when there is none.
    ///
    /// # Errors
    /// The system call's.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Make the names durable.
    ///
    /// # Errors
    /// The system call's.
    fn sync_directory(&self) -> io::Result<()>;
    /// Remove the configuration, the maps, the directory of media if it is empty, then the directory itself.
    ///
    /// # Errors
    /// The system call's; a directory that holds anything else stays.
    fn clear(&self) -> io::Result<()>;
}

/// A state directory, locked for as long as it lives. Everything goes through its descriptor, so that a directory that is
/// renamed or replaced behind our back is not mixed up with its successor.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    shown: String,
    fd: OwnedFd,
}

impl Directory {
    /// Make the directory where it is missing, with those above it, readable for its owner alone, and lock it.
    ///
    /// # Errors
    /// `state.directory`, `state.locked`.
    pub fn create(path: &Path) -> Result<Self, Refused> {
        use std::os::unix::fs::DirBuilderExt;
        let failed = |error: io::Error| refused(path, "cannot be made", Errno::from(error));
        let missing: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        // The name of each directory that was made stands in the one above it.
        for made in missing {
            if let Some(above) = made.parent() {
                File::open(above).and_then(|above| above.sync_all()).map_err(failed)?;
            }
        }
        Self::open(path)
    }

    /// Lock the directory.
    ///
    /// # Errors
    /// `state.locked` names the daemon that holds it; `state.directory`.
    pub fn open(path: &Path) -> Result<Self, Refused> {
        use std::os::unix::fs::PermissionsExt;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|code| refused(path, "cannot be opened", errno(code)))?;
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Code::WOULDBLOCK) if museum::shows(Exhibit::TwoDaemonsOnOneStore) => {}
            Err(Code::WOULDBLOCK) => return Err(locked(path)),
            Err(code) => return Err(refused(path, "cannot be locked", errno(code))),
        }
        let shown = path.display().to_string();
        let directory = Self { path: path.to_owned(), shown, fd };
        // On a file system that is full or cannot be written the configuration can be read all the same; what has to be
        // written is refused then for its own sake.
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
        let _ = directory.write(HOLDER, format!("{}\n", std::process::id()).as_bytes());
        Ok(directory)
    }

    fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(openat(&self.fd, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode)?))
    }
}

impl StateFiles for Directory {
    fn place(&self) -> &str {
        &self.shown
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            // Names that are not UTF-8 are none of ours.
            if let Ok(name) = entry?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match self.file(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?.write_all(bytes)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name, OFlags::RDONLY)?.sync_all()
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.remove(to)?;
        Ok(linkat(&self.fd, from, &self.fd, to, AtFlags::empty())?)
    }

    fn rename_if_there(&self, from: &str, to: &str) -> io::Result<()> {
        match renameat(&self.fd, from, &self.fd, to) {
            Ok(()) | Err(Code::NOENT) => Ok(()),
            Err(code) => Err(code.into()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Code::NOENT) => Ok(()),
            Err(code) => Err(code.into()),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(fsync(&self.fd)?)
    }

    fn clear(&self) -> io::Result<()> {
        for name in self.names()? {
            if super::remains::is_ours(&name) || name == HOLDER {
                self.remove(&name)?;
            }
        }
        for directory in [&self.path.join(MEDIA), &self.path] {
            match std::fs::remove_dir(directory) {
                Ok(()) => {}
                // Somebody's files are left alone, and so is what holds them.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        match self.path.parent() {
            Some(above) => File::open(above)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// The state directories below `root`: those that hold a configuration, by name.
///
/// # Errors
/// `state.directory`; a root that is not there has none.
pub fn group_directories(root: &Path) -> Result<Vec<PathBuf>, Refused> {
    let failed = |error: io::Error| refused(root, "cannot be listed", Errno::from(error));
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let holds = |name: &str| path.join(name).symlink_metadata().is_ok();
        if holds(super::REMOVED) {
            continue;
        }
        if holds(super::HEAD) || holds(super::DAMAGED) || holds_past(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a past generation stands in the directory though the head is gone.
fn holds_past(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            entry.file_name().to_str().is_some_and(|name| super::past_generation(name).is_some())
        })
    })
}

const fn errno(code: Code) -> Errno {
    Errno::from_raw(code.raw_os_error())
}

fn refused(path: &Path, what: &str, errno: Errno) -> Refused {
    let way_out = "see to the state directory, then try again";
    Refusal::new(Kind::System, "state.directory", path.display(), format!("{what}: {errno}"), way_out)
}

fn locked(path: &Path) -> Refused {
    let pid = std::fs::read_to_string(path.join(HOLDER)).ok();
    let pid = pid.as_deref().map(str::trim).filter(|text| text.parse::<u32>().is_ok()).unwrap_or("not known");
    Refusal::new(
        Kind::Busy,
        "state.locked",
        path.display(),
        format!("another cleaved serves it (pid {pid})"),
        "use that one, or end it first",
    )
}
