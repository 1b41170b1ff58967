//! Recovery without devices: the volumes of a state directory are brought up as a start would bring them up, made equal
//! and stopped in good order, where there is no ublk: on a rescue system, or on the images that a power cut left.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::base::{Affinity, ByteRange, Kind, Name, Refusal, Refused, Uuid};
use crate::catalog::Directory;
use crate::device::Moment;
use crate::export::ublk::{DataMode, DeviceOptions};
use crate::ring::{Allocation, Identity, Medium, MediumError, Opening, RingHandle, RingThread};
use crate::state::place::Room;
use crate::state::{Noted, PlexState, PoolMedium, VolumeState};
use crate::volume::Volume;

use super::machine::{Living, Machine, Shown, Standing};
use super::owner::{GroupHandle, Owner, system};
use super::startup::RING_ENTRIES;
use super::this_host::ThisHost;
use super::udev::Entry;

/// How often it is looked whether a volume has come to rest.
const REST_POLL: Duration = Duration::from_millis(1);

/// How long a volume may take from the end of its copies to rest.
const REST_LIMIT: Duration = Duration::from_secs(60);

/// A volume that was brought to rest: all its complete plexes are equal now, and it was stopped in good order.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Its group.
    pub group: Name,
    /// Its name.
    pub volume: Name,
    /// Its length, in bytes.
    pub length: u64,
    /// Its plexes, with the states that they had just before the stop.
    pub plexes: Vec<RecoveredPlex>,
    /// For a snapshot volume: where it came from.
    pub snapshot: Option<RecoveredSnapshot>,
}

/// A plex of a volume that was brought to rest.
#[derive(Clone, Debug)]
pub struct RecoveredPlex {
    /// Its name.
    pub name: Name,
    /// The file or disk that it lies on.
    pub path: PathBuf,
    /// Its state before the stop.
    pub state: PlexState,
}

/// What is known of a snapshot volume that was brought to rest.
#[derive(Clone, Debug)]
pub struct RecoveredSnapshot {
    /// The volume that it is a snapshot of.
    pub origin: Name,
    /// Where it may differ from that volume, in order; elsewhere the two are equal.
    pub differs: Vec<ByteRange>,
}

/// Start every volume below the directory `state`, let its plexes become equal, and stop it. No daemon may use that
/// directory at the same time; the locks of its groups see to that.
///
/// # Errors
/// What refuses the start, the copies or the stop of a volume; a group that cannot be loaded is told of in the log and
/// left out.
pub fn recover(state: &Path) -> Result<Vec<Recovered>, Refused> {
    with_owner(state, async |owner| {
        let mut recovered = Vec::new();
        for group in owner.all_groups() {
            let volumes: Vec<_> = group.record().volumes().iter().map(|found| found.name().clone()).collect();
            // All run before the first is looked at: a map between two volumes changes with either of them.
            for volume in &volumes {
                for job in owner.start_volume(&group, volume, None).await? {
                    job.ended().await?;
                }
            }
            for volume in &volumes {
                rest(&owner, &group, volume, REST_LIMIT).await?;
                recovered.push(describe(&owner, &group, volume)?);
            }
            for volume in &volumes {
                owner.stop_volume(&group, volume).await?;
            }
        }
        Ok(recovered)
    })
}

/// Do `work` with an owner of what is below the directory `state`, from its boot on.
///
/// # Errors
/// Those of the boot and of `work`.
pub(super) fn with_owner<T>(
    state: &Path,
    work: impl AsyncFnOnce(Rc<Owner<Deviceless>>) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let failed = |error: io::Error| system("recovery", "cannot make its threads", error.into());
    let keepers = RingThread::spawn("cleave-keeper", RING_ENTRIES).map_err(failed)?;
    let movers = RingThread::spawn("cleave-mover", RING_ENTRIES).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (owner, heard) =
        Owner::new(Deviceless::default(), state.to_owned(), keepers.handle(), movers.handle());
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        // No device lives: what ran was cut off.
        owner.boot(heard).await?;
        work(owner).await
    })
}

