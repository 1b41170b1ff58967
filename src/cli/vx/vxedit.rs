//! `vxedit`: removes objects.

use super::Applet;
use super::elsewhere;
use super::words::{Words, missing};
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::rm;
use crate::cli::words::names;
use crate::control::Request;
use crate::control::request::Remove;

pub(super) const FLAGS: &str = "rfg:";

pub(super) const HELP: &str = "\
vxedit [-g GROUP] [-r] [-f] rm VOLUME ...    remove volumes
  -r with what belongs to it; -f also when it is started (never when it is open), or has snapshots, which
  are independent then; what would go is told by: cleave rm VOLUME -f --dry-run
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let (keyword, objects) =
        words.operands.split_first().ok_or_else(|| missing("keyword", Applet::Vxedit))?;
    if keyword != "rm" {
        return Err(elsewhere::keyword(Applet::Vxedit, keyword, ["rm"]));
    }
    if objects.is_empty() {
        return Err(missing("object", Applet::Vxedit));
    }
    let (recursive, force) = (words.has('r'), words.has('f'));
    let requests = names(objects)?
        .into_iter()
        .map(|object| Request::Remove(Remove { group: options.group(), object, recursive, force }));
    Ok(Action::ask_each(requests.collect(), |answered| rm::removed(&answered)))
}
