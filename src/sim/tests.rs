//! One test for each promise and each fault of the room.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, Clock, Durability, Geometry, Host, Moment, OwnedBuffer, Request, Space};

const BLOCK: usize = 512;
const LENGTH: u64 = 1 << 20;

fn geometry(discard_zeroes: bool) -> Geometry {
    Geometry { length: LENGTH, block_size: BLOCK as u32, memory_alignment: 512, discard_zeroes }
}

fn setup(seed: u64) -> (World, SimDisk) {
    let world = World::new(seed);
    let disk = world.disk("disk", geometry(true));
    (world, disk)
}

fn write_with(block: u64, bytes: &[u8], durability: Durability) -> Request {
    Request::Write { offset: block * BLOCK as u64, buffer: OwnedBuffer::from_slice(bytes).into(), durability }
}

fn write(block: u64, fill: &[u8]) -> Request {
    let bytes: Vec<u8> = fill.iter().flat_map(|&byte| [byte; BLOCK]).collect();
    write_with(block, &bytes, Durability::Volatile)
}

fn range(block: u64, blocks: u64) -> ByteRange {
    ByteRange::new(block * BLOCK as u64, blocks * BLOCK as u64)
}

fn submit(world: &World, disk: &SimDisk, request: Request) -> Result<(), Errno> {
    let device = world.host().open(disk);
    world.block_on(async move { device.submit(request).await }).expect("the request ends")
}

/// Leave the request in flight.
fn launch(world: &World, disk: &SimDisk, request: Request) -> Rc<Cell<Option<Result<(), Errno>>>> {
    let device = world.host().open(disk);
    let result = Rc::new(Cell::new(None));
    let slot = Rc::clone(&result);
    world.spawn(async move { slot.set(Some(device.submit(request).await)) });
    result
}

fn read(world: &World, disk: &SimDisk, block: u64, blocks: usize) -> Result<Vec<u8>, Errno> {
    let buffer = OwnedBuffer::zeroed(blocks * BLOCK);
    let request = Request::Read { offset: block * BLOCK as u64, buffer: buffer.clone().into() };
    submit(world, disk, request).map(|()| buffer.to_vec())
}

/// The fill byte of each block; a block that is not of one byte breaks block atomicity.
fn fills(bytes: &[u8]) -> Vec<u8> {
    let fill = |block: &[u8]| {
        assert!(block.iter().all(|byte| *byte == block[0]), "a torn block");
        block[0]
    };
    bytes.chunks(BLOCK).map(fill).collect()
}

fn peek_fills(disk: &SimDisk, block: u64, blocks: u64) -> Vec<u8> {
    fills(&disk.peek(range(block, blocks)))
}

#[test]
fn what_was_written_reads_back_and_zeroes_read_as_zero() {
    let (world, disk) = setup(1);
    submit(&world, &disk, write(3, &[1, 2, 3, 4])).unwrap();
    let zeroes =
        Request::WriteZeroes { range: range(4, 1), space: Space::Keep, durability: Durability::Volatile };
    submit(&world, &disk, zeroes).unwrap();
    submit(&world, &disk, Request::Discard { range: range(6, 1) }).unwrap();
    assert_eq!(fills(&read(&world, &disk, 2, 6).unwrap()), [0, 1, 0, 3, 0, 0]);
    let counters = disk.counters();
    assert_eq!((counters.writes, counters.reads, counters.zeroes, counters.discards), (1, 1, 1, 1));
    assert_eq!((counters.bytes_written, counters.bytes_read), (4 * 512, 6 * 512));
}

#[test]
fn an_impossible_request_is_invalid() {
    let (world, disk) = setup(1);
    let past = Request::Discard { range: range(LENGTH / 512, 1) };
    assert_eq!(submit(&world, &disk, past), Err(Errno::INVALID));
    let odd = Request::Discard { range: ByteRange::new(100, 512) };
    assert_eq!(submit(&world, &disk, odd), Err(Errno::INVALID));
    let askew = Request::Read { offset: 0, buffer: OwnedBuffer::zeroed(1024).slice(8, 512).into() };
    assert_eq!(submit(&world, &disk, askew), Err(Errno::INVALID));
}

