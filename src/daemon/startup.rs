//! The daemon's beginning and end: one daemon only, groups loaded, living devices taken over, pleas heard, signals obeyed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::base::{Errno, FaultPoint, Kind, Refusal, Refused, Uuid};
use crate::control::What;
use crate::export::ublk;
use crate::ring::RingThread;
use crate::state::change::{self, Loss};
use crate::state::{Group, Unfinished};
use crate::volume::{Loss as Lost, Recorded};

use super::autostart::Autostart;
use super::events::News;
use super::events::hook::Hook;
use super::keepers::Plea;
use super::machine::Machine;
use super::owner::{Owner, system};
use super::permission::Rules;
use super::plex_faults::PlexFault;
use super::takeover::take_over;
use super::this_host::{self, ThisHost};
use super::{notify, process, server};

/// Volumes that are stopped at a time when the daemon ends.
const STOPPED_AT_A_TIME: usize = 16;

/// Entries of the rings that keepers and mover submit to.
pub(super) const RING_ENTRIES: u32 = 256;

/// How long a killed daemon may take to end: as long as its last operation.
const DYING_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at a daemon that is dying.
const DYING_POLL: Duration = Duration::from_millis(20);

/// Where the daemon lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the groups' state directories.
    pub state: PathBuf,
    /// The control socket; its directory holds the daemon's lock too.
    pub socket: PathBuf,
    /// The group whose members may change what root may change, by name or number.
    pub admin_group: Option<String>,
    /// The command that hears of everything that happens.
    pub hook: Option<PathBuf>,
    /// Whether volumes are started that shall be started with the host.
    pub autostart: bool,
}

/// Ours by name, whoever has made it.
pub(super) const RUN_DIRECTORY: &str = "/run/cleave";

/// The names of nodes and links in `/dev` belong to one daemon of a host, whatever its socket.
pub(super) const HOST_LOCK: &str = "/run/cleave/host.lock";

/// The lock that makes this the only daemon of a socket, or of the host; it holds our process id.
struct Sole {
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    file: File,
    /// The state directory of the daemon that had it before.
    state_before: Option<PathBuf>,
}

impl Sole {
    /// # Errors
    /// Another daemon has it: its pid is named.
    fn acquire(path: &Path, state: &Path) -> Result<Self, Refused> {
        let failed = |error: std::io::Error| system(path.display(), "cannot be opened", error.into());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let deadline = Instant::now() + DYING_LIMIT;
        let mut waits = false;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // Without a number the lock alone says enough.
            let _ = file.rewind().and_then(|()| file.read_to_string(&mut pid));
            let pid = pid.lines().next().unwrap_or_default().trim();
            // The kernel keeps a killed daemon, and its locks, until the last of its operations has ended (ordering rule 20).
            if is_dying(pid) && Instant::now() < deadline {
                if !std::mem::replace(&mut waits, true) {
                    let id = What::FenceWaiting.id();
                    tracing::warn!(
                        id,
                        pid,
                        "waiting for fence: the last operation of a daemon that was killed"
                    );
                }
                std::thread::sleep(DYING_POLL);
                continue;
            }
            return Err(Refusal::new(
                Kind::Busy,
                "daemon.running",
                "cleaved",
                format!("another daemon runs already, pid {}", if pid.is_empty() { "unknown" } else { pid }),
                "use that one, or end it first: cleave daemon stop",
            ));
        }
        let mut before = String::new();
        // Without its words nothing is known of a predecessor.
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut before));
        let state_before = before.lines().nth(1).map(PathBuf::from);
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            // For who looks while no daemon runs.
            writeln!(file, "{}\n{}", std::process::id(), state.display())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { file, state_before })
    }
}

/// Whether the process `pid` has been told to end and cannot yet, from proc_pid_stat(5): its state, and its flag `PF_EXITING`.
fn is_dying(pid: &str) -> bool {
    let Ok(text) = pid
        .parse::<u32>()
        .map_err(drop)
        .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(drop))
    else {
        return false;
    };
    dying(&text)
}

fn dying(stat: &str) -> bool {
    const PF_EXITING: u64 = 4;
    // The command's name may hold anything; what follows its last bracket is numbers.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let flags = words.get(6).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    matches!(words.first(), Some(&("Z" | "X"))) || flags & PF_EXITING != 0
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

fn refuse_others_than_root(user: rustix::process::Uid) -> Result<(), Refused> {
    if user.is_root() {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::Permission,
        "daemon.not-root",
        "cleaved",
        "needs root for ublk and its devices",
        "start it as root",
    ))
}

