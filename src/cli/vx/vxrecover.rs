//! `vxrecover`: has plexes that fell behind copied, and starts volumes.

use super::words::Words;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::recover;
use crate::cli::words::names;
use crate::control::request::Recover;

pub(super) const FLAGS: &str = "bcpsEvVg:o:";

pub(super) const HELP: &str = "\
vxrecover [-g GROUP] [-b] [-s] [VOLUME ...]    have plexes that fell behind copied what they lack
  -s start volumes that are stopped, too; -b do not wait for the copies
  -c, -p, -E, -v and -V are taken for VxVM's sake and change nothing
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    Ok(recover::action(Recover {
        group: options.group(),
        volumes: names(&words.operands)?,
        start: words.has('s'),
        background: words.has('b'),
    }))
}