#[test]
fn data_is_found_by_runs() {
    let (world, disk) = setup(2);
    submit(&world, &disk, write(8, &[1, 1])).unwrap();
    submit(&world, &disk, write(20, &[1])).unwrap();
    let device = Rc::new(world.host().open(&disk));
    let find = |from: u64| {
        let device = Rc::clone(&device);
        world.block_on(async move { device.next_data(range(from, 100 - from)).await }).unwrap().unwrap()
    };
    assert_eq!(find(0), Some(range(8, 2)));
    assert_eq!(find(9), Some(range(9, 1)));
    assert_eq!(find(10), Some(range(20, 1)));
    assert_eq!(find(21), None);
}

/// Everything that a crash left of four blocks: two flushed, then overwritten, two fresh.
fn survivors(durability: Durability) -> BTreeSet<Vec<u8>> {
    (0..400)
        .map(|seed| {
            let (world, disk) = setup(seed);
            submit(&world, &disk, write(0, &[1, 1])).unwrap();
            submit(&world, &disk, Request::Flush).unwrap();
            submit(&world, &disk, write_with(0, &[2; 4 * BLOCK], durability)).unwrap();
            disk.power_cut(&mut Rng::new(seed));
            peek_fills(&disk, 0, 4)
        })
        .collect()
}

#[test]
fn a_power_cut_keeps_what_was_flushed_and_tears_the_rest_between_blocks() {
    let left = survivors(Durability::Volatile);
    // Each block for itself is old or new: all sixteen ways, and none in which a flushed block is neither.
    assert_eq!(left.len(), 16, "{left:?}");
    assert!(left.iter().all(|fills| fills[..2].iter().all(|fill| *fill >= 1)));
}

#[test]
fn a_durable_write_survives_every_power_cut() {
    assert_eq!(survivors(Durability::Durable), BTreeSet::from([vec![2; 4]]));
}

#[test]
fn cached_writes_survive_out_of_order() {
    let mut late_without_early = false;
    let mut older_of_two = false;
    for seed in 0..200 {
        let (world, disk) = setup(seed);
        for (block, fill) in [(0, 1), (9, 2), (5, 3), (5, 4)] {
            submit(&world, &disk, write(block, &[fill])).unwrap();
        }
        disk.power_cut(&mut Rng::new(seed));
        late_without_early |= peek_fills(&disk, 0, 1) == [0] && peek_fills(&disk, 9, 1) == [2];
        older_of_two |= peek_fills(&disk, 5, 1) == [3];
    }
    assert!(late_without_early && older_of_two);
}

#[test]
fn a_flush_covers_what_completed_before_it_was_submitted_and_no_more_for_sure() {
    let mut lost = 0;
    for seed in 0..200 {
        let (world, disk) = setup(seed);
        submit(&world, &disk, write(0, &[1])).unwrap();
        let late = launch(&world, &disk, write(1, &[1]));
        world.run_steps(1);
        let flush = launch(&world, &disk, Request::Flush);
        world.run_until(|| late.get().is_some() && flush.get().is_some()).unwrap();
        disk.power_cut(&mut Rng::new(seed));
        assert_eq!(peek_fills(&disk, 0, 1), [1], "seed {seed}");
        lost += u32::from(peek_fills(&disk, 1, 1) == [0]);
    }
    assert!((20..180).contains(&lost), "{lost} of 200 lost");
}

#[test]
fn a_write_in_flight_at_a_power_cut_may_be_half_done() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let (world, disk) = setup(seed);
        disk.set_delay(Delay::fixed(Duration::from_millis(1)));
        let result = launch(&world, &disk, write(0, &[1, 1]));
        world.run_for(Duration::from_micros(500));
        assert_eq!(result.get(), None);
        world.kill();
        disk.power_cut(&mut Rng::new(seed));
        seen.insert(peek_fills(&disk, 0, 2));
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn memory_is_read_between_submission_and_completion() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let (world, disk) = setup(seed);
        disk.set_delay(Delay::fixed(Duration::from_millis(1)));
        let buffer = OwnedBuffer::from_slice(&[1; BLOCK]);
        let request =
            Request::Write { offset: 0, buffer: buffer.clone().into(), durability: Durability::Volatile };
        let result = launch(&world, &disk, request);
        world.run_for(Duration::from_micros(500));
        assert_eq!(disk.in_flight(), 1);
        buffer.fill_from(0, &[2; BLOCK]);
        world.run_until(|| result.get().is_some()).unwrap();
        seen.insert(peek_fills(&disk, 0, 1));
    }
    assert_eq!(seen, BTreeSet::from([vec![1], vec![2]]));
}

