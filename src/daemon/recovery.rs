//! What interrupted verbs left is settled when the daemon starts: rolled back or completed, with one line in the log for
//! each ([`crate::state::recovery`] has the table). And the media of plexes that were given up are freed.

use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Errno, Refused, Uuid};
use crate::catalog::labels::Found;
use crate::catalog::{StateFiles, settle_remains};
use crate::format::label::LABEL_FILE_BYTES;
use crate::ring::{Fault, Opening};
use crate::state::change;
use crate::state::{Leaving, MediumKind, MediumPath, PlexMedium, Unfinished, Volume, medium_bytes, recovery};

use super::machine::{Machine, OpenMedium};
use super::owner::{GroupHandle, Owner, system};

/// How long a medium that is given up may take to show or lose its label before it is left as it is.
const LABEL_LIMIT: Duration = Duration::from_secs(5);

/// What a look finds at the place of a plex that was given up.
enum Remains<D> {
    /// Nothing of ours is there.
    Nothing,
    /// It bears the plex's label.
    Labelled(D),
    /// A file that nothing was ever written to but, perhaps, part of a label behind its data.
    Blank,
    /// It bears the label of this other plex.
    Foreign(Uuid),
    /// It is there and not known to be ours; the reason as a person is told.
    Doubtful(String),
    /// It cannot be looked at now; the reason as a person is told.
    Unseen(String),
}

/// Tell that `medium` of a plex that was given up stays as it is.
fn left(path: &MediumPath, why: &dyn Display) {
    tracing::warn!(%path, "it carried a plex that was given up, and is left as it is: {why}");
}

/// Tell what was interrupted and what became of it.
pub(super) fn tell(unfinished: &[Unfinished]) {
    for one in unfinished {
        tracing::warn!("{one}");
    }
}

