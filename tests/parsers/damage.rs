//! Every damage of every structure on disk: each single bit flipped and each truncation, all of them tried and counted; whole
//! blocks lost, swapped and strange; and what is served in the place of what is damaged.

use cleave::base::limits::{EXTENT_BYTES, MIB, PAGE_BYTES};
use cleave::base::{ByteRange, Generation, GenerationId, RegionSize, Uuid};
use cleave::bitmap::{BitMap, ExtentMap, PAGE_BITS, PAGE_MAP_BYTES};
use cleave::catalog::labels::{Found, read_label, write_label};
use cleave::catalog::{Catalog, StateFiles};
use cleave::device::memory::Memory;
use cleave::format::label::{COPY_BYTES, Label, Places, StateWord};
use cleave::format::map_file::{MapHeader, Zone, file_size, slot_offset};
use cleave::format::map_page::{MapKind, MapPage, Place, Slot};
use cleave::format::{Damage, config};
use cleave::state::Group;
use cleave::volume::map_file::{Ending, MapFile, MapIdentity, Worth};
use futures_util::FutureExt;

use super::decoders::archive;
use super::decoders::catalogue::Files;
use super::decoders::configuration::{busy_group, small_group};

/// Memory answers at the first poll.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory answers at once")
}

fn id(seed: u8) -> Uuid {
    Uuid::from_random([seed; 16])
}

/// Flips each bit of `bytes` and cuts them at each length; `seen` tells whether the damage was.
fn every_damage(what: &str, bytes: &[u8], seen: impl Fn(&[u8]) -> bool) {
    assert!(!seen(bytes), "{what} is refused undamaged");
    let (mut flips, mut cuts, mut detected) = (0u64, 0u64, 0u64);
    every_flip(bytes, |flipped, bit| {
        flips += 1;
        detected += u64::from(seen(flipped));
        assert_eq!(detected, flips, "{what}: bit {} of byte {} flipped and not seen", bit % 8, bit / 8);
    });
    for length in 0..bytes.len() {
        cuts += 1;
        assert!(seen(&bytes[..length]), "{what}: cut to {length} bytes and not seen");
    }
    println!("{what}: {flips} flips, {detected} detected; {cuts} truncations, {cuts} detected");
}

fn every_flip(bytes: &[u8], mut tried: impl FnMut(&[u8], usize)) {
    let mut flipped = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        tried(&flipped, bit);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

fn label(plex: u8) -> Label {
    Label {
        sequence: 0,
        group: id(1),
        volume: id(2),
        plex: id(plex),
        volume_length: 5 * MIB,
        state: StateWord::new("ACTIVE").unwrap(),
        intent_lost: false,
        run: Generation(3),
        stop: None,
        data_generation: GenerationId(id(4)),
        past: vec![GenerationId(id(5))],
        config_generation: Generation(9),
        configuration: config::encode(Generation(9), &small_group()).unwrap().into_bytes(),
    }
}

fn page(kind: MapKind) -> (MapPage, Place) {
    let (owner, index, sequence) = (id(7), 3, 9);
    let mut bits = [0; PAGE_MAP_BYTES];
    bits.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7) as u8);
    let page = MapPage { kind, owner, index, sequence, run: Generation(4), stop: None, before: [8; 7], bits };
    (page, Place { kind, owner, index, slot: Slot::of(sequence) })
}

fn header() -> MapHeader {
    MapHeader {
        kind: MapKind::Change,
        owner: id(7),
        volume: id(2),
        bits: 2 * PAGE_BITS - 5,
        granularity: RegionSize::DEFAULT.bytes(),
        sequence: 4,
        run: Generation(5),
        stop: Some(Generation(4)),
        sequence_sum: 77,
    }
}

#[test]
fn every_flip_and_truncation_of_a_page_or_header_is_detected() {
    for (what, kind) in [("intent page", MapKind::Intent), ("change page", MapKind::Change)] {
        let (page, place) = page(kind);
        every_damage(what, &page.encode(), |block| MapPage::decode(block, &place).is_err());
    }
    every_damage("map header", &header().encode(), |block| MapHeader::decode(block, Slot::Even).is_err());
}

