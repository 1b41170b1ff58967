//! The simulated machine that the daemon runs on: one thread, a clock and dice of a seed, files and disks that obey the
//! rules of durability, and a kernel that keeps devices and their requests while the daemon is dead.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use cleave::base::{Affinity, ByteRange, Errno, Kind, Name, Refusal, Refused, Uuid};
use cleave::bitmap::SharedWords;
use cleave::daemon::machine::{Living, Machine, OpenMedium, Ring, Shown, Standing};
use cleave::daemon::udev::Entry;
use cleave::device::{
    BlockDevice, Clock, Durability, FinalFlush, Flushes, Geometry, Host, Moment, OwnedBuffer, Request,
    SharedFlushes, Space,
};
use cleave::export::ublk::{DataMode, DeviceMark, DeviceOptions};
use cleave::ring::{Allocation, Fault, Identity, MediumError, Opening};
use cleave::sim::{Delay, Rng, SimClock, SimDevice, SimDisk, SimHost, World};
use cleave::state::place::Room;
use cleave::state::{Noted, PoolMedium};
use cleave::volume::{Volume, VolumeQueue};

use crate::files::{Files, Mood, Tree};
use crate::oracle::{FlushToken, Oracle, ReadToken, WriteToken};
use crate::pattern::{BLOCK, Stamp, ZEROES, bytes_of, stamps_of};

/// How a simulated process ends in the middle of a step: it unwinds with this.
pub struct Crash;

/// An open medium.
#[derive(Clone)]
pub struct SimMedium {
    pub disk: SimDisk,
    path: Arc<PathBuf>,
    file: u64,
    flushes: FinalFlush,
    labels: Option<Box<Self>>,
    _lock: Arc<()>,
}

impl OpenMedium for SimMedium {
    fn path(&self) -> &Path {
        &self.path
    }
    fn identity(&self) -> Identity {
        Identity::File { device: 1, inode: self.file }
    }
    fn length(&self) -> u64 {
        self.disk.geometry().length
    }
    fn block_size(&self) -> u32 {
        self.disk.geometry().block_size
    }
    fn memory_alignment(&self) -> u32 {
        self.disk.geometry().memory_alignment
    }
    fn size_now(&self) -> Result<u64, Errno> {
        Ok(self.length())
    }
    fn name_now(&self) -> Result<cleave::ring::Name, Errno> {
        Ok(cleave::ring::Name::Its)
    }
    fn with_labels(mut self, labels: Self) -> Self {
        self.labels = Some(Box::new(labels));
        self
    }
    fn labels(&self) -> Self {
        self.labels.as_deref().unwrap_or(self).clone()
    }
}

/// A thread's handle of an open medium: while there is one, the medium is locked.
pub struct Handle {
    device: SimDevice,
    flushes: FinalFlush,
    _lock: Arc<()>,
}

impl BlockDevice for Handle {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }
    async fn submit(&self, request: Request) -> Result<(), Errno> {
        match request {
            Request::Flush => self.flushes.run(self.device.submit(request)).await,
            _ => self.device.submit(request).await,
        }
    }
    async fn next_data(&self, span: ByteRange) -> Result<Option<ByteRange>, Errno> {
        self.device.next_data(span).await
    }
}

/// A thread of the daemon.
#[derive(Clone)]
pub struct Thread(SimHost);

impl Host for Thread {
    type Medium = SimMedium;
    type Device = Handle;
    type Clock = SimClock;

    fn open(&self, medium: &SimMedium) -> Handle {
        let (flushes, _lock) = (medium.flushes.clone(), Arc::clone(&medium._lock));
        Handle { device: self.0.open(&medium.disk), flushes, _lock }
    }
    fn clock(&self) -> &SimClock {
        self.0.clock()
    }
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }
}

impl Ring for Thread {
    type Host = Self;

    fn run<T, F, Fut>(&self, start: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let host = self.clone();
        self.0.spawn(async move {
            let _ = answer.send(start(host).await);
        });
        outcome
    }
}

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Write { range: ByteRange, stamp: Stamp, durable: bool },
    Zeroes { range: ByteRange, durable: bool },
    Discard { range: ByteRange },
    Flush,
    Read { range: ByteRange },
}

