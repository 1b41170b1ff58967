//! The label of a plex: who it is, what state its data is in, and the group's configuration, behind the data.
//!
//! Invariants:
//! * A medium carries two label areas of [`LABEL_AREA_BYTES`]: the near one at the first MiB border behind the volume's data, the
//!   far one in the last MiB of the medium, found from the medium's length alone. [`Places`] computes them.
//! * An area holds two copies, written in turn: the label numbered `sequence` stands in slot `sequence % 2` of both areas.
//!   The near area is flushed before the far one is written.
//! * A file of exactly two areas, shorter than any medium that carries data, has the labels of a plex whose medium has no room for
//!   them: the near one comes first.
//! * A copy is a header of 4 KiB and the configuration text, padded with zeroes to whole pages. The header's checksum covers the
//!   header, its BLAKE3 sum the text.
//! * A copy names its own offset on the medium, so that a copied or misdirected one is seen.
//! * Among the sound copies the one with the highest sequence number counts; two of one number are equal.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "CLVLABEL"
//!      8     4  CRC-32C of the header, this field as zero
//!     12     2  version, 1
//!     14     1  flags: 1 intent lost, 2 clean
//!     15     1  number of past data generations
//!     16     8  own offset on the medium
//!     24     8  sequence number
//!     32    16  UUID of the group
//!     48    16  UUID of the volume
//!     64    16  UUID of the plex
//!     80     8  length of the volume in bytes
//!     88     8  offset of the data, 0
//!     96    16  state of the plex: a word in capitals, padded with zeroes
//!    112     8  run generation
//!    120     8  stop generation, 0 unless clean
//!    128     8  generation of the configuration
//!    136     8  bytes of the configuration text
//!    144    32  BLAKE3 sum of the configuration text
//!    176    16  data generation, current
//!    192  1024  data generations, past, newest first
//!   1216  2880  zero
//! ```

use std::fmt;

use crate::base::limits::{
    LABEL_AREA_BYTES, MAX_CONFIG_BYTES, MAX_COUNT, MAX_VOLUME_BYTES, MIB, PAGE_BYTES, medium_bytes,
};
use crate::base::{Generation, GenerationId, Uuid};

use super::layout::{Head, fields};
use super::map_page::Slot;
use super::{Damage, Structure};

/// Past data generations that a label carries: each stands for a start without some plex, and a plex that missed more than
/// that is strange enough to be asked about.
pub const MAX_PAST_GENERATIONS: usize = 64;

fields! {
    MAGIC: 8, "magic \"CLVLABEL\"";
    CRC: 4, "CRC-32C of the header, this field as zero";
    VERSION: 2, "version, 1";
    FLAGS: 1, "flags: 1 intent lost, 2 clean";
    PAST_COUNT: 1, "number of past data generations";
    ADDRESS: 8, "own offset on the medium";
    SEQUENCE: 8, "sequence number";
    GROUP: 16, "UUID of the group";
    VOLUME: 16, "UUID of the volume";
    PLEX: 16, "UUID of the plex";
    VOLUME_LENGTH: 8, "length of the volume in bytes";
    DATA_OFFSET: 8, "offset of the data, 0";
    STATE: 16, "state of the plex: a word in capitals, padded with zeroes";
    RUN: 8, "run generation";
    STOP: 8, "stop generation, 0 unless clean";
    CONFIG_GENERATION: 8, "generation of the configuration";
    CONFIG_LENGTH: 8, "bytes of the configuration text";
    CONFIG_SUM: 32, "BLAKE3 sum of the configuration text";
    CURRENT: 16, "data generation, current";
    PAST: 16 * MAX_PAST_GENERATIONS, "data generations, past, newest first";
    RESERVED: PAGE_BYTES - 1216, "zero";
}

/// Bytes of a file that has the labels of a plex which lies elsewhere.
pub const LABEL_FILE_BYTES: u64 = 2 * LABEL_AREA_BYTES;