#[test]
fn requests_of_a_killed_process_still_take_effect() {
    let (world, disk) = setup(3);
    disk.set_delay(Delay::fixed(Duration::from_millis(10)));
    launch(&world, &disk, write(0, &[1]));
    launch(&world, &disk, write(1, &[2]));
    world.run_for(Duration::from_nanos(1));
    let before = world.host().open(&disk);
    world.kill();
    assert_eq!((world.live_tasks(), disk.in_flight()), (0, 2));
    // Either by themselves, in their time, or at once, when the successor has waited for them.
    let other = World::new(4);
    let copy = disk.fork(&other, "copy");
    world.run_for(Duration::from_millis(10));
    assert_eq!(peek_fills(&disk, 0, 2), [1, 2]);
    copy.settle();
    assert_eq!((peek_fills(&copy, 0, 2), copy.in_flight()), (vec![1, 2], 0));
    disk.settle();
    assert_eq!(fills(&copy.peek_durable(range(0, 2))), [0, 0], "in the cache");
    submit(&other, &copy, Request::Flush).unwrap();
    assert_eq!(fills(&copy.peek_durable(range(0, 2))), [1, 2], "completed, though nobody was told");
    let flush = world.block_on(async move { before.submit(Request::Flush).await }).unwrap();
    assert_eq!(flush, Err(Errno::GONE), "a handle from before is dead");
    assert_eq!(submit(&world, &disk, Request::Flush), Ok(()));
}

#[test]
fn a_fork_goes_its_own_way() {
    let (world, disk) = setup(5);
    submit(&world, &disk, write(0, &[1])).unwrap();
    let other = World::new(6);
    let copy = disk.fork(&other, "copy");
    submit(&other, &copy, write(0, &[9])).unwrap();
    assert_eq!((peek_fills(&disk, 0, 1), peek_fills(&copy, 0, 1)), (vec![1], vec![9]));
    submit(&other, &copy, write(5, &[9])).unwrap();
    assert_eq!(disk.differences(&copy, range(0, 8)), [0, 5 * 512]);
    assert_eq!(copy.differences(&disk, range(1, 7)), [5 * 512]);
    assert_eq!(disk.differences(&copy, range(1, 4)), [0; 0]);
}

#[test]
fn errors_come_when_and_where_they_were_ordered() {
    let (world, disk) = setup(7);
    disk.add_rule(Rule::new(Operation::Write, When::Nth(1), Fault::Error(Errno::NO_SPACE)));
    assert_eq!(submit(&world, &disk, write(0, &[1])), Ok(()));
    assert_eq!(submit(&world, &disk, write(0, &[1])), Err(Errno::NO_SPACE));
    assert_eq!(submit(&world, &disk, write(0, &[1])), Ok(()));
    assert!(disk.rules().is_empty());
    disk.add_rule(Rule::new(Operation::Read, When::Always, Fault::Error(Errno::IO)).within(range(10, 2)));
    assert!(read(&world, &disk, 8, 2).is_ok());
    assert_eq!(read(&world, &disk, 8, 3), Err(Errno::IO));
    assert_eq!(read(&world, &disk, 11, 3), Err(Errno::IO));
    disk.clear_rules();
    disk.add_rule(Rule::new(Operation::Discard, When::Chance(300_000), Fault::Error(Errno::IO)));
    let discard = || Request::Discard { range: range(0, 1) };
    let failed = (0..300).filter(|_| submit(&world, &disk, discard()).is_err()).count();
    assert!((50..130).contains(&failed), "{failed} of 300 failed");
    assert_eq!(disk.counters().errors, 3 + failed as u64);
}

#[test]
fn a_failed_write_leaves_any_mixture() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let (world, disk) = setup(seed);
        disk.add_rule(Rule::new(Operation::Write, When::Always, Fault::Error(Errno::IO)));
        submit(&world, &disk, write(0, &[1, 1])).unwrap_err();
        seen.insert(peek_fills(&disk, 0, 2));
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_failed_flush_is_final() {
    let mut lost = 0;
    for seed in 0..100 {
        let (world, disk) = setup(seed);
        submit(&world, &disk, write(0, &[1])).unwrap();
        disk.add_rule(Rule::new(Operation::Flush, When::Nth(0), Fault::Error(Errno::IO)));
        assert_eq!(submit(&world, &disk, Request::Flush), Err(Errno::IO));
        assert_eq!(submit(&world, &disk, Request::Flush), Ok(()));
        assert_eq!(peek_fills(&disk, 0, 1), [1], "it still reads back");
        disk.power_cut(&mut Rng::new(seed));
        lost += u32::from(peek_fills(&disk, 0, 1) == [0]);
        submit(&world, &disk, write(0, &[2])).unwrap();
        submit(&world, &disk, Request::Flush).unwrap();
        disk.power_cut(&mut Rng::new(seed));
        assert_eq!(peek_fills(&disk, 0, 1), [2], "a new write can be saved again");
    }
    assert!((20..90).contains(&lost), "{lost} of 100 lost");
}

