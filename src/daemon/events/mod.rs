//! What happens is told: to the journal, to clients that follow, to the hook command; the last of it is kept for those who
//! ask later.
//!
//! ```text
//!   transactions ─ diff ─┐              ┌─► journal: a line on standard error with the id as a field
//!   tasks, fences, reads ┼──► raise ────┼─► kept: the last KEPT, for `cleave events` and `cleave status`
//!   start and stop ──────┘              ├─► subscribers: verbs that wait, `cleave events --follow`
//!                                       └─► hook: a bounded queue, a thread of its own
//! ```
//!
//! Raising never waits for anybody. It belongs to the owner's thread.

pub mod diff;
pub mod hook;
mod told;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use tokio::sync::broadcast;

use crate::base::{Errno, Name, Refusal, Uuid};
use crate::control::row::TaskRow;
use crate::control::words::PlexState;
use crate::control::{Event, Happening, Severity, What};
use crate::state::Group;
use crate::state::change::Change;

use hook::Hook;

/// Happenings kept for those who ask later: a bad day's worth, some hundred KiB.
pub const KEPT: usize = 1000;

/// Events that a slow listener may lag behind; past it, it looks at what is kept.
const BACKLOG: usize = 1024;

/// Something that is about to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    what: What,
    group: Option<Name>,
    volume: Option<Name>,
    plex: Option<Name>,
    state: Option<PlexState>,
    reason: String,
    way_out: Option<String>,
}

impl News {
    /// `what` happened; `reason` is the case, without a full stop.
    #[must_use]
    pub fn new(what: What, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { what, group: None, volume: None, plex: None, state: None, reason, way_out: None }
    }

    /// `what` happened because of `refused`, which has a way out of its own.
    #[must_use]
    pub fn refused(what: What, refused: &Refusal) -> Self {
        let mut news = Self::new(what, format!("{}: {}", refused.object, refused.reason));
        news.way_out = Some(refused.way_out.clone()).filter(|way_out| !way_out.is_empty());
        news
    }

    /// The task of `row` failed.
    #[must_use]
    pub fn of_task(row: &TaskRow) -> Self {
        let (object, why, way_out) = match &row.fault {
            Some(fault) => (format!("{}: ", fault.object), fault.reason.clone(), Some(fault.way_out.clone())),
            None => (String::new(), "no reason is known".to_owned(), None),
        };
        let mut news =
            Self::new(What::TaskFailed, format!("task {} ({}) failed: {object}{why}", row.task, row.kind));
        news.way_out = way_out.filter(|way_out| !way_out.is_empty());
        let news = news.of_volume(&row.group, &row.volume);
        match &row.plex {
            Some(plex) => news.of_plex(plex),
            None => news,
        }
    }

    /// In this group.
    #[must_use]
    pub fn of_group(mut self, group: &Name) -> Self {
        self.group = Some(group.clone());
        self
    }

    /// To this volume of `group`.
    #[must_use]
    pub fn of_volume(mut self, group: &Name, volume: &Name) -> Self {
        self.volume = Some(volume.clone());
        self.of_group(group)
    }

    /// To this plex of the volume.
    #[must_use]
    pub fn of_plex(mut self, plex: &Name) -> Self {
        self.plex = Some(plex.clone());
        self
    }

    /// The plex has this state now.
    #[must_use]
    pub fn in_state(mut self, state: PlexState) -> Self {
        self.state = Some(state);
        self
    }

    /// What happened.
    #[must_use]
    pub const fn what(&self) -> What {
        self.what
    }

    /// What can be done, with the names in it.
    #[must_use]
    pub fn way_out(&self) -> String {
        if let Some(text) = &self.way_out {
            return text.clone();
        }
        let mut text = self.what.way_out().to_owned();
        for (word, name) in [("VOL", &self.volume), ("PLEX", &self.plex)] {
            if let Some(name) = name {
                text = text.replace(word, name.as_str());
            }
        }
        match &self.group {
            Some(group) if *group != crate::control::request::default_group() => {
                text.replace("cleave ", &format!("cleave -g {group} "))
            }
            Some(_) | None => text,
        }
    }

    fn happening(self, number: u64, time_ms: u64) -> Happening {
        let way_out = self.way_out();
        Happening {
            number,
            time_ms,
            id: self.what,
            severity: self.what.severity(),
            group: self.group,
            volume: self.volume,
            plex: self.plex,
            state: self.state,
            reason: self.reason,
            way_out,
        }
    }
}

