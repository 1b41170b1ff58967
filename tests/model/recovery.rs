//! What a crash leaves behind and how it is mended: heirs of a source that fails, how much is dirty at once, plexes that are
//! taken out while writes fail.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use cleave::base::limits::EXTENT_BYTES;
use cleave::base::{Errno, Uuid};
use cleave::device::Request;
use cleave::sim::{Delay, Operation, Rng};
use cleave::volume::Role;

use crate::pattern::{BLOCK, bytes_of};
use crate::site::{Site, Standing, covered};
use crate::stage::*;

/// Blocks far enough apart that each lies in a region of its own.
fn spots() -> impl Iterator<Item = u64> {
    (0..LENGTH / BLOCK).step_by((128 << 10) / BLOCK as usize)
}

/// End `stage` as a kill would, and start its volume again.
fn restart(stage: Stage, meddle: impl FnOnce(&Site)) -> Stage {
    let Stage { site, running } = stage;
    drop(running);
    site.crash(false);
    meddle(&site);
    let running = site.world.block_on(Rc::clone(&site).start()).unwrap();
    Stage { site, running }
}

fn seen(stage: &Stage) -> Vec<u64> {
    spots().map(|block| stage.read(block, 1).unwrap()[0]).collect()
}

/// Three plexes are made equal after a crash, the source fails half way, and then comes a second crash: what was read of the
/// heir or of the third plex in between is what is read after it.
#[test]
fn rule_14_an_heir_has_all_that_any_other_plex_has() {
    let mut halves = 0;
    for seed in 0..30 {
        let stage = Stage::new(500 + seed, 3, 0);
        (0..3).for_each(|at| stage.submit(write(extent(at), 1, 1)).unwrap());
        // Writes that were under way are on some plexes, wherever a bit is set.
        let stage = restart(stage, |site| {
            for (at, plex) in site.plexes.iter().enumerate() {
                spots().for_each(|block| plex.disk.poke(block * BLOCK, &bytes_of(10 + at as u64, block, 1)));
            }
        });
        for plex in &stage.site.plexes {
            plex.disk.set_delay(Delay { max: Duration::from_micros(900), ..Delay::default() });
        }
        let source = stage.site.book.source.get().expect("a source is recorded");
        let (running, site) = (Rc::clone(&stage.running), Rc::clone(&stage.site));
        stage.site.world.spawn(async move { running.resync_all(&site).await });
        let mut dice = Rng::new(seed);
        stage.site.world.run_for(Duration::from_micros(dice.within(2000..40_000)));
        stage.site.plex(source).disk.add_rule(fail(Operation::Write));
        let heirs: Vec<u64> = stage
            .running
            .volume
            .route()
            .plexes
            .iter()
            .filter(|plex| plex.uuid != source)
            .map(|plex| plex.behind.dirty_regions())
            .collect();
        halves += u32::from(heirs.iter().any(|left| *left > 0) && heirs.iter().any(|left| *left < 192));
        stage.submit(write(LENGTH / BLOCK - 1, 1, 2)).unwrap();
        assert_ne!(stage.site.book.source.get(), Some(source), "authority has moved");
        let before = seen(&stage);
        let stage = restart(stage, |_| ());
        assert_eq!(seen(&stage), before, "seed {seed}: what was read is not there any more");
        stage.on_running(|running, site| async move { running.resync_all(&site).await });
        assert_eq!(seen(&stage), before, "seed {seed}");
        stage.check_quiet();
    }
    assert!(halves > 10, "the source failed half way {halves} times only");
}

/// A plex is taken out while a write hangs on it: nothing waits for that write, and the record comes by itself.
#[test]
fn rule_03_taking_a_plex_out_waits_for_nothing() {
    let stage = Stage::new(530, 2, 0);
    let lost = stage.uuid(1);
    stage.submit(write(extent(2), 1, 5)).unwrap();
    stage.disk(1).add_rule(hold(Operation::Write));
    let outcome = stage.launch(0, write(3, 1, 9));
    stage.run_for(10);
    assert!(stage.running.volume.part_with(lost, Errno::GONE));
    assert!(!stage.running.volume.part_with(lost, Errno::GONE), "once is enough");
    stage.running.volume.settle();
    stage.run_for(10);
    assert_eq!(stage.site.book.standing(lost), Standing::Stale, "recorded though no other write came");
    assert!(!stage.running.volume.route().has_unrecorded());
    stage.disk(1).clear_rules();
    stage.disk(1).release();
    stage.wait(&outcome).unwrap();
    stage.submit(write(extent(1), 1, 7)).unwrap();
    let behind = &stage.running.volume.route().absent[0].behind;
    for block in [extent(2), 3, extent(1)] {
        assert!(behind.is_marked(range(block, 1)), "block {block} is not among what it lacks");
    }
    stage.check_quiet();
}

