//! One test for each ordering rule that the data path implements: each holds, breaks or delays a disk at the point that
//! the rule is about, and fails when the rule is broken.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cleave::base::{Errno, Extent, Generation};
use cleave::device::{BlockDevice, Clock, Durability, Host, Request, Space};
use cleave::sim::{Delay, Fault, Operation, Rng, Rule, Step, When, World};
use cleave::volume::map_file::{Ending, Worth};
use cleave::volume::{CutError, Member, Role, cut};

use crate::maps;
use crate::pattern::{BLOCK, ZEROES, bytes_of, stamps_of};
use crate::site::{Standing, covered};
use crate::stage::*;

#[test]
fn rule_01_intent_before_write() {
    for request in [write(3, 4, 7), zeroes(3, 4), Request::Discard { range: range(3, 4) }] {
        let stage = Stage::new(1, 2, 0);
        stage.intent_disk().add_rule(hold(Operation::Write));
        let outcome = stage.launch(0, request.clone());
        stage.run_for(1000);
        assert_eq!(stage.intent_disk().held(), 1, "{request:?}: the intent page is on its way");
        assert_eq!(
            (stage.disk(0).in_flight(), stage.disk(1).in_flight()),
            (0, 0),
            "{request:?} did not wait"
        );
        assert_eq!(outcome.get(), None);
        stage.intent_disk().clear_rules();
        stage.intent_disk().release();
        stage.wait(&outcome).unwrap();
    }
}

/// While writes come and bits are cleared all the time, each change that a plex is handed is covered on the disk.
#[test]
fn rule_01_intent_before_write_while_bits_are_cleared() {
    let mut seen = 0;
    for seed in 0..40 {
        let stage = Stage::new(seed, 2, 0);
        let mut dice = Rng::new(seed);
        for queue in 0..3 {
            let (running, mut dice) = (Rc::clone(&stage.running), dice.split());
            stage.site.world.spawn(async move {
                for stamp in 1..12 {
                    let block = extent(dice.below(3)) + 100 * queue as u64 + dice.below(50);
                    running.queues[queue].submit(write(block, 1, stamp)).await.unwrap();
                    running.host.clock().sleep(Duration::from_micros(dice.below(1500))).await;
                }
            });
        }
        let (running, mut pause) = (Rc::clone(&stage.running), dice.split());
        stage.site.world.spawn(async move {
            for _ in 0..30 {
                running.keeper.clean().await.unwrap();
                running.host.clock().sleep(Duration::from_micros(pause.below(300))).await;
            }
        });
        let plexes = [stage.disk(0).index(), stage.disk(1).index()];
        stage.site.world.journal().keep(64);
        for _ in 0..4000 {
            stage.site.world.journal().clear();
            if !stage.site.world.step() {
                break;
            }
            for event in stage.site.world.journal().events() {
                if plexes.contains(&event.disk)
                    && event.step == Step::Submitted
                    && event.operation == Operation::Write
                {
                    seen += 1;
                    let covered = stage.durable_intent().covered(event.range);
                    assert!(covered, "seed {seed}: {} is submitted without intent on the disk", event.range);
                }
            }
        }
    }
    assert!(seen > 2000, "{seen}");
}

/// A bit that is asked for again while it is being cleared: the write that asked for it finds it on the disk.
#[test]
fn rule_01_a_bit_that_is_asked_for_again_is_not_cleared() {
    let stage = Stage::new(40, 2, 0);
    stage.submit(write(3, 1, 8)).unwrap();
    stage.disk(0).add_rule(hold(Operation::Flush));
    let running = Rc::clone(&stage.running);
    stage.site.world.spawn(async move { running.keeper.clean().await.unwrap() });
    stage.run_for(1);
    assert_eq!(stage.disk(0).held(), 1, "the cleaner flushes");
    // One page write for a bit that is new and one that is being cleared.
    stage.intent_disk().add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Hold));
    stage.disk(1).add_rule(hold(Operation::Write));
    let outcome = stage.launch(0, write(extent(1) - 4, 8, 9));
    stage.run_for(1);
    assert_eq!(stage.intent_disk().held(), 1, "the committer writes the page");
    stage.disk(0).clear_rules();
    stage.disk(0).release();
    stage.run_for(1);
    stage.intent_disk().release();
    stage.run_for(10);
    assert_eq!(stage.disk(1).held(), 1, "the write is on its way");
    let covered = stage.durable_intent().covered(range(extent(1) - 4, 8));
    assert!(covered, "a write is under way and its bit was cleared");
    stage.disk(1).clear_rules();
    stage.disk(1).release();
    stage.wait(&outcome).unwrap();
}

/// A volume that is brought to rest under writes has no bit on the disk and writes nothing, until it goes on.
#[test]
fn rule_02_at_rest_nothing_is_under_way_and_no_bit_is_set() {
    for seed in 0..20 {
        let stage = Stage::new(seed, 2, 0);
        let mut dice = Rng::new(seed);
        let ended = Rc::new(Cell::new(0));
        for queue in 0..3 {
            let (running, mut dice, ended) = (Rc::clone(&stage.running), dice.split(), Rc::clone(&ended));
            stage.site.world.spawn(async move {
                for stamp in 1..200 {
                    let block = extent(dice.below(3)) + 100 * queue as u64 + dice.below(50);
                    running.queues[queue].submit(write(block, 1, stamp)).await.unwrap();
                    running.host.clock().sleep(Duration::from_micros(dice.below(300))).await;
                }
                ended.set(ended.get() + 1);
            });
        }
        stage.run_for(5);
        assert!(!stage.durable_intent().is_clean() && ended.get() == 0, "seed {seed}: writes are under way");
        let rest = stage.on_running(|running, _| async move { running.keeper.rest().await }).unwrap();
        assert!(stage.durable_intent().is_clean(), "seed {seed}: a bit is left");
        stage.site.world.journal().keep(64);
        stage.site.world.journal().clear();
        stage.run_for(50);
        let plexes = [stage.disk(0).index(), stage.disk(1).index()];
        let events = stage.site.world.journal().events();
        assert!(events.iter().all(|event| !plexes.contains(&event.disk)), "seed {seed}: a plex is at work");
        assert!(stage.durable_intent().is_clean() && ended.get() == 0, "seed {seed}");
        drop(rest);
        stage.site.world.run_until(|| ended.get() == 3).unwrap();
    }
}

