//! The mover against disks that dawdle and fail, with writes that race.

use proptest::prelude::*;
use std::cell::Cell;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::testing::{Dice, Disk, Faults, Table, TestClock, run};
use super::*;
use crate::base::{ByteRange, Errno, RegionSize};
use crate::bitmap::ChangeMap;
use crate::device::{BlockDevice, Buffer, Clock, Durability, Memory, Moment, OwnedBuffer, Request, Space};
use futures_util::FutureExt;

const REGION: u64 = 16 << 10;
/// 40 regions and a short one.
const LENGTH: u64 = 40 * REGION + 1536;

fn tuning() -> Tuning {
    Tuning::new(4, 64 << 10)
}

fn map(region: u64) -> ChangeMap {
    ChangeMap::new(LENGTH, RegionSize::new(u32::try_from(region).unwrap()).unwrap())
}

/// A volume's worth of pages: data, with zero pages between.
fn content(dice: &Dice) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH as usize];
    let mut zero = false;
    for (i, page) in bytes.chunks_mut(4096).enumerate() {
        zero = if i % 16 == 0 { dice.roll(3) == 0 } else { zero ^ (dice.roll(12) == 0) };
        if !zero {
            let seed = dice.roll(255) as u8 + 1;
            page.iter_mut().enumerate().for_each(|(i, byte)| *byte = seed.wrapping_add(i as u8) | 1);
        }
    }
    bytes
}

type Others<'a> = Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>;

fn plan<'a, D, W>(source: &'a D, target: &'a D, windows: &'a W, map: &'a ChangeMap) -> CopyPlan<'a, D, D, W> {
    CopyPlan {
        source,
        target,
        windows,
        map,
        target_zero: TargetZero::Unknown,
        compare_first: false,
        space: Space::Keep,
        flush_every_bytes: 128 << 10,
        target_failed: &|| false,
        tuning: tuning(),
    }
}

/// On a file in memory the end of a run of data is looked for page by page.
#[test]
fn where_a_run_of_data_ends_is_asked_once() {
    const BYTES: usize = 4 << 20;
    let dice = Dice::new(9);
    let mut bytes = vec![1; BYTES];
    bytes[BYTES / 2..][..64 << 10].fill(0);
    let (source, target) = (Disk::new(bytes.clone(), &dice), Disk::new(vec![2; BYTES], &dice));
    let map = ChangeMap::new(BYTES as u64, RegionSize::DEFAULT);
    map.mark_all();
    let (control, clock) = (Control::default(), TestClock::default());
    let report =
        run(&dice, copy(plan(&source, &target, &NoWindows, &map), &control, &clock), Vec::new(), |_| ());
    assert_eq!(report.ended, Ended::Complete);
    assert!(*target.bytes.borrow() == bytes);
    // Each slot may ask before the first has its answer; of two runs and a hole.
    let pieces = BYTES / tuning().chunk_bytes();
    let most = 3 * tuning().slots();
    assert!(pieces > most && source.asked.get() <= most as u64, "asked {} times", source.asked.get());
}

/// A writer of the volume: mirrored writes and zeroes on both disks, each inside the table, if there is one.
async fn writer(source: &Disk, target: &Disk, table: Option<&Table>, dice: Dice) {
    for _ in 0..12 {
        let offset = dice.roll(LENGTH / 512) * 512;
        let length = ((dice.roll(64) + 1) * 512).min(LENGTH - offset);
        let range = ByteRange::new(offset, length);
        let _entered = match table {
            Some(table) => Some(table.enter(range).await),
            None => None,
        };
        let request = if dice.roll(3) == 0 {
            Request::WriteZeroes { range, space: Space::Keep, durability: Durability::Volatile }
        } else {
            let bytes = vec![dice.roll(255) as u8; length as usize];
            let buffer = Buffer::Owned(OwnedBuffer::from_slice(&bytes));
            Request::Write { offset, buffer, durability: Durability::Volatile }
        };
        let (a, b) = futures_util::future::join(source.submit(request.clone()), target.submit(request)).await;
        a.and(b).unwrap();
    }
}

/// Make a hole somewhere, up to half of it all.
fn dig(bytes: &mut [u8], dice: &Dice) {
    let from = dice.roll(LENGTH / 4096) * 4096;
    let length = (dice.roll(LENGTH / 8192) * 4096).min(LENGTH - from);
    bytes[from as usize..(from + length) as usize].fill(0);
}

