//! Plexes that do not answer: who waits for them, how long, and what becomes of them.

use std::time::Duration;

use cleave::base::{ByteRange, Errno};
use cleave::device::{BlockDevice, OwnedBuffer, Request};
use cleave::sim::{Fault, Operation, Rule, When};
use cleave::volume::{PLEX_LIMIT, PlexDevice};

use crate::pattern::BLOCK;
use crate::site::{Standing, covered};
use crate::stage::*;

fn read(block: u64) -> Request {
    Request::Read { offset: block * BLOCK, buffer: OwnedBuffer::zeroed(BLOCK as usize).into() }
}

/// Whatever hangs: the plex is STALE before the acknowledgement, with what it did not flush, and nobody waits for it again.
#[test]
fn rule_03_a_plex_that_hangs_is_stale_before_the_acknowledgement() {
    for (seed, on) in (0..).zip([Operation::Write, Operation::Zeroes, Operation::Flush]) {
        let stage = Stage::new(100 + seed, 2, 0);
        let lost = stage.uuid(1);
        stage.submit(write(extent(2), 1, 5)).unwrap();
        stage.disk(1).add_rule(hold(on));
        let request = match on {
            Operation::Write => write(3, 1, 9),
            Operation::Zeroes => zeroes(3, 1),
            _ => Request::Flush,
        };
        let begin = stage.now();
        let outcome = stage.launch(0, request);
        stage.run_for(900);
        assert!(stage.site.book.hangs.borrow().is_empty(), "it may still be slow");
        stage.run_for(1000);
        assert!(stage.site.book.hangs.borrow().contains(&lost), "{on:?}: nobody was told");
        while outcome.get().is_none() {
            let early = stage.now().since(begin) < PLEX_LIMIT;
            assert!(
                !early || stage.site.book.standing(lost) == Standing::Active,
                "{on:?}: given up too soon"
            );
            assert!(stage.site.world.step());
        }
        assert_eq!(outcome.get(), Some(Ok(())));
        assert_eq!(stage.site.book.standing(lost), Standing::Stale, "{on:?}: acknowledged, not recorded");
        let waited = stage.now().since(begin);
        assert!(waited >= PLEX_LIMIT && waited < PLEX_LIMIT + Duration::from_secs(2), "{waited:?}");
        let route = stage.running.volume.route();
        let behind = &route.absent.iter().find(|plex| plex.uuid == lost).expect("it is tracked").behind;
        assert!(behind.is_marked(range(extent(2), 1)), "its unflushed writes count as missing");
        assert!(on == Operation::Flush || behind.is_marked(range(3, 1)), "so does the late one");
        let begin = stage.now();
        stage.submit(write(4, 1, 9)).unwrap();
        stage.submit(Request::Flush).unwrap();
        assert!(stage.now().since(begin) < Duration::from_millis(50), "the next ones do not wait");
        // It answers at last: no straggler is left, and it may be attached.
        assert!(stage.running.volume.stragglers_of(lost) > 0);
        stage.disk(1).clear_rules();
        stage.disk(1).release();
        stage.run_for(100);
        assert_eq!(stage.running.volume.stragglers(), 0);
        assert!(stage.site.book.hangs.borrow().is_empty(), "it answers again");
        stage.check_quiet();
        stage.on_running(|running, site| async move {
            assert!(running.reattach(&site, lost).await);
            running.resync_and_promote(&site, lost).await;
        });
        assert_eq!(stage.site.book.standing(lost), Standing::Active);
        stage.check_quiet();
    }
}

/// Requests that came later wait no longer than the first: once the plex is out, all that hang at it are left behind.
#[test]
fn rule_03_what_waits_for_a_plex_that_has_left_goes_on() {
    let stage = Stage::new(110, 3, 0);
    stage.disk(1).add_rule(hold(Operation::Write));
    let first = stage.launch(0, write(3, 1, 9));
    stage.run_for(PLEX_LIMIT.as_millis() as u64 - 3000);
    let second = stage.launch(1, write(extent(1), 1, 9));
    let flush = {
        stage.disk(1).add_rule(hold(Operation::Flush));
        stage.launch(2, Request::Flush)
    };
    let begin = stage.now();
    for outcome in [&first, &second, &flush] {
        stage.wait(outcome).unwrap();
    }
    assert!(stage.now().since(begin) < Duration::from_secs(7), "{:?}", stage.now().since(begin));
}

