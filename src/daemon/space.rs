//! What is free on the file systems below the groups, and what sparse plexes may still take of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::base::units::human_bytes;
use crate::control::row::SpaceRow;
use crate::state::{Group, MediumKind};

use super::machine::{Machine, Usage};
use super::owner::Owner;

/// How long who asks waits for file systems that do not answer; then he is told what was seen last.
const LOOK_LIMIT: Duration = Duration::from_millis(500);

/// The last look.
#[derive(Default)]
pub(super) struct Space {
    seen: RefCell<Vec<SpaceRow>>,
    /// A look that hangs is not followed by another.
    looks: Cell<bool>,
    looked: tokio::sync::Notify,
}

impl<M: Machine> Owner<M> {
    /// What is free on the file systems of state directories and pool media, one row for each; at once where one hangs.
    pub(super) async fn space(self: &Rc<Self>) -> Vec<SpaceRow> {
        let looked = self.space.looked.notified();
        if !self.space.looks.replace(true) {
            let owner = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let seen = owner.look_at_space().await;
                owner.space.seen.replace(seen);
                owner.space.looks.set(false);
                owner.space.looked.notify_waiters();
            });
        }
        tokio::select! {
            () = looked => {}
            () = self.machine.sleep(LOOK_LIMIT) => {}
        }
        self.space.seen.borrow().clone()
    }

    async fn look_at_space(self: &Rc<Self>) -> Vec<SpaceRow> {
        let mut places = vec![(self.root.clone(), Vec::new())];
        for group in self.all_groups() {
            places.extend(sparse_files(&group.record()));
        }
        let mut seen = Vec::new();
        // A path that is not UTF-8 cannot be told.
        for (directory, files) in places.into_iter().filter(|(directory, _)| directory.to_str().is_some()) {
            if let Some(usage) = self.machine.usage(&directory, files).await {
                seen.push((directory, usage));
            }
        }
        by_file_system(seen)
    }
}

/// The directories of a group's pool, each with the sparse files that Cleave made in it.
fn sparse_files(group: &Group) -> Vec<(PathBuf, Vec<PathBuf>)> {
    let media: Vec<_> =
        group.volumes().iter().flat_map(|volume| volume.plexes()).map(|plex| plex.medium()).collect();
    let files_in = |directory: &Path| {
        let sparse = media.iter().filter(|medium| medium.kind == MediumKind::Made && medium.sparse);
        let paths = sparse.map(|medium| medium.path.as_path());
        paths.filter(|path| path.parent() == Some(directory)).map(Path::to_owned).collect()
    };
    let directories = group.media().iter().filter(|medium| !medium.block).map(|medium| medium.path.as_path());
    directories.map(|directory| (directory.to_owned(), files_in(directory))).collect()
}

/// One row a file system, in the order of their first directories.
fn by_file_system(seen: Vec<(PathBuf, Usage)>) -> Vec<SpaceRow> {
    let mut rows: Vec<SpaceRow> = Vec::new();
    let mut places = BTreeMap::new();
    for (directory, usage) in seen {
        let at = *places.entry(usage.device).or_insert(rows.len());
        if at == rows.len() {
            rows.push(SpaceRow {
                directories: Vec::new(),
                free_bytes: usage.free,
                promised_bytes: 0,
                warning: None,
            });
        }
        let row = &mut rows[at];
        row.directories.push(directory);
        row.promised_bytes = row.promised_bytes.saturating_add(usage.promised);
    }
    for row in &mut rows {
        row.warning = warning(row.free_bytes, row.promised_bytes);
    }
    rows
}

/// What to say of a file system of which sparse plexes may take far more than it has.
fn warning(free: u64, promised: u64) -> Option<String> {
    (free < promised / 10).then(|| {
        format!(
            "that is {} too much, and they fail when it is full; make room, or use other media: cleave plex replace",
            human_bytes(promised - free)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(directory: &str, device: u64, free: u64, promised: u64) -> (PathBuf, Usage) {
        (PathBuf::from(directory), Usage { device, free, promised })
    }

    #[test]
    fn what_is_promised_of_one_file_system_adds_up_over_its_directories() {
        let rows = by_file_system(vec![
            seen("/state", 1, 100, 0),
            seen("/other", 2, 50, 20),
            seen("/state/media", 1, 99, 600),
            seen("/third", 1, 99, 401),
        ]);
        let told: Vec<_> =
            rows.iter().map(|row| (row.directories.len(), row.free_bytes, row.promised_bytes)).collect();
        assert_eq!(told, [(3, 100, 1001), (1, 50, 20)]);
        // A tenth of it is there: that is what sparse is for.
        assert_eq!((rows[0].warning.is_some(), rows[1].warning.is_some()), (false, false));
        assert_eq!(warning(100, 1010), Some(
            "that is 910 B too much, and they fail when it is full; make room, or use other media: cleave plex replace".to_owned()
        ));
    }
}
