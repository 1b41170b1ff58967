//! A writer of ever-rising numbers, and the judge of what a point-in-time copy holds of them.
//!
//! ```text
//!   stamper write TARGET OFFSET SLOTS DEPTH      writes until told otherwise
//!   stamper sync TARGET OFFSET SLOTS DEPTH PACE  the same, each write durable before it counts as acknowledged, and
//!                                                each writer at rest for PACE milliseconds behind it
//!   stamper check COPY OFFSET SLOTS LOW HIGH     judges a copy of it
//!   stamper differ A B                           counts the regions of 64 KiB in which two files differ
//!   stamper scribble HOW TARGET REGIONS SECONDS  writes from memory that is changed meanwhile: HOW is direct, past the page
//!                                                cache, buffered, or mapped
//! ```
//!
//! Number N goes to slot N modulo SLOTS, a block of 4 KiB, past the page cache, DEPTH of them in flight at once. Each
//! block carries its number and the floor: at the time it was issued all numbers below the floor were acknowledged. So
//! a copy tells by itself whether it was cut at one instant: whatever number it holds, all below that number's floor
//! must be in it. `write` obeys the lines of its standard input and answers each with a line on standard output:
//!
//! ```text
//!   state   → FLOOR NEXT    all numbers below FLOOR are acknowledged, NEXT and above are not issued
//!   pause   → FLOOR NEXT    the same with nothing in flight: FLOOR and NEXT are equal
//!   go      → FLOOR NEXT
//!   stop    → FLOOR NEXT    and ends
//! ```
//!
//! With LOW the floor and HIGH the next number as they were told just before and just after a cut, `check` finds a stamp
//! that was acknowledged before it and is missing, or one that was issued after it and is there. It prints the floor that
//! the copy vouches for, the highest number in it, and how many numbers below that one are not in it: those in flight.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

const BLOCK: usize = 4096;
const REGION: usize = 64 << 10;
/// Bytes read at once when files are compared.
const STRIDE: usize = 16 * REGION;
const MAGIC: u64 = 0x5354_414d_505f_3031;

/// What a block holds, eight-byte words: magic, number, floor, then words made of number and place to the end, so that
/// half a block of one number and half of another is seen.
fn fill(block: &mut [u8], number: u64, floor: u64) {
    for (place, word) in block.chunks_exact_mut(8).enumerate() {
        let value = match place {
            0 => MAGIC,
            1 => number,
            2 => floor,
            _ => filler(number, floor, place as u64),
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
}

const fn filler(number: u64, floor: u64, place: u64) -> u64 {
    (number ^ floor.rotate_left(32)).wrapping_add(place).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn word(block: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(block[place * 8..place * 8 + 8].try_into().expect("eight bytes are cut out"))
}

/// Number and floor of a block; `None` when it is not a whole stamp.
fn stamp(block: &[u8]) -> Option<(u64, u64)> {
    let (number, floor) = (word(block, 1), word(block, 2));
    let whole = word(block, 0) == MAGIC
        && (3..BLOCK / 8).all(|place| word(block, place) == filler(number, floor, place as u64));
    whole.then_some((number, floor))
}

#[derive(Default)]
struct Progress {
    next: u64,
    in_flight: Vec<u64>,
    paused: bool,
    stopped: bool,
}

impl Progress {
    fn floor(&self) -> u64 {
        self.in_flight.iter().copied().min().unwrap_or(self.next)
    }
}

struct Shared {
    progress: Mutex<Progress>,
    turned: Condvar,
}

/// One of DEPTH writers: takes the next number as long as its slot's former number is acknowledged.
fn writer(shared: &Shared, target: &File, offset: u64, slots: u64, pace: Duration) -> Result<(), String> {
    let mut memory = vec![0; BLOCK * 2];
    let start = memory.as_ptr().align_offset(BLOCK);
    let block = &mut memory[start..start + BLOCK];
    loop {
        let (number, floor) = {
            let mut progress = shared.progress.lock().expect("no writer panics");
            while !progress.stopped && (progress.paused || progress.next >= progress.floor() + slots) {
                progress = shared.turned.wait(progress).expect("no writer panics");
            }
            if progress.stopped {
                return Ok(());
            }
            let issued = (progress.next, progress.floor());
            progress.in_flight.push(issued.0);
            progress.next += 1;
            issued
        };
        fill(block, number, floor);
        let written = target.write_all_at(block, offset + number % slots * BLOCK as u64);
        let mut progress = shared.progress.lock().expect("no writer panics");
        progress.in_flight.retain(|other| *other != number);
        if let Err(error) = written {
            progress.stopped = true;
            shared.turned.notify_all();
            return Err(format!("write of number {number}: {error}"));
        }
        shared.turned.notify_all();
        drop(progress);
        if !pace.is_zero() {
            std::thread::sleep(pace);
        }
    }
}

fn open_direct(path: &str, options: &mut OpenOptions) -> Result<File, String> {
    open_with(path, options, OFlags::DIRECT)
}

fn open_with(path: &str, options: &mut OpenOptions, flags: OFlags) -> Result<File, String> {
    options.custom_flags(flags.bits().cast_signed()).open(path).map_err(|error| format!("{path}: {error}"))
}

fn write(target: &File, offset: u64, slots: u64, depth: u64, pace: Duration) -> Result<(), String> {
    let shared = Shared { progress: Mutex::default(), turned: Condvar::new() };
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..depth).map(|_| scope.spawn(|| writer(&shared, target, offset, slots, pace))).collect();
        for line in std::io::stdin().lock().lines() {
            let line = line.unwrap_or_else(|_| "stop".to_owned());
            let mut progress = shared.progress.lock().expect("no writer panics");
            match line.as_str() {
                "state" => {}
                "pause" => progress.paused = true,
                "go" => progress.paused = false,
                _ => progress.stopped = true,
            }
            shared.turned.notify_all();
            while progress.paused && !progress.stopped && !progress.in_flight.is_empty() {
                progress = shared.turned.wait(progress).expect("no writer panics");
            }
            println!("{} {}", progress.floor(), progress.next);
            std::io::stdout().flush().map_err(|error| error.to_string())?;
            if progress.stopped {
                break;
            }
        }
        shared.progress.lock().expect("no writer panics").stopped = true;
        shared.turned.notify_all();
        writers.into_iter().try_for_each(|writer| writer.join().expect("no writer panics"))
    })
}