/// Copy everything while three writers race; whether the disks ended equal.
fn race(seed: u64, region: u64, compare_first: bool, zero_target: bool, windows: bool) -> bool {
    let dice = Dice::new(seed);
    let source = Disk::new(content(&dice), &dice);
    let stale = if zero_target { vec![0; LENGTH as usize] } else { content(&dice) };
    let target = Disk::new(stale, &dice);
    dig(&mut source.bytes.borrow_mut(), &dice);
    dig(&mut target.bytes.borrow_mut(), &dice);
    source.tells_holes.set(dice.roll(2) == 0);
    let (table, map) = (Table::default(), map(region));
    map.mark_all();
    let (control, clock) = (Control::default(), TestClock::default());
    let target_zero = match zero_target {
        true => TargetZero::Known,
        false if dice.roll(2) == 0 => TargetZero::WhereHoles,
        false => TargetZero::Unknown,
    };
    let gate = windows.then_some(&table);
    let others: Others =
        (0..3).map(|_| Box::pin(writer(&source, &target, gate, dice.clone())) as _).collect();
    let report = if windows {
        let plan = CopyPlan { compare_first, target_zero, ..plan(&source, &target, &table, &map) };
        run(&dice, copy(plan, &control, &clock), others, |_| ())
    } else {
        let plan = CopyPlan { compare_first, target_zero, ..plan(&source, &target, &NoWindows, &map) };
        run(&dice, copy(plan, &control, &clock), others, |_| ())
    };
    assert_eq!((report.ended, report.regions_left), (Ended::Complete, 0));
    assert_eq!(table.held(), 0);
    assert_eq!(control.progress().done_bytes, LENGTH);
    assert!(control.progress().ended);
    let told = control.progress().written_bytes;
    assert_eq!(told, report.written_bytes + report.zeroed_bytes, "no slot counts what another wrote");
    let moved = report.written_bytes + report.zeroed_bytes + report.left_bytes;
    assert_eq!(moved, LENGTH, "each byte is accounted for once");
    *source.bytes.borrow() == *target.bytes.borrow()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Rule 7.
    #[test]
    fn racing_writes_end_with_equal_disks(
        seed: u64,
        region in prop_oneof![Just(REGION), Just(4 * REGION), Just(16 * REGION)],
        compare_first: bool,
        zero_target: bool,
    ) {
        prop_assert!(race(seed, region, compare_first, zero_target, true));
    }

    /// Rule 13: at no moment is a region clear whose bytes a power cut could take from the target.
    #[test]
    fn a_clear_bit_means_equal_and_durable(
        seed: u64,
        region in prop_oneof![Just(REGION), Just(16 * REGION)],
        stop_at in 0..4000u64,
        fail_write in proptest::option::of(0..30u64),
        fail_flush in proptest::option::of(0..4u64),
        compare_first: bool,
    ) {
        let dice = Dice::new(seed);
        let source = Disk::new(content(&dice), &dice);
        let target = Disk::new(content(&dice), &dice);
        target.faults.set(Faults { read: None, write: fail_write, flush: fail_flush });
        let (table, map) = (Table::default(), map(region));
        map.mark_all();
        let (control, clock) = (Control::default(), TestClock::default());
        let plan = CopyPlan { compare_first, ..plan(&source, &target, &table, &map) };
        let mut cleared = 0;
        let report = run(&dice, copy(plan, &control, &clock), Vec::new(), |step| {
            if step == stop_at {
                control.abort();
            }
            if map.bits().len() - map.dirty_regions() != cleared {
                cleared = map.bits().len() - map.dirty_regions();
                let (ours, theirs) = (source.bytes.borrow(), target.durable.borrow());
                for range in ByteRange::new(0, LENGTH).pieces(region).filter(|range| !map.is_marked(*range)) {
                    let at = range.offset as usize..range.end() as usize;
                    assert_eq!(ours[at.clone()], theirs[at], "{range} is clear");
                }
            }
        });
        prop_assert_eq!(report.regions_left, map.dirty_regions());
        match report.ended {
            Ended::Complete => prop_assert_eq!(report.regions_left, 0),
            Ended::Aborted => prop_assert!(report.regions_left > 0),
            Ended::Failed(fault) => {
                prop_assert!(fail_write.is_some() || fail_flush.is_some(), "{fault:?}");
                prop_assert!(report.regions_left > 0);
            }
        }
        prop_assert_eq!(table.held(), 0);
        // What is left is enough to go on from.
        target.faults.set(Faults::default());
        let plan = self::plan(&source, &target, &table, &map);
        let (control, clock) = (Control::default(), TestClock::default());
        let again = run(&dice, copy(plan, &control, &clock), Vec::new(), |_| ());
        prop_assert_eq!((again.ended, again.regions_left), (Ended::Complete, 0));
        prop_assert_eq!(&*source.bytes.borrow(), &*target.durable.borrow());
    }

    /// Rule 10: what is written beside a repair is not undone by it.
    #[test]
    fn rule_10_repairs_beside_racing_writes_end_with_equal_disks(seed: u64) {
        let dice = Dice::new(seed);
        let source = Disk::new(content(&dice), &dice);
        let target = Disk::new(source.bytes.borrow().clone(), &dice);
        let table = Table::default();
        let others: Others =
            (0..3).map(|_| Box::pin(writer(&source, &target, Some(&table), dice.clone())) as _).collect();
        let repairs = async {
            for _ in 0..6 {
                let offset = dice.roll(LENGTH / 512) * 512;
                let length = ((dice.roll(512) + 1) * 512).min(LENGTH - offset);
                repair(&source, &target, &table, ByteRange::new(offset, length)).await.unwrap();
            }
        };
        run(&dice, repairs, others, |_| ());
        prop_assert_eq!(&*source.bytes.borrow(), &*target.bytes.borrow());
        prop_assert_eq!(table.held(), 0);
    }

    #[test]
    fn a_comparison_finds_what_was_planted(
        seed: u64,
        planted in proptest::collection::btree_set((1..4usize, 0..LENGTH), 0..12),
        trust_holes: bool,
        whole: bool,
    ) {
        let dice = Dice::new(seed);
        let bytes = content(&dice);
        let disks: Vec<_> = (0..4).map(|_| Disk::new(bytes.clone(), &dice)).collect();
        let mut expected: std::collections::BTreeSet<(usize, u64)> = Default::default();
        for (device, at) in &planted {
            disks[*device].bytes.borrow_mut()[*at as usize] ^= 0x80;
            expected.insert((*device, *at / 4096));
        }
        let (control, clock, marks) = (Control::default(), TestClock::default(), map(REGION));
        let all = map(REGION);
        all.mark_all();
        let ranges = [ByteRange::new(0, 128 << 10), ByteRange::new(128 << 10, LENGTH - (128 << 10))];
        let plan = ComparePlan {
            devices: &disks,
            windows: &NoWindows,
            work: if whole { Work::Marked(&all) } else { Work::Ranges(&ranges) },
            trust_holes,
            mark: Some(&marks),
            list_at_most: 100,
            tuning: tuning(),
        };
        let report = run(&dice, compare(plan, &control, &clock), Vec::new(), |_| ());
        prop_assert_eq!(report.ended, Ended::Complete);
        prop_assert_eq!(report.compared_bytes, LENGTH);
        prop_assert!(!report.more);
        let found: std::collections::BTreeSet<(usize, u64)> = report
            .differences
            .iter()
            .flat_map(|d| d.range.pieces(4096).map(|page| (d.device, page.offset / 4096)))
            .collect();
        prop_assert_eq!(&found, &expected);
        for (_, page) in &expected {
            prop_assert!(marks.is_marked(ByteRange::new(page * 4096, 1)));
        }
        prop_assert_eq!(marks.is_clean(), expected.is_empty());
    }
}

