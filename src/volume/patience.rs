//! How long a plex is waited for, and what becomes of a request that is waited for no longer.
//!
//! ```text
//!   submitted ──1 s──► it hangs: told; reads go to other plexes ──limit──► late: the keeper takes the plex out, if it is not
//!       └── answer ◄──────────────────┘ answers again: told                the last; the request is left behind
//! ```
//!
//! A request that is left behind goes on in a task of its own, a straggler, which keeps what the kernel may still touch: the
//! buffer and the medium. Its plex is attached again only when it has none. Pages of a zero-copy request cannot be given
//! back before every medium has answered: such a request is waited for to its end, though its plex gets no new one.
//!
//! Time is counted in ticks of a quarter of a second by a task that runs only while something waits: a request that is
//! answered soon costs no timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno, Uuid};
use crate::device::{BlockDevice, Clock, Geometry, Host, Request, SharedFlushes};

use super::Volume;
use super::fault::{Fate, Report, Verdict};

/// Between two looks at what waits.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// A plex that has not answered for so long hangs: no healthy disk takes that long, and an application notices.
pub const HANGS_AFTER: Duration = Duration::from_secs(1);

/// How long a plex is waited for unless another limit is set: what the drivers of disks give a command before they end it
/// themselves with an error, so that a medium which has not answered by then will not soon.
pub const PLEX_LIMIT: Duration = Duration::from_secs(30);

/// A request under way at a plex.
pub(super) type Pending<'a> = Pin<Box<dyn Future<Output = Result<(), Errno>> + 'a>>;

/// What hangs or was left behind at the plexes of a volume, and how long they are waited for.
pub(super) struct Waits {
    /// Nanoseconds; the largest number is for ever.
    limit: AtomicU64,
    /// Plexes that hang, for a look without the lock.
    hanging: AtomicU32,
    stragglers: AtomicU32,
    plexes: Mutex<BTreeMap<Uuid, PlexWaits>>,
}

#[derive(Clone, Copy, Default)]
struct PlexWaits {
    hanging: u32,
    stragglers: u32,
}

impl Default for Waits {
    fn default() -> Self {
        let waits = Self {
            limit: AtomicU64::new(0),
            hanging: AtomicU32::new(0),
            stragglers: AtomicU32::new(0),
            plexes: Mutex::default(),
        };
        waits.set_limit(Some(PLEX_LIMIT));
        waits
    }
}

impl Waits {
    pub(super) fn set_limit(&self, limit: Option<Duration>) {
        let nanoseconds = limit.map_or(u64::MAX, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        self.limit.store(nanoseconds, Ordering::Relaxed);
    }

    /// How long a plex is waited for; none for ever.
    pub(super) fn limit(&self) -> Option<Duration> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit != u64::MAX).then_some(Duration::from_nanos(limit))
    }

    pub(super) fn stragglers(&self) -> u32 {
        self.stragglers.load(Ordering::Acquire)
    }

    pub(super) fn stragglers_of(&self, plex: Uuid) -> u32 {
        self.plexes().get(&plex).map_or(0, |waits| waits.stragglers)
    }

    /// Whether `plex` has not answered a request for [`HANGS_AFTER`].
    pub(super) fn hangs(&self, plex: Uuid) -> bool {
        self.hanging.load(Ordering::Relaxed) > 0
            && self.plexes().get(&plex).is_some_and(|waits| waits.hanging > 0)
    }

    fn plexes(&self) -> MutexGuard<'_, BTreeMap<Uuid, PlexWaits>> {
        self.plexes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Change what is known of `plex`, and say what it was and is.
    fn change(&self, plex: Uuid, change: impl FnOnce(&mut PlexWaits)) -> (PlexWaits, PlexWaits) {
        let mut plexes = self.plexes();
        let waits = plexes.entry(plex).or_default();
        let before = *waits;
        change(waits);
        let after = *waits;
        if after.hanging == 0 && after.stragglers == 0 {
            plexes.remove(&plex);
        }
        (before, after)
    }
}

