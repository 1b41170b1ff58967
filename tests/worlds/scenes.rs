//! Single situations of the daemon on its simulated machine, each brought about on purpose.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use cleave::base::limits::MIB;
use cleave::base::{ByteRange, Errno, FaultPoint, Generation, Name, Refused, Uuid};
use cleave::catalog::labels::{Found, read_label, write_label};
use cleave::control::words::{Consistency, DataPath, Init, TaskKind};
use cleave::control::{Reply, Request, ServerMessage, request};
use cleave::daemon::owner::Owner;
use cleave::daemon::server::{Answer, Peer, Service};
use cleave::device::{Geometry, Host};
use cleave::format::config;
use cleave::format::label::Label;
use cleave::sim::{Fault, Operation, Rule, SimDisk, When};
use cleave::state::{Group, Plex, PlexState, VolumeState};

use crate::files::crash_at_change;
use crate::machine::{Ask, Crash, Kernel, SimMachine};
use crate::oracle::Oracle;
use crate::pattern::{BLOCK, stamp_of};

type Daemon = Rc<Owner<SimMachine>>;
type Outcome = Rc<RefCell<Option<Result<Reply, Refused>>>>;

const ROOT: &str = "/state";
const POOL: [&str; 3] = ["/pool/a", "/pool/b", "/pool/c"];
const LENGTH: u64 = 4 * MIB;
/// Behind the data: where labels stand.
const BEHIND: ByteRange = ByteRange::new(LENGTH, 1 << 40);

fn name(text: &str) -> Name {
    text.parse().expect("a valid name")
}

/// A machine with a daemon and a group over three directories.
struct Scene {
    kernel: Rc<Kernel>,
    daemon: RefCell<Option<Daemon>>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let kernel = Kernel::new(seed);
        for directory in POOL.iter().copied().chain([ROOT]) {
            kernel.tree.make_directory(Path::new(directory));
        }
        let scene = Self { kernel, daemon: RefCell::default() };
        scene.boot();
        let media = POOL.iter().map(|path| request::MediumSpec { name: None, path: path.into() }).collect();
        scene.ask(Request::GroupCreate(request::GroupCreate { group: name("g"), media })).unwrap();
        scene
    }

    fn owner(&self) -> Daemon {
        self.daemon.borrow().clone().expect("a daemon runs")
    }

    fn boot(&self) {
        let booted = self.begin_boot();
        self.kernel.world.run_until(|| booted.borrow().is_some()).unwrap();
        booted.take().unwrap().unwrap();
    }

    fn begin_boot(&self) -> Rc<RefCell<Option<Result<(), Refused>>>> {
        let machine = SimMachine(Rc::downgrade(&self.kernel));
        let (owner, pleas) =
            Owner::new(machine.clone(), PathBuf::from(ROOT), machine.thread(), machine.thread());
        *self.daemon.borrow_mut() = Some(Rc::clone(&owner));
        let booted = Rc::new(RefCell::new(None));
        let told = Rc::clone(&booted);
        self.kernel.world.spawn(async move { *told.borrow_mut() = Some(owner.boot(pleas).await) });
        booted
    }

    fn launch(&self, request: Request) -> Outcome {
        let (owner, outcome) = (self.owner(), Outcome::default());
        let told = Rc::clone(&outcome);
        let (messages, mut received) = tokio::sync::mpsc::channel::<ServerMessage>(64);
        self.kernel.world.spawn(async move { while received.recv().await.is_some() {} });
        self.kernel.world.spawn(async move {
            let done = owner.serve(Peer { uid: 0, pid: 1 }, request, Answer::new(messages)).await;
            *told.borrow_mut() = Some(done);
        });
        outcome
    }

    fn ask(&self, request: Request) -> Result<Reply, Refused> {
        let outcome = self.launch(request);
        self.until(|| outcome.borrow().is_some());
        outcome.take().unwrap()
    }

    fn until(&self, done: impl Fn() -> bool) {
        self.kernel.world.run_until(done).unwrap();
        self.sound();
    }

    fn run_for(&self, millis: u64) {
        self.kernel.world.run_for(Duration::from_millis(millis));
        self.sound();
    }

    fn sound(&self) {
        let violation = self.kernel.violation.borrow().clone();
        assert_eq!(violation, None);
    }

    /// A volume of `plexes` plexes, and its device.
    fn make(&self, plexes: u32) -> u32 {
        let outcome = self.ask(self.making(plexes));
        outcome.unwrap();
        let (device, volume) = self.kernel.found()[0];
        self.kernel.oracles.borrow_mut().insert(volume, Oracle::default());
        device
    }

    fn making(&self, nmirror: u32) -> Request {
        Request::Make(request::Make {
            group: name("g"),
            volume: name("v"),
            length_bytes: LENGTH,
            nmirror,
            media: Vec::new(),
            plexes: Vec::new(),
            sparse: false,
            region: None,
            init: Init::Zero,
            data: DataPath::Auto,
            force: false,
        })
    }

    /// A file at `path` that Cleave did not make.
    fn stranger(&self, path: &Path) -> SimDisk {
        let geometry =
            Geometry { length: 2 * LENGTH, block_size: 512, memory_alignment: 512, discard_zeroes: true };
        let disk = self.kernel.world.disk("stranger", geometry);
        self.kernel.tree.create(path, disk.clone()).unwrap();
        disk
    }

    fn record(&self) -> Rc<Group> {
        self.owner().group(&name("g")).unwrap().record()
    }

    fn plexes(&self) -> Vec<Plex> {
        self.record().volume("v").unwrap().plexes().to_vec()
    }

    fn disks(&self) -> Vec<SimDisk> {
        let disk = |plex: &Plex| self.kernel.tree.disk(plex.medium().path.as_path()).expect("its file");
        self.plexes().iter().map(disk).collect()
    }

    /// What `disk` would hold of block 3 after a power cut that loses every cache.
    fn durable(disk: &SimDisk) -> u64 {
        stamp_of(3, &disk.peek_durable(ByteRange::new(3 * BLOCK, BLOCK))).unwrap()
    }

    fn write(&self, device: u32, block: u64, stamp: u64) {
        let range = ByteRange::new(block * BLOCK, BLOCK);
        self.kernel.ask(device, Ask::Write { range, stamp, durable: false });
    }

    fn settle(&self) {
        self.until(|| {
            let owner = self.owner();
            self.kernel.pending() == 0
                && owner.tasks.list(None).iter().all(|task| task.state.ended())
                && self.record().volumes().iter().all(|volume| volume.resync().is_none())
        });
    }

    /// Run until the process ends at `point`, come by for the `nth` time from now on.
    fn die_at(&self, point: FaultPoint, nth: u32) {
        let left = Cell::new(nth);
        FaultPoint::on_reached(Some(Box::new(move |reached| {
            if reached == point {
                left.set(left.get() - 1);
                if left.get() == 0 {
                    std::panic::resume_unwind(Box::new(Crash));
                }
            }
        })));
        for _ in 0..1_000_000 {
            match catch_unwind(AssertUnwindSafe(|| self.kernel.world.step())) {
                Ok(went) => assert!(went, "nothing is left to do before {}", point.name()),
                Err(payload) => {
                    assert!(payload.is::<Crash>(), "a panic");
                    return;
                }
            }
        }
        panic!("{} is not reached", point.name());
    }

    /// End the daemon, or everything.
    fn crash(&self, power: bool) {
        FaultPoint::on_reached(None);
        crash_at_change(None);
        if power {
            self.kernel.power_cut();
        }
        self.kernel.kill();
        self.daemon.borrow_mut().take();
    }

    /// End the daemon while flushes of all `disks` are under way that fail unheard: of a flush that `asked` gets, if any, else
    /// of the next that comes.
    fn die_in_a_flush_that_fails(&self, disks: &[SimDisk], asked: Option<u32>) {
        disks.iter().for_each(|disk| disk.add_rule(fail(Operation::Flush)));
        asked.into_iter().for_each(|device| self.kernel.ask(device, Ask::Flush));
        while disks.iter().any(|disk| disk.in_flight() == 0) {
            assert!(self.kernel.world.step());
        }
        self.crash(false);
        disks.iter().for_each(SimDisk::settle);
        self.mend();
    }

    fn mend(&self) {
        for disk in self.kernel.tree.disks() {
            disk.clear_rules();
            disk.release();
        }
    }

    fn starting(&self, volume: &str) -> Request {
        Request::Start(request::Start { group: name("g"), volume: name(volume), source: None })
    }

    fn start(&self) {
        self.ask(self.starting("v")).unwrap();
    }

    fn stop(&self) {
        self.ask(Request::Stop(request::Stop { group: name("g"), volume: name("v") })).unwrap();
    }

    /// What becomes of it when the power was off, with `meanwhile` done to it then.
    fn power_cycle(&self, meanwhile: impl FnOnce()) {
        self.crash(true);
        self.mend();
        meanwhile();
        self.boot();
    }

    fn states(&self) -> Vec<PlexState> {
        self.plexes().iter().map(Plex::state).collect()
    }

    /// Bytes that tasks of `kind` have written.
    fn copied(&self, kind: TaskKind) -> u64 {
        let tasks = self.owner().tasks.list(None);
        tasks.iter().filter(|task| task.kind == kind).map(|task| task.copied_bytes).sum()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.crash(false);
    }
}