#[test]
fn the_race_is_lost_without_windows() {
    let lost = (0..40).filter(|seed| !race(*seed, REGION, false, false, false)).count();
    assert!(lost > 0, "the races of these tests do not bite");
}

/// A fixed run: all marked, nothing races. The report, the target and the map.
fn settle(
    seed: u64,
    prepare: impl FnOnce(&Disk, &Disk),
    change: impl for<'a> FnOnce(CopyPlan<'a, Disk, Disk, NoWindows>) -> CopyPlan<'a, Disk, Disk, NoWindows>,
) -> (CopyReport, Disk, Disk, ChangeMap) {
    let dice = Dice::new(seed);
    let source = Disk::new(content(&dice), &dice);
    let target = Disk::new(vec![0xee; LENGTH as usize], &dice);
    prepare(&source, &target);
    let map = map(REGION);
    map.mark_all();
    let (control, clock) = (Control::default(), TestClock::default());
    let plan = change(plan(&source, &target, &NoWindows, &map));
    let report = run(&dice, copy(plan, &control, &clock), Vec::new(), |_| ());
    (report, source, target, map)
}

/// Rule 13.
#[test]
fn a_failed_flush_clears_nothing() {
    let fail = |_: &Disk, target: &Disk| target.faults.set(Faults { flush: Some(0), ..Faults::default() });
    let (report, _, target, map) = settle(1, fail, |plan| plan);
    assert_eq!(report.ended, Ended::Failed(MoverError::Flush { errno: Errno::IO }));
    assert_eq!(map.dirty_bytes(), LENGTH);
    assert_eq!(target.flushes.get(), 1, "a second flush proves nothing and is not tried");
}

