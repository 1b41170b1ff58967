//! One state after the other is recovered and judged.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cleave::base::zero::is_zero;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use serde_json::Value;

use crate::log::{Disk, FileSystem, Log, Slice, State, tear};

/// Bytes that are copied or compared at once.
const STRIDE: usize = 256 << 10;
/// Seconds that a recovery may take on a very busy machine.
const RECOVERY_LIMIT: &str = "120";

/// Judges states of one log, in rising order.
pub struct Judge<'a> {
    log: &'a Log,
    dir: PathBuf,
    disk: Disk<'a>,
    slices: Vec<Slice>,
    xfs: bool,
    /// Digests of the images whose file system was found clean: most states leave a volume, and nearly all a snapshot, as an
    /// earlier one did, and what its program says follows from the bytes.
    clean: HashSet<blake3::Hash>,
}

impl<'a> Judge<'a> {
    /// Works below `dir`, which holds nothing else; judges an XFS too where `xfs` says that this kernel has it.
    pub fn new(log: &'a Log, dir: &Path, xfs: bool) -> Result<Self, String> {
        let disk = Disk::create(log, &dir.join("recorded"))?;
        Ok(Self { log, dir: dir.to_owned(), disk, slices: log.slices()?, xfs, clean: HashSet::new() })
    }

    /// Recover `state` and judge what is found.
    pub fn judge(&mut self, state: &State) -> Result<(), String> {
        self.disk.advance(state.entries)?;
        self.lay_out(state)?;
        let told = self.log.told(state);
        let volumes = self.recover()?;
        let find = |name: &str| volumes.iter().find(|volume| volume["volume"] == name);
        if told.made && find("v").is_none() {
            return Err("the volume is gone".to_owned());
        }
        if let Some(gone) = told.snapshots.iter().find(|snapshot| find(snapshot).is_none()) {
            return Err(format!("the snapshot {gone} is gone"));
        }
        for volume in &volumes {
            equal_plexes(volume)?;
            if let Some(stamps) = told.stamps {
                let name = volume["volume"].as_str().unwrap_or_default();
                let (low, high) = match name {
                    "v" => (stamps.floor, u64::MAX),
                    _ => self.log.cut(name).unwrap_or((0, u64::MAX)),
                };
                self.stamps(volume, stamps.offset, stamps.slots, low, high)?;
            }
            if let Some(origin) = volume["snapshot"]["origin"].as_str() {
                let origin = find(origin).ok_or_else(|| format!("the origin {origin} is gone"))?;
                differs_where_marked(volume, origin)?;
            }
        }
        // Last, because it writes.
        let Some(kind) = told.file_system else { return Ok(()) };
        volumes.iter().try_for_each(|volume| self.file_system(volume, kind))
    }

    /// The file system of the volume is clean once its log is replayed.
    fn file_system(&mut self, volume: &Value, kind: FileSystem) -> Result<(), String> {
        let Some(plex) = complete(volume).into_iter().next() else { return Ok(()) };
        let digest = digest(&plex, volume["length"].as_u64().ok_or("a volume has no length")?)?;
        if self.clean.contains(&digest) {
            return Ok(());
        }
        match kind {
            FileSystem::Ext4 => clean_ext4(&volume["volume"], &plex)?,
            FileSystem::Xfs if self.xfs => clean_xfs(&volume["volume"], &plex, &self.dir.join("mounted"))?,
            FileSystem::Xfs => {}
        }
        self.clean.insert(digest);
        Ok(())
    }

