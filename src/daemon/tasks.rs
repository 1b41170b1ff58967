//! The registry of long tasks: what runs, what was asked of it, how it ended, and who is told.
//!
//! ```text
//!   who runs the work ── start, ended ──►  Tasks  ◄── pause, resume, abort, throttle, list ── requests
//!          ▲                                 │
//!          └────────── TaskControl ──────────┤
//!                                            └── subscribe ──► clients that wait
//! ```
//!
//! Transitions are those of the pure machine in [`crate::state::task`]. Each change of state is broadcast. Progress is broadcast a
//! few times a second, by a pump that runs only while somebody listens and some task moves: otherwise the registry wakes nobody
//! up. The last ended tasks are kept, so that one who asks late still learns how a task ended.
//!
//! It is for one thread, inside a `LocalSet` of tokio.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::base::{Kind, Name, Refusal, Refused, Uuid};
use crate::control::Event;
use crate::control::row::TaskRow;
use crate::control::words;
use crate::device::Moment;
use crate::mover::Control;
use crate::state::task::{TaskEvent, TaskState};

use super::machine::Machine;
use super::this_host::ThisHost;

/// Ended tasks that can still be asked for.
const KEPT_ENDED: usize = 64;

/// Between two looks at the progress of running tasks.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(400);

/// Events that a slow listener may lag behind; past it, it misses some and looks at the rows again.
const EVENTS: usize = 256;

/// How far a task is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes gone through: copied, compared or skipped.
    pub done: u64,
    /// Bytes to go through in all; 0 while that is not known.
    pub total: u64,
    /// Bytes written to the target.
    pub copied: u64,
    /// Bytes a second, lately.
    pub rate: u64,
    /// Milliseconds to the end at this rate, when it can be told.
    pub eta_ms: Option<u64>,
}

/// The handle of the work behind a task. No method blocks.
pub trait TaskControl {
    /// Finish what is at work, then wait.
    fn pause(&self);
    /// Go on.
    fn resume(&self);
    /// Finish what is at work, then end; [`Tasks::ended`] follows.
    fn abort(&self);
    /// Move at most so many bytes a second; `None` for no limit.
    fn throttle(&self, bytes_per_second: Option<u64>);
    /// The limit in force.
    fn limit(&self) -> Option<u64>;
    /// Go slower while the application's requests take longer than this on average; `None` to go on whatever they take.
    fn heed(&self, latency: Option<Duration>);
    /// The latency target in force.
    fn latency(&self) -> Option<Duration>;
    /// How far it is.
    fn progress(&self) -> Progress;
}

struct Entry {
    kind: words::TaskKind,
    group: Name,
    volume: (Uuid, Name),
    plex: Option<Name>,
    state: TaskState,
    began: Moment,
    /// `None` once it has ended.
    control: Option<Rc<dyn TaskControl>>,
    /// As known when it began, then as it was at the end.
    progress: Progress,
    elapsed: Duration,
    limit: Option<u64>,
    latency: Option<Duration>,
    fault: Option<Refused>,
}

/// Who is told of a task that failed.
type WhenFailed = Box<dyn Fn(&TaskRow)>;

/// The registry.
pub struct Tasks<M: Machine = ThisHost> {
    machine: M,
    entries: RefCell<BTreeMap<u64, Entry>>,
    last: Cell<u64>,
    events: broadcast::Sender<Event>,
    pumping: Cell<bool>,
    failed: RefCell<Option<WhenFailed>>,
    this: Weak<Self>,
}

