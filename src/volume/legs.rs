//! One request on its way to several plexes: who answered, who failed, who is waited for no longer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::{ByteRange, Errno, Uuid};
use crate::device::{Buffer, Clock, Host, OwnedBuffer, Request};

use super::Role;
use super::fault::{Fate, Report};
use super::patience::{Alarm, HANGS_AFTER, Hanging, Patience, Pending, TICK};

/// Who failed, and how.
pub(super) type Failures = Vec<(Uuid, Errno)>;

struct Leg<H: Host> {
    plex: Uuid,
    role: Role,
    request: Pending<'static>,
    hanging: Option<Hanging<H::Medium>>,
}

/// A write, zeroes or discard on its way to several plexes.
pub(super) struct Writing<'a, H: Host> {
    patience: &'a Patience<H>,
    range: ByteRange,
    /// Pages of the request itself cannot be given back before every medium has answered.
    may_leave: bool,
    legs: Vec<Leg<H>>,
    failed: Failures,
    /// A plex that is read has it.
    served: bool,
    hangs: Alarm<H>,
    limit: Option<Alarm<H>>,
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
    pub(super) fn new(patience: &'a Patience<H>, request: &Request) -> Self {
        let may_leave = !matches!(request, Request::Write { buffer: Buffer::Registered(_), .. });
        Self {
            patience,
            range: request.range(),
            may_leave,
            legs: Vec::with_capacity(4),
            failed: Failures::new(),
            served: false,
            hangs: patience.alarm(HANGS_AFTER),
            limit: patience.limit(),
            fate: None,
        }
    }

    pub(super) fn begin(&mut self, plex: Uuid, role: Role, request: Pending<'static>) {
        self.legs.push(Leg { plex, role, request, hanging: None });
    }

    /// Wait for the plexes, for the write-only ones at most `write_only` longer than for the others; who failed or was
    /// late. What was left behind goes on by itself and keeps the buffer.
    pub(super) async fn finish(mut self, write_only: Duration) -> Failures {
        let clock = self.patience.host.clock().clone();
        let mut timer: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
        loop {
            let waited = std::future::poll_fn(|cx| {
                let waited = self.poll(cx);
                if waited.is_ready()
                    || !self.may_leave
                    || self.legs.iter().any(|leg| leg.role != Role::WriteOnly)
                {
                    return waited;
                }
                let timer = timer.get_or_insert_with(|| Box::pin(clock.sleep(write_only)));
                timer.as_mut().poll(cx).map(|()| Waited::Enough)
            })
            .await;
            match waited {
                Waited::Done => return self.failed,
                Waited::Enough => {
                    self.leave_the_rest();
                    return self.failed;
                }
                Waited::Late => {
                    let (fate, decided) = oneshot::channel();
                    let plexes = self.legs.iter().map(|leg| leg.plex).collect();
                    self.patience.volume.faults.tell(Report::Late { range: self.range, plexes, fate });
                    self.fate = Some(decided);
                    self.limit = None;
                }
                Waited::Decided(Fate::Stays) => self.limit = self.patience.limit(),
                Waited::Decided(Fate::Left) if self.may_leave => {
                    self.leave_the_rest();
                    return self.failed;
                }
                // New requests do not go there; this one waits.
                Waited::Decided(Fate::Left) => {}
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Waited> {
        let (failed, served) = (&mut self.failed, &mut self.served);
        self.legs.retain_mut(|leg| {
            let Poll::Ready(result) = leg.request.as_mut().poll(cx) else { return true };
            match result {
                Ok(()) => *served |= leg.role == Role::ReadWrite,
                Err(errno) => failed.push((leg.plex, errno)),
            }
            false
        });
        if self.legs.is_empty() {
            return Poll::Ready(Waited::Done);
        }
        while Pin::new(&mut self.hangs).poll(cx).is_ready() {
            let patience = self.patience;
            self.hangs = patience.alarm(TICK);
            for leg in &mut self.legs {
                leg.hanging.get_or_insert_with(|| patience.hanging(leg.plex));
            }
            // Other requests had them taken out: this one need not wait as long once more.
            if self.may_leave && self.legs.iter().all(|leg| patience.has_left(leg.plex)) {
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
        match &mut self.limit {
            // The others have to answer first: while none has, nothing is gained by giving one up.
            Some(limit) if self.served => Pin::new(limit).poll(cx).map(|()| Waited::Late),
            Some(limit) => {
                // It runs all the same.
                let _ = Pin::new(limit).poll(cx);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    fn leave_the_rest(&mut self) {
        for leg in self.legs.drain(..) {
            self.failed.push((leg.plex, Errno::TIMED_OUT));
            self.patience.leave_behind(leg.plex, leg.request, leg.hanging, false);
        }
    }
}

/// One plex that was asked.
struct ReadLeg<H: Host> {
    plex: Uuid,
    /// Where its bytes go.
    into: Buffer,
    request: Pending<'static>,
    hanging: Option<Hanging<H::Medium>>,
}

/// A read that is asked of one plex, and of another beside it when that one hangs: the first answer counts.
pub(super) struct Reading<'a, H: Host> {
    patience: &'a Patience<H>,
    buffer: &'a Buffer,
    legs: Vec<ReadLeg<H>>,
    hangs: Alarm<H>,
}

impl<'a, H: Host> Reading<'a, H> {
    /// A read into `buffer`.
    pub(super) fn new(patience: &'a Patience<H>, buffer: &'a Buffer) -> Self {
        Self { patience, buffer, legs: Vec::with_capacity(1), hangs: patience.alarm(HANGS_AFTER) }
    }

    /// Whether no answer is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    /// Where the next one that is asked puts its bytes: into the buffer of the read itself, unless another still may.
    pub(super) fn room(&self) -> Buffer {
        match self.legs.is_empty() {
            true => self.buffer.clone(),
            false => OwnedBuffer::zeroed(self.buffer.len()).into(),
        }
    }

    /// Ask `plex`, whose bytes go into `into`.
    pub(super) fn begin(&mut self, plex: Uuid, into: Buffer, request: Pending<'static>) {
        self.hangs = self.patience.alarm(HANGS_AFTER);
        self.legs.push(ReadLeg { plex, into, request, hanging: None });
    }

    /// The next answer; the read is done with the first good one. `None` when those that were asked hang and `another`
    /// can be asked beside them.
    pub(super) async fn next(&mut self, another: bool) -> Option<Result<(), (Uuid, Errno)>> {
        // Pages of the request itself can be filled by one plex at a time.
        let another = another && self.buffer.owned().is_some();
        let answer = std::future::poll_fn(|cx| {
            for at in 0..self.legs.len() {
                if let Poll::Ready(result) = self.legs[at].request.as_mut().poll(cx) {
                    return Poll::Ready(Some((at, result)));
                }
            }
            if self.legs.iter().any(|leg| leg.hanging.is_none())
                && Pin::new(&mut self.hangs).poll(cx).is_ready()
            {
                for leg in self.legs.iter_mut().filter(|leg| leg.hanging.is_none()) {
                    leg.hanging = Some(self.patience.hanging(leg.plex));
                }
                if another {
                    return Poll::Ready(None);
                }
            }
            Poll::Pending
        })
        .await;
        let (at, result) = answer?;
        let ReadLeg { plex, into: filled, .. } = self.legs.remove(at);
        if let Err(errno) = result {
            return Some(Err((plex, errno)));
        }
        if let (Some(whole), Some(filled)) = (self.buffer.owned(), filled.owned())
            && whole.as_ptr() != filled.as_ptr()
        {
            // Nobody else has this memory. The read that hangs may still fill the other: with what its plex held meanwhile.
            filled.with_bytes(|bytes| whole.fill_from(0, bytes));
        }
        Some(Ok(()))
    }
}

impl<H: Host> Drop for Reading<'_, H> {
    fn drop(&mut self) {
        for leg in self.legs.drain(..) {
            self.patience.leave_behind(leg.plex, leg.request, leg.hanging, true);
        }
    }
}
