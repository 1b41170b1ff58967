//! Errors in two sizes: [`Errno`], what one I/O ended with, and [`Refusal`], what a person is told.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The error of one I/O, as the kernel numbers it. It is chosen here and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Errno(i32);

impl Errno {
    /// Input/output error.
    pub const IO: Self = Self(5);
    /// No such device or address: the medium is gone.
    pub const GONE: Self = Self(6);
    /// Resource busy.
    pub const BUSY: Self = Self(16);
    /// Invalid argument: a range or alignment that we should never have sent.
    pub const INVALID: Self = Self(22);
    /// No space left on the medium.
    pub const NO_SPACE: Self = Self(28);
    /// Read-only medium.
    pub const READ_ONLY: Self = Self(30);
    /// Operation not supported by the medium.
    pub const UNSUPPORTED: Self = Self(95);
    /// No answer within the time limit.
    pub const TIMED_OUT: Self = Self(110);
    /// ECANCELED: nobody waits for it any more.
    pub const CANCELED: Self = Self(125);

    /// The error numbered `raw`; zero and negative numbers, which no kernel uses, become [`Errno::IO`].
    #[must_use]
    pub const fn from_raw(raw: i32) -> Self {
        if raw > 0 { Self(raw) } else { Self::IO }
    }

    /// The positive number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self::from_raw(error.raw_os_error().unwrap_or(Self::IO.0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.0)
    }
}

impl std::error::Error for Errno {}

/// The kinds of refusal, each with its exit code: those of vxintro(1M) where it has the kind, ours from 64 on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Bad arguments (1).
    Usage,
    /// A name or value with wrong syntax (2).
    Syntax,
    /// The daemon does not run (3).
    DaemonDown,
    /// Talking with the daemon failed (4).
    DaemonTalk,
    /// A system call failed (5).
    System,
    /// An internal error of Cleave (7).
    Internal,
    /// No such group (9).
    NoGroup,
    /// Changed by another command at the same time (10).
    Changed,
    /// Object not found (11).
    NotFound,
    /// Object exists already (12).
    Exists,
    /// Another operation works on the object (13).
    Busy,
    /// The last complete plex must stay (18).
    Last,
    /// Not possible in the object's present state (20).
    InvalidState,
    /// Input/output error (21).
    Io,
    /// The volume cannot be started (24).
    CannotStart,
    /// Started already (25).
    Started,
    /// Not started (26).
    NotStarted,
    /// Open or mounted (31).
    Open,
    /// Not enough room or a medium too small (64).
    NoSpace,
    /// A medium is missing, in use or read-only (65).
    Medium,
    /// The host lacks ublk or a right to it (66).
    Host,
    /// Not permitted to this user (67).
    Permission,
    /// Metadata is damaged or of an unknown version (68).
    Damaged,
    /// A time limit was passed and the operation backed out (69).
    TimedOut,
    /// Plexes differ where they must be equal (70).
    Differs,
    /// Aborted on request (71).
    Aborted,
}

impl Kind {
    /// The exit code of a command that ends with this kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 1,
            Self::Syntax => 2,
            Self::DaemonDown => 3,
            Self::DaemonTalk => 4,
            Self::System => 5,
            Self::Internal => 7,
            Self::NoGroup => 9,
            Self::Changed => 10,
            Self::NotFound => 11,
            Self::Exists => 12,
            Self::Busy => 13,
            Self::Last => 18,
            Self::InvalidState => 20,
            Self::Io => 21,
            Self::CannotStart => 24,
            Self::Started => 25,
            Self::NotStarted => 26,
            Self::Open => 31,
            Self::NoSpace => 64,
            Self::Medium => 65,
            Self::Host => 66,
            Self::Permission => 67,
            Self::Damaged => 68,
            Self::TimedOut => 69,
            Self::Differs => 70,
            Self::Aborted => 71,
        }
    }
}

/// A refusal as a person is told it: one line naming the object, the reason and the way out.
///
/// `id` is stable and tells cases of one kind apart in `--json`: lower-case words joined by dots, `plex.too-small`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind, which chooses the exit code.
    pub kind: Kind,
    /// The stable id of the case.
    pub id: String,
    /// What the refusal is about, as the user named it.
    pub object: String,
    /// Why, without a full stop.
    pub reason: String,
    /// What the user can do now, without a full stop; empty when nothing can be done.
    pub way_out: String,
}

/// What a pure decision returns when it refuses. Boxed: refusals are rare and results are passed around a lot.
pub type Refused = Box<Refusal>;

impl Refusal {
    /// A refusal of `kind` and `id` about `object`.
    #[must_use]
    pub fn new(
        kind: Kind,
        id: &str,
        object: impl fmt::Display,
        reason: impl fmt::Display,
        way_out: impl fmt::Display,
    ) -> Refused {
        Box::new(Self {
            kind,
            id: id.to_owned(),
            object: object.to_string(),
            reason: reason.to_string(),
            way_out: way_out.to_string(),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object.escape_debug(), self.reason)?;
        if self.way_out.is_empty() { Ok(()) } else { write!(f, "; {}", self.way_out) }
    }
}

impl std::error::Error for Refusal {}

/// Characters of somebody else's words that a message of ours repeats: enough to see what is meant.
const MAX_REPEATED: usize = 300;

/// `text`, in which words of somebody else may stand, as a part of one line: control characters and what turns the
/// direction of writing are escaped, and what goes beyond some hundred characters is left out.
#[must_use]
pub fn one_line(text: &str) -> String {
    let is_mark = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut line = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == MAX_REPEATED {
            line.push_str("...");
            break;
        }
        if is_mark(c) { line.extend(c.escape_debug()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_whatever_the_object_is_called() {
        let refusal = Refusal::new(
            Kind::NotFound,
            "volume.unknown",
            "a\nb\x1b",
            "no such volume",
            "list them with: cleave list",
        );
        assert_eq!(refusal.to_string(), "a\\nb\\u{1b}: no such volume; list them with: cleave list");
        assert_eq!(refusal.kind.exit_code(), 11);
    }

    #[test]
    fn what_somebody_else_wrote_stays_one_short_line() {
        assert_eq!(one_line("field `\n\u{1b}[2J\u{202e}\u{e9}\"`"), "field `\\n\\u{1b}[2J\\u{202e}\u{e9}\"`");
        assert_eq!(one_line(&"x".repeat(MAX_REPEATED)), "x".repeat(MAX_REPEATED));
        assert_eq!(one_line(&"x".repeat(1 << 20)).len(), MAX_REPEATED + 3);
    }

    #[test]
    fn errno_is_never_zero_or_negative() {
        assert_eq!(Errno::from_raw(0), Errno::IO);
        assert_eq!(Errno::from_raw(-28), Errno::IO);
        assert_eq!(Errno::from_raw(28), Errno::NO_SPACE);
        assert_eq!(Errno::NO_SPACE.to_string(), "No space left on device");
    }
}
