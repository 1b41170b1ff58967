//! One thread's way into a volume: the path of every request. The order of its steps is in the room's documentation.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno, FaultPoint, Uuid};
use crate::device::{
    BlockDevice, Buffer, Clock, Direction, Geometry, Host, OwnedBuffer, RegisteredBuffer, Request, Space,
};

use super::fault::{Report, Verdict};
use super::legs::{Failures, Reading, SpareLegs, Writing};
use super::patience::Patience;
use super::{KEEPS_MAPS, ReadPolicy, Role, Route, Volume};

/// How long a write waits for a write-only plex after all others completed it (ordering rule 6): longer than any
/// healthy disk takes, shorter than what makes an application time out.
pub(super) const WRITE_ONLY_LIMIT: Duration = Duration::from_secs(2);

/// A route with this thread's handles of its plexes.
struct View<H: Host> {
    route: Arc<Route<H::Medium>>,
    /// In the order of `route.plexes`.
    devices: Vec<Rc<H::Device>>,
    /// Whether every plex reads zero after a discard: else discards go out as zeroes (ordering rule 9).
    discard_zeroes: bool,
    /// Whether every plex takes memory that is aligned as the volume promises: else requests' own pages may not do.
    takes_pages: bool,
}

/// Memory of ours in place of a request's own pages, until this is dropped.
struct StandIn<'a, H: Host> {
    host: &'a H,
    direction: Direction,
    /// There until the drop.
    memory: Option<OwnedBuffer>,
}

impl<H: Host> StandIn<'_, H> {
    const fn memory(&self) -> &OwnedBuffer {
        self.memory.as_ref().expect("it goes with the drop")
    }
}

impl<H: Host> Drop for StandIn<'_, H> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.host.give_back(memory, self.direction);
        }
    }
}

/// What came of a read.
enum Served {
    /// The buffer is filled.
    Yes,
    /// Nobody could serve it.
    No,
    /// Those that lack it were not asked: one of them could be believed, once that is durable. Who failed, if anyone.
    ByNobodyYet(Option<(Uuid, Errno)>),
}

/// One thread's way into a volume; a block device itself.
pub struct VolumeQueue<H: Host> {
    volume: Arc<Volume<H::Medium>>,
    host: H,
    patience: Patience<H>,
    spare: SpareLegs<H>,
    lane: usize,
    view: Rc<RefCell<Rc<View<H>>>>,
    /// Ends the task that keeps the view fresh.
    ended: Rc<Notify>,
    next_reader: Cell<usize>,
    /// Serves no read of this queue.
    avoided: Option<Uuid>,
    /// Whether the requests are the application's, whose latency counts.
    is_applications: bool,
}

/// A request that is counted in its lane until this is dropped.
struct InFlight<'a, H: Host>(&'a VolumeQueue<H>);

impl<H: Host> Drop for InFlight<'_, H> {
    fn drop(&mut self) {
        self.0.volume.gate.leave(self.0.lane);
    }
}

impl<H: Host> VolumeQueue<H> {
    /// A way into `volume` for the thread of `host`; `None` when all lanes of its gate are taken.
    pub fn new(host: H, volume: Arc<Volume<H::Medium>>) -> Option<Self> {
        let lane = volume.gate.take_lane()?;
        let view = Rc::new(RefCell::new(Rc::new(open_view(&host, &volume, volume.route(), None))));
        let ended = Rc::new(Notify::new());
        host.spawn(keep_fresh(host.clone(), Arc::clone(&volume), Rc::downgrade(&view), Rc::clone(&ended)));
        let patience = Patience::new(host.clone(), Arc::clone(&volume));
        let (next_reader, avoided, is_applications) = (Cell::new(0), None, true);
        let spare = SpareLegs::default();
        Some(Self { volume, host, patience, spare, lane, view, ended, next_reader, avoided, is_applications })
    }

    /// As this queue, for the mover: what it waits for is not what the application waits for.
    #[must_use]
    pub fn for_mover(mut self) -> Self {
        self.is_applications = false;
        self
    }

