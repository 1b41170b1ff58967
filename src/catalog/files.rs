//! Names of state files, the room on media, and removal that lasts.

use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags, StatVfsMountFlags, accessat, statvfs};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use crate::base::{Errno, Uuid};
use crate::state::place::Room;
use crate::state::{Group, Plex, VolumeState};

const INTENT: &str = "intent.";
const MAP: &str = "map.";
const RECOVERY: &str = "recovery.";

/// The name of the intent map of `volume` in its group's state directory.
#[must_use]
pub fn intent_file_name(volume: Uuid) -> String {
    format!("{INTENT}{volume}")
}

/// The name of the change map `map` in its group's state directory.
#[must_use]
pub fn map_file_name(map: Uuid) -> String {
    format!("{MAP}{map}")
}

/// The name of the file that counts attempts to take over `volume`, in its group's state directory.
#[must_use]
pub fn recovery_file_name(volume: Uuid) -> String {
    format!("{RECOVERY}{volume}")
}

/// How often `volume` was tried in a row without success, as its group's `directory` has it. What cannot be read counts
/// as never: a volume is rather tried once too often than left.
#[must_use]
pub fn recovery_attempts(directory: &Path, volume: Uuid) -> u32 {
    let text = std::fs::read_to_string(directory.join(recovery_file_name(volume)));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Whether `name` is that of an intent map, a change map or a count of attempts.
#[must_use]
pub fn is_state_file(name: &str) -> bool {
    let uuid = name.strip_prefix(INTENT).or_else(|| name.strip_prefix(MAP));
    let count = |name: &str| name.strip_prefix(RECOVERY).map(|rest| rest.trim_end_matches(".new").to_owned());
    let uuid = uuid.map(str::to_owned).or_else(|| count(name));
    uuid.is_some_and(|uuid| uuid.parse::<Uuid>().is_ok())
}

/// The names of all maps and intent maps that the records of `group` need.
#[must_use]
pub fn state_files(group: &Group) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for volume in group.volumes() {
        if volume.state() != VolumeState::Empty {
            names.extend([intent_file_name(volume.uuid()), recovery_file_name(volume.uuid())]);
        }
        names.extend(volume.plexes().iter().filter_map(Plex::map).map(map_file_name));
        names.extend(volume.undos().iter().map(|undo| map_file_name(undo.map)));
        let archives = volume.restore().and_then(|restore| restore.archive.as_ref());
        let archives = archives.into_iter().chain(volume.undos().iter().map(|undo| &undo.archive));
        names.extend(archives.map(|archive| archive.file.clone()));
        for link in volume.snapshots() {
            names.extend([link.origin_map, link.snapshot_map].map(map_file_name));
        }
        if let Some(cut) = volume.prepared() {
            names.insert(intent_file_name(cut.volume));
            names.extend([cut.origin_map, cut.snapshot_map].map(map_file_name));
        }
    }
    names
}

/// What there is of the medium at `path`, a block device if `block`, else a directory.
#[must_use]
pub fn room(path: &Path, block: bool) -> Room {
    match if block { block_room(path) } else { directory_room(path) } {
        Ok(room) => room,
        Err(error) => match Errno::from(error) {
            Errno::READ_ONLY => Room::ReadOnly,
            errno => Room::Missing(errno.to_string()),
        },
    }
}

fn directory_room(path: &Path) -> io::Result<Room> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(Room::Missing("it is not a directory".to_owned()));
    }
    let seen = statvfs(path)?;
    if seen.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(Room::ReadOnly);
    }
    accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
    Ok(Room::Directory { free: seen.f_bavail.saturating_mul(seen.f_frsize) })
}

fn block_room(path: &Path) -> io::Result<Room> {
    let kind = FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode);
    if kind != FileType::BlockDevice {
        return Ok(Room::Missing("it is not a block device".to_owned()));
    }
    // The kernel answers EBUSY to an exclusive open of a device that is mounted or held by another driver.
    let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::BUSY) => {
            return Ok(Room::Used { bytes: File::open(path)?.seek(SeekFrom::End(0))? });
        }
        Err(code) => return Err(code.into()),
    };
    let bytes = File::from(fd).seek(SeekFrom::End(0))?;
    Ok(Room::Block { bytes })
}

/// Whether nothing was ever written to the first `length` bytes of the file: no part of it is data to its file system.
#[must_use]
pub fn holds_no_data(path: &Path, length: u64) -> bool {
    let Ok(file) = File::open(path) else { return false };
    match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)) {
        Ok(at) => at >= length,
        Err(code) => code == rustix::io::Errno::NXIO,
    }
}

/// Remove a file so that it stays removed. That there is none is made durable as well: who removed it may have died before.
///
/// # Errors
/// The system call's.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match path.parent().map(File::open) {
        None => Ok(()),
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Some(directory) => directory?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_files_are_told_from_strangers() {
        let id = Uuid::from_random([7; 16]);
        assert!(is_state_file(&intent_file_name(id)));
        assert!(is_state_file(&map_file_name(id)));
        for stranger in
            ["intent.", "map.x", "configuration", "map.07070707", "xmap.07070707-0707-4707-8707-070707070707"]
        {
            assert!(!is_state_file(stranger), "{stranger}");
        }
    }

    #[test]
    fn the_room_of_a_directory_is_what_can_be_allocated() {
        let directory = tempfile::tempdir().unwrap();
        let Room::Directory { free } = room(directory.path(), false) else { panic!("a directory") };
        assert!(free > 0);
        assert_eq!(room(directory.path(), true), Room::Missing("it is not a block device".to_owned()));
        let missing = directory.path().join("none");
        assert_eq!(room(&missing, false), Room::Missing("No such file or directory".to_owned()));
        std::fs::write(&missing, b"x").unwrap();
        assert_eq!(room(&missing, false), Room::Missing("it is not a directory".to_owned()));
    }

    #[test]
    fn a_file_without_data_is_told_from_one_that_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        assert!(!holds_no_data(&path, 1 << 20), "nothing is known of what is not there");
        let file = File::create(&path).unwrap();
        assert!(holds_no_data(&path, 1 << 20));
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 3 << 20).unwrap();
        assert!(holds_no_data(&path, 1 << 20), "allocated space is no data");
        use std::os::unix::fs::FileExt;
        file.write_all_at(b"label", 2 << 20).unwrap();
        assert!(holds_no_data(&path, 1 << 20), "what stands behind is not looked at");
        file.write_all_at(b"x", 4096).unwrap();
        assert!(!holds_no_data(&path, 1 << 20));
    }

    #[test]
    fn removal_may_be_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        std::fs::write(&file, b"x").unwrap();
        remove_durably(&file).unwrap();
        assert!(!file.exists());
        remove_durably(&file).unwrap();
    }
}