/// Why a plex leaves, told before the transaction that takes it out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// As a person is told.
    pub reason: String,
    /// Whether it was given up because it did not answer.
    pub hung: bool,
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self { reason: errno.to_string(), hung: errno == Errno::TIMED_OUT }
    }
}

/// The teller.
pub struct Events {
    kept: RefCell<VecDeque<Happening>>,
    last: Cell<u64>,
    told: broadcast::Sender<Event>,
    causes: RefCell<HashMap<Uuid, Cause>>,
    /// By number: of which group and volume, and the line.
    waits: RefCell<BTreeMap<u64, (Name, Name, String)>>,
    next_wait: Cell<u64>,
    state_fails: Cell<bool>,
    hook: RefCell<Option<Hook>>,
    now_ms: Box<dyn Fn() -> u64>,
}

impl Events {
    /// A teller that has told nothing; `now_ms` is the clock on the wall, in milliseconds since 1970 (UTC).
    #[must_use]
    pub fn new(now_ms: impl Fn() -> u64 + 'static) -> Rc<Self> {
        Rc::new(Self {
            kept: RefCell::default(),
            last: Cell::new(0),
            told: broadcast::channel(BACKLOG).0,
            causes: RefCell::default(),
            waits: RefCell::default(),
            next_wait: Cell::new(0),
            state_fails: Cell::new(false),
            hook: RefCell::default(),
            now_ms: Box::new(now_ms),
        })
    }

    /// Have `hook` hear of everything from now on.
    pub fn set_hook(&self, hook: Hook) {
        *self.hook.borrow_mut() = Some(hook);
    }

    /// Tell `news` to all.
    pub fn raise(&self, news: News) {
        let number = self.last.get() + 1;
        self.last.set(number);
        let happening = news.happening(number, (self.now_ms)());
        journal(&happening);
        if let Some(hook) = &*self.hook.borrow() {
            hook.tell(&happening);
        }
        let mut kept = self.kept.borrow_mut();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(happening.clone());
        drop(kept);
        // Nobody may be listening.
        let _ = self.told.send(Event::Happened(happening));
    }

    /// What the committed `change` of `before` means, to be raised once it is in force.
    #[must_use]
    pub fn news_of(&self, before: &Group, change: &Change) -> Vec<News> {
        let told = diff::news(before, change, &self.causes.borrow());
        let gone = |plex: &Uuid| change.group.plex_by_id(*plex).is_none_or(|(_, plex)| !plex.is_attached());
        self.causes.borrow_mut().retain(|plex, _| !gone(plex));
        told
    }

    /// Why `plex` is about to leave its volume.
    pub fn note_cause(&self, plex: Uuid, cause: impl Into<Cause>) {
        self.causes.borrow_mut().entry(plex).or_insert_with(|| cause.into());
    }

    /// `plex` stays after all.
    pub fn forget_cause(&self, plex: Uuid) {
        self.causes.borrow_mut().remove(&plex);
    }

    /// A configuration change was made durable, or could not be: told when that changes.
    pub fn state_directory(&self, group: &Name, committed: Result<(), &Refusal>) {
        match committed {
            Ok(()) if self.state_fails.replace(false) => {
                self.raise(
                    News::new(What::StateRestored, "configuration changes are durable again").of_group(group),
                );
            }
            Ok(()) => {}
            Err(refused) if !self.state_fails.replace(true) => {
                self.raise(News::refused(What::StateFailing, refused).of_group(group));
            }
            Err(_) => {}
        }
    }

