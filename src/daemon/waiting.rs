//! Groups that could not be taken into care when the daemon started, because their state directories could not be read or
//! written: who asks is told why, their devices wait, and they are tried again until it works.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Kind, Refusal, Refused};
use crate::catalog::Catalog;
use crate::control::What;
use crate::state::Unfinished;

use super::events::News;
use super::machine::Machine;
use super::owner::{GroupHandle, Owner};
use super::takeover::take_over;

/// Between two tries: whoever has mended a state directory need not do anything more.
const PAUSE: Duration = Duration::from_secs(2);

/// Why a group waits.
struct Reason {
    /// A line for people.
    line: String,
    /// Whether it may pass without a person's hand on the daemon.
    may_pass: bool,
}

/// The groups that wait, by their state directories.
#[derive(Default)]
pub struct WaitingGroups(RefCell<BTreeMap<PathBuf, Reason>>);

impl WaitingGroups {
    /// A line for each of them.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().values().map(|reason| reason.line.clone()).collect()
    }

    /// Note that the group at `directory` waits because of `refused`; the line that says so, and whether it is a new one.
    pub(super) fn note(&self, directory: &Path, refused: &Refused) -> (String, bool) {
        let may_pass = matches!(refused.kind, Kind::System | Kind::NoSpace | Kind::Io);
        let line = match may_pass {
            true => format!("{refused}: that is tried every {} s", PAUSE.as_secs()),
            false => refused.to_string(),
        };
        let reason = Reason { line: line.clone(), may_pass };
        let before = self.0.borrow_mut().insert(directory.to_owned(), reason);
        let is_new = before.is_none_or(|before| before.line != line);
        (line, is_new)
    }

    /// The group at `directory` waits no longer.
    pub(super) fn settled(&self, directory: &Path) {
        self.0.borrow_mut().remove(directory);
    }

    /// Whether every group was taken into care.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    fn directories(&self) -> Vec<PathBuf> {
        self.0.borrow().keys().cloned().collect()
    }

    fn to_try(&self) -> Vec<PathBuf> {
        let all = self.0.borrow();
        all.iter().filter(|(_, reason)| reason.may_pass).map(|(directory, _)| directory.clone()).collect()
    }
}

/// Why nothing of a group is changed that waits for its state directory.
#[must_use]
pub(super) fn group_waits(group: &str, line: &str) -> Refused {
    Refusal::new(
        Kind::System,
        "group.waits",
        group,
        format!("its volumes wait: {line}"),
        "try again after that",
    )
}

impl<M: Machine> Owner<M> {
    /// Read the configuration in `directory`; its volumes are not looked at yet.
    ///
    /// # Errors
    /// `state.directory`, `state.locked`, `group.two-heads`, `group.newer-format`, `group.damaged`.
    pub(super) async fn load_group(self: &Rc<Self>, directory: &Path) -> Result<Rc<GroupHandle<M>>, Refused> {
        let files = self.machine.open_files(directory).await?;
        let (catalog, loaded) = self.machine.worker(move || Catalog::open_on(files)).await?;
        for warning in &loaded.warnings {
            self.events.raise(News::new(What::GroupRepaired, warning).of_group(loaded.group.name()));
        }
        tracing::info!(group = %loaded.group.name(), generation = %loaded.generation, "group loaded");
        if let Some(generation) = loaded.interrupted {
            let group = loaded.group.name().clone();
            super::recovery::tell(&[Unfinished::Commit { group, generation }]);
        }
        let group = self.adopt(directory, catalog, loaded.group, loaded.generation.0);
        group.set_waiting(Some("they are being taken over".to_owned()));
        Ok(group)
    }

    /// Whether there are groups of which nothing is known but that they cannot be read.
    pub(super) fn has_unread_groups(&self) -> bool {
        let known: Vec<_> = self.all_groups().iter().map(|group| group.directory.clone()).collect();
        self.waiting.directories().iter().any(|directory| !known.contains(directory))
    }

    /// Try the groups that wait again and again, until none does that may be helped by it.
    pub(super) async fn keep_trying(self: Rc<Self>) {
        loop {
            let directories = self.waiting.to_try();
            if directories.is_empty() {
                return;
            }
            self.machine.sleep(PAUSE).await;
            for directory in directories {
                let known = self.all_groups().into_iter().find(|group| group.directory == directory);
                let group = match known {
                    Some(group) => group,
                    None => match self.load_group(&directory).await {
                        Ok(group) => group,
                        Err(refused) => {
                            self.waiting.note(&directory, &refused);
                            continue;
                        }
                    },
                };
                take_over(&self, vec![group]).await;
            }
            self.remove_strays().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Name;
    use crate::daemon::offline::with_owner;
    use crate::state::{Ids, change};

    #[test]
    fn a_group_that_cannot_be_read_waits_and_is_taken_in_once_it_can() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("g");
        let group = change::create_group("g", &[], &mut Ids::from_seed([1; 32])).unwrap();
        drop(Catalog::create(&directory, &group).unwrap());
        // What the head is compared with cannot be read.
        let obstacle = directory.join("configuration.new");
        std::fs::create_dir(&obstacle).unwrap();

        let name = Name::new("g").unwrap();
        with_owner(root.path(), async |owner| {
            assert_eq!(owner.group(&name).err().unwrap().id, "group.unknown");
            let lines = owner.waiting.lines();
            let told =
                lines.len() == 1 && lines[0].contains("Is a directory") && lines[0].contains("every 2 s");
            assert!(told, "{lines:?}");
            std::fs::remove_dir(&obstacle).unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(30);
            while !owner.waiting.is_empty() {
                assert!(std::time::Instant::now() < deadline, "{:?}", owner.waiting.lines());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let group = owner.group(&name).unwrap();
            assert!(group.is_settled().is_ok() && group.generation() > 1, "what was found is recorded");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let waiting = WaitingGroups::default();
        let refused = |kind, reason: &str| Refusal::new(kind, "x", "/s/g", reason, "see to it");
        let (line, is_new) = waiting.note(Path::new("/s/g"), &refused(Kind::System, "is full"));
        assert_eq!((line.as_str(), is_new), ("/s/g: is full; see to it: that is tried every 2 s", true));
        assert!(!waiting.note(Path::new("/s/g"), &refused(Kind::System, "is full")).1);
        assert!(waiting.note(Path::new("/s/g"), &refused(Kind::System, "is gone")).1);
        waiting.note(Path::new("/s/h"), &refused(Kind::Damaged, "is torn"));
        assert_eq!((waiting.to_try(), waiting.lines().len()), (vec![PathBuf::from("/s/g")], 2));
        waiting.settled(Path::new("/s/g"));
        assert!(waiting.to_try().is_empty() && !waiting.is_empty());
    }
}
