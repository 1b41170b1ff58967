//! How VxVM's commands read their words: getopt's options in any place, operands, and attributes.

use super::Applet;
use crate::base::{Kind, Name, Refusal, Refused};
use crate::cli::words::{clip, name, path, unknown};
use std::path::PathBuf;

/// The words of a command, sorted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Words {
    /// The flags seen, without `-g` and `-o`.
    pub flags: String,
    /// The value of `-g`.
    pub group: Option<Name>,
    /// The values of `-o`, taken apart at commas.
    pub options: Vec<String>,
    /// The values of all other flags that take one.
    pub values: Vec<(char, String)>,
    /// What is neither an option nor its value.
    pub operands: Vec<String>,
    /// The value of `--socket`.
    pub socket: Option<PathBuf>,
    /// Whether `--help` was asked for.
    pub help: bool,
}

impl Words {
    /// Whether `flag` was given.
    #[must_use]
    pub fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    /// The value that `flag` was given, the last one if there are several.
    #[must_use]
    pub fn value(&self, flag: char) -> Option<&str> {
        self.values.iter().rev().find(|(given, _)| *given == flag).map(|(_, value)| value.as_str())
    }
}

/// Sorts `typed`. `known` lists the flags as getopt(3) does: a colon behind one that takes a value.
///
/// # Errors
/// An unknown option, a missing value, a bad group name.
pub fn split(applet: Applet, typed: &[String], known: &str) -> Result<Words, Refused> {
    let mut words = Words::default();
    let mut rest = typed.iter();
    let help = format!("{applet} --help");
    let missing = |option: &str| {
        Refusal::new(Kind::Usage, "value.missing", option, "needs a value", format!("see {help}"))
    };
    while let Some(word) = rest.next() {
        if word == "--" {
            words.operands.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            match long.split_once('=').map_or((long, None), |(key, value)| (key, Some(value.to_owned()))) {
                ("json", None) => {}
                ("help", None) => words.help = true,
                ("socket", value) => {
                    let value = value.or_else(|| rest.next().cloned()).ok_or_else(|| missing(word))?;
                    words.socket = Some(path(&value)?);
                }
                _ => return Err(unknown("option", word, ["--json", "--socket", "--help"], &help)),
            }
        } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
            for (at, flag) in cluster.char_indices() {
                let Some(place) = known.find(flag).filter(|_| flag != ':') else {
                    return Err(unknown("option", &format!("-{flag}"), [], &help));
                };
                if !known[place + flag.len_utf8()..].starts_with(':') {
                    words.flags.push(flag);
                    continue;
                }
                let attached = &cluster[at + flag.len_utf8()..];
                let value =
                    if attached.is_empty() { rest.next().cloned() } else { Some(attached.to_owned()) };
                let value = value.ok_or_else(|| missing(&format!("-{flag}")))?;
                match flag {
                    'g' => words.group = Some(name(&value)?),
                    'o' => words.options.extend(value.split(',').map(str::to_owned)),
                    other => words.values.push((other, value)),
                }
                break;
            }
        } else {
            words.operands.push(word.clone());
        }
    }
    Ok(words)
}

/// Operands without attributes, and the attributes as key and value.
pub type OperandsAndAttributes = (Vec<String>, Vec<(String, String)>);

/// Takes the attributes `key=value` out of `operands`.
///
/// # Errors
/// An attribute that is not among `known`, or that stands twice.
pub fn attributes(operands: &[String], known: &[&str], help: &str) -> Result<OperandsAndAttributes, Refused> {
    let mut plain = Vec::new();
    let mut found: Vec<(String, String)> = Vec::new();
    for word in operands {
        match word.split_once('=') {
            Some((key, value)) if !key.contains('/') => {
                if !known.contains(&key) {
                    return Err(unknown("attribute", key, known.iter().copied(), help));
                }
                if found.iter().any(|(seen, _)| seen == key) {
                    return Err(Refusal::new(
                        Kind::Usage,
                        "attribute.twice",
                        clip(key),
                        "is given twice",
                        "give it once",
                    ));
                }
                found.push((key.to_owned(), value.to_owned()));
            }
            _ => plain.push(word.clone()),
        }
    }
    Ok((plain, found))
}

/// The value of the attribute `key`.
#[must_use]
pub fn value<'a>(attributes: &'a [(String, String)], key: &str) -> Option<&'a str> {
    attributes.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
}

/// The refusal for an operand that is missing.
#[must_use]
pub fn missing(what: &str, applet: Applet) -> Refused {
    Refusal::new(Kind::Usage, "argument.missing", what, "is missing", format!("see {applet} --help"))
}

/// The refusal for an operand too many.
#[must_use]
pub fn too_many(word: &str, applet: Applet) -> Refused {
    Refusal::new(
        Kind::Usage,
        "argument.unknown",
        clip(word),
        "is not expected here",
        format!("see {applet} --help"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn sorted(line: &str) -> Words {
        split(Applet::Vxassist, &typed(line), "bfg:o:").unwrap()
    }

    #[test]
    fn options_stand_anywhere_and_in_clusters() {
        let all = sorted("-g dg -b snapstart v -f");
        assert_eq!(all, sorted("-bgdg snapstart -f v").clone());
        assert_eq!((all.flags.as_str(), all.operands.join(" ").as_str()), ("bf", "snapstart v"));
        assert_eq!(sorted("-o name=%v,allvols -o x").options, ["name=%v", "allvols", "x"]);
        assert_eq!(sorted("a -- -b").operands, ["a", "-b"]);
        let spans = split(Applet::Vxstat, &typed("-i 5 v -c3 -i7"), "ri:c:g:").unwrap();
        assert_eq!((spans.value('i'), spans.value('c'), spans.value('r')), (Some("7"), Some("3"), None));
        assert_eq!(sorted("--socket=/s a -").operands, ["a", "-"]);
    }

    #[test]
    fn bad_options_are_refused_in_one_line() {
        for (line, id) in [
            ("-z", "option.unknown"),
            ("-:", "option.unknown"),
            ("--jsn", "option.unknown"),
            ("-g", "value.missing"),
            ("-g a/b", "name.bad-character"),
            ("--socket", "value.missing"),
        ] {
            assert_eq!(split(Applet::Vxedit, &typed(line), "g:rf").unwrap_err().id, id, "{line}");
        }
        let near = split(Applet::Vxedit, &typed("--jsn"), "").unwrap_err();
        assert_eq!(near.to_string(), "--jsn: is no option; did you mean '--json'?");
    }

    #[test]
    fn attributes_come_in_any_order() {
        let (plain, found) =
            attributes(&typed("nmirror=2 v /a=b layout=mirror"), &["nmirror", "layout"], "h").unwrap();
        assert_eq!(plain, ["v", "/a=b"]);
        assert_eq!((value(&found, "nmirror"), value(&found, "x")), (Some("2"), None));
        let unknown = attributes(&typed("nmiror=2"), &["nmirror"], "h").unwrap_err();
        assert_eq!(unknown.to_string(), "nmiror: is no attribute; did you mean 'nmirror'?");
        assert_eq!(attributes(&typed("a=1 a=2"), &["a"], "h").unwrap_err().id, "attribute.twice");
    }
}