#[test]
fn rule_03_a_hanging_plex_is_waited_for_when_it_is_the_last_or_no_limit_is_set() {
    // The last one: nothing is gained by giving it up.
    let stage = Stage::new(111, 1, 0);
    stage.disk(0).add_rule(hold(Operation::Write));
    let outcome = stage.launch(0, write(3, 1, 9));
    stage.run_for(200_000);
    assert_eq!(outcome.get(), None);
    assert!(stage.site.book.hangs.borrow().contains(&stage.uuid(0)), "people are told all the same");
    stage.disk(0).clear_rules();
    stage.disk(0).release();
    stage.wait(&outcome).unwrap();
    assert_eq!(stage.site.book.standing(stage.uuid(0)), Standing::Active);

    // Both hang, as behind one controller: neither is lost for it, in a write or in a flush.
    for on in [Operation::Write, Operation::Flush] {
        let stage = Stage::new(112, 2, 0);
        (0..2).for_each(|at| stage.disk(at).add_rule(hold(on)));
        let request = if on == Operation::Flush { Request::Flush } else { write(3, 1, 9) };
        let outcome = stage.launch(0, request);
        stage.run_for(200_000);
        assert_eq!(outcome.get(), None);
        for at in 0..2 {
            stage.disk(at).clear_rules();
            stage.disk(at).release();
        }
        stage.wait(&outcome).unwrap();
        assert_eq!(stage.site.with_standing(&[Standing::Active]).len(), 2, "{on:?}");
    }

    // No limit: it is waited for.
    let stage = Stage::new(113, 2, 0);
    stage.running.volume.set_plex_limit(None);
    stage.disk(1).add_rule(hold(Operation::Write));
    let outcome = stage.launch(0, write(3, 1, 9));
    stage.run_for(200_000);
    assert_eq!(outcome.get(), None);
    stage.disk(1).clear_rules();
    stage.disk(1).release();
    stage.wait(&outcome).unwrap();
    assert_eq!(stage.site.with_standing(&[Standing::Active]).len(), 2);
}

#[test]
fn rule_03_nothing_is_acknowledged_while_the_loss_of_a_hanging_plex_is_not_recorded() {
    let stage = Stage::new(114, 2, 0);
    stage.site.book.broken.set(true);
    stage.disk(1).add_rule(hold(Operation::Write));
    assert_eq!(stage.submit(write(3, 1, 9)), Err(Errno::IO));
    assert_eq!(stage.submit(write(4, 1, 9)), Err(Errno::IO));
    stage.site.book.broken.set(false);
    stage.submit(write(5, 1, 9)).unwrap();
    assert_eq!(stage.site.book.standing(stage.uuid(1)), Standing::Stale);
}

/// A read that hangs is served by another plex within moments, and those that follow do not wait at all.
#[test]
fn rule_10_reads_of_other_plexes_are_not_held_up() {
    let stage = Stage::new(115, 2, 0);
    stage.submit(write(3, 1, 9)).unwrap();
    stage.disk(0).add_rule(hold(Operation::Read));
    let mut slow = 0;
    for _ in 0..40 {
        let begin = stage.now();
        assert_eq!(stage.read(3, 1), Ok(vec![9]));
        let took = stage.now().since(begin);
        assert!(took < Duration::from_secs(2), "{took:?}");
        slow += u32::from(took > Duration::from_millis(10));
    }
    assert_eq!(slow, 1, "only the first one waits");
    assert!(stage.site.book.hangs.borrow().contains(&stage.uuid(0)));
    assert_eq!(stage.site.book.read_failures.get(), 0, "nothing is rewritten on a plex that hangs");
    // It answers: it reads again.
    stage.disk(0).clear_rules();
    stage.disk(0).release();
    stage.run_for(10);
    let before = stage.disk(0).counters().reads;
    (0..4).for_each(|_| drop(stage.read(3, 1).unwrap()));
    assert_eq!(stage.disk(0).counters().reads, before + 2);
    // It never answers: it leaves at the limit, though no write has met it.
    stage.disk(0).add_rule(hold(Operation::Read));
    (0..2).for_each(|_| drop(stage.read(3, 1).unwrap()));
    stage.run_for(PLEX_LIMIT.as_millis() as u64 + 2000);
    assert_eq!(stage.site.book.standing(stage.uuid(0)), Standing::Stale);
}

/// The second answer goes to the memory of the request, and what comes late at the first plex harms nothing.
#[test]
fn rule_10_a_read_that_fails_and_one_that_hangs_are_served_by_the_third() {
    for seed in 0..6 {
        let stage = Stage::new(120 + seed, 3, 0);
        stage.submit(write(3, 1, 9)).unwrap();
        stage.disk(0).add_rule(hold(Operation::Read));
        stage.disk(1).add_rule(fail(Operation::Read));
        for _ in 0..6 {
            assert_eq!(stage.read(3, 1), Ok(vec![9]));
        }
        // All hang or fail: the one that hangs is waited for.
        stage.disk(2).add_rule(fail(Operation::Read));
        let outcome = stage.launch(0, read(3));
        stage.run_for(5000);
        assert_eq!(outcome.get(), None, "seed {seed}");
        stage.disk(0).clear_rules();
        stage.disk(0).release();
        stage.wait(&outcome).unwrap();
        stage.disk(0).add_rule(fail(Operation::Read));
        assert_eq!(stage.read(3, 1), Err(Errno::IO));
        assert_eq!(stage.site.with_standing(&[Standing::Active]).len(), 3, "a failed read loses nobody");
    }
}