/// A request that hangs, until this is dropped.
pub(super) struct Hanging<M: Clone + Send + Sync + 'static> {
    volume: Arc<Volume<M>>,
    plex: Uuid,
}

impl<M: Clone + Send + Sync + 'static> Hanging<M> {
    pub(super) fn new(volume: &Arc<Volume<M>>, plex: Uuid) -> Self {
        let (before, _) = volume.waits.change(plex, |waits| waits.hanging += 1);
        if before.hanging == 0 {
            volume.waits.hanging.fetch_add(1, Ordering::Relaxed);
            volume.faults.tell(Report::Hangs { plex });
        }
        Self { volume: Arc::clone(volume), plex }
    }
}

impl<M: Clone + Send + Sync + 'static> Drop for Hanging<M> {
    fn drop(&mut self) {
        let (_, after) = self.volume.waits.change(self.plex, |waits| waits.hanging -= 1);
        if after.hanging == 0 {
            self.volume.waits.hanging.fetch_sub(1, Ordering::Relaxed);
            self.volume.faults.tell(Report::Answers { plex: self.plex });
        }
    }
}

/// A request that nobody waits for any more, until this is dropped.
struct Straggler<M: Clone + Send + Sync + 'static> {
    volume: Arc<Volume<M>>,
    plex: Uuid,
}

impl<M: Clone + Send + Sync + 'static> Straggler<M> {
    fn new(volume: &Arc<Volume<M>>, plex: Uuid) -> Self {
        volume.waits.change(plex, |waits| waits.stragglers += 1);
        volume.waits.stragglers.fetch_add(1, Ordering::AcqRel);
        Self { volume: Arc::clone(volume), plex }
    }
}

impl<M: Clone + Send + Sync + 'static> Drop for Straggler<M> {
    fn drop(&mut self) {
        self.volume.waits.change(self.plex, |waits| waits.stragglers -= 1);
        self.volume.waits.stragglers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The ticks of one thread.
#[derive(Default)]
struct Ticks {
    now: Cell<u64>,
    running: Cell<bool>,
    waiting: RefCell<Waiting>,
}

/// Who waits for which tick, by place.
#[derive(Default)]
struct Waiting {
    /// A free place waits for no tick. It keeps its waker, which may be that of the next to come.
    places: Vec<(u64, Waker)>,
    free: Vec<usize>,
}

impl Waiting {
    const NEVER: u64 = u64::MAX;

    /// Have `waker` woken at `at`, from `place` or a new one.
    fn put(&mut self, place: Option<usize>, at: u64, waker: &Waker) -> usize {
        match place.or_else(|| self.free.pop()) {
            Some(place) => {
                let (tick, known) = &mut self.places[place];
                *tick = at;
                known.clone_from(waker);
                place
            }
            None => {
                self.places.push((at, waker.clone()));
                self.places.len() - 1
            }
        }
    }

    fn release(&mut self, place: usize) {
        self.places[place].0 = Self::NEVER;
        self.free.push(place);
    }
}

impl Ticks {
    /// One tick further; whether anything waits still.
    fn advance(&self) -> bool {
        let now = self.now.get() + 1;
        self.now.set(now);
        let waiting = self.waiting.borrow();
        for (_, waker) in waiting.places.iter().filter(|(at, _)| *at <= now) {
            waker.wake_by_ref();
        }
        waiting.places.len() > waiting.free.len()
    }
}

/// Completes at its tick. It begins to wait when it is polled first.
pub(super) struct Alarm<'a, H: Host> {
    patience: &'a Patience<H>,
    after: u64,
    at: Option<u64>,
    place: Option<usize>,
}

impl<'a, H: Host> Alarm<'a, H> {
    const fn new(patience: &'a Patience<H>, after: u64) -> Self {
        Self { patience, after, at: None, place: None }
    }

    /// Completes `after` its next poll, as [`Patience::alarm`] has it.
    pub(super) fn set(&mut self, after: Duration) {
        (self.after, self.at) = (ticks_of(after), None);
    }

