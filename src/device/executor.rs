//! The executor of one thread: tasks that may borrow for `'a`, wakers that may be used from any thread.
//!
//! A wake-up from the executor's own thread costs a push; one from another thread also takes a lock and calls the
//! [`Notifier`], which gets the thread out of its wait for completions. The order in which ready tasks run is first come, first
//! served, or chosen by the caller: the simulator rolls dice there. What another thread woke has come when it is looked for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use super::clock::Notifier;

/// What a thread keeps of its executors.
struct Local {
    /// Names the thread; no two ever have one.
    thread: u64,
    /// The queue of each: tasks to be run, in order. Nearly all wake-ups come from the thread itself, and take no lock for it.
    queues: RefCell<Vec<Option<VecDeque<usize>>>>,
}

thread_local! {
    static LOCAL: Local = {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Local { thread: NEXT.fetch_add(1, Ordering::Relaxed), queues: RefCell::default() }
    };
}

impl Local {
    /// The name of the calling thread, and the place of a new queue.
    fn new_queue() -> (u64, usize) {
        LOCAL.with(|local| {
            let mut queues = local.queues.borrow_mut();
            let place = queues.iter().position(Option::is_none).unwrap_or(queues.len());
            if place == queues.len() {
                queues.push(None);
            }
            queues[place] = Some(VecDeque::new());
            (local.thread, place)
        })
    }
}

struct Ready {
    thread: u64,
    /// Of the queue.
    place: usize,
    /// Tasks that other threads woke, until the next look; `None` once the executor is gone.
    foreign: Mutex<Option<Vec<Arc<TaskWaker>>>>,
    has_foreign: AtomicBool,
    notifier: Arc<dyn Notifier>,
}

impl Ready {
    fn foreign(&self) -> MutexGuard<'_, Option<Vec<Arc<TaskWaker>>>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Do `work` with the queue; `None`, and nothing done, on any other thread, and once the executor is gone.
    fn with_queue<R>(&self, work: impl FnOnce(&mut VecDeque<usize>) -> R) -> Option<R> {
        let done = LOCAL.try_with(|local| {
            if local.thread != self.thread {
                return None;
            }
            local.queues.borrow_mut()[self.place].as_mut().map(work)
        });
        // A thread that ends may have given up what it keeps.
        done.ok().flatten()
    }

    /// As [`with_queue`](Self::with_queue) for the executor itself.
    fn queue<R>(&self, work: impl FnOnce(&mut VecDeque<usize>) -> R) -> R {
        self.with_queue(work).expect("an executor stays on its thread")
    }

    /// From another thread.
    fn tell(&self, task: Arc<TaskWaker>) {
        let mut foreign = self.foreign();
        let Some(woken) = &mut *foreign else { return };
        woken.push(task);
        // SeqCst: before the notifier looks whether the thread sleeps, as the thread says that it does before it looks here.
        self.has_foreign.store(true, Ordering::SeqCst);
        drop(foreign);
        self.notifier.notify();
    }

    /// Queue what other threads woke.
    fn take_foreign(&self) {
        let woken = {
            let mut foreign = self.foreign();
            self.has_foreign.store(false, Ordering::Relaxed);
            foreign.as_mut().map(std::mem::take)
        };
        for task in woken.into_iter().flatten() {
            // A read-modify-write, not a store: a waker that still finds `true` here is ordered before this swap, and the poll
            // sees what it wrote; one ordered behind it tells again. A store could pass the poll's loads.
            task.told.swap(false, Ordering::AcqRel);
            self.queue(|queue| task.queue(queue));
        }
    }

    /// Whether a task is to be run.
    fn any(&self) -> bool {
        self.queue(|queue| !queue.is_empty()) || self.has_foreign.load(Ordering::SeqCst)
    }
}

struct TaskWaker {
    task: usize,
    /// It is in the queue, or the task has ended. The executor's thread alone uses this, so that no order is asked of it.
    queued: AtomicBool,
    /// It is among what other threads woke.
    told: AtomicBool,
    ready: Arc<Ready>,
}

