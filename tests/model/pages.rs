//! Requests whose pages belong to somebody else, who may change them at any moment, and to whom they cannot be given back
//! before every disk that has them has answered.

use std::time::Duration;

use cleave::device::{Direction, Durability, OwnedBuffer, Request};
use cleave::sim::{Delay, Operation};

use crate::pattern::{BLOCK, bytes_of, stamps_of};
use crate::site::Standing;
use crate::stage::*;

const AT: u64 = 3;

fn lent_write(stage: &Stage, stamp: u64) -> (Request, OwnedBuffer) {
    let memory = OwnedBuffer::from_slice(&bytes_of(stamp, AT, 1));
    let pages = stage.site.world.lend(0, memory.clone(), Direction::Drain);
    let durability = Durability::Volatile;
    let buffer = cleave::device::Buffer::Registered(pages);
    (Request::Write { offset: AT * BLOCK, buffer, durability }, memory)
}

fn lent_read(stage: &Stage) -> (Request, OwnedBuffer) {
    let memory = OwnedBuffer::zeroed(BLOCK as usize);
    let pages = stage.site.world.lend(1, memory.clone(), Direction::Fill);
    (Request::Read { offset: AT * BLOCK, buffer: cleave::device::Buffer::Registered(pages) }, memory)
}

/// Write a page that changes all the time meanwhile; what each of the first `plexes` disks then holds.
fn scribbled(stage: &Stage, plexes: usize) -> Vec<Vec<u64>> {
    // Its extent is dirty already, so that nothing but the disks is waited for; and those are not equally fast.
    stage.submit(write(AT, 1, 5)).unwrap();
    for at in 0..plexes {
        stage.disk(at).set_delay(Delay::fixed(Duration::from_micros(100 + 300 * at as u64)));
    }
    let (request, page) = lent_write(stage, 7);
    let outcome = stage.launch(0, request);
    for stamp in 8.. {
        stage.site.world.run_for(Duration::from_micros(40));
        if let Some(outcome) = outcome.get() {
            outcome.unwrap();
            break;
        }
        page.fill_from(0, &bytes_of(stamp, AT, 1));
    }
    (0..plexes).map(|at| stage.held(at, AT, 1)).collect()
}

#[test]
fn pages_that_change_reach_all_plexes_alike() {
    for plexes in [2, 3] {
        let held = scribbled(&Stage::new(120, plexes, 0), plexes);
        assert!(held.windows(2).all(|two| two[0] == two[1]), "{held:?}");
    }
    // What the above would look like otherwise.
    let stage = Stage::new(121, 2, 0);
    stage.running.volume.set_shares_pages(true);
    let held = scribbled(&stage, 2);
    assert_ne!(held[0], held[1], "both were asked for the same bytes");
}

#[test]
fn pages_are_lent_to_a_plex_that_is_alone() {
    let held = scribbled(&Stage::new(122, 1, 0), 1);
    assert!(held[0][0] > 7, "it got a copy: {held:?}");
}

/// Who need not be waited for gets no page that cannot be given back without him.
#[test]
fn rule_06_pages_are_not_lent_to_a_snapshot_mirror_in_the_making() {
    let stage = Stage::new(123, 1, 1);
    stage.running.volume.set_shares_pages(true);
    let mirror = stage.uuid(1);
    stage
        .on_running(|running, site| async move { assert!(running.attach_mirror(&site, mirror, None).await) });
    let held = scribbled(&stage, 2);
    assert_eq!(held[0], held[1]);
    stage.disk(1).add_rule(hold(Operation::Write));
    let begin = stage.now();
    let outcome = stage.launch(0, lent_write(&stage, 9).0);
    stage.wait(&outcome).unwrap();
    assert!(stage.now().since(begin) < Duration::from_secs(3), "{:?}", stage.now().since(begin));
    assert_ne!(stage.site.book.standing(mirror), Standing::Mirror);
}

/// A read that may be answered by another plex is, though it brought pages of its own.
#[test]
fn rule_10_a_read_with_pages_of_its_own_leaves_a_plex_that_hangs() {
    let stage = Stage::new(124, 2, 0);
    stage.submit(write(AT, 1, 9)).unwrap();
    for at in 0..2 {
        stage.disk(at).add_rule(hold(Operation::Read));
        let begin = stage.now();
        for _ in 0..4 {
            let (request, page) = lent_read(&stage);
            stage.submit(request).unwrap();
            assert_eq!(stamps_of(AT, &page.to_vec()).unwrap(), [9]);
        }
        assert!(stage.now().since(begin) < Duration::from_secs(2), "{:?}", stage.now().since(begin));
        stage.disk(at).clear_rules();
        stage.disk(at).release();
        stage.run_for(10);
    }
    // Alone, it is waited for: with the pages themselves.
    let stage = Stage::new(125, 1, 0);
    stage.submit(write(AT, 1, 9)).unwrap();
    let (request, page) = lent_read(&stage);
    stage.submit(request).unwrap();
    assert_eq!(stamps_of(AT, &page.to_vec()).unwrap(), [9]);
}