enum Token {
    Write(WriteToken),
    Flush(FlushToken),
    Read(ReadToken),
}

struct Pending {
    ask: Ask,
    token: Token,
}

struct Device {
    volume: Uuid,
    length: u64,
    mark: DeviceMark,
    /// None while it waits for a daemon.
    queue: Option<Rc<VolumeQueue<Thread>>>,
    /// What serves it, or served it last.
    running: Option<Arc<Volume<SimMedium>>>,
    stopping: bool,
    pending: BTreeMap<u64, Pending>,
}

/// A device that the daemon serves.
pub struct Served(u32);

impl Shown for Served {
    fn id(&self) -> u32 {
        self.0
    }
    fn data(&self) -> DataMode {
        DataMode::Copy
    }
    fn queues(&self) -> u16 {
        1
    }
    fn keeps_pages_still(&self) -> bool {
        true
    }
    fn lent(&self) -> u32 {
        0
    }
    fn cut_off(&self) {}
}

/// Everything that outlives the daemon.
pub struct Kernel {
    pub world: World,
    pub tree: Tree,
    pub dice: RefCell<Rng>,
    devices: RefCell<BTreeMap<u32, Device>>,
    links: RefCell<BTreeSet<(Name, Name, u32)>>,
    /// What each volume may answer.
    pub oracles: RefCell<BTreeMap<Uuid, Oracle>>,
    /// What snapshots held at the instant of their cut.
    pub images: RefCell<BTreeMap<Uuid, BTreeMap<u64, Stamp>>>,
    pub violation: RefCell<Option<String>>,
    /// Whether requests may fail: something was done to the state directory or to a last plex.
    pub may_fail: Cell<bool>,
    /// Disks that something is wrong with: a volume that has no others left may fail.
    pub sick: RefCell<BTreeSet<u32>>,
    /// Those with which something was wrong when the daemon was killed: a flush that failed may still have to be told.
    pub sick_before: RefCell<BTreeSet<u32>>,
    /// How the flushes of plexes ended: a power cut takes this memory.
    flushes: RefCell<BTreeMap<Uuid, Arc<Flushes>>>,
    /// The unflushed regions of volumes: such memory as well.
    unflushed: RefCell<BTreeMap<Uuid, SharedWords>>,
    /// How often, of a million times, that memory cannot be had, nor given back.
    pub memory_denied: Cell<u32>,
    asked: Cell<u64>,
    pub answered: Cell<u64>,
}

impl Kernel {
    pub fn new(seed: u64) -> Rc<Self> {
        let world = World::new(seed);
        let dice = RefCell::new(world.split_dice());
        Rc::new(Self {
            world,
            tree: Tree::new(),
            dice,
            devices: RefCell::default(),
            links: RefCell::default(),
            oracles: RefCell::default(),
            images: RefCell::default(),
            violation: RefCell::default(),
            may_fail: Cell::new(false),
            sick: RefCell::default(),
            sick_before: RefCell::default(),
            flushes: RefCell::default(),
            unflushed: RefCell::default(),
            memory_denied: Cell::default(),
            asked: Cell::new(0),
            answered: Cell::new(0),
        })
    }

    pub fn violate(&self, what: impl Into<String>) {
        self.violation.borrow_mut().get_or_insert(what.into());
    }

    /// Devices that a client can find by their links, with the volume of each.
    pub fn found(&self) -> Vec<(u32, Uuid)> {
        let (devices, links) = (self.devices.borrow(), self.links.borrow());
        links.iter().filter_map(|(_, _, id)| Some((*id, devices.get(id)?.volume))).collect()
    }

    /// Bytes that the device has, as who uses it sees it.
    pub fn length_of(&self, id: u32) -> Option<u64> {
        self.devices.borrow().get(&id).map(|device| device.length)
    }

    /// Devices with the volume that each shows and whether a daemon serves it.
    pub fn shown(&self) -> Vec<(u32, Uuid, bool)> {
        let devices = self.devices.borrow();
        devices.iter().map(|(id, device)| (*id, device.volume, device.queue.is_some())).collect()
    }

    /// The links that there are.
    pub fn links(&self) -> BTreeSet<(Name, Name, u32)> {
        self.links.borrow().clone()
    }

    pub fn pending(&self) -> usize {
        self.devices.borrow().values().map(|device| device.pending.len()).sum()
    }