    /// As a poll. While it is pending it wakes at `other` too, if that tick comes first.
    pub(super) fn poll_with(&mut self, other: Option<u64>, cx: &Context<'_>) -> Poll<()> {
        let ticks = &self.patience.ticks;
        let now = ticks.now.get();
        let at = *self.at.get_or_insert(now + self.after);
        if now >= at {
            return Poll::Ready(());
        }
        let wakes = other.filter(|other| *other > now).map_or(at, |other| other.min(at));
        self.place = Some(ticks.waiting.borrow_mut().put(self.place, wakes, cx.waker()));
        if !ticks.running.replace(true) {
            let host = &self.patience.host;
            host.spawn(run(host.clone(), Rc::downgrade(ticks)));
        }
        Poll::Pending
    }
}

impl<H: Host> Unpin for Alarm<'_, H> {}

impl<H: Host> Future for Alarm<'_, H> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_with(None, cx)
    }
}

impl<H: Host> Drop for Alarm<'_, H> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.patience.ticks.waiting.borrow_mut().release(place);
        }
    }
}

/// Ticks after which `after` has passed. The tick at work counts as none: its length is not known.
fn ticks_of(after: Duration) -> u64 {
    let ticks = u64::try_from(after.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX / 2);
    ticks.min(u64::MAX / 2) + 1
}

async fn run<H: Host>(host: H, ticks: Weak<Ticks>) {
    loop {
        host.clock().sleep(TICK).await;
        let Some(ticks) = ticks.upgrade() else { return };
        if !ticks.advance() {
            ticks.running.set(false);
            return;
        }
    }
}

/// What a plex that is waited for has come to.
enum Answer {
    /// It has answered.
    Result(Result<(), Errno>),
    /// It has not within the limit.
    Late,
    /// It was taken out meanwhile.
    Left,
}

/// One thread's patience with the plexes of a volume.
pub(super) struct Patience<H: Host> {
    pub(super) host: H,
    pub(super) volume: Arc<Volume<H::Medium>>,
    ticks: Rc<Ticks>,
}

impl<H: Host> Clone for Patience<H> {
    fn clone(&self) -> Self {
        Self { host: self.host.clone(), volume: Arc::clone(&self.volume), ticks: Rc::clone(&self.ticks) }
    }
}

impl<H: Host> Patience<H> {
    pub(super) fn new(host: H, volume: Arc<Volume<H::Medium>>) -> Self {
        Self { host, volume, ticks: Rc::default() }
    }

