//! Random operations of several clients on several queues, with plexes that fail, hang and vanish, mirrors that are
//! attached, copied, broken off and put back, maps, crashes and power cuts; all compared with the oracle.
//!
//! `CLEAVE_SEED=n` runs the world of that seed, `CLEAVE_OPERATIONS=n` as many worlds from there on as it takes to do `n`
//! operations; `CLEAVE_JOURNAL=1` shows what the disks did last.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cleave::base::limits::EXTENT_BYTES;
use cleave::base::{ByteRange, Errno, Uuid};
use cleave::device::{BlockDevice, Checked, Clock, Durability, Host, Moment, OwnedBuffer, Request, Space};
use cleave::sim::{Delay, Fault, Operation, Rng, Rule, SimHost, When, World};
use cleave::volume::VolumeQueue;

use crate::oracle::Oracle;
use crate::pattern::{BLOCK, ZEROES, bytes_of, stamp_of, stamps_of};
use crate::running::held;
use crate::site::{Running, Site, Standing};

type Queue = Checked<Rc<VolumeQueue<SimHost>>>;

/// What clients and director share.
struct Shared {
    oracle: RefCell<Oracle>,
    stamp: Cell<u64>,
    operations: Cell<u64>,
    /// Whether a request may fail now: only then was something done to the last plex or to the records.
    may_fail: Cell<bool>,
    failed: Cell<u64>,
    clients: Cell<u32>,
}

impl Shared {
    fn next_stamp(&self) -> u64 {
        self.stamp.set(self.stamp.get() + 1);
        self.stamp.get()
    }

    fn failed(&self, what: &str, errno: Errno) {
        assert!(
            self.may_fail.get(),
            "{what} failed with {errno:?}, and nothing was wrong with the last plex"
        );
        self.failed.set(self.failed.get() + 1);
    }
}

/// What a world did, for the line at the end.
#[derive(Default)]
struct Tally {
    operations: u64,
    failed: u64,
    crashes: u64,
    losses: u64,
    state_harmed: u64,
    cuts: u64,
    mirrors: u64,
    promotions: u64,
    maps: u64,
}

/// Anywhere, or at one of a few places that all clients like: borders of extents and regions, the end.
fn any_range(dice: &mut Rng, length: u64, max_blocks: u64) -> ByteRange {
    let blocks = length / BLOCK;
    let spots = [
        0,
        EXTENT_BYTES / BLOCK - 8,
        2 * EXTENT_BYTES / BLOCK - 4,
        120,
        blocks - 24,
        3 * EXTENT_BYTES / BLOCK + 100,
    ];
    let count = match dice.below(4) {
        0 => 1,
        1 => dice.within(1..max_blocks + 1),
        _ => dice.within(1..max_blocks.min(16) + 1),
    };
    let first = if dice.chance(800_000) { *dice.pick(&spots) + dice.below(24) } else { dice.below(blocks) };
    let first = first.min(blocks - 1);
    let count = count.min(blocks - first);
    ByteRange::new(first * BLOCK, count * BLOCK)
}

