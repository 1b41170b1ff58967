//! The kernel tells when something happens to a file, so that nobody has to look again and again: inotify(7).

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::statfs;
use tokio::io::unix::AsyncFd;

/// What a file's name or end could have changed by: links made and removed (`ATTRIB`), the file renamed, and somebody who had it
/// open to write and let it go, as who shortens it does. The daemon's own writes are none of these.
const EVENTS: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::CLOSE_WRITE);

/// File systems on which others change files unheard (`statfs(2)`, linux/magic.h): NFS, SMB and CIFS, FUSE, Ceph.
const REMOTE: [u64; 5] = [0x6969, 0x517b, 0xff53_4d42, 0x6573_5546, 0x00c3_6400];

/// A watch on `files`, which begins now; not inside the asynchronous runtime, for file systems may hang.
///
/// # Errors
/// One is missing, lies on a file system that does not tell, or the user's limit of watches is reached.
pub(super) fn begin(files: &[PathBuf]) -> io::Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    for file in files {
        // The type's width differs between architectures; the constants have 32 bits.
        let kind = statfs(file)?.f_type as u64 & 0xffff_ffff;
        if REMOTE.contains(&kind) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        inotify::add_watch(&watch, file, EVENTS)?;
    }
    Ok(watch)
}

/// Completes when something has happened to a file of `watch`.
///
/// # Errors
/// It cannot be waited for.
pub(super) async fn told(watch: OwnedFd) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for descriptors that may be closed meanwhile: this one is owned"
    )]
    let watch = AsyncFd::new(watch)?;
    watch.readable().await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;
    use std::time::Duration;

    async fn tells(change: impl FnOnce(&Path)) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plex");
        fs::write(&file, [0; 4096]).unwrap();
        let mut ours = OpenOptions::new().write(true).open(&file).unwrap();
        let watch = begin(std::slice::from_ref(&file)).unwrap();
        ours.write_all(&[1; 4096]).unwrap();
        change(&file);
        tokio::time::timeout(Duration::from_millis(200), told(watch)).await.is_ok()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_can_cost_a_file_its_name_or_its_end_is_told_and_our_writes_are_not() {
        assert!(!tells(|_| {}).await);
        assert!(!tells(|file| drop(fs::read(file).unwrap())).await);
        assert!(tells(|file| fs::remove_file(file).unwrap()).await);
        assert!(tells(|file| fs::rename(file, file.with_extension("old")).unwrap()).await);
        assert!(tells(|file| fs::write(file, []).unwrap()).await);
        let other = |file: &Path| {
            let other = file.with_extension("other");
            fs::write(&other, [2; 4096]).unwrap();
            fs::rename(other, file).unwrap();
        };
        assert!(tells(other).await);
    }

    #[test]
    fn what_is_not_there_cannot_be_watched() {
        assert!(begin(&[PathBuf::from("/nonexistent/plex")]).is_err());
    }
}