#[test]
fn every_flip_and_truncation_of_a_label_or_configuration_is_detected() {
    every_damage("label copy", &label(3).encode(MIB), |copy| Label::decode(copy, MIB).is_err());
    let text = config::encode(Generation(17), &busy_group()).unwrap();
    every_damage("configuration", text.as_bytes(), |text| config::decode::<Group>(text).is_err());
}

#[test]
fn every_flip_and_truncation_of_an_archive_is_detected_or_gives_the_same_bytes() {
    let whole = archive::small();
    let content = archive::content(&whole).expect("it is whole");
    let (mut flips, mut detected, mut same) = (0u64, 0u64, 0u64);
    every_flip(&whole, |flipped, bit| {
        flips += 1;
        match archive::content(flipped) {
            None => detected += 1,
            // A bit of a frame's header may tell only how much memory to prepare.
            Some(read) => {
                assert_eq!(read, content, "bit {bit} flipped gives other bytes");
                same += 1;
            }
        }
    });
    assert_eq!(detected + same, flips);
    for length in 0..whole.len() {
        assert_eq!(archive::content(&whole[..length]), None, "cut to {length} bytes");
    }
    let cuts = whole.len();
    println!(
        "archive: {flips} flips, {detected} detected, {same} harmless; {cuts} truncations, {cuts} detected"
    );
}

// --- labels: four copies ---------------------------------------------------------------------------------------------------

const MEDIUM: u64 = 9 * MIB;

/// A medium that bears label 1 and label 2, its places, and label 2.
fn labelled() -> (Memory, Places, Label) {
    let medium = Memory::new(MEDIUM, 512);
    let first = label(3);
    assert_eq!(now(write_label(&medium, &first)), Ok(1));
    let second = Label { run: Generation(4), ..first };
    assert_eq!(now(write_label(&medium, &second)), Ok(2));
    (medium, Places::new(5 * MIB, MEDIUM).unwrap(), Label { sequence: 2, ..second })
}

fn served(medium: &Memory, volume: Option<u64>) -> Option<Label> {
    match now(read_label(medium, volume)).unwrap() {
        Found::Label(label) => Some(*label),
        Found::None | Found::Damaged(_) => None,
    }
}

#[test]
fn every_flip_of_a_label_is_answered_from_another_copy() {
    let (medium, places, newest) = labelled();
    let [near, far] = places.of_sequence(2);
    let length = newest.encode(near).len();
    let mut flips = 0u64;
    // Every bit of one new copy, and one in each byte of the other: the copy left is as good.
    for (at, bits) in [(near, 0..8), (far, 3..4)] {
        let sound = medium.peek(ByteRange::new(at, length as u64));
        for (byte, bit) in (0..length).flat_map(|byte| bits.clone().map(move |bit| (byte, bit))) {
            medium.poke(at + byte as u64, &[sound[byte] ^ 1 << bit]);
            assert_eq!(
                served(&medium, Some(5 * MIB)).as_ref(),
                Some(&newest),
                "bit {bit} of byte {byte} at {at}"
            );
            medium.poke(at + byte as u64, &sound[byte..=byte]);
            flips += 1;
        }
    }
    println!("label on a medium: {flips} flips, {flips} served from the other area");
    // Both are damaged at once, in one byte each: the label before stands.
    let mut older = 0;
    for byte in 0..length as u64 {
        for at in [near, far] {
            let sound = medium.peek(ByteRange::new(at + byte, 1));
            medium.poke(at + byte, &[sound[0] ^ 0x10]);
        }
        let before = served(&medium, Some(5 * MIB)).expect("the label before");
        assert_eq!((before.sequence, before.run), (1, Generation(3)), "byte {byte}");
        for at in [near, far] {
            let damaged = medium.peek(ByteRange::new(at + byte, 1));
            medium.poke(at + byte, &[damaged[0] ^ 0x10]);
        }
        older += 1;
    }
    println!("label on a medium: {older} double damages, {older} served from the label before");
}