/// Rule 13.
#[test]
fn nothing_is_cleared_after_a_write_to_the_target_failed() {
    for good in [0, 5] {
        let fail = |_: &Disk, target: &Disk| {
            target.faults.set(Faults { write: Some(good), ..Faults::default() });
        };
        let (report, _, target, map) =
            settle(2, fail, |plan| CopyPlan { flush_every_bytes: u64::MAX, ..plan });
        assert!(matches!(report.ended, Ended::Failed(MoverError::Write { errno: Errno::IO, .. })));
        assert_eq!((map.dirty_bytes(), target.flushes.get()), (LENGTH, 0));
    }
}

/// Rule 13, by the hand of somebody else.
#[test]
fn nothing_stays_cleared_when_a_foreign_write_failed_meanwhile() {
    for raise_at in 0..400u64 {
        let dice = Dice::new(raise_at);
        let source = Disk::new(content(&dice), &dice);
        let target = Disk::new(vec![0xee; LENGTH as usize], &dice);
        let map = map(REGION);
        map.mark_all();
        let victim = ByteRange::new(dice.roll(LENGTH / REGION) * REGION, 512);
        let (control, clock) = (Control::default(), TestClock::default());
        let failed = Cell::new(false);
        let asked = || failed.get();
        let plan = CopyPlan { target_failed: &asked, ..plan(&source, &target, &NoWindows, &map) };
        let report = run(&dice, copy(plan, &control, &clock), Vec::new(), |step| {
            if step == raise_at {
                failed.set(true);
                map.mark(victim);
            }
        });
        if failed.get() {
            assert!(map.is_marked(victim), "raised at step {raise_at}");
        }
        if report.ended == Ended::Failed(MoverError::TargetFailed) {
            assert!(report.regions_left > 0);
        }
    }
}

/// What a slow copy has done is settled every few seconds: who is interrupted has no more than that to do again.
#[test]
fn a_slow_copy_is_settled_by_time() {
    let dice = Dice::new(4);
    let source = Disk::new(content(&dice), &dice);
    let target = Disk::new(vec![0xee; LENGTH as usize], &dice);
    let map = map(REGION);
    map.mark_all();
    // It takes 20 seconds.
    let (control, clock) = (Control::new(NonZeroU64::new(LENGTH / 20)), TestClock::default());
    let plan = CopyPlan { flush_every_bytes: u64::MAX, ..plan(&source, &target, &NoWindows, &map) };
    let report = run(&dice, copy(plan, &control, &clock), Vec::new(), |_| ());
    assert_eq!(report.ended, Ended::Complete);
    assert!((5..=10).contains(&target.flushes.get()), "{}", target.flushes.get());
}

#[test]
fn a_flag_raised_during_the_flush_brings_the_bits_back() {
    let dice = Dice::new(3);
    let source = Disk::new(content(&dice), &dice);
    let target = Disk::new(vec![0xee; LENGTH as usize], &dice);
    let map = map(REGION);
    map.mark_all();
    let (control, clock) = (Control::default(), TestClock::default());
    // The question before the flush is answered no, the one after it yes.
    let asked = || target.flushes.get() > 0;
    let plan = CopyPlan {
        target_failed: &asked,
        flush_every_bytes: u64::MAX,
        ..plan(&source, &target, &NoWindows, &map)
    };
    let report = run(&dice, copy(plan, &control, &clock), Vec::new(), |_| ());
    assert_eq!(report.ended, Ended::Failed(MoverError::TargetFailed));
    assert_eq!((report.regions_left, target.flushes.get()), (map.bits().len(), 1));
}