impl<M: Machine> Tasks<M> {
    /// An empty registry.
    #[must_use]
    pub fn new(machine: M) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            machine,
            entries: RefCell::default(),
            last: Cell::new(0),
            events: broadcast::Sender::new(EVENTS),
            pumping: Cell::new(false),
            failed: RefCell::default(),
            this: this.clone(),
        })
    }

    /// Has `told` told of each task that fails, not of those that are aborted.
    pub fn when_failed(&self, told: impl Fn(&TaskRow) + 'static) {
        *self.failed.borrow_mut() = Some(Box::new(told));
    }

    /// Enters a task that runs from now on and goes through `total` bytes, 0 if that is not known yet. Returns its number,
    /// which no other task of this daemon's life gets; [`ended`](Self::ended) must follow.
    #[expect(clippy::too_many_arguments, reason = "each is a column of the row")]
    pub fn start(
        &self,
        kind: words::TaskKind,
        group: &Name,
        volume: Uuid,
        volume_name: &Name,
        plex: Option<&Name>,
        total: u64,
        control: Box<dyn TaskControl>,
    ) -> u64 {
        let id = self.last.get() + 1;
        self.last.set(id);
        let entry = Entry {
            kind,
            group: group.clone(),
            volume: (volume, volume_name.clone()),
            plex: plex.cloned(),
            state: TaskState::Running,
            began: self.machine.now(),
            limit: control.limit(),
            latency: control.latency(),
            control: Some(Rc::from(control)),
            progress: Progress { total, ..Progress::default() },
            elapsed: Duration::ZERO,
            fault: None,
        };
        self.entries.borrow_mut().insert(id, entry);
        self.announce(id);
        self.pump();
        id
    }

    /// Enters how a task ended. An outcome of kind [`Kind::Aborted`] says that it ended on request, by whomever. A task that has
    /// ended before, or was never started, is left as it is.
    pub fn ended(&self, id: u64, outcome: Result<(), Refused>) {
        {
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.get_mut(&id).filter(|entry| !entry.state.has_ended()) else { return };
            let steps: &[TaskEvent] = match &outcome {
                Ok(()) => &[TaskEvent::Finish],
                Err(refused) if refused.kind == Kind::Aborted => &[TaskEvent::Abort, TaskEvent::Drained],
                Err(_) => &[TaskEvent::Fail],
            };
            for step in steps {
                match entry.state.step(*step, id) {
                    Ok(next) => entry.state = next,
                    Err(refused) => tracing::error!(task = id, "an end that does not fit: {refused}"),
                }
            }
            entry.progress = Progress { rate: 0, eta_ms: None, ..entry.current() };
            if outcome.is_ok() {
                entry.progress.done = entry.progress.total;
            }
            entry.elapsed = self.machine.now().since(entry.began);
            entry.control = None;
            entry.fault = outcome.err();
        }
        self.announce(id);
        if let Ok(row) = self.row(id)
            && row.state == words::TaskState::Failed
            && let Some(told) = &*self.failed.borrow()
        {
            told(&row);
        }
        self.forget_old();
    }

    /// Forget the oldest of the ended tasks. Numbers rise, so the lowest number is the oldest task.
    fn forget_old(&self) {
        let mut entries = self.entries.borrow_mut();
        let ended: Vec<_> =
            entries.iter().filter(|(_, entry)| entry.state.has_ended()).map(|(id, _)| *id).collect();
        for old in ended.iter().take(ended.len().saturating_sub(KEPT_ENDED)) {
            entries.remove(old);
        }
    }

    /// The row of a task.
    ///
    /// # Errors
    /// `task.unknown`.
    pub fn row(&self, id: u64) -> Result<TaskRow, Refused> {
        self.entries
            .borrow()
            .get(&id)
            .map(|entry| entry.row(id, self.machine.now()))
            .ok_or_else(|| unknown(id))
    }

    /// The rows of all tasks, or those of `group`, in the order in which they began; ended ones as long as they are kept.
    #[must_use]
    pub fn list(&self, group: Option<&Name>) -> Vec<TaskRow> {
        self.rows(|entry| group.is_none_or(|group| entry.group == *group))
    }

    /// The rows of the tasks on `volume` that have not ended, in the order in which they began.
    #[must_use]
    pub fn of_volume(&self, volume: Uuid) -> Vec<TaskRow> {
        self.rows(|entry| entry.volume.0 == volume && !entry.state.has_ended())
    }

    fn rows(&self, take: impl Fn(&Entry) -> bool) -> Vec<TaskRow> {
        let now = self.machine.now();
        let entries = self.entries.borrow();
        entries.iter().filter(|(_, entry)| take(entry)).map(|(id, entry)| entry.row(*id, now)).collect()
    }

    /// The latest task on `volume` of one of `kinds`, ended or not, unless it is forgotten.
    #[must_use]
    pub fn latest(&self, volume: Uuid, kinds: &[words::TaskKind]) -> Option<TaskRow> {
        self.rows(|entry| entry.volume.0 == volume && kinds.contains(&entry.kind)).pop()
    }

    /// Pauses a task; a paused one stays so.
    ///
    /// # Errors
    /// `task.unknown`, `task.ended`, `task.state`.
    pub fn pause(&self, id: u64) -> Result<(), Refused> {
        self.steer(id, TaskEvent::Pause, |control| control.pause())
    }

    /// Resumes a task; a running one stays so.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn resume(&self, id: u64) -> Result<(), Refused> {
        self.steer(id, TaskEvent::Resume, |control| control.resume())
    }

    /// Tells a task to end; [`ended`](Self::ended) tells when it has.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn abort(&self, id: u64) -> Result<(), Refused> {
        self.steer(id, TaskEvent::Abort, |control| control.abort())
    }

    /// Limits the rate of a task in bytes a second, or frees it.
    ///
    /// # Errors
    /// `task.unknown`, `task.ended`; `task.limit` for a limit of zero.
    pub fn throttle(&self, id: u64, bytes_per_second: Option<u64>) -> Result<(), Refused> {
        let control = {
            let mut entries = self.entries.borrow_mut();
            let entry = entries.get_mut(&id).ok_or_else(|| unknown(id))?;
            let Some(control) = entry.control.clone() else {
                // The machine words the refusal for a task that has ended.
                return entry.state.step(TaskEvent::Resume, id).map(drop);
            };
            if bytes_per_second == Some(0) {
                return Err(Refusal::new(
                    Kind::Usage,
                    "task.limit",
                    format!("task {id}"),
                    "a limit of 0 bytes a second would never let it end",
                    format!("pause it with: cleave task pause {id}"),
                ));
            }
            entry.limit = bytes_per_second;
            control
        };
        control.throttle(bytes_per_second);
        self.announce(id);
        Ok(())
    }

    /// Has a task go slower while the application's requests take longer than `latency` on average, or sets it free.
    ///
    /// # Errors
    /// `task.unknown`, `task.ended`.
    pub fn heed(&self, id: u64, latency: Option<Duration>) -> Result<(), Refused> {
        let control = {
            let mut entries = self.entries.borrow_mut();
            let entry = entries.get_mut(&id).ok_or_else(|| unknown(id))?;
            let Some(control) = entry.control.clone() else {
                return entry.state.step(TaskEvent::Resume, id).map(drop);
            };
            entry.latency = latency;
            control
        };
        control.heed(latency);
        self.announce(id);
        Ok(())
    }

    fn steer(&self, id: u64, event: TaskEvent, tell: impl FnOnce(&dyn TaskControl)) -> Result<(), Refused> {
        let control = {
            let mut entries = self.entries.borrow_mut();
            let entry = entries.get_mut(&id).ok_or_else(|| unknown(id))?;
            let next = entry.state.step(event, id)?;
            if std::mem::replace(&mut entry.state, next) == next {
                return Ok(());
            }
            entry.control.clone()
        };
        // With no borrow held: the work may answer by entering its end at once.
        if let Some(control) = control {
            tell(&*control);
        }
        self.announce(id);
        self.pump();
        Ok(())
    }

    /// The events from now on: a task's row at each change of its state and, while it moves, a few times a second. The last
    /// row of a task is that of its end. A listener that lags behind looks at [`row`](Self::row) again.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        let events = self.events.subscribe();
        self.pump();
        events
    }

    fn announce(&self, id: u64) {
        if self.events.receiver_count() > 0
            && let Ok(row) = self.row(id)
        {
            // A listener may go at any time.
            let _ = self.events.send(Event::Progress(row));
        }
    }

    /// The rows of the tasks that can move.
    fn moving(&self) -> Vec<TaskRow> {
        self.rows(|entry| matches!(entry.state, TaskState::Running | TaskState::Aborting))
    }

    /// See that progress is told while somebody listens and some task moves.
    fn pump(&self) {
        if self.pumping.get() || self.events.receiver_count() == 0 || self.moving().is_empty() {
            return;
        }
        self.pumping.set(true);
        let (this, machine) = (self.this.clone(), self.machine.clone());
        self.machine.spawn(async move {
            let mut shown: BTreeMap<u64, Seen> = BTreeMap::new();
            loop {
                machine.sleep(PROGRESS_INTERVAL).await;
                let Some(tasks) = this.upgrade() else { return };
                let rows = tasks.moving();
                if rows.is_empty() || tasks.events.receiver_count() == 0 {
                    tasks.pumping.set(false);
                    return;
                }
                for row in rows {
                    let seen = (row.done_bytes, row.copied_bytes);
                    if shown.insert(row.task, seen) != Some(seen) {
                        let _ = tasks.events.send(Event::Progress(row));
                    }
                }
            }
        });
    }
}