#[test]
fn a_lost_swapped_or_foreign_label_is_not_taken_for_this_one() {
    let length = label(3).encode(0).len();
    for fill in [0, 0xff] {
        let (medium, places, newest) = labelled();
        let [near, far] = places.of_sequence(2);
        medium.poke(near, &vec![fill; length]);
        assert_eq!(served(&medium, Some(5 * MIB)).as_ref(), Some(&newest), "{fill:#x}");
        medium.poke(far, &vec![fill; length]);
        assert_eq!(served(&medium, Some(5 * MIB)).map(|label| label.sequence), Some(1), "{fill:#x}");
        for at in places.all() {
            medium.poke(at, &vec![fill; COPY_BYTES as usize]);
        }
        match (fill, now(read_label(&medium, Some(5 * MIB))).unwrap()) {
            (0, Found::None) => {}
            (_, Found::Damaged(damage)) => assert!(damage.iter().all(|found| *found == Damage::BadMagic)),
            (_, other) => panic!("{fill:#x}: {other:?}"),
        }
    }
    // The copies of the two areas, and of the two slots, in each other's places.
    let (medium, places, newest) = labelled();
    let copies = places.all().map(|at| medium.peek(ByteRange::new(at, length as u64)));
    for (a, b) in [(0, 2), (0, 1), (1, 3), (2, 3), (0, 3), (1, 2)] {
        let (at, other) = (places.all()[a], places.all()[b]);
        medium.poke(at, &copies[b]);
        medium.poke(other, &copies[a]);
        for at in [at, other] {
            let copy = medium.peek(ByteRange::new(at, length as u64));
            assert!(matches!(Label::decode(&copy, at), Err(Damage::WrongAddress { .. })));
        }
        if let Some(served) = served(&medium, Some(5 * MIB)) {
            assert!(served.sequence == 1 || served == newest);
        }
        medium.poke(at, &copies[a]);
        medium.poke(other, &copies[b]);
    }
    assert_eq!(served(&medium, None).as_ref(), Some(&newest));
    // Another plex's label, written for this very place, contradicts the other copies.
    let near = places.of_sequence(4)[0];
    medium.poke(near, &Label { sequence: 4, ..label(8) }.encode(near));
    assert!(matches!(now(read_label(&medium, Some(5 * MIB))).unwrap(), Found::Damaged(_)));
}

// --- configurations: the head and the generation before it -----------------------------------------------------------------

#[test]
fn every_flip_of_a_head_is_answered_from_the_generation_before() {
    let files = Files::default();
    let group = small_group();
    let (mut catalog, _) = Catalog::create_on(files.clone(), &group).unwrap();
    let committed = catalog.commit(&group).unwrap();
    assert_eq!(committed.generation, Generation(2));
    let (mut flips, mut cuts) = (0u64, 0u64);
    let tried = |text: &[u8]| {
        files.write("configuration", text).unwrap();
        match Catalog::open_on(files.clone()) {
            Ok((mut catalog, loaded)) => {
                assert_eq!((loaded.generation, &loaded.group), (Generation(1), &group));
                assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
                // Nobody uses the damaged one's number again.
                let next = catalog.commit(&group).unwrap().generation;
                assert!(next > Generation(2), "generation {next} was in use");
            }
            // A flipped version is that of a newer program, whose files are not to be touched.
            Err(refused) => assert_eq!(refused.id, "group.newer-format", "{refused}"),
        }
        for (name, bytes) in [("configuration", committed.text.as_bytes()), ("configuration.damaged", b"")] {
            files.write(name, bytes).unwrap();
        }
        files.remove("configuration.00000000000000000002").unwrap();
        files.remove("configuration.00000000000000000003").unwrap();
    };
    every_flip(committed.text.as_bytes(), |text, _| {
        tried(text);
        flips += 1;
    });
    for length in 0..committed.text.len() {
        tried(&committed.text.as_bytes()[..length]);
        cuts += 1;
    }
    for fill in [0, 0xff] {
        tried(&vec![fill; committed.text.len()]);
    }
    println!(
        "configuration in a directory: {flips} flips, {cuts} truncations, none taken; the one before was served"
    );
}

// --- maps: two headers, two slots a page -----------------------------------------------------------------------------------

/// Two pages, and one.
const BITS: u64 = 2 * PAGE_BITS - 100;
const FEW_BITS: u64 = PAGE_BITS - 100;

fn identity(bits: u64) -> MapIdentity {
    MapIdentity { kind: MapKind::Intent, owner: id(2), volume: id(2), bits, granularity: EXTENT_BYTES }
}

