//! What udev is told of the device of a volume: a file for each device, which `61-cleave.rules` reads.
//!
//! ```text
//!   /run/cleave/udev/ublkb0            CLEAVE_GROUP=default
//!                                      CLEAVE_VOLUME=v
//!                                      CLEAVE_UUID=...
//!                                      CLEAVE_ROLE=volume | snapshot
//!                                      SYSTEMD_ALIAS=/dev/cleave/default/v ...
//!                                      SYSTEMD_READY=0          only until the links stand
//! ```
//!
//! It is there before the kernel tells of the device, so that no link by UUID or label ever leads to a snapshot; and when the
//! volume's links stand it is written anew and udev hears of a change. So a mount by `/dev/cleave/...` in fstab(5) waits for
//! the links: `SYSTEMD_ALIAS` and `SYSTEMD_READY` are those of systemd.device(5).
//!
//! The directory is one of `/run`: what it says ends with the host's run, as devices do. All calls block briefly.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::base::{Name, Uuid};

use super::links;

/// Where the rules look.
pub const DIRECTORY: &str = "/run/cleave/udev";

/// What is told of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The volume's id.
    pub uuid: Uuid,
    /// Whether it is a snapshot volume: what stands on it bears the UUIDs and labels of its origin.
    pub is_snapshot: bool,
}

impl Entry {
    /// The text of its file, in the form of `IMPORT{file}` of udev(7).
    fn text(&self, is_ready: bool) -> String {
        let role = if self.is_snapshot { "snapshot" } else { "volume" };
        let links: Vec<_> = links::paths(Path::new("/dev"), &self.group, &self.volume)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let wait = if is_ready { "" } else { "SYSTEMD_READY=0\n" };
        format!(
            "CLEAVE_GROUP={}\nCLEAVE_VOLUME={}\nCLEAVE_UUID={}\nCLEAVE_ROLE={role}\nSYSTEMD_ALIAS={}\n{wait}",
            self.group,
            self.volume,
            self.uuid,
            links.join(" ")
        )
    }
}

/// Say in `directory` that device `number` is `entry`, and whether its links stand; whether that is news.
///
/// # Errors
/// The system call's.
pub fn tell(directory: &Path, number: u32, entry: &Entry, is_ready: bool) -> io::Result<bool> {
    let path = directory.join(file_name(number));
    let text = entry.text(is_ready);
    if fs::read_to_string(&path).is_ok_and(|before| before == text) {
        return Ok(false);
    }
    fs::create_dir_all(directory)?;
    let new = directory.join(format!(".new-{}", file_name(number)));
    fs::write(&new, text)?;
    fs::rename(&new, &path)?;
    Ok(true)
}

/// Have the kernel send a change event for device `number` (Documentation/ABI/testing/sysfs-uevent).
///
/// # Errors
/// The system call's.
pub fn send_change(number: u32) -> io::Result<()> {
    fs::write(format!("/sys/class/block/ublkb{number}/uevent"), "change")
}

/// Device `number` is no volume any more.
///
/// # Errors
/// The system call's; that there is no file is none.
pub fn forget(directory: &Path, number: u32) -> io::Result<()> {
    match fs::remove_file(directory.join(file_name(number))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Forget every device but those of the numbers `keep`.
///
/// # Errors
/// The system call's.
pub fn sweep(directory: &Path, keep: &BTreeSet<u32>) -> io::Result<()> {
    let kept: BTreeSet<_> = keep.iter().map(|number| file_name(*number)).collect();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !kept.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn file_name(number: u32) -> String {
    format!("ublkb{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(group: &str, is_snapshot: bool) -> Entry {
        let name = |text| Name::new(text).unwrap();
        Entry { group: name(group), volume: name("v"), uuid: Uuid::from_random([7; 16]), is_snapshot }
    }

    #[test]
    fn a_device_is_told_before_its_links_stand_and_again_when_they_do() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("udev");
        let text = || fs::read_to_string(directory.join("ublkb3")).unwrap();
        assert!(tell(&directory, 3, &entry("default", false), false).unwrap());
        assert!(text().ends_with("SYSTEMD_READY=0\n"), "{}", text());
        assert!(tell(&directory, 3, &entry("default", false), true).unwrap());
        let uuid = Uuid::from_random([7; 16]);
        assert_eq!(
            text(),
            format!(
                "CLEAVE_GROUP=default\nCLEAVE_VOLUME=v\nCLEAVE_UUID={uuid}\nCLEAVE_ROLE=volume\n\
                 SYSTEMD_ALIAS=/dev/cleave/default/v /dev/vx/dsk/default/v /dev/vx/rdsk/default/v /dev/vx/dsk/v \
                 /dev/vx/rdsk/v\n"
            )
        );
        // A daemon that takes the device over has no news for udev.
        assert!(!tell(&directory, 3, &entry("default", false), true).unwrap());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn a_snapshot_is_told_as_one_and_a_device_that_is_gone_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("udev");
        assert_eq!(sweep(&directory, &BTreeSet::new()).map_err(|error| error.kind()), Ok(()));
        assert_eq!(forget(&directory, 3).map_err(|error| error.kind()), Ok(()));
        for number in [3, 4, 33] {
            tell(&directory, number, &entry("dg", true), true).unwrap();
        }
        let text = fs::read_to_string(directory.join("ublkb4")).unwrap();
        let alias = "SYSTEMD_ALIAS=/dev/cleave/dg/v /dev/vx/dsk/dg/v /dev/vx/rdsk/dg/v\n";
        assert!(text.contains("CLEAVE_ROLE=snapshot\n") && text.ends_with(alias), "{text}");
        sweep(&directory, &BTreeSet::from([3, 4])).unwrap();
        forget(&directory, 4).unwrap();
        let left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["ublkb3"]);
    }
}
