//! The daemon's beginning and end: one daemon only, groups loaded, living devices taken over, pleas heard, signals obeyed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::base::{Errno, Kind, Refusal, Refused, Uuid};
use crate::catalog::Catalog;
use crate::export::ublk::{self, DeviceState};
use crate::ring::RingThread;
use crate::state::change::{self, Loss};
use crate::state::{Group, Ids, Unfinished};
use crate::volume::{Loss as Lost, Recorded};

use super::bringup::{Face, ending};
use super::happenings::Happening;
use super::keepers::Plea;
use super::machine::Machine;
use super::owner::{GroupHandle, Owner, system};
use super::permission::Rules;
use super::this_host::{self, ThisHost};
use super::{notify, process, server};

/// Entries of the rings that keepers and mover submit to.
pub(super) const RING_ENTRIES: u32 = 256;

/// Where the daemon lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the groups' state directories.
    pub state: PathBuf,
    /// The control socket; its directory holds the daemon's lock too.
    pub socket: PathBuf,
    /// The group whose members may change what root may change, by name or number.
    pub admin_group: Option<String>,
}

/// Ours by name, whoever has made it.
const RUN_DIRECTORY: &str = "/run/cleave";

/// The names of nodes and links in `/dev` belong to one daemon of a host, whatever its socket.
const HOST_LOCK: &str = "/run/cleave/host.lock";

/// The lock that makes this the only daemon of a socket, or of the host; it holds our process id.
struct Sole {
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    file: File,
    /// The process that had it before.
    predecessor: Option<i32>,
}

impl Sole {
    /// # Errors
    /// Another daemon has it: its pid is named.
    fn acquire(path: &Path) -> Result<Self, Refused> {
        let failed = |error: std::io::Error| system(path.display(), "cannot be opened", error.into());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // Without a number the lock alone says enough.
            let _ = file.read_to_string(&mut pid);
            let pid = pid.trim();
            return Err(Refusal::new(
                Kind::Busy,
                "daemon.running",
                "cleaved",
                format!("another daemon runs already, pid {}", if pid.is_empty() { "unknown" } else { pid }),
                "use that one, or end it first: cleave daemon stop",
            ));
        }
        let mut before = String::new();
        // Without a number there is nothing to know a predecessor's devices by.
        let _ = file.read_to_string(&mut before);
        let predecessor = before.trim().parse().ok();
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { file, predecessor })
    }
}

pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), Refused> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| system(path.display(), "cannot be made", error.into()))
}

/// Make what holds a socket, for root and the group that may look. A directory that was there before keeps its owner and
/// mode, unless it is ours by its name.
fn make_socket_directory(path: &Path, rules: &Rules) -> Result<(), Refused> {
    let found = path.is_dir();
    if !found {
        make_directory(path, 0o700)?;
    }
    if !found || path == Path::new(RUN_DIRECTORY) {
        rules
            .set_directory(path)
            .map_err(|error| system(path.display(), "cannot be given its group and mode", error.into()))?;
    }
    Ok(())
}

