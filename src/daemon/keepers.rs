//! Keepers of the started volumes, on a ring thread of their own, behind a handle that the owner can hold.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::base::{ByteRange, Errno, Generation, Uuid};
use crate::bitmap::ChangeMap;
use crate::device::Host;
use crate::volume::{Keeper, KeeperOptions, Ledger, MapFile, Recorded, Volume};

use super::machine::{Machine, Ring};
use super::this_host::ThisHost;

/// What the rings of a machine offer to the code on them.
type HostOf<M> = <<M as Machine>::Ring as Ring>::Host;

/// What the data path asks of the owner, who keeps the catalogue; one of each volume's messages at a time.
pub enum Plea {
    /// Record that a plex has left.
    PlexLost {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
        /// Why.
        errno: Errno,
        /// Who is to be believed in its place.
        heir: Option<Uuid>,
        /// What was recorded.
        answer: oneshot::Sender<Result<Recorded, Errno>>,
    },
    /// Record that the intent map cannot be trusted.
    IntentLost {
        /// The volume.
        volume: Uuid,
        /// Whether it was recorded.
        answer: oneshot::Sender<Result<(), Errno>>,
    },
    /// A read failed on one plex and was served by another.
    ReadFailed {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
        /// Where.
        range: ByteRange,
        /// How.
        errno: Errno,
    },
    /// A plex in step may differ where its map says so.
    Differs {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
    },
    /// The last readable plex failed a request.
    LastPlexFailed {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
        /// How.
        errno: Errno,
    },
    /// A plex does not answer.
    Hangs {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
    },
    /// A plex that did not answer has done so.
    Answers {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
    },
}

/// The ledger of one volume: every question goes to the owner.
struct OwnersLedger {
    volume: Uuid,
    pleas: mpsc::UnboundedSender<Plea>,
}

impl OwnersLedger {
    async fn ask<T>(&self, plea: impl FnOnce(oneshot::Sender<Result<T, Errno>>) -> Plea) -> Result<T, Errno> {
        let (answer, outcome) = oneshot::channel();
        // An owner that is gone takes the process with it; until then nothing is recorded.
        self.pleas.send(plea(answer)).map_err(|_| Errno::IO)?;
        outcome.await.unwrap_or(Err(Errno::IO))
    }
}

impl Ledger for OwnersLedger {
    async fn plex_lost(&self, plex: Uuid, errno: Errno, heir: Option<Uuid>) -> Result<Recorded, Errno> {
        let volume = self.volume;
        self.ask(|answer| Plea::PlexLost { volume, plex, errno, heir, answer }).await
    }

    async fn intent_lost(&self) -> Result<(), Errno> {
        let volume = self.volume;
        self.ask(|answer| Plea::IntentLost { volume, answer }).await
    }

    fn read_failed(&self, plex: Uuid, range: ByteRange, errno: Errno) {
        // Told, not asked: see `ask` for an owner that is gone.
        let _ = self.pleas.send(Plea::ReadFailed { volume: self.volume, plex, range, errno });
    }

    fn differs(&self, plex: Uuid) {
        let _ = self.pleas.send(Plea::Differs { volume: self.volume, plex });
    }

    fn last_plex_failed(&self, plex: Uuid, errno: Errno) {
        let _ = self.pleas.send(Plea::LastPlexFailed { volume: self.volume, plex, errno });
    }

    fn plex_hangs(&self, plex: Uuid) {
        let _ = self.pleas.send(Plea::Hangs { volume: self.volume, plex });
    }

    fn plex_answers(&self, plex: Uuid) {
        let _ = self.pleas.send(Plea::Answers { volume: self.volume, plex });
    }
}

/// Who waits for the end of a command.
type Done = oneshot::Sender<Result<(), Errno>>;

enum Command<D> {
    AddMap { map: Arc<ChangeMap>, file: MapFile<D>, done: Done },
    RemoveMap { map: Arc<ChangeMap> },
    Persist { done: Done },
    Grow { length: u64, done: Done },
    Rest { done: Done, until: oneshot::Receiver<()> },
    Flush { done: Done },
    Lose { plex: Uuid, errno: Errno, done: Done },
    Stop { stop: Option<Generation>, done: Done },
}

/// A volume at rest, for as long as this lives.
pub struct Rest {
    #[expect(dead_code, reason = "the other end waits for its drop")]
    until: oneshot::Sender<()>,
}

/// Handle of one volume's keeper.
pub struct KeeperHandle<M: Machine = ThisHost> {
    commands: mpsc::UnboundedSender<Command<M::Medium>>,
}