/// What must come before an extent's bit is cleared, each held back in turn.
#[test]
fn rule_02_bit_is_cleared_after_flush_and_maps() {
    let still_set = |stage: &Stage, what: &str| {
        let (running, done) = (Rc::clone(&stage.running), Rc::new(Cell::new(false)));
        let slot = Rc::clone(&done);
        stage.site.world.spawn(async move {
            let _ = running.keeper.clean().await;
            slot.set(true);
        });
        stage.run_for(1000);
        assert!(stage.durable_intent().covered(range(3, 1)), "the bit was cleared before {what}");
        done
    };
    for at in 0..3 {
        let stage = Stage::new(2, 2, 1);
        stage.mirror(2);
        stage.clean().unwrap();
        assert!(stage.durable_intent().is_clean());
        // Longer than a write waits for a mirror is not the matter here.
        stage.disk(at).add_rule(hold(Operation::Flush));
        stage.submit(write(3, 1, 9)).unwrap();
        let done = still_set(&stage, &format!("plex {at} was flushed"));
        stage.disk(at).clear_rules();
        stage.disk(at).release();
        stage.site.world.run_until(|| done.get()).unwrap();
        stage.clean().unwrap();
        assert!(stage.durable_intent().is_clean());
        assert_eq!(stage.durable(at, 3, 1), [9]);
    }
    let stage = Stage::new(3, 2, 0);
    assert!(stage.on_running(|running, site| async move { running.begin_map(&site).await }));
    let map = stage.site.marks.borrow()[0].map.clone();
    map.add_rule(hold(Operation::Write));
    stage.submit(write(3, 1, 9)).unwrap();
    let done = still_set(&stage, "the change map was durable");
    map.clear_rules();
    map.release();
    stage.site.world.run_until(|| done.get()).unwrap();
    assert!(stage.durable_intent().is_clean());

    let stage = Stage::new(4, 2, 0);
    stage.disk(1).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Hold));
    let outcome = stage.launch(0, write(3, 1, 9));
    stage.run_for(10);
    let done = still_set(&stage, "the write in flight had ended");
    stage.disk(1).release();
    stage.wait(&outcome).unwrap();
    stage.site.world.run_until(|| done.get()).unwrap();
    stage.clean().unwrap();
    assert!(stage.durable_intent().is_clean());
}

/// The cleaner does its work by itself, and not while a cut is between its swap and its commit (rule 11).
#[test]
fn rule_02_quiet_extents_are_cleared_in_time_unless_pinned() {
    let stage = Stage::new(5, 2, 0);
    stage.running.volume.intent().pin();
    stage.submit(write(3, 1, 9)).unwrap();
    stage.run_for(5000);
    assert!(stage.durable_intent().covered(range(3, 1)));
    stage.running.volume.intent().unpin();
    stage.run_for(5000);
    assert!(stage.durable_intent().is_clean());
}

#[test]
fn rule_03_acknowledged_when_on_every_active_plex() {
    for at in 0..2 {
        let stage = Stage::new(6, 2, 0);
        stage.disk(at).add_rule(hold(Operation::Write));
        let outcome = stage.launch(0, write(3, 1, 9));
        stage.run_for(10_000);
        assert_eq!(outcome.get(), None, "plex {at} does not have it");
        stage.disk(at).clear_rules();
        stage.disk(at).release();
        stage.wait(&outcome).unwrap();
        assert_eq!((stage.held(0, 3, 1), stage.held(1, 3, 1)), (vec![9], vec![9]));
    }
}

#[test]
fn rule_03_a_lost_plex_is_stale_before_the_acknowledgement() {
    for (seed, on) in (0..60).zip([Operation::Write, Operation::Zeroes, Operation::Flush].into_iter().cycle())
    {
        let stage = Stage::new(seed, 2, 0);
        let lost = stage.uuid(1);
        // Acknowledged, never flushed: what plex 1 has of it may be gone when it comes back.
        stage.submit(write(extent(2), 1, 5)).unwrap();
        stage.disk(1).add_rule(fail(on));
        let request = match on {
            Operation::Write => write(3, 1, 9),
            Operation::Zeroes => zeroes(3, 1),
            _ => Request::Flush,
        };
        let outcome = stage.launch(0, request);
        let mut early = None;
        while outcome.get().is_none() {
            assert!(stage.site.world.step());
            if early.is_none() && stage.running.volume.route().plex(lost).is_none() {
                // A write on its way while the loss is not recorded yet waits for the record too.
                early = Some(stage.launch(1, write(extent(1), 1, 6)));
            }
        }
        assert_eq!(outcome.get(), Some(Ok(())));
        assert_eq!(
            stage.site.book.standing(lost),
            Standing::Stale,
            "seed {seed}: acknowledged, not recorded"
        );
        let early = early.expect("the plex left the route");
        while early.get().is_none() {
            assert!(stage.site.world.step());
        }
        assert_eq!(stage.site.book.standing(lost), Standing::Stale);
        let route = stage.running.volume.route();
        let behind = &route.absent.iter().find(|plex| plex.uuid == lost).expect("it is tracked").behind;
        assert!(behind.is_marked(range(extent(2), 1)), "its unflushed writes count as missing");
        assert!(on == Operation::Flush || behind.is_marked(range(3, 1)), "so does the failed one");
        stage.submit(write(extent(1) + 999, 1, 7)).unwrap();
        assert!(behind.is_marked(range(extent(1) + 999, 1)), "and what comes later");
    }
}

