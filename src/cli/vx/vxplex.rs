//! `vxplex`: takes plexes out of volumes and in again, and makes snapshot mirrors of them.

use super::Applet;
use super::elsewhere;
use super::words::{Words, attributes, missing, value};
use crate::base::{Kind, Name, Refusal, Refused};
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::group::changed;
use crate::cli::verbs::{mirror, rm};
use crate::cli::words::{name, names, unknown};
use crate::control::Request;
use crate::control::request::{PlexAttach, PlexRef, RemoveMirror};

pub(super) const FLAGS: &str = "bfg:o:";

pub(super) const HELP: &str = "\
vxplex [-g GROUP] [-b] att VOLUME PLEX ...          take plexes in again: they are copied what they missed
vxplex [-g GROUP] det PLEX ...                      take plexes out: they go STALE, what they miss is remembered
vxplex [-g GROUP] -o rm dis PLEX ...                remove plexes with their space
vxplex [-g GROUP] convert state=SNAPDONE PLEX ...   make mirrors snapshot mirrors, ready to be broken off
  -b in the background
  also --json, --socket PATH, --help
";

const KEYWORDS: [&str; 4] = ["att", "det", "dis", "convert"];

const HELP_COMMAND: &str = "vxplex --help";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let (keyword, rest) = words.operands.split_first().ok_or_else(|| missing("keyword", Applet::Vxplex))?;
    let removes = match words.options.as_slice() {
        [] => false,
        [option] if option == "rm" && keyword == "dis" => true,
        [option, ..] => {
            let known = (keyword == "dis").then_some("rm");
            return Err(unknown("option", option, known, HELP_COMMAND));
        }
    };
    let group = options.group();
    let plexes = |words: &[String]| match words {
        [] => Err(missing("plex", Applet::Vxplex)),
        some => names(some),
    };
    match keyword.as_str() {
        "att" => {
            let (volume, rest) = rest.split_first().ok_or_else(|| missing("volume", Applet::Vxplex))?;
            let volume = name(volume)?;
            let attach = |plex| {
                Request::PlexAttach(PlexAttach {
                    group: group.clone(),
                    volume: Some(volume.clone()),
                    plex,
                    bytes_per_second: None,
                    latency_us: None,
                    background: words.has('b'),
                })
            };
            let requests = plexes(rest)?.into_iter().map(attach).collect();
            Ok(Action::ask_each(requests, |answered| mirror::attached(&answered, "in step")))
        }
        "det" => Ok(each(plexes(rest)?, |plex| Request::PlexDetach(PlexRef { group: group.clone(), plex }))),
        "dis" if !removes => Err(Refusal::new(
            Kind::Usage,
            "plex.stays-associated",
            "dis",
            "a plex of Cleave does not stand alone",
            "remove it with: vxplex -o rm dis PLEX, or take it out with: vxplex det PLEX",
        )),
        "dis" => {
            let remove = |plex| {
                Request::RemoveMirror(RemoveMirror { group: group.clone(), volume: None, plex: Some(plex) })
            };
            Ok(Action::ask_each(plexes(rest)?.into_iter().map(remove).collect(), |answered| {
                rm::removed(&answered)
            }))
        }
        "convert" => {
            let (plain, found) = attributes(rest, &["state"], HELP_COMMAND)?;
            match value(&found, "state") {
                Some("SNAPDONE") => {}
                None => return Err(missing("state=SNAPDONE", Applet::Vxplex)),
                Some(other) => return Err(unknown("value of state", other, ["SNAPDONE"], HELP_COMMAND)),
            }
            Ok(each(plexes(&plain)?, |plex| Request::PlexConvert(PlexRef { group: group.clone(), plex })))
        }
        other => Err(elsewhere::keyword(Applet::Vxplex, other, KEYWORDS)),
    }
}

/// Asks `request` for each of `plexes`.
pub(super) fn each(plexes: Vec<Name>, request: impl Fn(Name) -> Request) -> Action {
    Action::ask_each(plexes.into_iter().map(request).collect(), |answered| changed(&answered, ""))
}