#[test]
fn a_read_error_names_the_range_and_what_had_arrived_is_settled() {
    let fail = |source: &Disk, _: &Disk| {
        source.tells_holes.set(false);
        source.faults.set(Faults { read: Some(6), ..Faults::default() });
    };
    let (report, source, target, map) = settle(4, fail, |plan| plan);
    let Ended::Failed(MoverError::Read { device: 0, range, errno: Errno::IO }) = report.ended else {
        panic!("{:?}", report.ended)
    };
    assert!(map.is_marked(range));
    assert!(!map.is_clean() && map.dirty_bytes() < LENGTH);
    for clear in ByteRange::new(0, LENGTH).pieces(REGION).filter(|piece| !map.is_marked(*piece)) {
        let at = clear.offset as usize..clear.end() as usize;
        assert_eq!(source.bytes.borrow()[at.clone()], target.durable.borrow()[at]);
    }
}

const GIB: u64 = 1 << 30;

/// 1 TiB with a page of data at each of `pages`; a map of it, all marked.
fn sparse(pages: &[u64]) -> (Memory, ChangeMap) {
    let disk = Memory::new(1024 * GIB, 512);
    pages.iter().for_each(|at| disk.poke(*at, &[7; 4096]));
    let map = ChangeMap::new(1024 * GIB, RegionSize::DEFAULT);
    map.mark_all();
    (disk, map)
}

fn content_of(disk: &Memory, at: u64) -> Vec<u8> {
    disk.peek(ByteRange::new(at - 4096, 3 * 4096))
}

/// Rule 7.
#[test]
fn a_wide_hole_is_dealt_with_in_few_steps_and_at_no_rate() {
    let places = [3 * GIB + 8192, 200 * GIB, 200 * GIB + (300 << 10), 777 * GIB + 4096];
    for target_zero in [TargetZero::Known, TargetZero::WhereHoles] {
        let ((source, map), (target, _)) = (sparse(&places), sparse(&[]));
        let stale = 500 * GIB + 12288;
        if target_zero == TargetZero::WhereHoles {
            target.poke(stale, &[9; 4096]);
        }
        let (dice, table, clock) = (Dice::new(13), Table::default(), TestClock::default());
        let control = Control::new(NonZeroU64::new(1 << 20));
        let plan = CopyPlan { target_zero, ..plan(&source, &target, &table, &map) };
        let report = run(&dice, copy(plan, &control, &clock), Vec::new(), |_| ());
        assert_eq!((report.ended, report.regions_left), (Ended::Complete, 0));
        for at in places.into_iter().chain([stale]) {
            assert!(content_of(&source, at) == content_of(&target, at), "{target_zero:?}, at {at}");
        }
        assert_eq!(report.written_bytes, 4096 * places.len() as u64);
        assert_eq!(report.written_bytes + report.zeroed_bytes + report.left_bytes, 1024 * GIB);
        let progress = control.progress();
        assert_eq!((progress.done_bytes, progress.total_bytes), (1024 * GIB, 1024 * GIB));
        assert!(table.claims.get() < 200, "{target_zero:?}: {} windows", table.claims.get());
        // The pieces that hold data alone take more than a second.
        assert!(clock.now() < Moment(1_000_000_000), "{target_zero:?}: {:?}", clock.now());
    }
}

/// Rule 7: what is not known of the target is written, however wide the hole.
#[test]
fn a_wide_hole_is_written_to_a_target_that_nothing_is_known_of() {
    const SMALL: u64 = 64 << 20;
    let (source, target) = (Memory::new(SMALL, 512), Memory::new(SMALL, 512));
    target.poke(SMALL / 2, &[9; 4096]);
    let map = ChangeMap::new(SMALL, RegionSize::DEFAULT);
    map.mark_all();
    let (control, clock) = (Control::default(), TestClock::default());
    let plan = plan(&source, &target, &NoWindows, &map);
    let report = run(&Dice::new(14), copy(plan, &control, &clock), Vec::new(), |_| ());
    assert_eq!((report.ended, report.zeroed_bytes), (Ended::Complete, SMALL));
    assert!(content_of(&target, SMALL / 2).iter().all(|byte| *byte == 0));
}

