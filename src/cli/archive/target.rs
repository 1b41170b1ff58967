//! A file that appears under its name only when it is whole.

use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{cannot_write, clean};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A new file `NAME.partial`; unless it is published, it goes when dropped.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    published: bool,
}

impl NewFile {
    /// Makes the file, for its owner alone.
    ///
    /// # Errors
    /// [`Kind::Exists`] when `path` or its `.partial` exists; otherwise that of the file system.
    pub fn create(path: &Path) -> Result<Self, Refused> {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).map_err(|error| {
                match error.kind() {
                    ErrorKind::AlreadyExists => exists(&partial),
                    _ => cannot_write(&clean(partial.display()), &error),
                }
            })?;
        Ok(Self { file, partial, path: path.to_path_buf(), published: false })
    }

    /// Writes `bytes` behind the last ones.
    ///
    /// # Errors
    /// That of the file system, [`Kind::NoSpace`] among them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.file.write_all(bytes).map_err(|error| cannot_write(&clean(self.partial.display()), &error))
    }

    /// Leaves a hole of `bytes`.
    ///
    /// # Errors
    /// That of the file system.
    pub fn skip(&mut self, bytes: u64) -> Result<(), Refused> {
        let skipped = self.file.seek(SeekFrom::Current(i64::try_from(bytes).unwrap_or(i64::MAX)));
        skipped.map(|_| ()).map_err(|error| cannot_write(&clean(self.partial.display()), &error))
    }

    /// Sets the length, makes the file durable and gives it its name.
    ///
    /// # Errors
    /// [`Kind::Exists`] when the name was taken meanwhile; otherwise that of the file system.
    pub fn publish(mut self, length_bytes: u64) -> Result<(), Refused> {
        let fail = |error: &std::io::Error| cannot_write(&clean(self.path.display()), error);
        self.file.set_len(length_bytes).and_then(|()| self.file.sync_all()).map_err(|error| fail(&error))?;
        match renameat_with(CWD, &self.partial, CWD, &self.path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists(&self.path)),
            Err(rustix::io::Errno::INVAL) => {
                // The file system cannot rename without replacing; a link cannot replace either.
                std::fs::hard_link(&self.partial, &self.path).map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => exists(&self.path),
                    _ => fail(&error),
                })?;
                let _ = std::fs::remove_file(&self.partial);
            }
            Err(error) => return Err(fail(&error.into())),
        }
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced =
            File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
        synced.map_err(|error| fail(&error))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

fn exists(path: &Path) -> Refused {
    Refusal::new(
        Kind::Exists,
        "file.exists",
        clean(path.display()),
        "exists already",
        // Of a device neither helps.
        match path.starts_with("/dev") {
            true => {
                "into a device: cleave unarchive ARCHIVE - | dd of=DEVICE bs=1M oflag=direct iflag=fullblock"
            }
            false => "remove it or name another file",
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = NewFile::create(&path).unwrap();
        assert_eq!(
            NewFile::create(&path).unwrap_err().object,
            path.with_extension("partial").display().to_string()
        );
        file.write(b"ab").unwrap();
        file.skip(2).unwrap();
        assert!(!path.exists());
        file.publish(4).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"ab\0\0");
        assert_eq!(NewFile::create(&path).unwrap_err().kind, Kind::Exists);
        let other = dir.path().join("g");
        drop(NewFile::create(&other).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "an unfinished file is gone");
    }

    #[test]
    fn a_name_taken_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = NewFile::create(&path).unwrap();
        std::fs::write(&path, b"other").unwrap();
        assert_eq!(file.publish(0).unwrap_err().kind, Kind::Exists);
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
    }
}
