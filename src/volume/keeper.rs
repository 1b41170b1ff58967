//! The keeper: the one place of a volume that commits intent pages and clears them again, persists change maps, and
//! decides which plex is lost. Its three loops are tasks of one thread, so its decisions come one after the other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::sync::oneshot;

use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno, Extent, FaultPoint, Generation, Uuid};
use crate::bitmap::ChangeMap;
use crate::device::{Clock, Host};

use super::fault::{Fate, Report, Verdict};
use super::gate::Held;
use super::intent::Cleaning;
use super::patience::{PLEX_LIMIT, Patience};
use super::{Ledger, Loss, MapFile, Recorded, Role, Route, Volume};

/// How the keeper paces itself.
#[derive(Clone, Copy, Debug)]
pub struct KeeperOptions {
    /// An extent's intent bit is cleared when it saw no write for one to two of these.
    pub clean_interval: Duration,
}

impl Default for KeeperOptions {
    /// Two seconds: long enough that a working set stays set, short enough that a crash later resyncs little.
    fn default() -> Self {
        Self { clean_interval: Duration::from_secs(2) }
    }
}

/// How long requests are held while the loss of a plex cannot be recorded: as long as a plex is waited for. A disk that was full
/// for a moment, or that a person makes room on, fails nobody; past it EIO is the one answer that promises nothing.
const RECORD_PATIENCE: Duration = PLEX_LIMIT;

/// Between the first two attempts to record a loss; later ones come half as often each, down to one in two seconds.
const RECORD_PAUSE: Duration = Duration::from_millis(100);
const RECORD_PAUSE_MOST: Duration = Duration::from_secs(2);

/// Extents that one cleaning window spans at most: the window only waits for what is in flight there.
const WINDOW_EXTENTS: u64 = 8;

struct Persisted<D> {
    map: Arc<ChangeMap>,
    file: Rc<MapFile<D>>,
}

struct Inner<H: Host, L> {
    volume: Arc<Volume<H::Medium>>,
    host: H,
    patience: Patience<H>,
    ledger: L,
    options: KeeperOptions,
    intent_file: MapFile<H::Device>,
    /// One writer of intent pages at a time: a page's two slots alternate.
    intent_pages: tokio::sync::Mutex<()>,
    maps: RefCell<Vec<Persisted<H::Device>>>,
    map_pages: tokio::sync::Mutex<()>,
    /// A loss could not be recorded within the limit: until it can, requests fail at once.
    out_of_patience: Cell<bool>,
    stopping: Cell<bool>,
    stop: Notify,
    loops: Cell<u32>,
    ended: Notify,
}

/// Handle of a volume's keeper, on the thread where it runs.
pub struct Keeper<H: Host, L: Ledger> {
    inner: Rc<Inner<H, L>>,
}

impl<H: Host, L: Ledger> Clone for Keeper<H, L> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

impl<H: Host, L: Ledger> Keeper<H, L> {
    /// Start the keeper of `volume` on the thread of `host`, before the volume's first request.
    pub fn start(
        host: H,
        volume: Arc<Volume<H::Medium>>,
        intent_file: MapFile<H::Device>,
        ledger: L,
        options: KeeperOptions,
    ) -> Self {
        let inner = Rc::new(Inner {
            patience: Patience::new(host.clone(), Arc::clone(&volume)),
            volume,
            host: host.clone(),
            ledger,
            options,
            intent_file,
            intent_pages: tokio::sync::Mutex::new(()),
            maps: RefCell::default(),
            map_pages: tokio::sync::Mutex::new(()),
            out_of_patience: Cell::new(false),
            stopping: Cell::new(false),
            stop: Notify::new(),
            loops: Cell::new(3),
            ended: Notify::new(),
        });
        let keeper = Self { inner };
        host.spawn(keeper.clone().until_end(|keeper| async move { keeper.inner.commit_loop().await }));
        host.spawn(keeper.clone().until_end(|keeper| async move { keeper.inner.clean_loop().await }));
        host.spawn(keeper.clone().until_end(|keeper| async move { keeper.inner.fault_loop().await }));
        keeper
    }

    async fn until_end<F: Future<Output = ()>>(self, run: impl FnOnce(Self) -> F) {
        run(self.clone()).await;
        self.inner.loops.set(self.inner.loops.get() - 1);
        self.inner.ended.notify_waiters();
    }

