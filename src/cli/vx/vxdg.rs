//! `vxdg`: makes, lists and removes groups.

use super::Applet;
use super::elsewhere;
use super::words::{Words, missing, too_many};
use crate::base::Refused;
use crate::cli::answer::Answer;
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::verbs::group::{changed, groups, groups_json, medium};
use crate::cli::words::name;
use crate::control::Request;
use crate::control::request::{GroupAdd, GroupCreate, GroupDestroy, MediumSpec, Query};
use serde_json::json;

pub(super) const FLAGS: &str = "qg:";

pub(super) const HELP: &str = "\
vxdg init GROUP [[NAME=]DISK ...]   make a group on disks or directories; sdb is /dev/sdb
vxdg -g GROUP adddisk [NAME=]DISK ...   give it further ones
vxdg [-q] list [GROUP]              list groups; -q without a head
vxdg destroy GROUP                  remove a group that has no volumes
  a group from other disks is taken in with: cleave group import
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let (keyword, rest) = words.operands.split_first().ok_or_else(|| missing("keyword", Applet::Vxdg))?;
    match (keyword.as_str(), rest) {
        ("init" | "destroy", []) => Err(missing("group", Applet::Vxdg)),
        ("init", [group, media @ ..]) => {
            let request = GroupCreate { group: name(group)?, media: disks(media)? };
            Ok(Action::ask(Request::GroupCreate(request), |answered| changed(&answered, "")))
        }
        ("adddisk", []) => Err(missing("disk", Applet::Vxdg)),
        ("adddisk", media) => {
            let request = GroupAdd { group: options.group(), media: disks(media)? };
            Ok(Action::ask(Request::GroupAdd(request), |answered| changed(&answered, "")))
        }
        ("destroy", [group]) => {
            let request = GroupDestroy { group: name(group)? };
            Ok(Action::ask(Request::GroupDestroy(request), |answered| changed(&answered, "")))
        }
        ("list", [] | [_]) => {
            let request = match rest.first() {
                None => Request::GroupList,
                Some(group) => {
                    let group = Some(name(group)?);
                    Request::Query(Query { group, media: true, objects: Vec::new(), tasks: false })
                }
            };
            let head = !words.has('q');
            Ok(Action::ask(request, move |answered| Ok(show(&answered, head))))
        }
        ("destroy", [_, word, ..]) | ("list", [_, word, ..]) => Err(too_many(word, Applet::Vxdg)),
        (other, _) => Err(elsewhere::keyword(Applet::Vxdg, other, ["init", "adddisk", "list", "destroy"])),
    }
}

/// Disks as VxVM names them: a word without a slash is a device's name in `/dev`.
fn disks(words: &[String]) -> Result<Vec<MediumSpec>, Refused> {
    let in_dev = |word: &String| match word.rsplit_once('=') {
        _ if word.contains('/') => word.clone(),
        Some((_, "")) => word.clone(),
        Some((name, device)) => format!("{name}=/dev/{device}"),
        None => format!("/dev/{word}"),
    };
    words.iter().map(|word| medium(&in_dev(word))).collect()
}

fn show(answered: &Answered, head: bool) -> Answer {
    let mut text = String::from(if head { "NAME         STATE           ID\n" } else { "" });
    for (group, _) in groups(&answered.rows) {
        text += &format!("{:<12} {:<15} {}\n", group.group, "enabled", group.uuid);
    }
    Answer::listing(json!({ "groups": groups_json(&answered.rows) }), text)
}