/// Wait until the record says that the volume's plexes are equal.
async fn rest(
    owner: &Rc<Owner<Deviceless>>,
    group: &Rc<GroupHandle<Deviceless>>,
    volume: &Name,
    limit: Duration,
) -> Result<(), Refused> {
    let resting = || -> Result<bool, Refused> {
        let record = group.record();
        let found = record.volume(volume.as_str())?;
        let idle = owner.live(found.uuid()).is_none_or(|live| live.jobs.borrow().is_empty());
        Ok(idle && found.state() == VolumeState::Active && found.resync().is_none())
    };
    let deadline = tokio::time::Instant::now() + limit;
    while !resting()? {
        if tokio::time::Instant::now() > deadline {
            return Err(Refusal::new(
                Kind::TimedOut,
                "volume.restless",
                volume,
                "its plexes do not become equal",
                "see the log for the plex that cannot be read or written",
            ));
        }
        tokio::time::sleep(REST_POLL).await;
    }
    Ok(())
}

fn describe(
    owner: &Rc<Owner<Deviceless>>,
    group: &Rc<GroupHandle<Deviceless>>,
    volume: &Name,
) -> Result<Recovered, Refused> {
    let all = group.record();
    let record = all.volume(volume.as_str())?;
    let plexes = record.plexes().iter().map(|plex| RecoveredPlex {
        name: plex.name().clone(),
        path: plex.medium().path.as_path().to_owned(),
        state: plex.state(),
    });
    let ranges = |map: Uuid| -> Vec<ByteRange> {
        let maps = owner.maps.borrow();
        // A map that is not there says that everything may differ.
        maps.get(&map)
            .map_or_else(|| vec![ByteRange::new(0, record.length())], |map| map.dirty_ranges().collect())
    };
    let snapshot = all.link_of(record.uuid()).map(|(origin, link)| {
        let mut differs = ranges(link.origin_map);
        differs.extend(ranges(link.snapshot_map));
        differs.sort_by_key(|range| range.offset);
        RecoveredSnapshot { origin: origin.name().clone(), differs }
    });
    Ok(Recovered {
        group: group.name.clone(),
        volume: volume.clone(),
        length: record.length(),
        plexes: plexes.collect(),
        snapshot,
    })
}

/// This host, but for its devices: there are none, and what is shown is shown to nobody.
#[derive(Clone, Default)]
pub(super) struct Deviceless {
    host: ThisHost,
    shown: Rc<Cell<u32>>,
}

/// A device that is none.
pub(super) struct Hidden(u32);

impl Shown for Hidden {
    fn id(&self) -> u32 {
        self.0
    }

    fn data(&self) -> DataMode {
        DataMode::Copy
    }

    fn queues(&self) -> u16 {
        1
    }
    fn keeps_pages_still(&self) -> bool {
        false
    }

    fn lent(&self) -> u32 {
        0
    }

    fn cut_off(&self) {}
}

impl Machine for Deviceless {
    type Ring = RingHandle;
    type Medium = Medium;
    type Files = Directory;
    type Device = Hidden;
    type Frozen = ();

    fn now(&self) -> Moment {
        self.host.now()
    }

    async fn sleep(&self, span: Duration) {
        self.host.sleep(span).await;
    }

    fn wall(&self) -> SystemTime {
        self.host.wall()
    }

    async fn zero_copy(&self) -> bool {
        false
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.host.spawn(task);
    }

