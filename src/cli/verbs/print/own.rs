//! `vxprint -F`: a line of each record as the words want it.

use super::{Record, attributes};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::words::{clip, unknown};

/// The widest that a value is made.
const MAX_WIDTH: usize = 200;

/// What is printed of records, of some types or of all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) struct Own {
    /// The types, as in [`super::Format::kinds`]; all when empty.
    kinds: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    /// The value of an attribute, and how wide it is at least.
    Value(&'static str, usize),
}

impl Own {
    /// What `text` asks for: `[TYPE,...:]` and a line in which `%name` and `%{name:width}` stand for attributes, `%%` for a
    /// percent sign, `\n` and `\t` for the end of a line and a tabulator.
    ///
    /// # Errors
    /// `attribute.unknown`; `format.invalid`.
    pub(in crate::cli) fn parse(text: &str, help: &str) -> Result<Self, Refused> {
        let is_types = |head: &str| !head.is_empty() && head.chars().all(|c| "Gdvps,".contains(c));
        let (kinds, mut rest) = match text.split_once(':') {
            Some((head, line)) if is_types(head) => (head.replace(',', ""), line),
            _ => (String::new(), text),
        };
        let mut pieces = Vec::new();
        while let Some(at) = rest.find(['%', '\\']) {
            pieces.push(Piece::Text(rest[..at].to_owned()));
            let (piece, behind) = Piece::parse(&rest[at..], help)?;
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self { kinds, pieces })
    }
}

impl Piece {
    /// The piece that `from` begins with, at its mark, and what stands behind it.
    fn parse<'a>(from: &'a str, help: &str) -> Result<(Self, &'a str), Refused> {
        let (mark, behind) = from.split_at(1);
        let text = |text: &str, length: usize| Ok((Self::Text(text.to_owned()), &behind[length..]));
        match (mark, behind.as_bytes().first()) {
            ("%", Some(b'%')) => text("%", 1),
            ("%", Some(b'{')) => {
                let (inside, rest) = behind[1..].split_once('}').ok_or_else(|| invalid(from))?;
                let (name, width) = inside.split_once(':').unwrap_or((inside, "*"));
                let width = if width == "*" { Some(0) } else { width.parse().ok() };
                let width = width.filter(|width| *width <= MAX_WIDTH).ok_or_else(|| invalid(from))?;
                Ok((Self::Value(attribute(name, help)?, width), rest))
            }
            ("%", _) => {
                let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = behind.find(|c| !of_name(c)).unwrap_or(behind.len());
                if end == 0 {
                    return Err(invalid(from));
                }
                Ok((Self::Value(attribute(&behind[..end], help)?, 0), &behind[end..]))
            }
            (_, Some(b'n')) => text("\n", 1),
            (_, Some(b't')) => text("\t", 1),
            (_, Some(b'\\')) => text("\\", 1),
            _ => text(mark, 0),
        }
    }
}

fn attribute(name: &str, help: &str) -> Result<&'static str, Refused> {
    let found = attributes::NAMES.into_iter().find(|known| *known == name);
    found.ok_or_else(|| unknown("attribute", name, attributes::NAMES, help))
}

fn invalid(from: &str) -> Refused {
    Refusal::new(
        Kind::Syntax,
        "format.invalid",
        clip(from),
        "does not name an attribute",
        format!(
            "write %name, or %{{name:width}} with a width of {MAX_WIDTH} at most, and %% for a percent sign"
        ),
    )
}

/// The line of `record`, by the last of `formats` that is for its type; nothing where none is.
pub(super) fn line(formats: &[Own], record: Record<'_>) -> String {
    let is_for = |own: &&Own| own.kinds.is_empty() || own.kinds.contains(record.kind());
    let Some(own) = formats.iter().rfind(is_for) else { return String::new() };
    let mut text = String::new();
    for piece in &own.pieces {
        match piece {
            Piece::Text(piece) => text += piece,
            Piece::Value(name, width) => {
                text += &format!("{:<width$}", attributes::value(record, name), width = *width);
            }
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Result<Vec<Piece>, String> {
        let own = Own::parse(text, "vxprint --help").map_err(|refused| refused.id)?;
        Ok(own.pieces.into_iter().filter(|piece| *piece != Piece::Text(String::new())).collect())
    }

    #[test]
    fn a_format_is_text_and_attributes() {
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(
            pieces("%name: %{len:8}|%{state:*}%%\\n\\t\\\\\\x").unwrap(),
            [
                Piece::Value("name", 0),
                text(": "),
                Piece::Value("len", 8),
                text("|"),
                Piece::Value("state", 0),
                text("%"),
                text("\n"),
                text("\t"),
                text("\\"),
                text("\\"),
                text("x"),
            ]
        );
        assert_eq!(Own::parse("v,p:%name", "h").unwrap().kinds, "vp");
        assert_eq!(Own::parse("x:%name", "h").unwrap().kinds, "", "no types are called so");
        for (text, id) in [
            ("%", "format.invalid"),
            ("% name", "format.invalid"),
            ("%{name", "format.invalid"),
            ("%{name:}", "format.invalid"),
            ("%{name:201}", "format.invalid"),
            ("%nam", "attribute.unknown"),
            ("%{}", "attribute.unknown"),
            ("%ä", "format.invalid"),
        ] {
            assert_eq!(pieces(text), Err(id.to_owned()), "{text}");
        }
    }
}
