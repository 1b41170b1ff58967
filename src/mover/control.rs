//! The handle of a running job: watched and steered from any thread.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::device::{Clock, Moment};
use crate::volume::{Latency, Watch};

use super::meter::Progress;

/// What the job shall do.
///
/// ```text
///        pause            abort
///  Run <-------> Pause ---------> Abort   (from Run too; it is final)
///        resume
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Take work.
    Run,
    /// Finish what is at work, then wait.
    Pause,
    /// Finish what is at work, then end.
    Abort,
}

/// A command to a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Wait.
    Pause,
    /// Go on.
    Resume,
    /// End.
    Abort,
}

impl Wanted {
    /// What is wanted after `command`; `None` when the job has been aborted and cannot be told otherwise.
    #[must_use]
    pub const fn step(self, command: Command) -> Option<Self> {
        match (self, command) {
            (Self::Run | Self::Pause, Command::Pause) => Some(Self::Pause),
            (Self::Run | Self::Pause, Command::Resume) => Some(Self::Run),
            (Self::Run | Self::Pause | Self::Abort, Command::Abort) => Some(Self::Abort),
            (Self::Abort, Command::Pause | Command::Resume) => None,
        }
    }
}

/// How much a job may get in the way of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// The most bytes a second.
    pub rate: Option<NonZeroU64>,
    /// What the application's requests may take on average: while they take longer, the job goes slower and slower.
    pub latency: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Wish {
    wanted: Wanted,
    limits: Limits,
}

/// The handle of one job. Clones are the same handle; all methods may be called on any thread and never block.
#[derive(Clone, Debug)]
pub struct Control {
    wish: Arc<watch::Sender<Wish>>,
    /// Of the volume that the job works on; none where a latency target means nothing.
    latency: Option<Arc<Latency>>,
    progress: Arc<watch::Sender<Progress>>,
}

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {:?}", self.wanted, self.limits)
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new(None)
    }
}

/// The longest sleep of a throttled job between two looks at what is wanted.
const NAP: Duration = Duration::from_millis(100);

impl Control {
    /// The handle of a job that shall run, at most at `bytes_per_second`.
    #[must_use]
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        let wish = Wish { wanted: Wanted::Run, limits: Limits { rate: bytes_per_second, latency: None } };
        Self {
            wish: Arc::new(watch::Sender::new(wish)),
            latency: None,
            progress: Arc::new(watch::Sender::new(Progress::default())),
        }
    }

    /// The handle of a job that shall run within `limits`, on a volume whose requests `latency` measures.
    #[must_use]
    pub fn within(limits: Limits, latency: &Arc<Latency>) -> Self {
        let control = Self { latency: Some(Arc::clone(latency)), ..Self::new(limits.rate) };
        control.limit_latency(limits.latency);
        control
    }

    /// Give the job a command; false when it was aborted before and cannot be told otherwise.
    pub fn tell(&self, command: Command) -> bool {
        let mut known = false;
        self.wish.send_if_modified(|wish| match wish.wanted.step(command) {
            Some(next) => {
                known = true;
                std::mem::replace(&mut wish.wanted, next) != next
            }
            None => false,
        });
        known
    }

    /// Finish what is at work, then wait.
    pub fn pause(&self) -> bool {
        self.tell(Command::Pause)
    }

    /// Go on.
    pub fn resume(&self) -> bool {
        self.tell(Command::Resume)
    }

    /// Finish what is at work, then end.
    pub fn abort(&self) {
        self.tell(Command::Abort);
    }

    /// Move at most `bytes_per_second` from now on; `None` for as many as there come.
    pub fn limit_rate(&self, bytes_per_second: Option<NonZeroU64>) {
        self.wish.send_modify(|wish| wish.limits.rate = bytes_per_second);
    }

    /// Go slower from now on while the application's requests take longer than `target` on average; `None` to go on
    /// whatever they take.
    pub fn limit_latency(&self, target: Option<Duration>) {
        self.wish.send_modify(|wish| wish.limits.latency = target);
    }

    /// What is wanted of the job.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.wish.borrow().wanted
    }

    /// The limit in force, in bytes a second.
    #[must_use]
    pub fn rate_limit(&self) -> Option<NonZeroU64> {
        self.wish.borrow().limits.rate
    }

    /// The latency target in force.
    #[must_use]
    pub fn latency_limit(&self) -> Option<Duration> {
        self.wish.borrow().limits.latency
    }

    /// How far the job is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// A channel that carries the newest progress.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn publish(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }

    /// Wait until the job shall end.
    pub async fn aborted(&self) {
        // The sender lives as long as `self`.
        let _ = self.wish.subscribe().wait_for(|wish| wish.wanted == Wanted::Abort).await;
    }

    /// Wait while the job shall pause; false when it shall end.
    pub(super) async fn may_run(&self) -> bool {
        let mut wish = self.wish.subscribe();
        loop {
            match wish.borrow_and_update().wanted {
                Wanted::Run => return true,
                Wanted::Abort => return false,
                Wanted::Pause => (),
            }
            // The sender lives as long as `self`.
            if wish.changed().await.is_err() {
                return false;
            }
        }
    }
}

