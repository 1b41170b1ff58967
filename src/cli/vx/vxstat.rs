//! `vxstat`: what volumes are asked for.

use super::words::Words;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::stat::{StatWork, Style};
use crate::cli::words::names;
use crate::control::request::Stats;

pub(super) const FLAGS: &str = "vqri:c:g:";

pub(super) const HELP: &str = "\
vxstat [-g GROUP] [-qr] [-i SECONDS [-c N]] [VOLUME ...]    requests, blocks of 512 bytes, and their average time
  -i again every so many seconds, what came meanwhile; -c so many times; -r count anew from now on; -q no heads
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let request = Stats { group: options.group(), volumes: names(&words.operands)?, reset: words.has('r') };
    StatWork::action(request, words.value('i'), words.value('c'), Style::Vx { head: !words.has('q') })
}