    /// As this queue, with no read served by `plex`: for the repair of what that plex cannot read.
    #[must_use]
    pub fn avoiding(mut self, plex: Uuid) -> Self {
        self.avoided = Some(plex);
        self
    }

    /// The view of the route in force: one load when it has not changed.
    fn view(&self) -> Rc<View<H>> {
        refresh(&self.host, &self.volume, &self.view);
        Rc::clone(&self.view.borrow())
    }

    /// As [`enter`](Self::enter) where nothing holds the gate.
    fn try_enter(&self) -> Option<InFlight<'_, H>> {
        self.volume.gate.try_enter(self.lane).is_ok().then(|| InFlight(self))
    }

    async fn enter(&self) -> InFlight<'_, H> {
        let gate = &self.volume.gate;
        gate.enter(self.lane, |hold| {
            let (gate, clock) = (Arc::clone(gate), self.host.clock().clone());
            // The queue enforces the deadline itself: a holder that hangs cannot hang the application.
            self.host.spawn(async move {
                clock.sleep_until(hold.deadline()).await;
                if hold.expire() {
                    gate.release(&hold);
                }
            });
        })
        .await;
        InFlight(self)
    }

    fn check(&self, request: &Request) -> Result<(), Errno> {
        let Geometry { length, block_size, .. } = self.volume.shape().geometry;
        let range = request.range();
        let aligned = (range.offset | range.length).is_multiple_of(u64::from(block_size));
        if aligned && range.end() <= length { Ok(()) } else { Err(Errno::INVALID) }
    }

    async fn read(&self, offset: u64, buffer: Buffer) -> Result<(), Errno> {
        let _in_flight = match self.try_enter() {
            Some(in_flight) => in_flight,
            None => Box::pin(self.enter()).await,
        };
        let range = ByteRange::new(offset, buffer.len() as u64);
        let view = self.view();
        if let Buffer::Registered(pages) = buffer
            && !(pages.in_table && self.lends_to_read(&view))
        {
            // What has left the route is let go while memory is waited for.
            drop(view);
            return Box::pin(self.read_to_stand_in(range, pages)).await;
        }
        let turn = self.turn(&view.route);
        let first = if let Some(at) = self.only_reader(&view.route, range, turn) {
            let plex = view.route.plexes[at].uuid;
            let read = pin!(view.devices[at].submit(Request::Read { offset, buffer: buffer.clone() }));
            match self.patience.alone(plex, read).await {
                Ok(()) => return Ok(()),
                Err(errno) => self.not_served(&view, range, (plex, errno)),
            }
        } else {
            match self.read_one(&view, range, &buffer, turn).await {
                Served::Yes => return Ok(()),
                first => first,
            }
        };
        // What hardly any read comes to is kept out of the way of all.
        Box::pin(self.read_on(view, range, &buffer, first)).await
    }

    async fn read_to_stand_in(&self, range: ByteRange, pages: RegisteredBuffer) -> Result<(), Errno> {
        let stand_in = self.stand_in(pages).await;
        let (view, buffer) = (self.view(), Buffer::from(stand_in.memory().clone()));
        let first = self.read_one(&view, range, &buffer, self.turn(&view.route)).await;
        self.read_on(view, range, &buffer, first).await?;
        self.host.deliver(pages, stand_in.memory())
    }

    /// Go on with a read of which `first` has come.
    async fn read_on(
        &self,
        mut view: Rc<View<H>>,
        range: ByteRange,
        buffer: &Buffer,
        mut first: Served,
    ) -> Result<(), Errno> {
        loop {
            let failed = match self.read_rest(&view, range, buffer, first).await {
                Served::Yes => return Ok(()),
                Served::No => return Err(Errno::IO),
                Served::ByNobodyYet(failed) => failed,
            };
            // Ordering rule 14: the source of a resync failed or is gone; its heir is believed once that is durable.
            let report = |verdict| match failed {
                Some(failed) => Report::Write { range: ByteRange::new(0, 0), failed: vec![failed], verdict },
                None => Report::Settle { verdict },
            };
            let verdict = self.volume.faults.ask(report).await;
            let swapped = self.volume.swapped.notified();
            match verdict {
                Verdict::Fail(errno) => return Err(errno),
                Verdict::Acknowledge if self.volume.route_version() != view.route.version => {}
                // A copy is what the hand-over waits for.
                Verdict::Acknowledge if self.avoided.is_none() && self.volume.is_handing_over() => {
                    swapped.await;
                }
                Verdict::Acknowledge => return Err(Errno::IO),
            }
            view = self.view();
            first = self.read_one(&view, range, buffer, self.turn(&view.route)).await;
        }
    }

    /// Read from whatever plexes can serve, after `first` has come of the whole range.
    async fn read_rest(&self, view: &View<H>, range: ByteRange, buffer: &Buffer, first: Served) -> Served {
        if !matches!(first, Served::ByNobodyYet(None)) {
            return first;
        }
        // No plex is in step over the whole range, but one is over each region.
        for piece in range.pieces(self.volume.shape().region_size.bytes()) {
            let part = buffer.slice((piece.offset - range.offset) as usize, piece.length as usize);
            match self.read_one(view, piece, &part, self.turn(&view.route)).await {
                Served::Yes => {}
                outcome => return outcome,
            }
        }
        Served::Yes
    }

    /// The plex that a read begins with.
    fn turn(&self, route: &Route<H::Medium>) -> usize {
        match route.policy {
            ReadPolicy::Round => {
                let turn = self.next_reader.get();
                self.next_reader.set(turn.wrapping_add(1));
                turn.checked_rem(route.plexes.len()).unwrap_or(0)
            }
            ReadPolicy::Prefer(uuid) => route.plexes.iter().position(|plex| plex.uuid == uuid).unwrap_or(0),
        }
    }

    /// The next plex that a read of `range` asks, after those with a bit in `asked`: in turn from `first` on, those that hang
    /// last.
    fn choose(&self, route: &Route<H::Medium>, range: ByteRange, first: usize, asked: u32) -> Option<usize> {
        let mut hangs = None;
        for at in (first..route.plexes.len()).chain(0..first) {
            let plex = &route.plexes[at];
            // Ordering rules 6 and 14: a write-only plex serves nothing, one that is behind nothing it lacks.
            let serves = asked & (1 << at) == 0
                && plex.role == Role::ReadWrite
                && self.avoided != Some(plex.uuid)
                && !plex.behind.is_marked(range);
            if serves && !self.volume.waits.hangs(plex.uuid) {
                return Some(at);
            }
            if serves && hangs.is_none() {
                hangs = Some(at);
            }
        }
        hangs
    }

    /// The plex that a read of `range` is asked of, if it can be asked of one alone.
    fn only_reader(&self, route: &Route<H::Medium>, range: ByteRange, turn: usize) -> Option<usize> {
        if route.plexes.len() > 1 && route.readable().nth(1).is_some() {
            return None;
        }
        self.choose(route, range, turn, 0)
    }

    /// Read from one plex after the other until one serves, in turn from `turn` on, those that hang last.
    async fn read_one(&self, view: &View<H>, range: ByteRange, buffer: &Buffer, turn: usize) -> Served {
        let route = &*view.route;
        let Some(at) = self.choose(route, range, turn, 0) else { return Served::ByNobodyYet(None) };
        let (uuid, device) = (route.plexes[at].uuid, &view.devices[at]);
        let next = self.choose(route, range, turn, 1 << at);
        let failed = if next.is_none() {
            let request = Request::Read { offset: range.offset, buffer: buffer.clone() };
            match self.patience.alone(uuid, pin!(device.submit(request))).await {
                Ok(()) => return Served::Yes,
                Err(errno) => (uuid, errno),
            }
        } else {
            let mut reading = Reading::new(&self.patience, &self.spare, buffer);
            reading.begin(uuid, Rc::clone(device), range.offset);
            let answer = reading.next(true).await;
            if let Some(Ok(())) = answer {
                return Served::Yes;
            }
            match Box::pin(self.ask_others(view, range, turn, (1 << at, next), reading, answer)).await {
                Ok(()) => return Served::Yes,
                Err(failed) => failed,
            }
        };
        self.not_served(view, range, failed)
    }

    /// Go on with a read that the first plex failed or does not answer; those with a bit in `asked` were asked, and `next` is
    /// asked next. Who failed last, when nobody has served.
    async fn ask_others(
        &self,
        view: &View<H>,
        range: ByteRange,
        turn: usize,
        (mut asked, mut next): (u32, Option<usize>),
        mut reading: Reading<'_, H>,
        mut answer: Option<Result<(), (Uuid, Errno)>>,
    ) -> Result<(), (Uuid, Errno)> {
        let mut failed: Option<(Uuid, Errno)> = None;
        loop {
            if let Some(Err(failure)) = answer
                && let Some((plex, errno)) = failed.replace(failure)
            {
                self.tell_fallback(plex, range, errno);
            }
            if let Some(Ok(())) = answer {
                // One that failed is mended from the one that did not.
                failed.into_iter().for_each(|(plex, errno)| self.tell_fallback(plex, range, errno));
                return Ok(());
            }
            let Some(at) = next else {
                return match self.last_answer(&mut reading, range, &mut failed).await {
                    true => Ok(()),
                    false => Err(failed.expect("one was asked, and failed")),
                };
            };
            asked |= 1 << at;
            next = self.choose(&view.route, range, turn, asked);
            reading.begin(view.route.plexes[at].uuid, Rc::clone(&view.devices[at]), range.offset);
            answer = reading.next(next.is_some()).await;
        }
    }

    /// What a read has come to that every plex failed that was asked, `failed` as the last.
    fn not_served(&self, view: &View<H>, range: ByteRange, (plex, errno): (Uuid, Errno)) -> Served {
        let lacks = |plex: &&super::RoutePlex<H::Medium>| plex.behind.is_marked(range);
        let reads = |plex: &&super::RoutePlex<H::Medium>| self.avoided != Some(plex.uuid);
        if view.route.readable().filter(reads).any(|plex| lacks(&plex)) {
            return Served::ByNobodyYet(Some((plex, errno)));
        }
        if errno != Errno::CANCELED {
            self.volume.faults.tell(Report::Read { plex, range, errno, last: true });
        }
        Served::No
    }

    /// Wait for the plexes that hang, when no other is left to be asked: whether one of them has served.
    async fn last_answer(
        &self,
        reading: &mut Reading<'_, H>,
        range: ByteRange,
        failed: &mut Option<(Uuid, Errno)>,
    ) -> bool {
        while !reading.is_empty() {
            match reading.next(false).await {
                Some(Err(failure)) => {
                    if let Some((plex, errno)) = failed.replace(failure) {
                        self.tell_fallback(plex, range, errno);
                    }
                }
                Some(Ok(())) => {
                    failed.iter().for_each(|(plex, errno)| self.tell_fallback(*plex, range, *errno));
                    return true;
                }
                None => {}
            }
        }
        false
    }

    /// A plex failed a read, and another is asked in its place.
    fn tell_fallback(&self, plex: Uuid, range: ByteRange, errno: Errno) {
        if errno == Errno::CANCELED {
            return;
        }
        self.volume.counters.read_fallbacks.fetch_add(1, Ordering::Relaxed);
        self.volume.faults.tell(Report::Read { plex, range, errno, last: false });
    }

    async fn write(&self, mut request: Request) -> Result<(), Errno> {
        let range = request.range();
        let mut order = range;
        if museum::shows(Exhibit::OverlapsOrderedPerQueue) {
            order.offset += (self.lane as u64) << 52;
        }
        if museum::shows(Exhibit::DiscardOutOfOrder) && matches!(request, Request::Discard { .. }) {
            order.offset += 1 << 60;
        }
        let (_held, before) = self.volume.gate.arrive(order);
        if let Some(before) = before {
            before.wait().await;
        }
        let _in_flight = match self.try_enter() {
            Some(in_flight) => in_flight,
            None => Box::pin(self.enter()).await,
        };
        // Ordering rule 1: before anything is submitted.
        if KEEPS_MAPS && !self.volume.intent.covers(range) {
            Box::pin(self.volume.intent.cover(range)).await?;
        }
        FaultPoint::WriteCovered.reached();
        // Waited for before the route is looked at: what it leads to is submitted to at once.
        let mut view = self.view();
        let mut stand_in = None;
        if let Request::Write { buffer: Buffer::Registered(pages), .. } = &request
            && !self.lends_to_write(&view, *pages)
        {
            // What has left the route is let go meanwhile.
            drop(view);
            stand_in = Some(Box::pin(self.stand_in(*pages)).await);
            view = self.view();
        }
        // Ordering rule 5: in memory, before anything is submitted.
        if KEEPS_MAPS && !museum::shows(Exhibit::MarkedAfterWrite) {
            view.route.mark(range);
        }
        let as_is = view.discard_zeroes || museum::shows(Exhibit::DiscardPassedAsItIs);
        match &mut request {
            Request::Discard { range } if !as_is => {
                let (range, durability) = (*range, crate::device::Durability::Volatile);
                request = Request::WriteZeroes { range, space: Space::Release, durability };
            }
            Request::Write { durability, .. } if museum::shows(Exhibit::DurableWriteSentPlain) => {
                *durability = crate::device::Durability::Volatile;
            }
            _ => {}
        }
        if let Some(stand_in) = &stand_in {
            self.hold_still(&mut request, stand_in)?;
        }
        #[cfg(feature = "museum")]
        self.scribble(&request);
        if museum::shows(Exhibit::FlushCoversOneQueue) {
            museum::note(self.lane);
        }
        let failed = match &view.devices[..] {
            [device] => {
                let plex = view.route.plexes[0].uuid;
                let write = pin!(device.submit(request));
                match self.patience.alone(plex, write).await {
                    Ok(()) => Failures::new(),
                    Err(errno) => vec![(plex, errno)],
                }
            }
            _ => self.fan_out(&view, request).await,
        };
        drop(stand_in);
        FaultPoint::WriteDone.reached();
        if museum::shows(Exhibit::MarkedAfterWrite) {
            view.route.mark(range);
        }
        if museum::shows(Exhibit::WriteEndsCopyOfRegion) && failed.is_empty() {
            let region =
                range.widen(self.volume.shape().region_size.bytes(), self.volume.shape().geometry.length);
            view.route.plexes.iter().for_each(|plex| plex.behind.clear(region));
        }
        if failed.is_empty() && !view.route.has_unrecorded() {
            return Ok(());
        }
        Box::pin(self.settle(range, failed)).await
    }

    /// Memory in place of `pages`.
    async fn stand_in(&self, pages: RegisteredBuffer) -> StandIn<'_, H> {
        let memory = self.host.memory(pages.len as usize, pages.direction).await;
        StandIn { host: &self.host, direction: pages.direction, memory: Some(memory) }
    }

    /// Whether a read may have its own pages filled by a plex. They cannot be given back before that plex has answered; so
    /// not where another could answer in its place.
    fn lends_to_read(&self, view: &View<H>) -> bool {
        let alone = view.route.readable().nth(1).is_none();
        view.takes_pages && (alone || self.volume.shares_pages.load(Ordering::Relaxed))
    }

    /// Whether a write's own pages may go to the plexes of `view`: to one; to several, which then are all waited for, where
    /// that is asked for, but never to one that is not waited for (ordering rule 6).
    fn lends_to_write(&self, view: &View<H>, pages: RegisteredBuffer) -> bool {
        let shares = || {
            let all_read = view.route.plexes.iter().all(|plex| plex.role == Role::ReadWrite);
            all_read && self.volume.shares_pages.load(Ordering::Relaxed)
        };
        pages.in_table && view.takes_pages && (view.devices.len() == 1 || shares())
    }

    /// Have a write whose pages are not lent go from the memory that stands in for them.
    fn hold_still(&self, request: &mut Request, stand_in: &StandIn<'_, H>) -> Result<(), Errno> {
        if let Request::Write { buffer, .. } = request
            && let Buffer::Registered(pages) = *buffer
        {
            self.host.fetch(pages, stand_in.memory())?;
            *buffer = stand_in.memory().clone().into();
        }
        Ok(())
    }

    /// What an application may do to the page of a request whose bytes nobody has copied.
    #[cfg(feature = "museum")]
    fn scribble(&self, request: &Request) {
        if museum::shows(Exhibit::PageChangesUnderWrite)
            && let Request::Write { buffer: Buffer::Owned(page), .. } = request
        {
            let (page, clock) = (page.clone(), self.host.clock().clone());
            self.host.spawn(async move {
                clock.sleep(Duration::from_micros(60)).await;
                page.fill_from(0, &[0x5c]);
            });
        }
    }

    async fn flush(&self) -> Result<(), Errno> {
        let flushed = self.flush_plexes().await;
        if flushed.is_err() {
            self.volume.flush_was_heard();
        }
        flushed
    }

    async fn flush_plexes(&self) -> Result<(), Errno> {
        let _in_flight = self.enter().await;
        if museum::shows(Exhibit::FlushNotDone)
            || museum::shows(Exhibit::FlushCoversOneQueue) && !museum::was_noted(self.lane)
        {
            return Ok(());
        }
        let view = self.view();
        let faults = &self.volume.faults;
        let lost_before = faults.lost_flushes();
        let relied =
            view.route.plexes.iter().zip(&view.devices).filter(|(plex, _)| plex.role != Role::WriteOnly);
        let flushed = Cell::new(0);
        // Ordering rule 4: every ACTIVE plex.
        let verdicts = join_all(
            relied.map(|(plex, device)| self.patience.flush(plex.uuid, Rc::clone(device), true, &flushed)),
        )
        .await;
        FaultPoint::FlushDone.reached();
        for verdict in verdicts {
            if let Verdict::Fail(errno) = verdict {
                return Err(errno);
            }
        }
        // A plex whose flush failed for somebody else may have given up what ours should have covered.
        if (faults.has_failed_flush() || self.view().route.has_unrecorded())
            && let Verdict::Fail(errno) = faults.ask(|verdict| Report::Settle { verdict }).await
        {
            return Err(errno);
        }
        if faults.lost_flushes() != lost_before || faults.hear() { Err(Errno::IO) } else { Ok(()) }
    }

    /// Have what keeps a write from being acknowledged dealt with: failures, and plexes whose loss is not recorded (ordering
    /// rule 3).
    async fn settle(&self, range: ByteRange, failed: Failures) -> Result<(), Errno> {
        // What a plex has failed may stand in a cache until it is recorded or told.
        let counts = failed.iter().filter(|(_, errno)| *errno != Errno::INVALID);
        let counts: Vec<_> =
            counts.filter_map(|(plex, _)| Some((*plex, self.volume.flushes_of(*plex)?))).collect();
        counts.iter().for_each(|(_, counts)| counts.begin());
        let verdict = self
            .volume
            .faults
            .ask(|verdict| match failed.is_empty() {
                true => Report::Settle { verdict },
                false => Report::Write { range, failed, verdict },
            })
            .await;
        match verdict {
            Verdict::Acknowledge => Ok(()),
            Verdict::Fail(errno) => {
                // One that stays is the last: who wrote is told.
                let route = self.volume.route();
                let stays = counts.iter().filter(|(plex, _)| route.plex(*plex).is_some());
                stays.for_each(|(_, counts)| counts.went_well());
                Err(errno)
            }
        }
    }

    /// Submit to every plex in the write path at once; who failed.
    async fn fan_out(&self, view: &View<H>, request: Request) -> Failures {
        let plexes = &view.route.plexes;
        let mut writing = Writing::new(&self.patience, &self.spare, &request);
        for (plex, device) in plexes.iter().zip(&view.devices) {
            writing.begin(plex.uuid, plex.role, Rc::clone(device), request.clone());
        }
        drop(request);
        let limit = Duration::from_nanos(self.volume.write_only_limit.load(Ordering::Relaxed));
        let mut failed = writing.finish(limit).await;
        if museum::shows(Exhibit::EarlierErrorOverwritten) {
            failed.retain(|(plex, _)| plexes.last().is_some_and(|last| last.uuid == *plex));
        }
        failed
    }

    fn count(&self, request: &Request, length: u64) {
        let counters = &self.volume.counters;
        let (operations, bytes) = match request {
            Request::Read { .. } => (&counters.reads, Some(&counters.read_bytes)),
            Request::Flush => (&counters.flushes, None),
            Request::Write { .. } | Request::WriteZeroes { .. } | Request::Discard { .. } => {
                (&counters.writes, Some(&counters.write_bytes))
            }
        };
        operations.fetch_add(1, Ordering::Relaxed);
        if let Some(bytes) = bytes {
            bytes.fetch_add(length, Ordering::Relaxed);
        }
    }
}