async fn client(queue: Rc<Queue>, shared: Rc<Shared>, mut dice: Rng, operations: u64) {
    let length = queue.inner().geometry().length;
    for _ in 0..operations {
        let range = any_range(&mut dice, length, 160);
        let durability = if dice.chance(150_000) { Durability::Durable } else { Durability::Volatile };
        let durable = durability == Durability::Durable;
        match dice.below(100) {
            0..50 => {
                let stamp = shared.next_stamp();
                let bytes = bytes_of(stamp, range.offset / BLOCK, range.length / BLOCK);
                let buffer = OwnedBuffer::from_slice(&bytes);
                let token = shared.oracle.borrow_mut().begin_write(range, stamp, durable);
                let request = Request::Write { offset: range.offset, buffer: buffer.into(), durability };
                let result = queue.submit(request).await;
                shared.oracle.borrow_mut().end_write(token, result.is_ok());
                result.unwrap_or_else(|errno| shared.failed("a write", errno));
            }
            50..58 => {
                let range = any_range(&mut dice, length, 700);
                let token = shared.oracle.borrow_mut().begin_write(range, ZEROES, durable);
                let space = if dice.coin() { Space::Keep } else { Space::Release };
                let result = queue.submit(Request::WriteZeroes { range, space, durability }).await;
                shared.oracle.borrow_mut().end_write(token, result.is_ok());
                result.unwrap_or_else(|errno| shared.failed("write-zeroes", errno));
            }
            58..64 => {
                let range = any_range(&mut dice, length, 700);
                let token = shared.oracle.borrow_mut().begin_write(range, ZEROES, false);
                let result = queue.submit(Request::Discard { range }).await;
                shared.oracle.borrow_mut().end_write(token, result.is_ok());
                result.unwrap_or_else(|errno| shared.failed("a discard", errno));
            }
            64..72 => {
                let token = shared.oracle.borrow_mut().begin_flush();
                let result = queue.submit(Request::Flush).await;
                shared.oracle.borrow_mut().end_flush(token, result.is_ok());
                result.unwrap_or_else(|errno| shared.failed("a flush", errno));
            }
            _ => {
                let buffer = OwnedBuffer::zeroed(range.length as usize);
                let token = shared.oracle.borrow_mut().begin_read(range);
                let request = Request::Read { offset: range.offset, buffer: buffer.clone().into() };
                match queue.submit(request).await {
                    Ok(()) => {
                        let stamps = stamps_of(range.offset / BLOCK, &buffer.to_vec());
                        let seen =
                            stamps.and_then(|stamps| shared.oracle.borrow_mut().end_read(token, &stamps));
                        seen.unwrap_or_else(|violation| panic!("{violation}"));
                    }
                    Err(errno) => {
                        shared.oracle.borrow_mut().fail_read(token);
                        shared.failed("a read", errno);
                    }
                }
            }
        }
        shared.operations.set(shared.operations.get() + 1);
    }
    shared.clients.set(shared.clients.get() - 1);
}

