//! The mover on real files and disks, by the same rings and devices as the daemon's.
//!
//! ```text
//! mover copy SOURCE TARGET             all of SOURCE into TARGET, which is there and as long
//! mover resync SOURCE TARGET PERCENT   so much of it, in regions of 64 KiB here and there
//! mover fill FILE PERCENT              writes something into those regions of FILE
//! mover diff ONE OTHER                 compares the two
//! mover memcmp ONE OTHER               the same by one thread that reads and compares, without the mover
//! ```
//! Prints the bytes and the seconds that it took, from before the media are opened to after the target is flushed. Without
//! arguments, as the tests run it, it does each once with small files and checks what came of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use cleave::base::{ByteRange, RegionSize};
use cleave::bitmap::ChangeMap;
use cleave::device::{BlockDevice, Host, Space};
use cleave::mover::{
    ComparePlan, Control, CopyPlan, Ended, FLUSH_EVERY_BYTES, NoWindows, TargetZero, Tuning, Work, compare,
    copy,
};
use cleave::ring::{Medium, Opening, RingThread};

/// Submissions that wait for the kernel; more than the mover makes at a time.
const ENTRIES: u32 = 64;

/// Copy what `mark` marks in a map of the target's length; the bytes written.
fn copied(source: &Path, target: &Path, mark: impl FnOnce(&ChangeMap) + Send + 'static) -> u64 {
    let source = Medium::open(source, Opening::READ).expect("the source");
    let target = Medium::open(target, Opening::WRITE).expect("the target");
    let thread = RingThread::spawn("bench-mover", ENTRIES).expect("a ring");
    let report = thread.block_on(move |host| async move {
        let (source, target) = (host.open(&source), host.open(&target));
        let map = ChangeMap::new(target.geometry().length, RegionSize::DEFAULT);
        mark(&map);
        let plan = CopyPlan {
            source: &source,
            target: &target,
            windows: &NoWindows,
            map: &map,
            target_zero: TargetZero::Unknown,
            compare_first: false,
            space: Space::Keep,
            flush_every_bytes: FLUSH_EVERY_BYTES,
            target_failed: &|| false,
            tuning: Tuning::default(),
        };
        copy(plan, &Control::default(), host.clock()).await
    });
    let report = report.expect("the thread lives");
    assert_eq!(report.ended, Ended::Complete);
    report.written_bytes + report.zeroed_bytes
}

fn mark_some(percent: u64) -> impl FnOnce(&ChangeMap) + Send + 'static {
    move |map| {
        let region = map.region_size().bytes();
        let mut random = 1_u64;
        for number in 0..map.length() / region {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            if (random >> 33) % 100 < percent {
                map.mark(ByteRange::new(number * region, region));
            }
        }
    }
}

/// Write something into the regions that [`mark_some`] marks; the bytes written.
fn filled(path: &Path, percent: u64) -> u64 {
    let file = File::options().write(true).open(path).expect("the file");
    let map = ChangeMap::new(file.metadata().expect("its length").len(), RegionSize::DEFAULT);
    mark_some(percent)(&map);
    let bytes: Vec<u8> = (0..map.region_size().bytes()).map(|i| (i % 251) as u8 | 1).collect();
    for region in map.dirty_ranges().flat_map(|range| range.pieces(bytes.len() as u64)) {
        file.write_all_at(&bytes[..region.length as usize], region.offset).expect("a write");
    }
    file.sync_data().expect("a flush");
    map.dirty_bytes()
}

/// Compare the two; bytes compared, and those that differ.
fn compared(one: &Path, other: &Path) -> (u64, u64) {
    let media = [one, other].map(|path| Medium::open(path, Opening::READ).expect("a medium"));
    let thread = RingThread::spawn("bench-mover", ENTRIES).expect("a ring");
    let report = thread.block_on(move |host| async move {
        let devices = media.map(|medium| host.open(&medium));
        let plan = ComparePlan {
            devices: &devices,
            windows: &NoWindows,
            work: Work::Ranges(&[ByteRange::new(0, devices[0].geometry().length)]),
            trust_holes: false,
            mark: None,
            list_at_most: 1,
            tuning: Tuning::default(),
        };
        compare(plan, &Control::default(), host.clock()).await
    });
    let report = report.expect("the thread lives");
    assert_eq!(report.ended, Ended::Complete);
    (report.compared_bytes, report.differing_bytes)
}

fn compared_by_hand(one: &Path, other: &Path) -> (u64, u64) {
    let files = [one, other].map(|path| File::open(path).expect("a file"));
    let length = files[0].metadata().expect("its length").len();
    let mut buffers = [vec![0; 256 << 10], vec![0; 256 << 10]];
    let (mut at, mut differing) = (0, 0);
    while at < length {
        let len = (length - at).min(256 << 10) as usize;
        for (file, buffer) in files.iter().zip(&mut buffers) {
            file.read_exact_at(&mut buffer[..len], at).expect("a read");
        }
        if buffers[0][..len] != buffers[1][..len] {
            differing += len as u64;
        }
        at += len as u64;
    }
    (length, differing)
}

fn once() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let bytes: Vec<u8> = (0..4_u32 << 20).map(|i| (i % 251) as u8).collect();
    std::fs::write(path("a"), &bytes).expect("a file");
    std::fs::write(path("b"), vec![0; bytes.len()]).expect("a file");
    let differing = compared(&path("a"), &path("b")).1;
    assert!(differing > 0 && compared_by_hand(&path("a"), &path("b")).1 == bytes.len() as u64);
    let some = copied(&path("a"), &path("b"), mark_some(30));
    assert!(some > 0 && some < bytes.len() as u64, "{some}");
    assert_eq!(copied(&path("a"), &path("b"), ChangeMap::mark_all), bytes.len() as u64);
    assert_eq!(compared(&path("a"), &path("b")), (bytes.len() as u64, 0));
    assert_eq!(compared_by_hand(&path("a"), &path("b")).1, 0);
}

fn main() {
    // `cargo bench` and `cargo test` say so.
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench" && word != "--test").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let began = Instant::now();
    let bytes = match words[..] {
        [] => return once(),
        ["copy", source, target] => copied(source.as_ref(), target.as_ref(), ChangeMap::mark_all),
        ["resync", source, target, percent] => {
            let percent = percent.parse().expect("a number of per cent");
            copied(source.as_ref(), target.as_ref(), mark_some(percent))
        }
        ["fill", file, percent] => filled(file.as_ref(), percent.parse().expect("a number of per cent")),
        ["diff", one, other] => compared(one.as_ref(), other.as_ref()).0,
        ["memcmp", one, other] => compared_by_hand(one.as_ref(), other.as_ref()).0,
        _ => panic!("mover copy|resync|diff|memcmp: see the head of bench/mover.rs"),
    };
    println!("{bytes} {}", began.elapsed().as_secs_f64());
}
