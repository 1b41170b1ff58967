//! Power cuts, replayed: from the log of everything that was written to one disk and flushed there, the disk is put together as a power cut at each moment would have left it; what Cleave makes of it is judged.
//!
//! ```text
//!   powercut states LOG                        how many states a log has, and from which on there are stamps
//!   powercut slices LOG                        the slices of the disk, as NAME:START:SECTORS
//!   powercut replay LOG DIR SHARE SHARES MOST [xfs]  judges the states of one share of SHARES, MOST of all at most;
//!                                              with xfs, an XFS as well
//!   powercut image LOG STATE FILE              the disk of that state; prints what `replay` would judge it by
//!   powercut recover STATE-DIR                 what `replay` runs for each state
//! ```
//!
//! A state is the disk after each flush, and the same with some of the writes that the next flush makes durable, torn at
//! 4 KiB. State directory and plexes are slices of that disk. The slices are laid
//! below DIR under the names that they had when they were recorded, so `replay` runs as root in a mount namespace of its
//! own, with DIR, which is /mnt, in memory.
//!
//! Judged is: recovery ends, and finds every volume that had been made and every snapshot that had been told of; all complete
//! plexes are equal, byte by byte; each stamp that was acknowledged is there; a snapshot holds what its cut promised, and
//! differs from its origin only where the maps say so; a file system whose log is replayed is clean. That of XFS is replayed
//! by a kernel only, here where this one can mount an image, else in the guest alone.

mod judge;
mod log;

use std::path::Path;
use std::process::ExitCode;

use crate::judge::Judge;
use crate::log::{FileSystem, Log};

/// States in a row that are of one share: neighbours are much alike, and what one has shown is not tried again.
const NEIGHBOURS: usize = 16;

fn states(log: &str) -> Result<(), String> {
    let log = Log::open(Path::new(log))?;
    let all = log.states();
    let first = all.iter().position(|state| log.told(state).stamps.is_some());
    println!("{} {}", all.len(), first.ok_or("the log has no stamps")?);
    Ok(())
}

fn slices(log: &str) -> Result<(), String> {
    let slices = Log::open(Path::new(log))?.slices()?;
    let words =
        slices.iter().map(|slice| format!("{}:{}:{}", slice.name, slice.start / 512, slice.length / 512));
    println!("{}", words.collect::<Vec<_>>().join(" "));
    Ok(())
}

fn number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("'{word}' is no number"))
}

fn replay(log: &str, dir: &str, [share, shares, most]: [&str; 3], xfs: bool) -> Result<(), String> {
    let (share, shares, most) = (number(share)?, number(shares)?, number(most)?);
    let log = Log::open(Path::new(log))?;
    let all = log.states();
    if all.is_empty() {
        return Err("the log has no state to judge".to_owned());
    }
    let take = all.len().min(most.max(1));
    // Evenly spread when not all are wanted.
    let chosen = (0..take).map(|number| number * all.len() / take);
    let mut judge = Judge::new(&log, Path::new(dir), xfs)?;
    let (mut judged, mut torn, mut failed) = (0, 0, 0);
    let mine = |&(place, _): &(usize, usize)| place / NEIGHBOURS % shares.max(1) == share;
    for (_, number) in chosen.enumerate().filter(mine) {
        judged += 1;
        if judged % 100 == 0 {
            eprintln!("powercut: {judged} judged");
        }
        torn += usize::from(all[number].torn);
        if let Err(reason) = judge.judge(&all[number]) {
            failed += 1;
            println!("FAIL state {number}: {reason}");
        }
    }
    println!("judged {judged} torn {torn} failed {failed} of {}", all.len());
    Ok(())
}

fn image(log: &str, state: &str, file: &str) -> Result<(), String> {
    let wanted = number(state)?;
    let log = Log::open(Path::new(log))?;
    let all = log.states();
    let state = all.get(wanted).ok_or_else(|| format!("there are only {} states", all.len()))?;
    let mut disk = log::Disk::create(&log, Path::new(file))?;
    disk.advance(state.entries)?;
    if state.torn {
        disk.tear(state)?;
    }
    let told = log.told(state);
    let kind = match told.file_system {
        Some(FileSystem::Ext4) => "ext4",
        Some(FileSystem::Xfs) | None => "xfs",
    };
    println!("{kind}:{}", told.stamps.map_or(0, |stamps| stamps.floor));
    Ok(())
}

/// Runs the recovery, and tells what it found as a line of JSON for each volume.
fn recover(state: &str) -> Result<(), String> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let found = cleave::daemon::offline::recover(Path::new(state)).map_err(|refused| refused.to_string())?;
    for volume in found {
        let plexes: Vec<_> = volume
            .plexes
            .iter()
            .map(|plex| serde_json::json!({"path": plex.path, "state": plex.state.to_string()}))
            .collect();
        let snapshot = volume.snapshot.map(|snapshot| {
            let differs: Vec<_> =
                snapshot.differs.iter().map(|range| (range.offset, range.offset + range.length)).collect();
            serde_json::json!({"origin": snapshot.origin.to_string(), "differs": differs})
        });
        println!(
            "{}",
            serde_json::json!({"volume": volume.volume.to_string(), "length": volume.length, "plexes": plexes, "snapshot": snapshot})
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["states", log] => states(log),
        ["slices", log] => slices(log),
        ["replay", log, dir, share, shares, most] => replay(log, dir, [share, shares, most], false),
        ["replay", log, dir, share, shares, most, "xfs"] => replay(log, dir, [share, shares, most], true),
        ["image", log, state, file] => image(log, state, file),
        ["recover", state] => recover(state),
        _ => Err("see the head of its source for what it understands".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("powercut: {error}");
            ExitCode::FAILURE
        }
    }
}
