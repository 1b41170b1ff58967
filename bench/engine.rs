//! What the engine itself costs: a volume on devices without a body, driven by one thread as a queue thread drives it.
//!
//! ```text
//! engine [PLEXES [REQUESTS [DEPTH]]] [read|write] [DIRECTORY]
//! ```
//! Prints nanoseconds of wall time for each request of 4 KiB, reads and writes, one and 32 at a time. A device answers at the
//! next turn of the loop, as a ring does, and does nothing. The intent bits over what is written are durable already.
//!
//! With a directory, which ends in a slash, the plexes are files in it, and a ring's thread drives the volume: what the ring
//! costs is among the instructions then, as a profiler counts them.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use cleave::base::{Errno, RegionSize, Uuid};
use cleave::bitmap::{ChangeMap, ExtentMap};
use cleave::device::{
    BlockDevice, Buffer, Clock, Durability, Executor, Geometry, Host, Moment, Notifier, OwnedBuffer, Request,
};
use cleave::ring::{Allocation, Medium, RingHost, RingThread};
use cleave::volume::{Intent, ReadPolicy, Role, Route, RoutePlex, Shape, Volume, VolumeQueue};

const LENGTH: u64 = 1 << 30;
const BLOCK: usize = 4096;

struct Nobody;

impl Notifier for Nobody {
    fn notify(&self) {}
}

#[derive(Clone)]
struct Null {
    executor: Executor<'static>,
    answers: Rc<RefCell<Vec<Waker>>>,
}

impl Clock for Null {
    fn now(&self) -> Moment {
        Moment(0)
    }
    fn sleep_until(&self, _: Moment) -> impl Future<Output = ()> {
        std::future::pending()
    }
}

impl Host for Null {
    type Medium = ();
    type Device = Self;
    type Clock = Self;
    fn open(&self, (): &()) -> Self {
        self.clone()
    }
    fn clock(&self) -> &Self {
        self
    }
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(task);
    }
}

impl BlockDevice for Null {
    fn geometry(&self) -> Geometry {
        Geometry { length: LENGTH, block_size: 512, memory_alignment: 512, discard_zeroes: true }
    }
    fn submit(&self, request: Request) -> impl Future<Output = Result<(), Errno>> {
        Answer { null: self.clone(), _request: request, asked: false }
    }
}

struct Answer {
    null: Null,
    _request: Request,
    asked: bool,
}

impl Future for Answer {
    type Output = Result<(), Errno>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.asked, true) {
            return Poll::Ready(Ok(()));
        }
        self.null.answers.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }
}

fn volume<M: Clone + Send + Sync + 'static>(media: Vec<M>) -> Arc<Volume<M>> {
    let region = RegionSize::DEFAULT;
    let durable = ExtentMap::new(LENGTH);
    durable.set_all();
    let plex = |(number, medium)| RoutePlex {
        uuid: Uuid::from_random([number as u8 + 1; 16]),
        medium,
        role: Role::ReadWrite,
        behind: Arc::new(ChangeMap::new(LENGTH, region)),
    };
    let mut route = Route::new(media.into_iter().enumerate().map(plex).collect(), ReadPolicy::Round);
    route.marks.push(Arc::new(ChangeMap::new(LENGTH, region)));
    let geometry = Geometry { length: LENGTH, block_size: 512, memory_alignment: 512, discard_zeroes: true };
    let shape = Shape { uuid: Uuid::from_random([9; 16]), geometry, region_size: region };
    Volume::new(shape, Intent::new(LENGTH, durable), route)
}

/// What is asked of a volume: so many requests, so many of them at a time.
#[derive(Clone, Copy)]
struct Load {
    requests: u64,
    depth: u64,
    writes: bool,
}