/// Run the daemon until it is told to end. `ready` is called once it listens.
///
/// # Errors
/// What keeps it from starting; nothing was changed then.
pub fn run(options: &Options, ready: impl FnOnce()) -> Result<(), Refused> {
    if !rustix::process::geteuid().is_root() {
        return Err(Refusal::new(
            Kind::Permission,
            "daemon.not-root",
            "cleaved",
            "needs root for ublk and its devices",
            "start it as root",
        ));
    }
    process::protect();
    let (rules, missing) = Rules::of_host(options.admin_group.as_deref());
    missing.iter().for_each(|line| tracing::warn!("{line}"));
    make_socket_directory(options.socket.parent().unwrap_or(Path::new("/")), &rules)?;
    make_socket_directory(Path::new(RUN_DIRECTORY), &rules)?;
    let _of_socket = Sole::acquire(&options.socket.with_extension("lock"))?;
    let of_host = Sole::acquire(Path::new(HOST_LOCK))?;
    make_directory(&options.state, 0o700)?;
    // Asked once, early: without ublk nothing can be served, and the reason is told before anything is touched.
    if ublk::features().is_err() {
        load_driver();
    }
    ublk::features().map_err(Refused::from)?;
    let failed = |error: std::io::Error| system("cleaved", "cannot make its threads", error.into());
    let keepers = RingThread::spawn("cleave-keeper", RING_ENTRIES).map_err(failed)?;
    let movers = RingThread::spawn("cleave-mover", RING_ENTRIES).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (owner, heard) = Owner::new(ThisHost, options.state.clone(), keepers.handle(), movers.handle());
    let local = tokio::task::LocalSet::new();
    let socket = options.socket.clone();
    local.block_on(&runtime, async move {
        if let Some(pid) = of_host.predecessor {
            this_host::note_predecessor(pid);
        }
        owner.boot(heard).await?;
        let listener = server::listen(&socket, &rules)
            .map_err(|error| system(socket.display(), "cannot be listened on", error.into()))?;
        tokio::task::spawn_local(server::accept(listener, rules, Rc::clone(&owner)));
        ready();
        notify::tell(notify::Word::Ready);
        tracing::info!(pid = std::process::id(), "cleaved listens on {}", socket.display());
        until_told(&owner).await;
        notify::tell(notify::Word::Stopping);
        // No new client; those who wait are told by the closing of their connection.
        let _ = fs::remove_file(&socket);
        owner.stop_idle().await;
        Ok::<(), Refused>(())
    })?;
    // What is still served stays recoverable: leaving at once is what a successor expects.
    std::process::exit(0);
}

/// Have the kernel load its ublk driver; whether it could is seen by what is asked of the driver next.
fn load_driver() {
    let loaded = std::process::Command::new("modprobe").arg("ublk_drv").status();
    tracing::info!(outcome = ?loaded.map(|status| status.code()), "modprobe ublk_drv");
}

async fn until_told(owner: &Rc<Owner>) {
    let (term, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (term, interrupt) {
        (Ok(mut term), Ok(mut interrupt)) => tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
            () = owner.ending.notified() => {}
        },
        _ => owner.ending.notified().await,
    }
}

/// Whether each of them could be read.
async fn load_groups<M: Machine>(owner: &Rc<Owner<M>>) -> Result<bool, Refused> {
    let mut all = true;
    let directories = owner.machine.group_directories(&owner.root).await?;
    for directory in directories {
        let opened = match owner.machine.open_files(&directory).await {
            Ok(files) => owner.machine.worker(move || Catalog::open_on(files)).await,
            Err(refused) => Err(refused),
        };
        match opened {
            Ok((catalog, loaded)) => {
                loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                tracing::info!(group = %loaded.group.name(), generation = %loaded.generation, "group loaded");
                if let Some(generation) = loaded.interrupted {
                    let group = loaded.group.name().clone();
                    super::recovery::tell(&[Unfinished::Commit { group, generation }]);
                }
                owner.adopt(&directory, catalog, loaded.group, loaded.generation.0);
            }
            // The other groups are served all the same.
            Err(refused) => {
                tracing::error!("{refused}");
                all = false;
            }
        }
    }
    Ok(all)
}

/// Take over the devices that a dead daemon left, and record which volumes do not run any more.
async fn take_over<M: Machine>(owner: &Rc<Owner<M>>) {
    let existing = owner.machine.devices().await.unwrap_or_else(|error| {
        tracing::error!("living devices cannot be listed: {error}");
        Vec::new()
    });
    for group in owner.all_groups() {
        let record = group.record();
        let mut living = Vec::new();
        for volume in record.volumes().iter().filter(|volume| volume.state().is_started()) {
            let device = existing.iter().find(|device| {
                Some(device.id) == volume.device()
                    && device.length == volume.length()
                    && matches!(device.state, DeviceState::Quiesced | DeviceState::Live)
            });
            match device {
                Some(device) => living.push((volume.uuid(), device.id)),
                // That is told with what else is settled.
                None => {}
            }
        }
        let uuids: Vec<Uuid> = living.iter().map(|(volume, _)| *volume).collect();
        if let Err(refused) = owner.settle_records(&group, &uuids).await {
            tracing::error!(group = %group.name, "what was found cannot be recorded: {refused}");
            continue;
        }
        owner.remove_orphans(&group).await;
        for (volume, number) in living {
            if let Err(refused) = take_over_one(owner, &group, volume, number).await {
                tracing::error!("device {number} waits: {refused}");
            }
        }
    }
    let live: BTreeSet<_> = owner
        .live
        .borrow()
        .values()
        .filter_map(|live| live.number.get().map(|number| (live.group.clone(), live.name.clone(), number)))
        .collect();
    if let Err(refused) = owner.machine.sweep_links(live).await {
        tracing::warn!("{refused}");
    }
}

