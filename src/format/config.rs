//! The configuration of a group as text: a first line that vouches for the rest, then JSON for people and programs.
//!
//! ```text
//! cleave-configuration 1 generation 17 length 1234 blake3 5f0c...
//! {
//!   "group": ...
//! }
//! ```
//!
//! Invariants:
//! * `length` counts the bytes behind the first line; the last of them is a line feed.
//! * The BLAKE3 sum covers the first line up to and with ` length N`, a line feed, and the body: generation, length and body
//!   vouch for each other.
//! * The text has at most [`MAX_CONFIG_BYTES`], so that it fits a label.
//!
//! A text whose sum does not match is told apart from one that is no configuration at all: it was most likely edited by
//! hand, and the last generation kept is the way back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

use crate::base::limits::{MAX_CONFIG_BYTES, MAX_COUNT};
use crate::base::{Generation, checksum, one_line};

const MAGIC: &str = "cleave-configuration";
const VERSION: u16 = 1;

/// Bytes of the longest first line: magic, four numbers of at most 20 digits, the sum and the words between, rounded up.
const MAX_FIRST_LINE: usize = 256;

/// Why a text is not taken as the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// More bytes than a configuration may have.
    TooLarge {
        /// Bytes there.
        found: usize,
    },
    /// The first line is not that of a configuration.
    NotAConfiguration,
    /// A configuration of a version that this program does not know.
    UnknownVersion {
        /// The version in the first line.
        found: u16,
        /// The newest version known.
        newest: u16,
    },
    /// The body is not as long as the first line says: cut off, or edited by hand.
    WrongLength {
        /// Bytes there.
        found: usize,
        /// Bytes that the first line names.
        expected: u64,
    },
    /// The sum does not match: edited by hand, or damaged.
    Altered,
    /// The sum matches, and the generation is one that no counting reaches.
    BeyondCount {
        /// The generation.
        found: Generation,
    },
    /// The sum matches and the body is not what this program writes.
    Unreadable {
        /// What the reader of the body says.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { found } => write!(f, "has {found} bytes, more than {MAX_CONFIG_BYTES}"),
            Self::NotAConfiguration => f.write_str("is not a configuration of Cleave"),
            Self::UnknownVersion { found, newest } => {
                write!(f, "has version {found}, this program knows versions up to {newest}")
            }
            Self::WrongLength { found, expected } => {
                write!(
                    f,
                    "has {found} bytes behind its first line, which says {expected}: cut off or edited by hand"
                )
            }
            Self::Altered => f.write_str("does not match its checksum: edited by hand or damaged"),
            Self::BeyondCount { found } => write!(f, "has generation {found}, which no counting reaches"),
            Self::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The first line without its sum: what the sum covers beside the body.
fn claim(generation: Generation, length: usize) -> String {
    format!("{MAGIC} {VERSION} generation {generation} length {length}")
}

fn first_line(claim: &str, body: &[u8]) -> String {
    let sum = checksum::blake3_hex(&[claim.as_bytes(), b"\n", body].concat());
    format!("{claim} blake3 {sum}\n")
}

/// `value` as the text of configuration `generation`.
///
/// # Errors
/// [`ConfigError::TooLarge`] above [`MAX_CONFIG_BYTES`]; [`ConfigError::Unreadable`] when `value` cannot be written as JSON,
/// such as a map whose keys are no strings.
pub fn encode<T: Serialize>(generation: Generation, value: &T) -> Result<String, ConfigError> {
    let mut body = serde_json::to_string_pretty(value)
        .map_err(|error| ConfigError::Unreadable { reason: one_line(&error.to_string()) })?;
    body.push('\n');
    let text = first_line(&claim(generation, body.len()), body.as_bytes()) + &body;
    if text.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { found: text.len() });
    }
    Ok(text)
}

/// What `text` holds, and its generation.
///
/// # Errors
/// [`ConfigError`].
pub fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<(Generation, T), ConfigError> {
    let (generation, body) = verify(text)?;
    let value = serde_json::from_slice(body)
        .map_err(|error| ConfigError::Unreadable { reason: one_line(&error.to_string()) })?;
    Ok((generation, value))
}

/// The generation of `text`, whose first line vouches for all of it; the body is not looked into.
///
/// # Errors
/// [`ConfigError`], all but [`ConfigError::Unreadable`].
pub fn generation(text: &[u8]) -> Result<Generation, ConfigError> {
    verify(text).map(|(generation, _)| generation)
}

fn verify(text: &[u8]) -> Result<(Generation, &[u8]), ConfigError> {
    if text.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { found: text.len() });
    }
    let head = &text[..text.len().min(MAX_FIRST_LINE)];
    let end = head.iter().position(|&byte| byte == b'\n').ok_or(ConfigError::NotAConfiguration)?;
    let line = std::str::from_utf8(&head[..end]).map_err(|_| ConfigError::NotAConfiguration)?;
    let mut words = line.split(' ');
    let mut word = |expected: &str| (words.next() == Some(expected)).then_some(());
    word(MAGIC).ok_or(ConfigError::NotAConfiguration)?;
    let version: u16 = number(words.next()).ok_or(ConfigError::NotAConfiguration)?;
    if version != VERSION {
        return Err(ConfigError::UnknownVersion { found: version, newest: VERSION });
    }
    let (generation, length) = claims(&mut words).ok_or(ConfigError::NotAConfiguration)?;
    let body = &text[end + 1..];
    if body.len() as u64 != length {
        return Err(ConfigError::WrongLength { found: body.len(), expected: length });
    }
    // The whole line is compared, so that there is one way to write it: no signs, no leading zeroes, no capitals.
    let expected = first_line(&claim(generation, body.len()), body);
    if text[..=end] != *expected.as_bytes() {
        return Err(ConfigError::Altered);
    }
    if generation > MAX_COUNT {
        return Err(ConfigError::BeyondCount { found: generation });
    }
    Ok((generation, body))
}

