//! Counts in memory that outlives the process: a page of a file on a tmpfs, mapped. In no ring; here because this is the
//! room for unsafe code.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::base::limits::PAGE_BYTES;
use crate::device::Flushes;

/// A page of shared memory that begins with [`Flushes`].
pub struct SharedPage {
    at: NonNull<Flushes>,
}

// SAFETY: the page is mapped until the drop, and all that is done through the pointer are operations of atomics.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Map the file at `path`, which is made where it is missing.
    ///
    /// # Errors
    /// The system call's. The page is allocated here: no later access can meet a full file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        let file = options.open(path)?;
        fallocate(&file, FallocateFlags::empty(), 0, PAGE_BYTES as u64)?;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe { mmap(std::ptr::null_mut(), PAGE_BYTES, access, flags, &file, 0)? };
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { at })
    }
}

impl AsRef<Flushes> for SharedPage {
    fn as_ref(&self) -> &Flushes {
        // SAFETY: the mapping is aligned to a page, has the length of one, is allocated in its file, and lives as long as
        // `self`; any bytes are a valid value of atomics, which other processes may change as well.
        unsafe { self.at.as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `open`, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.at.as_ptr().cast(), PAGE_BYTES) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stay_when_who_counted_is_gone() {
        let directory = std::env::temp_dir().join(format!("cleave-shared-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("counts");
        let first = SharedPage::open(&path).unwrap();
        assert!(!first.as_ref().claim());
        first.as_ref().begin();
        drop(first);
        let second = SharedPage::open(&path).unwrap();
        assert!(second.as_ref().claim());
        assert_eq!(second.as_ref().open().all, 1);
        // A name that leads elsewhere is not followed.
        std::os::unix::fs::symlink(&path, directory.join("link")).unwrap();
        assert!(SharedPage::open(&directory.join("link")).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