/// From before the record says that it is relied on, a flush reaches a plex that joins.
#[test]
fn rule_04_a_plex_that_joins_is_flushed_with_the_others() {
    let stage = Stage::new(531, 2, 1);
    let mirror = stage.mirror(2);
    for (role, waits) in [(Role::WriteOnly, false), (Role::Joining, true)] {
        stage.on_running(|running, _| async move { running.give_role(mirror, role).await });
        stage.disk(2).add_rule(hold(Operation::Flush));
        let outcome = stage.launch(0, Request::Flush);
        stage.run_for(100);
        assert_eq!(outcome.get().is_none(), waits, "{role:?}");
        stage.disk(2).clear_rules();
        stage.disk(2).release();
        stage.wait(&outcome).unwrap();
        // It serves no read in either role.
        let before = stage.disk(2).counters().reads;
        (0..6).for_each(|block| drop(stage.read(block, 1).unwrap()));
        assert_eq!(stage.disk(2).counters().reads, before);
    }
}

const MANY: u64 = 48;

fn wide(seed: u64) -> Stage {
    let stage = Stage::of_length(seed, 2, 0, MANY * EXTENT_BYTES);
    stage.running.volume.intent().set_cap(8);
    stage
}

/// However many extents are written, no more are dirty on the disk than shall be, and what is written all the time stays set.
#[test]
fn rule_02_no_more_extents_are_dirty_than_shall_be() {
    let stage = wide(540);
    let mut dice = Rng::new(1);
    let (mut most, mut hot) = (0, 0);
    for stamp in 1..300 {
        stage.submit(write(extent(7) + 3, 1, stamp)).unwrap();
        stage.submit(write(extent(dice.below(MANY)), 1, stamp)).unwrap();
        let durable = stage.durable_intent();
        most = most.max(durable.count());
        hot += u32::from(stage.running.volume.intent().live().covered(range(extent(7) + 3, 1)));
    }
    assert!((6..=8).contains(&most), "{most} extents were dirty at once");
    assert!(hot > 250, "the extent that is written all the time was cleared {} times", 299 - hot);
    // A bit that was cleared stood for nothing: after a power cut at any moment all that differs is covered.
    for seed in 0..30 {
        let stage = wide(550 + seed);
        for queue in 0..3 {
            let (running, mut dice) = (Rc::clone(&stage.running), Rng::new(seed * 3 + queue));
            stage.site.world.spawn(async move {
                for stamp in 1..40 {
                    let block = extent(dice.below(MANY)) + 100 * queue;
                    let queue = &running.queues[queue as usize];
                    cleave::device::BlockDevice::submit(&**queue, write(block, 1, stamp)).await.unwrap();
                }
            });
        }
        let mut dice = Rng::new(seed);
        stage.site.world.run_steps(dice.within(100..3000));
        let Stage { site, running } = stage;
        drop(running);
        site.crash(true);
        site.check_after_crash().unwrap();
    }
}

/// Requests that touch many extents each, from several queues, with fewer allowed than they want: all of them end.
#[test]
fn rule_02_a_cap_below_what_is_in_flight_holds_nobody_up() {
    let stage = wide(580);
    let ended = Rc::new(Cell::new(0));
    for queue in 0..3u64 {
        let (running, ended, mut dice) = (Rc::clone(&stage.running), Rc::clone(&ended), Rng::new(queue));
        stage.site.world.spawn(async move {
            for stamp in 1..60 {
                let first = dice.below(MANY - 6);
                let request = match dice.coin() {
                    true => write(extent(first + 1) - 4, 8, stamp),
                    false => zeroes(extent(first) + 5, extent(5)),
                };
                let queue = &running.queues[queue as usize];
                cleave::device::BlockDevice::submit(&**queue, request).await.unwrap();
                ended.set(ended.get() + 1);
            }
        });
    }
    stage.site.world.run_until(|| ended.get() == 3 * 59).unwrap();
    // While nothing may be cleared, the number is exceeded and no write waits.
    stage.running.volume.intent().pin();
    (0..MANY).for_each(|at| stage.submit(write(extent(at), 1, 99)).unwrap());
    assert_eq!(stage.running.volume.intent().durable().count(), MANY);
    stage.running.volume.intent().unpin();
    stage.submit(write(extent(0), 1, 100)).unwrap();
    stage.run_for(1000);
    assert!(stage.durable_intent().is_clean(), "and all is cleared in time");
}

/// While a plex differs or is lost and not recorded, no bit may go for another's sake.
#[test]
fn rule_02_the_cap_clears_nothing_that_is_needed() {
    let stage = wide(590);
    stage.site.book.broken.set(true);
    stage.disk(1).add_rule(fail(Operation::Write));
    for at in 0..12 {
        assert_eq!(stage.submit(write(extent(at), 1, 9)), Err(Errno::IO));
    }
    assert_eq!(stage.running.volume.intent().durable().count(), 12);
    stage.site.book.broken.set(false);
    stage.submit(write(extent(12), 1, 9)).unwrap();
    let lost: Uuid = stage.uuid(1);
    let route = stage.running.volume.route();
    let behind = &route.absent.iter().find(|plex| plex.uuid == lost).expect("tracked").behind;
    let differences = stage.disk(0).differences(stage.disk(1), stage.site.range());
    covered(behind, &differences, "a plex that was lost while bits were wanted").unwrap();
}
