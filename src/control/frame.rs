//! Frames: a 4-byte little-endian length, then that many bytes of JSON.
//!
//! ```text
//!  0        4                      4 + length
//!  +--------+----------------------+
//!  | length | one JSON document    |     1 <= length <= MAX_FRAME_BYTES
//!  +--------+----------------------+
//! ```
//!
//! The length is checked before a byte of the body is kept. JSON nests at most 128 deep (the parser's own limit), so hostile
//! nesting is an error, not a stack overflow.

use crate::base::limits::MAX_FRAME_BYTES;
use crate::base::{Kind, Refusal, Refused, one_line};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// Bytes in front of each frame's body.
pub const HEADER_BYTES: usize = 4;

/// Why bytes from the other side, or a message of ours, are not a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// A length of 0.
    Empty,
    /// A length above [`MAX_FRAME_BYTES`], in bytes.
    TooLong(u64),
    /// The body is not the JSON of the expected message; the text says where.
    NotAMessage(String),
    /// The stream ended with this many bytes of an unfinished frame.
    CutOff(usize),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a frame of length 0"),
            Self::TooLong(length) => {
                write!(f, "a frame of {length} bytes, above the limit of {MAX_FRAME_BYTES}")
            }
            Self::NotAMessage(why) => write!(f, "a frame that is no message ({why})"),
            Self::CutOff(bytes) => write!(f, "the end after {bytes} bytes of an unfinished frame"),
        }
    }
}

impl std::error::Error for FrameError {}

impl FrameError {
    /// The kind and the stable id of the case, as whoever got such bytes tells it.
    const fn id(&self) -> (Kind, &'static str) {
        match self {
            Self::Empty => (Kind::DaemonTalk, "control.frame-empty"),
            Self::TooLong(_) => (Kind::DaemonTalk, "control.frame-too-long"),
            Self::NotAMessage(_) => (Kind::DaemonTalk, "control.frame-garbage"),
            Self::CutOff(_) => (Kind::DaemonTalk, "control.frame-cut-off"),
        }
    }

    /// The refusal that either side shows when `peer` sent such bytes.
    #[must_use]
    pub fn refusal(&self, peer: impl fmt::Display) -> Refused {
        let (kind, id) = self.id();
        Refusal::new(
            kind,
            id,
            peer,
            format!("sent {self}"),
            "check that cleave and cleaved are of one version",
        )
    }
}

/// `message` as a frame, header included.
///
/// # Errors
/// [`FrameError::TooLong`] when the JSON does not fit [`MAX_FRAME_BYTES`]; [`FrameError::NotAMessage`] when `message`
/// has no JSON form, as a path that is not UTF-8.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message)
        .map_err(|e| FrameError::NotAMessage(one_line(&e.to_string())))?;
    let length = frame.len() - HEADER_BYTES;
    match u32::try_from(length) {
        Ok(header) if length <= MAX_FRAME_BYTES => {
            frame[..HEADER_BYTES].copy_from_slice(&header.to_le_bytes());
            Ok(frame)
        }
        _ => Err(FrameError::TooLong(length as u64)),
    }
}

/// The message in the body of a frame.
///
/// # Errors
/// [`FrameError::NotAMessage`] for anything that is not exactly one JSON document of the type.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(|e| FrameError::NotAMessage(one_line(&e.to_string())))
}

