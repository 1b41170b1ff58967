//! The registry of long tasks: what runs, what was asked of it, how it ended, and who is told.
//!
//! ```text
//!   who runs the work ── start, ended ──►  Tasks  ◄── pause, resume, abort, throttle, list ── requests
//!          ▲                                 │
//!          └────────── TaskControl ──────────┤
//!                                            └── Watch::next ──► clients that wait
//! ```
//!
//! Transitions are those of the pure machine in [`crate::state::task`]. Changes of state are broadcast; progress is fetched by
//! each watch for itself, a few times a second and only while one is being waited on: a registry that nobody listens to wakes
//! nobody up. The last ended tasks are kept, so that one who asks late still learns how a task ended.
//!
//! Handles are for one thread; the runtime is tokio's.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::base::{Kind, Name, Refusal, Refused, Uuid};
use crate::control::Event;
use crate::control::row::TaskRow;
use crate::control::words;
use crate::state::task::{TaskEvent, TaskState};

/// Ended tasks that can still be asked for.
const KEPT_ENDED: usize = 64;

/// Between two looks at the progress of running tasks.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(400);

/// Events that a slow watch may lag behind; past it, it is told the present state of its tasks instead.
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
    /// How far it is.
    fn progress(&self) -> Progress;
}

/// What a task works on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The group.
    pub group: Name,
    /// The volume's identity.
    pub volume: Uuid,
    /// The volume's name.
    pub volume_name: Name,
    /// The plex, where it is about one.
    pub plex: Option<(Uuid, Name)>,
}

/// Which tasks a list or a watch is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// These numbers.
    Tasks(Vec<u64>),
    /// Those of a group.
    Group(Name),
    /// Those of a volume.
    Volume(Uuid),
}

struct Entry {
    kind: words::TaskKind,
    subject: Subject,
    state: TaskState,
    began: Instant,
    /// `None` once it has ended.
    control: Option<Rc<dyn TaskControl>>,
    /// As known when it began, then as it was at the end.
    progress: Progress,
    elapsed: Duration,
    limit: Option<u64>,
    fault: Option<Refused>,
}

struct Inner {
    entries: RefCell<BTreeMap<u64, Entry>>,
    last: Cell<u64>,
    events: broadcast::Sender<Event>,
}

