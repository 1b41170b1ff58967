//! The scrub against disks that dawdle, differ and fail, with writes that race.

use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::pin::Pin;

use super::super::testing::{Dice, Disk, Faults, Table, TestClock, run};
use super::super::windows::NoWindows;
use super::*;
use crate::device::{Buffer, Geometry};

const PAGE: u64 = PAGE_BYTES as u64;
/// 240 pages and a short one.
const LENGTH: u64 = 240 * PAGE + 1536;

/// A disk with pages that cannot be read until they are written again.
struct Worn<'a> {
    disk: &'a Disk,
    bad: RefCell<BTreeSet<u64>>,
}

impl<'a> Worn<'a> {
    fn new(disk: &'a Disk) -> Self {
        Self { disk, bad: RefCell::default() }
    }
}

impl BlockDevice for Worn<'_> {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }
    async fn submit(&self, request: Request) -> Result<(), Errno> {
        let range = request.range();
        let pages = range.offset / PAGE..range.end().div_ceil(PAGE);
        let is_read = matches!(request, Request::Read { .. });
        let is_write = matches!(request, Request::Write { .. } | Request::WriteZeroes { .. });
        if is_read && self.bad.borrow().range(pages.clone()).next().is_some() {
            return Err(Errno::IO);
        }
        self.disk.submit(request).await?;
        if is_write {
            self.bad.borrow_mut().retain(|page| !pages.contains(page));
        }
        Ok(())
    }
    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        self.disk.next_data(span).await
    }
}

struct Bench {
    dice: Dice,
    disks: Vec<Disk>,
    table: Table,
    clock: TestClock,
    activity: Cell<u64>,
    marked: RefCell<Vec<ByteRange>>,
}

impl Bench {
    fn new(seed: u64, disks: usize) -> Self {
        let dice = Dice::new(seed);
        let bytes: Vec<u8> = (0..LENGTH).map(|at| (at / PAGE * 7 + at % 251) as u8).collect();
        Self {
            disks: (0..disks).map(|_| Disk::new(bytes.clone(), &dice)).collect(),
            dice,
            table: Table::default(),
            clock: TestClock::default(),
            activity: Cell::new(0),
            marked: RefCell::default(),
        }
    }

    fn spoil(&self, device: usize, page: u64) {
        self.disks[device].bytes.borrow_mut()[(page * PAGE) as usize + 5] ^= 0x40;
    }

    fn worn(&self) -> Vec<Worn<'_>> {
        self.disks.iter().map(Worn::new).collect()
    }

    fn scrub(&self, decide: Decide) -> ScrubReport {
        self.scrub_from(&self.worn(), decide, Tally::default(), &Control::default(), |_| ())
    }

    fn scrub_from(
        &self,
        devices: &[Worn<'_>],
        decide: Decide,
        done: Tally,
        control: &Control,
        look: impl FnMut(u64),
    ) -> ScrubReport {
        let plan = ScrubPlan {
            devices,
            windows: &self.table,
            done,
            length: LENGTH,
            decide,
            in_step: &|_, _| true,
            changed: &|range| self.marked.borrow_mut().push(range),
            activity: &|| self.activity.get(),
            settled: &|_| (),
            list_at_most: 1000,
            tuning: Tuning::new(4, 64 << 10),
        };
        let report = run(&self.dice, scrub(plan, control, &self.clock), Vec::new(), look);
        assert_eq!(self.table.held(), 0);
        report
    }

    fn are_equal(&self) -> bool {
        let first = self.disks[0].bytes.borrow();
        self.disks.iter().all(|disk| *disk.bytes.borrow() == *first)
    }
}

fn page_bytes(page: u64) -> u64 {
    PAGE.min(LENGTH - page * PAGE)
}

/// Mirrored writes to all disks, each inside the table, if there is one.
async fn writer(bench: &Bench, gate: bool) {
    for _ in 0..10 {
        let offset = bench.dice.roll(LENGTH / 512) * 512;
        let length = ((bench.dice.roll(64) + 1) * 512).min(LENGTH - offset);
        let range = ByteRange::new(offset, length);
        let _entered = if gate { Some(bench.table.enter(range).await) } else { None };
        let bytes = vec![bench.dice.roll(255) as u8; length as usize];
        let submit = bench.disks.iter().map(|disk| {
            let buffer = Buffer::Owned(OwnedBuffer::from_slice(&bytes));
            disk.submit(Request::Write { offset, buffer, durability: Durability::Volatile })
        });
        join_all(submit).await.into_iter().for_each(|done| done.unwrap());
        bench.activity.set(bench.activity.get() + 1);
    }
}