/// The slowest that a job becomes for the sake of the application, in bytes a second: it comes to its end all the same.
const SLOWEST: u64 = 1 << 20;

/// Steps from the slowest to full pace.
const STEPS: u64 = 16;

/// A pace that follows a latency target: halved while that is missed, raised by a fixed step while it is met. It settles
/// where the application just does not mind.
///
/// ```text
///             missed: half of what was moved         missed: half
///  no cap ───────────────────────────────> cap ──────────────────┐
///     ^                                    │ ^ <─────────────────┘
///     └────────────────────────────────────┘ └── met: a step more
///       met, as fast as it ever was
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Pace {
    /// Bytes a second at most.
    cap: Option<u64>,
    /// What was moved in a second when there was no cap yet.
    full: u64,
}

impl Pace {
    /// The pace after a span in which the target was missed or not, and `moved` bytes a second were moved.
    fn next(self, missed: bool, moved: u64) -> Self {
        match (self.cap, missed) {
            (None, false) => self,
            (None, true) => Self { cap: Some((moved / 2).max(SLOWEST)), full: self.full.max(moved) },
            (Some(cap), true) => Self { cap: Some((cap / 2).max(SLOWEST)), ..self },
            (Some(cap), false) => {
                let cap = cap.saturating_add((self.full / STEPS).max(SLOWEST));
                Self { cap: (cap < self.full).then_some(cap), ..self }
            }
        }
    }
}

/// Looks after the application while there is a latency target.
struct Heed {
    watch: Watch,
    pace: Pace,
    /// Bytes that had their turn at the last look, and when that was.
    seen: (u64, Moment),
}

/// Spreads the bytes of a job over time.
#[derive(Default)]
pub(super) struct Pacer {
    free_at: Cell<Moment>,
    /// Bytes that have had their turn.
    given: Cell<u64>,
    heed: RefCell<Option<Heed>>,
}

impl Pacer {
    /// Wait for the turn of `bytes` more bytes; false when the job shall end. Sleeps are short, so that commands and a new
    /// limit are followed soon; no window is held meanwhile.
    pub(super) async fn turn(&self, bytes: u64, control: &Control, clock: &impl Clock) -> bool {
        loop {
            if !control.may_run().await {
                return false;
            }
            let now = clock.now();
            let cap = self.cap(control, now);
            let Some(rate) = control.rate_limit().into_iter().chain(cap).min() else {
                self.given.set(self.given.get() + bytes);
                return true;
            };
            // One nap's worth may be caught up after a stall, not more: a limit is a promise to others.
            let earliest = Moment(now.0.saturating_sub(NAP.as_nanos() as u64));
            let free_at = self.free_at.get().max(earliest);
            if free_at <= now {
                self.free_at.set(free_at.after(time_for(bytes, rate)));
                self.given.set(self.given.get() + bytes);
                return true;
            }
            clock.sleep_until(free_at.min(now.after(NAP))).await;
        }
    }

