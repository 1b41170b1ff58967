//! A volume that runs in a world of its own, for tests that bring about one situation.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use cleave::base::limits::EXTENT_BYTES;
use cleave::base::{ByteRange, Errno, Generation, Uuid};
use cleave::bitmap::ExtentMap;
use cleave::device::{BlockDevice, Clock, Durability, Moment, OwnedBuffer, Request, Space};
use cleave::sim::{Delay, Fault, Operation, Rule, SimDisk, When, World};
use cleave::volume::map_file::Ending;

use crate::maps;
use crate::pattern::{BLOCK, bytes_of, stamps_of};
use crate::site::{Running, Site, Standing};

pub type Outcome = Rc<Cell<Option<Result<(), Errno>>>>;

pub const LENGTH: u64 = 3 * EXTENT_BYTES;

/// A volume that runs, with disks that take a tenth of a millisecond.
pub struct Stage {
    pub site: Rc<Site>,
    pub running: Rc<Running>,
}

impl Stage {
    pub fn new(seed: u64, active: usize, spare: usize) -> Self {
        Self::of_length(seed, active, spare, LENGTH)
    }

    pub fn of_length(seed: u64, active: usize, spare: usize, length: u64) -> Self {
        let site = Site::new(Rc::new(World::new(seed)), length, active, spare);
        for plex in &site.plexes {
            plex.disk.set_delay(Delay::fixed(Duration::from_micros(100)));
        }
        let running = site.world.block_on(Rc::clone(&site).start()).unwrap();
        Self { site, running }
    }

    pub fn disk(&self, at: usize) -> &SimDisk {
        &self.site.plexes[at].disk
    }

    pub fn uuid(&self, at: usize) -> Uuid {
        self.site.plexes[at].uuid
    }

    pub fn intent_disk(&self) -> SimDisk {
        self.site.intent.borrow().clone()
    }

    pub fn run_for(&self, millis: u64) {
        self.site.world.run_for(Duration::from_millis(millis));
    }

    pub fn now(&self) -> Moment {
        self.site.world.clock().now()
    }

    pub fn launch(&self, queue: usize, request: Request) -> Outcome {
        let (queue, outcome) = (Rc::clone(&self.running.queues[queue]), Outcome::default());
        let slot = Rc::clone(&outcome);
        self.site.world.spawn(async move { slot.set(Some(queue.submit(request).await)) });
        outcome
    }

    pub fn wait(&self, outcome: &Outcome) -> Result<(), Errno> {
        self.site.world.run_until(|| outcome.get().is_some()).unwrap();
        outcome.get().unwrap()
    }

    pub fn submit(&self, request: Request) -> Result<(), Errno> {
        self.wait(&self.launch(0, request))
    }

    pub fn on_running<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        call: impl FnOnce(Rc<Running>, Rc<Site>) -> F,
    ) -> T {
        self.site.world.block_on(call(Rc::clone(&self.running), Rc::clone(&self.site))).unwrap()
    }

    /// Make plex `at` a mirror in step.
    pub fn mirror(&self, at: usize) -> Uuid {
        let uuid = self.uuid(at);
        self.on_running(|running, site| async move {
            assert!(running.attach_mirror(&site, uuid, None).await);
            running.resync_and_promote(&site, uuid).await;
        });
        assert_eq!(self.site.book.standing(uuid), Standing::Mirror);
        uuid
    }

    pub fn clean(&self) -> Result<(), Errno> {
        self.on_running(|running, _| async move { running.keeper.clean().await })
    }

    pub fn read(&self, block: u64, blocks: u64) -> Result<Vec<u64>, Errno> {
        let buffer = OwnedBuffer::zeroed((blocks * BLOCK) as usize);
        self.submit(Request::Read { offset: block * BLOCK, buffer: buffer.clone().into() })?;
        Ok(stamps_of(block, &buffer.to_vec()).unwrap())
    }

    pub fn held(&self, at: usize, block: u64, blocks: u64) -> Vec<u64> {
        let range = ByteRange::new(block * BLOCK, blocks * BLOCK);
        stamps_of(block, &self.disk(at).peek(range)).unwrap()
    }

    pub fn durable(&self, at: usize, block: u64, blocks: u64) -> Vec<u64> {
        let range = ByteRange::new(block * BLOCK, blocks * BLOCK);
        stamps_of(block, &self.disk(at).peek_durable(range)).unwrap()
    }

    /// The intent map as a power cut at this moment would surely leave it.
    pub fn durable_intent(&self) -> ExtentMap {
        let disk = self.intent_disk();
        let world = World::new(0);
        let whole = ByteRange::new(0, disk.geometry().length);
        let copy = world.disk("copy", disk.geometry());
        copy.poke(0, &disk.peek_durable(whole));
        let (shape, run) = (self.site.shape, self.site.run.get());
        let ending = Ending { run, before: None, stop: Generation(0), clean: false };
        let host = world.host();
        let load = async move { maps::load_intent(host, &copy, &shape, ending, run.next()).await.0 };
        world.block_on(load).unwrap()
    }

    pub fn check_quiet(&self) {
        self.running.check_quiet(&self.site, &Default::default()).unwrap_or_else(|violation| {
            // The oracle knows of no writes here; all else holds.
            assert!(violation.contains("never written"), "{violation}");
        });
    }
}

pub fn write_with(block: u64, blocks: u64, stamp: u64, durability: Durability) -> Request {
    let buffer = OwnedBuffer::from_slice(&bytes_of(stamp, block, blocks));
    Request::Write { offset: block * BLOCK, buffer: buffer.into(), durability }
}

pub fn write(block: u64, blocks: u64, stamp: u64) -> Request {
    write_with(block, blocks, stamp, Durability::Volatile)
}

pub fn range(block: u64, blocks: u64) -> ByteRange {
    ByteRange::new(block * BLOCK, blocks * BLOCK)
}

pub fn zeroes(block: u64, blocks: u64) -> Request {
    let durability = Durability::Volatile;
    Request::WriteZeroes { range: range(block, blocks), space: Space::Keep, durability }
}

pub fn hold(on: Operation) -> Rule {
    Rule::new(on, When::Always, Fault::Hold)
}

pub fn fail(on: Operation) -> Rule {
    Rule::new(on, When::Always, Fault::Error(Errno::IO))
}

/// The first block of extent `extent`.
pub const fn extent(extent: u64) -> u64 {
    extent * EXTENT_BYTES / BLOCK
}