#[test]
fn a_lost_write_is_acknowledged_and_nowhere() {
    let (world, disk) = setup(8);
    disk.add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Lost));
    assert_eq!(submit(&world, &disk, write(0, &[1])), Ok(()));
    assert_eq!(peek_fills(&disk, 0, 1), [0]);
    submit(&world, &disk, write(0, &[1])).unwrap();
    disk.add_rule(Rule::new(Operation::Flush, When::Nth(0), Fault::Lost));
    assert_eq!(submit(&world, &disk, Request::Flush), Ok(()));
    assert_eq!(fills(&disk.peek_durable(range(0, 1))), [0], "a flush that lies saves nothing");
}

#[test]
fn a_misdirected_write_hits_another_place() {
    let (world, disk) = setup(9);
    disk.add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Misdirected));
    submit(&world, &disk, write(7, &[5])).unwrap();
    let all = peek_fills(&disk, 0, LENGTH / BLOCK as u64);
    let hit: Vec<usize> = (0..all.len()).filter(|&block| all[block] == 5).collect();
    assert!(hit.len() == 1 && hit != [7], "{hit:?}");
}

#[test]
fn rot_flips_one_bit_for_good() {
    let (world, disk) = setup(10);
    submit(&world, &disk, write(0, &[0xff; 4])).unwrap();
    disk.add_rule(Rule::new(Operation::Read, When::Nth(0), Fault::BitRot));
    let rotten = read(&world, &disk, 0, 4).unwrap();
    assert_eq!(rotten.iter().map(|byte| byte.count_zeros()).sum::<u32>(), 1);
    assert_eq!(read(&world, &disk, 0, 4).unwrap(), rotten);
}

#[test]
fn a_hang_passes_and_a_hold_waits_for_its_release() {
    let (world, disk) = setup(11);
    disk.add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Hang(Duration::from_secs(30))));
    let hung = launch(&world, &disk, write(0, &[1]));
    world.run_for(Duration::from_secs(29));
    assert_eq!((hung.get(), peek_fills(&disk, 0, 1)), (None, vec![0]));
    world.run_for(Duration::from_secs(2));
    assert_eq!((hung.get(), peek_fills(&disk, 0, 1)), (Some(Ok(())), vec![1]));

    disk.add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Hold));
    let held = launch(&world, &disk, write(1, &[1]));
    world.run_for(Duration::from_secs(3600));
    assert_eq!((held.get(), disk.held(), peek_fills(&disk, 1, 1)), (None, 1, vec![0]));
    disk.release();
    world.run_until(|| held.get().is_some()).unwrap();
    assert_eq!((held.get(), disk.held(), peek_fills(&disk, 1, 1)), (Some(Ok(())), 0, vec![1]));
}

#[test]
fn space_runs_out_for_new_blocks_alone() {
    let (world, disk) = setup(12);
    disk.limit_space(Some(4 * 512));
    submit(&world, &disk, write(0, &[1, 2, 3])).unwrap();
    submit(&world, &disk, write(0, &[4, 4, 4, 4])).unwrap();
    assert_eq!(submit(&world, &disk, write(9, &[5])), Err(Errno::NO_SPACE));
    submit(&world, &disk, write(1, &[6])).unwrap();
}

#[test]
fn a_device_that_is_gone_fails_everything_until_it_is_back() {
    let (world, disk) = setup(13);
    submit(&world, &disk, write(0, &[1])).unwrap();
    disk.add_rule(Rule::new(Operation::Write, When::Nth(0), Fault::Hold));
    let held = launch(&world, &disk, write(1, &[1]));
    let moving = launch(&world, &disk, write(2, &[1]));
    world.run_for(Duration::from_nanos(1));
    disk.disappear();
    assert_eq!(submit(&world, &disk, Request::Flush), Err(Errno::GONE));
    world.run_until(|| held.get().is_some() && moving.get().is_some()).unwrap();
    assert_eq!((held.get(), moving.get()), (Some(Err(Errno::GONE)), Some(Err(Errno::GONE))));
    disk.reappear();
    assert_eq!(fills(&read(&world, &disk, 0, 1).unwrap()), [1]);
}