#[test]
fn rule_03_nothing_is_acknowledged_while_a_loss_is_not_recorded() {
    let stage = Stage::new(7, 2, 0);
    stage.site.book.broken.set(true);
    stage.disk(1).add_rule(fail(Operation::Write));
    assert_eq!(stage.submit(write(3, 1, 9)), Err(Errno::IO));
    assert_eq!(
        stage.submit(write(4, 1, 9)),
        Err(Errno::IO),
        "no plex fails this one, but nobody knows of the loss"
    );
    assert_eq!(stage.site.book.standing(stage.uuid(1)), Standing::Active);
    stage.site.book.broken.set(false);
    stage.submit(write(5, 1, 9)).unwrap();
    assert_eq!(stage.site.book.standing(stage.uuid(1)), Standing::Stale);
}

#[test]
fn rule_03_the_last_active_plex_stays() {
    let stage = Stage::new(8, 1, 0);
    stage.submit(write(3, 1, 1)).unwrap();
    stage.disk(0).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Error(Errno::IO)));
    assert_eq!(stage.submit(write(3, 1, 9)), Err(Errno::IO));
    assert_eq!(stage.site.book.standing(stage.uuid(0)), Standing::Active);
    assert_eq!(stage.site.book.last_plex_failures.get(), 1);
    stage.submit(write(3, 1, 10)).unwrap();
    assert_eq!(stage.read(3, 1), Ok(vec![10]));
    // Both fail the same write: one of them stays.
    let stage = Stage::new(8, 2, 0);
    stage.disk(0).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Error(Errno::IO)));
    stage.disk(1).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Error(Errno::IO)));
    assert_eq!(stage.submit(write(3, 1, 9)), Err(Errno::IO));
    assert_eq!(stage.site.with_standing(&[Standing::Active]).len(), 1);
    stage.submit(write(3, 1, 10)).unwrap();
    assert_eq!(stage.read(3, 1), Ok(vec![10]));
}

/// When both plexes of a volume that is being made equal fail a write, the one stays that lacks nothing.
#[test]
fn rule_03_of_the_last_two_plexes_the_one_stays_that_lacks_nothing() {
    let mut sources = BTreeSet::new();
    for seed in 50..62 {
        let (stage, source) = crashed_pair(seed);
        sources.insert(source);
        for at in 0..2 {
            stage.disk(at).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Error(Errno::IO)));
        }
        assert_eq!(stage.submit(write(extent(2), 1, 5)), Err(Errno::IO));
        assert_eq!(stage.site.with_standing(&[Standing::Active]), [stage.uuid(source)], "seed {seed}");
        assert_eq!(stage.read(3, 1), Ok(vec![2]), "seed {seed}: what was read before the failure");
        stage.check_quiet();
    }
    assert_eq!(sources.len(), 2, "either plex was the source");
}

#[test]
fn rule_03_invalid_is_our_fault_and_no_plex_is_lost() {
    let stage = Stage::new(9, 2, 0);
    stage.disk(1).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Error(Errno::INVALID)));
    assert_eq!(stage.submit(write(3, 1, 9)), Err(Errno::INVALID));
    assert_eq!(stage.site.with_standing(&[Standing::Active]).len(), 2);
    let seen: BTreeSet<_> = (0..6).map(|_| stage.read(3, 1).unwrap()).collect();
    assert_eq!(seen.len(), 1, "what may differ is read from one plex: {seen:?}");
    stage.check_quiet();
}

#[test]
fn rule_04_flush_is_acknowledged_when_every_active_plex_is_flushed() {
    for at in 0..3 {
        let stage = Stage::new(10, 3, 0);
        stage.submit(write(3, 1, 9)).unwrap();
        stage.disk(at).add_rule(hold(Operation::Flush));
        let outcome = stage.launch(1, Request::Flush);
        stage.run_for(10);
        assert_eq!(outcome.get(), None, "plex {at} is not flushed");
        stage.disk(at).clear_rules();
        stage.disk(at).release();
        stage.wait(&outcome).unwrap();
        assert!(
            (0..3).all(|plex| stage.durable(plex, 3, 1) == [9]),
            "a flush on one queue covers the others"
        );
    }
    // Each flush that is acknowledged was one of every plex, counted.
    let stage = Stage::new(11, 3, 0);
    let before: Vec<u64> = (0..3).map(|plex| stage.disk(plex).counters().flushes).collect();
    for _ in 0..10 {
        stage.submit(Request::Flush).unwrap();
    }
    assert!((0..3).all(|plex| stage.disk(plex).counters().flushes >= before[plex] + 10));
}

#[test]
fn rule_04_a_durable_write_is_durable_on_every_active_plex() {
    let stage = Stage::new(12, 3, 0);
    stage.submit(write_with(3, 2, 9, Durability::Durable)).unwrap();
    assert!((0..3).all(|plex| stage.durable(plex, 3, 2) == [9, 9]));
    let space = Space::Keep;
    stage
        .submit(Request::WriteZeroes { range: range(3, 1), space, durability: Durability::Durable })
        .unwrap();
    assert!((0..3).all(|plex| stage.durable(plex, 3, 2) == [ZEROES, 9]));
}

/// A flush that failed, whoever asked for it, is never made good by a later one (B7).
#[test]
fn rule_04_a_failed_flush_is_final_also_on_the_last_plex() {
    let mut lost = 0;
    for seed in 0..40 {
        let stage = Stage::new(seed, 1, 0);
        stage.submit(write(3, 1, 9)).unwrap();
        stage.disk(0).add_rule(Rule::new(Operation::Flush, When::Nth(0), Fault::Error(Errno::IO)));
        // The keeper's own flush, of which no application hears.
        assert!(stage.clean().is_err());
        let told = stage.submit(Request::Flush);
        let kept = stage.durable(0, 3, 1) == [9];
        assert!(
            told.is_err() || kept,
            "seed {seed}: the flush was acknowledged, and the write is not durable"
        );
        lost += u32::from(!kept);
    }
    assert!(lost > 0, "the disk never gave a write up");
}