    /// The most bytes a second for the sake of the latency target; looked at anew after each nap's time.
    fn cap(&self, control: &Control, now: Moment) -> Option<NonZeroU64> {
        let mut heed = self.heed.borrow_mut();
        let (Some(target), Some(latency)) = (control.latency_limit(), &control.latency) else {
            *heed = None;
            return None;
        };
        let given = self.given.get();
        let heed = heed.get_or_insert_with(|| Heed {
            watch: latency.watch(now),
            pace: Pace::default(),
            seen: (given, now),
        });
        let span = now.since(heed.seen.1);
        if span >= NAP {
            let missed = heed.watch.look(now).is_some_and(|average| average > target);
            let moved = u128::from(given.saturating_sub(heed.seen.0)) * 1_000_000_000 / span.as_nanos();
            heed.pace = heed.pace.next(missed, u64::try_from(moved).unwrap_or(u64::MAX));
            heed.seen = (given, now);
        }
        heed.pace.cap.and_then(NonZeroU64::new)
    }

    /// Let `bytes` that had their turn count for nothing.
    pub(super) fn refund(&self, bytes: u64, control: &Control) {
        self.given.set(self.given.get().saturating_sub(bytes));
        let cap = self.heed.borrow().as_ref().and_then(|heed| heed.pace.cap).and_then(NonZeroU64::new);
        if let Some(rate) = control.rate_limit().into_iter().chain(cap).min() {
            let time = time_for(bytes, rate).as_nanos();
            let time = u64::try_from(time).unwrap_or(u64::MAX);
            self.free_at.set(Moment(self.free_at.get().0.saturating_sub(time)));
        }
    }
}

fn time_for(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn an_abort_is_final_and_the_rest_may_come_in_any_order() {
        let control = Control::default();
        assert!(control.pause() && control.pause() && control.wanted() == Wanted::Pause);
        assert!(control.resume() && control.wanted() == Wanted::Run);
        control.abort();
        assert!(!control.resume() && !control.pause() && control.tell(Command::Abort));
        assert_eq!(control.wanted(), Wanted::Abort);
    }

    #[test]
    fn clones_are_one_handle() {
        let control = Control::default();
        let other = control.clone();
        other.limit_rate(NonZeroU64::new(7));
        other.pause();
        assert_eq!(control.rate_limit().map(NonZeroU64::get), Some(7));
        assert_eq!(control.wanted(), Wanted::Pause);
    }

    #[test]
    fn a_pace_is_halved_and_comes_back_by_steps() {
        const MIB: u64 = 1 << 20;
        let mut pace = Pace::default().next(false, 800 * MIB);
        assert_eq!(pace.cap, None, "nobody minds");
        let mut caps = Vec::new();
        for _ in 0..12 {
            pace = pace.next(true, 800 * MIB);
            caps.push(pace.cap.unwrap() / MIB);
        }
        assert_eq!(caps, [400, 200, 100, 50, 25, 12, 6, 3, 1, 1, 1, 1]);
        for step in 1..16 {
            pace = pace.next(false, 0);
            assert_eq!(pace.cap, Some(MIB + step * 50 * MIB), "step {step}");
        }
        assert_eq!(pace.next(false, 0).cap, None, "as fast as ever");
        assert_eq!(pace.next(true, 0).cap, Some((MIB + 750 * MIB) / 2), "by what it may, not by what it did");
    }

    #[test]
    fn a_slow_job_has_a_pace_too() {
        let pace = Pace::default().next(true, 0);
        assert_eq!(pace.cap, Some(SLOWEST));
        assert_eq!(pace.next(false, 0).cap, None, "it never was faster");
    }

    #[test]
    fn what_had_its_turn_and_was_not_moved_delays_nobody() {
        let (pacer, clock) = (Pacer::default(), super::super::testing::TestClock::default());
        let control = Control::new(NonZeroU64::new(1 << 20));
        let turn = || pacer.turn(1 << 20, &control, &clock).now_or_never();
        assert_eq!(turn(), Some(true));
        assert_eq!(turn(), None, "it is a second too early");
        pacer.refund(1 << 20, &control);
        assert_eq!(turn(), Some(true));
    }

    #[test]
    fn the_time_for_bytes_does_not_overflow() {
        let rate = NonZeroU64::new(1).unwrap();
        assert_eq!(time_for(u64::MAX, rate), Duration::from_nanos(u64::MAX));
        assert_eq!(time_for(1 << 20, NonZeroU64::new(1 << 21).unwrap()), Duration::from_millis(500));
    }
}
