//! One request on its way to several plexes: who answered, who failed, who is waited for no longer.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::{ByteRange, Errno, Uuid};
use crate::device::{BlockDevice, Buffer, Clock, Host, OwnedBuffer, Request};

use super::Role;
use super::fault::{Fate, Report};
use super::patience::{Alarm, HANGS_AFTER, Hanging, Patience, TICK};

/// Who failed, and how.
pub(super) type Failures = Vec<(Uuid, Errno)>;

/// Room for a request at a plex. It is used for one after the other, and goes with a request that is left behind.
trait Room<D> {
    fn begin(&mut self, device: Rc<D>, request: Request);

    /// What came of the request that was begun. Nothing of it is left then.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>>;

    /// Nobody waits for the request any more.
    fn clear(&mut self);
}

struct RoomOf<M, F> {
    make: M,
    request: Pin<Box<Option<F>>>,
}

impl<D, M, F> Room<D> for RoomOf<M, F>
where
    M: Fn(Rc<D>, Request) -> F,
    F: Future<Output = Result<(), Errno>>,
{
    fn begin(&mut self, device: Rc<D>, request: Request) {
        self.request.set(Some((self.make)(device, request)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        let request =
            self.request.as_mut().as_pin_mut().expect("a request is polled from its begin to its end");
        let answer = request.poll(cx);
        if answer.is_ready() {
            self.clear();
        }
        answer
    }

    fn clear(&mut self) {
        self.request.set(None);
    }
}

fn room<D: BlockDevice + 'static>() -> Box<dyn Room<D>> {
    let make = |device: Rc<D>, request| async move { device.submit(request).await };
    Box::new(RoomOf { make, request: Box::pin(None) })
}

/// A request that was left behind, in the room that it has.
struct LeftBehind<D>(Box<dyn Room<D>>);

impl<D> Future for LeftBehind<D> {
    type Output = Result<(), Errno>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

struct Leg<H: Host> {
    plex: Uuid,
    role: Role,
    /// It has not answered.
    is_open: bool,
    room: Box<dyn Room<H::Device>>,
    hanging: Option<Hanging<H::Medium>>,
    /// Where a read puts its bytes, if not where they are wanted.
    apart: Option<Buffer>,
}

/// Legs that no request has at the moment, in sets of one request each.
pub(super) struct SpareLegs<H: Host>(RefCell<Vec<Vec<Leg<H>>>>);

impl<H: Host> Default for SpareLegs<H> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// The legs of one request.
struct Legs<'a, H: Host> {
    spare: &'a SpareLegs<H>,
    /// The first `begun` are this request's.
    legs: Vec<Leg<H>>,
    begun: usize,
    open: usize,
}

impl<'a, H: Host> Legs<'a, H> {
    fn new(spare: &'a SpareLegs<H>) -> Self {
        let legs = spare.0.borrow_mut().pop().unwrap_or_default();
        Self { spare, legs, begun: 0, open: 0 }
    }

    fn begin(&mut self, plex: Uuid, role: Role, device: Rc<H::Device>, request: Request) -> &mut Leg<H> {
        if self.begun == self.legs.len() {
            let (is_open, hanging, apart) = (false, None, None);
            self.legs.push(Leg { plex, role, is_open, room: room(), hanging, apart });
        }
        let leg = &mut self.legs[self.begun];
        (leg.plex, leg.role, leg.is_open) = (plex, role, true);
        leg.room.begin(device, request);
        self.begun += 1;
        self.open += 1;
        leg
    }

    /// The legs that have not answered.
    fn open(&self) -> impl Iterator<Item = &Leg<H>> {
        self.legs[..self.begun].iter().filter(|leg| leg.is_open)
    }

    fn open_mut(&mut self) -> impl Iterator<Item = &mut Leg<H>> {
        self.legs[..self.begun].iter_mut().filter(|leg| leg.is_open)
    }

    /// Wait no longer for those that have not answered: they go on by themselves.
    fn leave_behind(&mut self, patience: &Patience<H>, ask: bool) {
        for leg in self.open_mut() {
            leg.is_open = false;
            let left = LeftBehind(std::mem::replace(&mut leg.room, room()));
            leg.apart = None;
            patience.leave_behind(leg.plex, Box::pin(left), leg.hanging.take(), ask);
        }
        self.open = 0;
    }
}

impl<H: Host> Drop for Legs<'_, H> {
    fn drop(&mut self) {
        if self.open > 0 {
            for leg in self.open_mut() {
                leg.room.clear();
                (leg.hanging, leg.apart) = (None, None);
            }
        }
        self.spare.0.borrow_mut().push(std::mem::take(&mut self.legs));
    }
}