/// Bytes of the space for one copy.
pub const COPY_BYTES: u64 = LABEL_AREA_BYTES / 2;

const _: () = assert!(END == PAGE_BYTES);
const _: () = assert!(RESERVED.at == 1216);
const _: () = assert!(MAX_PAST_GENERATIONS <= u8::MAX as usize);
const _: () = assert!(PAGE_BYTES + MAX_CONFIG_BYTES == COPY_BYTES as usize);
const _: () = assert!(LABEL_AREA_BYTES == MIB);

const HEAD: Head = Head { magic: MAGIC, crc: CRC, version: VERSION };
const MAGIC_BYTES: &[u8; 8] = b"CLVLABEL";
const NEWEST: u16 = 1;

/// What the page of the on-disk format shows.
pub(super) const STRUCTURE: Structure =
    Structure { name: "label", head: Some((MAGIC_BYTES, NEWEST)), fields: FIELDS };
const FLAG_INTENT_LOST: u8 = 1;
const FLAG_CLEAN: u8 = 2;

/// The medium is too small for the volume and its labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSmall {
    /// Bytes of the medium.
    pub found: u64,
    /// Bytes that it needs.
    pub needed: u64,
}

/// Where the labels of a plex stand on its medium, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    near: u64,
    far: u64,
}

impl Places {
    /// The places on a medium of `medium_length` bytes that carries a volume of `volume_length` bytes.
    ///
    /// # Errors
    /// [`TooSmall`] with the bytes needed.
    pub const fn new(volume_length: u64, medium_length: u64) -> Result<Self, TooSmall> {
        if medium_length == LABEL_FILE_BYTES {
            return Ok(Self { near: 0, far: LABEL_AREA_BYTES });
        }
        let needed = medium_bytes(volume_length);
        match far_area(medium_length) {
            Some(far) if medium_length >= needed => {
                Ok(Self { near: volume_length.next_multiple_of(MIB), far })
            }
            _ => Err(TooSmall { found: medium_length, needed }),
        }
    }

    /// The offsets of the two copies of the label numbered `sequence`, near and far, in the order of writing.
    #[must_use]
    pub const fn of_sequence(self, sequence: u64) -> [u64; 2] {
        let inside = Slot::of(sequence).index() * COPY_BYTES;
        [self.near + inside, self.far + inside]
    }

    /// The offsets of all four copies.
    #[must_use]
    pub const fn all(self) -> [u64; 4] {
        [self.near, self.near + COPY_BYTES, self.far, self.far + COPY_BYTES]
    }

    /// Offset of the far area, which ends with the medium.
    #[must_use]
    pub const fn far_area(self) -> u64 {
        self.far
    }

    /// Offset of the near area, [`LABEL_AREA_BYTES`] long.
    #[must_use]
    pub const fn near_area(self) -> u64 {
        self.near
    }
}

/// Offset of the far label area of a medium of `medium_length` bytes, whatever volume it carries: what an import reads
/// first. `None` when the medium is shorter than an area.
#[must_use]
pub const fn far_area(medium_length: u64) -> Option<u64> {
    match medium_length.checked_sub(LABEL_AREA_BYTES) {
        Some(start) => Some(start - start % PAGE_BYTES as u64),
        None => None,
    }
}

/// The state of a plex as a word: 1 to 16 capital letters. What it means is not this room's matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateWord([u8; STATE.size]);