fn open_view<H: Host>(
    host: &H,
    volume: &Volume<H::Medium>,
    route: Arc<Route<H::Medium>>,
    before: Option<&View<H>>,
) -> View<H> {
    let known = |uuid: Uuid| {
        let before = before?;
        before.route.plexes.iter().position(|plex| plex.uuid == uuid).map(|at| Rc::clone(&before.devices[at]))
    };
    let devices: Vec<_> = route
        .plexes
        .iter()
        .map(|plex| known(plex.uuid).unwrap_or_else(|| Rc::new(host.open(&plex.medium))))
        .collect();
    let discard_zeroes = devices.iter().all(|device| device.geometry().discard_zeroes);
    let promised = volume.shape().geometry.memory_alignment;
    let takes_pages = devices.iter().all(|device| device.geometry().memory_alignment <= promised);
    host.reserve();
    View { route, devices, discard_zeroes, takes_pages }
}

impl<H: Host> BlockDevice for VolumeQueue<H> {
    fn geometry(&self) -> Geometry {
        self.volume.shape().geometry
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        self.check(&request)?;
        self.count(&request, request.range().length);
        let counts = self.is_applications && !matches!(request, Request::Flush);
        let _timed = counts.then(|| self.volume.latency.time(self.host.clock())).flatten();
        match request {
            Request::Read { offset, buffer } => self.read(offset, buffer).await,
            Request::Flush => self.flush().await,
            Request::Write { .. } | Request::WriteZeroes { .. } | Request::Discard { .. } => {
                self.write(request).await
            }
        }
    }

    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        let _in_flight = self.enter().await;
        let view = self.view();
        let in_step = |at: &usize| {
            let plex = &view.route.plexes[*at];
            plex.role == Role::ReadWrite && !plex.behind.is_marked(span) && self.avoided != Some(plex.uuid)
        };
        match (0..view.devices.len()).find(in_step) {
            Some(at) => view.devices[at].next_data(span).await,
            None => Ok((!span.is_empty()).then_some(span)),
        }
    }
}

/// Look at the route in force; handles of plexes that are not in it any more are dropped.
fn refresh<H: Host>(host: &H, volume: &Volume<H::Medium>, view: &RefCell<Rc<View<H>>>) {
    if view.borrow().route.version != volume.route_version() {
        let next = open_view(host, volume, volume.route(), Some(&view.borrow()));
        *view.borrow_mut() = Rc::new(next);
    }
}

/// Refresh the view of a queue without its requests: a plex that has left is let go also where no I/O comes.
async fn keep_fresh<H: Host>(
    host: H,
    volume: Arc<Volume<H::Medium>>,
    view: Weak<RefCell<Rc<View<H>>>>,
    ended: Rc<Notify>,
) {
    loop {
        let mut swapped = std::pin::pin!(volume.swapped.notified());
        swapped.as_mut().enable();
        let Some(view) = view.upgrade() else { return };
        refresh(&host, &volume, &view);
        drop(view);
        futures_util::future::select(swapped, std::pin::pin!(ended.notified())).await;
    }
}

impl<H: Host> Drop for VolumeQueue<H> {
    fn drop(&mut self) {
        self.ended.notify_one();
        self.volume.gate.return_lane(self.lane);
    }
}