    /// Persist `map` in `file` from now on. Every map of the route has a file before the route is put in force.
    pub fn add_map(&self, map: Arc<ChangeMap>, file: MapFile<H::Device>) {
        self.inner.maps.borrow_mut().push(Persisted { map, file: Rc::new(file) });
    }

    /// Persist `map` no longer: it is in no route any more.
    pub fn remove_map(&self, map: &Arc<ChangeMap>) {
        self.inner.maps.borrow_mut().retain(|persisted| !Arc::ptr_eq(&persisted.map, map));
    }

    /// Make every change map durable.
    ///
    /// # Errors
    /// When a page could not be written; it stays due.
    pub async fn persist_maps(&self) -> Result<(), Errno> {
        self.inner.persist_maps().await
    }

    /// The second step of a volume's growth, after that of its route: its intent map has the extents of `length` bytes, durably
    /// and in memory. Its file has the room.
    ///
    /// # Errors
    /// The file cannot be written; the volume is as long as it was.
    pub async fn grow(&self, length: u64) -> Result<(), Errno> {
        let (inner, volume) = (&self.inner, &self.inner.volume);
        let _one = inner.intent_pages.lock().await;
        if !volume.has_room_for(length) {
            return Err(Errno::NO_SPACE);
        }
        inner.intent_file.grow(Extent::count(length)).await?;
        if !volume.intent.grow(length) {
            return Err(Errno::NO_SPACE);
        }
        // No request is sent there before whoever asks is told that it is done.
        volume.length.store(length, Ordering::Relaxed);
        Ok(())
    }

    /// Flush every plex that is in the write path. A plex that fails is lost as by a failed write.
    ///
    /// # Errors
    /// When the last readable plex failed or a loss could not be recorded.
    pub async fn flush_plexes(&self) -> Result<(), Errno> {
        self.inner.flush_plexes().await
    }

    /// Take `plex` out of the write path as by a failed request, unless it is the last one that can be read. Returns when
    /// that is recorded.
    ///
    /// # Errors
    /// It is the last one, or its loss cannot be recorded.
    pub async fn lose(&self, plex: Uuid, errno: Errno) -> Result<(), Errno> {
        let (range, failed) = (ByteRange::new(0, 0), vec![(plex, errno)]);
        match self.inner.volume.faults.ask(|verdict| Report::Write { range, failed, verdict }).await {
            Verdict::Acknowledge => Ok(()),
            Verdict::Fail(errno) => Err(errno),
        }
    }

    /// Clear what intent bits may be cleared now, without waiting for a quiet span. What was cleared before this one is on
    /// disk then as well.
    ///
    /// # Errors
    /// When a plex, a map or a page could not be written; the bits stay set.
    pub async fn clean(&self) -> Result<(), Errno> {
        let all: Vec<_> = self.inner.volume.intent.durable().extents().collect();
        self.inner.clean(all).await?;
        let pages = self.inner.intent_pages.lock().await;
        self.inner.write_intent_pages(&pages).await
    }

    /// Bring the volume to rest for a successor that takes over at once: while the answer lives, writes that come wait, none
    /// is in flight, every plex is flushed, every change map durable, and no intent bit is set that may be cleared. The
    /// successor has nothing to copy then but what was left to be copied.
    ///
    /// # Errors
    /// When a plex, a map or a page could not be written.
    pub async fn rest(&self) -> Result<Held, Errno> {
        let (inner, volume) = (&self.inner, &self.inner.volume);
        let held = volume.window(ByteRange::new(0, volume.shape().geometry.length)).await;
        if volume.intent.is_pinned() || volume.intent.is_lost() {
            self.persist_maps().await?;
            return Ok(held);
        }
        let all: Vec<_> = volume.intent.durable().extents().collect();
        let cleaning = volume.intent.clean();
        cleaning.retire(&all);
        inner.clear_retired(cleaning).await?;
        Ok(held)
    }

    /// Note in the intent map's file and in those of all change maps that the run ended with the clean stop `stop`
    /// (ordering rule 15). Comes after a [`Keeper::stop`] that went well.
    ///
    /// # Errors
    /// A file could not be written, or a plex differs: the run ends as a crash does then.
    pub async fn end_runs(&self, stop: Generation) -> Result<(), Errno> {
        let inner = &self.inner;
        let route = inner.volume.route();
        if !route.is_in_step() || route.has_unrecorded() {
            return Err(Errno::IO);
        }
        inner.intent_file.end_run(inner.volume.intent.durable().bits(), stop).await?;
        let maps: Vec<_> =
            inner.maps.borrow().iter().map(|one| (Arc::clone(&one.map), Rc::clone(&one.file))).collect();
        for (map, file) in maps {
            file.end_run(map.bits(), stop).await?;
        }
        Ok(())
    }

