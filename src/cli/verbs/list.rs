//! `cleave list`: volumes, a line each.

use crate::base::Refused;
use crate::base::units::human_bytes;
use crate::cli::answer::{Answer, clean, table, volume_json, volumes};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::Request;
use crate::control::request::Query;
use clap::Args;
use serde_json::{Value, json};

/// The words of `list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only these volumes [default: all of the group, or of all groups without -g]
    volumes: Vec<String>,
}

impl ListArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let objects = words::names(&self.volumes)?;
        let group = if objects.is_empty() { options.group.clone() } else { Some(options.group()) };
        let request = Query { group, objects, media: false, tasks: false };
        Ok(Action::ask(Request::Query(request), |answered| Ok(show(&answered))))
    }
}

fn show(answered: &Answered) -> Answer {
    let head = ["GROUP", "VOLUME", "STATE", "LENGTH", "PLEXES", "SNAPSHOT OF", "DEVICE"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let volumes = volumes(&answered.rows);
    for (volume, plexes) in &volumes {
        lines.push(vec![
            volume.group.to_string(),
            volume.volume.to_string(),
            format!("{} {}", volume.kernel_state, volume.state),
            human_bytes(volume.length_bytes),
            plexes.len().to_string(),
            volume.snapshot.as_ref().map_or_else(|| "-".to_owned(), |from| from.source.to_string()),
            volume.device.as_ref().map_or_else(|| "-".to_owned(), |device| clean(device.display())),
        ]);
    }
    Answer::listing(json!({ "volumes": volumes.iter().map(volume_json).collect::<Value>() }), table(&lines))
}