/// What makes a row worth telling again: bytes done, bytes copied.
type Seen = (u64, u64);

impl TaskControl for Control {
    fn pause(&self) {
        // An aborted job drains anyway; the machine has refused before.
        Self::pause(self);
    }

    fn resume(&self) {
        Self::resume(self);
    }

    fn abort(&self) {
        Self::abort(self);
    }

    fn throttle(&self, bytes_per_second: Option<u64>) {
        self.limit_rate(bytes_per_second.and_then(NonZeroU64::new));
    }

    fn limit(&self) -> Option<u64> {
        self.rate_limit().map(NonZeroU64::get)
    }

    fn heed(&self, latency: Option<Duration>) {
        self.limit_latency(latency);
    }

    fn latency(&self) -> Option<Duration> {
        self.latency_limit()
    }

    fn progress(&self) -> Progress {
        let progress = Self::progress(self);
        Progress {
            done: progress.done_bytes,
            total: progress.total_bytes,
            copied: progress.written_bytes,
            rate: progress.bytes_per_second,
            eta_ms: progress.remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl Entry {
    fn current(&self) -> Progress {
        let Some(control) = &self.control else { return self.progress };
        let mut progress = control.progress();
        if progress.total == 0 {
            progress.total = self.progress.total;
        }
        progress.total = progress.total.max(progress.done);
        progress
    }

    fn row(&self, id: u64, now: Moment) -> TaskRow {
        let progress = self.current();
        let elapsed = if self.state.has_ended() { self.elapsed } else { now.since(self.began) };
        let waits = self.state == TaskState::Paused;
        TaskRow {
            task: id,
            kind: self.kind,
            state: state_word(self.state),
            group: self.group.clone(),
            volume: self.volume.1.clone(),
            plex: self.plex.clone(),
            done_bytes: progress.done,
            total_bytes: progress.total,
            copied_bytes: progress.copied,
            rate_bytes: if waits { 0 } else { progress.rate },
            eta_ms: progress.eta_ms.filter(|_| !waits),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            limit_bytes: self.limit,
            limit_latency_us: self.latency.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            fault: self.fault.as_deref().cloned(),
        }
    }
}

/// The word of `state` for clients.
#[must_use]
pub const fn state_word(state: TaskState) -> words::TaskState {
    match state {
        TaskState::Running => words::TaskState::Running,
        TaskState::Paused => words::TaskState::Paused,
        TaskState::Aborting => words::TaskState::Aborting,
        TaskState::Done => words::TaskState::Done,
        TaskState::Failed => words::TaskState::Failed,
        TaskState::Aborted => words::TaskState::Aborted,
    }
}

fn unknown(id: u64) -> Refused {
    Refusal::new(
        Kind::NotFound,
        "task.unknown",
        format!("task {id}"),
        "no such task",
        "list the tasks with: cleave task list",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::broadcast::error::TryRecvError;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    const VOLUME: Uuid = Uuid::from_bytes([7; 16]);

    /// Work that notes what it is told, and moves by 10 bytes at each look.
    #[derive(Default)]
    struct Work {
        told: RefCell<Vec<String>>,
        looks: Cell<u64>,
    }

    struct Handle(Rc<Work>);

    impl Handle {
        fn note(&self, what: &str) {
            self.0.told.borrow_mut().push(what.to_owned());
        }
    }

    impl TaskControl for Handle {
        fn pause(&self) {
            self.note("pause");
        }
        fn resume(&self) {
            self.note("resume");
        }
        fn abort(&self) {
            self.note("abort");
        }
        fn throttle(&self, bytes_per_second: Option<u64>) {
            self.note(&format!("throttle {bytes_per_second:?}"));
        }
        fn limit(&self) -> Option<u64> {
            None
        }
        fn heed(&self, latency: Option<Duration>) {
            self.note(&format!("heed {latency:?}"));
        }
        fn latency(&self) -> Option<Duration> {
            None
        }
        fn progress(&self) -> Progress {
            self.0.looks.set(self.0.looks.get() + 1);
            Progress { done: self.0.looks.get() * 10, total: 0, copied: 5, rate: 3, eta_ms: Some(9) }
        }
    }

    fn begin(tasks: &Tasks, volume: Uuid) -> (u64, Rc<Work>) {
        let work = Rc::new(Work::default());
        let control = Box::new(Handle(Rc::clone(&work)));
        let kind = words::TaskKind::SnapStart;
        (tasks.start(kind, &name("dg"), volume, &name("v"), Some(&name("v-02")), 100, control), work)
    }

    fn failed(kind: Kind) -> Refused {
        Refusal::new(kind, "x", "v-02", "went wrong", "")
    }

    #[test]
    fn commands_reach_the_work_once_and_rows_follow() {
        let tasks = Tasks::new(ThisHost);
        let (id, work) = begin(&tasks, VOLUME);
        tasks.pause(id).unwrap();
        tasks.pause(id).unwrap();
        let row = tasks.row(id).unwrap();
        assert_eq!((row.state, row.rate_bytes, row.eta_ms), (words::TaskState::Paused, 0, None));
        tasks.resume(id).unwrap();
        tasks.throttle(id, Some(1 << 20)).unwrap();
        assert_eq!(tasks.throttle(id, Some(0)).unwrap_err().id, "task.limit");
        tasks.heed(id, Some(Duration::from_millis(5))).unwrap();
        let row = tasks.row(id).unwrap();
        assert_eq!((row.state, row.limit_bytes), (words::TaskState::Running, Some(1 << 20)));
        assert_eq!(row.limit_latency_us, Some(5000));
        assert_eq!((row.total_bytes, row.copied_bytes, row.rate_bytes, row.eta_ms), (100, 5, 3, Some(9)));
        assert_eq!((row.group, row.volume, row.plex), (name("dg"), name("v"), Some(name("v-02"))));
        tasks.abort(id).unwrap();
        assert_eq!(tasks.resume(id).unwrap_err().id, "task.state");
        assert_eq!(
            *work.told.borrow(),
            ["pause", "resume", "throttle Some(1048576)", "heed Some(5ms)", "abort"]
        );
        for refused in
            [tasks.pause(99), tasks.throttle(99, None), tasks.heed(99, None), tasks.row(99).map(drop)]
        {
            assert_eq!(refused.unwrap_err().id, "task.unknown");
        }
    }

    #[test]
    fn each_end_has_its_state_and_is_kept_for_a_while() {
        let tasks = Tasks::new(ThisHost);
        let other = Uuid::from_bytes([8; 16]);
        let ends = [
            (Ok(()), words::TaskState::Done),
            (Err(failed(Kind::Io)), words::TaskState::Failed),
            (Err(failed(Kind::Aborted)), words::TaskState::Aborted),
        ];
        for (outcome, state) in ends {
            let (id, work) = begin(&tasks, VOLUME);
            assert_eq!(tasks.of_volume(VOLUME).len(), 1);
            tasks.ended(id, outcome.clone());
            let row = tasks.row(id).unwrap();
            assert_eq!(
                (row.state, row.fault, row.rate_bytes),
                (state, outcome.clone().err().map(|fault| *fault), 0)
            );
            assert_eq!(row.done_bytes == row.total_bytes, outcome.is_ok());
            // The work is let go; what comes late changes nothing.
            assert_eq!(Rc::strong_count(&work), 1);
            tasks.ended(id, Err(failed(Kind::System)));
            assert_eq!(tasks.row(id).unwrap().state, state);
            assert_eq!(tasks.abort(id).unwrap_err().id, "task.ended");
            assert_eq!(tasks.throttle(id, None).unwrap_err().id, "task.ended");
            assert_eq!(tasks.heed(id, None).unwrap_err().id, "task.ended");
        }
        let kind = tasks.row(1).unwrap().kind;
        assert_eq!(tasks.latest(VOLUME, &[kind]).unwrap().fault.unwrap().kind, Kind::Aborted);
        assert_eq!((tasks.latest(VOLUME, &[]), tasks.latest(other, &[kind])), (None, None));
        assert_eq!(tasks.of_volume(VOLUME), Vec::new());
        let (long, _work) = begin(&tasks, other);
        for _ in 0..100 {
            let (id, _) = begin(&tasks, VOLUME);
            tasks.ended(id, Ok(()));
        }
        assert_eq!(tasks.list(None).len(), 1 + KEPT_ENDED);
        assert_eq!(tasks.list(Some(&name("other"))), []);
        assert!(tasks.row(1).is_err() && tasks.row(long).is_ok() && tasks.row(long + 100).is_ok());
        tasks.ended(long, Ok(()));
    }

    fn on_a_local_set(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn a_listener_hears_each_change_of_state_and_progress_between() {
        on_a_local_set(async {
            let tasks = Tasks::new(ThisHost);
            let mut events = tasks.subscribe();
            let (id, _work) = begin(&tasks, VOLUME);
            tasks.pause(id).unwrap();
            tasks.resume(id).unwrap();
            let mut states = Vec::new();
            let mut last = 0;
            while states.len() < 5 {
                let Ok(Event::Progress(row)) = events.recv().await else { panic!("no row") };
                assert!(row.task == id && row.done_bytes >= last);
                last = row.done_bytes;
                states.push(row.state.word());
            }
            tasks.ended(id, Ok(()));
            let Ok(Event::Progress(row)) = events.recv().await else { panic!("no row") };
            states.push(row.state.word());
            assert_eq!(states, ["running", "paused", "running", "running", "running", "done"]);
            assert!(row.elapsed_ms >= 2 * PROGRESS_INTERVAL.as_millis() as u64);
        });
    }

    #[test]
    fn nothing_wakes_up_when_nobody_listens_or_nothing_moves() {
        on_a_local_set(async {
            let tasks = Tasks::new(ThisHost);
            let (id, work) = begin(&tasks, VOLUME);
            tokio::time::sleep(PROGRESS_INTERVAL * 2).await;
            assert_eq!((work.looks.get(), tasks.pumping.get()), (0, false));
            let mut events = tasks.subscribe();
            assert!(tasks.pumping.get());
            tasks.pause(id).unwrap();
            tokio::time::sleep(PROGRESS_INTERVAL * 2).await;
            assert!(!tasks.pumping.get(), "a paused task keeps the pump running");
            let Ok(Event::Progress(row)) = events.try_recv() else { panic!("no row") };
            assert_eq!(row.state, words::TaskState::Paused);
            assert_eq!(events.try_recv(), Err(TryRecvError::Empty));
            tasks.resume(id).unwrap();
            assert!(tasks.pumping.get());
            drop(events);
            tokio::time::sleep(PROGRESS_INTERVAL * 2).await;
            let looks = work.looks.get();
            tokio::time::sleep(PROGRESS_INTERVAL * 2).await;
            assert_eq!((work.looks.get(), tasks.pumping.get()), (looks, false));
            tasks.ended(id, Ok(()));
        });
    }

    #[test]
    fn the_mover_is_steered_through_the_registry() {
        let tasks = Tasks::new(ThisHost);
        let control = Control::default();
        let kind = words::TaskKind::Verify;
        let id = tasks.start(kind, &name("dg"), VOLUME, &name("v"), None, 1 << 30, Box::new(control.clone()));
        tasks.throttle(id, Some(7)).unwrap();
        tasks.heed(id, Some(Duration::from_millis(5))).unwrap();
        assert_eq!(control.latency_limit(), Some(Duration::from_millis(5)));
        tasks.pause(id).unwrap();
        assert_eq!(
            (control.wanted(), control.rate_limit()),
            (crate::mover::Wanted::Pause, NonZeroU64::new(7))
        );
        assert_eq!(tasks.row(id).unwrap().total_bytes, 1 << 30);
        tasks.abort(id).unwrap();
        assert_eq!(control.wanted(), crate::mover::Wanted::Abort);
        tasks.ended(id, Err(failed(Kind::Aborted)));
        assert_eq!(tasks.row(id).unwrap().state, words::TaskState::Aborted);
    }
}