/// Run the daemon until it is told to end. `ready` is called once it listens.
///
/// # Errors
/// What keeps it from starting; nothing was changed then.
pub fn run(options: &Options, ready: impl FnOnce()) -> Result<(), Refused> {
    refuse_others_than_root(rustix::process::geteuid())?;
    let hook = options.hook.as_deref().map(Hook::start).transpose()?;
    process::protect();
    let (rules, missing) = Rules::of_host(options.admin_group.as_deref());
    missing.iter().for_each(|line| tracing::warn!("{line}"));
    make_socket_directory(options.socket.parent().unwrap_or(Path::new("/")), &rules)?;
    make_socket_directory(Path::new(RUN_DIRECTORY), &rules)?;
    let state = std::path::absolute(&options.state).unwrap_or_else(|_| options.state.clone());
    if let Ok(Some(passed)) = crate::probe::ublk_below(&state) {
        tracing::warn!(
            "{}: the state directory lies on a ublk device ({}): if that is a volume of this daemon, its end leaves both unusable",
            state.display(),
            passed.join(", ")
        );
    }
    let _of_socket = Sole::acquire(&options.socket.with_extension("lock"), &state)?;
    let of_host = Sole::acquire(Path::new(HOST_LOCK), &state)?;
    make_directory(&options.state, 0o700)?;
    // Asked once, early: without ublk nothing can be served, and the reason is told before anything is touched.
    if ublk::features().is_err() {
        load_driver();
        ublk::features().map_err(Refused::from)?;
    }
    let failed = |error: std::io::Error| system("cleaved", "cannot make its threads", error.into());
    let keepers = RingThread::spawn("cleave-keeper", RING_ENTRIES).map_err(failed)?;
    let movers = RingThread::spawn("cleave-mover", RING_ENTRIES).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (owner, heard) = Owner::new(ThisHost, options.state.clone(), keepers.handle(), movers.handle());
    if let Some(hook) = hook {
        owner.events.set_hook(hook);
    }
    let (events, local) = (Rc::clone(&owner.events), tokio::task::LocalSet::new());
    let socket = options.socket.clone();
    let autostart = options.autostart.then(|| Autostart::due(&socket)).flatten();
    local.block_on(&runtime, async move {
        if of_host.state_before == Some(state) {
            this_host::note_same_state();
        }
        let listener = server::listen(&socket, &rules)
            .map_err(|error| system(socket.display(), "cannot be listened on", error.into()))?;
        // Who asks how it is, is told while volumes are taken over; verbs wait for that.
        tokio::task::spawn_local(server::accept(listener, rules, Rc::clone(&owner)));
        let mut told = std::pin::pin!(until_ended(&owner));
        tokio::select! {
            biased;
            booted = owner.boot(heard) => booted?,
            // What is not taken over yet waits for the next daemon, as it does for this one.
            () = &mut told => {
                let _ = fs::remove_file(&socket);
                owner.events.raise(News::new(What::DaemonStopping, "ends before it has come up"));
                return Ok(());
            }
        }
        if let Some(autostart) = autostart {
            autostart.begin(&owner).await;
        }
        ready();
        notify::tell(notify::Word::Ready);
        let (version, pid, serves) =
            (env!("CARGO_PKG_VERSION"), std::process::id(), owner.live.borrow().len());
        let text = format!(
            "cleaved {version} listens on {}, pid {pid}, volumes taken over: {serves}",
            socket.display()
        );
        owner.events.raise(News::new(What::DaemonStarted, text));
        told.await;
        notify::tell(notify::Word::Stopping);
        // No new client; those who wait are told by the closing of their connection.
        let _ = fs::remove_file(&socket);
        owner.stop_idle().await;
        let waiting: Vec<_> = owner.live.borrow().values().map(|live| live.name.to_string()).collect();
        let text = match waiting.is_empty() {
            true => "ends; no volume is left started".to_owned(),
            false => format!("ends; volumes in use wait for the next daemon: {}", waiting.join(", ")),
        };
        owner.events.raise(News::new(What::DaemonStopping, text));
        Ok::<(), Refused>(())
    })?;
    events.finish_hook();
    // What is still served stays recoverable: leaving at once is what a successor expects.
    std::process::exit(0);
}

/// Have the kernel load its ublk driver; whether it could is seen by what is asked of the driver next.
fn load_driver() {
    let loaded = std::process::Command::new("modprobe").arg("ublk_drv").status();
    tracing::info!(outcome = ?loaded.map(|status| status.code()), "modprobe ublk_drv");
}