    /// A client asks something of the device.
    pub fn ask(self: &Rc<Self>, id: u32, ask: Ask) {
        let number = self.asked.get();
        {
            let mut devices = self.devices.borrow_mut();
            let Some(device) = devices.get_mut(&id).filter(|device| !device.stopping) else { return };
            let mut oracles = self.oracles.borrow_mut();
            let Some(oracle) = oracles.get_mut(&device.volume) else { return };
            let token = match ask {
                Ask::Write { range, stamp, durable } => {
                    Token::Write(oracle.begin_write(range, stamp, durable))
                }
                Ask::Zeroes { range, durable } => Token::Write(oracle.begin_write(range, ZEROES, durable)),
                Ask::Discard { range } => Token::Write(oracle.begin_write(range, ZEROES, false)),
                Ask::Flush => Token::Flush(oracle.begin_flush()),
                Ask::Read { range } => Token::Read(oracle.begin_read(range)),
            };
            device.pending.insert(number, Pending { ask, token });
        }
        self.asked.set(number + 1);
        self.serve(id, number);
    }

    /// Hand the request to the daemon, if one serves the device.
    fn serve(self: &Rc<Self>, id: u32, number: u64) {
        let devices = self.devices.borrow();
        let Some(device) = devices.get(&id) else { return };
        let (Some(queue), Some(pending)) = (device.queue.clone(), device.pending.get(&number)) else {
            return;
        };
        let (kernel, ask) = (Rc::clone(self), pending.ask);
        self.world.spawn(async move {
            let durability = |durable| if durable { Durability::Durable } else { Durability::Volatile };
            // Memory of its own each time: what a dead daemon's read still fills belongs to nobody.
            let mut read = None;
            let request = match ask {
                Ask::Write { range, stamp, durable } => {
                    let bytes = bytes_of(stamp, range.offset / BLOCK, range.length / BLOCK);
                    let buffer = OwnedBuffer::from_slice(&bytes).into();
                    Request::Write { offset: range.offset, buffer, durability: durability(durable) }
                }
                Ask::Zeroes { range, durable } => {
                    Request::WriteZeroes { range, space: Space::Keep, durability: durability(durable) }
                }
                Ask::Discard { range } => Request::Discard { range },
                Ask::Flush => Request::Flush,
                Ask::Read { range } => {
                    let buffer = OwnedBuffer::zeroed(range.length as usize);
                    read = Some((range, buffer.clone()));
                    Request::Read { offset: range.offset, buffer: buffer.into() }
                }
            };
            let result = queue.submit(request).await;
            kernel.answer(id, number, result, read.map(|(range, buffer)| (range, buffer.to_vec())));
        });
    }

    fn answer(&self, id: u32, number: u64, result: Result<(), Errno>, read: Option<(ByteRange, Vec<u8>)>) {
        let mut devices = self.devices.borrow_mut();
        let Some(device) = devices.get_mut(&id) else { return };
        let Some(Pending { ask, token }) = device.pending.remove(&number) else { return };
        self.answered.set(self.answered.get() + 1);
        let mut oracles = self.oracles.borrow_mut();
        let Some(oracle) = oracles.get_mut(&device.volume) else { return };
        if let Err(errno) = result
            && !self.may_fail.get()
            && !device.running.as_ref().is_some_and(|volume| self.is_sick(volume, &ask))
        {
            self.violate(format!("{ask:?} of device {id} failed with {errno:?}, and nothing was wrong"));
        }
        let flushing = device.pending.values().any(|other| matches!(other.ask, Ask::Flush));
        if let (Ask::Flush, false, Some(volume)) = (ask, flushing, &device.running) {
            let told: Vec<u32> = volume.route().readable().map(|plex| plex.medium.disk.index()).collect();
            self.sick_before.borrow_mut().retain(|disk| !told.contains(disk));
        }
        match token {
            Token::Write(token) => oracle.end_write(token, result.is_ok()),
            Token::Flush(token) => oracle.end_flush(token, result.is_ok()),
            Token::Read(token) => match (result, read) {
                (Ok(()), Some((range, bytes))) => {
                    let stamps = stamps_of(range.offset / BLOCK, &bytes);
                    if let Err(what) = stamps.and_then(|stamps| oracle.end_read(token, &stamps)) {
                        self.violate(format!("device {id} of {}: {what}", device.volume));
                    }
                }
                _ => oracle.fail_read(token),
            },
        }
    }