    /// The slices of the disk as files of their own; the one called `disk` is unpacked as the state directory.
    fn lay_out(&self, state: &State) -> Result<(), String> {
        for slice in &self.slices {
            let path = self.dir.join(&slice.name);
            let failed = |error: std::io::Error| format!("{}: {error}", path.display());
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                // Its memory is used again; what is no data now is given back below.
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            file.set_len(slice.length).map_err(failed)?;
            let mut bytes = vec![0; STRIDE];
            let mut done = slice.start;
            let limit = slice.start + slice.length;
            let ranges = data_ranges(self.disk.file(), slice.start, limit)?;
            for (start, end) in ranges.into_iter().chain([(limit, limit)]) {
                if start > done {
                    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    fallocate(&file, hole, done - slice.start, start - done)
                        .map_err(|error| failed(error.into()))?;
                }
                done = end;
                let mut place = start;
                while place < end {
                    let part = &mut bytes[..STRIDE.min(usize::try_from(end - place).unwrap_or(STRIDE))];
                    self.disk.file().read_exact_at(part, place).map_err(failed)?;
                    file.write_all_at(part, place - slice.start).map_err(failed)?;
                    place += part.len() as u64;
                }
            }
            if state.torn {
                tear(self.log, &file, state, slice.start)?;
            }
        }
        let (disk, unpacked) = (self.dir.join("disk"), self.dir.join("state"));
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked).map_err(|error| format!("{}: {error}", unpacked.display()))?;
        }
        fs::create_dir(&unpacked).map_err(|error| format!("{}: {error}", unpacked.display()))?;
        replay_ext4(&disk)?;
        let all = format!("rdump / {}", unpacked.display());
        run(Command::new("debugfs").args(["-R", &all]).arg(&disk), "debugfs", &[0]).map(drop)
    }

    fn recover(&self) -> Result<Vec<Value>, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new("timeout");
        command.args(["-k", "1", RECOVERY_LIMIT]).arg(program).arg("recover").arg(self.dir.join("state"));
        let told = run(&mut command, "the recovery", &[0])?;
        String::from_utf8_lossy(&told.stdout)
            .lines()
            .map(|line| {
                serde_json::from_str(line).map_err(|error| format!("recovery says '{line}': {error}"))
            })
            .collect()
    }

    /// Every stamp that was promised is on each complete plex.
    fn stamps(&self, volume: &Value, offset: u64, slots: u64, low: u64, high: u64) -> Result<(), String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("stamper");
        let [offset, slots, low, high] = [offset, slots, low, high].map(|number| number.to_string());
        for plex in complete(volume).iter().take(1) {
            let mut command = Command::new(&program);
            command.arg("check").arg(plex).args([&offset, &slots, &low, &high]);
            run(&mut command, &format!("stamps of {}", volume["volume"]), &[0])?;
        }
        Ok(())
    }
}

/// Run `command`, whose status must be one of `good`.
fn run(command: &mut Command, what: &str, good: &[i32]) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<_> = said.lines().rev().take(4).collect();
    Err(format!("{what}: {}: {}", output.status, last.into_iter().rev().collect::<Vec<_>>().join(" | ")))
}

fn replay_ext4(image: &Path) -> Result<(), String> {
    // 1: something was mended, which is what a replay does.
    run(Command::new("e2fsck").args(["-y", "-E", "journal_only"]).arg(image), "the journal", &[0, 1])
        .map(drop)
}

fn clean_ext4(name: &Value, image: &Path) -> Result<(), String> {
    replay_ext4(image)?;
    run(Command::new("e2fsck").arg("-fn").arg(image), &format!("e2fsck of {name}"), &[0]).map(drop)
}

/// Only a kernel replays the log of an XFS: it is mounted and unmounted once.
fn clean_xfs(name: &Value, image: &Path, point: &Path) -> Result<(), String> {
    fs::create_dir_all(point).map_err(|error| format!("{}: {error}", point.display()))?;
    // A snapshot has the identity of its origin, which another process may have mounted.
    let mut mount = Command::new("mount");
    mount.args(["-t", "xfs", "-o", "loop,nouuid"]).arg(image).arg(point);
    run(&mut mount, &format!("the mount of {name}"), &[0])?;
    run(Command::new("umount").arg(point), &format!("the unmount of {name}"), &[0])?;
    run(
        Command::new("xfs_repair").args(["-n", "-P", "-o", "bhash=64"]).arg(image),
        &format!("xfs_repair of {name}"),
        &[0],
    )
    .map(drop)
}

/// What the image holds: of each part that is not zero, where it stands and what is in it.
fn digest(image: &Path, length: u64) -> Result<blake3::Hash, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", image.display());
    let file = File::open(image).map_err(failed)?;
    let mut digest = blake3::Hasher::new();
    digest.update(&length.to_le_bytes());
    let mut bytes = vec![0; STRIDE];
    let mut done = 0;
    for (start, end) in data_ranges(&file, 0, length)? {
        let mut place = done.max(start / STRIDE as u64 * STRIDE as u64);
        while place < end {
            let part = &mut bytes[..STRIDE.min(usize::try_from(length - place).unwrap_or(STRIDE))];
            file.read_exact_at(part, place).map_err(failed)?;
            if !is_zero(part) {
                digest.update(&place.to_le_bytes()).update(part);
            }
            place += part.len() as u64;
        }
        done = done.max(place);
    }
    Ok(digest.finalize())
}