impl<M: Machine> KeeperHandle<M> {
    /// Start a keeper for `volume` on the thread of `ring`. `intent` and the files of `maps` are the state files of what
    /// `volume` was made with.
    pub fn start(
        ring: &M::Ring,
        volume: Arc<Volume<M::Medium>>,
        intent: MapFile<M::Medium>,
        maps: Vec<(Arc<ChangeMap>, MapFile<M::Medium>)>,
        pleas: mpsc::UnboundedSender<Plea>,
    ) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        // The task ends with its last handle or by `Stop`; nobody waits for it otherwise.
        drop(ring.run(move |host: HostOf<M>| async move {
            let ledger = OwnersLedger { volume: volume.shape().uuid, pleas };
            let file = intent.on(|medium| host.open(medium));
            let keeper = Keeper::start(host.clone(), volume, file, ledger, KeeperOptions::default());
            for (map, file) in maps {
                keeper.add_map(map, file.on(|medium| host.open(medium)));
            }
            obey(host, keeper, received).await;
        }));
        Self { commands }
    }

    async fn ask(&self, command: impl FnOnce(Done) -> Command<M::Medium>) -> Result<(), Errno> {
        let (done, outcome) = oneshot::channel();
        self.commands.send(command(done)).map_err(|_| Errno::IO)?;
        outcome.await.unwrap_or(Err(Errno::IO))
    }

    /// Persist `map` in `file` from now on, and make it durable once.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn add_map(&self, map: Arc<ChangeMap>, file: MapFile<M::Medium>) -> Result<(), Errno> {
        self.ask(|done| Command::AddMap { map, file, done }).await
    }

    /// Persist `map` no longer.
    pub fn remove_map(&self, map: Arc<ChangeMap>) {
        // A keeper that has ended persists nothing.
        let _ = self.commands.send(Command::RemoveMap { map });
    }

    /// Make every change map durable.
    ///
    /// # Errors
    /// When one could not be written.
    pub async fn persist(&self) -> Result<(), Errno> {
        self.ask(|done| Command::Persist { done }).await
    }

    /// Have the volume grow: [`Keeper::grow`].
    ///
    /// # Errors
    /// As there.
    pub async fn grow(&self, length: u64) -> Result<(), Errno> {
        self.ask(|done| Command::Grow { length, done }).await
    }

    /// Bring the volume to rest: [`Keeper::rest`]. It goes on when the answer is dropped.
    ///
    /// # Errors
    /// As there.
    pub async fn rest(&self) -> Result<Rest, Errno> {
        let (rest, until) = oneshot::channel();
        self.ask(|done| Command::Rest { done, until }).await?;
        Ok(Rest { until: rest })
    }

    /// Flush every plex in the write path.
    ///
    /// # Errors
    /// When the last readable plex failed.
    pub async fn flush(&self) -> Result<(), Errno> {
        self.ask(|done| Command::Flush { done }).await
    }

    /// Take `plex` out of the write path as by a failed request.
    ///
    /// # Errors
    /// It is the last one that can be read, or its loss cannot be recorded.
    pub async fn lose(&self, plex: Uuid, errno: Errno) -> Result<(), Errno> {
        self.ask(|done| Command::Lose { plex, errno, done }).await
    }

    /// End the keeper after the last request, with everything flushed and intent clear; with a stop generation, all
    /// map files carry it then.
    ///
    /// # Errors
    /// When the end is not a clean one.
    pub async fn stop(&self, stop: Option<Generation>) -> Result<(), Errno> {
        self.ask(|done| Command::Stop { stop, done }).await
    }
}

async fn obey<H: Host>(
    host: H,
    keeper: Keeper<H, OwnersLedger>,
    mut commands: mpsc::UnboundedReceiver<Command<H::Medium>>,
) {
    while let Some(command) = commands.recv().await {
        let Some((stop, done)) = obey_one(&host, &keeper, command) else { continue };
        let ending = async {
            keeper.stop().await?;
            match stop {
                Some(stop) => keeper.end_runs(stop).await,
                None => Ok(()),
            }
        };
        let mut ending = std::pin::pin!(ending);
        // A plex that fails its last flush is recorded meanwhile, and its map wants a file.
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut ending => break outcome,
                Some(command) = commands.recv() => drop(obey_one(&host, &keeper, command)),
            }
        };
        answer(done, outcome);
        return;
    }
}

/// Obey one command; a stop is given back.
fn obey_one<H: Host>(
    host: &H,
    keeper: &Keeper<H, OwnersLedger>,
    command: Command<H::Medium>,
) -> Option<(Option<Generation>, Done)> {
    match command {
        Command::AddMap { map, file, done } => {
            keeper.add_map(map, file.on(|medium| host.open(medium)));
            let keeper = keeper.clone();
            host.spawn(async move { answer(done, keeper.persist_maps().await) });
        }
        Command::RemoveMap { map } => keeper.remove_map(&map),
        Command::Persist { done } => {
            let keeper = keeper.clone();
            host.spawn(async move { answer(done, keeper.persist_maps().await) });
        }
        Command::Grow { length, done } => {
            let keeper = keeper.clone();
            host.spawn(async move { answer(done, keeper.grow(length).await) });
        }
        Command::Rest { done, until } => {
            let keeper = keeper.clone();
            host.spawn(async move {
                let rests = keeper.rest().await;
                answer(done, rests.as_ref().map(drop).map_err(|errno| *errno));
                // Ends by itself when whoever asked has given up.
                let _ = until.await;
                drop(rests);
            });
        }
        Command::Flush { done } => {
            let keeper = keeper.clone();
            host.spawn(async move { answer(done, keeper.flush_plexes().await) });
        }
        Command::Lose { plex, errno, done } => {
            let keeper = keeper.clone();
            host.spawn(async move { answer(done, keeper.lose(plex, errno).await) });
        }
        Command::Stop { stop, done } => return Some((stop, done)),
    }
    None
}

fn answer(done: Done, outcome: Result<(), Errno>) {
    // Who asked may have given up waiting.
    let _ = done.send(outcome);
}
