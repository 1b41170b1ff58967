//! The host has started: so are the volumes that shall be there from then on.
//!
//! Once a run of the host, for a volume that was stopped by hand stays stopped when the daemon is restarted: what says that
//! it was done lies beside the control socket, in `/run`. A volume whose media are all there is started before the daemon
//! calls itself ready; others are waited for, since disks come up in their own time, and started with what there is when the
//! time is over. What cannot be started is an event, and holds up no other.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::base::{Name, Uuid};
use crate::control::What;

use super::events::News;
use super::machine::Machine;
use super::owner::{GroupHandle, Owner};

/// How long media are waited for: as long as mdadm's last-resort timer waits for members of an array.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks for them.
const PAUSE: Duration = Duration::from_millis(500);

/// Volumes that come up beside each other: most of the time of a start is spent waiting for the state directory and the driver.
const BESIDE: usize = 16;

/// The file that says that it was done.
const MARK: &str = "autostarted";

/// The starting of volumes with the host.
pub(super) struct Autostart {
    mark: PathBuf,
    /// One try for each volume: what failed is told, and a person's matter from then on.
    tried: RefCell<BTreeSet<Uuid>>,
}

/// A volume that is to be started.
type Due<M> = (Rc<GroupHandle<M>>, Name, Uuid);

impl Autostart {
    /// It is to be done by the daemon whose control socket stands at `socket`, unless it was in this run of the host.
    pub(super) fn due(socket: &Path) -> Option<Rc<Self>> {
        let mark = socket.with_file_name(MARK);
        (!mark.exists()).then(|| Rc::new(Self { mark, tried: RefCell::default() }))
    }

    /// Start every volume that shall be started with the host and whose media are all there; the rest goes on beside the
    /// caller.
    pub(super) async fn begin<M: Machine>(self: Rc<Self>, owner: &Rc<Owner<M>>) {
        self.start_those_with_media(owner).await;
        let owner = Rc::clone(owner);
        let machine = owner.machine.clone();
        machine.spawn(async move { self.go_on(&owner).await });
    }

    async fn go_on<M: Machine>(&self, owner: &Rc<Owner<M>>) {
        let until = owner.machine.now().after(PATIENCE);
        // What a group holds that cannot be read yet is not known either.
        while owner.machine.now() < until && (!self.volumes(owner).is_empty() || !owner.waiting.is_empty()) {
            owner.machine.sleep(PAUSE).await;
            self.start_those_with_media(owner).await;
        }
        self.start_each(owner, self.volumes(owner)).await;
        // Without the mark the next daemon of this run looks again, and finds most volumes started.
        if let Err(error) = std::fs::write(&self.mark, "") {
            tracing::warn!("{}: cannot be written: {error}", self.mark.display());
        }
    }

    /// The volumes that shall be started, are not, and were not tried.
    fn volumes<M: Machine>(&self, owner: &Rc<Owner<M>>) -> Vec<Due<M>> {
        let mut due = Vec::new();
        for group in owner.all_groups().into_iter().filter(|group| group.is_settled().is_ok()) {
            for volume in group.record().volumes() {
                let wanted = volume.settings().autostart && !volume.state().is_started();
                if wanted && !self.tried.borrow().contains(&volume.uuid()) {
                    due.push((Rc::clone(&group), volume.name().clone(), volume.uuid()));
                }
            }
        }
        due
    }

    async fn start_those_with_media<M: Machine>(&self, owner: &Rc<Owner<M>>) {
        let mut ready = Vec::new();
        for due in self.volumes(owner) {
            if has_all_media(owner, &due).await {
                ready.push(due);
            }
        }
        self.start_each(owner, ready).await;
    }

    async fn start_each<M: Machine>(&self, owner: &Rc<Owner<M>>, volumes: Vec<Due<M>>) {
        let starts = volumes.into_iter().map(|(group, name, uuid)| async move {
            self.tried.borrow_mut().insert(uuid);
            let started = owner.start_volume(&group, &name, None).await;
            // Where it runs all the same, somebody was faster, by hand.
            if let Err(refused) = started
                && owner.live(uuid).is_none()
            {
                let news = News::refused(What::VolumeNotStarted, &refused);
                owner.events.raise(owner.news_about(news, uuid, None));
            }
        });
        stream::iter(starts).buffer_unordered(BESIDE).collect::<()>().await;
    }
}

async fn has_all_media<M: Machine>(owner: &Rc<Owner<M>>, (group, name, _): &Due<M>) -> bool {
    let record = group.record();
    let Ok(volume) = record.volume(name.as_str()) else { return false };
    for plex in volume.plexes() {
        if owner.machine.standing(plex.medium().path.as_path()).await.is_err() {
            return false;
        }
    }
    true
}
