//! What a file, a directory or a disk lies on.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxFlags, statfs, statvfs, statx};

use super::View;
use crate::base::Errno;

/// How long a look may take. A file system whose server is gone keeps who looks at it for ever.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// What kind a file system is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nature {
    /// Its data are on disks of this host, as far as is known.
    Local,
    /// Its data are in memory, and gone with the next boot.
    Memory,
    /// Its data are with a server, or with another program.
    Remote,
}

/// A file system as far as the kernel names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileSystem {
    /// Its name, or its number where it has no name here.
    pub name: String,
    /// Of what kind it is.
    pub nature: Nature,
}

/// `statfs(2)`: numbers of file systems that stand for themselves in the kernel's `linux/magic.h` and in their sources.
const KNOWN: &[(u64, &str, Nature)] = &[
    (0x0102_1994, "tmpfs", Nature::Memory),
    (0x8584_58f6, "ramfs", Nature::Memory),
    (0x9584_58f6, "hugetlbfs", Nature::Memory),
    (0x6969, "nfs", Nature::Remote),
    (0x517b, "smb", Nature::Remote),
    (0xff53_4d42, "cifs", Nature::Remote),
    (0xfe53_4d42, "smb3", Nature::Remote),
    (0x00c3_6400, "ceph", Nature::Remote),
    (0x0102_1997, "9p", Nature::Remote),
    (0x5346_414f, "afs", Nature::Remote),
    (0x0bd0_0bd0, "lustre", Nature::Remote),
    (0x786f_4256, "vboxsf", Nature::Remote),
    // Which program answers, and from where, is not known.
    (0x6573_5546, "fuse", Nature::Remote),
    (0xef53, "ext4", Nature::Local),
    (0x5846_5342, "xfs", Nature::Local),
    (0x9123_683e, "btrfs", Nature::Local),
    (0xca45_1a4e, "bcachefs", Nature::Local),
    (0xf2f5_2010, "f2fs", Nature::Local),
    (0x2fc1_2fc1, "zfs", Nature::Local),
    (0x794c_7630, "overlay", Nature::Local),
    (0x3153_464a, "jfs", Nature::Local),
    (0x4d44, "vfat", Nature::Local),
    (0x2011_bab0, "exfat", Nature::Local),
    (0x7366_746e, "ntfs", Nature::Local),
    (0x0116_1970, "gfs2", Nature::Local),
    (0x7461_636f, "ocfs2", Nature::Local),
];

impl FileSystem {
    /// That of the number `magic`.
    #[must_use]
    pub(super) fn of_magic(magic: u64) -> Self {
        match KNOWN.iter().find(|(known, _, _)| *known == magic) {
            Some((_, name, nature)) => Self { name: (*name).to_owned(), nature: *nature },
            None => Self { name: format!("file system {magic:#x}"), nature: Nature::Local },
        }
    }
}

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Its length.
        bytes: u64,
        /// Bytes that it has been given.
        allocated: u64,
    },
    /// A block device.
    Disk,
    /// Something else.
    Other,
}

/// What was found at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// What it is.
    pub form: Form,
    /// Its permissions, 12 bits.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
    /// The number of its file system.
    pub device: u64,
    /// Its file system; of a disk that of its node.
    pub filesystem: FileSystem,
    /// Bytes free on it to root's processes.
    pub free_bytes: u64,
    /// Whether no more files fit on it.
    pub no_more_files: bool,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Whether the file system vouches for direct I/O of this file.
    pub direct: bool,
    /// When it lies on a ublk device: the devices passed on the way, that one last.
    pub on_ublk: Option<Vec<String>>,
}

/// Why a path could not be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unseen {
    /// There is nothing.
    Missing,
    /// This user may not.
    NotPermitted,
    /// No answer came in time.
    Hangs,
    /// The kernel's reason.
    Error(Errno),
}

impl From<std::io::Error> for Unseen {
    fn from(error: std::io::Error) -> Self {
        match Errno::from(error) {
            errno if errno.raw() == libc::ENOENT => Self::Missing,
            errno if [libc::EACCES, libc::EPERM].contains(&errno.raw()) => Self::NotPermitted,
            errno => Self::Error(errno),
        }
    }
}