    /// End the keeper after the last request: everything flushed, maps durable, intent clear (ordering rule 15).
    ///
    /// # Errors
    /// As for [`Keeper::clean`]: the stop is not a clean one then. The keeper has ended all the same.
    pub async fn stop(&self) -> Result<(), Errno> {
        let inner = &self.inner;
        let clean = async {
            self.flush_plexes().await?;
            // A plex that is lost and not recorded would come back as good as the others.
            inner.record_losses().await?;
            self.persist_maps().await?;
            self.clean().await
        }
        .await;
        inner.stopping.set(true);
        inner.stop.notify_waiters();
        loop {
            let ended = inner.ended.notified();
            if inner.loops.get() == 0 {
                inner.volume.intent.close();
                return clean;
            }
            ended.await;
        }
    }
}

impl<H: Host, L: Ledger> Inner<H, L> {
    /// Wait for `work`, or for the stop: false then.
    async fn next(&self, work: &Notify) -> bool {
        let stop = self.stop.notified();
        if self.stopping.get() {
            return false;
        }
        futures_util::future::select(std::pin::pin!(work.notified()), std::pin::pin!(stop)).await;
        !self.stopping.get()
    }

    async fn commit_loop(&self) {
        let intent = &self.volume.intent;
        while self.next(&intent.asked).await {
            loop {
                self.make_room().await;
                // Held until the batch is granted: else the cleaner could clear a bit that is asked for again.
                let pages = self.intent_pages.lock().await;
                let batch = intent.take_wanted();
                if batch.is_empty() {
                    break;
                }
                match self.write_intent_pages(&pages).await {
                    Ok(()) => intent.grant(batch),
                    Err(_) if museum::shows(Exhibit::LogFailureIgnored) => intent.grant(batch),
                    Err(errno) => {
                        tracing::error!(volume = %self.volume.shape().uuid, %errno, "an intent page cannot be written");
                        // Ordering rule 18.
                        if intent.is_lost() || self.ledger.intent_lost().await.is_ok() {
                            intent.lose();
                            intent.grant(batch);
                        } else {
                            intent.refuse(batch, Errno::IO);
                        }
                    }
                }
            }
        }
    }

    /// Clear what was not written lately, where more extents would be dirty than may be. Nothing waits for a write here: one
    /// that is in flight may wait for the committer, and that is who calls.
    async fn make_room(&self) {
        let (volume, intent) = (&self.volume, &self.volume.intent);
        let route = volume.route();
        let excess = intent.excess();
        if excess == 0
            || intent.is_pinned()
            || intent.is_lost()
            || route.has_unrecorded()
            || !route.is_in_step()
        {
            return;
        }
        let length = volume.shape().geometry.length;
        let cleaning = intent.clean();
        for extent in intent.least_used(excess) {
            if let Some(_window) = volume.gate.try_acquire(extent.bytes(length)) {
                cleaning.retire(&[extent]);
            }
        }
        if cleaning.is_empty() {
            return;
        }
        if let Err(errno) = self.clear_retired(cleaning).await {
            tracing::warn!(volume = %volume.shape().uuid, %errno, "more extents are dirty than shall be");
        }
    }

    async fn write_intent_pages(&self, _one: &tokio::sync::MutexGuard<'_, ()>) -> Result<(), Errno> {
        let bits = self.volume.intent.durable().bits();
        let due = bits.take_dirty_pages();
        let result = self.intent_file.write_pages(bits, &due).await;
        if result.is_err() {
            due.iter().for_each(|page| bits.mark_page(*page));
        }
        result
    }

    async fn persist_maps(&self) -> Result<(), Errno> {
        let _one = self.map_pages.lock().await;
        let maps: Vec<_> = self
            .maps
            .borrow()
            .iter()
            .map(|persisted| (Arc::clone(&persisted.map), Rc::clone(&persisted.file)))
            .collect();
        let mut outcome = Ok(());
        for (map, file) in maps {
            let due = map.bits().take_dirty_pages();
            if let Err(errno) = file.write_pages(map.bits(), &due).await {
                if !museum::shows(Exhibit::DirtyMarkDroppedBeforeWrite) {
                    due.iter().for_each(|page| map.bits().mark_page(*page));
                }
                outcome = Err(errno);
            }
        }
        FaultPoint::MapsPersisted.reached();
        outcome
    }