    /// Whether every plex that `volume` is read from lies on a disk that something is wrong with, or `ask` is a flush that may
    /// be told of what was.
    fn is_sick(&self, volume: &Volume<SimMedium>, ask: &Ask) -> bool {
        let (sick, before) = (self.sick.borrow(), self.sick_before.borrow());
        let route = volume.route();
        let disks: Vec<u32> = route.readable().map(|plex| plex.medium.disk.index()).collect();
        match ask {
            Ask::Flush if disks.iter().any(|disk| before.contains(disk)) => true,
            _ => disks.iter().all(|disk| sick.contains(disk)),
        }
    }

    /// The daemon dies where it stands. Devices stay and wait, with their requests; what is in flight lands later.
    pub fn kill(&self) {
        self.devices.borrow_mut().values_mut().for_each(|device| device.queue = None);
        self.world.kill();
        self.tree.after_death();
        self.devices.borrow_mut().values_mut().for_each(|device| device.stopping = false);
        self.oracles.borrow_mut().values_mut().for_each(Oracle::killed);
    }

    fn is_memory_denied(&self) -> bool {
        self.dice.borrow_mut().chance(self.memory_denied.get())
    }

    /// Somebody removes the devices of a daemon that is gone: what waits for it fails, and nobody asks for it again.
    pub fn remove_devices(&self) {
        self.devices.borrow_mut().clear();
        self.links.borrow_mut().clear();
        self.oracles.borrow_mut().values_mut().for_each(|oracle| oracle.crash(false));
    }

    /// The power fails.
    pub fn power_cut(&self) {
        self.kill();
        self.devices.borrow_mut().clear();
        self.links.borrow_mut().clear();
        self.flushes.borrow_mut().clear();
        self.unflushed.borrow_mut().clear();
        let mut dice = self.dice.borrow_mut().split();
        self.tree.power_cut(&mut dice);
        self.oracles.borrow_mut().values_mut().for_each(|oracle| oracle.crash(true));
    }

    /// What was in flight below devices that were told to end has ended: so do they.
    pub fn end_lingering(&self) {
        self.devices.borrow_mut().retain(|_, device| !device.stopping);
    }

    async fn pause(&self) {
        let micros = self.dice.borrow_mut().within(1..40);
        self.world.clock().sleep(Duration::from_micros(micros)).await;
    }
}

/// The daemon's way to its kernel.
#[derive(Clone)]
pub struct SimMachine(pub Weak<Kernel>);

impl SimMachine {
    fn kernel(&self) -> Rc<Kernel> {
        self.0.upgrade().expect("the kernel outlives its daemons")
    }

    pub fn thread(&self) -> Thread {
        Thread(self.kernel().world.host())
    }

    async fn pause(&self) {
        self.kernel().pause().await;
    }
}

fn medium_error(path: &Path, errno: Errno) -> MediumError {
    let fault = match errno.raw() {
        2 => Fault::Missing,
        17 => Fault::Exists,
        28 => Fault::NoSpace { needed: 0 },
        30 => Fault::ReadOnly,
        _ => Fault::System { step: "create" },
    };
    MediumError::new(path, fault, Some(errno))
}

fn no_device(number: u32, what: &str) -> Refused {
    Refusal::new(Kind::System, "device.failed", format!("device {number}"), what, "")
}

impl Machine for SimMachine {
    type Ring = Thread;
    type Medium = SimMedium;
    type Files = Files;
    type Device = Served;
    type Frozen = ();

    fn now(&self) -> Moment {
        self.kernel().world.clock().now()
    }

    async fn sleep(&self, span: Duration) {
        let clock = self.kernel().world.clock().clone();
        clock.sleep(span).await;
    }

    async fn zero_copy(&self) -> bool {
        false
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_nanos(self.now().0)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.kernel().world.spawn(task);
    }