impl<M: Machine> Owner<M> {
    /// What `work` came to, unless it takes longer than `limit`; it goes on then where it runs.
    pub(super) async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = work => Some(outcome),
            () = self.machine.sleep(limit) => None,
        }
    }

    /// Settle what interrupted verbs left of groups that were being made or removed.
    pub(super) async fn settle_directories(self: &Rc<Self>) {
        let unsettled = self.machine.unsettled_directories(&self.root).await.unwrap_or_else(|refused| {
            tracing::error!("{refused}");
            Vec::new()
        });
        for directory in unsettled {
            let files = match self.machine.open_files(&directory).await {
                Ok(files) => files,
                Err(refused) => {
                    tracing::error!("{refused}");
                    continue;
                }
            };
            let settled = self.machine.worker(move || {
                let settled = settle_remains(&files)?;
                if settled.is_some() {
                    files.clear()?;
                }
                Ok::<_, std::io::Error>(settled)
            });
            match settled.await {
                Ok(settled) => tell(settled.as_slice()),
                Err(error) => tracing::error!(
                    "{}",
                    system(directory.display(), "what an interrupted verb left stays", error.into())
                ),
            }
        }
    }

    /// Settle what interrupted verbs left in the records of `group`; `living` are its volumes whose devices live. The
    /// volumes themselves are settled as they come up.
    ///
    /// # Errors
    /// The commit that says so.
    pub(super) async fn settle_records(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        living: &[Uuid],
    ) -> Result<(), Refused> {
        let leaving = group.record().leaving().to_vec();
        let settle = |group: &_, ids: &mut _| change::after_restart(group, living, ids);
        let committed = self.transact_unsettled(group, settle).await?;
        tell(&recovery::at_restart(&committed.before, living));
        self.release_leaving(group, leaving).await?;
        self.make_own_media(group).await;
        Ok(())
    }

    /// Free the media of plexes that were given up and could not be freed then; what cannot be now either stays recorded.
    ///
    /// # Errors
    /// The commit that says so.
    pub(super) async fn release_leaving(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        leaving: Vec<Leaving>,
    ) -> Result<(), Refused> {
        let mut gone = Vec::new();
        for one in leaving {
            self.forget_counts(one.plex).await;
            let freed = self.look_and_release(one.plex, &one.medium, one.length).await;
            self.cut_image(&one.medium, one.length).await;
            if freed {
                gone.push(one.plex);
            }
        }
        if !gone.is_empty() {
            self.transact_quietly(group, |group| change::released(group, &gone)).await?;
        }
        Ok(())
    }

    /// Remove the maps that no record of `group` names: their verbs were interrupted before or after their commits.
    pub(super) async fn remove_orphans(self: &Rc<Self>, group: &Rc<GroupHandle<M>>) {
        let _turn = group.turn.lock().await;
        let record = (*group.record()).clone();
        let found = self.on_catalog(group, move |catalog| catalog.orphans(&record)).await;
        for name in found.unwrap_or_else(|refused| {
            tracing::error!("{refused}");
            Vec::new()
        }) {
            let path = group.file(&name);
            let place = path.display().to_string();
            match self.machine.remove_durably(&path).await {
                Ok(()) => tell(&[Unfinished::Orphan { place }]),
                Err(error) => tracing::warn!(path = place, %error, "a state file cannot be removed"),
            }
        }
    }

    /// Tell what the start or recovery of `volume` settles, once that is durable.
    pub(super) fn tell_start(volume: &Volume, living: bool) {
        tell(&recovery::at_start(volume, living));
    }

    /// The directory of a group's own media was to be made right after its configuration.
    async fn make_own_media(self: &Rc<Self>, group: &Rc<GroupHandle<M>>) {
        let own = group.directory.join("media");
        let named = group.record().media().iter().any(|medium| !medium.block && medium.path.as_path() == own);
        if !named {
            return;
        }
        if self.machine.standing(&own).await.is_ok() {
            return;
        }
        let place = own.display().to_string();
        match self.machine.make_directory(&own).await {
            Ok(()) => tell(&[Unfinished::GroupMedia { place }]),
            Err(refused) => tracing::warn!("{refused}"),
        }
    }

    /// Free the medium of a plex that was given up just now: a file that Cleave made is removed, any other medium loses
    /// Cleave's labels. False when that has to be tried again at the next start.
    pub(super) async fn release(self: &Rc<Self>, plex: Uuid, medium: &PlexMedium, length: u64) -> bool {
        let freed = self.free(plex, medium, length).await;
        self.cut_image(medium, length).await;
        freed
    }

    async fn free(self: &Rc<Self>, plex: Uuid, medium: &PlexMedium, length: u64) -> bool {
        self.labelled.borrow_mut().remove(&plex);
        self.forget_counts(plex).await;
        let open = self.media.borrow_mut().remove(&plex);
        let unlabelled = self.unlabelled.borrow_mut().remove(&plex);
        if self.never_made.borrow_mut().remove(&plex) {
            // Nothing of ours stands there.
            return true;
        }
        let (proven, path) = (self.proven.borrow_mut().remove(&plex), medium.path.as_path());
        if let Some(label_file) = &medium.label_file {
            drop(open);
            return self.release_label_file(plex, label_file).await;
        }
        let known = proven.or_else(|| open.as_ref().map(OpenMedium::identity));
        match (open, medium.kind) {
            (open, MediumKind::Made) => {
                let now = self.machine.identity_at(path).await;
                let same = now.is_some() && now == known;
                match open {
                    Some(open) if same || now.is_none() => {
                        drop(open);
                        self.remove_file(path).await
                    }
                    Some(_) => {
                        left(&medium.path, &"another file stands at its path");
                        true
                    }
                    // A task of ours may still have it open, and it may be what cannot be read that it is given up for.
                    None if same => {
                        let found = self.remains(plex, medium, length, Duration::ZERO).await;
                        match found {
                            Remains::Unseen(_) | Remains::Doubtful(_) => self.remove_file(path).await,
                            found => self.release_found(plex, medium, length, found).await,
                        }
                    }
                    None => self.look_and_release(plex, medium, length).await,
                }
            }
            (Some(open), MediumKind::Foreign | MediumKind::Image | MediumKind::Block) => {
                let erased = unlabelled || self.erase_within_limit(plex, open, length).await;
                erased || medium.kind != MediumKind::Image
            }
            (None, MediumKind::Foreign | MediumKind::Image | MediumKind::Block) => {
                self.look_and_release(plex, medium, length).await
            }
        }
    }

    /// [`Self::release`] of what this process knows nothing about: what stands there may have been replaced.
    async fn look_and_release(self: &Rc<Self>, plex: Uuid, medium: &PlexMedium, length: u64) -> bool {
        if let Some(label_file) = &medium.label_file {
            return self.release_label_file(plex, label_file).await;
        }
        let found = self.remains(plex, medium, length, LABEL_LIMIT).await;
        self.release_found(plex, medium, length, found).await
    }

    /// Remove the file that has the labels of `plex`, which was given up. Its medium has nothing of ours.
    async fn release_label_file(self: &Rc<Self>, plex: Uuid, label_file: &MediumPath) -> bool {
        let path = label_file.as_path();
        let open = match self.machine.open(path, Opening::WRITE.waiting(LABEL_LIMIT)).await {
            Ok(open) => open,
            Err(error) if error.fault == Fault::Missing => return self.remove_file(path).await,
            Err(error) => {
                left(label_file, &Refused::from(error).reason);
                return true;
            }
        };
        let ours = match self.within(LABEL_LIMIT, self.label_on(open.clone(), None)).await {
            Some(Ok(Found::Label(label))) => label.plex == plex,
            // It was made, in part perhaps, and got no label.
            Some(Ok(Found::None)) => open.length() <= LABEL_FILE_BYTES && self.is_blank(&open).await,
            Some(Ok(Found::Damaged(_)) | Err(_)) | None => false,
        };
        drop(open);
        if ours {
            return self.remove_file(path).await;
        }
        left(label_file, &"it does not bear the labels of that plex");
        true
    }

    async fn release_found(
        self: &Rc<Self>,
        plex: Uuid,
        medium: &PlexMedium,
        length: u64,
        found: Remains<M::Medium>,
    ) -> bool {
        match (found, medium.kind) {
            // Perhaps its name was taken away by who died then, and would come back with a power cut.
            (Remains::Nothing | Remains::Labelled(_) | Remains::Blank, MediumKind::Made) => {
                self.remove_file(medium.path.as_path()).await
            }
            (
                Remains::Nothing | Remains::Blank,
                MediumKind::Foreign | MediumKind::Image | MediumKind::Block,
            ) => true,
            (Remains::Labelled(open), MediumKind::Foreign | MediumKind::Image | MediumKind::Block) => {
                // An image is cut off behind them, which has to be tried again where they are still there.
                self.erase_within_limit(plex, open, length).await || medium.kind != MediumKind::Image
            }
            (Remains::Foreign(other), _) => {
                left(&medium.path, &format_args!("it carries plex {other}"));
                true
            }
            (Remains::Doubtful(why), _) => {
                left(&medium.path, &why);
                true
            }
            (Remains::Unseen(why), kind) => {
                left(&medium.path, &why);
                // It takes room as long as it stands there: the next start looks again.
                kind != MediumKind::Made
            }
        }
    }

    async fn remove_file(self: &Rc<Self>, path: &Path) -> bool {
        let removed = self.machine.remove_durably(path).await;
        if let Err(error) = &removed {
            tracing::warn!(path = %path.display(), %error, "the file of a plex cannot be removed; it is tried again at the next start");
        }
        removed.is_ok()
    }

    /// A medium that hangs keeps no transaction waiting: whether they were erased in time.
    async fn erase_within_limit(self: &Rc<Self>, plex: Uuid, open: M::Medium, length: u64) -> bool {
        let shown = open.path().display().to_string();
        let erased = self.within(LABEL_LIMIT, self.erase_labels(plex, open, length)).await.is_some();
        if !erased {
            tracing::warn!(path = shown, "the labels of a plex that was given up are still being erased");
        }
        erased
    }

    /// What stands where `plex` lay; waits up to `patience` for whoever holds it.
    async fn remains(
        self: &Rc<Self>,
        plex: Uuid,
        medium: &PlexMedium,
        length: u64,
        patience: Duration,
    ) -> Remains<M::Medium> {
        let (path, kind) = (medium.path.as_path(), medium.kind);
        // Our own lock would tell nothing.
        if let Some(other) = self.carried_by(path).await {
            return Remains::Foreign(other);
        }
        let open = match self.machine.open(path, Opening::WRITE.waiting(patience)).await {
            Ok(open) => open,
            Err(error) if error.fault == Fault::Missing => return Remains::Nothing,
            Err(error) => return Remains::Unseen(Refused::from(error).reason.clone()),
        };
        let blank = kind == MediumKind::Made && self.machine.holds_no_data(path, length).await;
        if open.length() < medium_bytes(length) {
            return if blank { Remains::Blank } else { Remains::Doubtful("its size differs".to_owned()) };
        }
        let read = self.within(LABEL_LIMIT, self.label_on(open.clone(), Some(length))).await;
        let read = read.unwrap_or(Err(Errno::TIMED_OUT));
        match read {
            Ok(Found::Label(label)) if label.plex == plex => Remains::Labelled(open),
            Ok(Found::Label(label)) => Remains::Foreign(label.plex),
            Ok(Found::None | Found::Damaged(_)) if blank => Remains::Blank,
            Ok(Found::None) if kind != MediumKind::Made => Remains::Nothing,
            Ok(Found::None) => Remains::Doubtful("it bears no label and holds data".to_owned()),
            Ok(Found::Damaged(_)) => Remains::Doubtful("its label cannot be read".to_owned()),
            Err(errno) => Remains::Unseen(format!("its label cannot be read: {errno}")),
        }
    }
}
