//! What makes as long as its volume what a volume holds, once that is longer: the command, as it is typed. Pure.

use std::path::Path;

use crate::base::Name;
use crate::catalog::filesystem::Content;
use crate::control::request::default_group;

use super::links;

/// How a volume stands when it has become longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing<'a> {
    /// It has no device.
    Stopped,
    /// It has a device, which is mounted nowhere that is known.
    Started,
    /// It is mounted here.
    Mounted(&'a Path),
}

/// The command line that makes `holds` as long as `volume` is, as resize2fs(8), xfs_growfs(8), btrfs-filesystem(8) and pvresize(8)
/// take it; none for what does not become longer, or not by one command.
#[must_use]
pub fn command(holds: Content, group: &Name, volume: &Name, standing: Standing<'_>) -> Option<String> {
    let device = links::paths(Path::new("/dev"), group, volume).first()?.display().to_string();
    let cleave = cleave(group);
    let start = match standing {
        Standing::Stopped => format!("{cleave} start {volume} && "),
        Standing::Started | Standing::Mounted(_) => String::new(),
    };
    let mounted = |grow: &str| match standing {
        Standing::Mounted(point) => format!("{grow} {}", quoted(point)),
        Standing::Stopped | Standing::Started => {
            format!("{start}{cleave} mount {volume} MOUNTPOINT && {grow} MOUNTPOINT")
        }
    };
    match (holds, standing) {
        (Content::Ext { .. }, Standing::Mounted(_)) => Some(format!("resize2fs {device}")),
        // One that is not mounted has to be checked first, or resize2fs refuses.
        (Content::Ext { .. }, Standing::Stopped | Standing::Started) => {
            Some(format!("{start}e2fsck -fp {device} && resize2fs {device}"))
        }
        (Content::Xfs { .. }, _) => Some(mounted("xfs_growfs")),
        (Content::Other("btrfs"), _) => Some(mounted("btrfs filesystem resize max")),
        (Content::Other("LVM2 physical volume"), _) => Some(format!("{start}pvresize {device}")),
        (Content::Other(_) | Content::Unknown, _) => None,
    }
}

/// The command `cleave`, on volumes of `group`.
#[must_use]
pub fn cleave(group: &Name) -> String {
    if *group == default_group() { "cleave".to_owned() } else { format!("cleave -g {group}") }
}

/// `path` as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(holds: Content, group: &str, standing: Standing<'_>) -> Option<String> {
        command(holds, &Name::new(group).unwrap(), &Name::new("v").unwrap(), standing)
    }

    #[test]
    fn each_file_system_is_made_larger_by_its_own_command() {
        let (ext, xfs) = (Content::Ext { bytes: 1 }, Content::Xfs { bytes: 1 });
        let (btrfs, lvm) = (Content::Other("btrfs"), Content::Other("LVM2 physical volume"));
        let here = Standing::Mounted(Path::new("/srv/data"));
        for (holds, standing, line) in [
            (ext, here, "resize2fs /dev/cleave/default/v"),
            (ext, Standing::Started, "e2fsck -fp /dev/cleave/default/v && resize2fs /dev/cleave/default/v"),
            (
                ext,
                Standing::Stopped,
                "cleave start v && e2fsck -fp /dev/cleave/default/v && resize2fs /dev/cleave/default/v",
            ),
            (xfs, here, "xfs_growfs /srv/data"),
            (xfs, Standing::Started, "cleave mount v MOUNTPOINT && xfs_growfs MOUNTPOINT"),
            (btrfs, here, "btrfs filesystem resize max /srv/data"),
            (
                btrfs,
                Standing::Stopped,
                "cleave start v && cleave mount v MOUNTPOINT && btrfs filesystem resize max MOUNTPOINT",
            ),
            (lvm, Standing::Started, "pvresize /dev/cleave/default/v"),
        ] {
            assert_eq!(told(holds, "default", standing).as_deref(), Some(line));
        }
        for nothing in [Content::Unknown, Content::Other("swap")] {
            assert_eq!(told(nothing, "default", Standing::Started), None);
        }
    }

    #[test]
    fn it_can_be_typed_whatever_the_group_and_the_place_are() {
        let xfs = Content::Xfs { bytes: 1 };
        assert_eq!(
            told(xfs, "dg", Standing::Stopped).unwrap(),
            "cleave -g dg start v && cleave -g dg mount v MOUNTPOINT && xfs_growfs MOUNTPOINT"
        );
        let odd = Path::new("/srv/it's here");
        assert_eq!(told(xfs, "dg", Standing::Mounted(odd)).unwrap(), r"xfs_growfs '/srv/it'\''s here'");
        assert_eq!(
            told(Content::Ext { bytes: 1 }, "dg", Standing::Mounted(odd)).unwrap(),
            "resize2fs /dev/cleave/dg/v"
        );
    }
}