/// While a plex whose flush failed is not recorded as lost, no other flush is acknowledged: after a crash that plex could
/// be believed, and it has given up what the others saved.
#[test]
fn rule_04_no_flush_is_acknowledged_while_a_failed_one_is_not_dealt_with() {
    for seed in 0..40 {
        let stage = Stage::new(seed, 2, 0);
        stage.submit(write(3, 1, 9)).unwrap();
        stage.disk(0).add_rule(Rule::new(Operation::Flush, When::Nth(0), Fault::Error(Errno::IO)));
        stage.disk(1).add_rule(Rule::new(Operation::Flush, When::Nth(0), Fault::Hold));
        // By turns the flush of an application, and the keeper's own.
        if seed % 2 == 0 {
            let _ = stage.launch(0, Request::Flush);
        } else {
            let running = Rc::clone(&stage.running);
            stage.site.world.spawn(async move {
                let _ = running.keeper.clean().await;
            });
        }
        let mut dice = Rng::new(seed);
        stage.site.world.run_for(Duration::from_micros(100 + dice.below(1000)));
        let second = stage.launch(1, Request::Flush);
        let late = stage.now().after(Duration::from_millis(5));
        // The crash comes with the acknowledgement, which the record of the loss must have come before.
        stage.site.world.run_until(|| second.get().is_some() || stage.now() > late).unwrap();
        let acknowledged = second.get() == Some(Ok(()));
        let Stage { site, running } = stage;
        drop(running);
        site.crash(true);
        for plex in site.plexes.iter().filter(|plex| site.book.standing(plex.uuid) == Standing::Active) {
            let held = stamps_of(3, &plex.disk.peek(range(3, 1))).unwrap();
            assert!(
                !acknowledged || held == [9],
                "seed {seed}: an ACTIVE plex lacks a write that was flushed"
            );
        }
    }
}

#[test]
fn rule_05_marked_in_every_change_map_before_it_is_submitted() {
    for request in [write(3, 1, 9), zeroes(3, 1), Request::Discard { range: range(3, 1) }] {
        let stage = Stage::new(13, 2, 0);
        for _ in 0..2 {
            assert!(stage.on_running(|running, site| async move { running.begin_map(&site).await }));
        }
        let outcome = stage.launch(0, request.clone());
        while stage.disk(0).in_flight() + stage.disk(1).in_flight() == 0 {
            assert!(stage.site.world.step());
        }
        let marks = stage.running.marks.borrow();
        assert!(
            marks.iter().all(|map| map.is_marked(range(3, 1))),
            "{request:?} is under way and not marked"
        );
        stage.wait(&outcome).unwrap();
    }
}

#[test]
fn rule_05_after_a_crash_each_map_covers_what_changed() {
    for seed in 0..30 {
        let stage = Stage::new(seed, 2, 0);
        stage.submit(write(3, 1, 8)).unwrap();
        assert!(stage.on_running(|running, site| async move { running.begin_map(&site).await }));
        let outcome = stage.launch(0, write(3, 1, 9));
        let mut dice = Rng::new(seed);
        stage.site.world.run_steps(dice.below(40));
        drop(outcome);
        let Stage { site, running } = stage;
        drop(running);
        site.crash(true);
        site.check_after_crash().unwrap();
    }
}

#[test]
fn rule_06_a_write_only_plex_serves_no_read() {
    let stage = Stage::new(14, 2, 1);
    stage.mirror(2);
    let before = stage.disk(2).counters().reads;
    stage.submit(write(3, 4, 9)).unwrap();
    for block in 0..40 {
        stage.read(block, 1).unwrap();
    }
    assert_eq!(stage.disk(2).counters().reads, before);
    assert_eq!(stage.held(2, 3, 4), [9; 4], "and gets every write");
}

#[test]
fn rule_06_a_late_mirror_is_left_behind_and_an_erring_one_leaves() {
    for fault in [Fault::Hold, Fault::Error(Errno::NO_SPACE), Fault::Error(Errno::IO)] {
        for (in_step, expected) in [(true, Standing::StaleMirror), (false, Standing::Free)] {
            let stage = Stage::new(15, 2, 1);
            let uuid = stage.uuid(2);
            if in_step {
                stage.mirror(2);
            } else {
                assert!(stage.on_running(|running, site| async move {
                    running.attach_mirror(&site, site.plexes[2].uuid, None).await
                }));
            }
            stage.disk(2).add_rule(Rule::new(Operation::Write, When::Always, fault));
            let begin = stage.now();
            stage.submit(write(3, 1, 9)).unwrap();
            let waited = stage.now().since(begin);
            assert!(waited < Duration::from_secs(3), "{fault:?}: the origin waited {waited:?}");
            assert!(fault != Fault::Hold || waited > Duration::from_secs(1), "it waits up to the limit");
            assert_eq!(stage.site.book.standing(uuid), expected);
            // The next one does not wait at all.
            let begin = stage.now();
            stage.submit(write(4, 1, 9)).unwrap();
            assert!(stage.now().since(begin) < Duration::from_millis(50));
            assert_eq!(stage.site.with_standing(&[Standing::Active]).len(), 2);
            assert_eq!(stage.running.volume.stragglers(), u32::from(fault == Fault::Hold));
            stage.disk(2).clear_rules();
            stage.disk(2).release();
            stage.run_for(100);
            assert_eq!(stage.running.volume.stragglers(), 0);
            stage.check_quiet();
        }
    }
}

