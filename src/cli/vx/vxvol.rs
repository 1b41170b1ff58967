//! `vxvol`: starts and stops volumes.

use super::Applet;
use super::elsewhere;
use super::words::{Words, missing, too_many};
use crate::base::{Name, Refused};
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::group::changed;
use crate::cli::verbs::{start, stop};
use crate::cli::words::{name, names, unknown};
use crate::control::Request;
use crate::control::request::{ReadFrom, Set, Start, StartAll, Stop, StopAll};

pub(super) const FLAGS: &str = "g:";

pub(super) const HELP: &str = "\
vxvol [-g GROUP] start|stop VOLUME ...    start or stop volumes
vxvol [-g GROUP] startall|stopall         start or stop every volume of the group
vxvol [-g GROUP] rdpol round|select VOLUME       have its plexes read in turn, or as the volume sees fit
vxvol [-g GROUP] rdpol prefer VOLUME PLEX        have this plex read while it can be
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
        ("rdpol", words) => read_policy(group, words),
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
            let known = ["start", "stop", "startall", "stopall", "rdpol"];
            Err(elsewhere::keyword(Applet::Vxvol, other, known))
        }
    }
}

fn read_policy(group: Name, words: &[String]) -> Result<Action, Refused> {
    let (read_from, volume) = match words {
        [] => return Err(missing("policy", Applet::Vxvol)),
        [policy] if ["round", "select", "prefer"].contains(&policy.as_str()) => {
            return Err(missing("volume", Applet::Vxvol));
        }
        [policy, volume] if policy == "round" => (ReadFrom::Round, volume),
        [policy, volume] if policy == "select" => (ReadFrom::Select, volume),
        [policy, _] if policy == "prefer" => return Err(missing("plex", Applet::Vxvol)),
        [policy, volume, plex] if policy == "prefer" => (ReadFrom::Prefer(name(plex)?), volume),
        [policy, _, word] if policy == "round" || policy == "select" => {
            return Err(too_many(word, Applet::Vxvol));
        }
        [policy, _, _, word, ..] if policy == "prefer" => return Err(too_many(word, Applet::Vxvol)),
        [policy, ..] => {
            return Err(unknown("read policy", policy, ["round", "select", "prefer"], "vxvol --help"));
        }
    };
    let request = Set { read_from: Some(read_from), ..Set::nothing(group, name(volume)?) };
    Ok(Action::ask(Request::Set(request), |answered| changed(&answered, "")))
}
