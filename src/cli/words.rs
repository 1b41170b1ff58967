//! Single words of a command line: names, sizes, counts, paths, and the nearest word to one that is unknown.

use crate::base::limits::MAX_PLEXES;
use crate::base::units::{SizeError, parse_size};
use crate::base::{Kind, Name, Refusal, Refused, RegionSize};
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

/// The arguments as text.
///
/// # Errors
/// [`Kind::Syntax`] for an argument that is not UTF-8: names and the protocol's paths are.
pub fn utf8(argv: &[OsString]) -> Result<Vec<String>, Refused> {
    argv.iter()
        .map(|word| {
            word.clone().into_string().map_err(|raw| {
                Refusal::new(Kind::Syntax, "word.not-utf8", clip(&raw.to_string_lossy()), "is not UTF-8", "")
            })
        })
        .collect()
}

/// `text` cut to what fits a line.
#[must_use]
pub fn clip(text: &str) -> String {
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// `text` as the name of a group, volume, plex or medium.
///
/// # Errors
/// [`Kind::Syntax`] with an id for each rule that a name can break.
pub fn name(text: &str) -> Result<Name, Refused> {
    Name::new(text).map_err(|error| {
        let (kind, id) = error.kind_and_id();
        Refusal::new(kind, id, clip(text), format!("as a name {error}"), "choose another name")
    })
}

/// Each of `texts` as a name.
///
/// # Errors
/// Those of [`name`].
pub fn names(texts: &[String]) -> Result<Vec<Name>, Refused> {
    texts.iter().map(|text| name(text)).collect()
}

/// `text` as a length, in bytes.
///
/// # Errors
/// [`Kind::Syntax`] for what is no size, [`Kind::Usage`] for 0 and for what no volume can have.
pub fn size(text: &str) -> Result<u64, Refused> {
    parse_size(text).map_err(|error| {
        let (kind, id, reason) = match error {
            SizeError::NotANumber => (Kind::Syntax, "size.not-a-number", "is not a size"),
            SizeError::UnknownUnit => (Kind::Syntax, "size.unknown-unit", "is a size with an unknown unit"),
            SizeError::Zero => (Kind::Usage, "size.zero", "is a size of zero"),
            SizeError::TooLarge => (Kind::Usage, "size.too-large", "is larger than a volume can be (1 EiB)"),
        };
        Refusal::new(
            kind,
            id,
            clip(text),
            reason,
            "write a whole number with s (sectors), k, m, g, t or p, as 10g or 1536m",
        )
    })
}

/// `text` as a time that a request may take, in microseconds.
///
/// # Errors
/// [`Kind::Syntax`] for what is no time from 1us to 1000s.
pub fn latency(text: &str) -> Result<NonZeroU64, Refused> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        _ => 0,
    };
    let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|c| c.is_ascii_digit()));
    let micros = number.and_then(|number| number.checked_mul(unit)).filter(|micros| *micros <= 1_000_000_000);
    micros.and_then(NonZeroU64::new).ok_or_else(|| {
        let way_out = "write a number with us, ms or s, as 5ms";
        Refusal::new(
            Kind::Syntax,
            "latency.no-time",
            clip(text),
            "is no time that a request may take",
            way_out,
        )
    })
}

/// `text` as the number of bytes a region.
///
/// # Errors
/// Those of [`size`]; [`Kind::Usage`] unless it is a power of two within the limits.
pub fn region(text: &str) -> Result<RegionSize, Refused> {
    let bytes = size(text)?;
    u32::try_from(bytes).ok().and_then(RegionSize::new).ok_or_else(|| {
        Refusal::new(
            Kind::Usage,
            "region.invalid",
            clip(text),
            "is not a power of two from 16k to 64m",
            "leave it out for the default of 64k",
        )
    })
}

/// `text` as a number of plexes.
///
/// # Errors
/// [`Kind::Usage`] unless it is a number from 1 to [`MAX_PLEXES`].
pub fn plex_count(text: &str) -> Result<u32, Refused> {
    text.parse().ok().filter(|count| (1..=MAX_PLEXES as u32).contains(count)).ok_or_else(|| {
        Refusal::new(
            Kind::Usage,
            "nmirror.range",
            clip(text),
            format!("is not a number of plexes from 1 to {MAX_PLEXES}"),
            "name another number",
        )
    })
}

/// `text` as the number of a task.
///
/// # Errors
/// [`Kind::Usage`] when it is no number.
pub fn task(text: &str) -> Result<u64, Refused> {
    text.parse().map_err(|_| {
        Refusal::new(
            Kind::Usage,
            "task.not-a-number",
            clip(text),
            "is not the number of a task",
            "list them with: cleave task list",
        )
    })
}

