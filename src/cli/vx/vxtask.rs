//! `vxtask`: lists and steers tasks.

use super::Applet;
use super::elsewhere;
use super::words::{Words, attributes, missing, too_many, value};
use crate::base::limits::SECTOR_BYTES;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, to_json};
use crate::cli::plan::{Action, Options, Watch};
use crate::cli::session::Answered;
use crate::cli::verbs::task::{tasks, watch, watched};
use crate::cli::words::{clip, task};
use crate::control::request::{TaskList, TaskRef, TaskThrottle};
use crate::control::row::TaskRow;
use crate::control::words::TaskState;
use crate::control::{Reply, Request};
use serde_json::json;

pub(super) const FLAGS: &str = "ahpqrg:";

pub(super) const HELP: &str = "\
vxtask [-ahpqr] list                 list tasks that have not ended: -a aborting, -p paused, -r running ones only; -q no head
vxtask monitor [TASK|VOLUME]         follow tasks until they end
vxtask pause|resume|abort TASK ...   steer tasks
vxtask set slow=MS TASK ...          move at most one MiB every MS milliseconds; 0 for no limit
  also --json, --socket PATH, --help
";

/// The longest pause: a MiB in a quarter of an hour still ends some day.
const MAX_SLOW_MS: u32 = 1_000_000;

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let (keyword, rest) = words.operands.split_first().ok_or_else(|| missing("keyword", Applet::Vxtask))?;
    let steer: fn(TaskRef) -> Request = match keyword.as_str() {
        "list" => return list(options, words, rest),
        "monitor" => {
            if let Some(word) = rest.get(1) {
                return Err(too_many(word, Applet::Vxtask));
            }
            let request = watch(options, rest.first().map(String::as_str))?;
            let watch = if options.json { Watch::Progress } else { Watch::VxTask { head: !words.has('q') } };
            let show = |mut answers: Vec<Answered>| watched(&answers.remove(0));
            return Ok(Action::Ask { requests: vec![request], watch, show: Box::new(show) });
        }
        "pause" => Request::TaskPause,
        "resume" => Request::TaskResume,
        "abort" => Request::TaskAbort,
        "set" => return set(rest),
        other => {
            let known = ["list", "monitor", "pause", "resume", "abort", "set"];
            return Err(elsewhere::keyword(Applet::Vxtask, other, known));
        }
    };
    each(rest, |task| steer(TaskRef { task }))
}

/// What VxVM pauses between pieces is a limit of the rate here; a piece of its copies is a MiB.
fn set(rest: &[String]) -> Result<Action, Refused> {
    let (tasks, found) = attributes(rest, &["slow"], "vxtask --help")?;
    let slow = value(&found, "slow").ok_or_else(|| missing("slow=MS", Applet::Vxtask))?;
    let milliseconds = slow.parse::<u32>().ok().filter(|ms| *ms <= MAX_SLOW_MS).ok_or_else(|| {
        Refusal::new(
            Kind::Syntax,
            "task.slow",
            clip(&format!("slow={slow}")),
            format!("is no number of milliseconds from 0 to {MAX_SLOW_MS}"),
            "write slow=250, or slow=0 for no limit",
        )
    })?;
    let bytes_per_second = (1_000_u64 << 20).checked_div(milliseconds.into());
    each(&tasks, |task| Request::TaskThrottle(TaskThrottle { task, bytes_per_second }))
}

/// Asks `request` for each of the tasks that `words` name.
fn each(words: &[String], request: impl Fn(u64) -> Request) -> Result<Action, Refused> {
    if words.is_empty() {
        return Err(missing("task", Applet::Vxtask));
    }
    let requests = words.iter().map(|word| Ok(request(task(word)?))).collect::<Result<_, Refused>>()?;
    Ok(Action::ask_each(requests, |answered| match &answered.reply {
        Reply::Changed(reply) => Ok(Answer::done(to_json(reply), "")),
        _ => Err(Answered::unfitting()),
    }))
}

fn list(options: &Options, words: &Words, rest: &[String]) -> Result<Action, Refused> {
    if let Some(word) = rest.first() {
        return Err(too_many(word, Applet::Vxtask));
    }
    let flags = words.flags.clone();
    let request = Request::TaskList(TaskList { group: options.group.clone() });
    Ok(Action::ask(request, move |answered| {
        let wanted = |task: &&TaskRow| {
            // What has ended is no task any more to VxVM.
            !flags.contains(['a', 'p', 'r']) && !task.state.ended()
                || (flags.contains('a') && task.state == TaskState::Aborting)
                || (flags.contains('p') && task.state == TaskState::Paused)
                || (flags.contains('r') && task.state == TaskState::Running)
        };
        let tasks: Vec<TaskRow> = tasks(&answered.rows).into_iter().filter(wanted).cloned().collect();
        Ok(Answer::listing(json!({ "tasks": to_json(&tasks) }), lines(&tasks, !flags.contains('q'))))
    }))
}

/// Tasks in the columns of `vxtask list`; progress is start, end and present place in sectors.
pub(in crate::cli) fn lines(tasks: &[TaskRow], head: bool) -> String {
    let mut text = String::new();
    if head {
        text += "TASKID PTID TYPE/STATE  PCT    PROGRESS\n";
    }
    for task in tasks {
        let hundredths = match task.total_bytes {
            0 => 10_000,
            total => u128::from(task.done_bytes.min(total)) * 10_000 / u128::from(total),
        };
        text += &format!(
            "{:<6} {:<4} {:<11} {:>6} 0/{}/{} {} {}{}\n",
            task.task,
            "",
            format!("{}/{}", task.kind.vx_type(), task.state.vx_letter()),
            format!("{}.{:02}%", hundredths / 100, hundredths % 100),
            task.total_bytes / SECTOR_BYTES,
            task.done_bytes / SECTOR_BYTES,
            task.kind.word().to_uppercase(),
            task.volume,
            task.plex.as_ref().map(|plex| format!(" {plex}")).unwrap_or_default()
        );
    }
    text
}