impl TaskWaker {
    fn queue(&self, queue: &mut VecDeque<usize>) {
        if !self.queued.load(Ordering::Relaxed) {
            self.queued.store(true, Ordering::Relaxed);
            queue.push_back(self.task);
        }
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        let is_own = self.ready.with_queue(|queue| self.queue(queue)).is_some();
        // AcqRel: what this side wrote before waking is seen by the poll that `told = false` precedes.
        if !is_own && !self.told.swap(true, Ordering::AcqRel) {
            self.ready.tell(Arc::clone(self));
        }
    }
}

struct Task<'a> {
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    state: Arc<TaskWaker>,
    /// Of `state`: made once, not at each poll.
    waker: Waker,
}

enum Slot<'a> {
    Free,
    Idle(Task<'a>),
    Running,
}

struct Inner<'a> {
    slots: RefCell<Vec<Slot<'a>>>,
    free: RefCell<Vec<usize>>,
    live: Cell<usize>,
    ready: Arc<Ready>,
}

impl Drop for Inner<'_> {
    fn drop(&mut self) {
        // They hold what holds them.
        let woken = self.ready.foreign().take();
        drop(woken);
        // Late wake-ups must not reach the next executor in this place.
        for slot in self.slots.get_mut() {
            if let Slot::Idle(task) = slot {
                task.state.queued.store(true, Ordering::Relaxed);
            }
        }
        let _ = LOCAL.try_with(|local| local.queues.borrow_mut()[self.ready.place] = None);
    }
}

/// An executor, cheap to clone; all clones belong to the thread that made the first.
#[derive(Clone)]
pub struct Executor<'a> {
    inner: Rc<Inner<'a>>,
}

impl<'a> Executor<'a> {
    /// An executor of the calling thread, whose wait for completions `notifier` can end.
    #[must_use]
    pub fn new(notifier: Arc<dyn Notifier>) -> Self {
        let (thread, place) = Local::new_queue();
        let ready = Arc::new(Ready {
            thread,
            place,
            foreign: Mutex::new(Some(Vec::new())),
            has_foreign: AtomicBool::new(false),
            notifier,
        });
        let inner = Inner { slots: RefCell::default(), free: RefCell::default(), live: Cell::new(0), ready };
        Self { inner: Rc::new(inner) }
    }