/// Repair one spoilt disk of three while three writers race; whether the disks ended equal, and what was seen.
fn race(seed: u64, spoilt: &BTreeSet<u64>, windows: bool) -> (bool, ScrubReport) {
    let bench = Bench::new(seed, 3);
    spoilt.iter().for_each(|page| bench.spoil((*page % 3) as usize, *page));
    let others: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> =
        (0..3).map(|_| Box::pin(writer(&bench, windows)) as _).collect();
    let (control, devices) = (Control::default(), bench.worn());
    macro_rules! plan {
        ($windows:expr) => {
            ScrubPlan {
                devices: &devices,
                windows: $windows,
                done: Tally::default(),
                length: LENGTH,
                decide: Decide::Majority,
                in_step: &|_, _| true,
                changed: &|range| bench.marked.borrow_mut().push(range),
                activity: &|| bench.activity.get(),
                settled: &|_| (),
                list_at_most: 1000,
                tuning: Tuning::new(4, 64 << 10),
            }
        };
    }
    let report = if windows {
        run(&bench.dice, scrub(plan!(&bench.table), &control, &bench.clock), others, |_| ())
    } else {
        run(&bench.dice, scrub(plan!(&NoWindows), &control, &bench.clock), others, |_| ())
    };
    assert_eq!(report.ended, Ended::Complete);
    (bench.are_equal(), report)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Rules 7 and 10.
    #[test]
    fn racing_writes_end_with_equal_disks(
        seed: u64, spoilt in proptest::collection::btree_set(0..240u64, 0..20),
    ) {
        let (equal, report) = race(seed, &spoilt, true);
        prop_assert!(equal);
        // What the writers wrote over is no difference any more.
        prop_assert!(report.tally.differing_bytes <= spoilt.len() as u64 * PAGE);
        prop_assert_eq!(report.tally.differing_bytes, report.tally.repaired_bytes);
        prop_assert_eq!(report.tally.position, LENGTH);
    }

    #[test]
    fn a_report_finds_what_was_planted_and_changes_nothing(
        seed: u64,
        planted in proptest::collection::btree_set((1..3usize, 0..241u64), 0..20),
    ) {
        let bench = Bench::new(seed, 3);
        planted.iter().for_each(|(device, page)| bench.spoil(*device, *page));
        let report = bench.scrub(Decide::Report);
        let mut found = BTreeSet::new();
        for flaw in &report.flaws {
            prop_assert!(!flaw.repaired && !flaw.unreadable && flaw.reference == 0);
            let pages = flaw.range.offset / PAGE..flaw.range.end().div_ceil(PAGE);
            found.extend(pages.map(|page| (flaw.device, page)));
        }
        prop_assert_eq!(&found, &planted);
        let bytes: u64 = planted.iter().map(|(_, page)| page_bytes(*page)).sum();
        let tally = Tally { position: LENGTH, differing_bytes: bytes, ..Tally::default() };
        prop_assert_eq!(report.tally, tally);
        prop_assert!(bench.disks.iter().all(|disk| disk.written.borrow().is_empty()));
        prop_assert!(bench.marked.borrow().is_empty());
    }

    /// Stopped anywhere and gone on with, by the position that was told last.
    #[test]
    fn a_scrub_that_is_cut_short_goes_on_where_it_was(
        seed: u64,
        planted in proptest::collection::btree_set(0..241u64, 0..30),
        stop_at in 0..3000u64,
        repair: bool,
    ) {
        let bench = Bench::new(seed, 3);
        planted.iter().for_each(|page| bench.spoil(2, *page));
        let decide = if repair { Decide::Source(0) } else { Decide::Report };
        let (control, devices) = (Control::default(), bench.worn());
        let first = bench.scrub_from(&devices, decide, Tally::default(), &control, |step| {
            if step == stop_at {
                control.abort();
            }
        });
        prop_assert!(first.tally.position <= LENGTH);
        prop_assert_eq!(first.ended == Ended::Complete, first.tally.position == LENGTH);
        let again = bench.scrub_from(&devices, decide, first.tally, &Control::default(), |_| ());
        let bytes: u64 = planted.iter().map(|page| page_bytes(*page)).sum();
        prop_assert_eq!((again.tally.position, again.tally.differing_bytes), (LENGTH, bytes));
        prop_assert_eq!(again.tally.repaired_bytes, if repair { bytes } else { 0 });
        prop_assert_eq!(bench.are_equal(), repair || planted.is_empty());
    }
}

