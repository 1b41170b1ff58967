//! Memory that outlives the process and not the host: a file on a tmpfs, mapped. In no ring; here because this is the room
//! for unsafe code.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::base::Uuid;
use crate::base::limits::PAGE_BYTES;
use crate::device::Flushes;

/// The words of the first page that name the boot of the host which the memory belongs to: its last 16 bytes.
const BOOT_WORDS: std::ops::Range<usize> = PAGE_BYTES / 8 - 2..PAGE_BYTES / 8;

const _: () = assert!(size_of::<Flushes>() <= BOOT_WORDS.start * 8);

/// What names this boot of the host (`random(4)`, `/proc/sys/kernel/random/boot_id`).
///
/// # Errors
/// It cannot be read.
pub fn this_boot() -> io::Result<Uuid> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn words_of(boot: Uuid) -> [u64; 2] {
    let (words, _) = boot.bytes().as_chunks();
    [0, 1].map(|word| u64::from_le_bytes(words[word]))
}

/// Shared memory whose first page is its user's except for the last 16 bytes.
pub struct SharedMemory {
    at: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is mapped until the drop, and all that is done through the pointer are operations of atomics.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Map `bytes` of the file at `path`, at least a page; it is made where it is missing, and another is made in its place
    /// where it is of another boot than `boot`: should the file have outlived the host, nobody knows what of it did. Who
    /// has the old one mapped keeps that. New memory is zero.
    ///
    /// # Errors
    /// The system call's. All of it is allocated here: no later access can meet a full file system.
    pub fn open(path: &Path, bytes: u64, boot: Uuid) -> io::Result<Self> {
        let boot = words_of(boot);
        let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES as u64);
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        let memory = Self::map(&options.open(path)?, bytes)?;
        let memory = match memory.boot() {
            known if known == boot => return Ok(memory),
            // New, or of a version that did not say.
            [0, 0] => memory,
            _ => {
                std::fs::remove_file(path)?;
                Self::map(&options.create_new(true).open(path)?, bytes)?
            }
        };
        memory.set_boot(boot);
        Ok(memory)
    }

    fn map(file: &std::fs::File, bytes: u64) -> io::Result<Self> {
        fallocate(file, FallocateFlags::empty(), 0, bytes)?;
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe { mmap(std::ptr::null_mut(), length, access, flags, file, 0)? };
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { at, words: length / 8 })
    }

    fn set_boot(&self, boot: [u64; 2]) {
        let words: &[AtomicU64] = self.as_ref();
        for (word, part) in BOOT_WORDS.zip(boot) {
            words[word].store(part, Ordering::Release);
        }
    }

    fn boot(&self) -> [u64; 2] {
        let words: &[AtomicU64] = self.as_ref();
        [BOOT_WORDS.start, BOOT_WORDS.start + 1].map(|word| words[word].load(Ordering::Acquire))
    }
}

impl AsRef<[AtomicU64]> for SharedMemory {
    fn as_ref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is aligned to a page, has this length, is allocated in its file, and lives as long as `self`; any
        // bytes are a valid value of atomics, which other processes may change as well.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.words) }
    }
}

impl AsRef<Flushes> for SharedMemory {
    fn as_ref(&self) -> &Flushes {
        // SAFETY: as above; the counts are atomics too, and end before the first page does.
        unsafe { self.at.cast().as_ref() }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.at.as_ptr().cast(), self.words * 8) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(memory: &SharedMemory) -> &Flushes {
        memory.as_ref()
    }

    fn words(memory: &SharedMemory) -> &[AtomicU64] {
        memory.as_ref()
    }

    #[test]
    fn what_was_stored_stays_when_who_stored_it_is_gone_and_goes_with_the_host() {
        let directory = std::env::temp_dir().join(format!("cleave-shared-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("counts");
        let boot = this_boot().unwrap();
        let open = |bytes, boot| SharedMemory::open(&path, bytes, boot).unwrap();
        let first = open(1, boot);
        assert!(!counts(&first).claim());
        counts(&first).begin();
        drop(first);
        let second = open(3 * PAGE_BYTES as u64, boot);
        assert!(counts(&second).claim());
        assert_eq!(counts(&second).open().all, 1);
        assert_eq!(words(&second).len(), 3 * PAGE_BYTES / 8);
        words(&second)[1024].store(7, Ordering::Relaxed);
        assert_eq!(words(&open(3 * PAGE_BYTES as u64, boot))[1024].load(Ordering::Relaxed), 7);
        // A file that outlived the host is new memory.
        let other = open(3 * PAGE_BYTES as u64, Uuid::from_random([7; 16]));
        assert!(!counts(&other).claim() && words(&other)[1024].load(Ordering::Relaxed) == 0);
        assert_eq!(words(&second)[1024].load(Ordering::Relaxed), 7, "who has it mapped keeps what was there");
        // One that does not say yet is of this boot.
        other.set_boot([0; 2]);
        assert!(counts(&open(1, boot)).claim());
        // A name that leads elsewhere is not followed.
        std::os::unix::fs::symlink(&path, directory.join("link")).unwrap();
        assert!(SharedMemory::open(&directory.join("link"), 1, boot).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
