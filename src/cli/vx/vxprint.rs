//! `vxprint`: lists objects.

use super::words::Words;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::plan::{Action, Options};
use crate::cli::verbs::print::own::Own;
use crate::cli::verbs::print::{self, Format, Style};

pub(super) const FLAGS: &str = "htrqQAGdvpsnlmF:g:";

pub(super) const HELP: &str = "\
vxprint [-g GROUP | -A] [-htrqQ] [-n | -l | -m | -F FORMAT] [-Gdvps] [OBJECT ...]    list volumes and plexes; lengths in sectors
  -t columns of each type of record; -h, -r also what belongs to a named object; -q no heads, -Q none of groups
  -n names alone; -l all of each record, on several lines; -m its attributes as vxmake reads them
  -F a line of each record, as '%name %len' or, for some types, 'v,p:%{name:16}%state'; attributes are those of -m, and
     type, assoc, kstate, mode, device; -F may be repeated for other types
  only -G groups, -d media, -v volumes, -p plexes, -s subdisks; -A all groups, as without -g and OBJECT
  also --json, --socket PATH, --help
";

/// What the words ask for.
pub(super) fn action(options: &Options, words: &Words) -> Result<Action, Refused> {
    let formats = words.values.iter().filter(|(flag, _)| *flag == 'F');
    let own: Vec<Own> =
        formats.map(|(_, text)| Own::parse(text, "vxprint --help")).collect::<Result<_, Refused>>()?;
    let styles = [
        ("-n", words.has('n'), Style::Names),
        ("-l", words.has('l'), Style::Long),
        ("-m", words.has('m'), Style::Make),
        ("-F", !own.is_empty(), Style::Own(own)),
    ];
    let mut given = styles.into_iter().filter(|(_, given, _)| *given);
    let style = match (given.next(), given.next()) {
        (first, None) => first.map_or(Style::Columns, |(.., style)| style),
        (_, Some((flag, ..))) => {
            return Err(Refusal::new(
                Kind::Usage,
                "argument.conflict",
                flag,
                "cannot stand with another of -n, -l, -m and -F",
                "give one of them",
            ));
        }
    };
    let format = Format {
        hierarchy: words.has('h') || words.has('r'),
        typed: words.has('t'),
        header: !words.has('q'),
        groups: !words.has('Q'),
        style,
        kinds: words.flags.chars().filter(|flag| "Gdvps".contains(*flag)).collect(),
        ..Format::default()
    };
    // As VxVM does: where no group is named all are meant, unless an object is.
    let all = words.has('A') || (options.group.is_none() && words.operands.is_empty());
    print::action(options, &words.operands, all, format)
}