#[test]
fn rule_07_writes_wait_for_the_window_and_all_else_runs_on() {
    let stage = Stage::new(16, 2, 0);
    let window = stage.on_running(|running, _| async move { running.volume.window(range(100, 100)).await });
    let inside = stage.launch(0, write(150, 1, 1));
    let astride = stage.launch(1, write(96, 8, 2));
    // Tasks begin in any order.
    stage.run_for(1);
    let behind = stage.launch(2, zeroes(90, 8));
    stage.run_for(1000);
    assert_eq!((inside.get(), astride.get()), (None, None));
    assert_eq!(behind.get(), None, "it stands in line behind the one that overlaps it");
    stage.submit(write(200, 1, 3)).unwrap();
    stage.submit(Request::Flush).unwrap();
    assert_eq!(stage.read(100, 1), Ok(vec![ZEROES]));
    drop(window);
    for outcome in [&inside, &astride, &behind] {
        stage.wait(outcome).unwrap();
    }
    assert_eq!(stage.held(0, 90, 14), [[ZEROES; 8].to_vec(), [2; 6].to_vec()].concat());
    stage.check_quiet();
}

#[test]
fn rule_07_the_window_waits_for_writes_in_flight() {
    let stage = Stage::new(17, 2, 0);
    stage.disk(1).add_rule(hold(Operation::Write));
    let outcome = stage.launch(0, write(100, 1, 1));
    stage.run_for(100);
    let (running, claimed) = (Rc::clone(&stage.running), Rc::new(Cell::new(false)));
    let slot = Rc::clone(&claimed);
    stage.site.world.spawn(async move {
        let _window = running.volume.window(range(64, 64)).await;
        slot.set(true);
    });
    stage.run_for(100);
    assert!(!claimed.get());
    stage.disk(1).clear_rules();
    stage.disk(1).release();
    stage.wait(&outcome).unwrap();
    stage.run_for(1);
    assert!(claimed.get());
}

#[test]
fn rule_08_overlapping_writes_have_one_winner_on_all_plexes() {
    let mut winners = BTreeSet::new();
    for seed in 0..150 {
        let stage = Stage::new(seed, 3, 0);
        for plex in 0..3 {
            stage.disk(plex).set_delay(Delay::default());
        }
        let outcomes = [
            stage.launch(0, write(10, 8, 1)),
            stage.launch(1, write(14, 8, 2)),
            stage.launch(2, zeroes(12, 4)),
            stage.launch(1, Request::Discard { range: range(16, 4) }),
        ];
        for outcome in &outcomes {
            stage.wait(outcome).unwrap();
        }
        let held = stage.held(0, 10, 12);
        assert!((1..3).all(|plex| stage.held(plex, 10, 12) == held), "seed {seed}");
        winners.insert(held);
    }
    assert!(winners.len() > 3, "the order is not always the same");
}

#[test]
fn rule_09_after_a_discard_all_plexes_read_the_same() {
    for seed in 0..40 {
        // Each disk has its own way with discards, drawn from the seed.
        let stage = Stage::new(seed, 3, 0);
        stage.submit(write(0, 64, 9)).unwrap();
        stage.submit(Request::Discard { range: range(5, 37) }).unwrap();
        stage.submit(zeroes(50, 3)).unwrap();
        for plex in 1..3 {
            assert_eq!(stage.disk(0).differences(stage.disk(plex), range(0, 64)), [0; 0], "seed {seed}");
        }
        assert_eq!(stage.held(0, 5, 37), [ZEROES; 37]);
        assert_eq!(stage.held(0, 49, 5), [9, 0, 0, 0, 9]);
    }
}

#[test]
fn rule_10_a_failed_read_is_served_by_another_plex_and_repairs_nothing_by_itself() {
    let stage = Stage::new(18, 2, 0);
    stage.submit(write(3, 4, 9)).unwrap();
    stage.disk(0).add_rule(fail(Operation::Read).within(range(4, 1)));
    let before = (stage.disk(0).counters().writes, stage.disk(1).counters().writes);
    for _ in 0..4 {
        assert_eq!(stage.read(3, 4), Ok(vec![9; 4]));
    }
    stage.run_for(100);
    assert_eq!((stage.disk(0).counters().writes, stage.disk(1).counters().writes), before);
    assert!(stage.site.book.read_failures.get() > 0, "it was told");
    assert_eq!(stage.site.with_standing(&[Standing::Active]).len(), 2);
    stage.disk(1).add_rule(fail(Operation::Read));
    assert_eq!(stage.read(3, 4), Err(Errno::IO));
}

#[test]
fn rule_11_no_write_is_half_on_either_side_of_a_cut() {
    let stage = Stage::new(19, 2, 1);
    let mirror = stage.mirror(2);
    stage.disk(1).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Hold));
    let early = stage.launch(0, write(10, 8, 1));
    stage.run_for(100);
    let (running, site) = (Rc::clone(&stage.running), Rc::clone(&stage.site));
    let done = Rc::new(Cell::new(None));
    let slot = Rc::clone(&done);
    stage.site.world.spawn(async move {
        let cut = running.cut(&site, mirror, |origin, snapshot| {
            assert_eq!(origin.differences(snapshot, range(0, LENGTH / BLOCK)), [0; 0]);
        });
        slot.set(Some(cut.await));
    });
    stage.run_for(100);
    assert_eq!(done.get(), None, "it waits for what is in flight");
    let late = stage.launch(1, write(20, 8, 2));
    stage.run_for(100);
    assert_eq!((early.get(), late.get()), (None, None), "what comes under the hold waits");
    stage.disk(1).release();
    stage.site.world.run_until(|| done.get().is_some()).unwrap();
    assert_eq!(done.get(), Some(true));
    stage.wait(&early).unwrap();
    stage.wait(&late).unwrap();
    stage.submit(write(30, 1, 3)).unwrap();
    assert_eq!((stage.held(2, 10, 8), stage.held(2, 20, 11)), (vec![1; 8], vec![ZEROES; 11]));
    assert_eq!(stage.durable(2, 10, 8), [1; 8], "the detached plex is flushed before the commit");
    let map = Arc::clone(&stage.running.marks.borrow()[0]);
    let differences = stage.disk(0).differences(stage.disk(2), stage.site.range());
    assert!(!differences.is_empty());
    covered(&map, &differences, "what the new map has collected").unwrap();
}