/// The numbers that a copy must hold and those that it must not.
fn check(copy: &str, offset: u64, slots: u64, low: u64, high: u64) -> Result<(), String> {
    let file = File::open(copy).map_err(|error| format!("{copy}: {error}"))?;
    let mut held = Vec::new();
    let mut block = vec![0; BLOCK];
    for slot in 0..slots {
        let place = offset + slot * BLOCK as u64;
        file.read_exact_at(&mut block, place).map_err(|error| format!("{copy} at {place}: {error}"))?;
        held.push(match stamp(&block) {
            Some((number, _)) if number % slots != slot => {
                return Err(format!("slot {slot} holds number {number}, which was never written there"));
            }
            Some(found) => Some(found),
            None if block.iter().all(|byte| *byte == 0) => None,
            None => return Err(format!("slot {slot} holds half a stamp")),
        });
    }
    let floor = held.iter().flatten().map(|(_, floor)| *floor).max().unwrap_or(0);
    let highest = held.iter().flatten().map(|(number, _)| *number).max();
    if let Some(highest) = highest.filter(|highest| *highest >= high) {
        return Err(format!("number {highest} is there, though {high} was not issued before the cut ended"));
    }
    let due = floor.max(low);
    for slot in 0..slots {
        // The last number below `due` that went to this slot.
        let Some(rest) = due.checked_sub(slot + 1) else { continue };
        let wanted = rest / slots * slots + slot;
        let number = held[slot as usize].map(|(number, _)| number);
        if number.is_none_or(|number| number < wanted) {
            return Err(format!(
                "slot {slot} holds number {number:?}, but {wanted} was acknowledged before {}",
                if floor > low { "a number that is there was issued" } else { "the cut began" }
            ));
        }
    }
    let upto = highest.map_or(0, |highest| highest + 1);
    let missing = (due..upto)
        .filter(|number| held[(number % slots) as usize].is_none_or(|(found, _)| found < *number))
        .count();
    println!("{due} {upto} {missing}");
    Ok(())
}

