//! Documents that are made from the program, so that they are never out of date: `UPDATE_GOLDEN=1` writes them anew.

mod described;

use cleave::base::limits::{
    EXTENT_BYTES, LABEL_AREA_BYTES, MAX_CONFIG_BYTES, MAX_NAME_BYTES, MAX_PLEXES, MAX_VOLUME_BYTES, MIB,
    MIN_VOLUME_BYTES, PAGE_BYTES, REGION_BYTES_MAX, REGION_BYTES_MIN, SECTOR_BYTES, medium_bytes,
};
use cleave::base::{Generation, GenerationId, Kind, Name, RegionSize, Uuid};
use cleave::bitmap::{PAGE_BITS, UnflushedMap};
use cleave::catalog::files;
use cleave::cli;
use cleave::cli::archive::buffer::CHUNK_BYTES;
use cleave::cli::archive::trailer;
use cleave::control::STATE_DIRECTORY;
use cleave::format::label::{self, Label, Places, StateWord};
use cleave::format::map_page::{MapKind, MapPage, Slot};
use cleave::format::undo::{self, UndoHeader};
use cleave::format::{STRUCTURES, config, map_file};
use cleave::state::Archive;
use described::Described;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Holds `text` against the file NAME; with UPDATE_GOLDEN=1 writes it there, for a person to read the difference.
fn golden(name: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path(name), text).unwrap();
    }
    let kept = fs::read_to_string(path(name)).unwrap_or_default();
    for (number, (kept, now)) in kept.lines().zip(text.lines()).enumerate() {
        assert_eq!(now, kept, "{name}, line {}: UPDATE_GOLDEN=1 writes it anew", number + 1);
    }
    assert_eq!(text.lines().count(), kept.lines().count(), "{name}: number of lines");
}

/// A part of a page that is shown as it is.
fn block(text: &str) -> String {
    let lines: String = text.trim().lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("```text\n{lines}```\n")
}

/// Each kind of refusal with what its documentation says, in the order of the source.
fn kinds() -> Vec<(Kind, String, String)> {
    let source = read("src/base/error.rs");
    let list = source.split_once("pub enum Kind {\n").unwrap().1.split_once("\n}").unwrap().0;
    let mut kinds = Vec::new();
    let mut said = "";
    for line in list.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            said = text;
            continue;
        }
        let mut word = String::new();
        for letter in line.trim_end_matches(',').chars() {
            if letter.is_ascii_uppercase() && !word.is_empty() {
                word.push('-');
            }
            word.push(letter.to_ascii_lowercase());
        }
        let kind: Kind = serde_json::from_value(serde_json::json!(word)).unwrap();
        let code = format!(" ({}).", kind.exit_code());
        let said = said.strip_suffix(&code).unwrap_or_else(|| panic!("{word} does not end with '{code}'"));
        kinds.push((kind, word, said.to_owned()));
    }
    kinds
}

