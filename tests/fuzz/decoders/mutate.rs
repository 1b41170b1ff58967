//! Mutations that know a little of what they change: numbers of all widths in binary structures, tokens in JSON.

use cleave::sim::Rng;

/// How an input is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Fields of fixed width, little endian.
    Binary,
    /// JSON.
    Text,
}

const NUMBERS: [u64; 18] = [
    0,
    1,
    2,
    3,
    0x7f,
    0x80,
    0xff,
    0x100,
    511,
    512,
    4096,
    0xffff,
    1 << 20,
    1 << 31,
    u32::MAX as u64,
    1 << 60,
    1 << 63,
    u64::MAX,
];

/// What stands in for a JSON value.
const VALUES: [&str; 34] = [
    "0",
    "1",
    "-1",
    "511",
    "65536",
    "1e3",
    "1e999",
    "0.5",
    "-0.0",
    "4294967295",
    "4294967296",
    "1048576",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "null",
    "true",
    "false",
    "\"\"",
    "\"a\"",
    "\"..\"",
    "\"/\"",
    "\"/a\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\n\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "\"ACTIVE\"",
    "\"CLEAN\"",
    "\"snapshot\"",
    "\"00000000-0000-0000-0000-000000000000\"",
];

/// Changes `data` in one to four places, to at most `max` bytes; `other` is an input to take pieces from.
pub fn mutate(rng: &mut Rng, shape: Shape, data: &mut Vec<u8>, other: &[u8], max: usize) {
    for _ in 0..=rng.below(4) {
        match shape {
            Shape::Text if !rng.chance(4) => token(rng, data, other),
            Shape::Text | Shape::Binary => bytes(rng, data, other),
        }
    }
    data.truncate(max);
}

fn bytes(rng: &mut Rng, data: &mut Vec<u8>, other: &[u8]) {
    if data.is_empty() {
        data.push(rng.next_u64() as u8);
        return;
    }
    let at = rng.index(data.len());
    match rng.below(9) {
        0 => data[at] ^= 1 << rng.below(8),
        1 => data[at] = rng.next_u64() as u8,
        2..=4 => {
            let width = [1, 2, 4, 8][rng.index(4)].min(data.len());
            // Fields stand at multiples of their width.
            let at = (at / width * width).min(data.len() - width);
            let number = match rng.below(3) {
                0 => *rng.pick(&NUMBERS),
                1 => rng.pick(&NUMBERS).wrapping_add(rng.below(5)).wrapping_sub(2),
                _ => rng.next_u64(),
            };
            data[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
        5 => data.truncate(at),
        6 => {
            let end = (at + 1 + rng.index(16)).min(data.len());
            data.drain(at..end);
        }
        7 => {
            let end = (at + 1 + rng.index(16)).min(data.len());
            let piece = data[at..end].to_vec();
            let to = rng.index(data.len());
            data.splice(to..to, piece);
        }
        _ if other.is_empty() => {}
        _ => {
            let from = rng.index(other.len());
            let piece = &other[from..(from + 1 + rng.index(32)).min(other.len())];
            let end = (at + piece.len()).min(data.len());
            data.splice(at..end, piece.iter().copied());
        }
    }
}

/// The tokens of a JSON text, as ranges: strings whole, numbers and words whole, marks alone; blanks are none.
fn tokens(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        match text[at] {
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(text.len());
            }
            b' ' | b'\n' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                while at < text.len() && (text[at].is_ascii_alphanumeric() || b"+-.".contains(&text[at])) {
                    at += 1;
                }
            }
            _ => at += 1,
        }
        found.push(start..at);
    }
    found
}

fn token(rng: &mut Rng, data: &mut Vec<u8>, other: &[u8]) {
    let here = tokens(data);
    let Some(chosen) = (!here.is_empty()).then(|| rng.pick(&here).clone()) else {
        return bytes(rng, data, other);
    };
    match rng.below(8) {
        0..=2 => {
            data.splice(chosen, rng.pick(&VALUES).bytes());
        }
        3 | 4 => {
            let source = if rng.coin() { data.clone() } else { other.to_vec() };
            let there = tokens(&source);
            if !there.is_empty() {
                let piece = source[rng.pick(&there).clone()].to_vec();
                data.splice(chosen, piece);
            }
        }
        5 => {
            data.drain(chosen);
        }
        // A member or an element once more, or gone: from one mark to another.
        6 | 7 => {
            let marks: Vec<_> = here.iter().filter(|token| b"{[,".contains(&data[token.start])).collect();
            if marks.len() < 2 {
                return;
            }
            let first = rng.index(marks.len() - 1);
            let last = (first + 1 + rng.index(6)).min(marks.len() - 1);
            let piece = data[marks[first].start..marks[last].start].to_vec();
            let at = marks[first].start;
            if rng.coin() {
                data.splice(at..at, piece);
            } else {
                data.drain(at..at + piece.len());
            }
        }
        _ => {}
    }
}