/// Look at what is at `path`, links followed, without opening it.
///
/// # Errors
/// [`Unseen`] has them.
pub fn look(path: &Path) -> Result<Place, Unseen> {
    let path = path.to_owned();
    within(LOOK_LIMIT, move || look_here(&path)).unwrap_or(Err(Unseen::Hangs))
}

/// Whether the link `link` leads to the node `node`.
#[must_use]
pub fn leads_to(link: &Path, node: &Path) -> bool {
    fs::canonicalize(link).is_ok_and(|end| fs::canonicalize(node).is_ok_and(|node| end == node))
}

/// What `work` gives within `limit`; a thread that hangs is left to its fate.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (answer, outcome) = mpsc::channel();
    std::thread::Builder::new()
        .spawn(move || {
            // Who has stopped waiting does not miss it.
            let _ = answer.send(work());
        })
        .ok()?;
    outcome.recv_timeout(limit).ok()
}

fn look_here(path: &Path) -> Result<Place, Unseen> {
    let found = fs::metadata(path)?;
    let (kind, room) =
        (statfs(path).map_err(std::io::Error::from)?, statvfs(path).map_err(std::io::Error::from)?);
    let direct = statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN).is_ok_and(|found| {
        found.stx_mask & StatxFlags::DIOALIGN.bits() != 0
            && found.stx_dio_mem_align > 0
            && found.stx_dio_offset_align > 0
    });
    let form = match found.file_type() {
        kind if kind.is_dir() => Form::Directory,
        kind if kind.is_file() => Form::File { bytes: found.len(), allocated: found.blocks() * 512 },
        kind if kind.is_block_device() => Form::Disk,
        _ => Form::Other,
    };
    Ok(Place {
        form,
        mode: found.mode() & 0o7777,
        owner: found.uid(),
        device: found.dev(),
        // The type's width differs between architectures; the constants have 32 bits.
        filesystem: FileSystem::of_magic(kind.f_type as u64 & 0xffff_ffff),
        free_bytes: room.f_bfree.saturating_mul(room.f_frsize),
        // File systems without a table of files count none.
        no_more_files: room.f_files > 0 && room.f_ffree == 0,
        read_only: room.f_flag.contains(StatVfsMountFlags::RDONLY),
        direct,
        on_ublk: View::host().ublk_below(path).ok().flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn file_systems_are_known_by_their_numbers() {
        for (magic, name, nature) in [
            (0x0102_1994, "tmpfs", Nature::Memory),
            (0xef53, "ext4", Nature::Local),
            (0x6969, "nfs", Nature::Remote),
            (0x6573_5546, "fuse", Nature::Remote),
            (0xabcd, "file system 0xabcd", Nature::Local),
        ] {
            assert_eq!(FileSystem::of_magic(magic), FileSystem { name: name.to_owned(), nature });
        }
        let mut numbers: Vec<u64> = KNOWN.iter().map(|(magic, _, _)| *magic).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), KNOWN.len());
    }

    #[test]
    fn places_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sparse");
        fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
        let place = look(&file).unwrap();
        let Form::File { bytes, allocated } = place.form else { panic!("{place:?}") };
        assert!(bytes == 1 << 30 && allocated < 1 << 20, "{place:?}");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let below = look(directory.path()).unwrap();
        assert_eq!((below.form, below.mode, below.device), (Form::Directory, 0o700, place.device));
        assert_eq!(below.filesystem, place.filesystem);
        assert_eq!(look(&directory.path().join("none")), Err(Unseen::Missing));
        assert_eq!(look(Path::new("/dev/null")).unwrap().form, Form::Other);
        assert_eq!(look(&file.join("x")), Err(Unseen::Error(Errno::from_raw(libc::ENOTDIR))));
    }

    #[test]
    fn a_look_that_hangs_is_given_up() {
        assert_eq!(within(Duration::from_millis(10), || std::thread::sleep(Duration::from_secs(60))), None);
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
    }

    #[test]
    fn links_lead_where_they_lead() {
        let directory = tempfile::tempdir().unwrap();
        let (node, link) = (directory.path().join("node"), directory.path().join("link"));
        fs::write(&node, "").unwrap();
        std::os::unix::fs::symlink(&node, &link).unwrap();
        assert!(leads_to(&link, &node) && leads_to(&node, &node));
        assert!(!leads_to(&directory.path().join("none"), &node));
        assert!(!leads_to(&link, directory.path()));
    }
}