#[test]
fn rule_11_a_cut_backs_out_at_its_limit_and_changes_nothing() {
    let stage = Stage::new(20, 2, 0);
    stage.disk(1).add_rule(hold(Operation::Write));
    let early = stage.launch(0, write(10, 8, 1));
    stage.run_for(10);
    let outcome = Rc::new(Cell::new(None));
    let (volume, slot) = (Arc::clone(&stage.running.volume), Rc::clone(&outcome));
    let clock = stage.site.world.clock().clone();
    let before = stage.running.volume.route().version;
    stage.site.world.spawn(async move {
        let member = Member { volume, swap: Box::new(|_| unreachable!("nothing is swapped")) };
        slot.set(Some(cut::swap(&clock, vec![member], Duration::from_millis(50)).await));
    });
    stage.run_for(10);
    stage.disk(1).clear_rules();
    // Parked under the hold, it goes on when the hold ends, though the first one still hangs.
    let late = stage.launch(1, write(1000, 1, 2));
    let begin = stage.now();
    stage.wait(&late).unwrap();
    assert!(stage.now().since(begin) < Duration::from_millis(100));
    assert!(matches!(outcome.get(), Some(Err(CutError::TimedOut(_)))), "{:?}", outcome.get());
    assert_eq!(stage.running.volume.route().version, before);
    stage.disk(1).release();
    stage.wait(&early).unwrap();
}

#[test]
fn rule_11_a_cut_without_commit_is_rolled_back_and_resynced() {
    for seed in 0..30 {
        let stage = Stage::new(seed, 2, 1);
        let mirror = stage.mirror(2);
        stage.clean().unwrap();
        // The flush of the detached plex hangs, so that the commit does not come.
        stage.disk(2).add_rule(hold(Operation::Flush));
        let (running, site) = (Rc::clone(&stage.running), Rc::clone(&stage.site));
        stage.site.world.spawn(async move {
            let _ = running.cut(&site, mirror, |_, _| ()).await;
        });
        stage.run_for(100);
        assert!(stage.running.volume.route().plex(mirror).is_none(), "swapped");
        stage.submit(write(10, 8, 1)).unwrap();
        stage.submit(Request::Flush).unwrap();
        let _ = stage.launch(0, Request::Flush);
        // Long enough that the cleaner would have cleared the bits of what the mirror misses.
        stage.run_for(2000);
        let Stage { site, running } = stage;
        drop(running);
        site.crash(seed % 2 == 0);
        assert_eq!(site.book.standing(mirror), Standing::Mirror);
        site.check_after_crash().unwrap();
    }
}

#[test]
fn rule_13_a_region_counts_as_copied_when_the_target_is_flushed() {
    let stage = Stage::new(21, 2, 1);
    stage.submit(write(3, 200, 9)).unwrap();
    let uuid = stage.uuid(2);
    stage.disk(2).add_rule(hold(Operation::Flush));
    let (running, site) = (Rc::clone(&stage.running), Rc::clone(&stage.site));
    stage.site.world.spawn(async move {
        assert!(running.attach_mirror(&site, uuid, None).await);
        running.resync_and_promote(&site, uuid).await;
    });
    stage.run_for(1000);
    let route = stage.running.volume.route();
    let behind = &route.plex(uuid).expect("it is in the path").behind;
    assert_eq!(stage.held(2, 3, 200), [9; 200], "it is copied");
    assert_eq!(behind.dirty_bytes(), LENGTH, "and not flushed, so nothing is settled");
    assert_eq!(stage.site.book.standing(uuid), Standing::Attaching);
    stage.disk(2).clear_rules();
    stage.disk(2).release();
    stage.run_for(1000);
    assert!(behind.is_clean());
    assert_eq!(stage.site.book.standing(uuid), Standing::Mirror);
}

#[test]
fn rule_14_what_may_differ_is_read_from_the_source_alone() {
    let (stage, source) = crashed_pair(22);
    let expected = 2;
    for _ in 0..10 {
        assert_eq!(stage.read(3, 1), Ok(vec![expected]));
    }
    let wide = stage.read(0, 9000).unwrap();
    assert_eq!(wide[3], expected, "also in a read over more than one extent");
    let other = stage.uuid(1 - source);
    stage.on_running(|running, site| async move { running.resync_and_promote(&site, other).await });
    assert_eq!((stage.held(0, 3, 1), stage.held(1, 3, 1)), (vec![expected], vec![expected]));
    stage.check_quiet();
}

/// A volume after a crash, whose plexes differ in block 3: 2 on the source, 1 on the other.
fn crashed_pair(seed: u64) -> (Stage, usize) {
    let stage = Stage::new(seed, 2, 0);
    stage.submit(write(3, 1, 1)).unwrap();
    stage.submit(Request::Flush).unwrap();
    stage.disk(1).add_rule(hold(Operation::Write));
    let _ = stage.launch(0, write(3, 1, 2));
    stage.run_for(10);
    let Stage { site, running } = stage;
    drop(running);
    site.crash(false);
    site.plexes[0].disk.poke(3 * BLOCK, &bytes_of(2, 3, 1));
    site.plexes[1].disk.poke(3 * BLOCK, &bytes_of(1, 3, 1));
    site.check_after_crash().unwrap();
    let running = site.world.block_on(Rc::clone(&site).start()).unwrap();
    let stage = Stage { site, running };
    let source = usize::from(stage.site.book.source.get() != Some(stage.uuid(0)));
    stage.site.plexes[source].disk.poke(3 * BLOCK, &bytes_of(2, 3, 1));
    stage.site.plexes[1 - source].disk.poke(3 * BLOCK, &bytes_of(1, 3, 1));
    (stage, source)
}