/// Remove the devices of the daemon before this one that no record names and nobody has open: it died between making them
/// and recording their numbers.
async fn remove_strays<M: Machine>(owner: &Rc<Owner<M>>) {
    let groups = owner.all_groups();
    let numbers = |group: &Rc<GroupHandle<M>>| {
        group.record().volumes().iter().filter_map(|volume| volume.device()).collect::<Vec<_>>()
    };
    let known: BTreeSet<u32> = groups.iter().flat_map(numbers).collect();
    for number in owner.machine.remove_strays(known).await {
        super::recovery::tell(&[Unfinished::Device { number }]);
    }
}

async fn take_over_one<M: Machine>(
    owner: &Rc<Owner<M>>,
    group: &Rc<GroupHandle<M>>,
    volume: Uuid,
    number: u32,
) -> Result<(), Refused> {
    let record = group.record();
    let before = record.volume_by_id(volume).ok_or_else(|| system(volume, "is gone", Errno::GONE))?;
    let ending = ending(before);
    let recovered = async {
        let media = owner.look_at_media(group, volume, true).await?;
        let change =
            |group: &Group, ids: &mut Ids| change::recover(group, volume, &media, owner.unix_seconds(), ids);
        owner.transact(group, change).await
    };
    let committed = match recovered.await {
        Ok(committed) => committed,
        Err(refused) => {
            owner.close_media(before);
            return Err(refused);
        }
    };
    Owner::<M>::tell_start(before, true);
    owner.run_after_start(group, volume, ending, Face::TakeOver(number), committed).await?;
    tracing::info!(volume = %before.name(), number, "taken over");
    if before.prepared().is_some() {
        // Its thaw writes, so it comes after the device serves again.
        owner.machine.thaw_left_over(number).await;
    }
    Ok(())
}

/// Hear what the keepers ask, each plea as a task of its own: the group's turn orders them.
async fn hear<M: Machine>(owner: Rc<Owner<M>>, mut pleas: mpsc::UnboundedReceiver<Plea>) {
    while let Some(plea) = pleas.recv().await {
        let (owner, machine) = (Rc::clone(&owner), owner.machine.clone());
        machine.spawn(async move {
            match plea {
                Plea::PlexLost { volume, plex, errno, heir, answer } => {
                    // A keeper that does not wait any more has ended.
                    let _ = answer.send(owner.plex_lost(volume, plex, errno, heir).await);
                }
                Plea::IntentLost { volume, answer } => {
                    let _ = answer.send(owner.intent_lost(volume).await);
                }
                Plea::ReadFailed { volume, plex, range, errno } => {
                    owner.mend(volume, plex, range, errno).await;
                }
                Plea::Differs { volume, plex } => owner.even_out(volume, plex),
                Plea::LastPlexFailed { volume, plex, errno } => {
                    owner.happened(volume, plex, &Happening::LastFailed(errno));
                }
                Plea::Hangs { volume, plex } => owner.happened(volume, plex, &Happening::Hangs),
                Plea::Answers { volume, plex } => owner.happened(volume, plex, &Happening::Answers),
            }
        });
    }
}

impl<M: Machine> Owner<M> {
    /// Begin: hear the keepers, load the groups, take over what a dead daemon left.
    ///
    /// # Errors
    /// The state directories cannot be listed.
    pub async fn boot(self: &Rc<Self>, pleas: mpsc::UnboundedReceiver<Plea>) -> Result<(), Refused> {
        self.machine.spawn(hear(Rc::clone(self), pleas));
        self.machine.spawn(super::vigil::keep(Rc::clone(self)));
        self.settle_directories().await;
        let all_loaded = load_groups(self).await?;
        take_over(self).await;
        // What an unread configuration may name is nobody's to remove.
        if all_loaded {
            remove_strays(self).await;
        }
        let owner = Rc::clone(self);
        self.machine.spawn(owner.keep_scrub_schedules());
        Ok(())
    }

