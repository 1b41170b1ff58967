//! The stable names of a started volume: symbolic links to its node.
//!
//! ```text
//!   /dev/cleave/GROUP/VOL  ─┐
//!   /dev/vx/dsk/GROUP/VOL   ├──► /dev/ublkbN
//!   /dev/vx/rdsk/GROUP/VOL ─┘    (Linux has no separate raw device)
//!   /dev/vx/dsk/VOL, /dev/vx/rdsk/VOL   the same for volumes of the group `default`
//! ```
//!
//! In the short form a group's directory and a volume's link can claim one name. The directory wins: a short link would
//! make every long name of that group unusable, while the volume of group `default` keeps its own long names.
//!
//! Links are replaced by rename, so that no reader finds none or half of one. What stands in the way and is not a link to
//! a ublk node was made by somebody else, and is left alone. All calls block briefly (`/dev` is memory): they run on workers.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::{Kind, Name, Refusal, Refused};

/// The group whose volumes have the short links too.
pub const DEFAULT_GROUP: &str = "default";

/// Directories below `/dev` in which a group has a directory.
const TREES: [&str; 3] = ["cleave", "vx/dsk", "vx/rdsk"];

/// Those of them in which volumes of group `default` stand directly as well.
const SHORT_TREES: [&str; 2] = ["vx/dsk", "vx/rdsk"];

/// How the name of a link that is not yet in place begins: no volume is called so.
const TEMPORARY: &str = ".new-";

/// Between two looks for a node.
const NAP: Duration = Duration::from_millis(2);

/// A link that stands.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Link {
    /// Where it stands.
    pub path: PathBuf,
    /// The group that it is for.
    pub group: Name,
    /// The volume that it is for.
    pub volume: Name,
    /// The number N of `/dev/ublkbN`, to which it leads.
    pub number: u32,
}

/// What [`make`] did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Made {
    /// The links that stand now, the one below `/dev/cleave` first.
    pub links: Vec<PathBuf>,
    /// Why others could not be made: the volume is usable all the same, so these are notes rather than failures.
    pub refused: Vec<Refused>,
}

/// The links that a volume of this name has when nothing stands in the way, the one below `/dev/cleave` first.
#[must_use]
pub fn paths(root: &Path, group: &Name, volume: &Name) -> Vec<PathBuf> {
    let long = TREES.iter().map(|tree| root.join(tree).join(group.as_str()).join(volume.as_str()));
    let short = SHORT_TREES.iter().map(|tree| root.join(tree).join(volume.as_str()));
    long.chain(short.filter(|_| group.as_str() == DEFAULT_GROUP)).collect()
}

/// The node of device `number` below `root`.
#[must_use]
pub fn node(root: &Path, number: u32) -> PathBuf {
    root.join(format!("ublkb{number}"))
}

/// Makes the links of a volume below `root` (normally `/dev`) to node `number`. Old ones are replaced.
#[must_use]
pub fn make(root: &Path, group: &Name, volume: &Name, number: u32) -> Made {
    let target = node(root, number);
    let mut made = Made::default();
    for path in paths(root, group, volume) {
        let short = is_short(root, &path);
        // A group's directory wins over a short link: nothing is missing then.
        if short && path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            continue;
        }
        match place(root, &path, &target, short) {
            Ok(()) => made.links.push(path),
            Err(refused) => made.refused.push(refused),
        }
    }
    made
}

/// Removes the links of a volume below `root`, and its group's directories when they are empty then.
///
/// # Errors
/// `link.io`: the first link that could not be removed; the others were.
pub fn remove(root: &Path, group: &Name, volume: &Name) -> Result<(), Refused> {
    let mut first = Ok(());
    for path in paths(root, group, volume) {
        if let Err(refused) = unlink(root, &path) {
            first = first.and(Err(refused));
        }
    }
    first
}