    /// An alarm `after` its first poll, or up to two ticks later.
    pub(super) fn alarm(&self, after: Duration) -> Alarm<'_, H> {
        Alarm::new(self, ticks_of(after))
    }

    /// An alarm at the limit of the volume's patience; none when it has no limit.
    fn limit(&self) -> Option<Alarm<'_, H>> {
        self.volume.waits.limit().map(|limit| self.alarm(limit))
    }

    /// The tick at which the limit of the volume's patience passes for who begins to wait now.
    pub(super) fn limit_tick(&self) -> Option<u64> {
        self.volume.waits.limit().map(|limit| self.tick() + ticks_of(limit))
    }

    /// The ticks so far.
    pub(super) fn tick(&self) -> u64 {
        self.ticks.now.get()
    }

    pub(super) fn hanging(&self, plex: Uuid) -> Hanging<H::Medium> {
        Hanging::new(&self.volume, plex)
    }

    /// Whether `plex` was taken out of the write path, for another request that it did not answer.
    pub(super) fn has_left(&self, plex: Uuid) -> bool {
        self.volume.route().plex(plex).is_none()
    }

    /// Wait for `late` no longer: it goes on by itself. A read says nothing of itself when its plex still does not answer at
    /// the limit; `ask` has that told.
    pub(super) fn leave_behind(
        &self,
        plex: Uuid,
        mut late: Pending<'static>,
        hanging: Option<Hanging<H::Medium>>,
        ask: bool,
    ) {
        let (straggler, patience) = (Straggler::new(&self.volume, plex), self.clone());
        self.host.spawn(async move {
            let _hanging = hanging;
            let mut limit = if ask { patience.limit() } else { None };
            std::future::poll_fn(|cx| {
                // What it ends with does not matter any more.
                if late.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                if let Some(alarm) = &mut limit
                    && Pin::new(alarm).poll(cx).is_ready()
                {
                    // Whatever is decided, this read has its answer from elsewhere.
                    let (fate, _) = oneshot::channel();
                    let (range, plexes) = (ByteRange::new(0, 0), vec![plex]);
                    patience.volume.faults.tell(Report::Late { range, plexes, fate });
                    limit = None;
                }
                Poll::Pending
            })
            .await;
            drop(straggler);
        });
    }

    /// Wait for the only plex that can answer, and tell when it hangs.
    pub(super) fn alone<'a>(
        &'a self,
        plex: Uuid,
        mut request: Pin<&'a mut impl Future<Output = Result<(), Errno>>>,
    ) -> impl Future<Output = Result<(), Errno>> + 'a {
        let (mut alarm, mut hanging) = (self.alarm(HANGS_AFTER), None);
        std::future::poll_fn(move |cx| {
            let answer = request.as_mut().poll(cx);
            if answer.is_pending() && hanging.is_none() && alarm.poll_with(None, cx).is_ready() {
                hanging = Some(self.hanging(plex));
            }
            answer
        })
    }

    /// Wait for `request` at `plex` as long as the volume's patience lasts and `may_leave` agrees, and until the plex has left
    /// for another's sake. `None` then: the request was left behind.
    async fn answer(
        &self,
        plex: Uuid,
        range: ByteRange,
        mut request: Pending<'static>,
        may_leave: impl Fn() -> bool,
    ) -> Option<Result<(), Errno>> {
        let (mut alarm, mut hanging) = (self.alarm(HANGS_AFTER), None);
        let mut limit = self.limit();
        loop {
            let answer = std::future::poll_fn(|cx| {
                if let Poll::Ready(result) = request.as_mut().poll(cx) {
                    return Poll::Ready(Answer::Result(result));
                }
                let is_due = limit.as_mut().is_some_and(|limit| Pin::new(limit).poll(cx).is_ready());
                while Pin::new(&mut alarm).poll(cx).is_ready() {
                    alarm = self.alarm(TICK);
                    hanging.get_or_insert_with(|| self.hanging(plex));
                    if self.has_left(plex) {
                        return Poll::Ready(Answer::Left);
                    }
                }
                if is_due && may_leave() { Poll::Ready(Answer::Late) } else { Poll::Pending }
            })
            .await;
            match answer {
                Answer::Result(result) => return Some(result),
                Answer::Left => break,
                Answer::Late => match self.late(plex, range).await {
                    Fate::Stays => limit = self.limit(),
                    Fate::Left => break,
                },
            }
        }
        self.leave_behind(plex, request, hanging, false);
        None
    }

    /// Flush `plex`; how the volume stands to it afterwards. A failure is told at once, and not when others have answered
    /// too. `flushed` counts the plexes that this flush has reached: while there is none, nobody is late.
    pub(super) async fn flush(
        &self,
        plex: Uuid,
        device: Rc<H::Device>,
        heard: bool,
        flushed: &Cell<u32>,
    ) -> Verdict {
        let (faults, counts) = (&self.volume.faults, self.volume.flushes_of(plex));
        counts.iter().for_each(|counts| counts.begin());
        let request = Box::pin(async move {
            match device.submit(Request::Flush).await {
                Err(_) if heard && museum::shows(Exhibit::FailedFlushTriedAgain) => {
                    device.submit(Request::Flush).await
                }
                first => first,
            }
        });
        let answer = self.answer(plex, ByteRange::new(0, 0), request, || flushed.get() > 0).await;
        // Before anybody decides what comes of it: whoever dies meanwhile leaves this behind.
        count_end(counts.as_ref(), answer);
        match answer {
            Some(Ok(())) => {
                flushed.set(flushed.get() + 1);
                Verdict::Acknowledge
            }
            Some(Err(_)) if heard && museum::shows(Exhibit::FlushErrorSwallowed) => Verdict::Acknowledge,
            Some(Err(errno)) => faults.ask(|verdict| Report::Flush { plex, errno, heard, verdict }).await,
            None => faults.ask(|verdict| Report::Settle { verdict }).await,
        }
    }

    /// `plex` has not answered a request for `range` within the limit: what becomes of it.
    pub(super) async fn late(&self, plex: Uuid, range: ByteRange) -> Fate {
        let (fate, decided) = oneshot::channel();
        self.volume.faults.tell(Report::Late { range, plexes: vec![plex], fate });
        // A keeper that has ended decides nothing any more.
        decided.await.unwrap_or(Fate::Stays)
    }
}