    /// Record that `plex` has left the write path of `volume` (ordering rule 3).
    async fn plex_lost(
        self: &Rc<Self>,
        volume: Uuid,
        plex: Uuid,
        errno: Errno,
        heir: Option<Uuid>,
    ) -> Result<Recorded, Errno> {
        let Some(group) = self.group_of(volume) else {
            return Ok(Recorded { loss: Lost::Removed, authority: None });
        };
        let fate = |record: &crate::state::Group| {
            let volume = record.volume_by_id(volume);
            let tracked =
                volume.and_then(|volume| volume.plex_by_id(plex)).is_some_and(|p| p.map().is_some());
            Recorded {
                loss: if tracked { Lost::Tracked } else { Lost::Removed },
                authority: volume.and_then(|volume| volume.resync()).map(|resync| resync.source),
            }
        };
        let attached = |record: &crate::state::Group| {
            record
                .volume_by_id(volume)
                .and_then(|volume| volume.plex_by_id(plex))
                .is_some_and(crate::state::Plex::is_attached)
        };
        let record = group.record();
        if !attached(&record) {
            return Ok(fate(&record));
        }
        let loss = if errno == Errno::TIMED_OUT { Loss::Slow } else { Loss::Failed };
        let lost = self.transact(&group, |group, ids| change::lose_plex(group, plex, loss, heir, ids)).await;
        if let Some(live) = self.live(volume) {
            live.abort_jobs(|on| on == plex);
            live.lost.borrow_mut().insert(plex, errno);
        }
        match lost {
            Ok(committed) => {
                self.happened(volume, plex, &Happening::Lost(errno));
                // Its medium is closed, so that it can be looked at and mended.
                self.media.borrow_mut().remove(&plex);
                Ok(fate(&committed.after))
            }
            // The transaction that this one waited for has taken the plex out, or removed it, by itself: a plex that is
            // taken out on purpose is missing from the route before the record says so, and writes wait for the record.
            Err(_) if !attached(&group.record()) => Ok(fate(&group.record())),
            Err(refused) => {
                tracing::error!(%volume, %plex, "the loss of a plex cannot be recorded: {refused}");
                Err(Errno::IO)
            }
        }
    }

    /// Record that the intent map of `volume` cannot be trusted (ordering rule 18).
    async fn intent_lost(self: &Rc<Self>, volume: Uuid) -> Result<(), Errno> {
        let group = self.group_of(volume).ok_or(Errno::GONE)?;
        let recorded = self.transact(&group, |group, _| change::set_intent_lost(group, volume, true)).await;
        let Err(refused) = recorded else { return Ok(()) };
        // The catalogue lies where the intent map does, and may be as ill: the labels alone say it then.
        tracing::error!(%volume, "the loss of the intent map is recorded on labels alone: {refused}");
        let change = |group: &Group| change::set_intent_lost(group, volume, true);
        self.record_on_labels(&group, volume, change).await.map_err(|refused| {
            tracing::error!(%volume, "the loss of the intent map cannot be recorded: {refused}");
            Errno::IO
        })
    }

    /// Stop every volume that nobody has open; the others stay for a successor.
    pub(super) async fn stop_idle(self: &Rc<Self>) {
        let all: Vec<_> = self.live.borrow().values().cloned().collect();
        // Snapshots were made after their origins and are not needed by them: the order does not matter.
        for live in all {
            let holders = self.holders(&live).await;
            if !holders.is_empty() {
                tracing::info!(volume = %live.name, "stays, it is open: {}", holders.join(", "));
                continue;
            }
            let Ok(group) = self.group(&live.group) else { continue };
            if let Err(refused) = self.stop_volume(&group, &live.name).await {
                tracing::warn!("{refused}");
            }
        }
    }
}
