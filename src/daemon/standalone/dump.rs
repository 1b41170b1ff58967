//! `cleave dump`: everything that can be read of configurations, labels and maps, damaged or not, as text.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::base::limits::PAGE_BYTES;
use crate::base::units::{counted, human_bytes};
use crate::base::{Errno, Refused};
use crate::catalog::files::is_state_file;
use crate::catalog::{group_directories, look};
use crate::format::map_file::{self, MapHeader, Zone, slot_offset};
use crate::format::map_page::{self, MapPage, Place, Slot};
use crate::state::Volume;

use super::{Question, media, unreadable};

pub(super) fn dump(question: &Question, state: &Path) -> Result<String, Refused> {
    let mut out = String::new();
    if let Some(path) = &question.medium {
        labels(&mut out, path, None, "");
        return Ok(out);
    }
    for directory in group_directories(state)? {
        let texts = look::texts(&directory).map_err(|error| unreadable(&directory, &error))?;
        let best = look::best(&texts);
        let of = |name: &str| best.is_none_or(|(_, group)| group.name().as_str() == name);
        if !question.group.as_deref().is_none_or(of) {
            continue;
        }
        line(&mut out, "", &format!("group directory {}", directory.display()));
        for text in &texts {
            let what = match &text.read {
                Ok((generation, group)) => format!(
                    "generation {generation}, group {} {}, {}, {}",
                    group.name(),
                    group.uuid(),
                    counted(group.volumes().len(), "volume"),
                    counted(text.bytes.len(), "byte")
                ),
                Err(why) => format!("NOT READABLE: {why}; {}", counted(text.bytes.len(), "byte")),
            };
            line(&mut out, "  ", &format!("{}: {what}", text.name));
        }
        match texts.iter().find(|text| text.read.is_ok()) {
            Some(text) => block(&mut out, &text.name, &text.bytes),
            None => texts.iter().for_each(|text| block(&mut out, &text.name, &text.bytes)),
        }
        let wanted =
            |volume: &&Volume| question.object.as_deref().is_none_or(|name| name == volume.name().as_str());
        let volumes: Vec<&Volume> =
            best.iter().flat_map(|(_, group)| group.volumes()).filter(wanted).collect();
        for volume in &volumes {
            for plex in volume.plexes() {
                line(&mut out, "  ", &format!("plex {} of volume {}", plex.name(), volume.name()));
                labels(&mut out, plex.medium().labels().as_path(), Some(volume.length()), "    ");
            }
        }
        maps(&mut out, &directory, question.object.as_deref().and(Some(&volumes)));
    }
    if out.is_empty() {
        line(&mut out, "", &format!("{} holds no group", state.display()));
    }
    Ok(out)
}

/// One line, in which nothing can move a cursor.
fn line(out: &mut String, indent: &str, text: &str) {
    *out += indent;
    out.extend(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    out.push('\n');
}

/// The lines of a text, as far as it is one.
fn block(out: &mut String, name: &str, bytes: &[u8]) {
    line(out, "  ", &format!("text of {name}:"));
    for each in String::from_utf8_lossy(bytes).lines() {
        let clean: String = each.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        *out += &format!("    | {clean}\n");
    }
}

fn labels(out: &mut String, path: &Path, volume_length: Option<u64>, indent: &str) {
    let copies = match media::copies(path, volume_length) {
        Ok(copies) => copies,
        Err(error) => {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(5));
            return line(out, indent, &format!("medium {}: NOT READABLE: {errno}", path.display()));
        }
    };
    line(out, indent, &format!("medium {}", path.display()));
    for copy in &copies {
        let what = match &copy.read {
            Ok(label) => format!(
                "sequence {}, plex {}, volume {} of {}, {}, run {}, stop {}, data generation {}, past {}, configuration \
                 generation {}{}",
                label.sequence,
                label.plex,
                label.volume,
                human_bytes(label.volume_length),
                label.state.as_str(),
                label.run,
                label.stop.map_or_else(|| "none".to_owned(), |stop| stop.to_string()),
                label.data_generation.0,
                label.past.len(),
                label.config_generation,
                if label.intent_lost { ", intent lost" } else { "" },
            ),
            Err(why) => format!("NOT READABLE: {why}"),
        };
        line(out, indent, &format!("  label at {}: {what}", copy.at));
    }
    if copies.is_empty() {
        line(out, indent, "  no place for a label");
    }
    if volume_length.is_none()
        && let Some(label) = media::newest(&copies)
    {
        block(out, "the configuration in the newest label", &label.configuration);
    }
}