    async fn worker<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.pause().await;
        let done = work();
        self.pause().await;
        done
    }

    fn seed(&self) -> Result<[u8; 32], Refused> {
        let kernel = self.kernel();
        let mut dice = kernel.dice.borrow_mut();
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|word| word.copy_from_slice(&dice.next_u64().to_le_bytes()));
        Ok(seed)
    }

    async fn open(&self, path: &Path, opening: Opening) -> Result<SimMedium, MediumError> {
        let tree = self.kernel().tree.clone();
        let deadline = self.now().after(opening.patience);
        loop {
            self.pause().await;
            let file = tree.file_at(path).ok_or_else(|| medium_error(path, Errno::from_raw(2)))?;
            let disk = tree.disk(path).ok_or_else(|| MediumError::new(path, Fault::NotAFileOrDisk, None))?;
            let length = disk.geometry().length;
            if length < opening.needed {
                let fault = Fault::TooSmall { length, needed: opening.needed };
                return Err(MediumError::new(path, fault, None));
            }
            if let Some(lock) = tree.lock(file) {
                return Ok(SimMedium {
                    disk,
                    path: Arc::new(path.to_owned()),
                    file,
                    flushes: FinalFlush::default(),
                    labels: None,
                    _lock: lock,
                });
            }
            if self.now() >= deadline {
                let fault = Fault::InUse { holder: String::new() };
                return Err(MediumError::new(path, fault, Some(Errno::BUSY)));
            }
            self.sleep(Duration::from_millis(10)).await;
        }
    }

    async fn create_file(
        &self,
        path: &Path,
        bytes: u64,
        _allocation: Allocation,
    ) -> Result<SimMedium, MediumError> {
        self.pause().await;
        let kernel = self.kernel();
        let geometry =
            Geometry { length: bytes, block_size: BLOCK as u32, memory_alignment: 512, discard_zeroes: true };
        let disk = kernel.world.disk(&path.display().to_string(), geometry);
        let max = Duration::from_micros(kernel.dice.borrow_mut().within(30..300));
        disk.set_delay(Delay { max, ..Delay::default() });
        let failed = |errno| medium_error(path, errno);
        let file = kernel.tree.create(path, disk.clone()).map_err(failed)?;
        self.pause().await;
        kernel.tree.sync_beside(path).map_err(failed)?;
        let lock = kernel.tree.lock(file).ok_or_else(|| failed(Errno::BUSY))?;
        Ok(SimMedium {
            disk,
            path: Arc::new(path.to_owned()),
            file,
            flushes: FinalFlush::default(),
            labels: None,
            _lock: lock,
        })
    }

    async fn enlarge(&self, medium: &SimMedium, bytes: u64, _: Allocation) -> Result<u64, MediumError> {
        self.pause().await;
        let length = medium.length().max(bytes);
        medium.disk.set_length(length);
        self.pause().await;
        Ok(length)
    }

    async fn shorten(&self, medium: &SimMedium, bytes: u64) -> Result<(), MediumError> {
        self.pause().await;
        medium.disk.set_length(medium.length().min(bytes));
        self.pause().await;
        Ok(())
    }

    async fn standing(&self, path: &Path) -> io::Result<Standing> {
        self.pause().await;
        let tree = self.kernel().tree.clone();
        match (tree.is_directory(path), tree.file_at(path)) {
            (true, _) => Ok(Standing::Directory),
            (false, Some(_)) => Ok(Standing::Other),
            (false, None) => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    async fn identity_at(&self, path: &Path) -> Option<Identity> {
        self.pause().await;
        let inode = self.kernel().tree.file_at(path)?;
        Some(Identity::File { device: 1, inode })
    }

    async fn look(&self, path: &Path) -> Option<Noted> {
        self.pause().await;
        let disk = self.kernel().tree.disk(path)?;
        let counters = disk.counters();
        tracing::info!(path = %path.display(), disk = disk.index(), ?counters, in_flight = disk.in_flight(), "looked at");
        // Each change moves the file's time on.
        let time = i64::try_from(counters.writes + counters.zeroes + counters.discards).ok()?;
        Some(Noted { size: disk.geometry().length, mtime_ns: time, ctime_ns: time })
    }

    async fn room(&self, medium: &PoolMedium) -> Room {
        self.pause().await;
        let tree = self.kernel().tree.clone();
        if !tree.is_directory(medium.path.as_path()) {
            return Room::Missing("it is not there".to_owned());
        }
        match tree.mood() {
            Mood::ReadOnly => Room::ReadOnly,
            Mood::Well | Mood::Full | Mood::Failing => Room::Directory { free: 1 << 40 },
        }
    }

    async fn remove_durably(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        let failed = |errno: Errno| io::Error::from_raw_os_error(errno.raw());
        let tree = self.kernel().tree.clone();
        tree.unlink(path).map_err(failed)?;
        self.pause().await;
        tree.sync_beside(path).map_err(failed)
    }

    async fn flushes(&self, plex: Uuid) -> io::Result<SharedFlushes> {
        self.pause().await;
        let kernel = self.kernel();
        let counts = Arc::clone(kernel.flushes.borrow_mut().entry(plex).or_default());
        Ok(SharedFlushes::new(counts))
    }

    async fn unflushed(&self, volume: Uuid, bytes: u64) -> io::Result<SharedWords> {
        self.pause().await;
        let kernel = self.kernel();
        if kernel.is_memory_denied() {
            return Err(io::Error::from_raw_os_error(Errno::NO_SPACE.raw()));
        }
        let new = || SharedWords::new((0..bytes / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        Ok(kernel.unflushed.borrow_mut().entry(volume).or_insert_with(new).clone())
    }

    async fn forget_unflushed(&self, volume: Uuid) {
        self.pause().await;
        let kernel = self.kernel();
        if !kernel.is_memory_denied() {
            kernel.unflushed.borrow_mut().remove(&volume);
        }
    }

    async fn forget_flushes(&self, plex: Uuid) {
        self.pause().await;
        self.kernel().flushes.borrow_mut().remove(&plex);
    }

    async fn make_directory(&self, path: &Path) -> Result<(), Refused> {
        self.pause().await;
        self.kernel().tree.make_directory(path);
        Ok(())
    }

    async fn group_directories(&self, root: &Path) -> Result<Vec<PathBuf>, Refused> {
        self.pause().await;
        Ok(self.kernel().tree.groups(root))
    }

    async fn create_files(&self, path: &Path) -> Result<Files, Refused> {
        self.pause().await;
        let tree = self.kernel().tree.clone();
        tree.make_directory(path);
        tree.open(path)
    }

    async fn open_files(&self, path: &Path) -> Result<Files, Refused> {
        self.pause().await;
        self.kernel().tree.open(path)
    }

    async fn unsettled_directories(&self, root: &Path) -> Result<Vec<PathBuf>, Refused> {
        self.pause().await;
        Ok(self.kernel().tree.unsettled(root))
    }

    async fn holds_no_data(&self, path: &Path, length: u64) -> bool {
        self.pause().await;
        let disk = self.kernel().tree.disk(path);
        // A file that nothing was ever written to has not a block of its own.
        disk.is_some_and(|disk| disk.peek(ByteRange::new(0, length)).iter().all(|byte| *byte == 0))
    }

    async fn remove_strays(&self, known: BTreeSet<DeviceMark>) -> Vec<u32> {
        self.pause().await;
        let kernel = self.kernel();
        let mut devices = kernel.devices.borrow_mut();
        let is_stray =
            |(_, device): &(&u32, &Device)| !known.contains(&device.mark) && device.queue.is_none();
        let strays: Vec<u32> = devices.iter().filter(is_stray).map(|(id, _)| *id).collect();
        for id in &strays {
            if devices.remove(id).is_some_and(|device| !device.pending.is_empty()) {
                kernel.violate(format!("device {id} was removed with requests in flight"));
            }
        }
        strays
    }

    async fn can_resize(&self) -> bool {
        true
    }

    async fn resize(&self, number: u32, length: u64) -> Result<(), Refused> {
        self.pause().await;
        let kernel = self.kernel();
        let mut devices = kernel.devices.borrow_mut();
        let device = devices.get_mut(&number).ok_or_else(|| no_device(number, "is gone"))?;
        if length < device.length {
            kernel.violate(format!("device {number} was cut off in use"));
        }
        device.length = length;
        Ok(())
    }

    async fn devices(&self) -> Result<Vec<Living>, Refused> {
        self.pause().await;
        let kernel = self.kernel();
        let devices = kernel.devices.borrow();
        let living = |(id, device): (&u32, &Device)| Living {
            id: *id,
            length: device.length,
            mark: Some(device.mark),
            recoverable: true,
        };
        Ok(devices.iter().map(living).collect())
    }

    async fn add(
        &self,
        options: DeviceOptions,
        _: Entry,
        volume: Arc<Volume<SimMedium>>,
    ) -> Result<Served, Refused> {
        self.pause().await;
        let kernel = self.kernel();
        let queue = VolumeQueue::new(self.thread(), Arc::clone(&volume)).expect("one lane for each queue");
        let id = {
            let mut devices = kernel.devices.borrow_mut();
            let free = (0..).find(|id| !devices.contains_key(id)).expect("there are numbers enough");
            let id = options.id.filter(|id| !devices.contains_key(id)).unwrap_or(free);
            let device = Device {
                volume: volume.shape().uuid,
                length: options.length,
                mark: options.mark,
                queue: Some(Rc::new(queue)),
                running: Some(volume),
                stopping: false,
                pending: BTreeMap::new(),
            };
            devices.insert(id, device);
            id
        };
        self.pause().await;
        Ok(Served(id))
    }

    async fn recover(
        &self,
        number: u32,
        _patience: Duration,
        _affinity: Affinity,
        volume: Arc<Volume<SimMedium>>,
    ) -> Result<Served, Refused> {
        self.pause().await;
        let kernel = self.kernel();
        let queue = VolumeQueue::new(self.thread(), Arc::clone(&volume)).expect("one lane for each queue");
        let waiting: Vec<u64> = {
            let mut devices = kernel.devices.borrow_mut();
            let device = devices.get_mut(&number).ok_or_else(|| no_device(number, "is gone"))?;
            if device.volume != volume.shape().uuid {
                kernel.violate(format!("device {number} was taken over for another volume"));
            }
            if device.queue.is_some() {
                return Err(no_device(number, "is served"));
            }
            device.queue = Some(Rc::new(queue));
            device.running = Some(volume);
            device.pending.keys().copied().collect()
        };
        waiting.into_iter().for_each(|request| kernel.serve(number, request));
        self.pause().await;
        Ok(Served(number))
    }

    async fn stop(&self, device: Served, limit: Duration) -> Result<(), Refused> {
        let Served(id) = device;
        let deadline = self.now().after(limit);
        let kernel = self.kernel();
        if let Some(device) = kernel.devices.borrow_mut().get_mut(&id) {
            device.stopping = true;
        }
        while kernel.devices.borrow().get(&id).is_some_and(|device| !device.pending.is_empty()) {
            if self.now() > deadline {
                return Err(no_device(id, "does not end"));
            }
            self.sleep(Duration::from_micros(200)).await;
        }
        kernel.devices.borrow_mut().remove(&id);
        self.pause().await;
        Ok(())
    }

    async fn make_links(
        &self,
        entry: &Entry,
        number: u32,
        _limit: Duration,
    ) -> Result<Vec<Refused>, Refused> {
        self.pause().await;
        self.kernel().links.borrow_mut().insert((entry.group.clone(), entry.volume.clone(), number));
        Ok(Vec::new())
    }

    async fn remove_links(&self, group: &Name, volume: &Name) -> Result<(), Refused> {
        self.pause().await;
        self.kernel().links.borrow_mut().retain(|(of, name, _)| of != group || name != volume);
        Ok(())
    }

    async fn sweep_links(&self, keep: BTreeSet<(Name, Name, u32)>) -> Result<(), Refused> {
        self.pause().await;
        self.kernel().links.borrow_mut().retain(|link| keep.contains(link));
        Ok(())
    }

    async fn holders(&self, _number: u32) -> Vec<String> {
        self.pause().await;
        Vec::new()
    }

    async fn mounts(&self, _number: u32) -> Result<Vec<PathBuf>, Refused> {
        self.pause().await;
        Ok(Vec::new())
    }

    async fn freeze(&self, _points: Vec<PathBuf>, _limit: Duration) -> Result<(), Refused> {
        self.pause().await;
        Ok(())
    }

    async fn thaw(&self, (): ()) -> Result<Duration, Refused> {
        Ok(Duration::ZERO)
    }

    async fn thaw_left_over(&self, _number: u32) -> Vec<PathBuf> {
        self.pause().await;
        Vec::new()
    }
}
