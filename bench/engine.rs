//! What the engine itself costs: a volume on devices without a body, driven by one thread as a queue thread drives it.
//!
//! ```text
//! engine [PLEXES [REQUESTS]]
//! ```
//! Prints nanoseconds of wall time for each request of 4 KiB, reads and writes, one and 32 at a time. A device answers at the
//! next turn of the loop, as a ring does, and does nothing. The intent bits over what is written are durable already.

use std::cell::{Cell, RefCell};
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

fn volume(plexes: usize) -> Arc<Volume<()>> {
    let region = RegionSize::DEFAULT;
    let durable = ExtentMap::new(LENGTH);
    durable.set_all();
    let plex = |number: usize| RoutePlex {
        uuid: Uuid::from_random([number as u8 + 1; 16]),
        medium: (),
        role: Role::ReadWrite,
        behind: Arc::new(ChangeMap::new(LENGTH, region)),
    };
    let mut route = Route::new((0..plexes).map(plex).collect(), ReadPolicy::Round);
    route.marks.push(Arc::new(ChangeMap::new(LENGTH, region)));
    let geometry = Geometry { length: LENGTH, block_size: 512, memory_alignment: 512, discard_zeroes: true };
    let shape = Shape { uuid: Uuid::from_random([9; 16]), geometry, region_size: region };
    Volume::new(shape, Intent::new(LENGTH, durable), route)
}

/// Nanoseconds for each of `requests`, `depth` of them at a time.
fn measure(plexes: usize, requests: u64, depth: u64, writes: bool) -> f64 {
    let executor = Executor::new(Arc::new(Nobody));
    let null = Null { executor: executor.clone(), answers: Rc::default() };
    let queue = Rc::new(VolumeQueue::new(null.clone(), volume(plexes)).expect("a lane"));
    let left = Rc::new(Cell::new(depth));
    for lane in 0..depth {
        let (queue, left) = (Rc::clone(&queue), Rc::clone(&left));
        executor.spawn(async move {
            let memory = OwnedBuffer::zeroed(BLOCK);
            let mut random = lane.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for _ in 0..requests / depth {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let offset = (random >> 33) % (LENGTH / BLOCK as u64) * BLOCK as u64;
                let buffer = Buffer::from(memory.clone());
                let request = match writes {
                    true => Request::Write { offset, buffer, durability: Durability::Volatile },
                    false => Request::Read { offset, buffer },
                };
                queue.submit(request).await.expect("nothing fails");
            }
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
    began.elapsed().as_nanos() as f64 / requests as f64
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    // `cargo bench` says so; the tests only see that it runs.
    let whole = std::env::args().any(|word| word == "--bench");
    let requests = numbers.get(1).copied().unwrap_or(if whole { 1_000_000 } else { 1000 });
    let counts = numbers.first().map_or(1..=2, |plexes| *plexes as usize..=*plexes as usize);
    for plexes in counts {
        for (what, writes) in [("read", false), ("write", true)] {
            for depth in [1, 32] {
                let cost = measure(plexes, requests, depth, writes);
                println!("{plexes} plexes, {what}, {depth} at a time: {cost:.0} ns");
            }
        }
    }
}