/// Rule 7: the source is written in the very hole that is passed over, as its window is claimed.
#[test]
fn a_write_into_a_wide_hole_is_not_lost() {
    /// Lets a write of the volume through in front of each wide window.
    struct Late<'a>([&'a Memory; 2], Cell<u64>);
    impl Windows for Late<'_> {
        type Guard = ();
        async fn claim(&self, range: ByteRange) {
            if range.length > GIB / 2 {
                let at = range.offset + range.length / 2;
                // Of the source alone: nothing but the copy brings it to the target.
                self.0[0].poke(at - at % 4096, &[5; 4096]);
                self.1.set(self.1.get() + 1);
            }
        }
    }
    let ((source, map), (target, _)) = (sparse(&[]), sparse(&[]));
    let windows = Late([&source, &target], Cell::new(0));
    let (control, clock) = (Control::default(), TestClock::default());
    let plan = CopyPlan { target_zero: TargetZero::Known, ..plan(&source, &target, &windows, &map) };
    let report = run(&Dice::new(15), copy(plan, &control, &clock), Vec::new(), |_| ());
    assert_eq!((report.ended, report.regions_left), (Ended::Complete, 0));
    assert!(windows.1.get() > 3, "{} wide windows", windows.1.get());
    let mut at = 0;
    while let Some(data) =
        source.next_data(ByteRange::new(at, 1024 * GIB - at)).now_or_never().unwrap().unwrap()
    {
        assert!(source.peek(data) == target.peek(data), "{data} is lost");
        at = data.end();
    }
    assert_eq!(report.written_bytes, 4096 * windows.1.get());
}

#[test]
fn holes_that_are_trusted_are_compared_in_few_steps() {
    let disks = [sparse(&[5 * GIB]).0, sparse(&[5 * GIB, 600 * GIB]).0];
    let table = Table::default();
    let plan = ComparePlan {
        devices: &disks[..],
        windows: &table,
        work: Work::Ranges(&[const { ByteRange::new(0, 1024 * GIB) }]),
        trust_holes: true,
        mark: None,
        list_at_most: 2,
        tuning: tuning(),
    };
    let (control, clock) = (Control::default(), TestClock::default());
    let report = run(&Dice::new(16), compare(plan, &control, &clock), Vec::new(), |_| ());
    assert_eq!((report.ended, report.compared_bytes), (Ended::Complete, 1024 * GIB));
    assert_eq!(report.differences, [Difference { device: 1, range: ByteRange::new(600 * GIB, 4096) }]);
    assert!(table.claims.get() < 200, "{} windows", table.claims.get());
}

/// Rule 7.
#[test]
fn zeroes_are_left_out_only_where_the_target_is_known_to_be_zero() {
    for tells_holes in [true, false] {
        let prepare = |source: &Disk, _: &Disk| {
            source.tells_holes.set(tells_holes);
            source.bytes.borrow_mut()[..(256 << 10)].fill(0);
        };
        let (report, source, target, _) = settle(5, prepare, |plan| plan);
        assert_eq!(*source.bytes.borrow(), *target.bytes.borrow());
        assert!(report.zeroed_bytes >= 256 << 10 && report.left_bytes == 0, "{report:?}");

        let zeroed = |source: &Disk, target: &Disk| {
            prepare(source, target);
            target.bytes.borrow_mut().fill(0);
        };
        let (report, source, target, _) =
            settle(5, zeroed, |plan| CopyPlan { target_zero: TargetZero::Known, ..plan });
        assert_eq!(*source.bytes.borrow(), *target.bytes.borrow());
        assert!(report.left_bytes >= 256 << 10 && report.zeroed_bytes == 0, "{report:?}");
        assert_eq!(target.zeroes.get(), 0);
    }
}

#[test]
fn a_resync_that_compares_writes_the_differences_alone() {
    let prepare = |source: &Disk, target: &Disk| {
        source.bytes.borrow_mut()[4096 * 9 + 7] ^= 1;
        *target.bytes.borrow_mut() = source.bytes.borrow().clone();
        target.bytes.borrow_mut()[4096 * 9 + 100] ^= 0xff;
        target.bytes.borrow_mut()[LENGTH as usize - 1] ^= 0xff;
    };
    let (report, source, target, map) =
        settle(6, prepare, |plan| CopyPlan { compare_first: true, flush_every_bytes: u64::MAX, ..plan });
    assert_eq!(*source.bytes.borrow(), *target.bytes.borrow());
    let mut written = target.written.borrow().clone();
    written.sort_unstable();
    assert_eq!(written, [ByteRange::new(4096 * 9, 4096), ByteRange::new(40 * REGION, 1536)]);
    assert_eq!(report.left_bytes, LENGTH - 4096 - 1536);
    assert!(map.is_clean() && target.flushes.get() == 1);
}

