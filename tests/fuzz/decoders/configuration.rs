//! Configurations of groups: the text, and what is made of its record.
//!
//! An input is the body; the first line that vouches for it is put in front.

use super::mutate::Shape;
use super::{Decoder, meter, told};
use cleave::base::limits::MAX_CONFIG_BYTES;
use cleave::base::{Generation, checksum};
use cleave::catalog::labels::label_of;
use cleave::catalog::{Committed, files};
use cleave::format::config::{self, ConfigError};
use cleave::format::label::Label;
use cleave::state::change::{self, MakeArgs, Site};
use cleave::state::{Group, Ids, MediumPath, PoolMedium};

/// The configuration's text.
pub const CONFIGURATION: Decoder =
    Decoder { name: "configuration", max_len: 4096, shape: Shape::Text, check, seeds };

const GENERATION: Generation = Generation(17);

/// Heap that a record may take for each byte of its text, and at least: a list's element of some bytes of text is a
/// structure, and a list doubles its room while it grows.
const HEAP_PER_BYTE: usize = 24;
const HEAP_LEAST: usize = 8 << 10;

/// `body` behind a first line that vouches for it.
pub fn vouched(generation: u64, body: &[u8]) -> Vec<u8> {
    let claim = format!("cleave-configuration 1 generation {generation} length {}", body.len());
    let sum = checksum::blake3_hex(&[claim.as_bytes(), b"\n", body].concat());
    [claim.as_bytes(), b" blake3 ", sum.as_bytes(), b"\n", body].concat()
}

fn decode(text: &[u8]) -> Result<(Generation, Group), ConfigError> {
    let found = meter::within(HEAP_PER_BYTE * text.len() + HEAP_LEAST, || config::decode::<Group>(text));
    match (&found, config::generation(text)) {
        (Ok((generation, _)), told) => assert_eq!(told, Ok(*generation)),
        (Err(ConfigError::Unreadable { .. }), _) => {}
        (Err(error), told) => assert_eq!(told.as_ref(), Err(error)),
    }
    if let Err(error) = &found {
        told(error);
    }
    found
}

fn check(data: &[u8]) -> bool {
    // As it stands: a file with any first line.
    let _ = decode(data);
    let text = vouched(GENERATION.0, data);
    let Ok((generation, group)) = decode(&text) else { return false };
    assert_eq!(generation, GENERATION);
    sound(&group)
}

/// What holds of a record that was read; whether it makes sense.
pub fn sound(group: &Group) -> bool {
    let sense = group.check();
    if let Err(refused) = &sense {
        told(refused);
    }
    // A person may lay the text out in his own way, so that it is the value that comes back.
    let text = match config::encode(GENERATION, group) {
        Ok(text) => text,
        Err(error) => {
            assert!(matches!(error, ConfigError::TooLarge { found } if found > MAX_CONFIG_BYTES), "{error}");
            return false;
        }
    };
    let (_, again) = config::decode::<Group>(text.as_bytes()).expect("what is written can be read");
    assert_eq!(again, *group);
    assert_eq!(config::encode(GENERATION, &again).as_ref(), Ok(&text), "and is written in the same way");
    if sense.is_err() {
        return false;
    }
    // What is done with every group that makes sense.
    let names = files::state_files(group);
    assert!(names.iter().all(|name| files::is_state_file(name)));
    let committed = Committed { generation: GENERATION, text };
    for volume in group.volumes() {
        for plex in volume.plexes() {
            let label = Label { sequence: 1, ..label_of(group, &committed, volume, plex) };
            let copy = label.encode(4096);
            assert_eq!(Label::decode(&copy, 4096).as_ref(), Ok(&label), "its labels can be written and read");
        }
        // The next run and the next stop have a number.
        assert!(volume.run().next() > volume.run() && volume.stop().next() > volume.stop());
    }
    true
}

/// A group with volumes in many states: the golden one.
pub fn busy_group() -> Group {
    let text = include_bytes!("../../golden/configuration.txt");
    config::decode::<Group>(text).expect("the golden text").1
}

fn media() -> [PoolMedium; 1] {
    [PoolMedium { path: MediumPath::new("/media").expect("a path"), block: false, name: None }]
}

/// A group with a volume that is being made.
pub fn small_group() -> Group {
    let group = change::create_group("dg", &media(), &mut Ids::from_seed([1; 32])).expect("a group");
    let site = Site::Below { directory: media()[0].path.clone(), sparse: false };
    let sites = [site.clone(), site];
    let args = MakeArgs { name: "vol", length: 64 << 20, region_size: None, sites: &sites };
    change::make_volume(&group, &args, &mut Ids::from_seed([2; 32])).expect("a volume").group
}

/// The body of the text of `group`.
pub fn body_of(group: &Group) -> Vec<u8> {
    let text = config::encode(GENERATION, group).expect("it is small").into_bytes();
    let line = text.iter().position(|byte| *byte == b'\n').expect("a first line");
    text[line + 1..].to_vec()
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let empty = change::create_group("dg", &media(), &mut Ids::from_seed([1; 32])).expect("a group");
    [("empty", empty), ("small", small_group()), ("busy", busy_group())]
        .map(|(name, group)| (name.to_owned(), body_of(&group)))
        .into()
}