#[test]
fn rule_14_authority_moves_durably_before_the_heir_is_read() {
    for (seed, on) in [(30, Operation::Write), (31, Operation::Read)] {
        let (stage, source) = crashed_pair(seed);
        let (heir, book) = (stage.uuid(1 - source), &stage.site.book);
        assert_eq!(stage.read(3, 1), Ok(vec![2]));
        book.broken.set(true);
        stage.disk(source).add_rule(fail(on));
        if on == Operation::Write {
            assert_eq!(stage.submit(write(extent(2), 1, 5)), Err(Errno::IO));
        }
        for _ in 0..3 {
            assert_eq!(stage.read(3, 1), Err(Errno::IO), "nobody may be believed yet");
        }
        assert_eq!(book.source.get(), Some(stage.uuid(source)));
        book.broken.set(false);
        assert_eq!(stage.read(3, 1), Ok(vec![1]), "a read waits for the record by itself");
        assert_eq!(book.source.get(), Some(heir));
        assert_eq!(book.standing(stage.uuid(source)), Standing::Stale);
        stage.disk(1 - source).add_rule(fail(Operation::Read).within(range(3, 1)));
        assert_eq!(stage.read(3, 1), Err(Errno::IO), "the last one is never lost");
        assert_eq!(book.standing(heir), Standing::Active);
    }
}

#[test]
fn rule_02_no_bit_is_cleared_while_a_plex_in_step_differs() {
    let stage = Stage::new(32, 2, 0);
    stage.disk(1).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Error(Errno::INVALID)));
    assert_eq!(stage.submit(write(3, 1, 9)), Err(Errno::INVALID));
    let clean = |stage: &Stage| {
        stage.on_running(|running, _| async move { running.keeper.clean().await.unwrap() });
        !stage.running.volume.intent().durable().covered(range(3, 1))
    };
    assert!(!clean(&stage), "after a crash nobody would know of it");
    let other = stage.uuid(1);
    stage.on_running(|running, site| async move { running.resync_and_promote(&site, other).await });
    assert!(clean(&stage));
    stage.check_quiet();
}

/// Which stored maps are believed after which ending.
#[test]
fn rule_15_a_map_is_believed_by_its_run_or_stop() {
    let stage = Stage::new(23, 1, 0);
    let shape = stage.site.shape;
    let identity = maps::change_identity(&shape, stage.uuid(0));
    let (run, stop) = (Generation(5), Generation(3));
    // How the run of the map ended: by a stop, or not; and a page that was lost after it.
    for (stopped, ending_run, before, ending_stop, clean, page_lost, expected) in [
        (true, 5, None, 3, true, false, Worth::Exact),
        (true, 5, None, 3, true, true, Worth::Nothing),
        (true, 6, None, 3, false, false, Worth::WithIntent),
        (true, 6, None, 4, false, false, Worth::Nothing),
        (true, 6, None, 4, true, false, Worth::Nothing),
        (false, 5, None, 0, false, false, Worth::WithIntent),
        (false, 5, None, 3, true, false, Worth::Nothing),
        (false, 6, None, 3, false, false, Worth::Nothing),
        (false, 6, Some(5), 3, false, false, Worth::WithIntent),
        (false, 8, Some(4), 3, false, false, Worth::WithIntent),
        (false, 8, Some(6), 3, false, false, Worth::Nothing),
    ] {
        let disk = maps::disk(&stage.site.world, "map", &identity);
        let (host, on) = (stage.site.world.host(), disk.clone());
        let write = async move {
            let file = maps::create(host, &on, identity, run).await;
            let map = maps::change_map(&shape);
            map.mark(range(3, 1));
            file.write_pages(map.bits(), &map.bits().take_dirty_pages()).await.unwrap();
            if stopped {
                file.end_run(map.bits(), stop).await.unwrap();
            }
        };
        stage.site.world.block_on(write).unwrap();
        if page_lost {
            disk.poke(2 * 4096, &[0; 2 * 4096]);
        }
        let (run, stop) = (Generation(ending_run), Generation(ending_stop));
        let ending = Ending { run, before: before.map(Generation), stop, clean };
        let (host, owner) = (stage.site.world.host(), stage.uuid(0));
        let load = async move { maps::load_change(host, &disk, &shape, owner, ending, Generation(9)).await };
        let (map, _, worth) = stage.site.world.block_on(load).unwrap();
        let case = format!("stopped {stopped}, ending {ending:?}, page lost {page_lost}");
        assert_eq!(worth, expected, "{case}");
        let marked = if worth == Worth::Nothing { LENGTH } else { shape.region_size.bytes() };
        assert_eq!(map.dirty_bytes(), marked, "{case}");
    }
}

/// A page whose write a killed daemon left under way: once it was loaded, a power cut does not take it back.
#[test]
fn rule_15_what_a_start_has_loaded_stays() {
    let mut loaded = 0;
    for seed in 0..60 {
        let world = World::new(seed);
        let shape = Stage::new(1, 1, 0).site.shape;
        let identity = maps::change_identity(&shape, shape.uuid);
        let disk = maps::disk(&world, "map", &identity);
        let (host, on) = (world.host(), disk.clone());
        let run = Generation(5);
        let file = world.block_on(async move { maps::create(host, &on, identity, run).await }).unwrap();
        let map = maps::change_map(&shape);
        map.mark(range(3, 1));
        world.spawn(async move {
            let _ = file.write_pages(map.bits(), &[0]).await;
        });
        world.run_for(Duration::from_micros(10));
        world.kill();
        disk.settle();
        let mut bytes = Vec::new();
        for run in [run, run.next()] {
            let ending = Ending { run, before: None, stop: Generation(0), clean: false };
            let (host, on) = (world.host(), disk.clone());
            let load =
                async move { maps::load_change(host, &on, &shape, shape.uuid, ending, run.next()).await };
            bytes.push(world.block_on(load).unwrap().0.dirty_bytes());
            disk.power_cut(&mut Rng::new(seed));
        }
        assert_eq!(bytes[0], bytes[1], "seed {seed}: the map was believed, and was not durable");
        loaded += u32::from(bytes[0] == shape.region_size.bytes());
    }
    assert!(loaded > 10, "{loaded}");
}