fn fail(on: Operation) -> Rule {
    Rule::new(on, When::Always, Fault::Error(Errno::IO))
}

fn hold(on: Operation) -> Rule {
    Rule::new(on, When::Always, Fault::Hold)
}

/// A flush fails on one plex, and the daemon dies before it has recorded that: whichever it was, what was flushed is durable
/// on both once the next daemon has made them equal.
#[test]
fn a_plex_whose_flush_failed_unrecorded_is_written_and_not_compared() {
    let mut given_up = [0; 2];
    for (seed, failing) in (0..12).map(|seed| (seed, seed as usize % 2)) {
        let scene = Scene::new(seed);
        let device = scene.make(2);
        scene.write(device, 3, 77);
        scene.settle();
        let disks = scene.disks();
        disks[failing].add_rule(fail(Operation::Flush));
        scene.kernel.ask(device, Ask::Flush);
        scene.die_at(FaultPoint::LossSeen, 1);
        scene.crash(false);
        scene.mend();
        // What it reads is in its cache, and no later flush saves it.
        given_up[failing] += u32::from(Scene::durable(&disks[failing]) != 77);
        scene.boot();
        let source = scene.record().volume("v").unwrap().resync().map(|resync| resync.source);
        assert_eq!(source, Some(scene.plexes()[1 - failing].uuid()), "the one in no doubt is believed");
        scene.settle();
        assert!(scene.plexes().iter().all(|plex| plex.state() == PlexState::Active));
        for disk in &disks {
            assert_eq!(Scene::durable(disk), 77, "seed {seed}: plex {failing} failed its flush");
        }
        // Once it was made up for, it is not done again.
        scene.crash(false);
        scene.boot();
        scene.settle();
        assert_eq!(scene.copied(TaskKind::Recover), 0, "nothing was open any more");
    }
    assert!(given_up.iter().all(|count| *count > 0), "{given_up:?}");
}

/// A flush is under way on both plexes when the daemon dies, and fails when nobody listens any more: an application's, or that
/// which comes before intent bits are cleared.
#[test]
fn what_a_flush_gave_up_unheard_is_written_on_every_plex() {
    let mut given_up = [0; 4];
    for seed in 0..24 {
        let cleaner = seed % 2 == 1;
        let scene = Scene::new(seed);
        let device = scene.make(2);
        scene.write(device, 3, 78);
        scene.settle();
        let disks = scene.disks();
        scene.die_in_a_flush_that_fails(&disks, (!cleaner).then_some(device));
        for (count, disk) in given_up[2 * usize::from(cleaner)..].iter_mut().zip(&disks) {
            *count += u32::from(Scene::durable(disk) != 78);
        }
        scene.boot();
        scene.settle();
        for disk in &disks {
            assert_eq!(Scene::durable(disk), 78, "seed {seed}");
        }
    }
    assert!(given_up.iter().all(|count| *count > 0), "{given_up:?}");
}

/// After a power cut no cache is left that could mislead: plexes are compared, and what is equal is not written.
#[test]
fn after_a_power_cut_plexes_are_compared() {
    let scene = Scene::new(3);
    let device = scene.make(2);
    scene.write(device, 3, 79);
    scene.settle();
    scene.kernel.ask(device, Ask::Flush);
    scene.settle();
    scene.crash(true);
    scene.boot();
    scene.start();
    scene.settle();
    assert_eq!(scene.copied(TaskKind::Recover), 0);
    assert!(scene.disks().iter().all(|disk| Scene::durable(disk) == 79));
}

/// What the end of a daemon leaves to be made equal are the regions that were written, not their extents; so when the next
/// one dies before that is done, and when the plexes are written because their flush is in doubt. A power cut leaves extents.
#[test]
fn rule_02_a_daemon_that_dies_leaves_regions_and_a_power_cut_extents() {
    const REGION: u64 = 64 << 10;
    let scene = Scene::new(4);
    let device = scene.make(2);
    scene.write(device, 3, 80);
    scene.write(device, LENGTH / BLOCK - 1, 81);
    scene.settle();
    scene.crash(false);
    let gone_through = || {
        let tasks = scene.owner().tasks.list(None);
        tasks.iter().filter(|task| task.kind == TaskKind::Recover).map(|task| task.total_bytes).sum::<u64>()
    };
    scene.boot();
    scene.crash(false);
    scene.boot();
    scene.settle();
    assert_eq!(gone_through(), 2 * REGION);
    // Once they are equal and flushed, nothing is left of them.
    scene.run_for(10_000);
    scene.write(device, 40, 82);
    scene.settle();
    scene.disks().iter().for_each(|disk| disk.add_rule(hold(Operation::Flush)));
    scene.kernel.ask(device, Ask::Flush);
    scene.run_for(100);
    scene.crash(false);
    scene.mend();
    scene.boot();
    scene.settle();
    assert_eq!(scene.copied(TaskKind::Recover), 2 * REGION, "written to each, as neither heard of its flush");
    scene.crash(true);
    scene.boot();
    scene.start();
    scene.settle();
    assert_eq!(gone_through(), LENGTH);
}

