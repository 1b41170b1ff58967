//! The task machine: a long operation that can be listed, watched, paused and aborted.
//!
//! ```text
//!   RUNNING ◄──────► PAUSED            Abort drains: what is in flight ends, then Drained.
//!    │  │  Pause/Resume │              A task that finishes or fails before it drained did so.
//!    │  └── Abort ──► ABORTING ◄── Abort
//!    ▼                  │
//!   DONE, FAILED ◄──────┴──► ABORTED
//! ```

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::base::{Kind, Name, Refusal, Refused};

/// The states of a task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskState {
    /// At work.
    Running,
    /// Holding no window, waiting for Resume.
    Paused,
    /// Told to end; I/O in flight is waited for.
    Aborting,
    /// Ended with success.
    Done,
    /// Ended by a fault.
    Failed,
    /// Ended on request.
    Aborted,
}

/// What may happen to a task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TaskEvent {
    /// Stop for a while.
    Pause,
    /// Go on.
    Resume,
    /// End as soon as nothing is in flight.
    Abort,
    /// An aborted task has nothing in flight any more.
    Drained,
    /// The work is done.
    Finish,
    /// A fault ended the work.
    Fail,
}

impl TaskState {
    /// All states, in the order of the table test.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Paused, Self::Aborting, Self::Done, Self::Failed, Self::Aborted];

    /// The state of task `id` after `event`.
    ///
    /// # Errors
    /// `task.ended` for a task that has ended, `task.state` for any other event that does not fit.
    pub fn step(self, event: TaskEvent, id: u64) -> Result<Self, Refused> {
        use TaskEvent as E;
        use TaskState::{Aborted, Aborting, Done, Failed, Paused, Running};
        match (self, event) {
            (Running | Paused, E::Pause) => Ok(Paused),
            (Running | Paused, E::Resume) => Ok(Running),
            (Running | Paused | Aborting, E::Abort) => Ok(Aborting),
            (Aborting, E::Drained) => Ok(Aborted),
            // A paused task may still have its last pieces in flight, and end by them.
            (Running | Paused | Aborting, E::Finish) => Ok(Done),
            (Running | Paused | Aborting, E::Fail) => Ok(Failed),
            (Aborting, E::Pause | E::Resume) | (Running | Paused, E::Drained) => Err(Refusal::new(
                Kind::InvalidState,
                "task.state",
                format!("task {id}"),
                format!("not possible while the task is {self}"),
                "",
            )),
            (Done | Failed | Aborted, E::Pause | E::Resume | E::Abort | E::Drained | E::Finish | E::Fail) => {
                Err(Refusal::new(
                    Kind::NotFound,
                    "task.ended",
                    format!("task {id}"),
                    format!("the task has ended: {self}"),
                    "list the tasks with: cleave task list",
                ))
            }
        }
    }

    /// Whether the task has ended.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Aborted => true,
            Self::Running | Self::Paused | Self::Aborting => false,
        }
    }

    /// The letter of vxtask(1M)'s TYPE/STATE column: R running, P paused, A aborting.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Running => 'R',
            Self::Paused => 'P',
            Self::Aborting => 'A',
            Self::Done | Self::Failed | Self::Aborted => 'E',
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Aborting => "ABORTING",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
            Self::Aborted => "ABORTED",
        })
    }
}

/// What a task works at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// Copies a new snapshot mirror.
    Snapstart,
    /// Copies what differs to a plex that came back from a snapshot.
    Snapback,
    /// Copies a new mirror, or what a stale one lacks.
    Attach,
    /// Makes the plexes equal after a crash.
    Resync,
    /// Compares the plexes.
    Verify,
}

impl TaskKind {
    /// The type in vxtask(1M)'s listing.
    #[must_use]
    pub const fn vx_type(self) -> &'static str {
        match self {
            Self::Snapstart | Self::Snapback | Self::Attach => "ATCOPY",
            Self::Resync => "RDWRBACK",
            Self::Verify => "VERIFY",
        }
    }

    /// The operation in vxtask(1M)'s listing.
    #[must_use]
    pub const fn operation(self) -> &'static str {
        match self {
            Self::Snapstart => "SNAPSTART",
            Self::Snapback => "SNAPBACK",
            Self::Attach => "PLXATT",
            Self::Resync => "VOLSTART",
            Self::Verify => "VERIFY",
        }
    }
}

/// A task as it is listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Its number.
    pub id: u64,
    /// What it works at.
    pub kind: TaskKind,
    /// Its state.
    state: TaskState,
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The plex, where it is about one.
    pub plex: Option<Name>,
    /// Bytes to look at or to copy.
    pub total: u64,
    /// Bytes done.
    pub done: u64,
}

impl Task {
    /// A task that starts running.
    #[must_use]
    pub const fn new(
        id: u64,
        kind: TaskKind,
        group: Name,
        volume: Name,
        plex: Option<Name>,
        total: u64,
    ) -> Self {
        Self { id, kind, state: TaskState::Running, group, volume, plex, total, done: 0 }
    }

    /// Take the step of `event`.
    ///
    /// # Errors
    /// As [`TaskState::step`]; nothing changes.
    pub fn step(&mut self, event: TaskEvent) -> Result<(), Refused> {
        self.state = self.state.step(event, self.id)?;
        Ok(())
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> TaskState {
        self.state
    }

    /// Hundredths of a percent done; 10000 when there is nothing to do.
    #[must_use]
    pub fn basis_points(&self) -> u64 {
        if self.total == 0 {
            return 10_000;
        }
        let done = u128::from(self.done.min(self.total));
        // At most 10,000: `done` is at most `total`.
        (done * 10_000 / u128::from(self.total)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_as_the_table_says() {
        // RUNNING, PAUSED, ABORTING, DONE, FAILED, ABORTED; `-` wrong state, `x` ended.
        let table = [
            (TaskEvent::Pause, ["PAUSED", "PAUSED", "-", "x", "x", "x"]),
            (TaskEvent::Resume, ["RUNNING", "RUNNING", "-", "x", "x", "x"]),
            (TaskEvent::Abort, ["ABORTING", "ABORTING", "ABORTING", "x", "x", "x"]),
            (TaskEvent::Drained, ["-", "-", "ABORTED", "x", "x", "x"]),
            (TaskEvent::Finish, ["DONE", "DONE", "DONE", "x", "x", "x"]),
            (TaskEvent::Fail, ["FAILED", "FAILED", "FAILED", "x", "x", "x"]),
        ];
        for (event, row) in table {
            for (state, expected) in TaskState::ALL.into_iter().zip(row) {
                let seen = match state.step(event, 7) {
                    Ok(next) => next.to_string(),
                    Err(refused) if refused.id == "task.ended" => "x".to_owned(),
                    Err(refused) => {
                        assert_eq!(refused.id, "task.state");
                        "-".to_owned()
                    }
                };
                assert_eq!(seen, expected, "{state} on {event:?}");
            }
        }
        assert_eq!(
            TaskState::Done.step(TaskEvent::Pause, 7).unwrap_err().to_string(),
            "task 7: the task has ended: DONE; list the tasks with: cleave task list"
        );
    }

    #[test]
    fn progress_never_passes_the_end() {
        let name = |text| Name::new(text).unwrap();
        let mut task = Task::new(1, TaskKind::Snapstart, name("g"), name("v"), Some(name("v-02")), 204_800);
        task.done = 78_824;
        assert_eq!(task.basis_points(), 3848);
        task.done = u64::MAX;
        assert_eq!(task.basis_points(), 10_000);
        task.total = 0;
        assert_eq!(task.basis_points(), 10_000);
    }
}
