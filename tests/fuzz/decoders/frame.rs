//! The control socket, both ways: messages, and the frames that carry them.

use super::mutate::Shape;
use super::{Decoder, meter, told};
use cleave::base::limits::MAX_FRAME_BYTES;
use cleave::control::frame::HEADER_BYTES;
use cleave::control::{ClientMessage, Decoder as FrameDecoder, FrameError, ServerMessage, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What a client sends.
pub const REQUEST: Decoder = Decoder {
    name: "request",
    max_len: 512,
    shape: Shape::Text,
    check: |data| {
        message::<ClientMessage>(data).is_some_and(|message| {
            if let ClientMessage::Request(request) = &message {
                assert!(!request.verb().is_empty());
                let _ = request.access();
            }
            true
        })
    },
    seeds: request_seeds,
};

/// What the daemon sends.
pub const REPLY: Decoder = Decoder {
    name: "reply",
    max_len: 1024,
    shape: Shape::Text,
    check: |data| message::<ServerMessage>(data).is_some(),
    seeds: reply_seeds,
};

/// The stream of frames, in whatever pieces it arrives. The first byte of an input says how large they are.
pub const FRAMES: Decoder =
    Decoder { name: "frames", max_len: 512, shape: Shape::Binary, check: frames, seeds: frame_seeds };

/// Heap that a message may take for each byte of its body, and at least.
const HEAP_PER_BYTE: usize = 32;
const HEAP_LEAST: usize = 4 << 10;

fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> Option<T> {
    let found = meter::within(HEAP_PER_BYTE * body.len() + HEAP_LEAST, || decode::<T>(body));
    let message = match found {
        Ok(message) => message,
        Err(error) => {
            told(&error);
            told(&error.refusal("client"));
            let answer = encode(&ServerMessage::Refused(*error.refusal("client")));
            assert!(answer.is_ok_and(|frame| frame.len() < 4096), "the answer to garbage is short");
            return None;
        }
    };
    match encode(&message) {
        Ok(frame) => {
            let body = &frame[HEADER_BYTES..];
            let again = decode::<T>(body).expect("what is written can be read");
            assert_eq!(again, message);
            assert_eq!(encode(&again).as_ref(), Ok(&frame), "and is written in the same way");
        }
        // Marks that were written plainly are escaped when they are written again.
        Err(error) => {
            assert!(matches!(error, FrameError::TooLong(_)) && body.len() > MAX_FRAME_BYTES / 6, "{error}")
        }
    }
    Some(message)
}

/// Bodies that come out, and how it ends.
fn drain(decoder: &mut FrameDecoder, bodies: &mut Vec<Vec<u8>>) -> Option<FrameError> {
    loop {
        match decoder.next_body() {
            Ok(Some(body)) => bodies.push(body),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
}

fn frames(data: &[u8]) -> bool {
    let Some((step, stream)) = data.split_first() else { return false };
    let step = usize::from(*step).max(1);
    let mut whole = (FrameDecoder::new(), Vec::new());
    whole.0.feed(stream);
    let broken = drain(&mut whole.0, &mut whole.1);
    let mut pieces = (FrameDecoder::new(), Vec::new());
    let most = 3 * stream.len() + HEAP_LEAST;
    let seen = meter::within(most, || {
        let mut seen = None;
        for piece in stream.chunks(step) {
            pieces.0.feed(piece);
            seen = drain(&mut pieces.0, &mut pieces.1);
        }
        seen
    });
    assert_eq!((&pieces.1, &seen), (&whole.1, &broken), "it matters not in which pieces the bytes came");
    assert_eq!(pieces.0.finish(), whole.0.finish());
    assert!(pieces.1.iter().all(|body| (1..=MAX_FRAME_BYTES).contains(&body.len())));
    // The frames, and what is left of an unfinished one, are the stream.
    let mut again: Vec<u8> = Vec::new();
    for body in &pieces.1 {
        again.extend(u32::try_from(body.len()).expect("a short body").to_le_bytes());
        again.extend(body);
    }
    assert!(stream.starts_with(&again));
    match pieces.0.finish() {
        Ok(()) => assert_eq!(again.len(), stream.len()),
        Err(FrameError::CutOff(left)) => assert_eq!(again.len() + left, stream.len()),
        Err(error) => told(&error.refusal("client")),
    }
    for body in &pieces.1 {
        message::<ClientMessage>(body);
    }
    !pieces.1.is_empty()
}

/// Every request that the golden file of the commands has.
fn request_seeds() -> Vec<(String, Vec<u8>)> {
    let hello =
        encode(&ClientMessage::Hello { protocol: 1, version: "0.1.0".to_owned() }).expect("it is short");
    let mut seeds = vec![("hello".to_owned(), hello[HEADER_BYTES..].to_vec())];
    let mut verbs = std::collections::BTreeSet::new();
    for line in
        include_str!("../../golden/cli-requests.txt").lines().filter(|line| line.starts_with(['{', '"']))
    {
        let verb: String =
            line.chars().skip_while(|c| !c.is_alphabetic()).take_while(|c| *c != '"').collect();
        if verbs.insert(verb.clone()) {
            seeds.push((verb, format!("{{\"request\":{line}}}").into_bytes()));
        }
    }
    seeds
}

/// One of each kind of answer.
fn reply_seeds() -> Vec<(String, Vec<u8>)> {
    let texts = [
        ("hello", r#"{"hello":{"protocol":1,"version":"0.1.0","pid":77}}"#),
        ("alive", r#"{"event":"alive"}"#),
        (
            "progress",
            r#"{"event":{"progress":{"task":1,"kind":"snapstart","state":"running","group":"g","volume":"v","plex":"v-02","done_bytes":1,"total_bytes":2,"copied_bytes":1,"rate_bytes":5,"eta_ms":7,"elapsed_ms":3,"limit_bytes":9}}}"#,
        ),
        (
            "event-happened",
            r#"{"event":{"happened":{"number":1,"time_ms":2,"id":"plex.lost","severity":"error","group":"g","volume":"v","plex":"p","state":"STALE","reason":"r","way_out":"w"}}}"#,
        ),
        (
            "row-volume",
            r#"{"row":{"volume":{"group":"g","volume":"v","uuid":"8180ddcd-331f-4501-bcf3-2190d2d5effc","kernel_state":"ENABLED","state":"ACTIVE","length_bytes":1048576,"block_bytes":512,"region_bytes":65536,"read_policy":"SELECT","device":"/dev/ublkb0","links":["/dev/a"],"snapshot":{"source":"o","taken_ms":4,"grade":"fs","dirty_regions":0},"data_path":"copy","notes":["n"]}}}"#,
        ),
        (
            "row-plex",
            r#"{"row":{"plex":{"group":"g","volume":"v","plex":"p","uuid":"8180ddcd-331f-4501-bcf3-2190d2d5effc","kernel_state":"DETACHED","state":"STALE","mode":"RW","length_bytes":1048576,"medium":"m","path":"/p","sparse":false,"dirty_regions":3,"fault":"EIO"}}}"#,
        ),
        (
            "row-difference",
            r#"{"row":{"difference":{"reference":"p","plex":"q","offset_bytes":4096,"length_bytes":512}}}"#,
        ),
        ("row-note", r#"{"row":{"note":"waiting for fence: p"}}"#),
        ("done", r#"{"done":{"changed":{"changed":true}}}"#),
        ("done-cut", r#"{"done":{"cut":{"hold_us":1,"drain_us":2,"elapsed_ms":3,"taken_ms":4}}}"#),
        (
            "refused",
            r#"{"refused":{"kind":"not-found","id":"volume.unknown","object":"v","reason":"is not there","way_out":"see list"}}"#,
        ),
    ];
    texts.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into()
}

fn frame_seeds() -> Vec<(String, Vec<u8>)> {
    let hello =
        encode(&ClientMessage::Hello { protocol: 1, version: "0.1.0".to_owned() }).expect("it is short");
    let list = [&[24, 0, 0, 0], br#"{"request":"group-list"}"#.as_slice()].concat();
    vec![
        ("two-frames".to_owned(), [&[7][..], &hello, &list].concat()),
        ("half-a-frame".to_owned(), [&[1][..], &list, &hello[..9]].concat()),
    ]
}