fn maps(out: &mut String, directory: &Path, only: Option<&Vec<&Volume>>) {
    let mut names: Vec<String> = match std::fs::read_dir(directory) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
        Err(error) => {
            return line(
                out,
                "  ",
                &format!("NOT READABLE: {}", Errno::from_raw(error.raw_os_error().unwrap_or(5))),
            );
        }
    };
    names.retain(|name| is_state_file(name));
    names.sort_unstable();
    for name in names {
        match map(&directory.join(&name), only) {
            Ok(Some(text)) => line(out, "  ", &format!("{name}: {text}")),
            Ok(None) => {}
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(5));
                line(out, "  ", &format!("{name}: NOT READABLE: {errno}"));
            }
        }
    }
}

/// What the map in the file `path` says; none when it is of none of the volumes that are asked for.
fn map(path: &Path, only: Option<&Vec<&Volume>>) -> std::io::Result<Option<String>> {
    let mut file = File::open(path)?;
    if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("recovery.")) {
        let mut text = String::new();
        // A count is a few bytes.
        file.take(64).read_to_string(&mut text)?;
        // What stands there may be anything.
        let told = match text.trim() {
            "1" => "1 attempt".to_owned(),
            other => format!("{other} attempts"),
        };
        return Ok(only.is_none().then(|| format!("{told} to take the volume over")));
    }
    let length = file.seek(SeekFrom::End(0))?;
    let read = |at: u64| {
        let mut bytes = vec![0; PAGE_BYTES];
        file.read_exact_at(&mut bytes, at).map(|()| bytes)
    };
    let mut heads = Vec::new();
    for slot in Slot::BOTH {
        heads.push(MapHeader::decode(&read(Zone::Header { slot }.offset())?, slot));
    }
    let told: Vec<String> = heads
        .iter()
        .map(|head| match head {
            Ok(head) => format!(
                "sequence {} run {} stop {}",
                head.sequence,
                head.run,
                head.stop.map_or_else(|| "none".to_owned(), |stop| stop.to_string())
            ),
            Err(damage) => format!("NOT READABLE: {damage}"),
        })
        .collect();
    let told = format!("{length} bytes, headers [{}]", told.join(" | "));
    let both: [Result<MapHeader, _>; 2] = match heads.try_into() {
        Ok(both) => both,
        Err(_) => unreachable!("there are two slots"),
    };
    let Ok(newest) = map_file::newest(both) else { return Ok(Some(told)) };
    let head = newest.value;
    if only.is_some_and(|only| only.iter().all(|volume| volume.uuid() != head.volume)) {
        return Ok(None);
    }
    let (mut set, mut written, mut bad) = (0u64, 0u64, 0u64);
    for index in 0..head.pages() {
        let mut slots = Vec::new();
        for slot in Slot::BOTH {
            // Past the end of a file that was cut short, nothing is known.
            let bytes = read(slot_offset(index, slot)).unwrap_or_else(|_| vec![0xff; PAGE_BYTES]);
            slots.push(MapPage::decode(&bytes, &Place { kind: head.kind, owner: head.owner, index, slot }));
        }
        let both: [Result<MapPage, _>; 2] = match slots.try_into() {
            Ok(both) => both,
            Err(_) => unreachable!("there are two slots"),
        };
        match map_page::newest(both) {
            Ok(newest) => {
                written += 1;
                set += newest.value.bits.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
            }
            Err(_) => bad += 1,
        }
    }
    let unit = human_bytes(head.granularity);
    let all = match bad {
        0 => String::new(),
        1 => ", 1 page NOT READABLE (counts as all ones)".to_owned(),
        _ => format!(", {bad} pages NOT READABLE (each counts as all ones)"),
    };
    Ok(Some(format!(
        "volume {}, {told}, {} of {unit}, {set} set in {}{all}",
        head.volume,
        counted(head.bits, "bit"),
        counted(written, "page")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::catalog::labels::label_of;
    use crate::format::label::Places;
    use crate::state::change::{MakeArgs, Site, create_group, make_volume};
    use crate::state::{Group, Ids, MediumPath, PoolMedium};

    fn question(medium: Option<&Path>) -> Question {
        Question {
            verb: "dump".to_owned(),
            object: None,
            group: None,
            medium: medium.map(Path::to_owned),
            state: None,
            socket: "/nonexistent/control".into(),
        }
    }

    /// A group of one volume with one plex file that bears one label, below `root`.
    fn group(root: &Path) -> (Group, std::path::PathBuf) {
        let ids = &mut Ids::from_seed([3; 32]);
        let path = MediumPath::new(root.to_str().unwrap()).unwrap();
        let media = [PoolMedium { path: path.clone(), block: false, name: None }];
        let group = create_group("g", &media, ids).unwrap();
        let sites = [Site::Below { directory: path, sparse: true }];
        let args = MakeArgs { name: "v", length: 4 << 20, region_size: None, sites: &sites };
        let group = make_volume(&group, &args, ids).unwrap().group;
        let (mut catalog, _) = Catalog::create(&root.join("state/g"), &group).unwrap();
        let committed = catalog.commit(&group).unwrap();
        let volume = &group.volumes()[0];
        let plex = volume.plexes()[0].medium().path.as_path().to_owned();
        std::fs::create_dir_all(plex.parent().unwrap()).unwrap();
        let file = File::create(&plex).unwrap();
        file.set_len(8 << 20).unwrap();
        let label = label_of(&group, &committed, volume, &volume.plexes()[0]);
        for at in Places::new(4 << 20, 8 << 20).unwrap().of_sequence(0) {
            file.write_all_at(&label.encode(at), at).unwrap();
        }
        (group, plex)
    }

    #[test]
    fn configuration_labels_and_maps_are_shown_and_so_is_damage() {
        let root = tempfile::tempdir().unwrap();
        let (group, plex) = group(root.path());
        let state = root.path().join("state");
        let volume = &group.volumes()[0];
        let text = dump(&question(None), &state).unwrap();
        for part in [
            "configuration: generation 2, group g",
            ", 1 volume, ",
            "configuration.00000000000000000001: generation 1",
            "plex v-01 of volume v",
            &format!("plex {}, volume {} of 4 MiB, EMPTY", volume.plexes()[0].uuid(), volume.uuid()),
            "NOT READABLE",
            "\"name\": \"v\"",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }

        // Both heads gone: what stands there is shown all the same, and the label tells the configuration.
        for name in ["configuration", "configuration.00000000000000000001"] {
            std::fs::write(state.join("g").join(name), b"gar\x1bbage\n").unwrap();
        }
        let map = state.join("g").join(crate::catalog::files::map_file_name(volume.uuid()));
        std::fs::write(&map, vec![7; 16384]).unwrap();
        let text = dump(&question(None), &state).unwrap();
        assert!(text.contains("configuration: NOT READABLE") && text.contains("| gar\u{fffd}bage"), "{text}");
        assert!(text.contains(": 16384 bytes, headers [NOT READABLE"), "{text}");
        assert!(!text.contains('\x1b'));
        let text = dump(&question(Some(&plex)), &state).unwrap();
        assert!(
            text.contains("configuration in the newest label") && text.contains("\"name\": \"v\""),
            "{text}"
        );
    }

    #[test]
    fn bits_are_counted_from_the_newer_slot() {
        use crate::base::Uuid;
        use crate::bitmap::ExtentMap;
        use crate::device::Memory;
        use crate::volume::MapFile;
        use crate::volume::map_file::MapIdentity;
        let owner = Uuid::from_random([9; 16]);
        let bits = ExtentMap::new(1 << 40);
        let identity = MapIdentity::intent(owner, &bits);
        let memory = Memory::new(identity.file_bytes(), 512);
        let file = MapFile::new(memory.clone(), identity, crate::base::Generation(4));
        let run = async {
            file.create().await.unwrap();
            for _ in 0..2 {
                (0..3).for_each(|bit| bits.bits().mark_page(bit));
                bits.set_all();
                bits.clear_all();
            }
            bits.set_all();
            let due = bits.bits().take_dirty_pages();
            file.write_pages(bits.bits(), &due).await.unwrap();
        };
        futures_util::FutureExt::now_or_never(run).expect("memory answers at once");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(crate::catalog::files::intent_file_name(owner));
        let whole = crate::base::ByteRange::new(0, identity.file_bytes());
        std::fs::write(&path, memory.peek(whole)).unwrap();
        let text = map(&path, None).unwrap().unwrap();
        let pages = map_file::page_count(identity.bits);
        assert!(text.contains(&format!("262144 bits of 4 MiB, 262144 set in {pages} pages")), "{text}");
        assert!(text.contains("run 4 stop none"), "{text}");
        // One page of it torn in both slots.
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for slot in Slot::BOTH {
            file.write_all_at(&[5; 64], slot_offset(1, slot)).unwrap();
        }
        let text = map(&path, None).unwrap().unwrap();
        assert!(text.contains("1 page NOT READABLE (counts as all ones)"), "{text}");
    }
}