/// One world: a volume that lives through several runs.
struct Play {
    seed: u64,
    dice: Rng,
    site: Rc<Site>,
    shared: Rc<Shared>,
    tally: Rc<RefCell<Tally>>,
    /// Whom something was done to last, and when.
    victim: Option<(Uuid, Moment)>,
    /// Plexes on their way into the write path as mirrors: one attach at a time for each.
    attaching: Rc<RefCell<BTreeSet<Uuid>>>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let world = Rc::new(World::new(seed));
        let mut dice = world.split_dice();
        let length = dice.within(3..6) * EXTENT_BYTES + dice.below(200) * BLOCK;
        let active = *dice.pick(&[1, 2, 2, 2, 3]);
        let spare = *dice.pick(&[0, 1, 1, 2]);
        let site = Site::new(world, length, active, spare);
        for plex in &site.plexes {
            let max = Duration::from_micros(dice.within(30..600));
            plex.disk.set_delay(Delay { max, ..Delay::default() });
        }
        let shared = Rc::new(Shared {
            oracle: RefCell::default(),
            stamp: Cell::new(0),
            operations: Cell::new(0),
            may_fail: Cell::new(false),
            failed: Cell::new(0),
            clients: Cell::new(0),
        });
        Self { seed, dice, site, shared, tally: Rc::default(), victim: None, attaching: Rc::default() }
    }

    fn world(&self) -> &World {
        &self.site.world
    }

    /// Live through runs until `operations` are done.
    fn play(mut self, operations: u64) -> Result<Tally, String> {
        let site = Rc::clone(&self.site);
        while self.shared.operations.get() < operations {
            let start = Rc::clone(&site).start();
            let running = self.world().block_on(start).map_err(|stuck| stuck.to_string())?;
            self.spawn_resyncs(&running);
            let steps = self.dice.below(400);
            self.world().run_steps(steps);
            self.look_twice(&running)?;
            let crashed = self.run(&running, operations)?;
            let power = self.dice.coin();
            drop(running);
            site.crash(power);
            self.victim = None;
            self.attaching.borrow_mut().clear();
            self.shared.oracle.borrow_mut().crash(power);
            self.shared.clients.set(0);
            self.shared.may_fail.set(false);
            self.tally.borrow_mut().crashes += u64::from(crashed);
            site.check_after_crash()?;
        }
        drop(site);
        let mut tally = self.tally.take();
        tally.operations = self.shared.operations.get();
        tally.failed = self.shared.failed.get();
        Ok(tally)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.world().spawn(task);
    }

    fn spawn_resyncs(&self, running: &Rc<Running>) {
        let (all, site, tally) = (Rc::clone(running), Rc::clone(&self.site), Rc::clone(&self.tally));
        self.spawn(async move {
            let before = site.with_standing(&[Standing::Active]).len();
            all.resync_all(&site).await;
            tally.borrow_mut().promotions +=
                u64::from(site.with_standing(&[Standing::Active]).len() != before);
        });
    }

    /// After a start: each block holds something it may hold, and the same at a second look, while resync runs.
    fn look_twice(&mut self, running: &Rc<Running>) -> Result<(), String> {
        for _ in 0..2 {
            let mut blocks: Vec<u64> = self.shared.oracle.borrow().blocks().collect();
            // A second look goes by other plexes; not at every block, for the sake of time.
            blocks.retain(|_| self.dice.chance(300_000));
            for run in blocks.chunk_by(|a, b| a + 1 == *b) {
                let buffer = OwnedBuffer::zeroed(run.len() * BLOCK as usize);
                let request = Request::Read { offset: run[0] * BLOCK, buffer: buffer.clone().into() };
                let queue = Rc::clone(self.dice.pick(&running.queues));
                let result = self.world().block_on(async move { queue.submit(request).await });
                result
                    .map_err(|stuck| stuck.to_string())?
                    .map_err(|errno| format!("a look failed: {errno:?}"))?;
                for (block, bytes) in run.iter().zip(buffer.to_vec().chunks(BLOCK as usize)) {
                    self.shared.oracle.borrow_mut().found(*block, stamp_of(*block, bytes)?)?;
                }
            }
        }
        // The rest is what the source holds.
        let route = running.volume.route();
        let source = route.readable().find(|plex| plex.behind.is_clean()).ok_or("no plex is in step")?;
        let blocks: Vec<u64> = self.shared.oracle.borrow().blocks().collect();
        for (block, stamp) in held(&source.medium, blocks.into_iter())? {
            self.shared.oracle.borrow_mut().found(block, stamp)?;
        }
        Ok(())
    }

    /// One run: clients and events, then rest, then perhaps more; true if it ended in the middle of things.
    fn run(&mut self, running: &Rc<Running>, operations: u64) -> Result<bool, String> {
        loop {
            let left = operations.saturating_sub(self.shared.operations.get());
            let batch = self.dice.within(100..700).min(left.max(1));
            let clients = self.dice.within(1..9);
            for _ in 0..clients {
                let queue = Rc::clone(self.dice.pick(&running.queues));
                let queue = Rc::new(Checked::new(queue, "volume"));
                self.shared.clients.set(self.shared.clients.get() + 1);
                let each = batch.div_ceil(clients);
                let task = client(queue, Rc::clone(&self.shared), self.dice.split(), each);
                self.spawn(task);
            }
            while self.shared.clients.get() > 0 {
                let steps = self.dice.within(1..300);
                for _ in 0..steps {
                    if self.shared.clients.get() == 0 {
                        break;
                    }
                    if !self.world().step() {
                        return Err(format!("deadlock with {} clients left", self.shared.clients.get()));
                    }
                }
                if self.dice.chance(25_000) {
                    return Ok(true);
                }
                self.event(running);
            }
            self.rest(running)?;
            if left <= batch || self.dice.chance(300_000) {
                return Ok(false);
            }
        }
    }

    /// Something happens to the volume.
    fn event(&mut self, running: &Rc<Running>) {
        let (site, book) = (Rc::clone(&self.site), &self.site.book);
        let route = running.volume.route();
        let any_of = |standings: &[Standing], dice: &mut Rng| {
            let found = site.with_standing(standings);
            (!found.is_empty()).then(|| *dice.pick(&found))
        };
        match self.dice.below(15) {
            0 | 1 => self.harm(running),
            2 | 3 => {
                let ready =
                    |plex: &&cleave::volume::AbsentPlex| plex.recorded && running.can_attach(plex.uuid);
                let mut lost: Vec<_> = route.absent.iter().filter(ready).collect();
                self.dice.shuffle(&mut lost);
                if let Some(plex) = lost.first() {
                    let (uuid, running) = (plex.uuid, Rc::clone(running));
                    let disk = &site.plex(uuid).disk;
                    disk.clear_rules();
                    disk.reappear();
                    let (site, tally) = (Rc::clone(&site), Rc::clone(&self.tally));
                    self.spawn(async move {
                        if running.reattach(&site, uuid).await {
                            running.resync_and_promote(&site, uuid).await;
                            tally.borrow_mut().promotions += 1;
                        }
                    });
                }
            }
            4 | 11 => {
                // A mirror from nothing, or a snapshot put back by what changed since.
                let Some(uuid) = any_of(&[Standing::Free, Standing::Broken], &mut self.dice) else { return };
                let since = site
                    .marks
                    .borrow()
                    .iter()
                    .zip(&*running.marks.borrow())
                    .find(|(mark, _)| mark.of == Some(uuid) && book.standing(uuid) == Standing::Broken)
                    .map(|(_, map)| std::sync::Arc::clone(map));
                if !running.can_attach(uuid)
                    || route.plex(uuid).is_some()
                    || !self.attaching.borrow_mut().insert(uuid)
                {
                    return;
                }
                let attaching = Rc::clone(&self.attaching);
                for mark in site.marks.borrow_mut().iter_mut().filter(|mark| mark.of == Some(uuid)) {
                    mark.of = None;
                }
                site.plex(uuid).disk.clear_rules();
                site.plex(uuid).disk.reappear();
                book.set(uuid, Standing::Free);
                let (running, site, tally) = (Rc::clone(running), Rc::clone(&site), Rc::clone(&self.tally));
                self.spawn(async move {
                    let attached = running.attach_mirror(&site, uuid, since).await;
                    attaching.borrow_mut().remove(&uuid);
                    if attached {
                        running.resync_and_promote(&site, uuid).await;
                        tally.borrow_mut().mirrors += u64::from(site.book.standing(uuid) == Standing::Mirror);
                    }
                });
            }
            5 | 6 | 12 | 13 => {
                let Some(uuid) = any_of(&[Standing::Mirror], &mut self.dice) else { return };
                let (running, site) = (Rc::clone(running), Rc::clone(&site));
                let (shared, tally) = (Rc::clone(&self.shared), Rc::clone(&self.tally));
                self.spawn(async move {
                    let range = site.range();
                    let done = running.cut(&site, uuid, |origin, snapshot| {
                        let differences = origin.differences(snapshot, range);
                        assert!(
                            differences.is_empty(),
                            "a snapshot differs from its origin at {differences:?}"
                        );
                        check_instant(&shared.oracle.borrow(), snapshot);
                    });
                    tally.borrow_mut().cuts += u64::from(done.await);
                });
            }
            7 => {
                let running = Rc::clone(running);
                self.spawn(async move {
                    let _ = running.keeper.clean().await;
                });
            }
            8 => {
                let running = Rc::clone(running);
                self.spawn(async move {
                    let _ = running.keeper.persist_maps().await;
                });
            }
            9 if site.marks.borrow().len() < 4 => {
                let (running, site, tally) = (Rc::clone(running), Rc::clone(&site), Rc::clone(&self.tally));
                self.spawn(async move {
                    tally.borrow_mut().maps += u64::from(running.begin_map(&site).await);
                });
            }
            10 => {
                // The mover looks at a window for a while.
                let (running, range) =
                    (Rc::clone(running), any_range(&mut self.dice, site.range().length, 2048));
                let span = Duration::from_micros(self.dice.below(5000));
                self.spawn(async move {
                    let _window = running.volume.window(range).await;
                    running.host.clock().sleep(span).await;
                });
            }
            14 => self.harm_state(),
            _ => {}
        }
    }

    /// A page of a map cannot be written; seldom one of the intent map, which is lost by it.
    fn harm_state(&mut self) {
        let site = &self.site;
        let plexes = site.plexes.iter().map(|plex| plex.map.borrow().clone());
        let maps: Vec<_> = plexes.chain(site.marks.borrow().iter().map(|mark| mark.map.clone())).collect();
        let intent = self.dice.chance(30_000);
        let disk = if intent { site.intent.borrow().clone() } else { self.dice.pick(&maps).clone() };
        let when = When::Nth(self.dice.below(3));
        disk.add_rule(Rule::new(Operation::Write, when, Fault::Error(Errno::IO)));
        self.tally.borrow_mut().state_harmed += 1;
    }

    /// Something happens to a plex; never to the last ACTIVE one, nor to the one that others are resynced from.
    fn harm(&mut self, running: &Rc<Running>) {
        let route = running.volume.route();
        let site = &self.site;
        // One at a time: until the last victim has left, or what was to happen to it has happened or never will.
        let now = self.world().clock().now();
        if let Some((uuid, since)) = self.victim
            && let Some(plex) = route.plex(uuid)
        {
            if !plex.medium.is_gone() && self.dice.chance(100_000) {
                plex.medium.clear_rules();
            }
            if plex.medium.is_gone()
                || !plex.medium.rules().is_empty()
                || now.since(since) < Duration::from_secs(15)
            {
                return;
            }
        }
        if route.has_unrecorded() {
            return;
        }
        let authority = route.readable().filter(|plex| plex.behind.is_clean()).count();
        let victims: Vec<_> = route
            .plexes
            .iter()
            .filter(|plex| {
                authority > 1 || !plex.behind.is_clean() || plex.role == cleave::volume::Role::WriteOnly
            })
            .collect();
        if victims.is_empty() {
            return;
        }
        let victim = *self.dice.pick(&victims);
        self.victim = Some((victim.uuid, now));
        let disk = &site.plex(victim.uuid).disk;
        self.tally.borrow_mut().losses += 1;
        let on = *self.dice.pick(&[
            Operation::Write,
            Operation::Write,
            Operation::Zeroes,
            Operation::Discard,
            Operation::Flush,
            Operation::Read,
        ]);
        let when = When::Nth(self.dice.below(20));
        match self.dice.below(5) {
            0 | 1 => disk.add_rule(Rule::new(on, when, Fault::Error(Errno::IO))),
            2 => {
                disk.add_rule(Rule::new(on, when, Fault::Hang(Duration::from_millis(self.dice.below(9000)))))
            }
            3 => disk.add_rule(Rule::new(Operation::Write, When::Always, Fault::Error(Errno::NO_SPACE))),
            _ => disk.disappear(),
        }
    }

    /// Let everything end, then look at it.
    fn rest(&mut self, running: &Rc<Running>) -> Result<(), String> {
        self.world().run_for(Duration::from_secs(20));
        running.check_quiet(&self.site, &self.shared.oracle.borrow())?;
        if self.dice.chance(300_000) {
            let keeper = running.keeper.clone();
            let cleaned = self
                .world()
                .block_on(async move { keeper.clean().await })
                .map_err(|stuck| stuck.to_string())?;
            if cleaned.is_ok()
                && !running.volume.route().has_unrecorded()
                && !running.volume.intent().is_pinned()
                && !running.volume.intent().is_lost()
            {
                let left = running.volume.intent().durable().count();
                assert_eq!(left, 0, "intent is clean after everything was flushed");
                assert!(self.site.stored_intent().is_clean(), "and on disk");
            }
        }
        Ok(())
    }
}

