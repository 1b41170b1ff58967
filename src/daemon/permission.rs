//! Who may ask the daemon for what: root for everything, the group `cleave` to look, a named group to change as well.
//!
//! | a peer that is | stands as | may |
//! | --- | --- | --- |
//! | root, or the user whom the daemon runs as | admin | look and change |
//! | of the admin group (`cleaved --admin-group`) | admin | look and change |
//! | of the group `cleave` | reader | look |
//! | anybody else | stranger | nothing: told so before a byte of it is read |
//!
//! A peer is what its process was when it connected, its supplementary groups included: what the kernel keeps with the
//! socket, not what a data base says about the user now. The socket's mode lets only root and the group `cleave` connect,
//! so that the admin group is of use to those who are in both.
//!
//! Groups are looked up once, at start, in `/etc/group` alone: a daemon that serves disks must not wait for a directory
//! server. A group that comes from one is named by its number.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::base::{Kind, Refusal, Refused};
use crate::control::Access;

/// The group that may look, and that the socket belongs to.
pub const READERS: &str = "cleave";

/// Where groups stand.
const GROUPS_FILE: &str = "/etc/group";

/// What the kernel shows for an id that this user name space has no number for: whoever has it is unknown.
const NOBODY: u32 = 65534;

/// What a peer counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// May ask nothing.
    Stranger,
    /// May look.
    Reader,
    /// May look and change.
    Admin,
}

impl Standing {
    /// Whether a request of that access may be asked.
    #[must_use]
    pub const fn may(self, access: Access) -> bool {
        match (self, access) {
            (Self::Admin, Access::Read | Access::Change) | (Self::Reader, Access::Read) => true,
            (Self::Reader, Access::Change) | (Self::Stranger, Access::Read | Access::Change) => false,
        }
    }
}

/// A group of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostGroup {
    /// As it was named.
    pub name: String,
    /// Its number.
    pub id: u32,
}

/// Who may do what.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// Users who may do everything.
    trusted: Vec<u32>,
    readers: Option<HostGroup>,
    admins: Option<HostGroup>,
}

impl Rules {
    /// Rules by which the users `trusted` are admins, and the members of `admins`; those of `readers` are readers.
    #[must_use]
    pub fn new(trusted: &[u32], readers: Option<HostGroup>, admins: Option<HostGroup>) -> Self {
        Self { trusted: trusted.to_owned(), readers, admins }
    }

    /// The rules of this host: root and the user who runs this, the group [`READERS`] if there is one, the group
    /// `admins` if one is named. What is missing is told as a line each; those who are meant by it then may do less.
    #[must_use]
    pub fn of_host(admins: Option<&str>) -> (Self, Vec<String>) {
        let text = fs::read_to_string(GROUPS_FILE).unwrap_or_default();
        let own = rustix::process::geteuid().as_raw();
        Self::from_groups(&text, own, admins)
    }

    fn from_groups(text: &str, own: u32, admins: Option<&str>) -> (Self, Vec<String>) {
        let mut told = Vec::new();
        let mut find = |name: &str, without: &str| match find_group(text, name) {
            Ok(id) => Some(HostGroup { name: name.to_owned(), id }),
            Err(why) => {
                told.push(format!("group {}: {why}: {without}", name.escape_debug()));
                None
            }
        };
        let readers =
            find(READERS, "only root may talk to the daemon; make it with: groupadd --system cleave");
        let admins = admins.and_then(|name| {
            find(name, "only root may change anything; name an existing one with --admin-group")
        });
        let mut trusted = vec![0, own];
        trusted.dedup();
        (Self::new(&trusted, readers, admins), told)
    }

    /// What a process with these ids counts as; `groups` are its own and its supplementary ones.
    #[must_use]
    pub fn standing(&self, user: u32, groups: &[u32]) -> Standing {
        let is_of =
            |group: &Option<HostGroup>| group.as_ref().is_some_and(|group| groups.contains(&group.id));
        if self.trusted.contains(&user) || is_of(&self.admins) {
            Standing::Admin
        } else if is_of(&self.readers) {
            Standing::Reader
        } else {
            Standing::Stranger
        }
    }

    /// What a stranger is told.
    #[must_use]
    pub fn refuse_stranger(&self, user: u32) -> Refused {
        let (reason, way_out) = match &self.readers {
            Some(group) => (
                format!("is neither root nor of the group {}", group.name),
                format!("ask as root, or join the group: usermod -aG {} USER, then log in anew", group.name),
            ),
            None => (
                "may not talk to the daemon: only root may".to_owned(),
                "ask as root, or make the group cleave and start the daemon again".to_owned(),
            ),
        };
        Refusal::new(Kind::Permission, "control.stranger", format!("user {user}"), reason, way_out)
    }

    /// What a reader is told who asks for the changing `verb`.
    #[must_use]
    pub fn refuse_change(&self, user: u32, verb: &str) -> Refused {
        let way_out = match &self.admins {
            Some(group) => format!("ask as root or as a member of the group {}", group.name),
            None => {
                "ask as root, or have an admin group named to the daemon: cleaved --admin-group".to_owned()
            }
        };
        Refusal::new(
            Kind::Permission,
            "control.may-only-look",
            verb,
            format!("user {user} may look and not change"),
            way_out,
        )
    }

    /// Give the socket's directory at `path` to the group of readers, to look into, and to nobody else.
    ///
    /// # Errors
    /// The system call's.
    pub fn set_directory(&self, path: &Path) -> io::Result<()> {
        self.give(path, 0o750, 0o700)
    }

