//! Directories and files that lose at a power cut what may be lost: names and texts that nobody made durable, each in any
//! combination; and whose media are disks of the simulator.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cleave::base::{Errno, Kind, Refusal, Refused};
use cleave::catalog::StateFiles;
use cleave::device::Geometry;
use cleave::sim::{Rng, SimDisk, World};

use crate::machine::Crash;

thread_local! {
    /// Changes of files until the process ends in the middle of one; none when nobody wants that.
    static CHANGES_LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// End the process at the change of a file that follows `after` others.
pub fn crash_at_change(after: Option<u64>) {
    CHANGES_LEFT.set(after);
}

/// What was asked of the disk below the directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Well,
    Full,
    ReadOnly,
    Failing,
}

#[derive(Clone)]
enum Content {
    Text { bytes: Vec<u8>, durable: Vec<u8> },
    Medium(SimDisk),
}

/// A change of names that is not durable.
#[derive(Clone)]
enum Change {
    Set(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

impl Change {
    /// What it names.
    const fn file(&self) -> Option<u64> {
        match self {
            Self::Set(_, file) | Self::Rename(_, _, file) => Some(*file),
            Self::Remove(_) => None,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(name, file) => _ = names.insert(name.clone(), *file),
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Remove(name) => _ = names.remove(name),
        }
    }
}

#[derive(Default)]
struct Directory {
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    changes: Vec<Change>,
    lock: Weak<()>,
}

impl Directory {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.names.clone();
        self.changes.clear();
    }

    fn power_cut(&mut self, dice: &mut Rng) {
        let mut kept = dice.below(self.changes.len() as u64 + 1);
        let how = dice.below(4);
        for change in std::mem::take(&mut self.changes) {
            let keep = match how {
                0 => true,
                1 => dice.coin(),
                _ => kept > 0,
            };
            kept = kept.saturating_sub(1);
            if keep {
                change.apply(&mut self.durable);
            }
        }
        self.names = self.durable.clone();
    }
}

struct Inner {
    directories: BTreeMap<PathBuf, Directory>,
    files: BTreeMap<u64, Content>,
    locks: BTreeMap<u64, Weak<()>>,
    next: u64,
    mood: Mood,
}

/// All files there are; clones are the same.
#[derive(Clone)]
pub struct Tree(Arc<Mutex<Inner>>);

fn split(path: &Path) -> (PathBuf, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (path.parent().unwrap_or(Path::new("/")).to_owned(), name)
}

impl Tree {
    pub fn new() -> Self {
        let inner = Inner {
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
            locks: BTreeMap::new(),
            next: 1,
            mood: Mood::Well,
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change is about to be made: the process may end here, or the disk refuse it.
    fn about_to_change(&self) -> Result<(), Errno> {
        if let Some(left) = CHANGES_LEFT.get() {
            CHANGES_LEFT.set(left.checked_sub(1));
            if left == 0 {
                std::panic::resume_unwind(Box::new(Crash));
            }
        }
        match self.inner().mood {
            Mood::Well => Ok(()),
            Mood::Full => Err(Errno::NO_SPACE),
            Mood::ReadOnly => Err(Errno::READ_ONLY),
            Mood::Failing => Err(Errno::IO),
        }
    }

    pub fn set_mood(&self, mood: Mood) {
        self.inner().mood = mood;
    }

    pub fn mood(&self) -> Mood {
        self.inner().mood
    }

    pub fn make_directory(&self, path: &Path) {
        self.inner().directories.entry(path.to_owned()).or_default();
    }

    /// A directory is lost with all that is in it.
    pub fn forget_directory(&self, path: &Path) {
        self.inner().directories.remove(path);
    }

    pub fn is_directory(&self, path: &Path) -> bool {
        self.inner().directories.contains_key(path)
    }

    /// Directories below `root` that hold anything called `configuration...`.
    pub fn groups(&self, root: &Path) -> Vec<PathBuf> {
        let inner = self.inner();
        let holds = |directory: &Directory| {
            directory
                .names
                .keys()
                .any(|name| name.starts_with("configuration") && name != "configuration.new")
        };
        inner
            .directories
            .iter()
            .filter(|(path, directory)| path.parent() == Some(root) && holds(directory))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Directories below `root` that hold no configuration and perhaps what is left of one.
    pub fn unsettled(&self, root: &Path) -> Vec<PathBuf> {
        let groups = self.groups(root);
        let inner = self.inner();
        let left = |path: &&PathBuf| path.parent() == Some(root) && !groups.contains(*path);
        inner.directories.keys().filter(left).cloned().collect()
    }

    pub fn names(&self, directory: &Path) -> Vec<String> {
        self.inner()
            .directories
            .get(directory)
            .map(|found| found.names.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The number of the file at `path`.
    pub fn file_at(&self, path: &Path) -> Option<u64> {
        let (directory, name) = split(path);
        self.inner().directories.get(&directory)?.names.get(&name).copied()
    }

    /// The disk at `path`.
    pub fn disk(&self, path: &Path) -> Option<SimDisk> {
        let file = self.file_at(path)?;
        match self.inner().files.get(&file)? {
            Content::Medium(disk) => Some(disk.clone()),
            Content::Text { .. } => None,
        }
    }

    pub fn disks(&self) -> Vec<SimDisk> {
        let disk = |content: &Content| match content {
            Content::Medium(disk) => Some(disk.clone()),
            Content::Text { .. } => None,
        };
        self.inner().files.values().filter_map(disk).collect()
    }

    /// Take the lock of a file, unless somebody living or dead has it.
    pub fn lock(&self, file: u64) -> Option<Arc<()>> {
        let mut inner = self.inner();
        if inner.locks.get(&file).is_some_and(|lock| lock.strong_count() > 0) {
            return None;
        }
        if let Some(Content::Medium(disk)) = inner.files.get(&file)
            && disk.abandoned() > 0
        {
            return None;
        }
        let lock = Arc::new(());
        inner.locks.insert(file, Arc::downgrade(&lock));
        Some(lock)
    }

    /// Give `disk` a name that is not durable yet.
    pub fn create(&self, path: &Path, disk: SimDisk) -> Result<u64, Errno> {
        self.about_to_change()?;
        let (directory, name) = split(path);
        let mut inner = self.inner();
        let file = inner.next;
        inner.next += 1;
        let found = inner.directories.get_mut(&directory).ok_or(Errno::from_raw(2))?;
        if found.names.contains_key(&name) {
            return Err(Errno::from_raw(17));
        }
        found.change(Change::Set(name, file));
        inner.files.insert(file, Content::Medium(disk));
        Ok(file)
    }

    /// The file at `from` is called `to` from now on, durably, instead of what was called so.
    pub fn rename(&self, from: &Path, to: &Path) {
        let file = self.file_at(from).expect("a file");
        let mut inner = self.inner();
        for (path, change) in [(from, None), (to, Some(file))] {
            let (directory, name) = split(path);
            let found = inner.directories.get_mut(&directory).expect("a directory");
            found.change(
                change.map_or_else(|| Change::Remove(name.clone()), |file| Change::Set(name.clone(), file)),
            );
            found.sync();
        }
    }

    /// Take the name away; whether there was one.
    pub fn unlink(&self, path: &Path) -> Result<bool, Errno> {
        self.about_to_change()?;
        let (directory, name) = split(path);
        let mut inner = self.inner();
        let Some(found) = inner.directories.get_mut(&directory) else { return Ok(false) };
        let there = found.names.contains_key(&name);
        if there {
            found.change(Change::Remove(name));
        }
        Ok(there)
    }

    /// Make the names beside `path` durable.
    pub fn sync_beside(&self, path: &Path) -> Result<(), Errno> {
        self.about_to_change()?;
        let (directory, _) = split(path);
        if let Some(found) = self.inner().directories.get_mut(&directory) {
            found.sync();
        }
        Ok(())
    }

    /// Lock a state directory.
    pub fn open(&self, path: &Path) -> Result<Files, Refused> {
        let mut inner = self.inner();
        let shown = path.display().to_string();
        let refused =
            |id: &'static str, what: &str| Refusal::new(Kind::Busy, id, path.display(), what, "wait for it");
        let found =
            inner.directories.get_mut(path).ok_or_else(|| refused("state.directory", "is not there"))?;
        if found.lock.strong_count() > 0 {
            return Err(refused("state.locked", "another cleaved serves it"));
        }
        let lock = Arc::new(());
        found.lock = Arc::downgrade(&lock);
        drop(inner);
        Ok(Files { tree: self.clone(), path: path.to_owned(), shown, _lock: lock })
    }

    /// Cut the power: names and texts that are not durable may be lost; what has no name any more is gone. Disks are cut by
    /// their own rules.
    pub fn power_cut(&self, dice: &mut Rng) {
        let mut inner = self.inner();
        for directory in inner.directories.values_mut() {
            directory.power_cut(dice);
        }
        for content in inner.files.values_mut() {
            match content {
                Content::Medium(disk) => disk.power_cut(dice),
                Content::Text { bytes, durable } => {
                    if bytes != durable {
                        match dice.below(4) {
                            0 => {}
                            1 => *bytes = durable.clone(),
                            2 => bytes.truncate(dice.index(bytes.len() + 1)),
                            _ => bytes.fill(0),
                        }
                    }
                    *durable = bytes.clone();
                }
            }
        }
        inner.forget_nameless();
    }

    /// The process died: what nobody has open and nothing names is gone.
    pub fn after_death(&self) {
        let mut inner = self.inner();
        for content in inner.files.values() {
            if let Content::Medium(disk) = content {
                disk.abandon();
            }
        }
        inner.locks.clear();
        inner.directories.values_mut().for_each(|directory| directory.lock = Weak::new());
        inner.forget_nameless();
    }
}

impl Inner {
    fn forget_nameless(&mut self) {
        // A name that was taken away may come back, unless that is durable: also one that was not durable itself.
        let names = |directory: &Directory| -> Vec<u64> {
            let undecided = directory.changes.iter().filter_map(Change::file);
            let certain = directory.names.values().chain(directory.durable.values()).copied();
            certain.chain(undecided).collect()
        };
        let named: std::collections::BTreeSet<u64> = self.directories.values().flat_map(names).collect();
        self.files.retain(|file, _| named.contains(file));
        self.locks.retain(|file, _| named.contains(file));
    }
}

/// A state directory, locked while this lives.
pub struct Files {
    tree: Tree,
    path: PathBuf,
    shown: String,
    _lock: Arc<()>,
}

fn failed(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw())
}

impl Files {
    fn change(&self, change: impl FnOnce(&mut Directory) -> io::Result<()>) -> io::Result<()> {
        self.tree.about_to_change().map_err(failed)?;
        let mut inner = self.tree.inner();
        change(inner.directories.get_mut(&self.path).expect("an open directory is there"))
    }

    fn file(&self, name: &str) -> Option<u64> {
        self.tree.file_at(&self.path.join(name))
    }
}

impl StateFiles for Files {
    fn place(&self) -> &str {
        &self.shown
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.tree.names(&self.path))
    }

    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name) else { return Ok(None) };
        match self.tree.inner().files.get(&file) {
            Some(Content::Text { bytes, .. }) => Ok(Some(bytes[..bytes.len().min(limit)].to_vec())),
            Some(Content::Medium(_)) | None => Err(failed(Errno::INVALID)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.tree.about_to_change().map_err(failed)?;
        let known = self.file(name);
        let mut inner = self.tree.inner();
        let file = known.unwrap_or(inner.next);
        if known.is_none() {
            inner.next += 1;
            inner.files.insert(file, Content::Text { bytes: Vec::new(), durable: Vec::new() });
            let directory = inner.directories.get_mut(&self.path).expect("an open directory is there");
            directory.change(Change::Set(name.to_owned(), file));
        }
        if let Some(Content::Text { bytes: old, .. }) = inner.files.get_mut(&file) {
            *old = bytes.to_vec();
        }
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.tree.about_to_change().map_err(failed)?;
        let Some(file) = self.file(name) else { return Err(failed(Errno::from_raw(2))) };
        if let Some(Content::Text { bytes, durable }) = self.tree.inner().files.get_mut(&file) {
            *durable = bytes.clone();
        }
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let Some(file) = self.file(from) else { return Err(failed(Errno::from_raw(2))) };
        self.change(|directory| {
            directory.change(Change::Set(to.to_owned(), file));
            Ok(())
        })
    }

    fn rename_if_there(&self, from: &str, to: &str) -> io::Result<()> {
        let Some(file) = self.file(from) else { return Ok(()) };
        self.change(|directory| {
            directory.change(Change::Rename(from.to_owned(), to.to_owned(), file));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if self.file(name).is_none() {
            return Ok(());
        }
        self.change(|directory| {
            directory.change(Change::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.change(|directory| {
            directory.sync();
            Ok(())
        })
    }

    fn clear(&self) -> io::Result<()> {
        self.change(|directory| {
            directory.names.clear();
            directory.sync();
            Ok(())
        })
    }
}

/// A name that was never durable and was taken away, which is not durable either, comes back after a power cut: with what it
/// named, though the process died before.
#[test]
fn a_name_that_comes_back_names_what_it_named() {
    let path = Path::new("/pool/m");
    let mut came_back = 0;
    for seed in 0..32 {
        let world = World::new(seed);
        let geometry =
            Geometry { length: 4096, block_size: 512, memory_alignment: 512, discard_zeroes: true };
        let tree = Tree::new();
        tree.make_directory(Path::new("/pool"));
        tree.create(path, world.disk("m", geometry)).unwrap();
        tree.unlink(path).unwrap();
        tree.after_death();
        tree.power_cut(&mut Rng::new(seed));
        assert_eq!(tree.file_at(path).is_some(), tree.disk(path).is_some(), "seed {seed}");
        came_back += u32::from(tree.disk(path).is_some());
    }
    assert!((1..32).contains(&came_back), "{came_back} of 32 came back");
}
