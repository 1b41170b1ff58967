//! `vxprint`: lists objects.

use super::words::Words;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::print::{self, Format};

pub(super) const FLAGS: &str = "htrqAGdvpsg:";

pub(super) const HELP: &str = "\
vxprint [-g GROUP | -A] [-htrq] [-Gdvps] [OBJECT ...]    list volumes and plexes; lengths in sectors
  -t columns of each type of record; -h, -r also what belongs to a named object; -q no heads
  only -G groups, -d media, -v volumes, -p plexes, -s subdisks; -A all groups, as without -g and OBJECT
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let format = Format {
        hierarchy: words.has('h') || words.has('r'),
        typed: words.has('t'),
        header: !words.has('q'),
        kinds: words.flags.chars().filter(|flag| "Gdvps".contains(*flag)).collect(),
        ..Format::default()
    };
    // As VxVM does: where no group is named all are meant, unless an object is.
    let all = words.has('A') || (options.group.is_none() && words.operands.is_empty());
    print::action(options, &words.operands, all, format)
}
