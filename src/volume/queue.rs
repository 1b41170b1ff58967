//! One thread's way into a volume: the path of every request. The order of its steps is in the room's documentation.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join, join_all};

use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno, FaultPoint, Uuid};
use crate::device::{BlockDevice, Buffer, Clock, Geometry, Host, Request, Space};

use super::fault::{Report, Verdict};
use super::{ReadPolicy, Role, Route, Volume};

/// How long a write waits for a write-only plex after all others completed it (ordering rule 6): longer than any
/// healthy disk takes, shorter than what makes an application time out.
pub(super) const WRITE_ONLY_LIMIT: Duration = Duration::from_secs(2);

/// A route with this thread's handles of its plexes.
struct View<H: Host> {
    route: Arc<Route<H::Medium>>,
    /// In the order of `route.plexes`.
    devices: Vec<Rc<H::Device>>,
    has_write_only: bool,
    /// Whether every plex reads zero after a discard: else discards go out as zeroes (ordering rule 9).
    discard_zeroes: bool,
}

type Failures = Vec<(Uuid, Errno)>;
type Pending<'a> = Pin<Box<dyn Future<Output = Result<(), Errno>> + 'a>>;

/// One thread's way into a volume; a block device itself.
pub struct VolumeQueue<H: Host> {
    volume: Arc<Volume<H::Medium>>,
    host: H,
    lane: usize,
    view: RefCell<Rc<View<H>>>,
    next_reader: Cell<usize>,
    /// Serves no read of this queue.
    avoided: Option<Uuid>,
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
        let view = RefCell::new(Rc::new(open_view(&host, volume.route(), None)));
        Some(Self { volume, host, lane, view, next_reader: Cell::new(0), avoided: None })
    }

    /// As this queue, with no read served by `plex`: for the repair of what that plex cannot read.
    #[must_use]
    pub fn avoiding(mut self, plex: Uuid) -> Self {
        self.avoided = Some(plex);
        self
    }

    /// The view of the route in force: one load when it has not changed.
    fn view(&self) -> Rc<View<H>> {
        if self.view.borrow().route.version != self.volume.route_version() {
            let view = open_view(&self.host, self.volume.route(), Some(&self.view.borrow()));
            *self.view.borrow_mut() = Rc::new(view);
        }
        Rc::clone(&self.view.borrow())
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
        let Geometry { length, block_size, .. } = self.volume.shape.geometry;
        let range = request.range();
        let aligned = (range.offset | range.length).is_multiple_of(u64::from(block_size));
        if aligned && range.end() <= length { Ok(()) } else { Err(Errno::INVALID) }
    }

    async fn read(&self, offset: u64, buffer: Buffer) -> Result<(), Errno> {
        let _in_flight = self.enter().await;
        let range = ByteRange::new(offset, buffer.len() as u64);
        loop {
            let view = self.view();
            let unserved = match self.read_any(&view, range, &buffer).await {
                Ok(outcome) => return outcome,
                Err(unserved) => unserved,
            };
            // Ordering rule 14: the source of a resync failed or is gone; its heir is believed once that is durable.
            let report = |verdict| match unserved {
                Some(failed) => Report::Write { range: ByteRange::new(0, 0), failed: vec![failed], verdict },
                None => Report::Settle { verdict },
            };
            match self.volume.faults.ask(report).await {
                Verdict::Fail(errno) => return Err(errno),
                Verdict::Acknowledge if self.volume.route_version() == view.route.version => {
                    return Err(Errno::IO);
                }
                Verdict::Acknowledge => {}
            }
        }
    }

    /// Read from whatever plexes can serve. The error is who failed, if anyone, where others could be believed in its place.
    async fn read_any(
        &self,
        view: &View<H>,
        range: ByteRange,
        buffer: &Buffer,
    ) -> Result<Result<(), Errno>, Option<(Uuid, Errno)>> {
        match self.read_one(view, range, buffer).await {
            Err(None) => {}
            served_or_failed => return served_or_failed,
        }
        // No plex is in step over the whole range, but one is over each region.
        for piece in range.pieces(self.volume.shape.region_size.bytes()) {
            let part = buffer.slice((piece.offset - range.offset) as usize, piece.length as usize);
            if let Err(errno) = self.read_one(view, piece, &part).await? {
                return Ok(Err(errno));
            }
        }
        Ok(Ok(()))
    }

    /// Read from one plex after the other until one serves. The error is who failed last, if anyone was asked at all, and
    /// plexes that are behind there were not.
    async fn read_one(
        &self,
        view: &View<H>,
        range: ByteRange,
        buffer: &Buffer,
    ) -> Result<Result<(), Errno>, Option<(Uuid, Errno)>> {
        let plexes = &view.route.plexes;
        let first = match view.route.policy {
            ReadPolicy::Round => {
                let turn = self.next_reader.get();
                self.next_reader.set(turn.wrapping_add(1));
                turn
            }
            ReadPolicy::Prefer(uuid) => plexes.iter().position(|plex| plex.uuid == uuid).unwrap_or(0),
        };
        let mut last = None;
        let mut behind = false;
        for step in 0..plexes.len() {
            let at = first.wrapping_add(step) % plexes.len();
            let plex = &plexes[at];
            // Ordering rules 6 and 14: a write-only plex serves nothing, one that is behind nothing it lacks.
            if plex.role != Role::ReadWrite || self.avoided == Some(plex.uuid) {
                continue;
            }
            if plex.behind.is_marked(range) {
                behind = true;
                continue;
            }
            if let Some((failed, errno)) = last {
                self.volume.counters.read_fallbacks.fetch_add(1, Ordering::Relaxed);
                self.volume.faults.tell(Report::Read { plex: failed, range, errno, last: false });
            }
            match view.devices[at]
                .submit(Request::Read { offset: range.offset, buffer: buffer.clone() })
                .await
            {
                Ok(()) => return Ok(Ok(())),
                Err(errno) => last = Some((plex.uuid, errno)),
            }
        }
        match last {
            Some((plex, errno)) if !behind => {
                self.volume.faults.tell(Report::Read { plex, range, errno, last: true });
                Ok(Err(Errno::IO))
            }
            failed => Err(failed),
        }
    }

    async fn write(&self, request: Request) -> Result<(), Errno> {
        let range = request.range();
        let mut order = range;
        if museum::shows(Exhibit::OverlapsOrderedPerQueue) {
            order.offset += (self.lane as u64) << 52;
        }
        if museum::shows(Exhibit::DiscardOutOfOrder) && matches!(request, Request::Discard { .. }) {
            order.offset += 1 << 60;
        }
        let _held = self.volume.gate.acquire(order).await;
        let _in_flight = self.enter().await;
        // Ordering rule 1: before anything is submitted.
        self.volume.intent.cover(range).await?;
        FaultPoint::WriteCovered.reached();
        let view = self.view();
        // Ordering rule 5: in memory, before anything is submitted.
        if !museum::shows(Exhibit::MarkedAfterWrite) {
            view.route.mark(range);
        }
        let as_is = view.discard_zeroes || museum::shows(Exhibit::DiscardPassedAsItIs);
        let request = match request {
            Request::Discard { range } if !as_is => Request::WriteZeroes {
                range,
                space: Space::Release,
                durability: crate::device::Durability::Volatile,
            },
            Request::Write { offset, buffer, .. } if museum::shows(Exhibit::DurableWriteSentPlain) => {
                Request::Write { offset, buffer, durability: crate::device::Durability::Volatile }
            }
            other => other,
        };
        #[cfg(feature = "museum")]
        self.scribble(&request);
        if museum::shows(Exhibit::FlushCoversOneQueue) {
            museum::note(self.lane);
        }
        let failed = self.fan_out(&view, &request).await;
        FaultPoint::WriteDone.reached();
        if museum::shows(Exhibit::MarkedAfterWrite) {
            view.route.mark(range);
        }
        if museum::shows(Exhibit::WriteEndsCopyOfRegion) && failed.is_empty() {
            let region =
                range.widen(self.volume.shape.region_size.bytes(), self.volume.shape.geometry.length);
            view.route.plexes.iter().for_each(|plex| plex.behind.clear(region));
        }
        self.settle(&view, range, failed).await
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
        // Ordering rule 4: every ACTIVE plex. Who fails is told at once, and not when the others have answered too.
        let verdicts = join_all(relied.map(|(plex, device)| async move {
            let flushed = device.submit(Request::Flush).await;
            #[cfg(feature = "museum")]
            let flushed = match flushed {
                Err(_) if museum::shows(Exhibit::FailedFlushTriedAgain) => {
                    device.submit(Request::Flush).await
                }
                first => first,
            };
            match flushed {
                Ok(()) => Verdict::Acknowledge,
                Err(_) if museum::shows(Exhibit::FlushErrorSwallowed) => Verdict::Acknowledge,
                Err(errno) => {
                    let heard = true;
                    faults.ask(|verdict| Report::Flush { plex: plex.uuid, errno, heard, verdict }).await
                }
            }
        }))
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

    /// Acknowledge, or have the failures dealt with first (ordering rule 3).
    async fn settle(&self, view: &View<H>, range: ByteRange, failed: Failures) -> Result<(), Errno> {
        if failed.is_empty() && !view.route.has_unrecorded() {
            return Ok(());
        }
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
            Verdict::Fail(errno) => Err(errno),
        }
    }

    /// Submit to every plex in the write path at once; who failed.
    async fn fan_out(&self, view: &View<H>, request: &Request) -> Failures {
        let plexes = &view.route.plexes;
        if view.has_write_only {
            return self.fan_out_with_limit(view, request).await;
        }
        let named = |at: usize, result: Result<(), Errno>| result.err().map(|errno| (plexes[at].uuid, errno));
        match &view.devices[..] {
            [one] => named(0, one.submit(request.clone()).await).into_iter().collect(),
            [one, two] => {
                let (first, second) = join(one.submit(request.clone()), two.submit(request.clone())).await;
                if museum::shows(Exhibit::EarlierErrorOverwritten) {
                    return named(1, second).into_iter().collect();
                }
                named(0, first).into_iter().chain(named(1, second)).collect()
            }
            many => {
                let results = join_all(many.iter().map(|device| device.submit(request.clone()))).await;
                results.into_iter().enumerate().filter_map(|(at, result)| named(at, result)).collect()
            }
        }
    }

    /// As [`Self::fan_out`], but a write-only plex that is late is left behind (ordering rule 6): its write goes on in a task
    /// of its own, which keeps the buffer.
    async fn fan_out_with_limit(&self, view: &View<H>, request: &Request) -> Failures {
        let mut failed = Failures::new();
        let mut waiting: Vec<(Uuid, bool, Option<Pending<'static>>)> = Vec::with_capacity(view.devices.len());
        for (plex, device) in view.route.plexes.iter().zip(&view.devices) {
            let (device, request) = (Rc::clone(device), request.clone());
            let limited = plex.role == Role::WriteOnly;
            waiting.push((plex.uuid, limited, Some(Box::pin(async move { device.submit(request).await }))));
        }
        // Pages of the request itself cannot be given back before every medium has answered.
        let may_leave = !matches!(request, Request::Write { buffer: Buffer::Registered(_), .. });
        let limit = Duration::from_nanos(self.volume.write_only_limit.load(Ordering::Relaxed));
        let mut timer: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
        std::future::poll_fn(|cx| {
            for (uuid, _, slot) in &mut waiting {
                if let Some(pending) = slot
                    && let Poll::Ready(result) = pending.as_mut().poll(cx)
                {
                    *slot = None;
                    failed.extend(result.err().map(|errno| (*uuid, errno)));
                }
            }
            let left = |limited: bool| waiting.iter().any(|(_, is, slot)| *is == limited && slot.is_some());
            if left(false) {
                return Poll::Pending;
            }
            if !left(true) {
                return Poll::Ready(());
            }
            if !may_leave {
                return Poll::Pending;
            }
            let clock = self.host.clock();
            timer.get_or_insert_with(|| Box::pin(clock.sleep(limit))).as_mut().poll(cx)
        })
        .await;
        for (uuid, _, slot) in waiting {
            if let Some(late) = slot {
                failed.push((uuid, Errno::TIMED_OUT));
                let volume = Arc::clone(&self.volume);
                volume.stragglers.fetch_add(1, Ordering::AcqRel);
                self.host.spawn(async move {
                    // What it ends with does not matter any more: the plex is out and tracked.
                    let _ = late.await;
                    volume.stragglers.fetch_sub(1, Ordering::AcqRel);
                });
            }
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

fn open_view<H: Host>(host: &H, route: Arc<Route<H::Medium>>, before: Option<&View<H>>) -> View<H> {
    let known = |uuid: Uuid| {
        let before = before?;
        before.route.plexes.iter().position(|plex| plex.uuid == uuid).map(|at| Rc::clone(&before.devices[at]))
    };
    let devices: Vec<_> = route
        .plexes
        .iter()
        .map(|plex| known(plex.uuid).unwrap_or_else(|| Rc::new(host.open(&plex.medium))))
        .collect();
    let has_write_only = route.plexes.iter().any(|plex| plex.role == Role::WriteOnly);
    let discard_zeroes = devices.iter().all(|device| device.geometry().discard_zeroes);
    View { route, devices, has_write_only, discard_zeroes }
}

impl<H: Host> BlockDevice for VolumeQueue<H> {
    fn geometry(&self) -> Geometry {
        self.volume.shape.geometry
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        self.check(&request)?;
        self.count(&request, request.range().length);
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

impl<H: Host> Drop for VolumeQueue<H> {
    fn drop(&mut self) {
        self.volume.gate.return_lane(self.lane);
    }
}