#[test]
fn without_windows_a_repair_brings_old_data_back() {
    let spoilt: BTreeSet<u64> = (0..240).collect();
    assert!((0..40).any(|seed| !race(seed, &spoilt, false).0), "the race would be found");
}

#[test]
fn a_majority_decides_and_without_one_nothing_is_changed() {
    let bench = Bench::new(5, 3);
    bench.spoil(0, 10);
    for device in 0..3 {
        bench.disks[device].bytes.borrow_mut()[20 * PAGE as usize] = device as u8;
    }
    let report = bench.scrub(Decide::Majority);
    assert_eq!(report.ended, Ended::Complete);
    let flaw = |device, page: u64, reference, repaired| Flaw {
        device,
        range: ByteRange::new(page * PAGE, PAGE),
        reference,
        unreadable: false,
        repaired,
    };
    assert_eq!(report.flaws, [flaw(0, 10, 1, true), flaw(1, 20, 0, false), flaw(2, 20, 0, false)]);
    assert_eq!((report.tally.differing_bytes, report.tally.repaired_bytes), (3 * PAGE, PAGE));
    assert_eq!(bench.disks[0].written.borrow()[..], [ByteRange::new(10 * PAGE, PAGE)]);
    // With a source it is decided.
    let report = bench.scrub(Decide::Source(2));
    assert_eq!((report.tally.differing_bytes, report.tally.repaired_bytes), (2 * PAGE, 2 * PAGE));
    assert!(bench.are_equal());
    assert_eq!(bench.disks[0].bytes.borrow()[20 * PAGE as usize], 2);
    assert_eq!(bench.scrub(Decide::Report).tally.differing_bytes, 0);
}

#[test]
fn rule_5_the_maps_are_marked_before_a_repair_and_after_it() {
    let bench = Bench::new(6, 2);
    bench.spoil(1, 3);
    let seen = RefCell::new(Vec::new());
    let devices = bench.worn();
    let plan = ScrubPlan {
        devices: &devices,
        windows: &bench.table,
        done: Tally::default(),
        length: LENGTH,
        decide: Decide::Source(0),
        in_step: &|_, _| true,
        changed: &|range| {
            assert!(bench.table.held() > 0, "inside the window");
            let writes = bench.disks[1].written.borrow().len();
            seen.borrow_mut().push((range, writes, bench.are_equal()));
        },
        activity: &|| 0,
        settled: &|_| (),
        list_at_most: 10,
        tuning: Tuning::default(),
    };
    run(&bench.dice, scrub(plan, &Control::default(), &bench.clock), Vec::new(), |_| ());
    let range = ByteRange::new(3 * PAGE, PAGE);
    assert_eq!(seen.take(), [(range, 0, false), (range, 1, true)]);
    let at = range.offset as usize..range.end() as usize;
    assert_eq!(bench.disks[1].durable.borrow()[at.clone()], bench.disks[0].bytes.borrow()[at], "and flushed");
}

#[test]
fn what_cannot_be_read_is_counted_and_rewritten_from_what_can() {
    let bench = Bench::new(7, 2);
    let devices = bench.worn();
    devices[1].bad.borrow_mut().extend([4, 5, 100]);
    devices[0].bad.borrow_mut().insert(200);
    let report = bench.scrub_from(&devices, Decide::Report, Tally::default(), &Control::default(), |_| ());
    assert_eq!((report.tally.unreadable_bytes, report.tally.differing_bytes), (4 * PAGE, 0));
    let flaw = |device, page: u64, pages, reference, repaired| Flaw {
        device,
        range: ByteRange::new(page * PAGE, pages * PAGE),
        reference,
        unreadable: true,
        repaired,
    };
    assert_eq!(report.flaws, [flaw(0, 200, 1, 1, false), flaw(1, 4, 2, 0, false), flaw(1, 100, 1, 0, false)]);
    let report = bench.scrub_from(&devices, Decide::Source(0), Tally::default(), &Control::default(), |_| ());
    assert_eq!(
        report.tally.repaired_bytes,
        3 * PAGE,
        "where the source itself cannot be read, nothing is known"
    );
    assert!(devices[1].bad.borrow().is_empty() && devices[0].bad.borrow().len() == 1);
    // Of three, two that agree are a majority.
    let bench = Bench::new(8, 3);
    let devices = bench.worn();
    devices[2].bad.borrow_mut().insert(9);
    let report = bench.scrub_from(&devices, Decide::Majority, Tally::default(), &Control::default(), |_| ());
    assert_eq!((report.tally.repaired_bytes, report.flaws.as_slice()), (PAGE, &[flaw(2, 9, 1, 0, true)][..]));
}