/// A map of `length` bits as runs have left it, each page in both slots, and the bits that it holds. `clean`: the last run
/// ended with stop 2.
fn map_file(length: u64, clean: bool) -> (Memory, BitMap) {
    let medium = Memory::new(file_size(length), 512);
    let file = MapFile::new(medium.clone(), identity(length), Generation(1));
    let bits = BitMap::new(length);
    now(file.create()).unwrap();
    // Each slot twice, so that neither was ever empty.
    for bit in [5, length - 8, 6] {
        bits.set(bit);
        (0..bits.pages()).for_each(|page| bits.mark_page(page));
        now(file.write_pages(&bits, &bits.take_dirty_pages())).unwrap();
    }
    for bit in [77, PAGE_BITS - 101, length - 1] {
        bits.set(bit);
    }
    now(file.write_pages(&bits, &bits.take_dirty_pages())).unwrap();
    if clean {
        now(file.end_run(&bits, Generation(2))).unwrap();
    }
    (medium, bits)
}

fn load(medium: &Memory, length: u64, clean: bool) -> (Worth, BitMap) {
    let bits = BitMap::new(length);
    let ending =
        Ending { run: Generation(1), before: None, stop: Generation(if clean { 2 } else { 0 }), clean };
    let file = MapFile::new(medium.clone(), identity(length), Generation(2));
    let worth = now(file.load(&bits, ending)).unwrap();
    bits.self_check();
    (worth, bits)
}

fn lacks_nothing_of(bits: &BitMap, truth: &BitMap) -> bool {
    truth.runs().all(|run| bits.all(run.start, run.end))
}

/// The bits of `map` below `end`.
fn head(map: &BitMap, end: u64) -> Vec<u64> {
    map.runs().flatten().take_while(|bit| *bit < end).collect()
}

#[test]
fn a_map_whose_volume_has_another_length_now_keeps_what_both_have_and_knows_nothing_of_the_rest() {
    // Within its page, into another, and back.
    for (before, after) in [(FEW_BITS, FEW_BITS + 40), (FEW_BITS, BITS), (BITS, FEW_BITS), (BITS, BITS - 40)]
    {
        let (medium, truth) = map_file(before, false);
        let longer = Memory::new(file_size(before.max(after)), 512);
        longer.poke(0, &medium.peek(ByteRange::new(0, file_size(before))));
        let (worth, bits) = load(&longer, after, false);
        assert_eq!(worth, Worth::WithIntent, "{before} to {after}");
        let common = before.min(after);
        assert_eq!(head(&bits, common), head(&truth, common), "{before} to {after}");
        assert!(bits.all(common, after), "{before} to {after}: of what is new nothing is known");
    }
}

#[test]
fn a_map_file_that_grows_while_it_is_used_holds_no_more_bits_than_before() {
    for after in [FEW_BITS + 40, BITS] {
        let medium = Memory::new(file_size(BITS), 512);
        let file = MapFile::new(medium.clone(), identity(FEW_BITS), Generation(1));
        let bits = BitMap::with_room(FEW_BITS, BITS);
        now(file.create()).unwrap();
        bits.set(FEW_BITS - 1);
        now(file.write_pages(&bits, &bits.take_dirty_pages())).unwrap();
        now(file.grow(after)).unwrap();
        assert!(bits.grow(after));
        bits.set(after - 1);
        now(file.write_pages(&bits, &bits.take_dirty_pages())).unwrap();
        let (worth, found) = load(&medium, after, false);
        assert_eq!((worth, head(&found, after)), (Worth::WithIntent, vec![FEW_BITS - 1, after - 1]));
        now(file.end_run(&bits, Generation(2))).unwrap();
        let (worth, found) = load(&medium, after, true);
        assert_eq!((worth, found.count_ones()), (Worth::Exact, 2));
    }
}