/// The registry. Clones are the same registry.
#[derive(Clone)]
pub struct Tasks(Rc<Inner>);

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        let events = broadcast::Sender::new(EVENTS);
        Self(Rc::new(Inner { entries: RefCell::default(), last: Cell::new(0), events }))
    }

    /// Enters a task that runs from now on and goes through `total` bytes, 0 if that is not known yet. Returns its number,
    /// which no other task of this daemon's life gets; [`ended`](Self::ended) must follow.
    pub fn start(
        &self,
        kind: words::TaskKind,
        subject: Subject,
        total: u64,
        control: Box<dyn TaskControl>,
    ) -> u64 {
        let id = self.0.last.get() + 1;
        self.0.last.set(id);
        let entry = Entry {
            kind,
            subject,
            state: TaskState::Running,
            began: Instant::now(),
            control: Some(Rc::from(control)),
            progress: Progress { total, ..Progress::default() },
            elapsed: Duration::ZERO,
            limit: None,
            fault: None,
        };
        self.0.entries.borrow_mut().insert(id, entry);
        self.announce(id);
        id
    }

    /// Enters how a task ended. An outcome of kind [`Kind::Aborted`] says that it ended on request, by whomever. A task that has
    /// ended before, or was never started, is left as it is.
    pub fn ended(&self, id: u64, outcome: Result<(), Refused>) {
        let steps: &[TaskEvent] = match &outcome {
            Ok(()) => &[TaskEvent::Finish],
            Err(refused) if refused.kind == Kind::Aborted => &[TaskEvent::Abort, TaskEvent::Drained],
            Err(_) => &[TaskEvent::Fail],
        };
        {
            let mut entries = self.0.entries.borrow_mut();
            let Some(entry) = entries.get_mut(&id).filter(|entry| !entry.state.has_ended()) else { return };
            for step in steps {
                match entry.state.step(*step, id) {
                    Ok(next) => entry.state = next,
                    Err(refused) => tracing::error!(task = id, "an end that does not fit: {refused}"),
                }
            }
            entry.progress = entry.current();
            entry.progress.rate = 0;
            entry.progress.eta_ms = None;
            if outcome.is_ok() {
                entry.progress.done = entry.progress.total;
            }
            entry.elapsed = entry.began.elapsed();
            entry.control = None;
            entry.fault = outcome.err();
            let ended: Vec<_> =
                entries.iter().filter(|(_, entry)| entry.state.has_ended()).map(|(id, _)| *id).collect();
            for old in ended.iter().take(ended.len().saturating_sub(KEPT_ENDED)) {
                // The one that ended right now is told about below, however long it ran.
                if *old != id {
                    entries.remove(old);
                }
            }
        }
        self.announce(id);
    }

    /// The row of a task.
    ///
    /// # Errors
    /// `task.unknown`.
    pub fn row(&self, id: u64) -> Result<TaskRow, Refused> {
        let entries = self.0.entries.borrow();
        entries.get(&id).map(|entry| entry.row(id)).ok_or_else(|| unknown(id))
    }

    /// The rows of the tasks that have not ended, in the order in which they began.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Vec<TaskRow> {
        let entries = self.0.entries.borrow();
        let live = entries.iter().filter(|(id, entry)| !entry.state.has_ended() && filter.takes(**id, entry));
        live.map(|(id, entry)| entry.row(*id)).collect()
    }

    /// The rows of the tasks that have ended and are still known, in the order in which they began.
    #[must_use]
    pub fn list_ended(&self, filter: &Filter) -> Vec<TaskRow> {
        let entries = self.0.entries.borrow();
        let ended = entries.iter().filter(|(id, entry)| entry.state.has_ended() && filter.takes(**id, entry));
        ended.map(|(id, entry)| entry.row(*id)).collect()
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.0.entries.borrow().values().filter(|entry| !entry.state.has_ended()).count() as u64
    }

    /// The live task that works on plex `plex`.
    #[must_use]
    pub fn of_plex(&self, plex: Uuid) -> Option<u64> {
        let entries = self.0.entries.borrow();
        let on_plex = |entry: &Entry| entry.subject.plex.as_ref().is_some_and(|(uuid, _)| *uuid == plex);
        entries.iter().find(|(_, entry)| !entry.state.has_ended() && on_plex(entry)).map(|(id, _)| *id)
    }

    /// The live tasks that work on volume `volume`, oldest first.
    #[must_use]
    pub fn of_volume(&self, volume: Uuid) -> Vec<u64> {
        let entries = self.0.entries.borrow();
        let live = entries.iter().filter(|(_, entry)| !entry.state.has_ended() && entry.subject.volume == volume);
        live.map(|(id, _)| *id).collect()
    }

    /// Pauses a task; whether it was not so already.
    ///
    /// # Errors
    /// `task.unknown`, `task.ended`, `task.state`.
    pub fn pause(&self, id: u64) -> Result<bool, Refused> {
        self.steer(id, TaskEvent::Pause, |control| control.pause())
    }

    /// Resumes a task; whether it was not running already.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn resume(&self, id: u64) -> Result<bool, Refused> {
        self.steer(id, TaskEvent::Resume, |control| control.resume())
    }

    /// Tells a task to end; whether it was not told so already. [`wait`](Self::wait) tells when it has.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn abort(&self, id: u64) -> Result<bool, Refused> {
        self.steer(id, TaskEvent::Abort, |control| control.abort())
    }

    /// Limits the rate of a task in bytes a second, or frees it; whether that changed anything.
    ///
    /// # Errors
    /// `task.unknown`, `task.ended`; `task.limit` for a limit of zero.
    pub fn throttle(&self, id: u64, bytes_per_second: Option<u64>) -> Result<bool, Refused> {
        if bytes_per_second == Some(0) {
            return Err(Refusal::new(
                Kind::Usage,
                "task.limit",
                format!("task {id}"),
                "a limit of 0 bytes a second would never let it end",
                format!("pause it with: cleave task pause {id}"),
            ));
        }
        let control = {
            let mut entries = self.0.entries.borrow_mut();
            let entry = entries.get_mut(&id).ok_or_else(|| unknown(id))?;
            let Some(control) = &entry.control else {
                // The machine words the refusal for a task that has ended.
                return entry.state.step(TaskEvent::Resume, id).map(|_| false);
            };
            if entry.limit == bytes_per_second {
                return Ok(false);
            }
            entry.limit = bytes_per_second;
            Rc::clone(control)
        };
        control.throttle(bytes_per_second);
        self.announce(id);
        Ok(true)
    }

    fn steer(
        &self,
        id: u64,
        event: TaskEvent,
        tell: impl FnOnce(&dyn TaskControl),
    ) -> Result<bool, Refused> {
        let control = {
            let mut entries = self.0.entries.borrow_mut();
            let entry = entries.get_mut(&id).ok_or_else(|| unknown(id))?;
            let next = entry.state.step(event, id)?;
            if std::mem::replace(&mut entry.state, next) == next {
                return Ok(false);
            }
            entry.control.clone()
        };
        // With no borrow held: the work may answer by entering its end at once.
        if let Some(control) = control {
            tell(&*control);
        }
        self.announce(id);
        Ok(true)
    }

    /// How task `id` ends, once it has.
    ///
    /// # Errors
    /// The fault that ended it, of kind [`Kind::Aborted`] when it was aborted; `task.unknown`.
    pub async fn wait(&self, id: u64) -> Result<(), Refused> {
        let mut events = self.0.events.subscribe();
        loop {
            if let Some(outcome) = self.outcome(id)? {
                return outcome;
            }
            // Whatever comes, also that some was lost, the registry is looked at again. `self` keeps the sender.
            let _ = events.recv().await;
        }
    }

    /// How task `id` ended; `None` while it has not.
    ///
    /// # Errors
    /// `task.unknown`.
    pub fn outcome(&self, id: u64) -> Result<Option<Result<(), Refused>>, Refused> {
        let entries = self.0.entries.borrow();
        let entry = entries.get(&id).ok_or_else(|| unknown(id))?;
        Ok(entry.state.has_ended().then(|| entry.fault.clone().map_or(Ok(()), Err)))
    }

    /// Tells `event`, as that of a plex or volume that changed its state, to all who watch.
    pub fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.0.events.send(event);
    }

    /// The events from now on: those of the tasks that `filter` takes, and whatever is [told](Self::tell).
    #[must_use]
    pub fn watch(&self, filter: Filter) -> Watch {
        Watch {
            events: self.0.events.subscribe(),
            tasks: self.clone(),
            filter,
            shown: BTreeMap::new(),
            due: Vec::new(),
            next_look: Instant::now() + PROGRESS_INTERVAL,
        }
    }

    fn announce(&self, id: u64) {
        if self.0.events.receiver_count() > 0
            && let Ok(row) = self.row(id)
        {
            self.tell(Event::Progress(row));
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

    fn row(&self, id: u64) -> TaskRow {
        let progress = self.current();
        let elapsed = if self.state.has_ended() { self.elapsed } else { self.began.elapsed() };
        let waits = self.state == TaskState::Paused;
        TaskRow {
            task: id,
            kind: self.kind,
            state: state_word(self.state),
            group: self.subject.group.clone(),
            volume: self.subject.volume_name.clone(),
            plex: self.subject.plex.as_ref().map(|(_, name)| name.clone()),
            done_bytes: progress.done,
            total_bytes: progress.total,
            copied_bytes: progress.copied,
            rate_bytes: if waits { 0 } else { progress.rate },
            eta_ms: progress.eta_ms.filter(|_| !waits),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            limit_bytes: self.limit,
            fault: self.fault.as_deref().cloned(),
        }
    }
}

impl Filter {
    fn takes(&self, id: u64, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Tasks(ids) => ids.contains(&id),
            Self::Group(group) => entry.subject.group == *group,
            Self::Volume(volume) => entry.subject.volume == *volume,
        }
    }
}