#[test]
fn a_device_that_cannot_be_written_or_hardly_be_read_ends_the_scrub_and_is_named() {
    let bench = Bench::new(9, 2);
    bench.spoil(1, 50);
    bench.disks[1].faults.set(Faults { write: Some(0), ..Faults::default() });
    let report = bench.scrub(Decide::Source(0));
    assert!(matches!(report.ended, Ended::Failed(MoverError::Write { .. })), "{:?}", report.ended);
    assert_eq!((report.failed, report.tally.repaired_bytes), (Some(1), 0));
    assert_eq!(report.flaws.len(), 1, "what was found is told");
    let bench = Bench::new(10, 2);
    bench.spoil(1, 50);
    bench.disks[1].faults.set(Faults { flush: Some(0), ..Faults::default() });
    let report = bench.scrub(Decide::Source(0));
    assert_eq!(
        (report.ended, report.failed),
        (Ended::Failed(MoverError::Flush { errno: Errno::IO }), Some(1))
    );
}

#[test]
fn a_device_that_left_is_left_out() {
    let bench = Bench::new(11, 3);
    (0..240).for_each(|page| bench.spoil(1, page));
    let devices = bench.worn();
    let plan = ScrubPlan {
        devices: &devices,
        windows: &bench.table,
        done: Tally::default(),
        length: LENGTH,
        decide: Decide::Majority,
        in_step: &|device, piece| device != 1 || piece.offset < 64 << 10,
        changed: &|_| (),
        activity: &|| 0,
        settled: &|_| (),
        list_at_most: 10,
        tuning: Tuning::new(4, 64 << 10),
    };
    let report = run(&bench.dice, scrub(plan, &Control::default(), &bench.clock), Vec::new(), |_| ());
    assert_eq!((report.ended, report.tally.repaired_bytes), (Ended::Complete, 64 << 10));
}

#[test]
fn the_application_goes_first_and_the_scrub_still_comes_on() {
    let idle = Bench::new(12, 2);
    idle.scrub(Decide::Report);
    let bench = Bench::new(12, 2);
    let devices = bench.worn();
    let plan = ScrubPlan {
        devices: &devices,
        windows: &bench.table,
        done: Tally::default(),
        length: LENGTH,
        decide: Decide::Report,
        in_step: &|_, _| true,
        changed: &|_| (),
        // A request at every look.
        activity: &|| {
            bench.activity.set(bench.activity.get() + 1);
            bench.activity.get()
        },
        settled: &|_| (),
        list_at_most: 10,
        tuning: Tuning::new(1, 64 << 10),
    };
    let report = run(&bench.dice, scrub(plan, &Control::default(), &bench.clock), Vec::new(), |_| ());
    assert_eq!(report.ended, Ended::Complete);
    let pieces = LENGTH.div_ceil(64 << 10) as u32;
    let took = |bench: &Bench| bench.clock.now().since(Default::default());
    assert_eq!(took(&idle), Duration::ZERO, "nobody is waited for");
    assert_eq!(took(&bench), pieces * YIELD_LIMIT, "each piece waits its time and no longer");
}

#[test]
fn only_so_many_flaws_are_listed_and_all_are_counted() {
    let bench = Bench::new(13, 2);
    (0..240).step_by(2).for_each(|page| bench.spoil(1, page));
    let devices = bench.worn();
    let plan = ScrubPlan {
        devices: &devices,
        windows: &bench.table,
        done: Tally::default(),
        length: LENGTH,
        decide: Decide::Report,
        in_step: &|_, _| true,
        changed: &|_| (),
        activity: &|| 0,
        settled: &|_| (),
        list_at_most: 7,
        tuning: Tuning::default(),
    };
    let report = run(&bench.dice, scrub(plan, &Control::default(), &bench.clock), Vec::new(), |_| ());
    assert_eq!((report.flaws.len(), report.more, report.tally.differing_bytes), (7, true, 120 * PAGE));
}