    async fn flush_plexes(&self) -> Result<(), Errno> {
        let (route, flushed) = (self.volume.route(), Cell::new(0));
        let flush = |plex: &super::RoutePlex<H::Medium>| {
            let device = Rc::new(self.host.open(&plex.medium));
            self.patience.flush(plex.uuid, device, false, &flushed)
        };
        let spared = |plex: &&super::RoutePlex<H::Medium>| {
            museum::shows(Exhibit::MirrorNotFlushed) && plex.role == Role::WriteOnly
        };
        for verdict in join_all(route.plexes.iter().filter(|plex| !spared(plex)).map(flush)).await {
            if let Verdict::Fail(errno) = verdict {
                return Err(errno);
            }
        }
        Ok(())
    }

    async fn clean_loop(&self) {
        let intent = &self.volume.intent;
        while self.next(&intent.dirtied).await {
            while !intent.durable().is_clean() && !intent.is_pinned() && !intent.is_lost() {
                let pause = self.host.clock().sleep(self.options.clean_interval);
                let stop = self.stop.notified();
                if self.stopping.get() {
                    return;
                }
                futures_util::future::select(std::pin::pin!(pause), std::pin::pin!(stop)).await;
                if self.stopping.get() {
                    return;
                }
                if let Err(errno) = self.clean(intent.quiet()).await {
                    tracing::warn!(volume = %self.volume.shape().uuid, %errno, "intent bits stay set");
                }
            }
        }
    }

    /// Clear the intent bits of `extents` that see no write meanwhile (ordering rule 2).
    async fn clean(&self, extents: Vec<Extent>) -> Result<(), Errno> {
        let (volume, intent) = (&self.volume, &self.volume.intent);
        if extents.is_empty() || intent.is_pinned() || intent.is_lost() {
            return Ok(());
        }
        let length = volume.shape().geometry.length;
        let cleaning = intent.clean();
        for run in runs(&extents) {
            let (first, last) = (run[0].bytes(length), run[run.len() - 1].bytes(length));
            // No write is in flight here while the window is held; one that comes later asks the committer anew.
            let window = volume.window(ByteRange::new(first.offset, last.end() - first.offset)).await;
            cleaning.retire(run);
            drop(window);
        }
        self.clear_retired(cleaning).await
    }

    /// Clear the bits of extents that were retired and not granted again meanwhile: flush, maps, page (ordering rule 2).
    async fn clear_retired(&self, cleaning: Cleaning<'_>) -> Result<(), Errno> {
        let volume = &self.volume;
        self.flush_plexes().await?;
        self.persist_maps().await?;
        let pages = self.intent_pages.lock().await;
        let route = volume.route();
        // A map that is not recorded yet has no file, and neither has that of a plex in step: what stands in them rests on
        // the intent bits.
        if route.has_unrecorded() || !route.is_in_step() || !cleaning.forget() {
            return Ok(());
        }
        FaultPoint::IntentCleared.reached();
        self.write_intent_pages(&pages).await
    }

    async fn fault_loop(&self) {
        while self.next(&self.volume.faults.told).await {
            loop {
                let reports = self.volume.faults.take();
                if reports.is_empty() {
                    break;
                }
                self.judge(reports).await;
            }
        }
    }

    async fn judge(&self, reports: Vec<Report>) {
        let mut waiting: Vec<(oneshot::Sender<Verdict>, Option<Errno>)> = Vec::new();
        let mut flushes = 0;
        let mut fates = Vec::new();
        for report in reports {
            match report {
                Report::Hangs { plex } => self.ledger.plex_hangs(plex),
                Report::Answers { plex } => self.ledger.plex_answers(plex),
                Report::Late { range, plexes, fate } => {
                    fates.push((fate, self.part_with(range, &plexes, Errno::TIMED_OUT)));
                }
                Report::Read { plex, errno, last: true, .. } => self.ledger.last_plex_failed(plex, errno),
                // Its medium is not what it was: it is not written to be mended.
                Report::Read { plex, range, errno: errno @ Errno::GONE, last: false } => {
                    if self.part_with(range, &[plex], errno) == Fate::Stays {
                        self.ledger.read_failed(plex, range, errno);
                    }
                }
                Report::Read { plex, range, errno, last: false } => {
                    self.ledger.read_failed(plex, range, errno)
                }
                Report::Settle { verdict } => waiting.push((verdict, None)),
                Report::Write { range, failed, verdict } => {
                    let failure = self.take_out(range, &failed);
                    waiting.push((verdict, failure));
                }
                Report::Flush { plex, errno, heard, verdict } => {
                    let failure = self.take_out(ByteRange::new(0, 0), &[(plex, errno)]);
                    if failure.is_some() {
                        self.volume.faults.lose_flush(heard);
                    }
                    flushes += 1;
                    waiting.push((verdict, failure));
                }
            }
        }
        let recorded = self.record_losses_in_time().await;
        for (fate, decided) in fates {
            // A read that was left behind has its answer from elsewhere.
            let _ = fate.send(decided);
        }
        (0..flushes).for_each(|_| self.volume.faults.flush_judged());
        for (verdict, failure) in waiting {
            let answer = match (failure, recorded) {
                (Some(errno), _) | (None, Err(errno)) => Verdict::Fail(errno),
                (None, Ok(())) => Verdict::Acknowledge,
            };
            // A request that is gone does not want its answer.
            let _ = verdict.send(answer);
        }
    }