/// Count how what was begun has ended; one that was left behind has not.
fn count_end(counts: Option<&SharedFlushes>, answer: Option<Result<(), Errno>>) {
    match (counts, answer) {
        (Some(counts), Some(Ok(()))) => counts.went_well(),
        (Some(counts), Some(Err(_))) => counts.has_failed(),
        (Some(_), None) | (None, _) => {}
    }
}

/// One plex as the mover works on it: a request that its medium does not answer within the volume's patience fails with
/// [`Errno::TIMED_OUT`], so that no window is held for it any longer.
pub struct PlexDevice<H: Host> {
    patience: Patience<H>,
    plex: Uuid,
    geometry: Geometry,
    /// None once it was let go.
    device: Rc<RefCell<Option<Rc<H::Device>>>>,
    /// Ends the task that lets it go.
    ended: Rc<Notify>,
}

impl<H: Host> PlexDevice<H> {
    /// The plex `plex` of `volume`, on the medium `medium`, for the thread of `host`.
    #[must_use]
    pub fn new(host: &H, volume: Arc<Volume<H::Medium>>, plex: Uuid, medium: &H::Medium) -> Self {
        let device = host.open(medium);
        let geometry = device.geometry();
        let device = Rc::new(RefCell::new(Some(Rc::new(device))));
        Self { patience: Patience::new(host.clone(), volume), plex, geometry, device, ended: Rc::default() }
    }

    /// The same, let go as soon as the plex leaves the write path, whatever the mover is at: its medium is unlocked then, and
    /// requests fail with [`Errno::GONE`].
    #[must_use]
    pub fn while_in_path(host: &H, volume: Arc<Volume<H::Medium>>, plex: Uuid, medium: &H::Medium) -> Self {
        let it = Self::new(host, Arc::clone(&volume), plex, medium);
        let (device, ended) = (Rc::downgrade(&it.device), Rc::clone(&it.ended));
        host.spawn(async move {
            loop {
                let mut swapped = std::pin::pin!(volume.swapped.notified());
                swapped.as_mut().enable();
                let Some(device) = device.upgrade() else { return };
                if volume.route().plex(plex).is_none() {
                    device.take();
                    return;
                }
                drop(device);
                futures_util::future::select(swapped, std::pin::pin!(ended.notified())).await;
            }
        });
        it
    }

    fn device(&self) -> Result<Rc<H::Device>, Errno> {
        self.device.borrow().clone().ok_or(Errno::GONE)
    }
}

impl<H: Host> Drop for PlexDevice<H> {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

impl<H: Host> BlockDevice for PlexDevice<H> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn submit(&self, request: Request) -> Result<(), Errno> {
        let (device, range) = (self.device()?, request.range());
        let changes = !matches!(request, Request::Read { .. });
        let request = Box::pin(async move { device.submit(request).await });
        // What the mover writes nobody asks for once more when the process dies: it counts as a flush does.
        let counts = changes.then(|| self.patience.volume.flushes_of(self.plex)).flatten();
        counts.iter().for_each(|counts| counts.begin());
        // A write that lands late must not meet newer ones: the plex is out before the window is given up.
        let answer = self.patience.answer(self.plex, range, request, || true).await;
        count_end(counts.as_ref(), answer);
        answer.unwrap_or(Err(Errno::TIMED_OUT))
    }

    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        self.device()?.next_data(span).await
    }
}