/// The images of the plexes that hold all of the volume.
fn complete(volume: &Value) -> Vec<PathBuf> {
    let plexes = volume["plexes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_complete = |plex: &&Value| matches!(plex["state"].as_str(), Some("ACTIVE" | "SNAPDONE"));
    plexes.iter().filter(is_complete).filter_map(|plex| plex["path"].as_str()).map(PathBuf::from).collect()
}

fn equal_plexes(volume: &Value) -> Result<(), String> {
    let plexes = complete(volume);
    let first = plexes.first().ok_or_else(|| format!("{} has no complete plex", volume["volume"]))?;
    let length = volume["length"].as_u64().ok_or("a volume has no length")?;
    for plex in &plexes[1..] {
        if let Some(&(start, end)) = differences(first, plex, length)?.first() {
            return Err(format!("{} and {} differ at {start}-{end}", first.display(), plex.display()));
        }
    }
    Ok(())
}

/// The snapshot and its origin are equal wherever the maps do not say otherwise.
fn differs_where_marked(snapshot: &Value, origin: &Value) -> Result<(), String> {
    let (first, second) = (complete(snapshot), complete(origin));
    let (Some(first), Some(second)) = (first.first(), second.first()) else {
        return Err("a snapshot or its origin has no complete plex".to_owned());
    };
    let length = snapshot["length"].as_u64().ok_or("a volume has no length")?;
    let marked: Vec<(u64, u64)> =
        serde_json::from_value(snapshot["snapshot"]["differs"].clone()).map_err(|error| error.to_string())?;
    for (start, end) in differences(first, second, length)? {
        // Ranges that are marked overlap, but a block lies in one region.
        if !marked.iter().any(|&(from, upto)| from <= start && end <= upto) {
            return Err(format!(
                "{} differs from its origin at {start}-{end}, which no map says",
                snapshot["volume"]
            ));
        }
    }
    Ok(())
}

/// Blocks of 4 KiB in which two images differ.
fn differences(first: &Path, second: &Path, length: u64) -> Result<Vec<(u64, u64)>, String> {
    const BLOCK: usize = 4096;
    let open = |path: &Path| File::open(path).map_err(|error| format!("{}: {error}", path.display()));
    let (a, b) = (open(first)?, open(second)?);
    let mut ranges = data_ranges(&a, 0, length)?;
    ranges.extend(data_ranges(&b, 0, length)?);
    ranges.sort_unstable();
    let (mut left, mut right) = (vec![0; STRIDE], vec![0; STRIDE]);
    let mut found = Vec::new();
    let mut done = 0;
    for (start, end) in ranges {
        let mut place = start.max(done) / BLOCK as u64 * BLOCK as u64;
        while place < end {
            let size = STRIDE.min(usize::try_from(length - place).unwrap_or(STRIDE));
            a.read_exact_at(&mut left[..size], place).map_err(|error| error.to_string())?;
            b.read_exact_at(&mut right[..size], place).map_err(|error| error.to_string())?;
            if left[..size] != right[..size] {
                let blocks = left[..size].chunks(BLOCK).zip(right[..size].chunks(BLOCK)).enumerate();
                for (number, _) in blocks.filter(|(_, (left, right))| left != right) {
                    let at = place + (number * BLOCK) as u64;
                    found.push((at, (at + BLOCK as u64).min(length)));
                }
            }
            place += size as u64;
        }
        done = done.max(place);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Where `file` has data between two bytes of it.
fn data_ranges(file: &File, from: u64, upto: u64) -> Result<Vec<(u64, u64)>, String> {
    let mut ranges = Vec::new();
    let mut place = from;
    while place < upto {
        let start = match seek(file, SeekFrom::Data(place)) {
            Ok(start) if start < upto => start,
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.to_string()),
        };
        let end = seek(file, SeekFrom::Hole(start)).map_err(|error| error.to_string())?.min(upto);
        ranges.push((start, end));
        place = end;
    }
    Ok(ranges)
}
