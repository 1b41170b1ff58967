//! Whole worlds in one thread: the daemon itself, its catalogue, volumes, maps, mover and snapshots on simulated disks, files
//! and devices, with clients, faults, kills and power cuts at any step; after each crash everything is held against an oracle.
//!
//! `CLEAVE_SEED=n cargo test --test worlds` runs the world of that seed alone. `CLEAVE_CRASHES=n` runs worlds until there were `n`
//! crashes, from seed `CLEAVE_SEED` on if that is given too; with `CLEAVE_RESUME=FILE` it goes on where the last run with
//! that file ended. A release build needs `--features fault-points`.

#![cfg(any(debug_assertions, feature = "fault-points"))]

mod files;
mod machine;
#[allow(dead_code, reason = "the model asks it more than the worlds do")]
#[path = "../model/oracle.rs"]
mod oracle;
#[path = "../model/pattern.rs"]
mod pattern;
mod play;
mod scenes;

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cleave::base::FaultPoint;

use play::{Play, Tally};

/// Crashes of the run inside the ordinary tests: enough that most fault points were hit. It goes on until all were.
const CRASHES: u64 = 1500;
/// What that run gives up at: a point that no crash was at by then is one that the worlds do not come by.
const PATIENCE: u64 = 8 * CRASHES;
/// Worlds between two lines, and two notes of where to go on.
const BATCH: u64 = 32;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The worlds of `seeds`, on all processors; the first violation.
fn worlds(seeds: std::ops::Range<u64>) -> Result<Tally, String> {
    let (next, total) = (AtomicU64::new(seeds.start), Mutex::new(Ok(Tally::default())));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || total.lock().unwrap().is_err() {
                return;
            }
            let played = Play::new(seed).play();
            let mut total = total.lock().unwrap();
            match (played, &mut *total) {
                (Ok(tally), Ok(total)) => total.add(&tally),
                (Err(violation), Ok(_)) => {
                    let again = format!("again: CLEAVE_SEED={seed} cargo test --test worlds -- --nocapture");
                    *total = Err(format!("seed {seed}: {violation}\n{again}"));
                }
                (_, Err(_)) => {}
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    total.into_inner().unwrap()
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let resume = std::env::var("CLEAVE_RESUME").ok();
    let wanted = number("CLEAVE_CRASHES");
    if let (Some(seed), None) = (number("CLEAVE_SEED"), wanted) {
        let tally = worlds(seed..seed + 1).unwrap_or_else(|violation| panic!("{violation}"));
        println!("the world of seed {seed}: {}", tally.line());
        return;
    }
    let (mut seed, mut total) = (number("CLEAVE_SEED").unwrap_or(1), Tally::default());
    if let Some(text) = resume.as_ref().and_then(|file| std::fs::read_to_string(file).ok()) {
        (seed, total) = Tally::parse(&text).unwrap_or_else(|| panic!("not a file of worlds: {resume:?}"));
    }
    let (began, before) = (Instant::now(), total.crashes);
    let missed = |total: &Tally| -> Vec<_> {
        let points = FaultPoint::ALL.iter();
        let points =
            points.filter(|point| !scenes::GONE_THROUGH.contains(point) && !total.points.contains_key(point));
        points.map(|point| point.name()).collect()
    };
    let goes_on = |total: &Tally| match wanted {
        Some(wanted) => total.crashes < wanted,
        None => total.crashes < CRASHES || !missed(total).is_empty() && total.crashes < PATIENCE,
    };
    while goes_on(&total) {
        let played = worlds(seed..seed + BATCH).unwrap_or_else(|violation| panic!("{violation}"));
        seed += BATCH;
        total.add(&played);
        let pace = (total.crashes - before) as f64 / began.elapsed().as_secs_f64();
        println!("worlds to seed {}: {}, {pace:.0} crashes a second", seed - 1, total.line());
        if let Some(file) = &resume {
            std::fs::write(file, total.text(seed)).expect("the file to go on from can be written");
        }
    }
    let missed = missed(&total);
    assert!(missed.is_empty(), "no crash was at: {missed:#?}");
}
