//! One world: a group with volumes that lives through a number of crashes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use cleave::base::limits::EXTENT_BYTES;
use cleave::base::{ByteRange, Errno, FaultPoint, Kind, Name, RegionSize, Uuid};
use cleave::catalog::files::{is_state_file, state_files};
use cleave::control::words::{Consistency, DataPath, Init};
use cleave::control::{Reply, Request, ServerMessage, request};
use cleave::daemon::owner::Owner;
use cleave::daemon::server::{Answer, Peer, Service};
use cleave::sim::{Fault, Operation, Rng, Rule, SimDisk, When};
use cleave::state::{Group, MediumKind, Plex, PlexState, Volume, VolumeState};

use crate::files::{Mood, crash_at_change};
use crate::machine::{Ask, Crash, Kernel, SimMachine};
use crate::oracle::Oracle;
use crate::pattern::{BLOCK, Stamp, ZEROES, stamp_of};

type Daemon = Rc<Owner<SimMachine>>;

/// Verbs that leave a volume with fewer plexes.
const TAKES_OUT: [&str; 5] = ["plex detach", "plex offline", "plex replace", "remove mirror", "plex convert"];

const ROOT: &str = "/state";
const GROUP: &str = "g";
const POOL: [&str; 3] = ["/pool/a", "/pool/b", "/pool/c"];

/// Steps that a verb or a client gets before something else happens.
const BUDGET: u64 = 3000;
/// Steps in which a volume has to become redundant again once all tasks have ended.
const AFTERMATH: u64 = 200_000;

/// What worlds did.
#[derive(Default)]
pub struct Tally {
    pub crashes: u64,
    power_cuts: u64,
    in_recovery: u64,
    requests: u64,
    verbs: u64,
    done: u64,
    cuts: u64,
    /// Points at which a crash was, with how often.
    pub points: BTreeMap<FaultPoint, u64>,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        for (ours, theirs) in [
            (&mut self.crashes, other.crashes),
            (&mut self.power_cuts, other.power_cuts),
            (&mut self.in_recovery, other.in_recovery),
            (&mut self.requests, other.requests),
            (&mut self.verbs, other.verbs),
            (&mut self.done, other.done),
            (&mut self.cuts, other.cuts),
        ] {
            *ours += theirs;
        }
        for (point, count) in &other.points {
            *self.points.entry(*point).or_default() += count;
        }
    }

    pub fn line(&self) -> String {
        format!(
            "{} crashes ({} power cuts, {} in recovery), {} requests, {} verbs of which {} were done, {} snapshots, 0 violations, \
             {} of {} fault points",
            self.crashes,
            self.power_cuts,
            self.in_recovery,
            self.requests,
            self.verbs,
            self.done,
            self.cuts,
            self.points.len(),
            FaultPoint::ALL.len()
        )
    }

    /// To be gone on from: the next seed, the numbers, the points.
    pub fn text(&self, seed: u64) -> String {
        let numbers = [
            self.crashes,
            self.power_cuts,
            self.in_recovery,
            self.requests,
            self.verbs,
            self.done,
            self.cuts,
        ];
        let mut text = seed.to_string();
        numbers.iter().for_each(|number| text.push_str(&format!(" {number}")));
        for (point, count) in &self.points {
            text.push_str(&format!("\n{count}\t{}", point.name()));
        }
        text.push('\n');
        text
    }

    pub fn parse(text: &str) -> Option<(u64, Self)> {
        let mut lines = text.lines();
        let numbers: Result<Vec<u64>, _> = lines.next()?.split(' ').map(str::parse).collect();
        let [seed, crashes, power_cuts, in_recovery, requests, verbs, done, cuts] = numbers.ok()?[..] else {
            return None;
        };
        let mut tally =
            Self { crashes, power_cuts, in_recovery, requests, verbs, done, cuts, points: BTreeMap::new() };
        for line in lines {
            let (count, name) = line.split_once('\t')?;
            // A point of an older program is not counted.
            if let Some(point) = FaultPoint::ALL.iter().find(|point| point.name() == name) {
                tally.points.insert(*point, count.parse().ok()?);
            }
        }
        Some((seed, tally))
    }
}

/// How a step of the world went.
enum Step {
    Went,
    /// There was nothing to do.
    Idle,
    /// The process ended in it.
    Died,
}

/// What ends the process.
#[derive(Default)]
struct Fuse {
    /// At this point, when it is come by for so many more times.
    point: Cell<Option<(FaultPoint, u64)>>,
    /// At the point that is come by after so many others.
    any: Cell<Option<u64>>,
    /// Where it ended.
    blown: Cell<Option<FaultPoint>>,
}

impl Fuse {
    fn reached(&self, point: FaultPoint) {
        let blow = match (self.point.get(), self.any.get()) {
            (Some((wanted, 0)), _) if wanted == point => true,
            (Some((wanted, left)), _) if wanted == point => {
                self.point.set(Some((wanted, left - 1)));
                false
            }
            (_, Some(0)) => true,
            (_, Some(left)) => {
                self.any.set(Some(left - 1));
                false
            }
            _ => false,
        };
        if blow {
            self.clear();
            self.blown.set(Some(point));
            std::panic::resume_unwind(Box::new(Crash));
        }
    }

    fn clear(&self) {
        self.point.set(None);
        self.any.set(None);
    }
}