impl StateWord {
    /// `word`, or `None` unless it is 1 to 16 capital letters.
    #[must_use]
    pub fn new(word: &str) -> Option<Self> {
        let good = (1..=STATE.size).contains(&word.len()) && word.bytes().all(|c| c.is_ascii_uppercase());
        good.then(|| {
            let mut bytes = [0; STATE.size];
            bytes[..word.len()].copy_from_slice(word.as_bytes());
            Self(bytes)
        })
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        // Capitals only, checked where the value was made.
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Debug for StateWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// Number of the label's write; it chooses the slots.
    pub sequence: u64,
    /// The group.
    pub group: Uuid,
    /// The volume.
    pub volume: Uuid,
    /// The plex that the medium carries.
    pub plex: Uuid,
    /// Bytes of the volume.
    pub volume_length: u64,
    /// State of this plex; those of all plexes stand in the configuration.
    pub state: StateWord,
    /// Whether the intent map was lost: everything must be resynced after a crash.
    pub intent_lost: bool,
    /// Run generation in which the label was written.
    pub run: Generation,
    /// Stop generation when the volume was stopped cleanly and has not run since: the plex is CLEAN.
    pub stop: Option<Generation>,
    /// Id of the state of the plex's data.
    pub data_generation: GenerationId,
    /// Ids that it had before, newest first, at most [`MAX_PAST_GENERATIONS`].
    pub past: Vec<GenerationId>,
    /// Generation of the configuration carried.
    pub config_generation: Generation,
    /// The group's configuration text, at most [`MAX_CONFIG_BYTES`].
    pub configuration: Vec<u8>,
}

/// Bytes that a copy with a text of `text` bytes takes.
const fn padded(text: usize) -> usize {
    PAGE_BYTES + text.next_multiple_of(PAGE_BYTES)
}

impl Label {
    /// The bytes of the copy that is written at offset `address` of the medium: whole pages.
    ///
    /// # Panics
    /// When the text or the list of past generations is longer than its limit.
    #[must_use]
    pub fn encode(&self, address: u64) -> Vec<u8> {
        assert!(self.configuration.len() <= MAX_CONFIG_BYTES, "a configuration that no encoder made");
        assert!(self.past.len() <= MAX_PAST_GENERATIONS, "more past generations than a label holds");
        let mut copy = vec![0; padded(self.configuration.len())];
        let (block, text) = copy.split_at_mut(PAGE_BYTES);
        text[..self.configuration.len()].copy_from_slice(&self.configuration);
        let flags = if self.intent_lost { FLAG_INTENT_LOST } else { 0 }
            | if self.stop.is_some() { FLAG_CLEAN } else { 0 };
        FLAGS.put(block, &[flags]);
        PAST_COUNT.put(block, &[self.past.len() as u8]);
        ADDRESS.put_u64(block, address);
        SEQUENCE.put_u64(block, self.sequence);
        GROUP.put_uuid(block, self.group);
        VOLUME.put_uuid(block, self.volume);
        PLEX.put_uuid(block, self.plex);
        VOLUME_LENGTH.put_u64(block, self.volume_length);
        STATE.put(block, &self.state.0);
        RUN.put_u64(block, self.run.0);
        STOP.put_stop(block, self.stop);
        CONFIG_GENERATION.put_u64(block, self.config_generation.0);
        CONFIG_LENGTH.put_u64(block, self.configuration.len() as u64);
        CONFIG_SUM.put(block, &checksum(&self.configuration));
        CURRENT.put_uuid(block, self.data_generation.0);
        for (bytes, id) in block[PAST.at..].chunks_exact_mut(16).zip(&self.past) {
            bytes.copy_from_slice(id.0.bytes());
        }
        HEAD.seal(block, MAGIC_BYTES, NEWEST);
        copy
    }

    /// How many bytes the copy has whose first [`PAGE_BYTES`] are `header`, read at `address`: what
    /// [`decode`](Self::decode) needs.
    ///
    /// # Errors
    /// [`Damage`] of the header.
    pub fn copy_length(header: &[u8], address: u64) -> Result<usize, Damage> {
        Self::decode_header(header, address).map(|(_, text)| padded(text))
    }

