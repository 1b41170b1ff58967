//! Labels.
//!
//! An input is two bytes with the length of what it gives of the header, that much of the header, and the text.

use super::configuration::busy_group;
use super::mutate::Shape;
use super::{Decoder, meter, seal, told, u64_at};
use cleave::base::limits::{LABEL_AREA_BYTES, MAX_CONFIG_BYTES, PAGE_BYTES};
use cleave::base::{Generation, GenerationId, Uuid};
use cleave::catalog::judge::{Finding, judge};
use cleave::catalog::labels::{Found, label_of};
use cleave::format::label::{COPY_BYTES, Label, MAX_PAST_GENERATIONS, Places, StateWord, newest};
use cleave::format::{Damage, config};

/// Labels behind the data of a plex.
pub const LABEL: Decoder = Decoder { name: "label", max_len: 2048, shape: Shape::Binary, check, seeds };

const ADDRESS_AT: usize = 16;
const LENGTH_AT: usize = 136;
const SUM_AT: usize = 144;

/// A label holds its text and at most this much beside it.
const BESIDE: usize = 16 * MAX_PAST_GENERATIONS;

/// The copy that an input stands for: whole pages.
fn copy_of(data: &[u8]) -> Vec<u8> {
    let (length, rest) = data
        .split_first_chunk()
        .map_or((0, data), |(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest));
    let (header, text) = rest.split_at(length.min(rest.len()).min(PAGE_BYTES));
    let mut copy = vec![0; PAGE_BYTES + text.len().next_multiple_of(PAGE_BYTES)];
    copy[..header.len()].copy_from_slice(header);
    copy[PAGE_BYTES..PAGE_BYTES + text.len()].copy_from_slice(text);
    copy
}

fn decode(copy: &[u8], address: u64) -> Result<Label, Damage> {
    let length =
        meter::within(BESIDE, || Label::copy_length(copy.get(..PAGE_BYTES).unwrap_or(copy), address));
    let label = meter::within(copy.len() + BESIDE, || Label::decode(copy, address));
    match (&length, &label) {
        // What is said of the length holds for the whole.
        (Ok(length), Ok(label)) => {
            assert!(*length <= copy.len() && *length >= PAGE_BYTES + label.configuration.len());
        }
        (Ok(length), Err(_)) => assert!(*length as u64 <= COPY_BYTES),
        (Err(first), Err(second)) => assert_eq!(first, second),
        (Err(_), Ok(_)) => panic!("a label without a length"),
    }
    label
}

fn check(data: &[u8]) -> bool {
    let mut copy = copy_of(data);
    let address = u64_at(&copy, ADDRESS_AT);
    for bytes in [data, &copy] {
        if let Err(damage) = decode(bytes, address) {
            told(&damage);
        }
    }
    let room = copy.len() - PAGE_BYTES;
    if let Some(length) = usize::try_from(u64_at(&copy, LENGTH_AT)).ok().filter(|length| *length <= room) {
        let sum = blake3_of(&copy[PAGE_BYTES..PAGE_BYTES + length]);
        copy[SUM_AT..SUM_AT + 32].copy_from_slice(&sum);
    }
    seal(&mut copy[..PAGE_BYTES], b"CLVLABEL");
    let label = match decode(&copy, address) {
        Ok(label) => label,
        Err(damage) => {
            assert!(!matches!(damage, Damage::BadChecksum | Damage::BadMagic | Damage::Blank), "{damage}");
            told(&damage);
            return false;
        }
    };
    let again = label.encode(address);
    assert_eq!(again, copy[..again.len()], "it is encoded as it was");
    told(&decode(&copy, address ^ 512).expect_err("it belongs elsewhere"));
    assert!(StateWord::new(label.state.as_str()) == Some(label.state));
    // Where it says that its peers are, and what it is worth beside them.
    for medium in [0, label.volume_length, label.volume_length + 3 * LABEL_AREA_BYTES, u64::MAX] {
        if let Ok(places) = Places::new(label.volume_length, medium) {
            let all = places.all();
            assert!(all[0] >= label.volume_length && all[3] + COPY_BYTES <= medium);
            assert!(places.of_sequence(label.sequence).iter().all(|at| all.contains(at)));
        }
    }
    let next = Label { sequence: label.sequence + 1, ..label.clone() };
    let found = newest([Ok(label.clone()), Err(Damage::Blank), Ok(next.clone())]);
    assert_eq!(found, Ok(next));
    weigh(&label);
    true
}

/// What the catalogue makes of it.
fn weigh(label: &Label) {
    thread_local! {
        static GROUP: cleave::state::Group = busy_group();
    }
    GROUP.with(|group| {
        for volume in group.volumes() {
            let findings: Vec<_> = volume
                .plexes()
                .iter()
                .map(|plex| {
                    let found = Found::Label(Box::new(label.clone()));
                    (plex.uuid(), Finding::new(Ok(found), group.uuid(), volume, plex))
                })
                .collect();
            if let Err(refused) = judge(Generation(17), volume, &findings) {
                told(&refused);
            }
        }
    });
    // A newer configuration on a label is adopted, once it is read.
    if let Err(error) = config::decode::<cleave::state::Group>(&label.configuration) {
        told(&error);
    }
}

fn blake3_of(bytes: &[u8]) -> [u8; 32] {
    let hex = cleave::base::checksum::blake3_hex(bytes);
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal"))
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let id = |seed| Uuid::from_random([seed; 16]);
    let seed = |name: &str, label: &Label, header: usize| {
        let copy = label.encode(5 << 20);
        let mut bytes = u16::try_from(header).expect("inside the header").to_le_bytes().to_vec();
        bytes.extend(&copy[..header]);
        bytes.extend(&label.configuration);
        (name.to_owned(), bytes)
    };
    let plain = Label {
        sequence: 12,
        group: id(1),
        volume: id(2),
        plex: id(3),
        volume_length: (5 << 20) - 4096,
        state: StateWord::new("ACTIVE").expect("a word"),
        intent_lost: true,
        run: Generation(8),
        stop: Some(Generation(7)),
        data_generation: GenerationId(id(4)),
        past: vec![GenerationId(id(5)), GenerationId(id(6))],
        config_generation: Generation(33),
        configuration: b"configuration".to_vec(),
    };
    let group = busy_group();
    let committed = cleave::catalog::Committed { generation: Generation(17), text: "text".to_owned() };
    let volume = &group.volumes()[0];
    let own = label_of(&group, &committed, volume, &volume.plexes()[0]);
    let old = Label { past: vec![GenerationId(id(9)); MAX_PAST_GENERATIONS], ..plain.clone() };
    assert!(plain.configuration.len() < MAX_CONFIG_BYTES);
    vec![seed("plain", &plain, 224), seed("own", &own, 192), seed("long-past", &old, 1216)]
}