/// The links of whatever volumes that stand below `root`, in the order of their paths.
///
/// # Errors
/// `link.io`: a directory cannot be read.
pub fn list(root: &Path) -> Result<Vec<Link>, Refused> {
    let default = Name::new(DEFAULT_GROUP).expect("the default group has a good name");
    let mut links = Vec::new();
    for tree in TREES {
        for (name, path) in entries(&root.join(tree))? {
            if path.is_symlink() {
                if SHORT_TREES.contains(&tree) {
                    links.extend(link(&path, &default, name));
                }
            } else if path.is_dir() {
                for (volume, path) in entries(&path)? {
                    links.extend(link(&path, &name, volume));
                }
            }
        }
    }
    links.sort();
    Ok(links)
}

/// Removes every link below `root` that does not belong to one of the living volumes `keep` (group, volume, number): what
/// a dead daemon left behind. Returns what was removed.
///
/// # Errors
/// `link.io`; the sweep ends there.
pub fn sweep(root: &Path, keep: &BTreeSet<(Name, Name, u32)>) -> Result<Vec<PathBuf>, Refused> {
    let mut removed = Vec::new();
    for link in list(root)? {
        if !keep.contains(&(link.group, link.volume, link.number)) {
            unlink(root, &link.path)?;
            removed.push(link.path);
        }
    }
    for tree in TREES {
        let top = root.join(tree);
        let groups = entries(&top)?
            .into_iter()
            .map(|(_, path)| path)
            .filter(|path| !path.is_symlink() && path.is_dir());
        for directory in groups.chain([top]) {
            remove_temporaries(&directory)?;
        }
    }
    Ok(removed)
}

/// Waits until the node of device `number` is there and is that of the living device, for `limit` at most. The kernel
/// makes it (devtmpfs) shortly after the device starts; a node of an earlier device of that number is not taken for it.
///
/// # Errors
/// `device.no-node` when it does not appear in time.
pub fn wait_for_node(number: u32, limit: Duration) -> Result<PathBuf, Refused> {
    let path = node(Path::new("/dev"), number);
    let sysfs = PathBuf::from(format!("/sys/class/block/ublkb{number}/dev"));
    let ready = || {
        let text = fs::read_to_string(&sysfs).unwrap_or_default();
        fs::metadata(&path)
            .is_ok_and(|found| found.file_type().is_block_device() && is_device(found.rdev(), &text))
    };
    if wait_until(ready, limit) {
        return Ok(path);
    }
    Err(Refusal::new(
        Kind::TimedOut,
        "device.no-node",
        path.display(),
        format!("the device node did not appear within {} ms", limit.as_millis()),
        "check that /dev is a devtmpfs: findmnt /dev",
    ))
}

/// Whether `rdev` is the device number that sysfs writes as `MAJOR:MINOR`.
fn is_device(rdev: u64, sysfs: &str) -> bool {
    sysfs.trim() == format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev))
}

/// Whether `ready` becomes true within `limit`; it is asked at least once.
fn wait_until(mut ready: impl FnMut() -> bool, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if ready() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// Whether `path` stands directly in a tree, where groups have their directories.
fn is_short(root: &Path, path: &Path) -> bool {
    SHORT_TREES.iter().any(|tree| path.parent() == Some(&root.join(tree)))
}

/// Puts a link to `target` at `path`, in the place of an old one.
fn place(root: &Path, path: &Path, target: &Path, short: bool) -> Result<(), Refused> {
    let parent = path.parent().unwrap_or(root);
    check_free(path, false)?;
    if !short {
        // A short link where the group's directory must stand: the directory wins.
        if number_of(parent).is_some() {
            fs::remove_file(parent)
                .map_err(|error| failed(parent, "the short link cannot be removed", &error))?;
        } else if !parent.is_dir() {
            // Another volume of the group may have made it since.
            check_free(parent, true)?;
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!("{TEMPORARY}{name}"));
    // The removal of another volume of the group may take the empty directory away between two steps of ours: also between
    // the two by which `make_directories` finds that it exists.
    let mut attempts = 0;
    loop {
        attempts += 1;
        let outcome = make_directories(parent).and_then(|()| {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            symlink(target, &temporary)?;
            fs::rename(&temporary, path)
        });
        match outcome {
            Ok(()) => return Ok(()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)
                    && attempts < 100 =>
            {
                std::thread::yield_now();
            }
            Err(error) => return Err(failed(path, "the link cannot be made", &error)),
        }
    }
}

/// Makes the directory `path` and those above it where they are missing, open to everybody: names are no secret, and who
/// may use a node is a matter of the node's mode.
fn make_directories(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_directories)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
        // Made by us or at this moment by another volume's start; the process's umask has taken rights away.
        Ok(()) | Err(_) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
    }
}

