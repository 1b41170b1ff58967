//! The executor of one thread: tasks that may borrow for `'a`, wakers that may be used from any thread.
//!
//! A wake-up from the executor's own thread costs a push; one from another thread also calls the [`Notifier`], which
//! gets the thread out of its wait for completions. The order in which ready tasks run is first come, first served, or
//! chosen by the caller: the simulator rolls dice there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use super::clock::Notifier;

thread_local! {
    /// Its address names the thread: cheaper to compare than a thread id.
    static THREAD: u8 = const { 0 };
}

fn thread_token() -> usize {
    THREAD.with(|token| std::ptr::from_ref(token) as usize)
}

struct Ready {
    queue: Mutex<VecDeque<usize>>,
    thread: usize,
    notifier: Arc<dyn Notifier>,
}

impl Ready {
    fn push(&self, task: usize) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(task);
        if thread_token() != self.thread {
            self.notifier.notify();
        }
    }
}

struct TaskWaker {
    task: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: what the waker's side wrote before waking is seen by the poll that `queued = false` precedes.
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.push(self.task);
        }
    }
}

struct Task<'a> {
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    waker: Arc<TaskWaker>,
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

/// An executor, cheap to clone; all clones belong to the thread that made the first.
#[derive(Clone)]
pub struct Executor<'a> {
    inner: Rc<Inner<'a>>,
}

impl<'a> Executor<'a> {
    /// An executor of the calling thread, whose wait for completions `notifier` can end.
    #[must_use]
    pub fn new(notifier: Arc<dyn Notifier>) -> Self {
        let ready = Arc::new(Ready { queue: Mutex::new(VecDeque::new()), thread: thread_token(), notifier });
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
        let waker =
            Arc::new(TaskWaker { task: id, queued: AtomicBool::new(true), ready: Arc::clone(&inner.ready) });
        inner.slots.borrow_mut()[id] = Slot::Idle(Task { future: Box::pin(future), waker });
        inner.live.set(inner.live.get() + 1);
        inner.ready.push(id);
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        self.inner.live.get()
    }

    /// Whether a task waits to be run.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.inner.ready.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Run the next ready task once; false when none is ready.
    pub fn run_one(&self) -> bool {
        self.run_picked(|_| 0)
    }

    /// Run one ready task, the one that `pick` chooses among the given number; false when none is ready.
    pub fn run_picked(&self, pick: impl FnOnce(usize) -> usize) -> bool {
        let id = {
            let mut queue = self.inner.ready.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.is_empty() {
                return false;
            }
            let at = pick(queue.len());
            queue.remove(at).expect("the pick lies inside the queue")
        };
        // The borrow must end before the poll: the task may spawn others.
        let slot = std::mem::replace(&mut self.inner.slots.borrow_mut()[id], Slot::Running);
        let Slot::Idle(mut task) = slot else {
            unreachable!("a queued task is idle: `queued` admits it once")
        };
        // A read-modify-write, not a store: a waker that still finds `true` here is ordered before this swap, and the poll
        // sees what it wrote; one ordered behind it queues the task again. A store could pass the poll's loads.
        task.waker.queued.swap(false, Ordering::AcqRel);
        let waker = Waker::from(Arc::clone(&task.waker));
        let done = task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if done {
            // A late wake-up of an ended task finds `queued` set and does nothing; a stale id is never pushed.
            if task.waker.queued.swap(true, Ordering::AcqRel) {
                self.inner
                    .ready
                    .queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .retain(|&other| other != id);
            }
            self.inner.slots.borrow_mut()[id] = Slot::Free;
            self.inner.free.borrow_mut().push(id);
            self.inner.live.set(self.inner.live.get() - 1);
            drop(task);
        } else {
            self.inner.slots.borrow_mut()[id] = Slot::Idle(task);
        }
        true
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
}