    /// The label in `copy`, which was read at offset `address` of its medium; bytes behind its end are ignored.
    ///
    /// # Errors
    /// [`Damage`] of the header or the text.
    pub fn decode(copy: &[u8], address: u64) -> Result<Self, Damage> {
        let expected = PAGE_BYTES;
        let header = copy.get(..expected).ok_or(Damage::WrongLength { found: copy.len(), expected })?;
        let (mut label, length) = Self::decode_header(header, address)?;
        let expected = padded(length);
        let text =
            copy.get(PAGE_BYTES..expected).ok_or(Damage::WrongLength { found: copy.len(), expected })?;
        let (text, padding) = text.split_at(length);
        if CONFIG_SUM.bytes(header) != checksum(text) {
            return Err(Damage::BadChecksum);
        }
        if padding.iter().any(|&byte| byte != 0) {
            return Err(Damage::Absurd("bytes behind the configuration are not zero"));
        }
        label.configuration = text.to_vec();
        Ok(label)
    }

    /// The label without its text, and the text's length.
    fn decode_header(block: &[u8], address: u64) -> Result<(Self, usize), Damage> {
        HEAD.check(block, PAGE_BYTES, MAGIC_BYTES, NEWEST)?;
        let found = ADDRESS.u64(block);
        if found != address {
            return Err(Damage::WrongAddress { found, expected: address });
        }
        let flags = FLAGS.u8(block);
        if flags & !(FLAG_INTENT_LOST | FLAG_CLEAN) != 0 {
            return Err(Damage::Absurd("unknown flags"));
        }
        let stop = STOP.stop(block);
        if stop.is_some() != (flags & FLAG_CLEAN != 0) {
            return Err(Damage::Absurd("clean without a stop generation, or the reverse"));
        }
        let volume_length = VOLUME_LENGTH.u64(block);
        if volume_length == 0 || volume_length > MAX_VOLUME_BYTES {
            return Err(Damage::Absurd("length of the volume"));
        }
        if !DATA_OFFSET.is_zero(block) {
            return Err(Damage::Absurd("data that does not begin at offset 0"));
        }
        let length = usize::try_from(CONFIG_LENGTH.u64(block))
            .ok()
            .filter(|&length| length <= MAX_CONFIG_BYTES)
            .ok_or(Damage::Absurd("length of the configuration"))?;
        let state = std::str::from_utf8(STATE.bytes(block))
            .ok()
            .and_then(|word| StateWord::new(word.trim_end_matches('\0')))
            .ok_or(Damage::Absurd("state of the plex"))?;
        let label = Self {
            sequence: SEQUENCE.u64(block),
            group: GROUP.uuid(block),
            volume: VOLUME.uuid(block),
            plex: PLEX.uuid(block),
            volume_length,
            state,
            intent_lost: flags & FLAG_INTENT_LOST != 0,
            run: Generation(RUN.u64(block)),
            stop,
            data_generation: GenerationId(CURRENT.uuid(block)),
            past: decode_past(block)?,
            config_generation: Generation(CONFIG_GENERATION.u64(block)),
            configuration: Vec::new(),
        };
        let counts =
            [Generation(label.sequence), label.run, stop.unwrap_or_default(), label.config_generation];
        if counts.iter().any(|count| *count > MAX_COUNT) {
            return Err(Damage::Absurd("a number that no counting reaches"));
        }
        if !RESERVED.is_zero(block) {
            return Err(Damage::Absurd("reserved bytes are not zero"));
        }
        Ok((label, length))
    }
}

fn decode_past(block: &[u8]) -> Result<Vec<GenerationId>, Damage> {
    let count = usize::from(PAST_COUNT.u8(block));
    if count > MAX_PAST_GENERATIONS {
        return Err(Damage::Absurd("number of past data generations"));
    }
    let (used, free) = PAST.bytes(block).split_at(count * 16);
    if free.iter().any(|&byte| byte != 0) {
        return Err(Damage::Absurd("more past data generations than are counted"));
    }
    let id = |bytes: &[u8]| {
        let mut id = [0; 16];
        id.copy_from_slice(bytes);
        GenerationId(Uuid::from_bytes(id))
    };
    Ok(used.chunks_exact(16).map(id).collect())
}

fn checksum(text: &[u8]) -> [u8; CONFIG_SUM.size] {
    *blake3::hash(text).as_bytes()
}

/// The newest label among the copies of one medium.
///
/// # Errors
/// Each copy's damage when none can be read; [`Damage::WrongOwner`] alone when sound copies name two plexes,
/// [`Damage::Absurd`] alone when two of one sequence number differ: then a person must decide.
pub fn newest(copies: impl IntoIterator<Item = Result<Label, Damage>>) -> Result<Label, Vec<Damage>> {
    let mut newest: Option<Label> = None;
    let mut damage = Vec::new();
    for copy in copies {
        match (copy, &newest) {
            (Err(found), _) => damage.push(found),
            (Ok(label), None) => newest = Some(label),
            (Ok(label), Some(best)) if label.plex != best.plex => {
                return Err(vec![Damage::WrongOwner { found: label.plex, expected: best.plex }]);
            }
            (Ok(label), Some(best)) if label.sequence == best.sequence && label != *best => {
                return Err(vec![Damage::Absurd("two labels of one sequence number differ")]);
            }
            (Ok(label), Some(best)) if label.sequence > best.sequence => newest = Some(label),
            (Ok(_), Some(_)) => (),
        }
    }
    newest.ok_or(damage)
}

#[cfg(test)]
mod tests {
    use super::super::layout::testing::{diagram_is_in, every_flip_and_truncation, hex};
    use super::*;
    use crate::base::limits::MIN_VOLUME_BYTES;
    use proptest::prelude::*;