/// `text` as an absolute path, relative ones taken from the working directory.
///
/// # Errors
/// [`Kind::Syntax`] for an empty path, one of more than 4095 bytes, or without a working directory to start from.
pub fn path(text: &str) -> Result<PathBuf, Refused> {
    let refuse =
        |kind, id, reason: &str| Err(Refusal::new(kind, id, clip(text), reason, "name another path"));
    match std::path::absolute(text) {
        Ok(path) if path.as_os_str().len() > 4095 => {
            refuse(Kind::Syntax, "path.too-long", "is a path of more than 4095 bytes")
        }
        Ok(path) if path.to_str().is_none() => {
            refuse(Kind::Syntax, "path.not-utf8", "lies in a directory whose name is not UTF-8")
        }
        Ok(path) => Ok(path),
        Err(_) => refuse(Kind::Syntax, "path.invalid", "is no path"),
    }
}

/// Each of `texts` as an absolute path.
///
/// # Errors
/// Those of [`path`].
pub fn paths(texts: &[String]) -> Result<Vec<PathBuf>, Refused> {
    texts.iter().map(|text| path(text)).collect()
}

/// The refusal of `word`, which is no `what`, with the nearest of `known` when one is near.
#[must_use]
pub fn unknown<'a>(what: &str, word: &str, known: impl IntoIterator<Item = &'a str>, help: &str) -> Refused {
    let way_out = match nearest(word, known) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("see {help}"),
    };
    Refusal::new(
        Kind::Usage,
        &format!("{what}.unknown").replace(' ', "-"),
        clip(word),
        format!("is no {what}"),
        way_out,
    )
}

/// The word of `known` nearest to `word`, when no more than a third of it must be changed.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|other| (distance(word, other), other))
        .filter(|(distance, other)| *distance <= limit || (word.len() >= 3 && other.starts_with(word)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// Edit distance with neighbours swapped counted as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_requests_are_told_from_nonsense() {
        let micros = |text| latency(text).map(NonZeroU64::get).map_err(|refused| refused.id);
        for (text, expected) in [("500us", 500), ("5ms", 5000), ("1s", 1_000_000), ("1000s", 1_000_000_000)] {
            assert_eq!(micros(text), Ok(expected), "{text}");
        }
        for text in
            ["", "5", "ms", "0ms", "-1ms", "+1ms", "1.5ms", "5m", "5MS", "1001s", "99999999999999999999us"]
        {
            assert!(micros(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["snapstart", "snapwait", "snapshot", "snapback", "make"];
        for (typed, meant) in [
            ("snapstrat", Some("snapstart")),
            ("snapshto", Some("snapshot")),
            ("mkae", Some("make")),
            ("snapb", Some("snapback")),
            ("frobnicate", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(
            unknown("verb", "mkae", known, "cleave --help").to_string(),
            "mkae: is no verb; did you mean 'make'?"
        );
    }

    #[test]
    fn sizes_and_names_are_refused_by_kind_and_id() {
        for (text, id, code) in [
            ("0", "size.zero", 1),
            ("-5", "size.not-a-number", 2),
            ("1KiB", "size.unknown-unit", 2),
            ("9223372036854775808", "size.too-large", 1),
            ("18446744073709551616", "size.too-large", 1),
        ] {
            let refusal = size(text).unwrap_err();
            assert_eq!((refusal.id.as_str(), refusal.kind.exit_code()), (id, code), "{text}");
        }
        assert_eq!(
            name("../x").unwrap_err().to_string(),
            "../x: as a name has a character other than letters, digits, '_', '-', '.' and ':'; choose another name"
        );
        let long = name(&"n".repeat(4096)).unwrap_err();
        assert!(long.to_string().len() < 160, "{long}");
        assert_eq!(region("48k").unwrap_err().id, "region.invalid");
        assert_eq!(region("128").unwrap().bytes(), 65536, "a plain number is sectors");
        assert_eq!(plex_count("33").unwrap_err().id, "nmirror.range");
        assert_eq!(plex_count("32"), Ok(32));
    }

    #[test]
    fn an_argument_that_is_no_text_is_refused_with_what_can_be_shown_of_it() {
        use std::os::unix::ffi::OsStringExt;
        let refused = utf8(&["v".into(), OsString::from_vec(vec![b'w', 0xff])]).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("word.not-utf8", Kind::Syntax));
        assert_eq!(refused.object, "w\u{fffd}");
    }

    #[test]
    fn paths_become_absolute() {
        assert_eq!(path("/a/b").unwrap(), PathBuf::from("/a/b"));
        assert!(path("x").unwrap().is_absolute());
        assert_eq!(path("").unwrap_err().id, "path.invalid");
        assert_eq!(path(&"x/".repeat(4000)).unwrap_err().id, "path.too-long");
    }
}
