//! `cleave status`: how everything is, on one screen.

use super::events::{happenings, line};
use crate::base::units::{counted, human_bytes};
use crate::base::{Kind, Refused};
use crate::cli::answer::{Answer, clean, copies, table, to_json, volume_json, volumes};
use crate::cli::plan::{Action, Options};
use crate::cli::progress::{Step, seconds};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::Overview;
use crate::control::row::{HealthRow, SpaceRow, TaskRow};
use crate::control::words::Health;
use crate::control::{Reply, Request, Row};
use clap::Args;
use serde_json::Value;

/// Exit code when something is degraded.
pub const DEGRADED: u8 = 80;

/// Exit code when something has failed.
pub const FAILED: u8 = 81;

/// Directories of one file system that are named.
const SHOWN_DIRECTORIES: usize = 2;

/// Last events on the screen.
const EVENTS: u64 = 8;

/// The words of `status`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 all is well; 80 something is degraded: it serves, or can be started, with less than it should \
                  have; 81 something has failed: it does not serve, or fails requests; 3 the daemon does not run or does not \
                  answer: what can be seen without it is shown. Any other code is that of an error."
)]
pub struct StatusArgs {
    /// Only this volume [default: all of the group, or of all groups without -g]
    volume: Option<String>,
    /// Directory of the groups' state directories, without the daemon [default: the last daemon's, else /var/lib/cleave]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
}

/// The words by which `cleaved --offline` is told the directory.
pub(in crate::cli) fn state_words(state: Option<&str>) -> Result<Vec<String>, Refused> {
    let Some(state) = state else { return Ok(Vec::new()) };
    Ok(vec!["--state".to_owned(), words::path(state)?.display().to_string()])
}

impl StatusArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let volume = self.volume.as_deref().map(words::name).transpose()?;
        let mut all = state_words(self.state.as_deref())?;
        all.extend(volume.as_ref().map(ToString::to_string));
        let group = options.group.clone().or_else(|| volume.is_some().then(|| options.group()));
        let request = Request::Overview(Overview { group, volume, events: EVENTS });
        Ok(Action::Anyway { request, verb: "status", words: all, show: Box::new(|answered| show(&answered)) })
    }
}

/// What is free somewhere, and whether what is promised of it is there.
fn space(row: &SpaceRow) -> String {
    let mut directories: Vec<_> = row.directories.iter().map(|path| clean(path.display())).collect();
    if directories.len() > SHOWN_DIRECTORIES {
        let more = directories.split_off(SHOWN_DIRECTORIES).len();
        directories.push(format!("and {more} more"));
    }
    let mut text = format!("{}: {} free", directories.join(", "), human_bytes(row.free_bytes));
    if row.promised_bytes > 0 {
        text += &format!(", sparse plexes may still take {}", human_bytes(row.promised_bytes));
    }
    if let Some(warning) = &row.warning {
        text += &format!(": {}", clean(warning));
    }
    text.push('\n');
    text
}

fn show(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Overview(overview) = &answered.reply else { return Err(Answered::unfitting()) };
    let healths: Vec<&HealthRow> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Health(health) = row { Some(health) } else { None })
        .collect();
    let tasks: Vec<&TaskRow> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Task(task) = row { Some(task) } else { None })
        .collect();
    let spaces: Vec<&SpaceRow> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Space(space) = row { Some(space) } else { None })
        .collect();
    let volumes = volumes(&answered.rows);
    let events = happenings(&answered.rows);

    let mut text = match &overview.daemon {
        Some(daemon) => format!(
            "cleaved {} runs as {} for {} on Linux {}\n",
            clean(&daemon.version),
            daemon.pid,
            seconds(daemon.uptime_ms),
            clean(&daemon.kernel)
        ),
        None => String::new(),
    };
    for note in &overview.notes {
        text += &format!("{}\n", clean(note));
    }
    let well = healths.iter().filter(|row| row.health == Health::Ok).count();
    let all = counted(healths.len(), "volume");
    let verb = if healths.len() == 1 { "is" } else { "are" };
    text += &format!("{}: {well} of {all} {verb} well\n", overview.health);
    if !volumes.is_empty() {
        let mut lines =
            vec![["GROUP", "VOLUME", "HEALTH", "STATE", "PLEXES", "DEVICE"].map(str::to_owned).to_vec()];
        for ((volume, plexes), row) in volumes.iter().zip(&healths) {
            lines.push(vec![
                volume.group.to_string(),
                volume.volume.to_string(),
                row.health.to_string(),
                volume.state.to_string(),
                copies(plexes),
                volume.device.as_ref().map_or_else(|| "-".to_owned(), |device| clean(device.display())),
            ]);
        }
        text += &table(&lines);
    }
    for row in &healths {
        for reason in &row.reasons {
            text += &format!("{}/{}: {}\n", row.group, row.volume, clean(reason));
        }
    }
    for row in &spaces {
        text += &space(row);
    }
    for task in &tasks {
        text += &format!("task {}: {}\n", task.task, Step::of_task(task).line());
    }
    if !events.is_empty() {
        text += "last events (UTC):\n";
        events.iter().for_each(|event| text += &line(event));
    }

    let mut json = to_json(overview);
    let document = |volume| {
        let mut document = volume_json(volume);
        let row = healths.iter().find(|row| row.volume == volume.0.volume && row.group == volume.0.group);
        if let Some(row) = row {
            document["health"] = to_json(&row.health);
            document["reasons"] = to_json(&row.reasons);
        }
        document
    };
    json["volumes"] = volumes.iter().map(document).collect::<Value>();
    json["space"] = to_json(&spaces);
    json["tasks"] = to_json(&tasks);
    json["events"] = to_json(&events);
    let mut answer = Answer::listing(json, text);
    answer.code = match (&overview.daemon, overview.health) {
        (None, _) => Kind::DaemonDown.exit_code(),
        (Some(_), Health::Ok) => 0,
        (Some(_), Health::Degraded) => DEGRADED,
        (Some(_), Health::Failed) => FAILED,
    };
    Ok(answer)
}