/// A map that was not believed counts as all ones, also when the start that found so was cut off at any moment.
#[test]
fn rule_15_a_header_vouches_for_no_page_that_is_not_written() {
    let (mut begun, mut not) = (0, 0);
    for seed in 0..200 {
        let world = World::new(seed);
        let shape = Stage::new(1, 1, 0).site.shape;
        let identity = maps::change_identity(&shape, shape.uuid);
        let disk = maps::disk(&world, "map", &identity);
        let (host, on) = (world.host(), disk.clone());
        let older = async move {
            let (file, map) =
                (maps::create(host, &on, identity, Generation(5)).await, maps::change_map(&shape));
            for _ in 0..4 {
                file.write_pages(map.bits(), &[0]).await.unwrap();
            }
        };
        world.block_on(older).unwrap();
        let load = |run: u64| {
            let (host, on) = (world.host(), disk.clone());
            let ending = Ending { run: Generation(run), before: None, stop: Generation(0), clean: false };
            async move { maps::load_change(host, &on, &shape, shape.uuid, ending, Generation(run + 1)).await }
        };
        // Of a run that nobody knows of; the start after it is the run 8.
        let cut_off = load(7);
        world.spawn(async move { drop(cut_off.await) });
        world.run_for(Duration::from_micros(seed * 5));
        world.kill();
        disk.power_cut(&mut Rng::new(seed));
        let (map, _, worth) = world.block_on(load(8)).unwrap();
        assert_eq!(map.dirty_bytes(), LENGTH, "seed {seed}: {worth:?}");
        *(if worth == Worth::WithIntent { &mut begun } else { &mut not }) += 1;
    }
    assert!(begun > 10 && not > 10, "{begun} {not}");
}

#[test]
fn rule_15_a_stop_leaves_everything_flushed_and_no_intent() {
    let stage = Stage::new(24, 2, 1);
    stage.mirror(2);
    assert!(stage.on_running(|running, site| async move { running.begin_map(&site).await }));
    for at in 0..3 {
        stage.submit(write(extent(at) + 5, 1, 9)).unwrap();
    }
    stage.on_running(|running, _| async move { running.keeper.stop().await }).unwrap();
    let Stage { site, running } = stage;
    drop(running);
    site.crash(true);
    assert!(site.stored_intent().is_clean());
    for plex in &site.plexes[1..] {
        assert_eq!(site.plexes[0].disk.differences(&plex.disk, site.range()), [0; 0]);
    }
    site.check_after_crash().unwrap();
}

#[test]
fn rule_18_io_goes_on_with_all_bits_set_when_intent_cannot_be_written() {
    let stage = Stage::new(25, 2, 0);
    stage.intent_disk().add_rule(fail(Operation::Write));
    stage.submit(write(3, 1, 9)).unwrap();
    assert!(stage.site.book.intent_lost.get(), "recorded before the write goes on");
    assert!(stage.running.volume.intent().durable().extents().eq((0..3).map(Extent)), "all count as set");
    stage.submit(write(extent(2), 1, 9)).unwrap();
    stage.run_for(5000);
    assert_eq!(stage.running.volume.intent().durable().count(), 3, "and none is cleared");
    let Stage { site, running } = stage;
    drop(running);
    site.crash(true);
    site.check_after_crash().unwrap();
}

#[test]
fn rule_18_a_write_fails_when_the_loss_of_intent_cannot_be_recorded_either() {
    let stage = Stage::new(26, 2, 0);
    stage.intent_disk().add_rule(fail(Operation::Write));
    stage.site.book.broken.set(true);
    assert_eq!(stage.submit(write(3, 1, 9)), Err(Errno::IO));
    assert_eq!(
        (stage.held(0, 3, 1), stage.held(1, 3, 1)),
        (vec![ZEROES], vec![ZEROES]),
        "and was not submitted"
    );
    assert_eq!(stage.read(3, 1), Ok(vec![ZEROES]), "reads go on");
    stage.intent_disk().clear_rules();
    stage.submit(write(3, 1, 9)).unwrap();
}

/// A mirror that took a write which the volume itself failed is not taken for its equal (promise 2).
#[test]
fn a_failed_write_leaves_no_mirror_that_differs_unknown() {
    for seed in 0..20 {
        let stage = Stage::new(seed, 1, 1);
        stage.mirror(1);
        stage.disk(0).add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Error(Errno::IO)));
        assert_eq!(stage.submit(write(10, 8, 1)), Err(Errno::IO));
        stage.run_for(100);
        let route = stage.running.volume.route();
        let differences = stage.disk(0).differences(stage.disk(1), stage.site.range());
        match route.plex(stage.uuid(1)) {
            Some(plex) => covered(&plex.behind, &differences, "a mirror in the path").unwrap(),
            None => {
                let absent = route.absent.iter().find(|plex| plex.uuid == stage.uuid(1)).expect("tracked");
                covered(&absent.behind, &differences, "a mirror that left").unwrap();
            }
        }
    }
}

/// The role of the plexes on a fresh stage, so that the tests above test what they say.
#[test]
fn the_stage_is_set() {
    let stage = Stage::new(27, 2, 1);
    stage.mirror(2);
    let roles: Vec<_> = stage.running.volume.route().plexes.iter().map(|plex| plex.role).collect();
    assert_eq!(roles, [Role::ReadWrite, Role::ReadWrite, Role::WriteOnly]);
}
