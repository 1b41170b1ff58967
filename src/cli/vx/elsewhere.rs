//! Words of VxVM that Cleave does not have, and how it is done here.

use super::Applet;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::words::{clip, unknown};

/// Keywords, each with its command.
const KEYWORDS: [(Applet, &str, &str); 21] = [
    (Applet::Vxassist, "addlog", INTENT),
    (Applet::Vxassist, "convert", PLAIN),
    (Applet::Vxassist, "help", "see vxassist --help"),
    (Applet::Vxassist, "maxby", FREE),
    (Applet::Vxassist, "maxgrow", FREE),
    (Applet::Vxassist, "maxsize", FREE),
    (Applet::Vxassist, "move", "cleave plex replace PLEX [PATH] moves a plex to another medium"),
    (Applet::Vxassist, "relayout", PLAIN),
    (Applet::Vxdg, "flush", "labels are written with every change"),
    (Applet::Vxdg, "free", FREE),
    (Applet::Vxdg, "upgrade", "there is nothing to upgrade: a newer cleaved reads what an older one wrote"),
    (Applet::Vxedit, "rename", "names do not change"),
    (Applet::Vxedit, "set", "see cleave set --help"),
    (
        Applet::Vxplex,
        "cp",
        "vxassist snapstart and snapshot copy a volume in use; cleave archive copies one to a file",
    ),
    (Applet::Vxplex, "mv", "cleave plex replace PLEX [PATH] moves a plex to another medium"),
    (Applet::Vxvol, "init", "give init=active or init=zero to vxassist make"),
    (Applet::Vxvol, "maint", "cleave plex offline takes a plex out"),
    (Applet::Vxvol, "resync", "vxrecover, or cleave scrub VOL --repair"),
    (Applet::Vxvol, "set", "changes are always tracked; see cleave set --help"),
    (Applet::Vxvol, "startall", "cleave start --all"),
    (Applet::Vxvol, "stopall", "cleave stop --all"),
];

/// Commands that are not there.
const COMMANDS: [(&str, &str); 12] = [
    ("vxconfigbackup", "cleave group save GROUP >FILE"),
    (
        "vxconfigrestore",
        "cleave group import, from the labels of the disks; without these: cleave group restore FILE",
    ),
    ("vxdctl", "cleave daemon status"),
    ("vxdisk", "cleave group list shows media and what is free on them; lsblk -f all disks"),
    ("vxdisksetup", "a disk needs nothing: vxdg init GROUP DISK ..."),
    ("vxinfo", "cleave status"),
    ("vxmake", "vxassist make"),
    ("vxresize", "vxassist growto VOLUME LENGTH, then resize2fs or xfs_growfs"),
    ("vxsd", "cleave plex replace moves a plex; it has one part only"),
    ("vxsnap", "vxassist snapstart, snapshot, snapback and snapclear"),
    ("vxtrace", "cleave stat, cleave top"),
    ("vxunreloc", "cleave plex replace"),
];

const FREE: &str = "cleave group list shows what is free on each medium";
const INTENT: &str = "every volume has its intent map and its change maps from the beginning";
const PLAIN: &str = "a plex is a plain image, never striped";

/// The refusal of `word`, which is no keyword of `applet`: how it is done here, where that is known.
pub(super) fn keyword<'a>(applet: Applet, word: &str, known: impl IntoIterator<Item = &'a str>) -> Refused {
    match KEYWORDS.iter().find(|(of, keyword, _)| *of == applet && *keyword == word) {
        Some((_, _, way_out)) => otherwise(word, way_out),
        None => unknown("keyword", word, known, &format!("{applet} --help")),
    }
}

/// The refusal of the command `name`.
pub(super) fn command<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Refused {
    match COMMANDS.iter().find(|(command, _)| *command == name) {
        Some((_, way_out)) => otherwise(name, way_out),
        None => unknown("command", name, known, "cleave vx --help"),
    }
}

fn otherwise(word: &str, way_out: &str) -> Refused {
    Refusal::new(Kind::Usage, "keyword.otherwise", clip(word), "is done otherwise here", way_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vxvm_has_and_cleave_has_not_is_told_with_the_way_that_there_is() {
        let refused = keyword(Applet::Vxdg, "upgrade", ["init"]);
        assert_eq!((refused.id.as_str(), refused.kind), ("keyword.otherwise", Kind::Usage));
        assert_eq!(keyword(Applet::Vxassist, "upgrade", ["make"]).id, "keyword.unknown");
        assert_eq!(command("vxdisk", ["vxdg"]).id, "keyword.otherwise");
        assert_eq!(command("vxask", ["vxtask"]).id, "command.unknown");
    }
}
