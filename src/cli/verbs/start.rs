//! `cleave start`: starts volumes.

use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, clean, failures, to_json, volume_json, volumes};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::{Start, StartAll};
use crate::control::{Reply, Request, Row};
use clap::Args;
use serde_json::Value;

/// The words of `start`.
#[derive(Args, Debug)]
pub struct StartArgs {
    /// The volumes
    #[arg(required_unless_present = "all")]
    volumes: Vec<String>,
    /// Start every volume of the group
    #[arg(short, long, conflicts_with = "volumes")]
    all: bool,
    /// The plex to believe: where plexes disagree, for one that is older, or whose file was changed from outside
    #[arg(long, value_name = "PLEX", conflicts_with = "all")]
    source: Option<String>,
}

impl StartArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names; [`Kind::Usage`] for a source with several volumes.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let group = options.group();
        if self.all {
            return Ok(Action::ask(Request::StartAll(StartAll { group }), |answered| started(&answered)));
        }
        if self.volumes.len() > 1 && self.source.is_some() {
            return Err(Refusal::new(
                Kind::Usage,
                "source.several-volumes",
                "--source",
                "names a plex of one volume",
                "start the volumes one by one",
            ));
        }
        let source = self.source.as_deref().map(words::name).transpose()?;
        let requests = words::names(&self.volumes)?
            .into_iter()
            .map(|volume| Request::Start(Start { group: group.clone(), volume, source: source.clone() }));
        Ok(Action::ask_each(requests.collect(), |answered| started(&answered)))
    }
}

/// Volumes that were started, with their devices.
pub(in crate::cli) fn started(answered: &Answered) -> Result<Answer, Refused> {
    each_volume(answered, "started")
}

/// Volumes to which `what` happened.
pub(super) fn each_volume(answered: &Answered, what: &str) -> Result<Answer, Refused> {
    let Reply::Changed(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let mut text = String::new();
    let volumes = volumes(&answered.rows);
    for (volume, _) in &volumes {
        text += &format!("{}: {what}", volume.volume);
        if let Some(device) = volume.links.first().or(volume.device.as_ref()) {
            text += &format!(", {}", clean(device.display()));
        }
        for note in &volume.notes {
            text += &format!("; {}", clean(note));
        }
        text.push('\n');
    }
    let told = answered.rows.iter().filter_map(|row| match row {
        Row::Note(note) => Some(clean(note)),
        _ => None,
    });
    let notices: Vec<String> = told.collect();
    text.extend(notices.iter().map(|line| format!("{line}\n")));
    let mut json = to_json(reply);
    json["volumes"] = volumes.iter().map(volume_json).collect::<Value>();
    json["notes"] = to_json(&notices);
    let mut answer = Answer { notices, ..Answer::done(json, text) };
    answer.failures = failures(&answered.rows);
    Ok(answer)
}