/// A listener. Dropping it ends the listening.
pub struct Watch {
    events: broadcast::Receiver<Event>,
    tasks: Tasks,
    filter: Filter,
    /// What was told last of each live task.
    shown: BTreeMap<u64, Seen>,
    /// Rows to be told before anything else is waited for.
    due: Vec<TaskRow>,
    next_look: Instant,
}

/// What makes a row worth telling again.
type Seen = (words::TaskState, u64, u64, Option<u64>);

fn seen(row: &TaskRow) -> Seen {
    (row.state, row.done_bytes, row.copied_bytes, row.limit_bytes)
}

impl Watch {
    /// The next event. A task's rows come at each change of its state and, while it moves, a few times a second; the last row
    /// of a task is that of its end. Never completes while nothing happens. May be dropped and called again.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(row) = self.due.pop() {
                return Event::Progress(row);
            }
            let running = self.tasks.list(&self.filter).iter().any(|row| row.state != words::TaskState::Paused);
            let news = tokio::select! {
                biased;
                news = self.events.recv() => Some(news),
                () = tokio::time::sleep_until(self.next_look), if running => None,
            };
            match news {
                Some(Ok(Event::Progress(row))) => {
                    if self.is_news(&row) {
                        return Event::Progress(row);
                    }
                }
                Some(Ok(event)) => return event,
                // Some were lost, ends of tasks maybe among them: tell of all that are still known.
                Some(Err(broadcast::error::RecvError::Lagged(_))) => {
                    self.due = self.tasks.list(&self.filter);
                    let shown = &self.shown;
                    let ended = self.tasks.list_ended(&self.filter).into_iter();
                    self.due.extend(ended.filter(|row| shown.contains_key(&row.task)));
                    self.shown.clear();
                }
                // `self.tasks` keeps the sender.
                Some(Err(broadcast::error::RecvError::Closed)) => std::future::pending().await,
                None => self.look(),
            }
        }
    }

    /// Notes `row` as told; false when it is not of this watch, or has been told already.
    fn is_news(&mut self, row: &TaskRow) -> bool {
        let taken = {
            let entries = self.tasks.0.entries.borrow();
            entries.get(&row.task).is_some_and(|entry| self.filter.takes(row.task, entry))
        };
        if !taken {
            return false;
        }
        if row.state.ended() {
            self.shown.remove(&row.task);
            return true;
        }
        self.shown.insert(row.task, seen(row)).as_ref() != Some(&seen(row))
    }

    /// Puts what moved since the last look on the list of what is due.
    fn look(&mut self) {
        self.next_look = Instant::now() + PROGRESS_INTERVAL;
        let rows = self.tasks.list(&self.filter);
        self.due = rows.into_iter().filter(|row| self.shown.insert(row.task, seen(row)) != Some(seen(row))).collect();
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