    const AT: u64 = 5 * MIB;

    fn id(seed: u8) -> Uuid {
        Uuid::from_random([seed; 16])
    }

    fn label() -> Label {
        Label {
            sequence: 12,
            group: id(1),
            volume: id(2),
            plex: id(3),
            volume_length: 5 * MIB - 4096,
            state: StateWord::new("ACTIVE").unwrap(),
            intent_lost: true,
            run: Generation(8),
            stop: Some(Generation(7)),
            data_generation: GenerationId(id(4)),
            past: vec![GenerationId(id(5)), GenerationId(id(6))],
            config_generation: Generation(33),
            configuration: b"configuration".to_vec(),
        }
    }

    /// The copy of `label()` with `change` applied to its header and the checksum made good.
    fn forged(change: impl FnOnce(&mut [u8])) -> Result<Label, Damage> {
        let mut copy = label().encode(AT);
        change(&mut copy);
        HEAD.seal(&mut copy[..PAGE_BYTES], MAGIC_BYTES, NEWEST);
        Label::decode(&copy, AT)
    }

    #[test]
    fn a_label_file_has_both_areas_and_is_shorter_than_any_medium_with_data() {
        let places = Places::new(MAX_VOLUME_BYTES, LABEL_FILE_BYTES).unwrap();
        assert_eq!(places.all(), [0, COPY_BYTES, LABEL_AREA_BYTES, LABEL_AREA_BYTES + COPY_BYTES]);
        assert_eq!(Some(places.far_area()), far_area(LABEL_FILE_BYTES));
        assert!(medium_bytes(1) > LABEL_FILE_BYTES);
    }

    #[test]
    fn golden_bytes() {
        let copy = label().encode(AT);
        assert_eq!(copy.len(), 8192);
        assert_eq!(
            hex(&copy[..224]),
            [
                "434c564c4142454c",
                "8554df81",
                "0100",
                "03",
                "02",
                "0000500000000000",
                "0c00000000000000",
                "01010101010141018101010101010101",
                "02020202020242028202020202020202",
                "03030303030343038303030303030303",
                "00f04f0000000000",
                "0000000000000000",
                "41435449564500000000000000000000",
                "0800000000000000",
                "0700000000000000",
                "2100000000000000",
                "0d00000000000000",
                "6f9b6927228ad98444162e1a202914bf3ea3a88328c16d1b116f95051444187f",
                "04040404040444048404040404040404",
                "05050505050545058505050505050505",
                "06060606060646068606060606060606",
            ]
            .concat()
        );
        assert_eq!(&copy[4096..4112], b"configuration\0\0\0");
        assert_eq!(Label::copy_length(&copy[..4096], AT), Ok(8192));
        assert_eq!(Label::decode(&copy, AT), Ok(label()));
    }