fn help_of_the_daemon() -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cleaved"));
    command.arg("--help").stdin(Stdio::null());
    for name in ["COLUMNS", "CLEAVE_STATE", "CLEAVE_SOCKET"] {
        command.env_remove(name);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Links one behind the other, in lines that are not too long.
fn links(headings: impl IntoIterator<Item = String>) -> String {
    let mut lines = vec![String::new()];
    for heading in headings {
        let link = format!("[{heading}](#{})", heading.replace(' ', "-"));
        let line = lines.last_mut().unwrap();
        if line.is_empty() {
            *line = link;
        } else if line.len() + link.len() < 136 {
            *line += &format!(", {link}");
        } else {
            line.push(',');
            lines.push(link);
        }
    }
    lines.join("\n")
}

#[test]
fn the_reference_is_what_the_program_prints() {
    let whole = cli::args::help().swap_remove(0).1;
    let verbs = cli::args::own_help().split_off(1);
    let applets = cli::vx::Applet::ALL;
    let others = ["cleaved", "documents", "exit codes", "events", "checks of doctor", "refusals"];
    let mut page = format!(
        "# Command reference\n\n\
         Every command with its help as it is printed, made from the program itself. The same stands in pages of the manual:\n\
         `man cleave-snapstart`, or without the package `cleave manual snapstart | man -l -`.\n\n\
         Verbs: [cleave](#cleave),\n{}\n\nWith VxVM's words:\n{}\n\nBeside them:\n{}\n\n## cleave\n\n{}\n\
         These options stand with every verb, and `--help` with them; they are left out from here on.\n",
        links(verbs.iter().map(|(path, _)| path.clone())),
        links(applets.map(|applet| applet.name().to_owned())),
        links(others.map(str::to_owned)),
        block(&whole),
    );
    for (path, help) in &verbs {
        page += &format!("\n### {path}\n\n{}", block(help));
    }
    page += "\n## VxVM's commands\n\nThe same program by other names; without them it is `cleave vx NAME`.\n";
    for applet in applets {
        page += &format!("\n### {applet}\n\n{}", block(applet.help()));
    }
    page += &format!("\n## cleaved\n\n{}", block(&help_of_the_daemon()));
    page += &format!(
        "\n## documents\n\n\
         With `--json` a command prints its result as one document on standard output, and its refusal as one on standard error. Fields may\n\
         be added to them; none is taken away, called otherwise, or changed in its meaning or unit. With `--every` and `--follow` each look\n\
         and each event is a document on a line of its own.\n\n{}",
        Described::new().page()
    );
    page += "\n## exit codes\n\n\
             Those of vxintro(1M) where it has the kind, and from 64 on where it has not. `kind` is the word in `--json`.\n\n\
             | code | kind | meaning |\n| --- | --- | --- |\n| 0 | | Done |\n";
    for (kind, word, said) in kinds() {
        page += &format!("| {} | `{word}` | {said} |\n", kind.exit_code());
    }
    page += &format!(
        "\nBeside these `cleave status` and `cleave doctor` end with 80 and 81, see [cleave status](#cleave-status).\n\n\
         ## events\n\n\
         Each id with its severity, and the way out where something is to be done; in it the names of the volume and the plex.\n\n{}\n\
         ## checks of doctor\n\n{}\n\
         ## refusals\n\n\
         A refusal is one line that names the object, the reason and the way out; in `--json` it has a stable id as well. All ids, each\n\
         with its kind and exit code, stand in the source in the table `tests/golden/messages.txt`.\n",
        block(&read("tests/golden/events.txt")),
        block(&read("tests/golden/doctor.txt")),
    );
    golden("src/guide/reference.md", &page);
}

/// Documents of which none stands in the golden file: tests of the commands hold theirs against the description.
const ELSEWHERE: &[&str] = &[
    "Archived",
    "CheckedArchive",
    "Checks",
    "Events",
    "Forced",
    "Happening",
    "Look",
    "Mounted",
    "Pages",
    "Records",
    "StatusOfAll",
    "Text",
    "Unarchived",
    "Upgraded",
];

#[test]
fn real_documents_have_the_fields_that_the_reference_tells_of() {
    let described = Described::new();
    let text = read("tests/golden/cli-json.txt");
    let mut seen = BTreeSet::new();
    for part in text.strip_prefix("$ cleave ").unwrap().split("\n$ cleave ") {
        let (line, document) = part.split_once('\n').unwrap();
        let document = serde_json::from_str(document).unwrap();
        seen.insert(described.check(line.trim_end_matches(" --json"), &document));
    }
    let unseen: BTreeSet<_> = Described::documents().filter(|name| !seen.contains(name)).collect();
    assert_eq!(unseen, ELSEWHERE.iter().copied().collect(), "no real document of these");
}

// --- pages with parts from the code -------------------------------------------------------------------------------------

const BEGIN: &str = "<!-- from the code: ";
const END: &str = "<!-- end -->\n";

/// Holds the page NAME against its `parts`, each between its name and the end mark, and gives back what is between them.
fn page_with(name: &str, parts: &[(&str, String)]) -> String {
    let kept = read(name);
    let (mut made, mut prose, mut rest) = (String::new(), String::new(), kept.as_str());
    let mut used = Vec::new();
    while let Some((before, behind)) = rest.split_once(BEGIN) {
        let (part, behind) = behind.split_once(" -->\n").unwrap();
        let (_, behind) = behind.split_once(END).unwrap_or_else(|| panic!("{name}: {part} has no end"));
        let found = parts.iter().find(|(of, _)| *of == part);
        let (_, text) = found.unwrap_or_else(|| panic!("{name}: no part is called '{part}'"));
        made += &format!("{before}{BEGIN}{part} -->\n{}\n{END}", text.trim_end());
        prose += before;
        used.push(part);
        rest = behind;
    }
    assert_eq!(used, parts.iter().map(|(of, _)| *of).collect::<Vec<_>>(), "{name}: parts");
    golden(name, &(made + rest));
    prose + rest
}

/// The constant NAME in a source, where it is a number or one shifted by another.
fn constant(source: &str, name: &str) -> u64 {
    let text = read(source);
    let line = text.lines().find(|line| line.contains(&format!("const {name}: "))).unwrap();
    let value = line.split_once(" = ").unwrap().1.trim_end_matches(';').replace('_', "");
    match value.split_once(" << ") {
        Some((number, by)) => number.parse::<u64>().unwrap() << by.parse::<u32>().unwrap(),
        None => value.parse().unwrap(),
    }
}

fn human(bytes: u64) -> String {
    let unit = |shift: u32, name: &str| {
        let whole = bytes as f64 / (1u64 << shift) as f64;
        if whole.fract() == 0.0 { format!("{whole} {name}") } else { format!("{whole:.1} {name}") }
    };
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => unit(10, "KiB"),
        0x10_0000..0x4000_0000 => unit(20, "MiB"),
        0x4000_0000..0x100_0000_0000 => unit(30, "GiB"),
        0x100_0000_0000..0x1000_0000_0000_0000 => unit(40, "TiB"),
        _ => unit(60, "EiB"),
    }
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

/// How the bytes of a field are read.
fn type_of(size: usize, what: &str) -> String {
    let is = |start: &str| what.starts_with(start);
    match size {
        _ if is("magic") || is("state of") || is("name of") || is("\"") => "text".to_owned(),
        _ if is("zero") => "zeroes".to_owned(),
        _ if is("bits") => "bits".to_owned(),
        _ if is("entries") => "entries".to_owned(),
        _ if is("BLAKE3") => "bytes".to_owned(),
        28 => "7 u32".to_owned(),
        16 => "UUID".to_owned(),
        1024 => "64 UUID".to_owned(),
        8 if is("when") => "i64".to_owned(),
        1 | 2 | 4 | 8 => format!("u{}", size * 8),
        _ => panic!("no type is known for {size} bytes: {what}"),
    }
}

fn field_rows(fields: impl IntoIterator<Item = (usize, usize, &'static str)>) -> String {
    let row = |(at, size, what): (usize, usize, &str)| {
        vec![at.to_string(), size.to_string(), type_of(size, what), what.to_owned()]
    };
    table(&["offset", "size", "type", "field"], &fields.into_iter().map(row).collect::<Vec<_>>())
}

/// The fields of the structure NAME, whose head is what the structure says of itself.
fn fields(name: &str) -> String {
    let structure = STRUCTURES.iter().find(|structure| structure.name == name).unwrap();
    if let Some((magic, version)) = structure.head {
        let said = |what: &str| structure.fields.iter().any(|field| field.what == what);
        assert!(said(&format!("magic \"{}\"", std::str::from_utf8(magic).unwrap())), "{name}");
        assert!(said(&format!("version, {version}")), "{name}");
    }
    field_rows(structure.fields.iter().map(|field| (field.at, field.size, field.what)))
}

/// What every structure with a head begins with.
fn head() -> String {
    let heads = STRUCTURES.iter().filter(|structure| structure.head.is_some());
    for structure in heads {
        let places: Vec<_> = structure.fields[..3].iter().map(|field| (field.at, field.size)).collect();
        assert_eq!(places, [(0, 8), (8, 4), (12, 2)], "{}", structure.name);
    }
    field_rows([(0, 8, "magic"), (8, 4, "checksum"), (12, 2, "version")])
}

fn numbers() -> String {
    let row = |what: &str, bytes: u64| vec![what.to_owned(), human(bytes), bytes.to_string()];
    let page = PAGE_BYTES as u64;
    let mut text = table(
        &["", "", "bytes"],
        &[
            row("sector: what a medium keeps or loses whole", SECTOR_BYTES),
            row("page: header of a label or archive, block of a map file", page),
            row("border on which the near label area begins", MIB),
            row("label area", LABEL_AREA_BYTES),
            row("space for a copy of the label", label::COPY_BYTES),
            row("configuration text, at most", MAX_CONFIG_BYTES as u64),
            row("region of a change map, by default", RegionSize::DEFAULT.bytes()),
            row("smallest region", u64::from(REGION_BYTES_MIN)),
            row("largest region", u64::from(REGION_BYTES_MAX)),
            row("extent of an intent map", EXTENT_BYTES),
            row("smallest volume", MIN_VOLUME_BYTES),
            row("largest volume", MAX_VOLUME_BYTES),
            row("unit of an undo archive, at most", undo::MAX_UNIT_BYTES),
            row("chunk of an archive file", CHUNK_BYTES as u64),
        ],
    );
    text += &format!(
        "\nA name of a group, volume or plex has {MAX_NAME_BYTES} bytes at most, a volume {MAX_PLEXES} plexes, a map page \
         {PAGE_BITS} bits.\n"
    );
    text
}

fn plex() -> String {
    let length = 100 * MIB + 5 * 4096;
    let medium = medium_bytes(length) + 20 * MIB + 1536;
    let places = Places::new(length, medium).unwrap();
    assert_eq!(places.near_area(), length.next_multiple_of(MIB));
    assert_eq!(
        places.far_area(),
        (medium - LABEL_AREA_BYTES) / PAGE_BYTES as u64 * PAGE_BYTES as u64,
        "the formula of the page"
    );
    let copies = places.all();
    assert_eq!(copies[1] - copies[0], label::COPY_BYTES);
    assert_eq!(places.of_sequence(8), [copies[0], copies[2]]);
    let apart = Places::new(length, label::LABEL_FILE_BYTES).unwrap();
    assert_eq!((apart.near_area(), apart.far_area()), (0, LABEL_AREA_BYTES));
    format!(
        "* near area: the length of the volume, rounded up to a multiple of {}\n\
         * far area: the length of the medium less {}, rounded down to a multiple of {}\n\
         * in an area the copy with an even number stands first, that with an odd one {} behind it\n\
         * the smallest medium: the length of the volume, rounded up to a multiple of {}, and {} for both areas\n\
         * a file of {} bytes, with both areas and nothing else, has the labels of a plex whose medium has no room for them: that \
         medium has the volume's bytes alone\n\n\
         A volume of {length} bytes on a medium of {medium}:\n\n\
         ```text\n      offset\n{:>12}  the volume's bytes\n{length:>12}  nothing, up to the border\n{:>12}  near area: even copy\n\
         {:>12}             odd copy\n{:>12}  nothing\n{:>12}  far area: even copy\n{:>12}            odd copy\n\
         {:>12}  nothing, less than a page\n```\n",
        human(MIB),
        human(LABEL_AREA_BYTES),
        human(PAGE_BYTES as u64),
        human(label::COPY_BYTES),
        human(MIB),
        human(medium_bytes(0)),
        label::LABEL_FILE_BYTES,
        0,
        copies[0],
        copies[1],
        copies[0] + LABEL_AREA_BYTES,
        copies[2],
        copies[3],
        copies[2] + LABEL_AREA_BYTES,
    )
}

fn read_by_hand() -> String {
    let (page, pages) = (PAGE_BYTES, LABEL_AREA_BYTES / PAGE_BYTES as u64);
    format!(
        "```sh\nmount -o ro /dev/sdb /srv/data\ngrep keep /srv/data/file\numount /srv/data\n```\n\n\
         And the label with the configuration, out of the far area:\n\n\
         ```sh\nsize=$(blockdev --getsize64 /dev/sdb)\n\
         dd if=/dev/sdb bs={page} skip=$((size / {page} - {pages})) count={pages} status=none | tr -d '\\0' >label\n\
         grep -a CLVLABEL label >copies\ngrep -a '^  \"name\": \"default\"' label\n```\n\n\
         Where Cleave is at hand, `cleave dump --medium /dev/sdb` tells all of it, also of a damaged label.\n"
    )
}

fn directory() -> String {
    let id = Uuid::from_random([0xc1; 16]);
    let (intent, map, recovery) =
        (files::intent_file_name(id), files::map_file_name(id), files::recovery_file_name(id));
    let kept = constant("src/catalog/mod.rs", "PAST_KEPT");
    assert!(read("src/catalog/mod.rs").contains("format!(\"{HEAD}.{:020}\", generation.0)"));
    assert_eq!(STATE_DIRECTORY, "/var/lib/cleave");
    let undo = Archive::new(&Name::new("data").unwrap(), id, 1_772_337_906, 0);
    let short = undo.short_id();
    for name in ["configuration", "configuration.new", "configuration.damaged", "group.removed"] {
        assert!(read("src/catalog/mod.rs").contains(&format!(": &str = \"{name}\";")), "{name}");
    }
    for name in ["daemon.pid", "media"] {
        assert!(read("src/catalog/directory.rs").contains(&format!(": &str = \"{name}\";")), "{name}");
    }
    assert!(read("src/state/change/make.rs").contains("{name}-{tag}.img"));
    format!(
        "```text\n{STATE_DIRECTORY}/GROUP/\n\
         \x20   configuration                                  the group as it is\n\
         \x20   configuration.00000000000000000016             generations before, the last {kept} of them\n\
         \x20   configuration.new                              the next one, while it is written\n\
         \x20   configuration.damaged                          one that could not be read, kept for a person\n\
         \x20   {intent}    intent map of a volume, by its UUID\n\
         \x20   {map}       change map, by its own UUID\n\
         \x20   {recovery}  how often a volume was tried in vain, as a number\n\
         \x20   {:<45}  undo archive of the volume data\n\
         \x20   media/data-01-{short}.img                     plex, where the group has no media of its own\n\
         \x20   daemon.pid                                     the process that holds the lock of the directory\n\
         \x20   group.removed                                  the group is being removed\n```\n",
        undo.file
    )
}

fn map_sizes() -> String {
    let slot = |page, slot| map_file::slot_offset(page, slot);
    let page = PAGE_BYTES as u64;
    assert_eq!(
        [slot(0, Slot::Even), slot(0, Slot::Odd), slot(1, Slot::Even)],
        [2 * page, 3 * page, 4 * page]
    );
    let bits = 3 * PAGE_BITS + 1;
    assert_eq!(map_file::file_size(bits), 2 * page * (1 + bits.div_ceil(PAGE_BITS)));
    format!(
        "```text\n| header even | header odd | page 0 even | page 0 odd | page 1 even | page 1 odd | ...\n```\n\n\
         each of {page} bytes. A map of N bits has N / {PAGE_BITS} pages, rounded up, and its file {} bytes for each page and for the \
         headers.\n",
        2 * page
    )
}

/// The mask by which the bits of a page are turned, as the page tells it.
fn mask(sequence: u64, word: u64) -> u64 {
    let mut mask = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(word);
    mask = (mask ^ (mask >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mask = (mask ^ (mask >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mask ^ (mask >> 31)
}

fn map_page() -> String {
    let mut bits = [0; PAGE_BITS as usize / 8];
    (bits[0], bits[77], bits[3967]) = (1, 0x5a, 0x80);
    let sequence = 0x1234_5678;
    let owner = Uuid::from_random([7; 16]);
    let (run, stop, before) = (Generation(21), None, [0; 7]);
    let page = MapPage { kind: MapKind::Change, owner, index: 3, sequence, run, stop, before, bits }.encode();
    let field =
        STRUCTURES.iter().find(|structure| structure.name == "map page").unwrap().fields.last().unwrap();
    for (word, (stored, plain)) in
        page[field.at..].as_chunks::<8>().0.iter().zip(bits.as_chunks::<8>().0).enumerate()
    {
        let stored = u64::from_le_bytes(*stored) ^ mask(sequence, word as u64);
        assert_eq!(stored, u64::from_le_bytes(*plain), "word {word}");
    }
    format!(
        "{}\nBit N of the map is bit N % {PAGE_BITS} of page N / {PAGE_BITS}, the lowest bit of the first byte first. So that no two writes \
         leave a\nsector alike, each word of 8 bytes, numbered from 0 in the field, is XORed with the finish of SplitMix64, modulo 2^64:\n\n\
         ```text\nm = sequence * 0x9e3779b97f4a7c15 + word\nm = (m ^ (m >> 30)) * 0xbf58476d1ce4e5b9\n\
         m = (m ^ (m >> 27)) * 0x94d049bb133111eb\nmask = m ^ (m >> 31)\n```\n",
        fields("map page")
    )
}

fn undo_header() -> String {
    let header = UndoHeader {
        archive: Uuid::from_random([1; 16]),
        volume: Uuid::from_random([2; 16]),
        name: Name::new("data").unwrap(),
        length: 1 << 30,
        unit: undo::MAX_UNIT_BYTES,
        units: 1000,
        unix_s: 0,
    };
    let page = PAGE_BYTES as u64;
    assert_eq!(header.pages(), 1000u64.div_ceil(undo::ENTRIES as u64));
    assert_eq!(header.offset(undo::Zone::Unit { index: 2 }), page * (1 + header.pages()) + 2 * header.unit);
    format!(
        "{}\n```text\n| header | table page 0 | table page 1 | ... | unit 0 | unit 1 | ...\n```\n\n\
         Header and table pages have {page} bytes each, and there are as many table pages as {} entries a page need. A unit is a power of\n\
         two from {} to {}. What of the last unit lies behind the end of the volume is zero.\n",
        fields("undo header"),
        undo::ENTRIES,
        human(u64::from(REGION_BYTES_MIN)),
        human(undo::MAX_UNIT_BYTES),
    )
}

/// Rows of 16 bytes; what repeats the row above is left out.
fn dump(bytes: &[u8]) -> String {
    let (mut text, mut last, mut skipped) = (String::new(), None, false);
    for (at, row) in bytes.chunks(16).enumerate() {
        if last == Some(row) {
            skipped = true;
            continue;
        }
        if std::mem::take(&mut skipped) {
            text += "*\n";
        }
        let hex: String = row.iter().map(|byte| format!("{byte:02x} ")).collect();
        let letters: String =
            row.iter().map(|byte| if byte.is_ascii_graphic() { *byte as char } else { '.' }).collect();
        text += &format!("{:08x}  {hex} {letters}\n", at * 16);
        last = Some(row);
    }
    text
}

fn example() -> String {
    let sample = |byte| Uuid::from_random([byte; 16]);
    let label = Label {
        sequence: 6,
        group: sample(0x11),
        volume: sample(0x22),
        plex: sample(0x33),
        volume_length: 100 * MIB,
        state: StateWord::new("ACTIVE").unwrap(),
        intent_lost: false,
        run: Generation(3),
        stop: Some(Generation(2)),
        data_generation: GenerationId(sample(0x44)),
        past: vec![GenerationId(sample(0x55))],
        config_generation: Generation(17),
        configuration: config::encode(Generation(17), &serde_json::json!({"name": "web"}))
            .unwrap()
            .into_bytes(),
    };
    let places = Places::new(label.volume_length, medium_bytes(label.volume_length)).unwrap();
    let at = places.of_sequence(label.sequence)[0];
    format!(
        "The near copy of the label numbered {} of a plex that is clean, at offset {at} of its medium; of the configuration it has only the\n\
         name. `*` stands for rows like the one above.\n\n```text\n{}```\n",
        label.sequence,
        dump(&label.encode(at))
    )
}

#[test]
fn the_page_of_the_on_disk_format_has_the_numbers_of_the_code() {
    let text = |body: String| format!("```text\n{}\n```\n", body.trim_end());
    let table_and_entry = format!("{}\n{}", fields("undo table page"), fields("undo entry"));
    let parts = [
        ("head", head()),
        ("numbers", numbers()),
        ("plex", plex()),
        ("read", read_by_hand()),
        ("label", fields("label")),
        ("directory", directory()),
        ("configuration", text(read("tests/golden/configuration.txt"))),
        ("map files", map_sizes()),
        ("map header", fields("map header")),
        ("map page", map_page()),
        ("undo header", undo_header()),
        ("undo table", table_and_entry),
        ("archive", field_rows(trailer::FIELDS)),
        ("example", example()),
    ];
    let prose = page_with("src/guide/on_disk_format.md", &parts);
    // What stands between the parts has no number that could be wrong.
    let mut rest = prose.as_str();
    let mut words = String::new();
    while let Some((before, behind)) = rest.split_once("<!--") {
        words += before;
        rest = behind.split_once("-->").unwrap().1;
    }
    words += rest;
    for word in words.split_whitespace() {
        let plain = word.replace("BLAKE3", "").replace("CRC-32C", "");
        assert!(!plain.contains(|c: char| c.is_ascii_digit()), "a number by hand: {word}");
    }
}

#[test]
fn the_administration_guide_has_the_sizes_of_the_code() {
    let map = |bits: u64| map_file::file_size(bits);
    let rows: Vec<_> = [1 << 30, 100 << 30, 1 << 40, 4 << 40, 16 << 40]
        .map(|length: u64| {
            let region = RegionSize::for_volume(length);
            vec![
                human(length),
                human(region.bytes()),
                human(map(length.div_ceil(region.bytes()))),
                human(map(length.div_ceil(EXTENT_BYTES))),
                human(UnflushedMap::bytes(length).unwrap()),
            ]
        })
        .into();
    let sizes = format!(
        "{}\nA map has a bit for each region, {PAGE_BITS} bits a page, and two times {} for each page and for its header.\n",
        table(&["volume", "region", "a change map", "the intent map", "`/run/cleave/unflushed`"], &rows),
        human(PAGE_BYTES as u64),
    );
    let limits = format!(
        "* the configuration: some KiB, {} at most, and the last {} generations of it\n\
         * for each volume its intent map\n\
         * for each snapshot two change maps, and one for each plex that is being copied or has fallen behind\n\
         * for each undo archive what it keeps, and a change map. A restore that would leave less than {} on the file system is refused\n\
         * where the group has no media of its own, its plexes: the length of the volume, rounded up to a multiple of {}, and {} for labels each\n\n\
         `cleave doctor` warns when less than {} are free there, and fails when less than {} are.\n",
        human(MAX_CONFIG_BYTES as u64),
        constant("src/catalog/mod.rs", "PAST_KEPT"),
        human(constant("src/daemon/restores.rs", "HEAD_ROOM")),
        human(MIB),
        human(medium_bytes(0)),
        human(constant("src/cli/verbs/doctor/judge.rs", "ROOM_SCARCE")),
        human(constant("src/cli/verbs/doctor/judge.rs", "ROOM_GONE")),
    );
    page_with("src/guide/administration.md", &[("state directory", limits), ("maps", sizes)]);
}