#[test]
fn only_marked_regions_are_touched() {
    let dice = Dice::new(7);
    let source = Disk::new(vec![1; LENGTH as usize], &dice);
    let target = Disk::new(vec![2; LENGTH as usize], &dice);
    let map = map(REGION);
    map.mark(ByteRange::new(3 * REGION + 5, 1));
    map.mark(ByteRange::new(LENGTH - 1, 1));
    let (control, clock) = (Control::default(), TestClock::default());
    let plan = plan(&source, &target, &NoWindows, &map);
    let report = run(&dice, copy(plan, &control, &clock), Vec::new(), |_| ());
    assert_eq!((report.ended, report.written_bytes), (Ended::Complete, REGION + 1536));
    let copied = |at: u64| (3 * REGION..4 * REGION).contains(&at) || at >= 40 * REGION;
    let bytes = target.bytes.borrow();
    assert!((0..LENGTH).all(|at| bytes[at as usize] == if copied(at) { 1 } else { 2 }));
}

#[test]
fn a_paused_job_starts_nothing_and_holds_nothing() {
    let dice = Dice::new(8);
    let source = Disk::new(content(&dice), &dice);
    let target = Disk::new(vec![0xee; LENGTH as usize], &dice);
    let (table, map) = (Table::default(), map(REGION));
    map.mark_all();
    let (control, clock) = (Control::default(), TestClock::default());
    let at_rest = Rc::new(Cell::new(None));
    let watcher: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
        while target.written.borrow().len() < 3 {
            tokio::task::yield_now().await;
        }
        assert!(control.pause());
        // Long enough for everything at work to drain.
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
        at_rest.set(Some((source.reads.get(), target.writes.get(), table.held())));
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
        assert_eq!(at_rest.get(), Some((source.reads.get(), target.writes.get(), 0)));
        assert!(!map.is_clean());
        assert!(control.resume());
    });
    let plan = plan(&source, &target, &table, &map);
    let report = run(&dice, copy(plan, &control, &clock), vec![watcher], |_| ());
    assert!(at_rest.get().is_some());
    assert_eq!((report.ended, report.regions_left), (Ended::Complete, 0));
}

#[test]
fn a_limited_job_takes_its_time_and_follows_an_abort_soon() {
    let rate = NonZeroU64::new(64 << 10).unwrap();
    let job = |control: &Control, abort_at: u64| {
        let dice = Dice::new(9);
        let source = Disk::new(content(&dice), &dice);
        let target = Disk::new(vec![0xee; LENGTH as usize], &dice);
        let map = map(REGION);
        map.mark_all();
        let clock = TestClock::default();
        let plan = plan(&source, &target, &NoWindows, &map);
        let mut aborted_at = None;
        let report = run(&dice, copy(plan, control, &clock), Vec::new(), |_| {
            if clock.now().0 >= abort_at && aborted_at.is_none() {
                aborted_at = Some(clock.now());
                control.abort();
            }
        });
        (report, clock.now(), aborted_at)
    };
    let control = Control::new(Some(rate));
    let watch = control.watch();
    let (report, end, _) = job(&control, u64::MAX);
    assert_eq!(report.ended, Ended::Complete);
    // The last piece need not be waited for, and one nap may be caught up.
    let least = Duration::from_millis((LENGTH - (64 << 10)) * 1000 / rate.get() - 200);
    assert!(Duration::from_nanos(end.0) >= least, "{end:?}, at least {least:?}");
    assert!(Duration::from_nanos(end.0) < 2 * least);
    assert!(watch.has_changed().unwrap());
    let progress = control.progress();
    assert_eq!((progress.done_bytes, progress.total_bytes), (LENGTH, LENGTH));
    assert!(progress.bytes_per_second > rate.get() / 2 && progress.bytes_per_second < rate.get() * 2);

    let (report, end, aborted_at) = job(&Control::new(Some(rate)), 3_000_000_000);
    assert_eq!(report.ended, Ended::Aborted);
    assert!(end.since(aborted_at.unwrap()) < Duration::from_millis(200));
    assert!(report.regions_left > 0 && report.regions_left < 41);
}

/// The time that a copy of 16 MiB takes beside an application, each of whose requests takes 20 ms until `busy_until`.
fn beside_an_application(latency: Option<Duration>, busy_until: Moment) -> Duration {
    const BYTES: usize = 16 << 20;
    let dice = Dice::new(20);
    let (source, target) = (Disk::new(vec![1; BYTES], &dice), Disk::new(vec![2; BYTES], &dice));
    let map = ChangeMap::new(BYTES as u64, RegionSize::DEFAULT);
    map.mark_all();
    let (clock, measured) = (TestClock::default(), Arc::default());
    let control = Control::within(Limits { rate: None, latency }, &measured);
    let application: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
        while !control.progress().ended {
            let timed = if clock.now() < busy_until { measured.time(&clock) } else { None };
            clock.sleep(Duration::from_millis(20)).await;
            drop(timed);
        }
    });
    let plan = plan(&source, &target, &NoWindows, &map);
    let report = run(&dice, copy(plan, &control, &clock), vec![application], |_| ());
    assert_eq!((report.ended, report.written_bytes), (Ended::Complete, BYTES as u64));
    assert!(measured.time(&clock).is_none(), "nothing is measured any more");
    Duration::from_nanos(clock.now().0)
}