    /// Give the socket at `path` to the group of readers, to connect to, and to nobody else.
    ///
    /// # Errors
    /// The system call's.
    pub fn set_socket(&self, path: &Path) -> io::Result<()> {
        self.give(path, 0o660, 0o600)
    }

    fn give(&self, path: &Path, shared: u32, alone: u32) -> io::Result<()> {
        if let Some(group) = &self.readers {
            // What is of that group already needs no right to be given away.
            if fs::metadata(path)?.gid() != group.id {
                chown(path, None, Some(group.id))?;
            }
        }
        let mode = if self.readers.is_some() { shared } else { alone };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

/// The number of the group called `name` in the text of a group(5) file; a number stands for itself.
fn find_group(text: &str, name: &str) -> Result<u32, &'static str> {
    let named = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1).and_then(|id| id.parse().ok()))
    });
    let id = match named {
        Some(Some(id)) => id,
        Some(None) => return Err("its line in /etc/group has no number"),
        None => name.parse().map_err(|_| "is not in /etc/group")?,
    };
    // Whoever comes out of a user name space without a mapping would be a member.
    if id == NOBODY { Err("stands for everybody unknown") } else { Ok(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\ndisk:x:6:operator\ncleave:x:970:ann,bob\nstorage:x:971:bob\nnogroup:x:65534:\n\
                          torn\nodd:x:many:\n";

    fn group(name: &str, id: u32) -> Option<HostGroup> {
        Some(HostGroup { name: name.to_owned(), id })
    }

    #[test]
    fn the_whole_table_of_who_may_do_what() {
        let both = Rules::new(&[0], group("cleave", 970), group("storage", 971));
        let readers = Rules::new(&[0], group("cleave", 970), None);
        let neither = Rules::new(&[0], None, None);
        let admins = Rules::new(&[0], None, group("storage", 971));
        // Ids of the peer, and what it counts as by each of the rules.
        let (a, r, s) = (Standing::Admin, Standing::Reader, Standing::Stranger);
        for (user, groups, expected) in [
            (0, &[0][..], [a, a, a, a]),
            (0, &[], [a, a, a, a]),
            (1000, &[970], [r, r, s, s]),
            (1000, &[1000, 27, 970], [r, r, s, s]),
            (1000, &[971], [a, s, s, a]),
            (1000, &[1000, 970, 971], [a, r, s, a]),
            (1000, &[1000], [s, s, s, s]),
            (1000, &[], [s, s, s, s]),
            (1000, &[0], [s, s, s, s]),
            (970, &[971 + 1], [s, s, s, s]),
            (NOBODY, &[NOBODY], [s, s, s, s]),
        ] {
            let found = [&both, &readers, &neither, &admins].map(|rules| rules.standing(user, groups));
            assert_eq!(found, expected, "user {user} of {groups:?}");
        }
        for (standing, read, change) in [(a, true, true), (r, true, false), (s, false, false)] {
            assert_eq!((standing.may(Access::Read), standing.may(Access::Change)), (read, change));
        }
    }

    #[test]
    fn groups_are_found_by_name_and_number_and_what_is_missing_is_told() {
        assert_eq!(find_group(GROUPS, "cleave"), Ok(970));
        assert_eq!(find_group(GROUPS, "4711"), Ok(4711));
        for name in ["cleav", "", "ann", "torn", "odd", "nogroup", "65534", "-1", "cleave:x:970"] {
            assert!(find_group(GROUPS, name).is_err(), "{name}");
        }
        let (rules, told) = Rules::from_groups(GROUPS, 0, Some("storage"));
        assert_eq!(rules, Rules::new(&[0], group("cleave", 970), group("storage", 971)));
        assert!(told.is_empty());
        let (rules, told) = Rules::from_groups("root:x:0:\n", 1000, Some("sto\nrage"));
        assert_eq!(rules, Rules::new(&[0, 1000], None, None));
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("cleave") && told[0].contains("only root may talk"), "{told:?}");
        assert!(told[1].contains("sto\\nrage") && told[1].contains("only root may change"), "{told:?}");
    }

    #[test]
    fn refusals_say_who_and_how_else() {
        let rules = Rules::new(&[0], group("cleave", 970), group("storage", 971));
        let stranger = rules.refuse_stranger(1000);
        assert_eq!((stranger.id.as_str(), stranger.kind.exit_code()), ("control.stranger", 67));
        assert!(stranger.to_string().contains("user 1000: is neither root nor of the group cleave"));
        let reader = rules.refuse_change(1000, "make");
        assert_eq!((reader.id.as_str(), reader.kind.exit_code()), ("control.may-only-look", 67));
        assert!(reader.way_out.contains("storage"));
        assert!(Rules::default().refuse_change(1, "make").way_out.contains("--admin-group"));
        assert!(Rules::default().refuse_stranger(1).reason.contains("only root"));
    }

    #[test]
    fn directory_and_socket_are_shared_only_when_there_is_a_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        fs::create_dir(&path).unwrap();
        let own = group("own", fs::metadata(&path).unwrap().gid());
        for (rules, of_directory, of_socket) in
            [(Rules::new(&[0], own, None), 0o750, 0o660), (Rules::new(&[0], None, None), 0o700, 0o600)]
        {
            let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
            rules.set_directory(&path).unwrap();
            assert_eq!(mode(), of_directory);
            rules.set_socket(&path).unwrap();
            assert_eq!(mode(), of_socket);
        }
    }
}