pub struct Play {
    dice: Rng,
    /// The point at which this world crashes most, so that each one is crashed at in as many worlds as there are points.
    favourite: FaultPoint,
    kernel: Rc<Kernel>,
    daemon: Rc<RefCell<Option<Daemon>>>,
    fuse: Rc<Fuse>,
    tally: Tally,
    stamp: u64,
    names: u64,
    verbs: Rc<RefCell<Vec<&'static str>>>,
    done: Rc<Cell<u64>>,
    /// Something was done to a disk or directory since the last start, so that verbs may fail.
    troubled: Rc<Cell<bool>>,
    story: bool,
}

/// Whether what happens is to be told.
fn story() -> bool {
    let wanted = std::env::var("CLEAVE_STORY").is_ok();
    if wanted {
        // A second world of the same run finds it there.
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .without_time()
            .with_writer(std::io::stdout)
            .try_init();
    }
    wanted
}

fn name(text: &str) -> Name {
    text.parse().expect("a valid name")
}

impl Play {
    pub fn new(seed: u64) -> Self {
        let kernel = Kernel::new(seed);
        kernel.memory_denied.set(30_000);
        if std::env::var("CLEAVE_DISK").is_ok() {
            kernel.world.journal().keep(1 << 20);
        }
        let dice = kernel.dice.borrow_mut().split();
        for directory in POOL.iter().copied().chain([ROOT]) {
            kernel.tree.make_directory(Path::new(directory));
        }
        Self {
            dice,
            favourite: FaultPoint::ALL[(seed % FaultPoint::ALL.len() as u64) as usize],
            kernel,
            daemon: Rc::default(),
            fuse: Rc::default(),
            tally: Tally::default(),
            stamp: 0,
            names: 0,
            verbs: Rc::default(),
            done: Rc::default(),
            troubled: Rc::default(),
            story: story(),
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.story {
            use cleave::device::Clock;
            println!("{:>12} {}", self.kernel.world.clock().now().0 / 1000, what());
        }
    }

    /// Have the fuse hear of every point. A hook that ends the process is gone with it.
    fn hear_of_points(&self) {
        let (fuse, kernel, daemon) =
            (Rc::clone(&self.fuse), Rc::clone(&self.kernel), Rc::clone(&self.daemon));
        FaultPoint::on_reached(Some(Box::new(move |point| {
            if point == FaultPoint::CutSwapped
                && let Some(daemon) = &*daemon.borrow()
            {
                look_at_cut(&kernel, daemon);
            }
            fuse.reached(point);
        })));
    }

    pub fn play(mut self) -> Result<Tally, String> {
        let outcome = self.live();
        FaultPoint::on_reached(None);
        crash_at_change(None);
        if let (Err(_), Ok(disk)) = (&outcome, std::env::var("CLEAVE_DISK")) {
            // What was done to one disk last, for whoever looks for the reason.
            let events = self.kernel.world.journal().events();
            for event in events.iter().filter(|event| event.disk.to_string() == disk) {
                println!("{event:?}");
            }
        }
        self.end_process();
        self.tally.requests = self.kernel.answered.get();
        self.tally.done = self.done.get();
        self.tally.cuts = self.kernel.images.borrow().len() as u64;
        outcome.map(|()| self.tally)
    }

    fn end_process(&mut self) {
        self.kernel.kill();
        self.daemon.borrow_mut().take();
        self.verbs.borrow_mut().clear();
    }

    /// One step of the world.
    fn step(&self) -> Result<Step, String> {
        let world = &self.kernel.world;
        match catch_unwind(AssertUnwindSafe(|| world.step())) {
            Ok(true) => {}
            Ok(false) => return Ok(Step::Idle),
            Err(payload) if payload.is::<Crash>() => return Ok(Step::Died),
            Err(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                return Err(format!("a panic: {}", text.unwrap_or_default()));
            }
        }
        match self.kernel.violation.borrow().clone() {
            Some(violation) => Err(violation),
            None => Ok(Step::Went),
        }
    }

    /// Run until `done`; false when the process ended before.
    fn run_until(&self, what: &str, done: impl Fn(&Self) -> bool) -> Result<bool, String> {
        for _ in 0..2_000_000_u64 {
            if done(self) {
                return Ok(true);
            }
            match self.step().map_err(|error| format!("{what}: {error}"))? {
                Step::Went => {}
                Step::Died => return Ok(false),
                Step::Idle => return Err(format!("{what}: a deadlock; verbs {:?}", self.verbs.borrow())),
            }
        }
        Err(format!("{what}: does not end; verbs {:?}", self.verbs.borrow()))
    }

    /// Start a daemon; false when it died before it was up.
    fn boot(&mut self) -> Result<bool, String> {
        self.hear_of_points();
        let machine = SimMachine(Rc::downgrade(&self.kernel));
        let (owner, pleas) =
            Owner::new(machine.clone(), PathBuf::from(ROOT), machine.thread(), machine.thread());
        *self.daemon.borrow_mut() = Some(Rc::clone(&owner));
        let up = Rc::new(RefCell::new(None));
        let told = Rc::clone(&up);
        self.kernel.world.spawn(async move {
            let outcome = owner.boot(pleas).await;
            *told.borrow_mut() = Some(outcome);
        });
        if !self.run_until("start of the daemon", |_| up.borrow().is_some())? {
            return Ok(false);
        }
        match up.borrow_mut().take() {
            Some(Err(refused)) => Err(format!("the daemon does not start: {refused}")),
            Some(Ok(())) | None => Ok(true),
        }
    }

    fn owner(&self) -> Daemon {
        self.daemon.borrow().clone().expect("a daemon runs")
    }

    fn record(&self) -> Option<Rc<Group>> {
        self.owner().group(&name(GROUP)).ok().map(|group| group.record())
    }

    /// Ask the daemon for a verb, as a client of its socket does.
    fn ask(&mut self, verb: &'static str, request: Request) {
        self.tell(|| format!("verb {request:?}"));
        let (owner, kernel) = (self.owner(), Rc::clone(&self.kernel));
        let (verbs, done, troubled) =
            (Rc::clone(&self.verbs), Rc::clone(&self.done), Rc::clone(&self.troubled));
        verbs.borrow_mut().push(verb);
        self.tally.verbs += 1;
        let story = self.story;
        let (messages, mut received) = tokio::sync::mpsc::channel::<ServerMessage>(64);
        self.kernel.world.spawn(async move { while received.recv().await.is_some() {} });
        self.kernel.world.spawn(async move {
            let outcome: Result<Reply, _> =
                owner.serve(Peer { uid: 0, pid: 1 }, request, Answer::new(messages)).await;
            if story {
                println!("    {verb}: {outcome:?}");
            }
            match outcome {
                Ok(_) => done.set(done.get() + 1),
                Err(refused) => {
                    let ours = matches!(
                        refused.kind,
                        Kind::System | Kind::Io | Kind::Damaged | Kind::Internal | Kind::CannotStart
                    );
                    if ours && !troubled.get() {
                        kernel.violate(format!("{verb} failed, and nothing was wrong: {refused}"));
                    }
                }
            }
            let mut verbs = verbs.borrow_mut();
            if let Some(at) = verbs.iter().position(|other| *other == verb) {
                verbs.remove(at);
            }
        });
    }

    fn fresh_name(&mut self, prefix: &str) -> Name {
        self.names += 1;
        name(&format!("{prefix}{}", self.names))
    }

    fn live(&mut self) -> Result<(), String> {
        if !self.boot()? {
            return Err("the first start died".to_owned());
        }
        let media = POOL.iter().map(|path| request::MediumSpec { name: None, path: path.into() }).collect();
        self.ask("group create", Request::GroupCreate(request::GroupCreate { group: name(GROUP), media }));
        self.settle("the first group")?;
        let lives = self.dice.within(8..24);
        for _ in 0..lives {
            self.one_life()?;
        }
        Ok(())
    }

    /// Do things until a crash, then recover and check.
    fn one_life(&mut self) -> Result<(), String> {
        let crashed = self.busy()?;
        let mut point = self.fuse.blown.take();
        crash_at_change(None);
        self.fuse.clear();
        self.tell(|| format!("crash at {point:?} ({crashed})"));
        // A crash, and up to two further ones while the first is recovered from.
        for again in 0..3 {
            let how = self.crash(point);
            self.tally.in_recovery += u64::from(again > 0);
            self.tell(|| format!("daemon starts after {how}"));
            let fused = again < 2 && self.dice.chance(250_000);
            if fused {
                self.light();
            }
            let up = self.boot()? && (!fused || self.recover()?);
            point = self.fuse.blown.take();
            self.fuse.clear();
            crash_at_change(None);
            if up {
                break;
            }
            self.tell(|| format!("crash in recovery at {point:?}"));
        }
        self.check()
    }

    fn light(&mut self) {
        match self.dice.below(10) {
            0..6 => {
                let any = *self.dice.pick(FaultPoint::ALL);
                let passed = self.dice.below(3);
                let favoured = self.dice.coin().then_some((self.favourite, passed / 2));
                self.fuse.point.set(Some(favoured.unwrap_or((any, passed))));
            }
            6..8 => self.fuse.any.set(Some(self.dice.below(80))),
            _ => crash_at_change(Some(self.dice.below(60))),
        }
    }

    /// End the daemon, or everything; how it was done.
    fn crash(&mut self, point: Option<FaultPoint>) -> &'static str {
        let power = self.dice.coin();
        let devices = self.dice.chance(100_000);
        self.tally.crashes += 1;
        self.tally.power_cuts += u64::from(power);
        if let Some(point) = point {
            *self.tally.points.entry(point).or_default() += 1;
        }
        // What was wrong with disks is mended while nobody looks.
        self.kernel.tree.set_mood(Mood::Well);
        for disk in self.kernel.tree.disks() {
            disk.clear_rules();
            disk.reappear();
            disk.release();
        }
        if power {
            self.kernel.power_cut();
        }
        self.end_process();
        if devices {
            self.kernel.remove_devices();
        }
        self.troubled.set(false);
        self.kernel.may_fail.set(false);
        let sick = self.kernel.sick.take();
        // What nobody was told of is told by whichever daemon a flush reaches first.
        let mut before = self.kernel.sick_before.borrow_mut();
        match power {
            true => before.clear(),
            false => before.extend(sick),
        }
        drop(before);
        match (power, devices) {
            (true, _) => "a power cut",
            (false, true) => "a kill and the end of its devices",
            (false, false) => "a kill",
        }
    }