/// The requests of one of `depth` lanes, from and into `memory`.
async fn lane<H: Host>(queue: Rc<VolumeQueue<H>>, load: Load, lane: u64, memory: OwnedBuffer) {
    let mut random = lane.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..load.requests / load.depth {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let offset = (random >> 33) % (LENGTH / BLOCK as u64) * BLOCK as u64;
        let buffer = Buffer::from(memory.clone());
        let request = match load.writes {
            true => Request::Write { offset, buffer, durability: Durability::Volatile },
            false => Request::Read { offset, buffer },
        };
        queue.submit(request).await.expect("nothing fails");
    }
}

/// Nanoseconds for each request of `load` at devices without a body.
fn measure(plexes: usize, load: Load) -> f64 {
    let executor = Executor::new(Arc::new(Nobody));
    let null = Null { executor: executor.clone(), answers: Rc::default() };
    let queue = Rc::new(VolumeQueue::new(null.clone(), volume(vec![(); plexes])).expect("a lane"));
    let left = Rc::new(Cell::new(load.depth));
    for number in 0..load.depth {
        let (queue, left) = (Rc::clone(&queue), Rc::clone(&left));
        executor.spawn(async move {
            lane(queue, load, number, OwnedBuffer::zeroed(BLOCK)).await;
            left.set(left.get() - 1);
        });
    }
    let began = Instant::now();
    let mut answers = Vec::new();
    while left.get() > 0 {
        while executor.run_one() {}
        std::mem::swap(&mut answers, &mut *null.answers.borrow_mut());
        answers.drain(..).for_each(Waker::wake);
    }
    began.elapsed().as_nanos() as f64 / load.requests as f64
}

/// The same at files in `directory`, which are made anew.
fn measure_ring(plexes: usize, load: Load, directory: &Path) -> f64 {
    let make = |number: usize| {
        let path = directory.join(format!("engine-{number}"));
        let _ = std::fs::remove_file(&path);
        Medium::create_file(&path, LENGTH, Allocation::Sparse).expect("a file can be made")
    };
    let media: Vec<Medium> = (0..plexes).map(make).collect();
    let paths: Vec<_> = media.iter().map(|medium| medium.path().to_owned()).collect();
    let thread = RingThread::spawn("engine", 256).expect("a ring can be made");
    let began = Instant::now();
    let run = move |host: RingHost| async move {
        let memories = host.buffers(load.depth as usize, BLOCK);
        let queue = Rc::new(VolumeQueue::new(host.clone(), volume(media)).expect("a lane"));
        // Tasks of their own, as the tags of a ublk queue are.
        let (left, done) = (Rc::new(Cell::new(load.depth)), Rc::new(tokio::sync::Notify::new()));
        for (number, memory) in (0..).zip(memories) {
            let (queue, left, done) = (Rc::clone(&queue), Rc::clone(&left), Rc::clone(&done));
            host.spawn(async move {
                lane(queue, load, number, memory).await;
                left.set(left.get() - 1);
                if left.get() == 0 {
                    done.notify_one();
                }
            });
        }
        done.notified().await;
    };
    thread.block_on(run).expect("the thread works");
    let took = began.elapsed().as_nanos() as f64 / load.requests as f64;
    thread.join();
    paths.iter().for_each(|path| std::fs::remove_file(path).expect("the file is there"));
    took
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let directory = words.iter().find(|word| word.ends_with('/')).map(Path::new);
    // `cargo bench` says so; the tests only see that it runs.
    let requests = numbers.get(1).copied().unwrap_or(if has("--bench") { 1_000_000 } else { 1000 });
    let counts = numbers.first().map_or(1..=2, |plexes| *plexes as usize..=*plexes as usize);
    let depths = numbers.get(2).map_or(vec![1, 32], |depth| vec![*depth]);
    for plexes in counts {
        for (what, other, writes) in [("read", "write", false), ("write", "read", true)] {
            if has(other) && !has(what) {
                continue;
            }
            for &depth in &depths {
                let load = Load { requests, depth, writes };
                let cost = match directory {
                    Some(directory) => measure_ring(plexes, load, directory),
                    None => measure(plexes, load),
                };
                println!("{plexes} plexes, {what}, {depth} at a time: {cost:.0} ns");
            }
        }
    }
}