/// A write that had no answer at the instant of a cut is not in the snapshot: it was new, or it had ended.
fn check_instant(oracle: &Oracle, snapshot: &cleave::sim::SimDisk) {
    for (stamp, range) in oracle.writes_in_flight().filter(|(stamp, _)| *stamp != ZEROES) {
        let blocks = range.offset / BLOCK..range.end() / BLOCK;
        for (block, held) in held(snapshot, blocks).expect("a snapshot holds what was written") {
            assert_ne!(
                held, stamp,
                "block {block} of a snapshot holds a write that had not ended at the cut"
            );
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// One world; a failure is told with its seed and the last things that its disks did.
fn one_world(seed: u64, operations: u64) -> Tally {
    let play = Play::new(seed);
    let (journal, seed) = (play.world().journal().clone(), play.seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play.play(operations)));
    let again = format!(
        "again with: CLEAVE_SEED={seed} CLEAVE_OPERATIONS={operations} cargo test --test model random"
    );
    let shown = || {
        if std::env::var_os("CLEAVE_JOURNAL").is_some() {
            eprintln!("{journal}");
        }
    };
    match outcome {
        Ok(Ok(tally)) => tally,
        Ok(Err(violation)) => {
            shown();
            panic!("seed {seed}: {violation}\n{again}")
        }
        Err(panic) => {
            shown();
            eprintln!("seed {seed}: {again}");
            std::panic::resume_unwind(panic)
        }
    }
}

#[test]
fn random_operations_agree_with_the_oracle() {
    const EACH: u64 = 2000;
    let seed = number("CLEAVE_SEED");
    let wanted = number("CLEAVE_OPERATIONS").unwrap_or(if seed.is_some() { EACH } else { 100_000 });
    let first = seed.unwrap_or(1);
    let begin = Instant::now();
    let mut total = Tally::default();
    let mut worlds = 0;
    while total.operations < wanted {
        let tally = one_world(first + worlds, EACH.min(wanted));
        worlds += 1;
        total.operations += tally.operations;
        total.failed += tally.failed;
        total.crashes += tally.crashes;
        total.losses += tally.losses;
        total.state_harmed += tally.state_harmed;
        total.cuts += tally.cuts;
        total.mirrors += tally.mirrors;
        total.promotions += tally.promotions;
        total.maps += tally.maps;
    }
    println!(
        "{worlds} worlds from seed {first} on, {} operations ({} failed as they had to), {} crashes in the middle, {} plexes harmed, {} maps' pages, {} mirrors made, {} cuts, {} plexes back in step, {} maps, {:.1} s",
        total.operations,
        total.failed,
        total.crashes,
        total.losses,
        total.state_harmed,
        total.mirrors,
        total.cuts,
        total.promotions,
        total.maps,
        begin.elapsed().as_secs_f64()
    );
    for (what, count) in [
        ("crashes", total.crashes),
        ("plexes harmed", total.losses),
        ("maps' pages harmed", total.state_harmed),
        ("mirrors", total.mirrors),
        ("cuts", total.cuts),
        ("plexes back in step", total.promotions),
        ("maps", total.maps),
    ] {
        assert!(count >= wanted / 10_000, "only {count} {what}: the test does not test what it should");
    }
}