    /// Verbs, clients and faults, until the fuse is blown or the budget is spent.
    fn busy(&mut self) -> Result<&'static str, String> {
        let calm = self.dice.chance(150_000);
        if !calm {
            self.light();
        }
        let budget = self.dice.within(BUDGET / 6..BUDGET);
        let mut spent = 0;
        while spent < budget {
            if self.verbs.borrow().len() < 2 && self.dice.chance(300_000) {
                self.some_verb();
            }
            if self.kernel.pending() < 8 {
                for _ in 0..self.dice.within(0..5) {
                    self.some_request();
                }
            }
            if self.dice.chance(8_000) {
                self.some_fault();
            }
            let steps = self.dice.within(1..60);
            for _ in 0..steps {
                match self.step()? {
                    Step::Went => {}
                    Step::Idle => break,
                    Step::Died => return Ok("in a step"),
                }
            }
            spent += steps;
        }
        Ok("at last")
    }

    fn some_request(&mut self) {
        let found = self.kernel.found();
        if found.is_empty() {
            return;
        }
        let (device, volume) = *self.dice.pick(&found);
        let Some(record) = self.record() else { return };
        let Some(length) = self.kernel.length_of(device).filter(|_| record.volume_by_id(volume).is_some())
        else {
            return;
        };
        self.learn(&record);
        let blocks = length / BLOCK;
        let count = match self.dice.below(8) {
            0 => self.dice.within(1..129),
            _ => self.dice.within(1..17),
        };
        // A few places that all like, at the borders of regions and extents.
        let spots = [0, 120, EXTENT_BYTES / BLOCK - 8, blocks - 24];
        let first = if self.dice.chance(800_000) {
            *self.dice.pick(&spots) + self.dice.below(24)
        } else {
            self.dice.below(blocks)
        };
        let first = first.min(blocks - 1);
        let range = ByteRange::new(first * BLOCK, count.min(blocks - first) * BLOCK);
        let durable = self.dice.chance(150_000);
        let ask = match self.dice.below(100) {
            0..55 => {
                self.stamp += 1;
                Ask::Write { range, stamp: self.stamp, durable }
            }
            55..60 => Ask::Zeroes { range, durable },
            60..65 => Ask::Discard { range },
            65..75 => Ask::Flush,
            _ => Ask::Read { range },
        };
        self.kernel.ask(device, ask);
    }

    fn some_verb(&mut self) {
        let Some(record) = self.record() else { return };
        let group = name(GROUP);
        let volumes = record.volumes();
        // Half of them lead to where this world crashes most.
        let sought = self.favourite.name().split(':').next().filter(|_| self.dice.coin());
        let makes = if sought == Some("make") { 500_000 } else { 50_000 };
        if volumes.len() < 2 || (volumes.len() < 4 && self.dice.chance(makes)) {
            let volume = self.fresh_name("v");
            let length = (self.dice.within(8..14) << 17) + self.dice.below(16) * 4096;
            let length_bytes = if self.dice.chance(100_000) { length + EXTENT_BYTES } else { length };
            let region = self.dice.coin().then(|| RegionSize::new(16 << 10).expect("a legal size"));
            let request = request::Make {
                group,
                volume,
                length_bytes: length_bytes.next_multiple_of(4096),
                nmirror: *self.dice.pick(&[1, 2, 2, 3]),
                media: Vec::new(),
                plexes: Vec::new(),
                sparse: self.dice.coin(),
                region,
                init: *self.dice.pick(&[Init::Zero, Init::Zero, Init::Sync]),
                data: DataPath::Auto,
                force: false,
            };
            return self.ask("make", Request::Make(request));
        }
        let snapshots: Vec<_> = volumes.iter().filter(|volume| volume.origin().is_some()).collect();
        let volume = match sought {
            Some("snapback") if !snapshots.is_empty() => (*self.dice.pick(&snapshots)).clone(),
            _ => self.dice.pick(volumes).clone(),
        };
        let (uuid, called) = (volume.uuid(), volume.name().clone());
        let background = self.dice.coin();
        let snapdone = volume.snapdone_count() > 0;
        let any = self.dice.below(24);
        let drawn = match sought {
            Some("attach") => 0,
            Some("snapshot") => 5,
            Some("snapback") => 11,
            Some("rm") => 12,
            Some("stop") => 13,
            Some("scrub") => 16,
            Some("resize") => 23,
            Some(_) | None => any,
        };
        match drawn {
            0 | 1 if volume.plexes().len() < 4 => {
                let request = request::Mirror {
                    group,
                    volume: called,
                    nmirror: 1,
                    media: Vec::new(),
                    plexes: Vec::new(),
                    sparse: self.dice.coin(),
                    bytes_per_second: None,
                    latency_us: None,
                    background,
                    force: false,
                };
                self.ask("mirror", Request::Mirror(request));
            }
            // What is left may be what has trouble.
            2 if !self.troubled.get() => {
                let request = request::RemoveMirror { group, volume: Some(called), plex: None };
                self.ask(TAKES_OUT[3], Request::RemoveMirror(request));
            }
            3..7 if !snapdone && volume.plexes().len() < 4 && volume.snapshot_mirrors().next().is_none() => {
                let request = request::SnapStart {
                    group,
                    volume: called,
                    nmirror: 1,
                    media: Vec::new(),
                    plexes: Vec::new(),
                    sparse: self.dice.coin(),
                    bytes_per_second: None,
                    latency_us: None,
                    background,
                    force: false,
                };
                self.ask("snapstart", Request::SnapStart(request));
            }
            3..9 if snapdone && volumes.len() < 6 => {
                let snapshot = Some(self.fresh_name("s"));
                let members = vec![request::CutMember { volume: called, snapshot }];
                let request = request::Snapshot {
                    group,
                    members,
                    pattern: None,
                    consistency: *self.dice.pick(&[Consistency::Fs, Consistency::Crash]),
                    nmirror: 1,
                };
                self.ask("snapshot", Request::Snapshot(request));
                if self.favourite == FaultPoint::CutRolledBack && !self.troubled.get() {
                    // It is backed out because its mirror cannot be flushed.
                    for mirror in volume.plexes().iter().filter(|plex| plex.state() == PlexState::SnapDone) {
                        if let Some(disk) = self.kernel.tree.disk(mirror.medium().path.as_path()) {
                            let fault = Fault::Error(Errno::IO);
                            self.troubled.set(true);
                            self.kernel.sick.borrow_mut().insert(disk.index());
                            disk.add_rule(Rule::new(Operation::Flush, When::Always, fault));
                        }
                    }
                }
            }
            9 => {
                let request = request::SnapWait { group, volume: called, nmirror: 1 };
                self.ask("snapwait", Request::SnapWait(request));
            }
            3..12 if volume.origin().is_some() => {
                let request = request::SnapBack {
                    group,
                    snapshot: called,
                    nmirror: None,
                    bytes_per_second: None,
                    latency_us: None,
                    background,
                };
                self.ask("snapback", Request::SnapBack(request));
            }
            10 => {
                let request = request::SnapAbort { group, volume: called, nmirror: 1 };
                self.ask("snapabort", Request::SnapAbort(request));
            }
            12 if volume.origin().is_some() && self.dice.chance(300_000) => {
                let request = request::SnapClear { group, snapshot: called, other: None };
                self.ask("snapclear", Request::SnapClear(request));
            }
            12 if self.dice.chance(400_000) => {
                let request = request::Remove { group, object: called, recursive: true, force: true };
                self.ask("rm", Request::Remove(request));
            }
            13 | 14 if volume.state().is_started() && self.owner().live(uuid).is_some() => {
                self.ask("stop", Request::Stop(request::Stop { group, volume: called }));
            }
            13..16 => {
                let request = request::Start { group, volume: called, source: None };
                self.ask("start", Request::Start(request));
            }
            16 if sought == Some("scrub") || self.dice.chance(600_000) => {
                let repair =
                    if self.dice.coin() { request::Repair::Report } else { request::Repair::Majority };
                let bytes_per_second = None;
                let request = request::Scrub {
                    group,
                    volume: called,
                    repair,
                    bytes_per_second,
                    latency_us: None,
                    background,
                };
                self.ask("scrub", Request::Scrub(request));
            }
            16 => self.ask("verify", Request::Verify(request::Verify { group, volume: called })),
            17 if !volume.plexes().is_empty() && self.dice.coin() => {
                let preferred = self.dice.pick(volume.plexes()).name().clone();
                let read_from = self.dice.coin().then_some(request::ReadFrom::Prefer(preferred));
                let read_from = Some(read_from.unwrap_or(request::ReadFrom::Round));
                let request = request::Set { read_from, ..request::Set::nothing(group, called) };
                self.ask("set", Request::Set(request));
            }
            17 => {
                let start = self.dice.coin();
                let request = request::Recover { group, volumes: vec![called], start, background };
                self.ask("recover", Request::Recover(request));
            }
            23 => {
                let more = self.dice.within(1..160) * 4096;
                let more = if self.dice.chance(100_000) { more + EXTENT_BYTES } else { more };
                let length = request::Length::GrowBy(more);
                let request = request::Resize { group, volume: called, length, force: false };
                self.ask("resize", Request::Resize(request));
            }
            18..23 if !volume.plexes().is_empty() => {
                let plex = self.dice.pick(volume.plexes()).clone();
                self.some_verb_on(drawn, &plex);
            }
            _ => {
                let tasks = self.owner().tasks.list(None);
                let Some(task) = tasks.iter().find(|task| !task.state.ended()).map(|task| task.task) else {
                    return;
                };
                let task = || request::TaskRef { task };
                match self.dice.below(4) {
                    0 => {
                        self.ask("pause", Request::TaskPause(task()));
                        self.ask("resume", Request::TaskResume(task()));
                    }
                    1 => self.ask("abort", Request::TaskAbort(task())),
                    _ => self.ask("resume", Request::TaskResume(task())),
                }
            }
        }
    }

    /// A verb that takes `plex` out of its volume or in again.
    fn some_verb_on(&mut self, drawn: u64, plex: &Plex) {
        let (group, background) = (name(GROUP), self.dice.coin());
        let called = plex.name().clone();
        let all_well = !self.troubled.get();
        let back_in = || {
            let (group, plex) = (group.clone(), called.clone());
            request::PlexAttach {
                group,
                volume: None,
                plex,
                bytes_per_second: None,
                latency_us: None,
                background,
            }
        };
        let out = || request::PlexRef { group: group.clone(), plex: called.clone() };
        match plex.state() {
            PlexState::Stale => self.ask("attach plex", Request::PlexAttach(back_in())),
            PlexState::Offline => self.ask("plex online", Request::PlexOnline(back_in())),
            _ if !all_well => {}
            _ if drawn < 20 => self.ask(TAKES_OUT[0], Request::PlexDetach(out())),
            _ if drawn < 21 => self.ask(TAKES_OUT[1], Request::PlexOffline(out())),
            _ if self.dice.coin() => self.ask(TAKES_OUT[4], Request::PlexConvert(out())),
            _ => {
                let request = request::PlexReplace {
                    group: group.clone(),
                    plex: called.clone(),
                    path: None,
                    media: Vec::new(),
                    sparse: self.dice.coin(),
                    bytes_per_second: None,
                    latency_us: None,
                    background,
                    force: false,
                };
                self.ask(TAKES_OUT[2], Request::PlexReplace(request));
            }
        }
    }

    /// Something happens to a disk that its volume can do without, or to the state directory.
    fn some_fault(&mut self) {
        let Some(record) = self.record() else { return };
        if self.troubled.get() || self.verbs.borrow().iter().any(|verb| TAKES_OUT.contains(verb)) {
            return;
        }
        if self.dice.chance(150_000) {
            let mood = *self.dice.pick(&[Mood::Full, Mood::ReadOnly, Mood::Failing]);
            self.tell(|| format!("the state directory is {mood:?}"));
            self.troubled.set(true);
            self.kernel.may_fail.set(true);
            self.kernel.tree.set_mood(mood);
            return;
        }
        let mut spare = Vec::new();
        for live in self.owner().all_live() {
            let route = live.volume.route();
            let whole = |uuid: Uuid| {
                let plex = route.plex(uuid);
                plex.is_some_and(|plex| plex.behind.is_clean())
                    && record.plex_by_id(uuid).is_some_and(|(_, plex)| plex.state() == PlexState::Active)
            };
            let steady = route.plexes.iter().filter(|plex| whole(plex.uuid)).count();
            let is_spare = |uuid: Uuid| {
                record.plex_by_id(uuid).is_some_and(|(_, plex)| plex.state() == PlexState::SnapDone)
            };
            let mirrors = route.plexes.iter().filter(|plex| is_spare(plex.uuid));
            spare.extend(mirrors.map(|plex| plex.medium.disk.clone()));
            let resync = record.volume_by_id(live.volume.shape().uuid).and_then(Volume::resync).is_some();
            if steady >= 2 && !resync {
                spare.extend(
                    route.plexes.iter().filter(|plex| whole(plex.uuid)).map(|plex| plex.medium.disk.clone()),
                );
            }
        }
        if spare.is_empty() {
            return;
        }
        let disk: SimDisk = self.dice.pick(&spare).clone();
        self.troubled.set(true);
        self.kernel.sick.borrow_mut().insert(disk.index());
        let errno = *self.dice.pick(&[Errno::IO, Errno::NO_SPACE]);
        let operation =
            *self.dice.pick(&[Operation::Write, Operation::Write, Operation::Read, Operation::Flush]);
        let when = *self.dice.pick(&[When::Nth(0), When::Nth(3), When::Always]);
        match self.dice.below(4) {
            0 => disk.disappear(),
            1 => disk.add_rule(Rule::new(operation, when, Fault::Hang(Duration::from_millis(700)))),
            _ => disk.add_rule(Rule::new(operation, when, Fault::Error(errno))),
        }
        self.tell(|| {
            format!("disk {} has trouble: {:?} gone {}", disk.index(), disk.rules(), disk.is_gone())
        });
    }

    /// Wait until nothing is under way; false when the process died before.
    fn settle(&mut self, what: &str) -> Result<bool, String> {
        self.run_until(what, |play| {
            play.verbs.borrow().is_empty()
                && play.kernel.pending() == 0
                && play.owner().tasks.list(None).iter().all(|task| task.state.ended())
        })
    }

    /// Start what does not run and wait until nothing is under way; false when the process died before.
    fn recover(&mut self) -> Result<bool, String> {
        if self.owner().group(&name(GROUP)).is_err() {
            return Err("the group is not served".to_owned());
        }
        let stopped: Vec<Name> = self
            .record()
            .iter()
            .flat_map(|record| record.volumes().to_vec())
            .filter(|volume| self.owner().live(volume.uuid()).is_none())
            .map(|volume| volume.name().clone())
            .collect();
        for volume in stopped {
            self.ask("start", Request::Start(request::Start { group: name(GROUP), volume, source: None }));
        }
        if !self.settle("recovery")? {
            return Ok(false);
        }
        // What follows the end of a task: the end of a resync is recorded, the copy of the next plex begins.
        let resyncing = |record: Rc<Group>| record.volumes().iter().any(|volume| volume.resync().is_some());
        for _ in 0..AFTERMATH {
            if !self.record().is_some_and(resyncing) {
                break;
            }
            match self.step()? {
                Step::Went => {}
                Step::Idle => break,
                Step::Died => return Ok(false),
            }
        }
        // And what is done with no task: intent is cleared.
        for _ in 0..400 {
            match self.step()? {
                Step::Went => {}
                Step::Idle => break,
                Step::Died => return Ok(false),
            }
        }
        self.settle("recovery")
    }

    /// Everything is as the oracle says, now that the daemon is up again.
    fn check(&mut self) -> Result<(), String> {
        let before = self.record().ok_or("the group is not served")?;
        before.check().map_err(|refused| format!("the configuration makes no sense: {refused}"))?;
        for volume in before.volumes() {
            let served =
                self.kernel.shown().iter().any(|(_, uuid, served)| *uuid == volume.uuid() && *served);
            if volume.state().is_started() && !served {
                return Err(format!("volume {} is {:?} and nobody serves it", volume.name(), volume.state()));
            }
            if volume.state() == VolumeState::Empty {
                return Err(format!("volume {} was left half made", volume.name()));
            }
        }
        if let Some((number, ..)) = self.kernel.shown().iter().find(|(_, _, served)| !served) {
            return Err(format!("device {number} still waits for a daemon"));
        }
        if !self.recover()? {
            return Err("died without a reason".to_owned());
        }
        // Nobody changes media behind the daemon's back: what it relied on when it died is as good as the record says.
        let told = self.owner().events.since(0);
        if let Some(told) = told.iter().find(|told| told.reason.contains("it is behind")) {
            return Err(format!("a good plex is not believed: {}", told.reason));
        }
        let record = self.record().ok_or("the group is not served")?;
        self.check_files(&record)?;
        self.learn(&record);
        for volume in record.volumes() {
            self.check_volume(&record, volume).map_err(|what| format!("volume {}: {what}", volume.name()))?;
        }
        self.check_links_of_devices(&record)?;
        match self.kernel.tree.open(&Path::new(ROOT).join(GROUP)).map(drop) {
            Err(refused) if refused.id == "state.locked" => Ok(()),
            other => Err(format!("a second daemon was let in: {other:?}")),
        }
    }

    /// Every started volume has its links, nobody else has any.
    fn check_links_of_devices(&self, record: &Group) -> Result<(), String> {
        let number = |volume: &Volume| volume.device().filter(|_| volume.state().is_started());
        let wanted: BTreeSet<_> = record
            .volumes()
            .iter()
            .filter_map(|volume| Some((name(GROUP), volume.name().clone(), number(volume)?)))
            .collect();
        let links = self.kernel.links();
        if links == wanted { Ok(()) } else { Err(format!("links are {links:?}, not {wanted:?}")) }
    }

    /// Nothing lies about that no record names.
    fn check_files(&self, record: &Group) -> Result<(), String> {
        let known = state_files(record);
        let state = self.kernel.tree.names(&Path::new(ROOT).join(GROUP));
        let orphans: Vec<_> =
            state.iter().filter(|file| is_state_file(file) && !known.contains(*file)).collect();
        if !orphans.is_empty() {
            return Err(format!("state files that no record names: {orphans:?}"));
        }
        let ours: BTreeSet<PathBuf> = record
            .volumes()
            .iter()
            .flat_map(Volume::plexes)
            .filter(|plex| plex.medium().kind == MediumKind::Made)
            .map(|plex| plex.medium().path.as_path().to_owned())
            .collect();
        for directory in POOL {
            for file in self.kernel.tree.names(Path::new(directory)) {
                let path = Path::new(directory).join(file);
                if !ours.contains(&path) {
                    return Err(format!("{} belongs to no record", path.display()));
                }
            }
        }
        let missing: Vec<_> = ours.iter().filter(|path| self.kernel.tree.file_at(path).is_none()).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("plexes without a file: {missing:?}")) }
    }

    /// Volumes that are new get an oracle, those that are gone lose theirs.
    fn learn(&self, record: &Group) {
        let mut oracles = self.kernel.oracles.borrow_mut();
        oracles.retain(|uuid, _| record.volume_by_id(*uuid).is_some());
        for volume in record.volumes() {
            oracles.entry(volume.uuid()).or_insert_with(|| {
                let mut oracle = Oracle::default();
                if let Some(image) = self.kernel.images.borrow().get(&volume.uuid()) {
                    for (block, stamp) in image {
                        let range = ByteRange::new(block * BLOCK, BLOCK);
                        let token = oracle.begin_write(range, *stamp, true);
                        oracle.end_write(token, true);
                    }
                }
                oracle
            });
        }
    }

    fn check_volume(&self, record: &Group, volume: &Volume) -> Result<(), String> {
        let whole = ByteRange::new(0, volume.length());
        // Rolled back when the volume starts, not before.
        if volume.prepared().is_some() {
            return Err("a cut of it was left half made".to_owned());
        }
        let Some(live) = self.owner().live(volume.uuid()) else {
            return Err(format!("is {:?} and does not run", volume.state()));
        };
        let route = live.volume.route();
        let disks = |state: PlexState| {
            let of = move |plex: &&cleave::state::Plex| plex.state() == state && plex.is_attached();
            volume
                .plexes()
                .iter()
                .filter(of)
                .filter_map(|plex| Some((plex, self.kernel.tree.disk(plex.medium().path.as_path())?)))
        };
        let active: Vec<_> = disks(PlexState::Active).collect();
        let Some((_, first)) = active.first() else { return Err("no plex of it is ACTIVE".to_owned()) };
        if volume.resync().is_some() {
            return Err("its resync did not end".to_owned());
        }
        for (plex, disk) in active.iter().skip(1).cloned().chain(disks(PlexState::SnapDone)) {
            let differences = first.differences(&disk, whole);
            if !differences.is_empty() {
                return Err(format!(
                    "plex {} ({}) differs from {} at {:?}; behind there: {:?}",
                    plex.name(),
                    plex.state(),
                    active[0].0.name(),
                    &differences[..differences.len().min(4)],
                    route
                        .plex(plex.uuid())
                        .map(|plex| plex.behind.is_marked(ByteRange::new(differences[0], BLOCK)))
                ));
            }
        }
        for plex in volume.plexes() {
            let Some(disk) = self.kernel.tree.disk(plex.medium().path.as_path()) else { continue };
            match plex.state() {
                PlexState::Empty => return Err(format!("plex {} was left half made", plex.name())),
                PlexState::Stale | PlexState::SnapAtt => {
                    let map = plex.map().and_then(|map| self.owner().change_map(map));
                    let Some(map) = map else { return Err(format!("plex {} has no map", plex.name())) };
                    let missed = first
                        .differences(&disk, whole)
                        .into_iter()
                        .find(|at| !map.is_marked(ByteRange::new(*at, BLOCK)));
                    if let Some(at) = missed {
                        return Err(format!(
                            "plex {} differs at {at}, which its map does not say",
                            plex.name()
                        ));
                    }
                }
                _ => {}
            }
        }
        let mut oracles = self.kernel.oracles.borrow_mut();
        let Some(oracle) = oracles.get_mut(&volume.uuid()) else { return Ok(()) };
        let blocks: Vec<u64> = oracle.blocks().collect();
        for run in blocks.chunk_by(|a, b| a + 1 == *b) {
            let range = ByteRange::new(run[0] * BLOCK, run.len() as u64 * BLOCK);
            for (block, bytes) in run.iter().zip(first.peek(range).chunks(BLOCK as usize)) {
                oracle.found(*block, stamp_of(*block, bytes)?)?;
            }
        }
        drop(oracles);
        self.check_links(record, volume, first, whole)
    }

    /// The maps of a snapshot say all in which it differs from its origin.
    fn check_links(
        &self,
        record: &Group,
        volume: &Volume,
        disk: &SimDisk,
        whole: ByteRange,
    ) -> Result<(), String> {
        let Some((origin, link)) = record.link_of(volume.uuid()) else { return Ok(()) };
        let of_origin =
            origin.plexes().iter().find(|plex| plex.state() == PlexState::Active && plex.is_attached());
        let other = of_origin.and_then(|plex| self.kernel.tree.disk(plex.medium().path.as_path()));
        let Some(other) = other.filter(|_| self.owner().live(origin.uuid()).is_some()) else { return Ok(()) };
        let maps = [link.origin_map, link.snapshot_map].map(|map| self.owner().change_map(map));
        let [Some(ours), Some(theirs)] = maps else {
            return Err("a map of the snapshot is missing".to_owned());
        };
        let marked = |at: u64| {
            let block = ByteRange::new(at, BLOCK);
            ours.is_marked(block) || theirs.is_marked(block)
        };
        match disk.differences(&other, whole).into_iter().find(|at| !marked(*at)) {
            Some(at) => Err(format!("differs from its origin at {at}, which neither map says")),
            None => Ok(()),
        }
    }
}