/// Refuses unless a link of ours, or nothing, stands at `path`; or a directory, where one may.
fn check_free(path: &Path, directory: bool) -> Result<(), Refused> {
    match path.symlink_metadata() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(())
        }
        Err(error) => Err(failed(path, "cannot be looked at", &error)),
        Ok(found) if directory && found.is_dir() || number_of(path).is_some() => Ok(()),
        Ok(found) => {
            let what = if found.is_dir() {
                "a directory stands where the volume's link would be"
            } else if found.is_symlink() {
                "a link to something other than a ublk device stands where the volume's link would be"
            } else {
                "something that is not a link stands where the volume's link would be"
            };
            Err(Refusal::new(
                Kind::Exists,
                "link.in-the-way",
                path.display(),
                what,
                "move it away, then start again",
            ))
        }
    }
}

/// Removes a link of ours and the directory of its group if that is empty then. What is not ours is left.
fn unlink(root: &Path, path: &Path) -> Result<(), Refused> {
    if number_of(path).is_none() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(path, "the link cannot be removed", &error));
        }
        Ok(()) | Err(_) => {}
    }
    if let Some(parent) = path.parent()
        && !is_short(root, path)
    {
        // Refused by the kernel while another link stands there.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// What a daemon that died between two steps of [`place`] left in `directory`.
fn remove_temporaries(directory: &Path) -> Result<(), Refused> {
    let Ok(found) = fs::read_dir(directory) else { return Ok(()) };
    for entry in found.flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) && number_of(&entry.path()).is_some() {
            fs::remove_file(entry.path())
                .map_err(|error| failed(&entry.path(), "cannot be removed", &error))?;
        }
    }
    Ok(())
}

/// The number N when `path` is a link to a node `ublkbN`.
fn number_of(path: &Path) -> Option<u32> {
    let target = fs::read_link(path).ok()?;
    let digits = target.file_name()?.to_str()?.strip_prefix("ublkb")?;
    if digits.starts_with('+') { None } else { digits.parse().ok() }
}

fn link(path: &Path, group: &Name, volume: Name) -> Option<Link> {
    number_of(path).map(|number| Link { path: path.to_owned(), group: group.clone(), volume, number })
}