    /// Run `future` as a task beside the others.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'a) {
        let inner = &self.inner;
        let id = inner.free.borrow_mut().pop().unwrap_or_else(|| {
            inner.slots.borrow_mut().push(Slot::Free);
            inner.slots.borrow().len() - 1
        });
        let (queued, told) = (AtomicBool::new(false), AtomicBool::new(false));
        let state = Arc::new(TaskWaker { task: id, queued, told, ready: Arc::clone(&inner.ready) });
        let waker = Waker::from(Arc::clone(&state));
        inner.ready.queue(|queue| state.queue(queue));
        inner.slots.borrow_mut()[id] = Slot::Idle(Task { future: Box::pin(future), state, waker });
        inner.live.set(inner.live.get() + 1);
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        self.inner.live.get()
    }

    /// Whether a task waits to be run.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.inner.ready.any()
    }

    /// Run the next ready task once; false when none is ready.
    pub fn run_one(&self) -> bool {
        self.run_picked(|_| 0)
    }

    /// Run one ready task, the one that `pick` chooses among the given number; false when none is ready.
    pub fn run_picked(&self, pick: impl FnOnce(usize) -> usize) -> bool {
        let ready = &self.inner.ready;
        if ready.has_foreign.load(Ordering::Relaxed) {
            ready.take_foreign();
        }
        let picked = ready.queue(|queue| match queue.len() {
            0 => None,
            count => match pick(count) {
                0 => queue.pop_front(),
                at => Some(queue.remove(at).expect("the pick lies inside the queue")),
            },
        });
        let Some(id) = picked else { return false };
        // The borrow must end before the poll: the task may spawn others.
        let slot = std::mem::replace(&mut self.inner.slots.borrow_mut()[id], Slot::Running);
        let Slot::Idle(mut task) = slot else {
            unreachable!("a queued task is idle: `queued` admits it once")
        };
        task.state.queued.store(false, Ordering::Relaxed);
        let done = task.future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready();
        if done {
            self.end(id, task);
        } else {
            self.inner.slots.borrow_mut()[id] = Slot::Idle(task);
        }
        true
    }

    fn end(&self, id: usize, task: Task<'a>) {
        // A late wake-up of an ended task finds `queued` set and does nothing, also one that another thread told.
        if task.state.queued.swap(true, Ordering::Relaxed) {
            self.inner.ready.queue(|queue| queue.retain(|&other| other != id));
        }
        self.inner.slots.borrow_mut()[id] = Slot::Free;
        self.inner.free.borrow_mut().push(id);
        self.inner.live.set(self.inner.live.get() - 1);
        drop(task);
    }

    /// Run ready tasks until none is left.
    pub fn run_ready(&self) {
        while self.run_one() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Count(AtomicUsize);
    impl Notifier for Count {
        fn notify(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn tasks_spawn_tasks_and_end() {
        let seen = RefCell::new(Vec::new());
        let executor = Executor::new(Arc::new(Count(AtomicUsize::new(0))));
        executor.spawn(async { seen.borrow_mut().push(1) });
        executor.spawn(async {
            tokio::task::yield_now().await;
            seen.borrow_mut().push(3);
        });
        executor.spawn(async { seen.borrow_mut().push(2) });
        executor.run_ready();
        assert_eq!(executor.live_tasks(), 0);
        assert_eq!(*seen.borrow(), [1, 2, 3]);
    }

    #[test]
    fn only_a_foreign_thread_notifies() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let executor = Executor::new(Arc::clone(&count) as Arc<dyn Notifier>);
        let (tx, rx) = tokio::sync::oneshot::channel::<u32>();
        let got = Rc::new(Cell::new(0));
        let seen = Rc::clone(&got);
        executor.spawn(async move { seen.set(rx.await.unwrap_or(0)) });
        executor.run_ready();
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        std::thread::spawn(move || tx.send(7)).join().unwrap().unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        executor.run_ready();
        assert_eq!(got.get(), 7);
    }

    #[test]
    fn a_task_that_another_thread_wakes_runs_once_and_not_after_its_end() {
        let (polls, waker) = (Cell::new(0), RefCell::new(None::<Waker>));
        let executor = Executor::new(Arc::new(Count(AtomicUsize::new(0))));
        executor.spawn(std::future::poll_fn(|cx| {
            polls.set(polls.get() + 1);
            *waker.borrow_mut() = Some(cx.waker().clone());
            if polls.get() < 3 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        }));
        executor.run_ready();
        let wake_abroad = || {
            let waker = waker.borrow().clone().unwrap();
            std::thread::spawn(move || waker.wake()).join().unwrap();
        };
        wake_abroad();
        wake_abroad();
        waker.borrow().as_ref().unwrap().wake_by_ref();
        assert!(executor.has_ready());
        executor.run_ready();
        assert_eq!(polls.get(), 2, "three wake-ups before a poll are one");
        wake_abroad();
        executor.run_ready();
        assert_eq!((polls.get(), executor.live_tasks()), (3, 0));
        wake_abroad();
        executor.spawn(std::future::pending());
        executor.run_ready();
        assert_eq!(polls.get(), 3);
        drop(executor);
        wake_abroad();
        // Nor does it reach the next executor of the thread, which has the place of this one.
        let next = Executor::new(Arc::new(Count(AtomicUsize::new(0))));
        waker.borrow().as_ref().unwrap().wake_by_ref();
        assert!(!next.has_ready());
    }
}