/// `generation N length L blake3 HEX`, with nothing behind it.
fn claims<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<(Generation, u64)> {
    words.next().filter(|word| *word == "generation")?;
    let generation = number(words.next())?;
    words.next().filter(|word| *word == "length")?;
    let length = number(words.next())?;
    words.next().filter(|word| *word == "blake3")?;
    words.next()?;
    words.next().is_none().then_some((Generation(generation), length))
}

fn number<N: std::str::FromStr>(word: Option<&str>) -> Option<N> {
    word?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::layout::testing::every_flip_and_truncation;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Body = BTreeMap<String, u64>;

    fn body() -> Body {
        [("length".to_owned(), 1 << 30), ("plexes".to_owned(), 2)].into()
    }

    #[test]
    fn golden_text() {
        let text = encode(Generation(17), &body()).unwrap();
        assert_eq!(
            text,
            "cleave-configuration 1 generation 17 length 42 blake3 \
             ec37d30dda405533cdf4abab12493429dde9dde908fb4a4a93691994285f76bd\n\
             {\n  \"length\": 1073741824,\n  \"plexes\": 2\n}\n"
        );
        assert_eq!(decode::<Body>(text.as_bytes()), Ok((Generation(17), body())));
        assert_eq!(generation(text.as_bytes()), Ok(Generation(17)));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_seen() {
        let text = encode(Generation(17), &body()).unwrap();
        every_flip_and_truncation(text.as_bytes(), |bytes| decode::<Body>(bytes).is_err());
    }

    #[test]
    fn an_edit_by_hand_is_told_from_a_foreign_file() {
        let text = encode(Generation(17), &body()).unwrap();
        let edit = |from: &str, to: &str| {
            let edited = text.replacen(from, to, 1);
            assert_ne!(edited, text);
            decode::<Body>(edited.as_bytes()).unwrap_err()
        };
        assert_eq!(edit("plexes\": 2", "plexes\": 3"), ConfigError::Altered);
        assert_eq!(edit("generation 17", "generation 18"), ConfigError::Altered);
        assert_eq!(edit("generation 17", "generation 017"), ConfigError::Altered);
        assert_eq!(edit("generation 17", "generation +17"), ConfigError::Altered);
        assert_eq!(edit("plexes\": 2", "plexes\": 20"), ConfigError::WrongLength { found: 43, expected: 42 });
        assert_eq!(edit("length 42", "length 41"), ConfigError::WrongLength { found: 42, expected: 41 });
        assert_eq!(
            edit("configuration 1 ", "configuration 2 "),
            ConfigError::UnknownVersion { found: 2, newest: 1 }
        );
        assert_eq!(edit("cleave", "cleaver"), ConfigError::NotAConfiguration);
        assert_eq!(edit(" blake3", " blake2"), ConfigError::NotAConfiguration);
        assert_eq!(decode::<Body>(b""), Err(ConfigError::NotAConfiguration));
        assert_eq!(decode::<Body>(&[b'x'; 1000]), Err(ConfigError::NotAConfiguration));
    }

    #[test]
    fn a_right_sum_over_another_body_is_unreadable() {
        let text = encode(Generation(1), &["not", "a", "map"]).unwrap();
        assert!(matches!(decode::<Body>(text.as_bytes()), Err(ConfigError::Unreadable { .. })));
        let nested = "[".repeat(100_000) + "\n";
        let text = first_line(&claim(Generation(1), nested.len()), nested.as_bytes()) + &nested;
        assert!(matches!(decode::<serde_json::Value>(text.as_bytes()), Err(ConfigError::Unreadable { .. })));
    }

    #[test]
    fn what_does_not_fit_a_label_is_refused_both_ways() {
        let huge = "x".repeat(MAX_CONFIG_BYTES);
        assert!(matches!(encode(Generation(1), &huge), Err(ConfigError::TooLarge { .. })));
        assert!(matches!(
            decode::<Body>(&vec![b' '; MAX_CONFIG_BYTES + 1]),
            Err(ConfigError::TooLarge { .. })
        ));
    }

    #[test]
    fn the_longest_first_line_fits() {
        let line = first_line(&claim(Generation(u64::MAX), MAX_CONFIG_BYTES), b"");
        assert!(line.len() <= MAX_FIRST_LINE, "{}", line.len());
    }

    proptest! {
        #[test]
        fn texts_survive_the_round_trip(generation in 0..=MAX_COUNT.0, body: BTreeMap<String, u64>) {
            let text = encode(Generation(generation), &body).unwrap();
            prop_assert_eq!(decode::<Body>(text.as_bytes()), Ok((Generation(generation), body)));
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>, line in "cleave-configuration [0-9 ]{0,40}(generation|length|blake3)?[^\n]{0,40}\n?") {
            let _ = decode::<Body>(&bytes);
            let _ = decode::<Body>(line.as_bytes());
        }
    }
}
