//! Names of groups, volumes and plexes: what is accepted prints and parses back byte for byte and can never leave its
//! directory, start an option or confuse a terminal.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use super::Kind;
use super::limits::MAX_NAME_BYTES;

/// A checked name: ASCII letters, digits, `_`, `-`, `.` and `:`; first a letter, digit or `_`; at most 128 bytes; not a
/// reserved word.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Box<str>);

/// Directories that stand beside volume links, so no volume or group may be called like them.
const RESERVED: [&str; 7] = ["all", "allvols", "dsk", "rdsk", "config", "media", "lost+found"];

/// Why a name was refused; its text completes "NAME: ".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// No character at all.
    Empty,
    /// More than 128 bytes.
    TooLong,
    /// A first character that would read as an option or a hidden file.
    BadStart,
    /// A character outside the accepted set.
    BadCharacter,
    /// A word that Cleave or its paths use themselves.
    Reserved,
}

impl NameError {
    /// Kind and stable id of the refusal of such a name.
    #[must_use]
    pub const fn kind_and_id(self) -> (Kind, &'static str) {
        match self {
            Self::Empty => (Kind::Syntax, "name.empty"),
            Self::TooLong => (Kind::Syntax, "name.too-long"),
            Self::BadStart => (Kind::Syntax, "name.bad-start"),
            Self::BadCharacter => (Kind::Syntax, "name.bad-character"),
            Self::Reserved => (Kind::Syntax, "name.reserved"),
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::TooLong => "is longer than 128 bytes",
            Self::BadStart => "does not start with a letter, a digit or '_'",
            Self::BadCharacter => "has a character other than letters, digits, '_', '-', '.' and ':'",
            Self::Reserved => "is a reserved word",
        })
    }
}

impl Name {
    /// `text` as a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().ok_or(NameError::Empty)?;
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong);
        }
        if !text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b':')) {
            return Err(NameError::BadCharacter);
        }
        if !first.is_ascii_alphanumeric() && first != b'_' {
            return Err(NameError::BadStart);
        }
        if RESERVED.contains(&text) {
            return Err(NameError::Reserved);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass_and_print_back() {
        for good in ["v", "SNAP-v", "SNAP2-data.vol", "_x", "0", "a:b", &"n".repeat(128)] {
            assert_eq!(Name::new(good).unwrap().to_string(), good);
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "n".repeat(129);
        for (bad, why) in [
            ("", NameError::Empty),
            (".", NameError::BadStart),
            ("..", NameError::BadStart),
            ("../x", NameError::BadCharacter),
            ("a/b", NameError::BadCharacter),
            ("a b", NameError::BadCharacter),
            ("a\tb", NameError::BadCharacter),
            ("a\n", NameError::BadCharacter),
            ("a\0", NameError::BadCharacter),
            ("\x1b[31m", NameError::BadCharacter),
            ("-rf", NameError::BadStart),
            ("%s", NameError::BadCharacter),
            ("$(x)", NameError::BadCharacter),
            ("'", NameError::BadCharacter),
            ("é", NameError::BadCharacter),
            ("\u{202e}x", NameError::BadCharacter),
            (long.as_str(), NameError::TooLong),
            ("rdsk", NameError::Reserved),
        ] {
            assert_eq!(Name::new(bad), Err(why), "{bad:?}");
        }
    }
}