    #[test]
    fn the_diagram_is_the_layout() {
        diagram_is_in(include_str!("label.rs"), FIELDS);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_seen() {
        every_flip_and_truncation(&label().encode(AT), |copy| Label::decode(copy, AT).is_err());
    }

    #[test]
    fn a_copy_torn_between_header_and_text_is_seen() {
        let mut next = label();
        (next.sequence, next.configuration) = (14, b"configuratiom".to_vec());
        let (old, new) = (label().encode(AT), next.encode(AT));
        for cut in (512..8192).step_by(512) {
            let mut torn = old.clone();
            torn[..cut].copy_from_slice(&new[..cut]);
            assert_eq!(Label::decode(&torn, AT).is_ok(), cut > 4096, "cut at {cut}: the text is one sector");
        }
    }

    #[test]
    fn a_label_of_elsewhere_is_refused() {
        let copy = label().encode(AT);
        assert_eq!(
            Label::decode(&copy, AT + MIB),
            Err(Damage::WrongAddress { found: AT, expected: AT + MIB })
        );
    }

    #[test]
    fn a_right_checksum_does_not_excuse_absurd_content() {
        assert_eq!(forged(|_| ()), Ok(label()));
        for broken in [
            forged(|c| c[FLAGS.at] = 7),
            forged(|c| c[FLAGS.at] = 1),
            forged(|c| STOP.put_u64(c, 0)),
            forged(|c| c[PAST_COUNT.at] = 65),
            forged(|c| c[PAST_COUNT.at] = 1),
            forged(|c| VOLUME_LENGTH.put_u64(c, 0)),
            forged(|c| VOLUME_LENGTH.put_u64(c, u64::MAX)),
            forged(|c| c[DATA_OFFSET.at] = 1),
            forged(|c| c[STATE.at] = b'a'),
            forged(|c| c[STATE.at + 1] = 0),
            forged(|c| c[STATE.at..STATE.at + 16].fill(0)),
            forged(|c| c[STATE.at] = 0xff),
            forged(|c| CONFIG_LENGTH.put_u64(c, u64::MAX)),
            forged(|c| CONFIG_LENGTH.put_u64(c, MAX_CONFIG_BYTES as u64 + 1)),
            forged(|c| SEQUENCE.put_u64(c, MAX_COUNT.0 + 1)),
            forged(|c| RUN.put_u64(c, u64::MAX)),
            forged(|c| STOP.put_u64(c, u64::MAX)),
            forged(|c| CONFIG_GENERATION.put_u64(c, u64::MAX)),
            forged(|c| c[4095] = 1),
            forged(|c| c[8191] = 1),
        ] {
            assert!(matches!(broken, Err(Damage::Absurd(_))), "{broken:?}");
        }
        let longer = forged(|c| CONFIG_LENGTH.put_u64(c, MAX_CONFIG_BYTES as u64));
        assert_eq!(longer, Err(Damage::WrongLength { found: 8192, expected: COPY_BYTES as usize }));
    }

    #[test]
    fn the_largest_label_fills_its_copy() {
        let mut label = label();
        label.configuration = vec![b'x'; MAX_CONFIG_BYTES];
        label.past = vec![GenerationId(id(9)); MAX_PAST_GENERATIONS];
        let copy = label.encode(0);
        assert_eq!(copy.len() as u64, COPY_BYTES);
        assert_eq!(Label::decode(&copy, 0), Ok(label));
    }

    #[test]
    fn places_lie_behind_the_data_inside_the_medium_and_apart() {
        for volume in [MIN_VOLUME_BYTES, 5 * MIB - 4096, 5 * MIB, 5 * MIB + 512, MAX_VOLUME_BYTES] {
            let needed = medium_bytes(volume);
            for medium in [needed, needed + 512, needed + 4096, needed + 3 * MIB + 1] {
                let places = Places::new(volume, medium).unwrap();
                let all = places.all();
                assert!(all[0] >= volume && all[0] - volume < MIB && all[0].is_multiple_of(MIB));
                assert!(all.windows(2).all(|pair| pair[0] + COPY_BYTES <= pair[1]));
                assert!(all[3] + COPY_BYTES <= medium && medium - all[2] < MIB + 4096);
                assert_eq!(all[2] % 4096, 0);
                assert_eq!(Some(all[2]), far_area(medium));
                assert_eq!(places.of_sequence(6), [all[0], all[2]]);
                assert_eq!(places.of_sequence(7), [all[1], all[3]]);
                assert_eq!(places.near_area(), all[0]);
            }
            assert_eq!(Places::new(volume, needed - 1), Err(TooSmall { found: needed - 1, needed }));
        }
        assert_eq!(Places::new(MIB, 0), Err(TooSmall { found: 0, needed: 3 * MIB }));
        assert_eq!(far_area(MIB - 1), None);
    }

    #[test]
    fn the_newest_sound_copy_counts_and_conflicts_are_shown() {
        let at = |sequence| Label { sequence, ..label() };
        let damaged = || Err(Damage::BadChecksum);
        let all = [Ok(at(12)), Ok(at(13)), damaged(), Ok(at(13))];
        assert_eq!(newest(all), Ok(at(13)));
        assert_eq!(newest([damaged(), Ok(at(12)), damaged(), Ok(at(11))]), Ok(at(12)));
        assert_eq!(newest([damaged(), Err(Damage::Blank)]), Err(vec![Damage::BadChecksum, Damage::Blank]));
        let other = Label { plex: id(9), ..at(20) };
        assert!(matches!(newest([Ok(at(12)), Ok(other)]).unwrap_err()[..], [Damage::WrongOwner { .. }]));
        let twin = Label { intent_lost: false, ..at(12) };
        assert!(matches!(newest([Ok(at(12)), Ok(twin)]).unwrap_err()[..], [Damage::Absurd(_)]));
    }

    #[test]
    fn state_words_are_short_capitals() {
        assert_eq!(StateWord::new("SNAPDONE").unwrap().as_str(), "SNAPDONE");
        assert_eq!(StateWord::new("ABCDEFGHIJKLMNOP").unwrap().as_str().len(), 16);
        for bad in ["", "active", "A B", "ABCDEFGHIJKLMNOPQ", "A\0"] {
            assert_eq!(StateWord::new(bad), None);
        }
    }

    proptest! {
        #[test]
        fn labels_survive_the_round_trip(
            sequence in 0..=MAX_COUNT.0, run in 0..=MAX_COUNT.0, stop in 0..=MAX_COUNT.0, lost: bool, address: u64,
            past in proptest::collection::vec(any::<[u8; 16]>(), 0..MAX_PAST_GENERATIONS),
            configuration in proptest::collection::vec(any::<u8>(), 0..9000),
        ) {
            let label = Label {
                sequence,
                run: Generation(run),
                stop: Some(Generation(stop)).filter(|stop| stop.0 != 0),
                intent_lost: lost,
                past: past.into_iter().map(|id| GenerationId(Uuid::from_bytes(id))).collect(),
                configuration,
                ..label()
            };
            let copy = label.encode(address);
            prop_assert_eq!(copy.len() % PAGE_BYTES, 0);
            prop_assert_eq!(Label::decode(&copy, address), Ok(label));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256), length in 0..3 * PAGE_BYTES) {
            let mut copy = vec![0; 3 * PAGE_BYTES];
            copy[..bytes.len()].copy_from_slice(&bytes);
            HEAD.seal(&mut copy[..PAGE_BYTES], MAGIC_BYTES, NEWEST);
            let address = ADDRESS.u64(&copy);
            let _ = Label::decode(&copy[..length], address);
            let _ = Label::copy_length(&bytes, address);
        }
    }
}
