//! A thread that owns a ring: the mover's, the committer's, a state file's.

use io_uring::IoUring;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

use super::engine::{Engine, OwnRing, RingHost, Shared, TableUse};
use crate::device::{Host, Notifier};

/// Ends the process when it is dropped by a panic: a daemon without one of its threads would look alive and answer
/// nothing, one that is gone is started again and takes its devices back.
pub struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Keep signals away from the calling thread: they are for the thread that handles them, and would end waits of ours
/// early.
pub fn block_signals() {
    // SAFETY: `sigfillset` writes the whole set before it is read; both calls have no other memory effects.
    unsafe {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// Tell the kernel that this thread stands below a file system, so that memory it asks for is never found by writing
/// dirty pages through itself. Lacking the right to it (`CAP_SYS_RESOURCE`) costs only that protection.
fn become_io_flusher() {
    /// `include/uapi/linux/prctl.h`
    const PR_SET_IO_FLUSHER: libc::c_int = 57;
    // SAFETY: a prctl with plain numbers.
    unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
}

/// Hands work to a ring thread from any thread. Cheap to clone; it does not keep the thread running.
#[derive(Clone)]
pub struct RingHandle {
    pub(super) shared: Arc<Shared>,
}

impl RingHandle {
    /// The handle of `engine`, for threads that run one themselves.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        Self { shared: Arc::clone(engine.shared()) }
    }

    /// Run `start` on the thread and its future as a task there. The receiver gets the outcome; it gets an error when the
    /// thread ends first, or had ended.
    pub fn run<T, F, Fut>(&self, start: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce(RingHost) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let task = Box::new(move |host: RingHost| {
            let future = start(host.clone());
            host.spawn(async move {
                // The asker may have gone away: its work is done all the same.
                let _ = answer.send(future.await);
            });
        });
        // A refused task is dropped, and its sender with it: the receiver sees an error.
        drop(self.shared.inject(task));
        outcome
    }

    /// As [`run`](Self::run), and wait for the outcome. Not to be called on a ring thread or inside an asynchronous
    /// runtime.
    ///
    /// # Errors
    /// The thread ended before the task did.
    pub fn block_on<T, F, Fut>(&self, start: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(RingHost) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        self.run(start).blocking_recv().map_err(|_| io::Error::other("the ring thread has ended"))
    }
}

/// A named thread with a ring of its own. When it is dropped the thread ends as soon as its tasks have; it is not waited
/// for. [`join`](Self::join) waits.
pub struct RingThread {
    handle: RingHandle,
    thread: Option<JoinHandle<()>>,
}

impl RingThread {
    /// Start a thread called `name` (the kernel shows its first 15 bytes) with a ring of `entries` submissions, a power
    /// of two. More may be in flight: a full queue is handed to the kernel.
    ///
    /// # Errors
    /// The thread or the ring cannot be made: `ENOMEM` (locked memory), `EPERM` (io_uring is switched off on this host:
    /// `kernel.io_uring_disabled`), `EMFILE`.
    pub fn spawn(name: &str, entries: u32) -> io::Result<Self> {
        let (ready, made) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            block_signals();
            become_io_flusher();
            match make_engine(entries) {
                Ok(engine) => {
                    let _ = ready.send(Ok(RingHandle::of(&engine)));
                    let shared = Arc::clone(engine.shared());
                    engine.run(|engine| shared.closing.load(Ordering::SeqCst) && engine.live_tasks() == 0);
                    engine.end();
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
        let handle = made.recv().map_err(|_| io::Error::other("the ring thread ended at its start"))??;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// A handle that can be given away.
    #[must_use]
    pub fn handle(&self) -> RingHandle {
        self.handle.clone()
    }

    /// See [`RingHandle::run`].
    pub fn run<T, F, Fut>(&self, start: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce(RingHost) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        self.handle.run(start)
    }

    /// See [`RingHandle::block_on`].
    ///
    /// # Errors
    /// As there.
    pub fn block_on<T, F, Fut>(&self, start: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(RingHost) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        self.handle.block_on(start)
    }

    /// Take no new work once the tasks have ended, and wait until they have.
    pub fn join(mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }

    fn close(&self) {
        self.handle.shared.closing.store(true, Ordering::SeqCst);
        self.handle.shared.notify();
    }
}

impl Drop for RingThread {
    fn drop(&mut self) {
        self.close();
    }
}

/// A ring of `entries` submissions for the calling thread, which alone enters it.
///
/// What completes is taken in when the thread enters the ring to wait, and not in between: a served request costs 4 to 7 % less
/// of the processor so (`scripts/bench --cell cleave-1`, by instructions).
///
/// # Errors
/// `ENOMEM` (locked memory), `EPERM` (io_uring is switched off on this host), `EMFILE`.
pub fn ring_for_this_thread(entries: u32) -> io::Result<IoUring> {
    // Four completions for each submission: the kernel keeps what overflows, but slowly.
    let completions = entries.saturating_mul(4);
    IoUring::builder()
        .setup_cqsize(completions)
        .setup_coop_taskrun()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)
        // Kernels before 6.1 do not know all of these.
        .or_else(|_| IoUring::builder().setup_cqsize(completions).build(entries))
}

fn make_engine(entries: u32) -> io::Result<Engine> {
    let ring = ring_for_this_thread(entries)?;
    Engine::new(Box::new(OwnRing(RefCell::new(ring))), TableUse::Host)
}