/// A late write lands after newer ones went by: it can only meet a plex that is out.
#[test]
fn rule_06_what_lands_late_is_among_what_the_plex_lacks() {
    for seed in 0..20 {
        let stage = Stage::new(130 + seed, 2, 0);
        stage.disk(1).add_rule(Rule::new(
            Operation::Write,
            When::Nth(0),
            Fault::Hang(Duration::from_secs(40)),
        ));
        stage.submit(write(3, 1, 8)).unwrap();
        for stamp in 9..12 {
            stage.submit(write(3, 1, stamp)).unwrap();
        }
        stage.run_for(60_000);
        assert_eq!((stage.held(0, 3, 1), stage.held(1, 3, 1)), (vec![11], vec![8]));
        let route = stage.running.volume.route();
        let differences = stage.disk(0).differences(stage.disk(1), stage.site.range());
        covered(&route.absent[0].behind, &differences, "a late write").unwrap();
    }
}

/// The mover's window on a plex that hangs is given up with the plex: writes that wait for it go on.
#[test]
fn rule_07_a_window_over_a_plex_that_hangs_is_given_up_in_time() {
    let stage = Stage::new(150, 2, 1);
    let mirror = stage.uuid(2);
    stage.submit(write(0, 64, 9)).unwrap();
    stage.disk(2).add_rule(hold(Operation::Write));
    let done = stage.on_running(|running, site| async move {
        assert!(running.attach_mirror(&site, mirror, None).await);
        running.host.clone()
    });
    let (running, site) = (std::rc::Rc::clone(&stage.running), std::rc::Rc::clone(&stage.site));
    stage.site.world.spawn(async move {
        running.resync_and_promote(&site, mirror).await;
    });
    stage.run_for(100);
    drop(done);
    let outcome = stage.launch(0, write(0, 64, 10));
    stage.run_for(1000);
    assert_eq!(outcome.get(), None, "the mover holds the window");
    let begin = stage.now();
    stage.wait(&outcome).unwrap();
    assert!(stage.now().since(begin) < PLEX_LIMIT + Duration::from_secs(4));
    assert_eq!(stage.site.book.standing(mirror), Standing::Free, "an unfinished mirror goes");
    assert_eq!(stage.site.with_standing(&[Standing::Active]).len(), 2);
}

/// A single request of the mover that its plex does not answer.
#[test]
fn rule_07_a_request_of_the_mover_fails_when_its_plex_is_late() {
    for (active, expected) in [(2, Some(Err(Errno::TIMED_OUT))), (1, None)] {
        let stage = Stage::new(151, active, 0);
        stage.disk(0).add_rule(hold(Operation::Read));
        let (volume, plex) = (std::sync::Arc::clone(&stage.running.volume), stage.uuid(0));
        let (host, disk) = (stage.running.host.clone(), stage.disk(0).clone());
        let outcome = Outcome::default();
        let slot = std::rc::Rc::clone(&outcome);
        stage.site.world.spawn(async move {
            let device = PlexDevice::new(&host, volume, plex, &disk);
            slot.set(Some(device.submit(read(3)).await));
        });
        stage.run_for(PLEX_LIMIT.as_millis() as u64 * 2);
        assert_eq!(outcome.get(), expected, "{active} plexes");
        assert_eq!(stage.running.volume.route().plex(plex).is_none(), expected.is_some());
    }
}

/// The flush of a stop does not wait for ever either, and the record says who was lost by it.
#[test]
fn rule_15_a_stop_with_a_plex_that_hangs_is_a_clean_one_without_it() {
    for fault in [Fault::Hold, Fault::Error(Errno::IO)] {
        let stage = Stage::new(152, 2, 0);
        stage.submit(write(3, 1, 9)).unwrap();
        stage.disk(1).add_rule(Rule::new(Operation::Flush, When::Always, fault));
        stage.on_running(|running, _| async move { running.keeper.stop().await }).unwrap();
        assert_eq!(stage.site.book.standing(stage.uuid(1)), Standing::Stale, "{fault:?}");
        let route = stage.running.volume.route();
        assert!(route.absent[0].behind.is_marked(ByteRange::new(3 * BLOCK, BLOCK)), "{fault:?}");
    }
}