#[test]
fn every_flip_of_a_map_file_is_answered_from_the_other_slot_or_with_all_ones() {
    for clean in [true, false] {
        let (medium, truth) = map_file(FEW_BITS, clean);
        let image = medium.peek(ByteRange::new(0, file_size(FEW_BITS)));
        assert_eq!(load(&medium, FEW_BITS, clean).1.count_ones(), truth.count_ones());
        let (mut flips, mut exact, mut ones) = (0u64, 0u64, 0u64);
        every_flip(&image, |flipped, bit| {
            let byte = bit / 8;
            // Loading writes a header.
            medium.poke(0, &image[..2 * PAGE_BYTES]);
            medium.poke(byte as u64, &flipped[byte..=byte]);
            let (_, bits) = load(&medium, FEW_BITS, clean);
            medium.poke(byte as u64, &image[byte..=byte]);
            flips += 1;
            if bits.count_ones() == FEW_BITS {
                ones += 1;
            } else {
                // A flip is no write that tore, after a crash neither: the slot before is not served for it.
                assert!(lacks_nothing_of(&bits, &truth), "bit {bit} was lost, clean: {clean}");
                assert_eq!(bits.count_ones(), truth.count_ones(), "bit {bit}");
                exact += 1;
            }
        });
        println!(
            "map file after {}: {flips} flips: {exact} exact, {ones} all ones",
            if clean { "a clean stop" } else { "a crash" }
        );
        assert_eq!(exact + ones, flips);
        assert!(exact > 0 && ones > 0);
    }
}

#[test]
fn pages_swapped_foreign_lost_or_filled_are_never_believed() {
    for clean in [true, false] {
        let (medium, truth) = map_file(BITS, clean);
        let image = medium.peek(ByteRange::new(0, file_size(BITS)));
        let block = |index: u64, slot| slot_offset(index, slot);
        let swap = |medium: &Memory, a: u64, b: u64| {
            medium.poke(a, &image[b as usize..][..PAGE_BYTES]);
            medium.poke(b, &image[a as usize..][..PAGE_BYTES]);
        };
        let headers = Slot::BOTH.map(|slot| Zone::Header { slot }.offset());
        // Everything in the wrong place: neither slot of either page can be believed.
        type Spoil<'a> = &'a dyn Fn(&Memory);
        let whole: [(&str, Spoil); 3] = [
            ("pages swapped", &|medium| {
                Slot::BOTH.iter().for_each(|&slot| swap(medium, block(0, slot), block(1, slot)))
            }),
            ("slots swapped", &|medium| {
                (0..2).for_each(|page| swap(medium, block(page, Slot::Even), block(page, Slot::Odd)))
            }),
            ("headers swapped", &|medium| swap(medium, headers[0], headers[1])),
        ];
        for (what, damage) in whole {
            let medium = Memory::new(image.len() as u64, 512);
            medium.poke(0, &image);
            damage(&medium);
            let (_, bits) = load(&medium, BITS, clean);
            assert_eq!(bits.count_ones(), BITS, "{what}");
        }
        // One block at a time.
        let foreign = |at: u64| {
            let mut block = image[at as usize..][..PAGE_BYTES].to_vec();
            block[16..32].copy_from_slice(id(9).bytes());
            let crc = cleave::base::checksum::crc32c_without(&block, 8);
            block[8..12].copy_from_slice(&crc.to_le_bytes());
            block
        };
        for at in (0..image.len() as u64).step_by(PAGE_BYTES) {
            for (what, bytes) in [
                ("zeroed", vec![0; PAGE_BYTES]),
                ("all ones", vec![0xff; PAGE_BYTES]),
                ("foreign", foreign(at)),
            ] {
                let medium = Memory::new(image.len() as u64, 512);
                medium.poke(0, &image);
                medium.poke(at, &bytes);
                let (worth, bits) = load(&medium, BITS, clean);
                // No write that tore leaves a slot so.
                assert!(lacks_nothing_of(&bits, &truth), "{what} at {at}, clean: {clean}: {worth:?}");
            }
        }
        // Both slots of a page lost: after a clean stop the sum of the numbers tells, and a slot that was never written is none.
        let medium = Memory::new(image.len() as u64, 512);
        medium.poke(0, &image);
        medium.poke(block(1, Slot::Even), &[0; 2 * PAGE_BYTES]);
        let (worth, bits) = load(&medium, BITS, clean);
        assert_eq!(worth == Worth::Nothing, clean);
        assert!(lacks_nothing_of(&bits, &truth) && bits.all(PAGE_BITS, BITS));
    }
}

#[test]
fn an_intent_map_is_what_the_volume_says_it_is() {
    let map = ExtentMap::new(BITS * EXTENT_BYTES);
    assert_eq!(MapIdentity::intent(id(2), &map), identity(BITS));
}