#[test]
fn a_discard_without_promise_leaves_anything() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let world = World::new(seed);
        let disk = world.disk("disk", geometry(false));
        submit(&world, &disk, write(0, &[1])).unwrap();
        submit(&world, &disk, Request::Discard { range: range(0, 1) }).unwrap();
        seen.insert(peek_fills(&disk, 0, 1)[0]);
    }
    assert!(seen.len() > 3 && seen.contains(&0) && seen.contains(&1), "{seen:?}");
}

/// Eight tasks write and read at random; what they saw, in order, with the digest of the journal.
fn busy_run(seed: u64) -> (u64, Moment, Vec<(u64, Vec<u8>)>) {
    let (world, disk) = setup(seed);
    disk.add_rule(Rule::new(Operation::Write, When::Chance(50_000), Fault::Error(Errno::IO)));
    let seen = Rc::new(RefCell::new(Vec::new()));
    for task in 0..8 {
        let (device, mut dice, clock) = (world.host().open(&disk), world.split_dice(), world.clock().clone());
        let seen = Rc::clone(&seen);
        world.spawn(async move {
            for _ in 0..50 {
                let block = dice.below(16);
                let _ = device.submit(write(block, &[dice.next_u64() as u8])).await;
                let buffer = OwnedBuffer::zeroed(BLOCK);
                let request = Request::Read { offset: block * 512, buffer: buffer.clone().into() };
                if device.submit(request).await.is_ok() {
                    seen.borrow_mut().push((task, buffer.to_vec()[..1].to_vec()));
                }
                clock.sleep(Duration::from_micros(dice.below(100))).await;
            }
        });
    }
    world.run().unwrap();
    let seen = seen.borrow().clone();
    (world.journal().digest(), world.clock().now(), seen)
}

#[test]
fn one_seed_is_one_run() {
    assert_eq!(busy_run(42), busy_run(42));
    assert_ne!(busy_run(42).0, busy_run(43).0);
}

#[test]
fn a_deadlock_is_told_with_its_seed() {
    let world = World::new(77);
    let stuck = world.block_on(std::future::pending::<()>()).unwrap_err();
    assert_eq!(stuck, Stuck::Deadlock { seed: 77, tasks: 1, at: Moment(0) });
    assert_eq!(stuck.to_string(), "seed 77: 1 tasks wait for each other after 0 ns");
}

#[test]
fn timers_that_never_end_are_a_run_too_long() {
    let world = World::new(78);
    let clock = world.clock().clone();
    world.spawn(async move {
        loop {
            clock.sleep(Duration::from_secs(1)).await;
        }
    });
    world.set_limit(Duration::from_secs(60));
    let stuck = world.block_on(std::future::pending::<()>()).unwrap_err();
    assert!(matches!(stuck, Stuck::TooLong { seed: 78, tasks: 2, .. }), "{stuck:?}");
}

#[test]
fn time_passes_only_when_nothing_is_ready() {
    let world = World::new(79);
    let clock = world.clock().clone();
    let order = Rc::new(RefCell::new(Vec::new()));
    for (millis, name) in [(20, 'b'), (10, 'a'), (30, 'c')] {
        let (clock, order) = (clock.clone(), Rc::clone(&order));
        world.spawn(async move {
            clock.sleep(Duration::from_millis(millis)).await;
            order.borrow_mut().push((name, clock.now()));
        });
    }
    world.run().unwrap();
    let expected = [('a', Moment(10_000_000)), ('b', Moment(20_000_000)), ('c', Moment(30_000_000))];
    assert_eq!(*order.borrow(), expected);
}

#[test]
fn the_journal_tells_the_order_of_things() {
    let (world, disk) = setup(80);
    disk.add_rule(Rule::new(Operation::Flush, When::Always, Fault::Error(Errno::IO)));
    submit(&world, &disk, write(2, &[1])).unwrap();
    submit(&world, &disk, Request::Flush).unwrap_err();
    let steps: Vec<(u64, Step)> =
        world.journal().events().iter().map(|event| (event.request, event.step)).collect();
    let expected = [
        (0, Step::Submitted),
        (0, Step::Effect),
        (0, Step::Completed(Ok(()))),
        (1, Step::Submitted),
        (1, Step::Faulted(Fault::Error(Errno::IO))),
        (1, Step::Effect),
        (1, Step::Completed(Err(Errno::IO))),
    ];
    assert_eq!(steps, expected);
    assert!(world.journal().to_string().contains("disk #0 Write 1024+512: Submitted"));
}