/// A daemon that could not have the memory for unflushed regions leaves an older map behind, which says nothing of what it
/// wrote.
#[test]
fn regions_that_nobody_noted_are_not_left_out() {
    for seed in 0..12 {
        let scene = Scene::new(seed);
        let device = scene.make(2);
        scene.crash(false);
        scene.kernel.memory_denied.set(1_000_000);
        scene.boot();
        scene.settle();
        scene.kernel.memory_denied.set(0);
        scene.write(device, 3, 83);
        scene.settle();
        let disks = scene.disks();
        scene.die_in_a_flush_that_fails(&disks, Some(device));
        scene.boot();
        scene.settle();
        for disk in &disks {
            assert_eq!(Scene::durable(disk), 83, "seed {seed}");
        }
    }
}

/// Attempts to take a volume over are counted in a row: a start of it as a new device ends the row.
#[test]
fn attempts_before_a_start_anew_do_not_count_against_a_later_take_over() {
    let scene = Scene::new(5);
    scene.make(1);
    for _ in 0..3 {
        for _ in 0..2 {
            scene.crash(false);
            scene.begin_boot();
            scene.die_at(FaultPoint::RecoveryRecorded, 1);
        }
        scene.crash(false);
        scene.kernel.remove_devices();
        scene.boot();
        scene.start();
    }
    scene.crash(false);
    scene.boot();
    assert_eq!(scene.kernel.shown().iter().map(|(_, _, served)| *served).collect::<Vec<_>>(), [true]);
}

/// The only plex fails a flush, and the daemon dies before it has said so: the application hears of it all the same, and once.
#[test]
fn a_flush_that_the_only_plex_failed_is_told_by_the_next_daemon() {
    let scene = Scene::new(4);
    let device = scene.make(1);
    scene.write(device, 3, 80);
    scene.settle();
    let disk = scene.disks()[0].clone();
    disk.add_rule(fail(Operation::Flush));
    scene.kernel.ask(device, Ask::Flush);
    scene.die_at(FaultPoint::FlushDone, 1);
    scene.crash(false);
    scene.mend();
    scene.boot();
    scene.kernel.world.run_until(|| scene.kernel.pending() == 0).unwrap();
    let told = scene.kernel.violation.take().expect("the flush is answered with an error");
    assert!(told.contains("Flush") && told.contains("failed"), "{told}");
    for _ in 0..2 {
        scene.kernel.ask(device, Ask::Flush);
        scene.settle();
        scene.crash(false);
        scene.boot();
    }
}