    /// Take plexes out, unless no other one can be read.
    fn part_with(&self, range: ByteRange, plexes: &[Uuid], errno: Errno) -> Fate {
        let route = self.volume.route();
        if route.readable().all(|plex| plexes.contains(&plex.uuid)) {
            return Fate::Stays;
        }
        plexes.iter().for_each(|plex| self.leave(*plex, errno, range));
        Fate::Left
    }

    /// Take the failed plexes out of the write path, all but the last readable one; the error of the request if that one
    /// is among them (ordering rule 3).
    fn take_out(&self, range: ByteRange, failed: &[(Uuid, Errno)]) -> Option<Errno> {
        let volume = &self.volume;
        let route = volume.route();
        let has_failed = |uuid: Uuid| failed.iter().any(|(plex, _)| *plex == uuid);
        // EINVAL says that we asked wrongly: no plex that is read is lost for it, and what may differ now is not read from it.
        let is_read = |uuid: Uuid| route.readable().any(|plex| plex.uuid == uuid);
        let invalid = |(uuid, errno): &&(Uuid, Errno)| *errno == Errno::INVALID && is_read(*uuid);
        if let Some((_, errno)) = failed.iter().find(invalid) {
            tracing::error!(volume = %volume.shape().uuid, %range, "a plex refused a request as invalid");
            if route.readable().all(|plex| has_failed(plex.uuid)) {
                self.mirrors_leave(&route, failed, range);
            } else {
                for plex in route.readable().filter(|plex| has_failed(plex.uuid)) {
                    plex.behind.mark(range);
                    self.ledger.differs(plex.uuid);
                }
                let mirrors = failed.iter().filter(|(uuid, _)| !is_read(*uuid));
                mirrors.for_each(|(uuid, errno)| self.leave(*uuid, *errno, range));
            }
            return Some(*errno);
        }
        // The plex to keep when all readable ones failed: one that lacks nothing.
        let kept = route
            .readable()
            .all(|plex| has_failed(plex.uuid))
            .then(|| {
                let whole = |plex: &&super::RoutePlex<_>| {
                    plex.behind.is_clean() || museum::shows(Exhibit::WorseCopyKept)
                };
                route.readable().find(whole).or_else(|| route.readable().next())
            })
            .flatten()
            .map(|plex| plex.uuid);
        for (uuid, errno) in failed.iter().filter(|(uuid, _)| Some(*uuid) != kept) {
            self.leave(*uuid, *errno, range);
        }
        if kept.is_some() {
            self.mirrors_leave(&route, failed, range);
        }
        kept.map(|uuid| {
            let errno = failed.iter().find(|(plex, _)| *plex == uuid).map_or(Errno::IO, |(_, errno)| *errno);
            self.ledger.last_plex_failed(uuid, errno);
            Errno::IO
        })
    }

    /// Take the mirrors out that did what the volume itself failed: they may differ from it in `range` now, or hold what
    /// it has lost.
    fn mirrors_leave(&self, route: &Route<H::Medium>, failed: &[(Uuid, Errno)], range: ByteRange) {
        let did = |uuid: Uuid| failed.iter().all(|(plex, _)| *plex != uuid);
        for mirror in route.plexes.iter().filter(|plex| plex.role != Role::ReadWrite && did(plex.uuid)) {
            self.leave(mirror.uuid, Errno::IO, range);
        }
    }