    /// Events from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.told.subscribe()
    }

    /// What is kept with a higher number than `number`, oldest first.
    #[must_use]
    pub fn since(&self, number: u64) -> Vec<Happening> {
        self.kept.borrow().iter().filter(|happening| happening.number > number).cloned().collect()
    }

    /// Number of the last happening, 0 before the first.
    #[must_use]
    pub const fn last_number(&self) -> u64 {
        self.last.get()
    }

    /// Something is waited for, as `line` says, until the answer is dropped; [`Events::waits`] has it meanwhile.
    #[must_use]
    pub fn waiting(self: &Rc<Self>, group: &Name, volume: &Name, line: String) -> Waiting {
        let number = self.next_wait.get();
        self.next_wait.set(number + 1);
        self.waits.borrow_mut().insert(number, (group.clone(), volume.clone(), line));
        Waiting { events: Rc::clone(self), number }
    }

    /// What is waited for on `volume` of `group`.
    #[must_use]
    pub fn waits(&self, group: &Name, volume: &Name) -> Vec<String> {
        let is_of = |(of, on, _): &&(Name, Name, String)| of == group && on == volume;
        self.waits.borrow().values().filter(is_of).map(|(_, _, line)| line.clone()).collect()
    }

    /// Wait, blocking, until the hook has heard of everything so far, for some seconds at most: the process is about to end.
    pub fn finish_hook(&self) {
        if let Some(hook) = &*self.hook.borrow() {
            hook.finish();
        }
    }
}

/// Something is waited for until this is dropped.
pub struct Waiting {
    events: Rc<Events>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.events.waits.borrow_mut().remove(&self.number);
    }
}

fn journal(happening: &Happening) {
    let id = happening.id.id();
    let group = happening.group.as_ref().map(Name::as_str);
    let volume = happening.volume.as_ref().map(Name::as_str);
    let plex = happening.plex.as_ref().map(Name::as_str);
    match happening.severity {
        Severity::Info => tracing::info!(id, group, volume, plex, "{happening}"),
        Severity::Warning => tracing::warn!(id, group, volume, plex, "{happening}"),
        Severity::Error => tracing::error!(id, group, volume, plex, "{happening}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn happenings_are_numbered_kept_and_told() {
        let events = Events::new(|| 0);
        let mut told = events.subscribe();
        for number in 1..=KEPT as u64 + 5 {
            events.raise(News::new(What::VolumeStarted, format!("case {number}")));
        }
        assert_eq!(events.last_number(), KEPT as u64 + 5);
        let kept = events.since(0);
        assert_eq!((kept.len(), kept[0].number), (KEPT, 6), "the oldest go first");
        assert_eq!(events.since(KEPT as u64 + 3).len(), 2);
        let Ok(Event::Happened(first)) = told.try_recv() else { panic!("nothing was told") };
        assert_eq!((first.number, first.reason.as_str()), (1, "case 1"));
    }

    #[test]
    fn the_way_out_names_the_objects() {
        let told = |group: &str| {
            let news = News::new(What::VolumeGivenUp, "x").of_volume(&name(group), &name("data"));
            news.happening(1, 0).way_out
        };
        assert_eq!(
            told("default"),
            "try again with: cleave start data; or end the waiting with: cleave force-stop data"
        );
        assert_eq!(
            told("g1"),
            "try again with: cleave -g g1 start data; or end the waiting with: cleave -g g1 force-stop data"
        );
        let refusal = Refusal::new(crate::base::Kind::Io, "a.b", "v-01", "is bad", "mend it");
        let happening = News::refused(What::VolumeNotRecovered, &refusal).happening(1, 0);
        assert_eq!((happening.reason.as_str(), happening.way_out.as_str()), ("v-01: is bad", "mend it"));
    }

    #[test]
    fn a_failing_state_directory_is_told_once_and_so_is_its_recovery() {
        let events = Events::new(|| 0);
        let refusal = Refusal::new(crate::base::Kind::NoSpace, "state.commit", "/s", "full", "make room");
        let group = name("g");
        for committed in [Ok(()), Err(&*refusal), Err(&*refusal), Ok(()), Ok(())] {
            events.state_directory(&group, committed);
        }
        let told: Vec<_> = events.since(0).iter().map(|happening| happening.id).collect();
        assert_eq!(told, [What::StateFailing, What::StateRestored]);
    }

    #[test]
    fn what_is_waited_for_is_known_until_it_is_over() {
        let events = Events::new(|| 0);
        let (group, volume) = (name("g"), name("v"));
        let one = events.waiting(&group, &volume, "waiting for fence: v-01".to_owned());
        let two = events.waiting(&group, &volume, "waiting for fence: v-02".to_owned());
        assert_eq!(events.waits(&group, &volume).len(), 2);
        assert_eq!(events.waits(&group, &name("w")), Vec::<String>::new());
        drop(one);
        assert_eq!(events.waits(&group, &volume), ["waiting for fence: v-02"]);
        drop(two);
        assert_eq!(events.waits(&group, &volume), Vec::<String>::new());
    }
}
