//! `vxvol`: starts and stops volumes.

use super::Applet;
use super::words::{Words, missing, too_many};
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::{start, stop};
use crate::cli::words::{names, unknown};
use crate::control::Request;
use crate::control::request::{Start, StartAll, Stop, StopAll};

pub(super) const FLAGS: &str = "g:";

pub(super) const HELP: &str = "\
vxvol [-g GROUP] start|stop VOLUME ...    start or stop volumes
vxvol [-g GROUP] startall|stopall         start or stop every volume of the group
  an open volume is never stopped; to believe a plex: cleave start VOLUME --source PLEX
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let (keyword, volumes) = words.operands.split_first().ok_or_else(|| missing("keyword", Applet::Vxvol))?;
    let group = options.group();
    match (keyword.as_str(), volumes) {
        ("start" | "stop", []) => Err(missing("volume", Applet::Vxvol)),
        ("startall" | "stopall", [word, ..]) => Err(too_many(word, Applet::Vxvol)),
        ("start", volumes) => {
            let requests = names(volumes)?
                .into_iter()
                .map(|volume| Request::Start(Start { group: group.clone(), volume, source: None }));
            Ok(Action::ask_each(requests.collect(), |answered| start::started(&answered)))
        }
        ("stop", volumes) => {
            let requests = names(volumes)?
                .into_iter()
                .map(|volume| Request::Stop(Stop { group: group.clone(), volume }));
            Ok(Action::ask_each(requests.collect(), |answered| stop::stopped(&answered)))
        }
        ("startall", []) => {
            Ok(Action::ask(Request::StartAll(StartAll { group }), |answered| start::started(&answered)))
        }
        ("stopall", []) => {
            Ok(Action::ask(Request::StopAll(StopAll { group }), |answered| stop::stopped(&answered)))
        }
        (other, _) => {
            Err(unknown("keyword", other, ["start", "stop", "startall", "stopall"], "vxvol --help"))
        }
    }
}
