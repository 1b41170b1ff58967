//! `cleave task`: lists, watches and steers long operations.

use crate::base::Refused;
use crate::base::units::human_bytes;
use crate::cli::answer::{Answer, table, to_json};
use crate::cli::plan::{Action, Options, Watch};
use crate::cli::progress::{Step, seconds};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::{TaskLatency, TaskList, TaskRef, TaskThrottle, TaskWatch};
use crate::control::row::TaskRow;
use crate::control::words::TaskState;
use crate::control::{Reply, Request, Row};
use clap::{Args, Subcommand};
use serde_json::json;

/// What is done with tasks.
#[derive(Subcommand, Debug)]
pub enum TaskVerb {
    /// List tasks
    List,
    /// Show the progress of tasks until they end
    Watch {
        /// A task's number or a volume [default: all tasks]
        task: Option<String>,
    },
    /// Pause a task
    Pause(TaskArg),
    /// Let a paused task go on
    Resume(TaskArg),
    /// End a task and take back what it has begun
    Abort(TaskArg),
    /// Limit how fast a task copies, or how slow it may make the application
    Throttle {
        /// The task's number
        task: String,
        /// Bytes a second, as 50m, or none
        #[arg(required_unless_present = "latency")]
        rate: Option<String>,
        /// Go slower while requests of the application take longer than this on average, as 5ms, or none
        #[arg(long, value_name = "TIME")]
        latency: Option<String>,
    },
}

/// A task.
#[derive(Args, Debug)]
pub struct TaskArg {
    /// The task's number
    task: String,
}

impl TaskArg {
    fn task(&self) -> Result<TaskRef, Refused> {
        Ok(TaskRef { task: words::task(&self.task)? })
    }
}

impl TaskVerb {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of numbers, names and sizes.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request = match self {
            Self::List => {
                let request = Request::TaskList(TaskList { group: options.group.clone() });
                return Ok(Action::ask(request, |answered| Ok(list(&answered))));
            }
            Self::Watch { task } => {
                let request = watch(options, task.as_deref())?;
                let show = |mut answers: Vec<Answered>| watched(&answers.remove(0));
                return Ok(Action::Ask {
                    requests: vec![request],
                    watch: Watch::Everything,
                    show: Box::new(show),
                });
            }
            Self::Pause(arg) => Request::TaskPause(arg.task()?),
            Self::Resume(arg) => Request::TaskResume(arg.task()?),
            Self::Abort(arg) => Request::TaskAbort(arg.task()?),
            Self::Throttle { task, rate, latency } => {
                let task = words::task(&task)?;
                let given = |word: Option<String>| word.map(|word| (word != "none").then_some(word));
                let mut requests = Vec::new();
                if let Some(rate) = given(rate) {
                    let bytes_per_second = rate.as_deref().map(words::size).transpose()?;
                    requests.push(Request::TaskThrottle(TaskThrottle { task, bytes_per_second }));
                }
                if let Some(latency) = given(latency) {
                    let latency_us = latency.as_deref().map(words::latency).transpose()?;
                    requests.push(Request::TaskLatency(TaskLatency { task, latency_us }));
                }
                let show = |mut answers: Vec<Answered>| match answers.pop() {
                    Some(last) => steered(&last),
                    None => Err(Answered::unfitting()),
                };
                return Ok(Action::Ask { requests, watch: Watch::Progress, show: Box::new(show) });
            }
        };
        Ok(Action::ask(request, |answered| steered(&answered)))
    }
}

/// The request to watch a task by number, a volume's tasks by name, or all.
pub(in crate::cli) fn watch(options: &Options, what: Option<&str>) -> Result<Request, Refused> {
    let (task, volume) = match what {
        None => (None, None),
        Some(number) if number.bytes().all(|c| c.is_ascii_digit()) => (Some(words::task(number)?), None),
        Some(name) => (None, Some(words::name(name)?)),
    };
    Ok(Request::TaskWatch(TaskWatch { task, group: options.group(), volume }))
}

/// The tasks among rows.
pub(in crate::cli) fn tasks(rows: &[Row]) -> Vec<&TaskRow> {
    rows.iter().filter_map(|row| if let Row::Task(task) = row { Some(task) } else { None }).collect()
}

fn list(answered: &Answered) -> Answer {
    let head = ["TASK", "KIND", "STATE", "GROUP", "VOLUME", "PLEX", "DONE", "OF", "RATE", "LEFT"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let tasks = tasks(&answered.rows);
    for task in &tasks {
        lines.push(vec![
            task.task.to_string(),
            task.kind.to_string(),
            task.state.to_string(),
            task.group.to_string(),
            task.volume.to_string(),
            task.plex.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            format!("{} %", Step::of_task(task).percent()),
            human_bytes(task.total_bytes),
            format!("{}/s", human_bytes(task.rate_bytes)),
            task.eta_ms.map_or_else(|| "-".to_owned(), seconds),
        ]);
    }
    Answer::listing(json!({ "tasks": to_json(&tasks) }), table(&lines))
}

/// Tasks that ended; one that failed makes the command fail as it did.
pub(in crate::cli) fn watched(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Listed(_) = &answered.reply else { return Err(Answered::unfitting()) };
    let tasks = tasks(&answered.rows);
    let mut answer = Answer::done(json!({ "tasks": to_json(&tasks) }), lines(&tasks));
    answer.failures = tasks
        .iter()
        .filter(|task| task.state == TaskState::Failed)
        .filter_map(|task| task.fault.clone())
        .collect();
    Ok(answer)
}

fn steered(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Changed(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let tasks = tasks(&answered.rows);
    let mut json = to_json(reply);
    json["tasks"] = to_json(&tasks);
    Ok(Answer::done(json, lines(&tasks)))
}

fn lines(tasks: &[&TaskRow]) -> String {
    let line = |task: &&TaskRow| {
        let (copied, percent) = (human_bytes(task.copied_bytes), Step::of_task(task).percent());
        format!(
            "task {} ({} {}): {}, {percent} %, {copied} copied\n",
            task.task, task.kind, task.volume, task.state
        )
    };
    tasks.iter().map(line).collect()
}