    async fn worker<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.host.worker(work).await
    }

    fn seed(&self) -> Result<[u8; 32], Refused> {
        self.host.seed()
    }

    async fn open(&self, path: &Path, opening: Opening) -> Result<Medium, MediumError> {
        self.host.open(path, opening).await
    }

    async fn create_file(
        &self,
        path: &Path,
        bytes: u64,
        allocation: Allocation,
    ) -> Result<Medium, MediumError> {
        self.host.create_file(path, bytes, allocation).await
    }

    async fn enlarge(&self, medium: &Medium, bytes: u64, allocation: Allocation) -> Result<u64, MediumError> {
        self.host.enlarge(medium, bytes, allocation).await
    }

    async fn shorten(&self, medium: &Medium, bytes: u64) -> Result<(), MediumError> {
        self.host.shorten(medium, bytes).await
    }

    async fn can_resize(&self) -> bool {
        true
    }

    async fn resize(&self, _: u32, _: u64) -> Result<(), Refused> {
        Ok(())
    }

    async fn standing(&self, path: &Path) -> io::Result<Standing> {
        self.host.standing(path).await
    }

    async fn identity_at(&self, path: &Path) -> Option<Identity> {
        self.host.identity_at(path).await
    }

    async fn look(&self, path: &Path) -> Option<Noted> {
        self.host.look(path).await
    }

    async fn room(&self, medium: &PoolMedium) -> Room {
        self.host.room(medium).await
    }

    async fn remove_durably(&self, path: &Path) -> io::Result<()> {
        self.host.remove_durably(path).await
    }

    async fn make_directory(&self, path: &Path) -> Result<(), Refused> {
        self.host.make_directory(path).await
    }

    async fn group_directories(&self, root: &Path) -> Result<Vec<PathBuf>, Refused> {
        self.host.group_directories(root).await
    }

    async fn create_files(&self, path: &Path) -> Result<Directory, Refused> {
        self.host.create_files(path).await
    }

    async fn open_files(&self, path: &Path) -> Result<Directory, Refused> {
        self.host.open_files(path).await
    }

    async fn devices(&self) -> Result<Vec<Living>, Refused> {
        Ok(Vec::new())
    }

    async fn add(&self, options: DeviceOptions, _: Entry, _: Arc<Volume<Medium>>) -> Result<Hidden, Refused> {
        let next = self.shown.get();
        self.shown.set(next + 1);
        Ok(Hidden(options.id.unwrap_or(next)))
    }

    async fn recover(
        &self,
        number: u32,
        _: Duration,
        _: Affinity,
        _: Arc<Volume<Medium>>,
    ) -> Result<Hidden, Refused> {
        Ok(Hidden(number))
    }

    async fn stop(&self, _: Hidden, _: Duration) -> Result<(), Refused> {
        Ok(())
    }

    async fn make_links(&self, _: &Entry, _: u32, _: Duration) -> Result<Vec<Refused>, Refused> {
        Ok(Vec::new())
    }

    async fn remove_links(&self, _: &Name, _: &Name) -> Result<(), Refused> {
        Ok(())
    }

    async fn sweep_links(&self, _: BTreeSet<(Name, Name, u32)>) -> Result<(), Refused> {
        Ok(())
    }

    async fn holders(&self, _: u32) -> Vec<String> {
        Vec::new()
    }

    async fn mounts(&self, _: u32) -> Result<Vec<PathBuf>, Refused> {
        Ok(Vec::new())
    }

    async fn freeze(&self, _: Vec<PathBuf>, _: Duration) -> Result<(), Refused> {
        Ok(())
    }

    async fn thaw(&self, (): ()) -> Result<Duration, Refused> {
        Ok(Duration::ZERO)
    }

    async fn thaw_left_over(&self, _: u32) -> Vec<PathBuf> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{make, name, refused, with_daemon};

    #[test]
    fn a_volume_that_does_not_come_to_rest_is_not_waited_for_without_end() {
        with_daemon(async |owner, _| {
            let group = make(&owner, "v", 1).await;
            let limit = Duration::from_millis(20);
            rest(&owner, &group, &name("v"), limit).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            let waited = rest(&owner, &group, &name("v"), limit).await;
            refused(waited, "volume.restless", Kind::TimedOut);
        });
    }
}