    /// Take `plex` out of the write path, tracked from now on and lacking all that it may lack; `range` too if it left
    /// before.
    fn leave(&self, plex: Uuid, errno: Errno, range: ByteRange) {
        let volume = &self.volume;
        if volume.part_with(plex, errno) {
            tracing::warn!(volume = %volume.shape().uuid, %plex, %errno, "plex leaves the write path");
        }
        for absent in volume.route().absent.iter().filter(|absent| absent.uuid == plex) {
            absent.behind.mark(range);
        }
    }

    /// Have every loss recorded that is not yet, and try again for a while when that fails: what waits for it is held meanwhile
    /// (ordering rule 3).
    async fn record_losses_in_time(&self) -> Result<(), Errno> {
        let (mut waited, mut pause) = (Duration::ZERO, RECORD_PAUSE);
        loop {
            let outcome = self.record_losses().await;
            let holds = waited < RECORD_PATIENCE && !self.out_of_patience.get() && !self.stopping.get();
            if outcome.is_ok() || !holds {
                self.out_of_patience.set(outcome.is_err());
                return outcome;
            }
            self.host.clock().sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(RECORD_PAUSE_MOST);
        }
    }

    /// Have every loss recorded that is not yet.
    async fn record_losses(&self) -> Result<(), Errno> {
        let route = self.volume.route();
        let mut outcome = Ok(());
        for plex in route.absent.iter().filter(|plex| !plex.recorded) {
            // It lacks least of what only the source of a resync had.
            let heir = route.readable().min_by_key(|plex| plex.behind.dirty_regions()).map(|plex| plex.uuid);
            match self.ledger.plex_lost(plex.uuid, plex.errno, heir).await {
                Ok(record) => {
                    self.volume.handing_over.fetch_add(1, Ordering::AcqRel);
                    self.volume.publish(|route| recorded(route, plex.uuid, record));
                    self.hand_over(record.authority);
                }
                Err(errno) => outcome = Err(errno),
            }
        }
        outcome
    }

    /// What no plex is believed on any more since the source of a resync was lost is read from its `heir` from now on
    /// (ordering rule 14). Where the heir is being written, by a copy of what the source still had above all, it is believed
    /// once that has ended: what was read before would not be there after it.
    fn hand_over(&self, heir: Option<Uuid>) {
        let volume = Arc::clone(&self.volume);
        let (orphans, region) = (volume.route().behind_everywhere(), volume.shape().region_size.bytes());
        let (mut busy, mut left) = (Vec::new(), Vec::new());
        if let (Some(heir), Some(orphans)) = (heir, orphans) {
            left.extend(orphans.dirty_ranges().map(|range| (heir, range)));
        }
        while let Some((heir, range)) = left.pop() {
            if let Some(_window) = volume.gate.try_acquire(range) {
                volume.believe(heir, range);
            } else if range.length <= region {
                busy.push((heir, range));
            } else {
                let half = (range.length / 2).next_multiple_of(region);
                left.push((heir, ByteRange::new(range.offset, half)));
                left.push((heir, ByteRange::new(range.offset + half, range.length - half)));
            }
        }
        let end = |volume: &Volume<H::Medium>| {
            // In this order: who finds nobody to read from, and no hand-over, has seen what it came to.
            volume.publish(Route::clone);
            volume.handing_over.fetch_sub(1, Ordering::AcqRel);
            volume.swapped.notify_waiters();
        };
        if busy.is_empty() {
            return end(&volume);
        }
        self.host.spawn(async move {
            for (heir, range) in busy {
                let _window = volume.window(range).await;
                volume.believe(heir, range);
                // Who waits for this range goes on.
                volume.publish(Route::clone);
            }
            end(&volume);
        });
    }
}

/// `route` with the loss of `uuid` recorded.
fn recorded<M: Clone>(route: &Route<M>, uuid: Uuid, record: Recorded) -> Route<M> {
    let mut route = route.clone();
    match record.loss {
        Loss::Removed => route.absent.retain(|absent| absent.uuid != uuid),
        Loss::Tracked => {
            for absent in route.absent.iter_mut().filter(|absent| absent.uuid == uuid) {
                absent.recorded = true;
            }
        }
    }
    route
}

/// Consecutive extents, at most [`WINDOW_EXTENTS`] together.
fn runs(extents: &[Extent]) -> impl Iterator<Item = &[Extent]> {
    extents.chunk_by(|a, b| a.0 + 1 == b.0).flat_map(|run| run.chunks(WINDOW_EXTENTS as usize))
}