/// Until the daemon is to end. While another binary is given its place that fails, it is not.
async fn until_ended(owner: &Rc<Owner>) {
    loop {
        until_told(owner).await;
        if !owner.give_place().await {
            return;
        }
    }
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
                    owner.plex_fault(volume, plex, &PlexFault::LastFailed(errno));
                }
                Plea::Hangs { volume, plex } => owner.plex_fault(volume, plex, &PlexFault::Hangs),
                Plea::Answers { volume, plex } => owner.plex_fault(volume, plex, &PlexFault::Answers),
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
        let mut loaded = Vec::new();
        for directory in self.machine.group_directories(&self.root).await? {
            match self.load_group(&directory).await {
                Ok(group) => loaded.push(group),
                // The other groups are served all the same.
                Err(refused) => {
                    self.waiting.note(&directory, &refused);
                    self.events.raise(News::refused(What::GroupNotLoaded, &refused));
                }
            }
        }
        take_over(self, loaded).await;
        self.remove_strays().await;
        self.recovery.has_come_up();
        let owner = Rc::clone(self);
        self.machine.spawn(async move { owner.resume_restores().await });
        self.machine.spawn(Rc::clone(self).keep_trying());
        let owner = Rc::clone(self);
        self.machine.spawn(owner.keep_scrub_schedules());
        Ok(())
    }

    /// Remove the devices of the daemon before this one that no record names and nobody has open: it died between making
    /// them and recording their numbers, or its records are lost. What a configuration may name that was not read is
    /// nobody's to remove.
    pub(super) async fn remove_strays(self: &Rc<Self>) {
        if !self.waiting.is_empty() {
            return;
        }
        let mut known = BTreeSet::new();
        for group in self.all_groups() {
            let record = group.record();
            let running = record.volumes().iter().filter(|volume| volume.state().is_started());
            known.extend(running.map(|volume| ublk::DeviceMark::of(volume.uuid())));
        }
        for number in self.machine.remove_strays(known).await {
            super::recovery::tell(&[Unfinished::Device { number }]);
        }
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
        // A plex that is taken out on purpose is missing from the route before the record says so, and writes wait for that.
        let taken_out = |record: &crate::state::Group| !attached(record);
        if taken_out(&group.record()) {
            return Ok(fate(&group.record()));
        }
        FaultPoint::LossSeen.reached();
        let loss = if errno == Errno::TIMED_OUT { Loss::Slow } else { Loss::Failed };
        let lost = self.transact_unless(&group, taken_out, |group, ids| {
            let change = change::lose_plex(group, plex, loss, heir, ids)?;
            self.events.note_cause(plex, errno);
            Ok(change)
        });
        let lost = lost.await;
        if let Some(live) = self.live(volume) {
            live.abort_jobs(|on| on == plex);
            if matches!(lost, Ok(Some(_))) {
                live.lost.borrow_mut().insert(plex, errno);
            }
        }
        match lost {
            Ok(Some(committed)) => {
                self.survivor_tells(&committed, volume).await;
                FaultPoint::LossRecorded.reached();
                // Its medium is closed, so that it can be looked at and mended.
                self.media.borrow_mut().remove(&plex);
                Ok(fate(&committed.after))
            }
            Ok(None) => Ok(fate(&group.record())),
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
        })?;
        let news = News::new(What::IntentLost, "its intent map cannot be written");
        self.events.raise(self.news_about(news, volume, None));
        Ok(())
    }

    /// Stop every volume that nobody has open; the others stay for a successor.
    pub(super) async fn stop_idle(self: &Rc<Self>) {
        let all: Vec<_> = self.live.borrow().values().cloned().collect();
        // Snapshots were made after their origins and are not needed by them: the order does not matter. The kernel takes its
        // time to remove a device, so several go at a time.
        futures_util::stream::iter(all)
            .for_each_concurrent(STOPPED_AT_A_TIME, |live| async move {
                let holders = self.holders(&live).await;
                if !holders.is_empty() {
                    tracing::info!(volume = %live.name, "stays, it is open: {}", holders.join(", "));
                    return;
                }
                let Ok(group) = self.group(&live.group) else { return };
                if let Err(refused) = self.stop_volume(&group, &live.name).await {
                    tracing::warn!("{refused}");
                }
            })
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_daemon_of_a_socket_and_only_root_may_be_it() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("control.lock");
        let first = Sole::acquire(&lock, directory.path()).unwrap();
        let refused = Sole::acquire(&lock, directory.path()).err().unwrap();
        assert_eq!((refused.id.as_str(), refused.kind), ("daemon.running", Kind::Busy));
        assert!(refused.reason.ends_with(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        assert_eq!(
            Sole::acquire(&lock, directory.path()).unwrap().state_before.as_deref(),
            Some(directory.path())
        );
        let nowhere = Sole::acquire(&directory.path().join("none/control.lock"), directory.path());
        let refused = nowhere.err().unwrap();
        assert_eq!((refused.id.as_str(), refused.kind), ("system.failed", Kind::System));

        assert_eq!(refuse_others_than_root(rustix::process::Uid::ROOT), Ok(()));
        let refused = refuse_others_than_root(rustix::process::Uid::from_raw(65534)).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("daemon.not-root", Kind::Permission));
    }

    #[test]
    fn a_process_that_is_dying_is_told_from_one_that_lives() {
        let stat = |state: &str, flags: u64| {
            format!("71 (odd ) name) {state} 1 71 71 0 -1 {flags} 1000 0 0 0 5 5 0 0 20 0 9 0 100 1 2 3\n")
        };
        for (text, expected) in [
            (stat("S", 4_194_560), false),
            (stat("D", 4_194_560), false),
            (stat("D", 4_194_564), true),
            (stat("Z", 4_194_560), true),
            (String::new(), false),
            ("71 (x)".to_owned(), false),
        ] {
            assert_eq!(dying(&text), expected, "{text}");
        }
        assert!(!super::is_dying(&std::process::id().to_string()) && !super::is_dying(""));
    }
}