/// Write the first `regions` of `target` over and over, one at a time, while the memory that they are written from changes.
///
/// What is written past the page cache is at last whatever stood in the memory when the device took it. What stands in the
/// page cache is written once more after its last change.
fn scribble(how: &str, target: &str, regions: u64, seconds: u64) -> Result<(), String> {
    let flags = if how == "direct" { OFlags::DIRECT } else { OFlags::empty() };
    let file = open_with(target, OpenOptions::new().read(true).write(true), flags)?;
    let length = if how == "mapped" { regions as usize * REGION } else { REGION };
    let (descriptor, sharing) = match how {
        "mapped" => (file.as_raw_fd(), libc::MAP_SHARED),
        _ => (-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS),
    };
    // SAFETY: a new mapping, at a place of the kernel's choice.
    let memory = unsafe {
        libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, sharing, descriptor, 0)
    };
    if memory == libc::MAP_FAILED {
        return Err(format!("{target}: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the mapping stays until the process ends, is aligned to a page, and is touched as atomic numbers by everybody but
    // the kernel.
    let words = unsafe { std::slice::from_raw_parts(memory as *const AtomicU64, length / 8) };
    let ended = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 1;
            while !ended.load(Ordering::Relaxed) {
                for word in words.iter().step_by(61) {
                    word.store(number, Ordering::Relaxed);
                    number += 1;
                }
            }
        });
        if how == "buffered" {
            // What is being written out is written into again meanwhile.
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) && file.sync_data().is_ok() {
                    std::hint::spin_loop();
                }
            });
        }
        let mut writes = 0_u64;
        let mut write = || {
            let at = (writes % regions * REGION as u64).cast_signed();
            let handle = file.as_raw_fd();
            // SAFETY: the memory is that long; that it changes meanwhile is what is tried, and the kernel does not mind.
            let is_done = unsafe {
                match how {
                    "mapped" => libc::msync(memory, length, libc::MS_SYNC) == 0,
                    _ => libc::pwrite(handle, memory, REGION, at) == REGION as isize,
                }
            };
            writes += 1;
            if is_done { Ok(()) } else { Err(format!("{target}: {}", std::io::Error::last_os_error())) }
        };
        let mut outcome = Ok(());
        while outcome.is_ok() && Instant::now() < until {
            outcome = write();
        }
        ended.store(true, Ordering::Relaxed);
        outcome
    })?;
    file.sync_all().map_err(|error| format!("{target}: {error}"))
}

/// Where the first data at or behind `place` begin, as far as the file can tell; none when there are none.
fn next_data(file: &File, place: u64) -> Option<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(place)) {
        Ok(data) => Some(data),
        Err(rustix::io::Errno::NXIO) => None,
        Err(_) => Some(place),
    }
}

/// Past the page cache: a mounted file system and the node it lies on do not share one. Where both have holes nothing is
/// read.
fn differ(first: &str, second: &str) -> Result<(), String> {
    let (a, b) = (
        open_direct(first, OpenOptions::new().read(true))?,
        open_direct(second, OpenOptions::new().read(true))?,
    );
    let mut memory = vec![0; 3 * STRIDE];
    let start = memory.as_ptr().align_offset(BLOCK);
    let (left, right) = memory[start..start + 2 * STRIDE].split_at_mut(STRIDE);
    let (mut count, mut place) = (0_u64, 0);
    loop {
        let data = [&a, &b].into_iter().filter_map(|file| next_data(file, place)).min();
        place = data.unwrap_or(place).max(place) / REGION as u64 * REGION as u64;
        let read = |path: &str, file: &File, region: &mut [u8]| {
            file.read_at(region, place).map_err(|error| format!("{path} at {place}: {error}"))
        };
        let lengths = match data {
            Some(_) => (read(first, &a, left)?, read(second, &b, right)?),
            None => (0, 0),
        };
        if lengths == (0, 0) {
            println!("{count}");
            return Ok(());
        }
        let (left, right) = (left[..lengths.0].chunks(REGION), right[..lengths.1].chunks(REGION));
        count += left.len().abs_diff(right.len()) as u64;
        count += left.zip(right).filter(|(left, right)| left != right).count() as u64;
        place += STRIDE as u64;
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let outcome = match (&words[..], &numbers[..]) {
        (["write", target, _, _, _], [offset, slots, depth]) => {
            open_direct(target, OpenOptions::new().write(true))
                .and_then(|target| write(&target, *offset, *slots, *depth, Duration::ZERO))
        }
        (["sync", target, _, _, _, _], [offset, slots, depth, pace]) => {
            open_with(target, OpenOptions::new().write(true), OFlags::DIRECT | OFlags::DSYNC)
                .and_then(|target| write(&target, *offset, *slots, *depth, Duration::from_millis(*pace)))
        }
        (["check", copy, _, _, _, _], [offset, slots, low, high]) => {
            check(copy, *offset, *slots, *low, *high)
        }
        (["differ", first, second], []) => differ(first, second),
        (["scribble", how @ ("direct" | "buffered" | "mapped"), target, _, _], [regions, seconds]) => {
            scribble(how, target, *regions, *seconds)
        }
        _ => Err("see the head of its source for what it understands".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stamper: {error}");
            ExitCode::FAILURE
        }
    }
}