/// At the instant of a cut, with nothing in flight: what was broken off equals what was left, and is what the snapshot
/// holds.
fn look_at_cut(kernel: &Kernel, daemon: &Daemon) {
    for live in daemon.all_live() {
        let Some(group) = daemon.group_of(live.volume.shape().uuid) else { continue };
        let record = group.record();
        let Some(volume) = record.volume_by_id(live.volume.shape().uuid) else { continue };
        let Some(cut) = volume.prepared() else { continue };
        let route = live.volume.route();
        // One that failed before the cut has the commit refused.
        let is_lost = |plex: &Uuid| route.absent.iter().any(|absent| absent.uuid == *plex);
        if cut.plexes.iter().any(|plex| route.plex(*plex).is_some() || is_lost(plex))
            || kernel.images.borrow().contains_key(&cut.volume)
        {
            continue;
        }
        let whole = ByteRange::new(0, volume.length());
        let disk = |plex: Uuid| {
            let plex = volume.plex_by_id(plex)?;
            kernel.tree.disk(plex.medium().path.as_path())
        };
        let left = route.readable().find(|plex| plex.behind.is_clean()).map(|plex| plex.medium.disk.clone());
        let Some(left) = left else { continue };
        for broken_off in cut.plexes.iter().filter_map(|plex| disk(*plex)) {
            let differences = left.differences(&broken_off, whole);
            if let Some(at) = differences.first() {
                kernel.violate(format!("at the cut of {} its mirror differs at {at}", volume.name()));
            }
        }
        let oracles = kernel.oracles.borrow();
        let Some(oracle) = oracles.get(&volume.uuid()) else { continue };
        let mut image = BTreeMap::new();
        for block in oracle.blocks() {
            match stamp_of(block, &left.peek(ByteRange::new(block * BLOCK, BLOCK))) {
                Ok(ZEROES) => {}
                Ok(stamp) => _ = image.insert(block, stamp as Stamp),
                Err(what) => kernel.violate(what),
            }
        }
        drop(oracles);
        kernel.images.borrow_mut().insert(cut.volume, image);
    }
}