/// One attached plex hangs where its label stands: what is to be recorded of another does not wait for it, and its label
/// follows when it answers.
#[test]
fn the_label_of_a_plex_that_hangs_holds_up_no_record() {
    let scene = Scene::new(5);
    let device = scene.make(3);
    let disks = scene.disks();
    disks[0].add_rule(hold(Operation::Write).within(BEHIND));
    disks[1].add_rule(fail(Operation::Write));
    scene.write(device, 3, 81);
    scene.run_for(3000);
    assert_eq!(scene.kernel.pending(), 0, "the write is acknowledged");
    assert_eq!(scene.plexes()[1].state(), PlexState::Stale);
    disks[0].clear_rules();
    disks[0].release();
    scene.run_for(1000);
    let label = |disk: &SimDisk| {
        let (host, disk) = (scene.kernel.world.host(), disk.clone());
        let read = async move { read_label(&host.open(&disk), Some(LENGTH)).await };
        match scene.kernel.world.block_on(read).unwrap() {
            Ok(Found::Label(label)) => label.config_generation,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(label(&disks[0]), label(&disks[2]));
    assert!(label(&disks[0]) > label(&disks[1]), "of the plex that was lost");
}

/// A plex leaves, and the label of the only other one takes its time: what waits for the record is not acknowledged before that
/// label tells of it. Without the catalogue nothing else would.
#[test]
fn rule_03_a_loss_is_on_a_label_before_anything_is_acknowledged() {
    let scene = Scene::new(30);
    let device = scene.make(2);
    let disks = scene.disks();
    disks[0].add_rule(hold(Operation::Write).within(BEHIND));
    disks[1].add_rule(fail(Operation::Write));
    scene.write(device, 3, 87);
    scene.run_for(5000);
    assert_eq!(scene.states(), [PlexState::Active, PlexState::Stale]);
    assert_eq!(scene.kernel.pending(), 1, "it waits");
    disks[0].clear_rules();
    disks[0].release();
    scene.run_for(100);
    assert_eq!(scene.kernel.pending(), 0);
}

/// A flush that fails for a label takes data of the volume along: the plex leaves as by a flush of its own.
#[test]
fn rule_04_a_plex_whose_label_fails_is_not_relied_on() {
    let scene = Scene::new(13);
    let device = scene.make(3);
    scene.write(device, 3, 88);
    scene.settle();
    let disks = scene.disks();
    // The third plex leaves, and the record of that meets a flush that fails on the first.
    disks[0].add_rule(Rule::new(Operation::Flush, When::Nth(0), Fault::Error(Errno::IO)));
    disks[2].add_rule(fail(Operation::Write));
    scene.write(device, 4, 89);
    scene.run_for(1000);
    scene.kernel.ask(device, Ask::Flush);
    scene.run_for(1000);
    assert_eq!(scene.states(), [PlexState::Stale, PlexState::Active, PlexState::Stale]);
    assert_eq!((scene.kernel.pending(), Scene::durable(&disks[1])), (0, 88));
}

/// A mirror is to be added to the volume, in the background.
fn add_mirror() -> Request {
    Request::Mirror(request::Mirror {
        group: name("g"),
        volume: name("v"),
        nmirror: 1,
        media: Vec::new(),
        plexes: Vec::new(),
        sparse: false,
        bytes_per_second: None,
        latency_us: None,
        background: true,
        force: false,
    })
}

/// Snapshot mirrors are added to the volume, and copied.
fn add_snapshot_mirrors(count: u32) -> Request {
    Request::SnapStart(request::SnapStart {
        group: name("g"),
        volume: name("v"),
        nmirror: count,
        media: Vec::new(),
        plexes: Vec::new(),
        sparse: false,
        bytes_per_second: None,
        latency_us: None,
        background: false,
        force: false,
    })
}

/// So many of its snapshot mirrors are broken off as `s`.
fn cut(count: u32) -> Request {
    Request::Snapshot(request::Snapshot {
        group: name("g"),
        members: vec![request::CutMember { volume: name("v"), snapshot: Some(name("s")) }],
        pattern: None,
        consistency: Consistency::Crash,
        nmirror: count,
    })
}

/// `volume` is removed, running or not.
fn removal(volume: &str) -> Request {
    let (group, object) = (name("g"), name(volume));
    Request::Remove(request::Remove { group, object, recursive: true, force: true })
}

/// All that `disk` holds.
fn image(disk: &SimDisk) -> Vec<u8> {
    disk.peek(ByteRange::new(0, disk.geometry().length))
}

/// The first label of a mirror that is being added takes its time: no record waits for it.
#[test]
fn the_first_label_of_a_slow_mirror_holds_up_no_record() {
    let scene = Scene::new(6);
    let device = scene.make(2);
    let known = scene.kernel.tree.disks().len();
    let outcome = scene.launch(add_mirror());
    scene.until(|| scene.kernel.tree.disks().len() > known);
    let newest = scene.kernel.tree.disks().last().unwrap().clone();
    newest.add_rule(hold(Operation::Write));
    newest.add_rule(hold(Operation::Zeroes));
    scene.run_for(100);
    assert!(outcome.borrow().is_none() && newest.held() > 0, "its label is being written");
    scene.disks()[1].add_rule(fail(Operation::Write));
    scene.write(device, 3, 82);
    scene.run_for(500);
    assert_eq!(scene.kernel.pending(), 0, "the write is acknowledged");
    assert_eq!(scene.plexes()[1].state(), PlexState::Stale);
    newest.clear_rules();
    newest.release();
    scene.until(|| outcome.borrow().is_some());
    outcome.take().unwrap().unwrap();
    scene.settle();
    assert_eq!(scene.plexes()[2].state(), PlexState::Active);
}

/// The daemon dies after the commit that says that a mirror is complete, before the mirror's label does: it is complete.
#[test]
fn rule_16_a_mirror_whose_label_lags_behind_its_commit_is_complete() {
    for power in [false, true] {
        let scene = Scene::new(14);
        scene.make(2);
        let outcome = scene.launch(add_mirror());
        // Its name, its medium, and that it is in step.
        scene.die_at(FaultPoint::TransactionCommitted, 3);
        drop(outcome);
        scene.crash(power);
        scene.boot();
        if power {
            scene.start();
        }
        assert_eq!(scene.states(), [PlexState::Active; 3], "power {power}");
    }
}

/// The power is cut while the labels of a start, or of the loss of a plex, stand on one plex and not on another: both hold
/// every acknowledged write.
#[test]
fn rule_16_a_plex_whose_label_lags_behind_its_peers_by_one_commit_is_not_behind() {
    for loss in [false, true] {
        let scene = Scene::new(15);
        let device = scene.make(3);
        let disks = scene.disks();
        let hold_label = || disks[1].add_rule(hold(Operation::Write).within(BEHIND));
        if loss {
            hold_label();
            disks[2].add_rule(fail(Operation::Write));
            scene.write(device, 3, 84);
        } else {
            scene.crash(true);
            scene.boot();
            hold_label();
            scene.launch(scene.starting("v"));
        }
        scene.run_for(500);
        assert_eq!(disks[1].held(), 1, "its label waits");
        scene.power_cycle(|| {});
        scene.start();
        assert_eq!(scene.states()[..2], [PlexState::Active; 2], "loss {loss}");
    }
}

/// While the power is off a medium is put back to what it was at an earlier moment of the configuration before: before the
/// volume was started, also where its label came late, while a mirror was copied, before another plex was lost. It holds
/// older data, and is written.
#[test]
fn rule_16_a_medium_that_was_put_back_is_behind() {
    for (when, lost_directory) in [(0, false), (0, true), (1, false), (2, false), (3, false), (4, false)] {
        let scene = Scene::new(16);
        let mut device = scene.make(if when == 2 { 3 } else { 2 });
        let (at, old) = match when {
            0 | 3 | 4 => {
                scene.stop();
                let disk = scene.disks()[0].clone();
                let old = image(&disk);
                if when == 3 {
                    // Nobody waits for a label that takes so long.
                    disk.add_rule(hold(Operation::Write).within(BEHIND));
                }
                scene.start();
                disk.clear_rules();
                disk.release();
                device = scene.kernel.found()[0].0;
                (0, old)
            }
            1 => {
                scene.ask(add_mirror()).unwrap();
                scene.until(|| scene.plexes().len() == 3 && scene.plexes()[2].is_attached());
                (2, image(&scene.disks()[2]))
            }
            _ => {
                let old = image(&scene.disks()[0]);
                scene.disks()[2].add_rule(fail(Operation::Write));
                (0, old)
            }
        };
        scene.settle();
        scene.write(device, 3, 85);
        scene.settle();
        scene.kernel.ask(device, Ask::Flush);
        scene.run_for(1000);
        let (disks, media) = (scene.disks(), scene.plexes());
        let put_back = || {
            disks[at].poke(0, &old);
            if lost_directory {
                scene.kernel.tree.forget_directory(&Path::new(ROOT).join("g"));
            }
        };
        if when == 4 {
            // Intent is cleared, and its map tells of nothing but what it misses from now on.
            scene.run_for(20_000);
            let detach = request::PlexRef { group: name("g"), plex: media[at].name().clone() };
            scene.ask(Request::PlexDetach(detach)).unwrap();
        }
        scene.power_cycle(put_back);
        if lost_directory {
            let media = media.iter().map(|plex| plex.medium().path.as_path().to_owned()).collect();
            scene.ask(Request::GroupImport(request::GroupImport { media, group: None, name: None })).unwrap();
        }
        scene.start();
        scene.settle();
        let held: Vec<_> = disks.iter().map(Scene::durable).collect();
        assert!(held.iter().all(|stamp| *stamp == 85), "{when} {lost_directory}: {held:?}");
    }
}

/// A person names a plex that was put back as what counts: nothing is known of how the snapshots differ from that, and they
/// are given back whole.
#[test]
fn rule_16_a_snapshot_is_given_back_whole_to_an_origin_that_was_put_back() {
    let scene = Scene::new(19);
    scene.make(2);
    let (origin, old) = (scene.disks()[0].clone(), image(&scene.disks()[0]));
    scene.stop();
    scene.start();
    scene.write(scene.kernel.found()[0].0, 3, 84);
    scene.ask(add_snapshot_mirrors(1)).unwrap();
    scene.ask(cut(1)).unwrap();
    scene.settle();
    scene.stop();
    scene.ask(Request::Stop(request::Stop { group: name("g"), volume: name("s") })).unwrap();
    scene.power_cycle(|| origin.poke(0, &old));
    let Request::Start(start) = scene.starting("v") else { unreachable!() };
    let source = Some(scene.plexes()[0].name().clone());
    scene.ask(Request::Start(request::Start { source, ..start })).unwrap();
    let (group, snapshot) = (name("g"), name("s"));
    let back = request::SnapBack {
        group,
        snapshot,
        nmirror: None,
        bytes_per_second: None,
        latency_us: None,
        background: false,
    };
    scene.ask(Request::SnapBack(back)).unwrap();
    scene.settle();
    let held: Vec<_> = scene.disks().iter().map(Scene::durable).collect();
    assert_eq!(held, [0; 3]);
}

/// A snapshot that an earlier daemon stopped is given back by its map; by nothing less than a whole copy once its plex was
/// put back to what it held before its cut, and not at all when its plex is another's.
#[test]
fn rule_16_a_stopped_snapshot_is_given_back_by_its_map_unless_its_plex_was_touched() {
    for touched in [None, Some("put back"), Some("another's"), Some("another's in use")] {
        let scene = Scene::new(20);
        let device = scene.make(1);
        scene.ask(add_snapshot_mirrors(1)).unwrap();
        let (snapshot, old) = (scene.disks()[1].clone(), image(&scene.disks()[1]));
        scene.write(device, 3, 84);
        scene.settle();
        scene.ask(cut(1)).unwrap();
        scene.ask(Request::Stop(request::Stop { group: name("g"), volume: name("s") })).unwrap();
        scene.run_for(20_000);
        scene.crash(false);
        scene.mend();
        match touched {
            Some("put back") => snapshot.poke(0, &old),
            Some("another's") => snapshot.poke(0, &image(&scene.kernel.tree.disks()[0])),
            Some(_) | None => {}
        }
        scene.boot();
        scene.until(|| scene.kernel.pending() == 0);
        let path = |volume| scene.record().volume(volume).unwrap().plexes()[0].medium().path.clone();
        let (origin, taken) = (path("v"), path("s"));
        if touched == Some("another's in use") {
            scene.kernel.tree.rename(origin.as_path(), taken.as_path());
        }
        let back = request::SnapBack {
            group: name("g"),
            snapshot: name("s"),
            nmirror: None,
            bytes_per_second: None,
            latency_us: None,
            background: false,
        };
        let reply = match (scene.ask(Request::SnapBack(back)), touched) {
            (Err(refused), Some("another's" | "another's in use")) => {
                assert_eq!(refused.id, "plex.not-itself");
                // Given up, it takes nobody else's file with it.
                scene.ask(removal("s")).unwrap();
                scene.settle();
                assert!(scene.kernel.tree.disk(taken.as_path()).is_some(), "{touched:?}");
                continue;
            }
            (reply, _) => reply.unwrap(),
        };
        let Reply::Returned(reply) = reply else { panic!("{reply:?}") };
        assert_eq!(reply.dirty_regions, if touched.is_some() { reply.regions } else { 0 }, "{touched:?}");
        scene.settle();
        let held: Vec<_> = scene.disks().iter().map(Scene::durable).collect();
        assert_eq!(held, [84; 2], "{touched:?}");
    }
}

/// A volume that runs is removed with its files and with the labels on other media, and nothing waits for what the daemon
/// itself has open of it.
#[test]
fn a_running_volume_is_removed_at_once_with_its_files_and_labels() {
    let scene = Scene::new(21);
    scene.make(2);
    let made: Vec<_> = scene.plexes().iter().map(|plex| plex.medium().path.clone()).collect();
    let named = made[0].as_path().with_file_name("named");
    let other = scene.stranger(&named);
    let Request::Mirror(mirror) = add_mirror() else { unreachable!() };
    scene.ask(Request::Mirror(request::Mirror { plexes: vec![named], ..mirror })).unwrap();
    scene.until(|| scene.plexes().iter().all(|plex| plex.state() == PlexState::Active));
    scene.settle();
    let labelled = || image(&other).windows(8).any(|bytes| bytes == b"CLVLABEL");
    assert!(labelled());
    let outcome = scene.launch(removal("v"));
    scene.run_for(900);
    outcome.take().expect("it has ended").unwrap();
    assert!(made.iter().all(|path| scene.kernel.tree.disk(path.as_path()).is_none()));
    assert!(!labelled());
    assert_eq!(scene.record().leaving(), []);
}

/// The file of a plex is in use when its volume is removed: its group remembers it, and is not destroyed
/// before that file is gone.
#[test]
fn a_group_outlives_the_files_of_its_plexes() {
    let scene = Scene::new(29);
    scene.make(1);
    let path = scene.plexes()[0].medium().path.clone();
    scene.stop();
    // The next daemon knows nothing of the file.
    scene.crash(false);
    scene.boot();
    let file = scene.kernel.tree.file_at(path.as_path()).unwrap();
    let used = scene.kernel.tree.lock(file).expect("nobody else uses it");
    scene.ask(removal("v")).unwrap();
    let destroy = || scene.ask(Request::GroupDestroy(request::GroupDestroy { group: name("g") }));
    let refused = destroy().unwrap_err();
    assert_eq!(refused.id, "group.leaving", "{refused}");
    assert_eq!(scene.record().leaving().len(), 1);
    drop(used);
    destroy().unwrap();
    assert!(scene.kernel.tree.disk(path.as_path()).is_none());
    assert!(scene.owner().group(&name("g")).is_err());
}

/// The file of a plex was moved away, and another stands at its path, a stranger's, an empty one or a copy of it: the plex
/// goes, that file stays.
#[test]
fn a_file_that_took_the_path_of_a_plex_outlives_it() {
    for copied in [None, Some(false), Some(true)] {
        let scene = Scene::new(22);
        scene.make(2);
        let plex = scene.plexes().remove(1);
        let path = plex.medium().path.as_path();
        let (elsewhere, other) = (path.with_file_name("elsewhere"), path.with_file_name("other"));
        let stranger = scene.stranger(&other);
        match copied {
            None => {}
            Some(false) => stranger.poke(0, &[7; 4096]),
            Some(true) => stranger.poke(0, &image(&scene.disks()[1])),
        }
        scene.kernel.tree.rename(path, &elsewhere);
        scene.kernel.tree.rename(&other, path);
        let (group, volume) = (name("g"), name("v"));
        let remove = request::RemoveMirror { group, volume: Some(volume), plex: Some(plex.name().clone()) };
        scene.ask(Request::RemoveMirror(remove)).unwrap();
        scene.settle();
        assert!(scene.kernel.tree.disk(path).is_some(), "{copied:?}");
        assert_eq!((scene.plexes().len(), scene.record().leaving()), (1, &[][..]));
    }
}

/// Another plex was copied over the file of a plex that had left, in place: it stays when that is removed.
#[test]
fn a_file_that_became_another_plex_outlives_the_one_that_it_was() {
    let scene = Scene::new(24);
    scene.make(3);
    let plex = scene.plexes().remove(1);
    let detach = request::PlexRef { group: name("g"), plex: plex.name().clone() };
    scene.ask(Request::PlexDetach(detach)).unwrap();
    scene.settle();
    let disks = scene.disks();
    disks[1].poke(0, &image(&disks[2]));
    let (group, volume) = (name("g"), name("v"));
    let remove = request::RemoveMirror { group, volume: Some(volume), plex: Some(plex.name().clone()) };
    scene.ask(Request::RemoveMirror(remove)).unwrap();
    scene.settle();
    assert!(scene.kernel.tree.disk(plex.medium().path.as_path()).is_some());
    assert_eq!((scene.plexes().len(), scene.record().leaving()), (2, &[][..]));
}

/// A mirror that is taken out while it is copied goes with its file, though the copy has that open.
#[test]
fn a_mirror_that_leaves_while_it_is_copied_leaves_no_file() {
    let scene = Scene::new(23);
    scene.make(1);
    scene.disks()[0].poke(0, &vec![1; LENGTH as usize]);
    let Request::Mirror(mirror) = add_mirror() else { unreachable!() };
    let slowly = NonZeroU64::new(1 << 20);
    scene.ask(Request::Mirror(request::Mirror { bytes_per_second: slowly, ..mirror })).unwrap();
    let plex = scene.plexes().remove(1);
    let path = plex.medium().path.as_path();
    assert!(scene.kernel.tree.disk(path).is_some());
    assert!(scene.owner().tasks.list(None).iter().any(|task| !task.state.ended()), "it is copied");
    let detach = request::PlexRef { group: name("g"), plex: plex.name().clone() };
    scene.ask(Request::PlexDetach(detach)).unwrap();
    scene.run_for(2000);
    assert!(scene.kernel.tree.disk(path).is_none());
    assert_eq!((scene.plexes().len(), scene.record().leaving()), (1, &[][..]));
}

/// A plex is taken out, a write waits for the record of that, and behind it comes a verb that has to have all writes ended:
/// the write ends with the record, not with a turn that comes after the verb's.
#[test]
fn a_write_that_waits_for_a_plex_to_be_taken_out_holds_up_no_verb() {
    let scene = Scene::new(31);
    let device = scene.make(2);
    scene.ask(add_snapshot_mirrors(1)).unwrap();
    scene.ask(cut(1)).unwrap();
    scene.ask(Request::Stop(request::Stop { group: name("g"), volume: name("s") })).unwrap();
    let old = scene.plexes()[0].name().clone();
    let replace = request::PlexReplace {
        group: name("g"),
        plex: old.clone(),
        path: None,
        media: Vec::new(),
        sparse: false,
        bytes_per_second: None,
        latency_us: None,
        background: true,
        force: false,
    };
    scene.ask(Request::PlexReplace(replace)).unwrap();
    let last = || scene.plexes().last().cloned().expect("a plex");
    scene.until(|| last().state() == PlexState::Active);
    // The old one leaves now, and what is recorded of that takes its time.
    let disk = scene.disks()[1].clone();
    disk.add_rule(hold(Operation::Write).within(BEHIND));
    scene.until(|| disk.held() > 0);
    assert_eq!(*scene.plexes()[0].name(), old, "it is on its way out");
    let back = request::SnapBack {
        group: name("g"),
        snapshot: name("s"),
        nmirror: None,
        bytes_per_second: None,
        latency_us: None,
        background: true,
    };
    let back = scene.launch(Request::SnapBack(back));
    scene.run_for(100);
    scene.write(device, 3, 91);
    scene.run_for(100);
    assert_eq!((scene.kernel.pending(), back.borrow().is_some()), (1, false), "both wait");
    disk.clear_rules();
    disk.release();
    scene.run_for(1000);
    assert_eq!(scene.kernel.pending(), 0);
    back.take().expect("it has ended").unwrap();
}

/// The power is cut while the labels of a snapshot of two plexes are being written: both are its own.
#[test]
fn rule_16_a_snapshot_starts_whichever_of_its_labels_lags() {
    for late in 1..=2 {
        let scene = Scene::new(17);
        scene.make(1);
        for _ in 0..2 {
            // So that the origin has more runs behind it than its snapshot.
            scene.stop();
            scene.start();
        }
        scene.ask(add_snapshot_mirrors(2)).unwrap();
        let disk = scene.disks()[late].clone();
        let told = disk.clone();
        FaultPoint::on_reached(Some(Box::new(move |point| {
            if point == FaultPoint::TransactionCommitted {
                told.clear_rules();
                told.add_rule(hold(Operation::Write).within(BEHIND));
            }
        })));
        scene.launch(cut(2));
        scene.run_for(5000);
        assert!(disk.held() > 0, "its label waits");
        scene.power_cycle(|| {});
        scene.ask(scene.starting("s")).unwrap();
        let record = scene.record();
        let states: Vec<_> = record.volume("s").unwrap().plexes().iter().map(Plex::state).collect();
        assert_eq!(states, [PlexState::Active; 2], "late {late}");
    }
}

/// A label is newer than the catalogue, as if that had been put back, while a volume runs by the older one: it is adopted when
/// none does.
#[test]
fn rule_16_no_newer_label_is_adopted_under_a_volume_that_runs() {
    let scene = Scene::new(28);
    let device = scene.make(1);
    let Request::Make(other) = scene.making(1) else { unreachable!() };
    scene.ask(Request::Make(request::Make { volume: name("w"), ..other })).unwrap();
    scene.ask(Request::Stop(request::Stop { group: name("g"), volume: name("w") })).unwrap();
    scene.write(device, 3, 86);
    scene.settle();
    let before = scene.record();
    let medium = before.volume("w").unwrap().plexes()[0].medium().path.as_path().to_owned();
    let disk = scene.kernel.tree.disk(&medium).unwrap();
    let (host, newer) = (scene.kernel.world.host(), Generation(1000));
    let text = config::encode(newer, &*before).unwrap().into_bytes();
    let done = async move {
        let device = host.open(&disk);
        let Ok(Found::Label(label)) = read_label(&device, Some(LENGTH)).await else { panic!("no label") };
        let label = Label { config_generation: newer, configuration: text, ..*label };
        write_label(&device, &label).await
    };
    scene.kernel.world.block_on(done).unwrap().unwrap();
    let refused = scene.ask(scene.starting("w")).unwrap_err();
    assert_eq!(refused.id.as_str(), "group.running", "{refused}");
    assert_eq!(*scene.record(), *before);
    scene.stop();
    // Its file was written, and that is noted of it.
    let Request::Start(start) = scene.starting("w") else { unreachable!() };
    let source = Some(before.volume("w").unwrap().plexes()[0].name().clone());
    scene.ask(Request::Start(request::Start { source, ..start })).unwrap();
    let group = scene.owner().group(&name("g")).unwrap();
    assert!(group.generation() > newer.0, "it was adopted");
    // What it says of the other volume is that it ran.
    scene.start();
    scene.settle();
    assert_eq!(Scene::durable(&scene.disks()[0]), 86);
}

/// That the intent map is lost stands on a label, and the catalogue has had commits since: it is believed, and a medium that
/// is not is none the better for it.
#[test]
fn rule_18_a_label_that_says_that_intent_is_lost_is_heeded() {
    for erased in [false, true] {
        let scene = Scene::new(18);
        let device = scene.make(2);
        scene.write(device, 3, 90);
        scene.settle();
        scene.kernel.ask(device, Ask::Flush);
        scene.settle();
        let disks = scene.disks();
        scene.power_cycle(|| {
            let (host, disk) = (scene.kernel.world.host(), disks[1].clone());
            let done = async move {
                let device = host.open(&disk);
                let Ok(Found::Label(label)) = read_label(&device, Some(LENGTH)).await else {
                    panic!("no label")
                };
                write_label(&device, &Label { intent_lost: true, ..*label }).await
            };
            scene.kernel.world.block_on(done).unwrap().unwrap();
            if erased {
                disks[0].poke(0, &vec![0; disks[0].geometry().length as usize]);
            }
        });
        scene.start();
        assert!(scene.record().volume("v").unwrap().is_intent_lost());
        scene.settle();
        assert_eq!(Scene::durable(&disks[1]), 90);
        assert_eq!(scene.plexes()[0].state() == PlexState::Active, !erased);
        scene.stop();
        scene.start();
        assert!(!scene.record().volume("v").unwrap().is_intent_lost(), "until a clean stop");
    }
}

/// A commit that relies on new plexes finds their labels durable, whatever happens next.
#[test]
fn new_plexes_bear_labels_before_a_commit_relies_on_them() {
    for power in [false, true] {
        let scene = Scene::new(7);
        let outcome = scene.launch(scene.making(2));
        // The first commit has the volume's name, the second its plexes.
        scene.die_at(FaultPoint::TransactionCommitted, 2);
        drop(outcome);
        let disks = scene.kernel.tree.disks();
        scene.crash(power);
        let mut labelled = 0;
        for disk in disks.iter().filter(|disk| disk.geometry().length > LENGTH) {
            let (host, disk) = (scene.kernel.world.host(), disk.clone());
            let read = async move { read_label(&host.open(&disk), Some(LENGTH)).await };
            let read = scene.kernel.world.block_on(read).unwrap();
            labelled += u32::from(matches!(read, Ok(Found::Label(_))));
        }
        assert_eq!(labelled, 2, "power cut: {power}");
        scene.boot();
        assert_eq!(scene.record().volumes().len(), 0, "a make that did not end leaves nothing");
    }
}

/// A plex that is taken out while a scrub of its volume waits is let go of: its medium can be looked at and mended.
#[test]
fn a_plex_that_leaves_during_a_scrub_is_unlocked_at_once() {
    let scene = Scene::new(8);
    scene.make(3);
    let scrub = request::Scrub {
        group: name("g"),
        volume: name("v"),
        repair: request::Repair::Report,
        bytes_per_second: Some(1 << 20),
        latency_us: None,
        background: true,
    };
    scene.ask(Request::Scrub(scrub)).unwrap();
    scene.run_for(50);
    let running = || {
        let tasks = scene.owner().tasks.list(None);
        tasks.iter().any(|task| task.kind == TaskKind::Scrub && !task.state.ended())
    };
    let plex = scene.plexes()[2].clone();
    let file = scene.kernel.tree.file_at(plex.medium().path.as_path()).unwrap();
    assert!(running() && scene.kernel.tree.lock(file).is_none(), "it is in use");
    let detach = request::PlexRef { group: name("g"), plex: plex.name().clone() };
    scene.ask(Request::PlexDetach(detach)).unwrap();
    scene.run_for(1000);
    assert!(running(), "the scrub goes on with the others");
    assert!(scene.kernel.tree.lock(file).is_some(), "its medium is still locked");
    scene.settle();
    let task = scene.owner().tasks.list(None).into_iter().find(|task| task.kind == TaskKind::Scrub);
    assert_eq!(task.and_then(|task| task.fault), None);
}

/// A copy that shall be slow is so from its first byte, before anybody can tell the task.
#[test]
fn a_copy_keeps_to_its_rate_from_the_first_byte() {
    let scene = Scene::new(8);
    scene.make(1);
    // Holes have no rate.
    scene.disks()[0].poke(0, &vec![1; LENGTH as usize]);
    let Request::Mirror(request) = add_mirror() else { unreachable!() };
    let rate = scene.record().volume("v").unwrap().length() / 100;
    let latency_us = NonZeroU64::new(5000);
    let slow = request::Mirror { bytes_per_second: NonZeroU64::new(rate), latency_us, ..request };
    scene.ask(Request::Mirror(slow)).unwrap();
    let task = || scene.owner().tasks.list(None).pop().unwrap();
    scene.run_for(2000);
    let (now, limit) = (task(), Some(rate));
    assert!(!now.state.ended() && now.limit_bytes == limit, "{now:?}");
    assert_eq!(now.limit_latency_us, Some(5000));
    assert!(now.done_bytes <= now.total_bytes / 2, "in 2 of 100 seconds: {now:?}");
    scene.owner().tasks.throttle(now.task, None).unwrap();
    scene.settle();
    assert_eq!(task().fault, None);
}

/// A device that does not end in time: the volume counts as running until it has, and no stop is called a clean one then.
#[test]
fn a_device_that_lingers_is_no_clean_stop() {
    let scene = Scene::new(9);
    let device = scene.make(1);
    let disk = scene.disks()[0].clone();
    disk.add_rule(hold(Operation::Write));
    scene.write(device, 3, 83);
    scene.run_for(10);
    let stop = || Request::Stop(request::Stop { group: name("g"), volume: name("v") });
    let uuid = scene.record().volume("v").unwrap().uuid();
    assert!(scene.ask(stop()).is_err());
    let refused = scene.ask(stop()).unwrap_err();
    assert_eq!(refused.id, "device.lingers", "{refused}");
    assert!(scene.owner().live(uuid).is_some(), "a write may still land");
    disk.clear_rules();
    disk.release();
    scene.until(|| scene.kernel.pending() == 0);
    scene.kernel.end_lingering();
    let refused = scene.ask(stop()).unwrap_err();
    assert_eq!(refused.id, "volume.unclean-stop", "{refused}");
    assert_eq!(scene.record().volume("v").unwrap().state(), VolumeState::NeedSync);
    scene.start();
    scene.settle();
    assert_eq!(stamp_of(3, &disk.peek(ByteRange::new(3 * BLOCK, BLOCK))), Ok(83));
}

/// A medium whose labels were erased, or that is not there: the volume starts without it, and it is not believed.
#[test]
fn an_erased_or_missing_medium_is_not_believed_at_a_start() {
    for erased in [true, false] {
        let scene = Scene::new(10);
        let device = scene.make(2);
        scene.write(device, 3, 84);
        scene.settle();
        scene.stop();
        let (plexes, disks) = (scene.plexes(), scene.disks());
        match erased {
            true => disks[0].poke(LENGTH, &vec![0; (disks[0].geometry().length - LENGTH) as usize]),
            false => {
                scene.kernel.tree.unlink(plexes[0].medium().path.as_path()).unwrap();
            }
        }
        scene.start();
        let device = scene.kernel.found()[0].0;
        let plex = scene.plexes()[0].clone();
        assert!(
            !plex.is_attached() && plex.state() != PlexState::Active,
            "erased {erased}: {}",
            plex.state()
        );
        scene.write(device, 3, 85);
        scene.settle();
        assert_eq!(stamp_of(3, &disks[0].peek(ByteRange::new(3 * BLOCK, BLOCK))), Ok(84));
        let attach = request::PlexAttach {
            group: name("g"),
            volume: None,
            plex: plex.name().clone(),
            bytes_per_second: None,
            latency_us: None,
            background: false,
        };
        let refused = scene.ask(Request::PlexAttach(attach)).unwrap_err();
        assert!(!refused.reason.is_empty());
        assert_eq!(stamp_of(3, &disks[0].peek(ByteRange::new(3 * BLOCK, BLOCK))), Ok(84), "it is no one's");
    }
}

/// From the moment at which the record says that a plex is ACTIVE, no flush is acknowledged without it.
#[test]
fn rule_04_no_flush_is_acknowledged_without_a_plex_that_is_recorded_active() {
    let scene = Scene::new(11);
    let device = scene.make(1);
    scene.write(device, 3, 86);
    scene.settle();
    let seen: Rc<RefCell<Option<SimDisk>>> = Rc::default();
    let (kernel, told) = (Rc::clone(&scene.kernel), Rc::clone(&seen));
    FaultPoint::on_reached(Some(Box::new(move |point| {
        if point == FaultPoint::StepRecorded && told.borrow().is_none() {
            let newest =
                kernel.tree.disks().into_iter().filter(|disk| disk.geometry().length > LENGTH).last();
            let newest = newest.expect("the mirror's disk");
            newest.add_rule(hold(Operation::Flush));
            *told.borrow_mut() = Some(newest);
            kernel.ask(device, Ask::Flush);
        }
    })));
    scene.ask(add_mirror()).unwrap();
    scene.until(|| seen.borrow().is_some());
    scene.run_for(200);
    assert_eq!(scene.plexes()[1].state(), PlexState::Active, "it is recorded");
    assert_eq!(scene.kernel.pending(), 1, "the flush waits for it");
    let newest = seen.borrow().clone().unwrap();
    newest.clear_rules();
    newest.release();
    FaultPoint::on_reached(None);
    scene.settle();
}

/// A group is taken in from its labels, and the process ends at each change of a file in turn: afterwards it is there, or can
/// be taken in once more.
#[test]
fn an_import_that_is_interrupted_anywhere_can_be_repeated() {
    let mut interrupted = 0;
    for step in 0..40 {
        let scene = Scene::new(12);
        let device = scene.make(2);
        scene.write(device, 3, 87);
        scene.settle();
        scene.kernel.ask(device, Ask::Flush);
        scene.settle();
        scene.stop();
        let media: Vec<PathBuf> =
            scene.plexes().iter().map(|plex| plex.medium().path.as_path().to_owned()).collect();
        scene.crash(false);
        scene.kernel.tree.forget_directory(&Path::new(ROOT).join("g"));
        scene.boot();
        assert!(scene.owner().all_groups().is_empty());
        let import =
            || Request::GroupImport(request::GroupImport { media: media.clone(), group: None, name: None });
        crash_at_change(Some(step));
        let outcome = scene.launch(import());
        let died = loop {
            if outcome.borrow().is_some() {
                break false;
            }
            match catch_unwind(AssertUnwindSafe(|| scene.kernel.world.step())) {
                Ok(went) => assert!(went, "step {step}: nothing is left to do"),
                Err(payload) => {
                    assert!(payload.is::<Crash>(), "a panic");
                    break true;
                }
            }
        };
        crash_at_change(None);
        if died {
            interrupted += 1;
            scene.crash(step % 2 == 0);
            scene.boot();
            if scene.owner().all_groups().is_empty() {
                scene.ask(import()).unwrap();
            }
        } else {
            outcome.take().unwrap().unwrap();
        }
        scene.start();
        scene.settle();
        let held: BTreeMap<Uuid, u64> = scene
            .plexes()
            .iter()
            .zip(scene.disks())
            .map(|(plex, disk)| (plex.uuid(), Scene::durable(&disk)))
            .collect();
        assert!(held.values().all(|stamp| *stamp == 87), "step {step}: {held:?}");
        if !died {
            break;
        }
    }
    assert!(interrupted > 3, "{interrupted}");
}

/// The points that no world comes by: a scene dies at each of them.
pub const GONE_THROUGH: [FaultPoint; 6] = [
    FaultPoint::RestoreHidden,
    FaultPoint::RestoreSaved,
    FaultPoint::RestoreWritten,
    FaultPoint::RestoreRecorded,
    FaultPoint::UndoWritten,
    FaultPoint::UndoRecorded,
];

fn restoring(safety: bool, keep: bool) -> Request {
    Request::Restore(request::Restore {
        group: name("g"),
        snapshot: name("s"),
        nmirror: keep.then_some(0),
        safety,
        dry_run: false,
        bytes_per_second: None,
        background: false,
    })
}

fn undoing() -> Request {
    Request::Undo(request::Undo {
        group: name("g"),
        volume: name("v"),
        archive: None,
        keep: false,
        force: false,
        dry_run: false,
        bytes_per_second: None,
        background: false,
    })
}

/// Volume `v` of two plexes that holds 92 at block 3, and its snapshot `s` that holds 91 there.
fn gone_apart(seed: u64) -> Scene {
    let scene = Scene::new(seed);
    let device = scene.make(2);
    scene.write(device, 3, 91);
    scene.ask(add_snapshot_mirrors(1)).unwrap();
    scene.ask(cut(1)).unwrap();
    scene.write(device, 3, 92);
    scene.settle();
    // What is not flushed a power cut may take.
    scene.kernel.ask(device, Ask::Flush);
    scene.settle();
    scene
}

/// What every ACTIVE plex of `v` holds at block 3.
fn held(scene: &Scene) -> Vec<u64> {
    let active =
        scene.plexes().into_iter().zip(scene.disks()).filter(|(plex, _)| plex.state() == PlexState::Active);
    active.map(|(_, disk)| Scene::durable(&disk)).collect()
}

/// The daemon or the power goes at every point of a restore and of the way back from it: what comes up afterwards is the one
/// or the other on all plexes, never on some, and has a device only then.
#[test]
fn a_restore_that_is_cut_off_anywhere_ends_as_one_or_the_other() {
    use FaultPoint as P;
    let forward = [
        (P::RestoreHidden, 92),
        (P::RestoreSaved, 92),
        (P::CopyFlushed, 91),
        (P::CopyCleared, 91),
        (P::RestoreWritten, 91),
        (P::RestoreRecorded, 91),
    ];
    let back = [(P::RestoreHidden, 91), (P::CopyFlushed, 92), (P::UndoWritten, 92), (P::UndoRecorded, 92)];
    let forward = forward.map(|(point, expected)| (false, point, expected));
    let back = back.map(|(point, expected)| (true, point, expected));
    for (undo, point, expected) in forward.into_iter().chain(back) {
        for (seed, power) in [(41, false), (42, true)] {
            let scene = gone_apart(seed);
            if undo {
                scene.ask(restoring(true, true)).unwrap();
                scene.settle();
                assert_eq!(held(&scene), [91; 2]);
            }
            let outcome = scene.launch(if undo { undoing() } else { restoring(true, true) });
            scene.die_at(point, 1);
            scene.crash(power);
            drop(outcome);
            scene.mend();
            scene.boot();
            scene.settle();
            let volume = |scene: &Scene| scene.record().volume("v").unwrap().clone();
            scene.until(|| volume(&scene).restore().is_none());
            if scene.owner().live(volume(&scene).uuid()).is_none() {
                scene.start();
            }
            scene.settle();
            let at = format!("{} with power {power}", point.name());
            assert_eq!(held(&scene), [expected; 2], "{at}");
            assert!(
                volume(&scene).device().is_some() && volume(&scene).state() == VolumeState::Active,
                "{at}"
            );
            // The snapshot tells the truth about the difference, whoever made it.
            if !scene.record().volume("s").unwrap().state().is_started() {
                scene.ask(scene.starting("s")).unwrap();
            }
            scene.ask(restoring(false, true)).unwrap();
            scene.settle();
            assert_eq!(held(&scene), [91; 2], "{at}, restored at last");
        }
    }
}

/// Another snapshot of a volume that is restored and put back is given back by its map, and is equal then.
#[test]
fn rule_05_a_restore_and_its_undo_are_marked_for_every_other_snapshot() {
    let scene = gone_apart(43);
    scene.ask(add_snapshot_mirrors(1)).unwrap();
    scene.settle();
    let members = vec![request::CutMember { volume: name("v"), snapshot: Some(name("other")) }];
    let consistency = Consistency::Crash;
    let request = request::Snapshot { group: name("g"), members, pattern: None, consistency, nmirror: 1 };
    scene.ask(Request::Snapshot(request)).unwrap();
    for (request, expected) in [(restoring(true, true), 91), (undoing(), 92), (restoring(true, true), 91)] {
        scene.ask(request).unwrap();
        scene.settle();
        assert_eq!(held(&scene), [expected; 2]);
        let plex = scene.record().volume("other").unwrap().plexes()[0].clone();
        let disk = scene.kernel.tree.disk(plex.medium().path.as_path()).unwrap();
        assert_eq!(Scene::durable(&disk), 92, "it is nobody's business what its origin does");
    }
    let back = request::SnapBack {
        group: name("g"),
        snapshot: name("other"),
        nmirror: None,
        bytes_per_second: None,
        latency_us: None,
        background: false,
    };
    scene.ask(Request::SnapBack(back)).unwrap();
    scene.settle();
    let all: Vec<_> = scene.disks().iter().map(Scene::durable).collect();
    assert_eq!(all, [91; 3], "the mirror was copied what the restores have changed");
}
