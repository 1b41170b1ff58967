//! A medium that is in use becomes longer or shorter: files by themselves, disks by whoever has made them larger.

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fstatvfs, fsync, ftruncate, seek};
use rustix::io::Errno as Code;

use super::error::{Fault, MediumError};
use super::medium::{Allocation, MediaKind, Medium};
use crate::base::Errno;
use crate::base::limits::MAX_VOLUME_BYTES;

impl Medium {
    /// Have at least `bytes` bytes, durably: a file that is shorter is made longer, with all its new space, or with none where it is
    /// to be [sparse](Allocation::Sparse); a disk is measured anew. What is new of a file reads as zero. All handles of the medium
    /// go by its new length from now on, which is returned; who uses what it had notices nothing.
    ///
    /// # Errors
    /// [`Fault::NoSpace`] with what is missing and [`Fault::TooSmall`] for a disk; what the system calls have. The file is as
    /// long as it was then.
    ///
    /// This blocks the calling thread: it is for workers, not for ring threads.
    pub fn enlarge(&self, bytes: u64, allocation: Allocation) -> Result<u64, MediumError> {
        let system = |step: &'static str| move |code: Code| MediumError::system(self.path(), step, code);
        let found = seek(self.file(), SeekFrom::End(0)).map_err(system("measure"))?.min(MAX_VOLUME_BYTES);
        if self.kind() == MediaKind::Disk {
            if found < bytes {
                return Err(MediumError::new(
                    self.path(),
                    Fault::TooSmall { length: found, needed: bytes },
                    None,
                ));
            }
            self.set_length(found);
            return Ok(found);
        }
        if found < self.length() {
            // Somebody else has cut it off: what it had there is gone, and would read as zero.
            return Err(MediumError::new(
                self.path(),
                Fault::TooSmall { length: found, needed: self.length() },
                None,
            ));
        }
        if found >= bytes {
            self.set_length(found);
            return Ok(found);
        }
        let missing = bytes - found;
        let no_space = |errno| MediumError::new(self.path(), Fault::NoSpace { needed: missing }, errno);
        let longer = (|| {
            if allocation == Allocation::Full {
                // Asked first: a file system that runs full while it allocates has nothing left for others meanwhile.
                let room = fstatvfs(self.file()).map_err(system("look at the file system of"))?;
                // One in memory may have no end of its own, and says that it has nothing.
                if room.f_blocks > 0 && room.f_bfree.saturating_mul(room.f_frsize) < missing {
                    return Err(no_space(Some(Errno::NO_SPACE)));
                }
                fallocate(self.file(), FallocateFlags::KEEP_SIZE, found, missing)
                    .map_err(system("allocate"))?;
            }
            ftruncate(self.file(), bytes).map_err(system("extend"))?;
            fsync(self.file()).map_err(system("write"))
        })();
        if let Err(error) = longer {
            // Also gives back what was allocated behind the end. Should that fail as well, the first error is the one to tell.
            let _ = ftruncate(self.file(), found);
            let _ = fsync(self.file());
            let full = [Errno::NO_SPACE, Errno::from_raw(libc::EDQUOT)];
            return Err(match error.errno {
                Some(errno) if full.contains(&errno) => no_space(Some(errno)),
                _ => error,
            });
        }
        self.set_length(bytes);
        Ok(bytes)
    }

    /// Cut a file off behind `bytes` bytes, durably, if it is longer. Nobody uses what lies behind them. A disk stays as it is.
    ///
    /// # Errors
    /// What the system calls have; the file has one length or the other then.
    ///
    /// This blocks the calling thread: it is for workers, not for ring threads.
    pub fn shorten(&self, bytes: u64) -> Result<(), MediumError> {
        let system = |step: &'static str| move |code: Code| MediumError::system(self.path(), step, code);
        if self.kind() == MediaKind::Disk || self.length() <= bytes {
            return Ok(());
        }
        // Before the file is shorter: one that is shorter than it should be is taken for cut off by somebody else.
        self.set_length(bytes);
        ftruncate(self.file(), bytes).map_err(system("cut off"))?;
        fsync(self.file()).map_err(system("write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::MIB;

    fn size(medium: &Medium) -> u64 {
        std::fs::metadata(medium.path()).unwrap().len()
    }

    #[test]
    fn a_file_becomes_longer_with_its_space_and_shorter_again() {
        let directory = tempfile::tempdir().unwrap();
        for (name, allocation) in [("full", Allocation::Full), ("sparse", Allocation::Sparse)] {
            let path = directory.path().join(name);
            let medium = Medium::create_file(&path, 2 * MIB, allocation).unwrap();
            assert_eq!(medium.enlarge(MIB, allocation).unwrap(), 2 * MIB, "it is long enough");
            let other = medium.clone();
            assert_eq!(medium.enlarge(5 * MIB, allocation).unwrap(), 5 * MIB);
            assert_eq!((other.length(), size(&medium)), (5 * MIB, 5 * MIB), "{name}");
            use std::os::unix::fs::MetadataExt;
            let blocks = std::fs::metadata(&path).unwrap().blocks() * 512;
            assert_eq!(blocks >= 5 * MIB, allocation == Allocation::Full, "{name}: {blocks}");
            medium.shorten(6 * MIB).unwrap();
            assert_eq!(size(&medium), 5 * MIB);
            medium.shorten(3 * MIB).unwrap();
            assert_eq!((other.length(), size(&medium)), (3 * MIB, 3 * MIB));
        }
    }

    #[test]
    fn a_file_for_which_there_is_no_room_stays_as_it_is_and_the_missing_bytes_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plex");
        let medium = Medium::create_file(&path, MIB, Allocation::Full).unwrap();
        let error = medium.enlarge(1 << 59, Allocation::Full).unwrap_err();
        assert_eq!(error.fault, Fault::NoSpace { needed: (1 << 59) - MIB });
        assert_eq!((medium.length(), size(&medium)), (MIB, MIB));
        // What somebody else has cut off is not taken for its length.
        std::fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
        let error = medium.enlarge(2 * MIB, Allocation::Full).unwrap_err();
        assert_eq!(error.fault, Fault::TooSmall { length: 4096, needed: MIB });
    }
}