#[test]
fn a_job_yields_while_the_application_misses_its_latency() {
    let (always, never) = (Moment(u64::MAX), Moment(0));
    let full = beside_an_application(None, always);
    let met = beside_an_application(Some(Duration::from_millis(30)), always);
    assert!(met <= full + full / 10, "{met:?} where nobody minds, {full:?} without a target");
    let idle = beside_an_application(Some(Duration::from_millis(5)), never);
    assert!(idle <= full + full / 10, "{idle:?} where nobody is, {full:?} without a target");
    let missed = beside_an_application(Some(Duration::from_millis(5)), always);
    assert!(missed > 4 * full && missed > Duration::from_secs(8), "{missed:?} after {full:?}");
    // It comes to its end all the same, and is faster as soon as it may be.
    assert!(missed < Duration::from_secs(20), "{missed:?}");
    let for_a_while = beside_an_application(Some(Duration::from_millis(5)), Moment(2_000_000_000));
    assert!(for_a_while < missed / 2, "{for_a_while:?}, and {missed:?} all the time");
}

#[test]
fn the_list_of_differences_is_capped_and_the_count_is_not() {
    let dice = Dice::new(10);
    let disks = [Disk::new(vec![1; LENGTH as usize], &dice), Disk::new(vec![2; LENGTH as usize], &dice)];
    let (control, clock) = (Control::default(), TestClock::default());
    let plan = |list_at_most| ComparePlan {
        devices: &disks[..],
        windows: &NoWindows,
        work: Work::Ranges(&[const { ByteRange::new(0, LENGTH) }]),
        trust_holes: true,
        mark: None,
        list_at_most,
        tuning: tuning(),
    };
    let capped = run(&dice, compare(plan(2), &control, &clock), Vec::new(), |_| ());
    assert!(capped.more && capped.differing_bytes == LENGTH && capped.differences.len() <= 2);
    let whole = run(&dice, compare(plan(100), &control, &clock), Vec::new(), |_| ());
    assert_eq!(whole.differences, [Difference { device: 1, range: ByteRange::new(0, LENGTH) }]);
    assert!(!whole.more);
}

#[test]
fn a_comparison_that_cannot_read_says_which_device() {
    let dice = Dice::new(11);
    let disks: Vec<_> = (0..3).map(|_| Disk::new(vec![1; LENGTH as usize], &dice)).collect();
    disks[2].faults.set(Faults { read: Some(1), ..Faults::default() });
    let (control, clock) = (Control::default(), TestClock::default());
    let plan = ComparePlan {
        devices: &disks[..],
        windows: &Table::default(),
        work: Work::Ranges(&[const { ByteRange::new(0, LENGTH) }]),
        trust_holes: false,
        mark: None,
        list_at_most: 1,
        tuning: tuning(),
    };
    let report = run(&dice, compare(plan, &control, &clock), Vec::new(), |_| ());
    assert!(matches!(report.ended, Ended::Failed(MoverError::Read { device: 2, errno: Errno::IO, .. })));
    assert!(report.compared_bytes < LENGTH);
}

/// Rule 10.
#[test]
fn a_repair_rewrites_its_range_and_flushes() {
    let dice = Dice::new(12);
    let source = Disk::new(vec![1; LENGTH as usize], &dice);
    let target = Disk::new(vec![2; LENGTH as usize], &dice);
    let table = Table::default();
    let range = ByteRange::new(512, 600 << 10);
    run(&dice, repair(&source, &target, &table, range), Vec::new(), |_| ()).unwrap();
    let durable = target.durable.borrow();
    assert!((0..LENGTH).all(|at| (durable[at as usize] == 1) == (range.offset <= at && at < range.end())));
    assert_eq!(table.held(), 0);
    drop(durable);
    target.faults.set(Faults { flush: Some(1), ..Faults::default() });
    let failed = run(&dice, repair(&source, &target, &table, range), Vec::new(), |_| ());
    assert_eq!(failed, Err(MoverError::Flush { errno: Errno::IO }));
}