/// Collects bytes as they arrive and gives back the bodies of whole frames, in order.
///
/// Feed it what one read gave, then call [`next_body`](Self::next_body) until it returns `None`: then it never holds
/// more than one unfinished frame. After an error it stays in error, because the border of the next frame is lost.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    broken: Option<FrameError>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes of one read. After an error they are dropped.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.held.extend_from_slice(bytes);
        }
    }

    /// The body of the next whole frame, `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError::Empty`] and [`FrameError::TooLong`], from the moment at which the header is complete.
    pub fn next_body(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let Some((header, rest)) = self.held.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header);
        let error = match length as usize {
            0 => FrameError::Empty,
            length if length > MAX_FRAME_BYTES => FrameError::TooLong(length as u64),
            length => {
                let Some(body) = rest.get(..length) else { return Ok(None) };
                let body = body.to_vec();
                self.held.drain(..HEADER_BYTES + length);
                return Ok(Some(body));
            }
        };
        self.held = Vec::new();
        self.broken = Some(error.clone());
        Err(error)
    }

    /// Whether a frame has begun and is not complete: the moment from which its time limit runs.
    #[must_use]
    pub fn in_frame(&self) -> bool {
        !self.held.is_empty()
    }

    /// Says what the end of the stream means here.
    ///
    /// # Errors
    /// [`FrameError::CutOff`] inside a frame, or the error that came before.
    pub fn finish(&self) -> Result<(), FrameError> {
        match (&self.broken, self.held.len()) {
            (Some(error), _) => Err(error.clone()),
            (None, 0) => Ok(()),
            (None, held) => Err(FrameError::CutOff(held)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ClientMessage, Request, ServerMessage};
    use proptest::prelude::*;

    fn drain(decoder: &mut Decoder) -> Result<Vec<Vec<u8>>, FrameError> {
        std::iter::from_fn(|| decoder.next_body().transpose()).collect()
    }

    #[test]
    fn a_frame_has_these_bytes() {
        assert_eq!(encode(&7).unwrap(), [1, 0, 0, 0, b'7']);
        let frame = encode(&ClientMessage::Request(Request::GroupList)).unwrap();
        assert_eq!(frame, [&[24, 0, 0, 0], br#"{"request":"group-list"}"#.as_slice()].concat());
    }

    #[test]
    fn lengths_zero_and_beyond_the_cap_break_the_stream_for_good() {
        for (header, error) in [
            (0u32, FrameError::Empty),
            (MAX_FRAME_BYTES as u32 + 1, FrameError::TooLong(MAX_FRAME_BYTES as u64 + 1)),
            (u32::MAX, FrameError::TooLong(u64::from(u32::MAX))),
        ] {
            let mut decoder = Decoder::new();
            decoder.feed(&header.to_le_bytes());
            assert_eq!(decoder.next_body(), Err(error.clone()));
            decoder.feed(&encode(&1).unwrap());
            assert_eq!(decoder.next_body(), Err(error.clone()), "no frame border is known any more");
            assert_eq!(decoder.finish(), Err(error));
            assert!(decoder.held.capacity() == 0);
        }
    }

    #[test]
    fn the_largest_frame_passes_and_one_byte_more_does_not() {
        let text = "x".repeat(MAX_FRAME_BYTES - 2);
        let mut decoder = Decoder::new();
        decoder.feed(&encode(&text).unwrap());
        assert_eq!(decode::<String>(&decoder.next_body().unwrap().unwrap()).unwrap(), text);
        assert_eq!(encode(&format!("{text}x")), Err(FrameError::TooLong(MAX_FRAME_BYTES as u64 + 1)));
    }

    #[test]
    fn half_a_frame_is_no_frame() {
        let frame = encode(&"hello").unwrap();
        for cut in 1..frame.len() {
            let mut decoder = Decoder::new();
            decoder.feed(&frame[..cut]);
            assert_eq!(decoder.next_body(), Ok(None));
            assert!(decoder.in_frame());
            assert_eq!(decoder.finish(), Err(FrameError::CutOff(cut)));
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        for open in ["[", "{\"request\":"] {
            let body = open.repeat(MAX_FRAME_BYTES / open.len());
            assert!(matches!(decode::<ClientMessage>(body.as_bytes()), Err(FrameError::NotAMessage(_))));
            assert!(matches!(decode::<serde_json::Value>(body.as_bytes()), Err(FrameError::NotAMessage(_))));
        }
    }

    #[test]
    fn trailing_bytes_and_unknown_fields_are_refused() {
        assert!(decode::<u32>(b"1 2").is_err());
        assert!(decode::<ClientMessage>(br#"{"request":{"task-pause":{"task":1,"x":2}}}"#).is_err());
        assert!(decode::<ClientMessage>(br#"{"request":{"task-pause":{"task":1}}}"#).is_ok());
    }

    proptest! {
        #[test]
        fn whatever_the_reads_frames_come_out_whole_and_in_order(
            texts in prop::collection::vec(".{0,300}", 0..12), step in 1usize..700
        ) {
            let stream: Vec<u8> = texts.iter().flat_map(|text| encode(text).unwrap()).collect();
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            for read in stream.chunks(step) {
                decoder.feed(read);
                for body in drain(&mut decoder).unwrap() {
                    seen.push(decode::<String>(&body).unwrap());
                }
            }
            prop_assert_eq!(seen, texts);
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn garbage_never_panics_and_is_never_hoarded(
            reads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4096), 0..40)
        ) {
            let mut decoder = Decoder::new();
            for read in &reads {
                decoder.feed(read);
                while let Ok(Some(body)) = decoder.next_body() {
                    let _ = decode::<ClientMessage>(&body);
                    let _ = decode::<ServerMessage>(&body);
                }
                prop_assert!(decoder.held.len() < HEADER_BYTES + MAX_FRAME_BYTES);
            }
        }

        #[test]
        fn a_damaged_message_is_an_error_or_a_message_but_no_panic(at in 0usize..200, byte in any::<u8>()) {
            let mut body = br#"{"request":{"make":{"group":"default","volume":"v","length_bytes":1073741824,"nmirror":2,"media":[],"plexes":["/p"],"sparse":false,"init":"sync","data":"auto","force":false}}}"#.to_vec();
            prop_assert!(decode::<ClientMessage>(&body).is_ok());
            let at = at % body.len();
            body[at] = byte;
            let _ = decode::<ClientMessage>(&body);
            body.truncate(at);
            prop_assert!(decode::<ClientMessage>(&body).is_err());
        }
    }
}