/// A write, zeroes or discard on its way to several plexes.
pub(super) struct Writing<'a, H: Host> {
    patience: &'a Patience<H>,
    range: ByteRange,
    /// Pages of the request itself cannot be given back before every medium has answered.
    may_leave: bool,
    legs: Legs<'a, H>,
    failed: Failures,
    /// A plex that is read has it.
    served: bool,
    /// It was waited for.
    waits: bool,
    hangs: Alarm<'a, H>,
    /// The tick at which the volume's patience ends.
    limit: Option<u64>,
    fate: Option<oneshot::Receiver<Fate>>,
}

/// What a write that is not done has come to.
enum Waited {
    /// Every plex has answered.
    Done,
    /// Only write-only plexes have not, and their limit has passed (ordering rule 6).
    Enough,
    /// Some have not answered within the limit, and others have.
    Late,
    /// What was decided of those.
    Decided(Fate),
}

impl<'a, H: Host> Writing<'a, H> {
    pub(super) fn new(patience: &'a Patience<H>, spare: &'a SpareLegs<H>, request: &Request) -> Self {
        let may_leave = !matches!(request, Request::Write { buffer: Buffer::Registered(_), .. });
        Self {
            patience,
            range: request.range(),
            may_leave,
            legs: Legs::new(spare),
            failed: Failures::new(),
            served: false,
            waits: false,
            hangs: patience.alarm(HANGS_AFTER),
            limit: None,
            fate: None,
        }
    }

    pub(super) fn begin(&mut self, plex: Uuid, role: Role, device: Rc<H::Device>, request: Request) {
        self.legs.begin(plex, role, device, request);
    }

    /// Wait for the plexes, for the write-only ones at most `write_only` longer than for the others; who failed or was
    /// late. What was left behind goes on by itself and keeps the buffer.
    pub(super) async fn finish(&mut self, write_only: Duration) -> Failures {
        let patience = self.patience;
        let mut timer: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
        loop {
            let waited = std::future::poll_fn(|cx| {
                let waited = self.poll(cx);
                if waited.is_ready()
                    || !self.may_leave
                    || self.legs.open().any(|leg| leg.role != Role::WriteOnly)
                {
                    return waited;
                }
                let timer = timer.get_or_insert_with(|| Box::pin(patience.host.clock().sleep(write_only)));
                timer.as_mut().poll(cx).map(|()| Waited::Enough)
            })
            .await;
            match waited {
                Waited::Done => break,
                Waited::Enough => {
                    self.leave_the_rest();
                    break;
                }
                Waited::Late => {
                    let (fate, decided) = oneshot::channel();
                    let plexes = self.legs.open().map(|leg| leg.plex).collect();
                    patience.volume.faults.tell(Report::Late { range: self.range, plexes, fate });
                    self.fate = Some(decided);
                    self.limit = None;
                }
                Waited::Decided(Fate::Stays) => self.limit = patience.limit_tick(),
                Waited::Decided(Fate::Left) if self.may_leave => {
                    self.leave_the_rest();
                    break;
                }
                // New requests do not go there; this one waits.
                Waited::Decided(Fate::Left) => {}
            }
        }
        std::mem::take(&mut self.failed)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Waited> {
        let mut answered = 0;
        for leg in self.legs.open_mut() {
            let Poll::Ready(result) = leg.room.poll(cx) else { continue };
            leg.is_open = false;
            leg.hanging = None;
            answered += 1;
            match result {
                Ok(()) => self.served |= leg.role == Role::ReadWrite,
                Err(errno) => self.failed.push((leg.plex, errno)),
            }
        }
        self.legs.open -= answered;
        if self.legs.open == 0 {
            return Poll::Ready(Waited::Done);
        }
        if !std::mem::replace(&mut self.waits, true) {
            self.limit = self.patience.limit_tick();
        }
        while self.hangs.poll_with(self.limit, cx).is_ready() {
            let patience = self.patience;
            self.hangs.set(TICK);
            for leg in self.legs.open_mut() {
                leg.hanging.get_or_insert_with(|| patience.hanging(leg.plex));
            }
            // Other requests had them taken out: this one need not wait as long once more.
            if self.may_leave && self.legs.open().all(|leg| patience.has_left(leg.plex)) {
                return Poll::Ready(Waited::Decided(Fate::Left));
            }
        }
        if let Some(fate) = &mut self.fate
            && let Poll::Ready(decided) = Pin::new(fate).poll(cx)
        {
            self.fate = None;
            // A keeper that has ended decides nothing any more.
            return Poll::Ready(Waited::Decided(decided.unwrap_or(Fate::Stays)));
        }
        match self.limit {
            // The others have to answer first: while none has, nothing is gained by giving one up.
            Some(limit) if self.served && self.patience.tick() >= limit => Poll::Ready(Waited::Late),
            Some(_) | None => Poll::Pending,
        }
    }

    fn leave_the_rest(&mut self) {
        self.failed.extend(self.legs.open().map(|leg| (leg.plex, Errno::TIMED_OUT)));
        self.legs.leave_behind(self.patience, false);
    }
}

/// A read that is asked of one plex, and of another beside it when that one hangs: the first answer counts.
pub(super) struct Reading<'a, H: Host> {
    patience: &'a Patience<H>,
    buffer: &'a Buffer,
    legs: Legs<'a, H>,
    hangs: Alarm<'a, H>,
}