/// What stands in `directory` under a name that a group or volume can have; nothing when the directory is not there.
fn entries(directory: &Path) -> Result<Vec<(Name, PathBuf)>, Refused> {
    let unreadable = |error: &io::Error| failed(directory, "cannot be read", error);
    let found = match fs::read_dir(directory) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(&error)),
    };
    let mut named = Vec::new();
    for entry in found {
        let entry = entry.map_err(|error| unreadable(&error))?;
        if let Some(Ok(name)) = entry.file_name().to_str().map(Name::new) {
            named.push((name, entry.path()));
        }
    }
    Ok(named)
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Refused {
    Refusal::new(Kind::System, "link.io", path.display(), format!("{what}: {error}"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn below(root: &Path) -> Vec<String> {
        let links = list(root).unwrap();
        let text = |link: &Link| {
            let path = link.path.strip_prefix(root).unwrap().display().to_string();
            format!("{path} {}", link.number)
        };
        links.iter().map(text).collect()
    }

    #[test]
    fn a_volume_has_its_links_and_only_the_default_group_the_short_ones() {
        let root = tempfile::tempdir().unwrap();
        let made = make(root.path(), &name("dg"), &name("v"), 3);
        assert_eq!((made.links.len(), made.refused.len()), (3, 0));
        assert_eq!(made.links[0], root.path().join("cleave/dg/v"));
        assert_eq!(fs::read_link(&made.links[2]).unwrap(), root.path().join("ublkb3"));
        let made = make(root.path(), &name("default"), &name("w"), 4);
        assert_eq!(made.links, paths(root.path(), &name("default"), &name("w")));
        assert_eq!(
            below(root.path()),
            [
                "cleave/default/w 4",
                "cleave/dg/v 3",
                "vx/dsk/default/w 4",
                "vx/dsk/dg/v 3",
                "vx/dsk/w 4",
                "vx/rdsk/default/w 4",
                "vx/rdsk/dg/v 3",
                "vx/rdsk/w 4",
            ]
        );
        remove(root.path(), &name("default"), &name("w")).unwrap();
        assert_eq!(below(root.path()), ["cleave/dg/v 3", "vx/dsk/dg/v 3", "vx/rdsk/dg/v 3"]);
        assert!(!root.path().join("cleave/default").exists(), "an empty group directory stays behind");
        remove(root.path(), &name("default"), &name("w")).unwrap();
    }

    #[test]
    fn an_old_link_is_replaced_and_never_missing_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        let path = make(root.path(), &name("dg"), &name("v"), 0).links[0].clone();
        let seen = std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                let mut missing = 0;
                while fs::read_link(&path).unwrap_or_default().file_name() != Some("ublkb199".as_ref()) {
                    missing += usize::from(path.symlink_metadata().is_err());
                }
                missing
            });
            for number in 1..200 {
                assert!(make(root.path(), &name("dg"), &name("v"), number).refused.is_empty());
            }
            looker.join().unwrap()
        });
        assert_eq!(seen, 0);
    }

    #[test]
    fn what_somebody_else_made_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("vx/dsk/dg/v")).unwrap();
        fs::create_dir_all(at("vx/rdsk/dg")).unwrap();
        fs::write(at("vx/rdsk/dg/v"), "mine").unwrap();
        fs::create_dir_all(at("cleave/dg")).unwrap();
        symlink("/dev/sda", at("cleave/dg/v")).unwrap();
        let made = make(root.path(), &name("dg"), &name("v"), 1);
        assert_eq!(made.links, Vec::<PathBuf>::new());
        let refused: Vec<_> = made.refused.iter().map(ToString::to_string).collect();
        assert_eq!(refused.len(), 3);
        assert!(refused[0].ends_with(
            "cleave/dg/v: a link to something other than a ublk device stands where the volume's link would be; \
             move it away, then start again"
        ));
        assert!(made.refused.iter().all(|refused| refused.id == "link.in-the-way"));
        remove(root.path(), &name("dg"), &name("v")).unwrap();
        assert_eq!(fs::read(at("vx/rdsk/dg/v")).unwrap(), b"mine");
        assert_eq!(fs::read_link(at("cleave/dg/v")).unwrap(), Path::new("/dev/sda"));
        assert_eq!(list(root.path()).unwrap(), []);

        // A file where the group's directory would be.
        fs::write(at("cleave/other"), "").unwrap();
        let made = make(root.path(), &name("other"), &name("v"), 1);
        assert_eq!((made.links.len(), made.refused.len()), (2, 1));
    }

    #[test]
    fn a_place_for_links_that_cannot_be_read_is_told() {
        let root = tempfile::tempdir().unwrap();
        symlink(root.path().join("cleave"), root.path().join("cleave")).unwrap();
        for refused in [list(root.path()).unwrap_err(), sweep(root.path(), &BTreeSet::new()).unwrap_err()] {
            assert_eq!((refused.id.as_str(), refused.kind), ("link.io", Kind::System));
            assert_eq!(refused.object, root.path().join("cleave").display().to_string());
        }
    }

    #[test]
    fn a_group_directory_wins_over_a_short_link() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(make(root.path(), &name("default"), &name("data"), 1).links.len(), 5);
        // The group `data` comes later: the short link goes.
        let made = make(root.path(), &name("data"), &name("v"), 2);
        assert_eq!((made.links.len(), made.refused.len()), (3, 0));
        assert!(root.path().join("vx/dsk/data").is_dir());
        // While it has a started volume, the short link is left out, without a complaint.
        let made = make(root.path(), &name("default"), &name("data"), 1);
        assert_eq!((made.links.len(), made.refused.len()), (3, 0));
        remove(root.path(), &name("default"), &name("data")).unwrap();
        assert_eq!(below(root.path()), ["cleave/data/v 2", "vx/dsk/data/v 2", "vx/rdsk/data/v 2"]);
        remove(root.path(), &name("data"), &name("v")).unwrap();
        assert_eq!(make(root.path(), &name("default"), &name("data"), 1).links.len(), 5);
    }

    #[test]
    fn a_sweep_leaves_the_links_of_living_volumes_only() {
        let root = tempfile::tempdir().unwrap();
        for (group, volume, number) in
            [("dg", "v", 1), ("dg", "gone", 2), ("default", "w", 3), ("old", "x", 4)]
        {
            assert!(make(root.path(), &name(group), &name(volume), number).refused.is_empty());
        }
        symlink(root.path().join("ublkb1"), root.path().join("vx/dsk/dg/.new-v")).unwrap();
        fs::write(root.path().join("vx/dsk/dg/notes"), "").unwrap();
        // `w` lives, but under another number.
        let keep = BTreeSet::from([(name("dg"), name("v"), 1), (name("default"), name("w"), 7)]);
        let removed = sweep(root.path(), &keep).unwrap();
        assert_eq!(removed.len(), 3 + 5 + 3);
        assert_eq!(below(root.path()), ["cleave/dg/v 1", "vx/dsk/dg/v 1", "vx/rdsk/dg/v 1"]);
        assert!(!root.path().join("cleave/old").exists());
        assert!(root.path().join("vx/dsk/dg/.new-v").symlink_metadata().is_err());
        assert!(root.path().join("vx/dsk/dg/notes").exists());
        assert_eq!(sweep(root.path(), &keep).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(sweep(&root.path().join("nowhere"), &keep).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn volumes_of_one_group_come_and_go_at_once() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for worker in 0..4u32 {
                let root = root.path();
                scope.spawn(move || {
                    let volume = name(&format!("v{worker}"));
                    for _ in 0..50 {
                        assert_eq!(make(root, &name("dg"), &volume, worker).refused, []);
                        remove(root, &name("dg"), &volume).unwrap();
                    }
                });
            }
        });
        assert_eq!(list(root.path()).unwrap(), []);
    }

    #[test]
    fn a_node_is_waited_for_and_not_for_ever() {
        let mut looks = 0;
        let third = || {
            looks += 1;
            looks == 3
        };
        assert!(wait_until(third, Duration::from_secs(10)));
        let began = Instant::now();
        let refused = wait_for_node(999_999, Duration::from_millis(20)).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.object.as_str()), ("device.no-node", "/dev/ublkb999999"));
        assert!(began.elapsed() < Duration::from_secs(5));
        let rdev = rustix::fs::makedev(259, 7);
        assert!(is_device(rdev, "259:7\n"));
        assert!(!is_device(rdev, "259:17\n") && !is_device(rdev, ""));
    }
}