impl<'a, H: Host> Reading<'a, H> {
    /// A read into `buffer`.
    pub(super) fn new(patience: &'a Patience<H>, spare: &'a SpareLegs<H>, buffer: &'a Buffer) -> Self {
        Self { patience, buffer, legs: Legs::new(spare), hangs: patience.alarm(HANGS_AFTER) }
    }

    /// Whether no answer is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.legs.open == 0
    }

    /// Ask `plex` for the bytes from `offset` on. They go into the buffer of the read itself, unless those of another still
    /// may.
    pub(super) fn begin(&mut self, plex: Uuid, device: Rc<H::Device>, offset: u64) {
        let apart = (!self.is_empty()).then(|| Buffer::from(OwnedBuffer::zeroed(self.buffer.len())));
        let buffer = apart.as_ref().unwrap_or(self.buffer).clone();
        self.hangs.set(HANGS_AFTER);
        self.legs.begin(plex, Role::ReadWrite, device, Request::Read { offset, buffer }).apart = apart;
    }

    /// The next answer; the read is done with the first good one. `None` when those that were asked hang and `another`
    /// can be asked beside them.
    pub(super) async fn next(&mut self, another: bool) -> Option<Result<(), (Uuid, Errno)>> {
        std::future::poll_fn(|cx| self.poll_next(another, cx)).await
    }

    fn poll_next(&mut self, another: bool, cx: &mut Context<'_>) -> Poll<Option<Result<(), (Uuid, Errno)>>> {
        let answer = self.legs.open_mut().find_map(|leg| match leg.room.poll(cx) {
            Poll::Ready(result) => Some((leg, result)),
            Poll::Pending => None,
        });
        if let Some((leg, result)) = answer {
            leg.is_open = false;
            leg.hanging = None;
            let (plex, apart) = (leg.plex, leg.apart.take());
            self.legs.open -= 1;
            if let Err(errno) = result {
                return Poll::Ready(Some(Err((plex, errno))));
            }
            if let (Some(whole), Some(apart)) = (self.buffer.owned(), apart.as_ref().and_then(Buffer::owned))
            {
                // Nobody else has this memory. The read that hangs may still fill the other: with what its plex held meanwhile.
                apart.with_bytes(|bytes| whole.fill_from(0, bytes));
            }
            return Poll::Ready(Some(Ok(())));
        }
        if self.legs.open().any(|leg| leg.hanging.is_none()) && self.hangs.poll_with(None, cx).is_ready() {
            for leg in self.legs.open_mut().filter(|leg| leg.hanging.is_none()) {
                leg.hanging = Some(self.patience.hanging(leg.plex));
            }
            // Pages of the request itself can be filled by one plex at a time.
            if another && self.buffer.owned().is_some() {
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }
}

impl<H: Host> Drop for Reading<'_, H> {
    fn drop(&mut self) {
        if self.legs.open > 0 {
            self.legs.leave_behind(self.patience, true);
        }
    }
}
