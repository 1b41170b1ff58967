//! Freezing mounted file systems for a cut, and thawing them whatever happens (ordering rule 12).
//!
//! Each file system is frozen by a guard: a process of its own, this program under the verb [`VERB`]. It hears and tells
//! lines on its standard input and output:
//!
//! ```text
//!   daemon                        guard
//!     │                             │ opens the mount point, writes out what is dirty
//!     │ ◄────────── ready ───────── │
//!     │ ─────────── freeze ───────► │ FIFREEZE
//!     │ ◄────────── frozen ──────── │
//!   the cut                         │ waits for a word, the end of its input, or its time limit
//!     │ ─────────── thaw ─────────► │ FITHAW
//!     │ ◄──────── thawed NS ─────── │ or: expired NS, when the limit came first
//!                                     error: STEP ERRNO, instead of any of its lines
//! ```
//!
//! A daemon that dies closes the guard's input, and the guard thaws at once; a daemon that hangs runs into the guard's time
//! limit. A guard that dies is noticed by the daemon, which thaws by a descriptor that it opened before. Both killed at one
//! instant leaves the file system frozen: the prepared cut in the catalogue tells the next daemon to [`thaw_left_over`].
//!
//! While it holds a frozen file system the guard touches no file, opens nothing, blocks signals, and keeps its memory
//! resident: a page that could be made free only by writing to that file system would never come.
//!
//! The times that are told begin before the freeze, as writers are held from there on, and end after the thaw. All calls
//! block: they are for worker threads.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::MlockAllFlags;

use crate::base::{Errno, Kind, Refusal, Refused};
use crate::ring::{block_signals, freeze as calls};

/// The verb under which the program is a guard: `cleaved freeze-guard MOUNTPOINT LIMIT_MS`.
pub const VERB: &str = "freeze-guard";

/// For writing out what is dirty, before anything is frozen.
const SYNC_PATIENCE: Duration = Duration::from_secs(60);

/// Beyond the limit itself, until an answer of the guard counts as missing.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// The longest line of a guard.
const MAX_LINE: usize = 64;

/// File systems that are frozen. Thawed when dropped.
#[derive(Debug)]
pub struct FreezeSet {
    frozen: Vec<Frozen>,
}

/// A file system that is frozen. Thawed when dropped.
#[derive(Debug)]
pub struct Frozen {
    point: PathBuf,
    /// The way to thaw without the guard.
    file: File,
    guard: Option<Guard>,
    /// Whether the guard has been told to freeze and has not been heard to have thawed, or not to have frozen.
    may_be_frozen: bool,
}

/// Freezes the file system at `point` for at most `limit`, counted from the first writer that may be held.
///
/// # Errors
/// Nothing is frozen then. `freeze.unsupported`, `freeze.busy` (frozen by somebody else), `freeze.slow` (past the time
/// limit), `freeze.not-permitted`, `freeze.failed`, `freeze.guard` (the guard could not be started, or died).
pub fn freeze(point: &Path, limit: Duration) -> Result<Frozen, Refused> {
    let set = FreezeSet::freeze(&[point.to_owned()], limit)?;
    set.frozen.into_iter().next().ok_or_else(|| guard_refusal(point, "it was not started"))
}

impl FreezeSet {
    /// Freezes the file systems at `points`, none or all: first all are written out, then all are frozen. `points` must
    /// lead to different file systems, as [`mounts_of_volume`](super::mounts::mounts_of_volume) gives them.
    ///
    /// # Errors
    /// As [`freeze`], for the first that failed; whatever was frozen has been thawed.
    pub fn freeze(points: &[PathBuf], limit: Duration) -> Result<Self, Refused> {
        Self::freeze_by(Path::new("/proc/self/exe"), points, limit)
    }

    /// As [`freeze`](Self::freeze), with `program` as the guard.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze).
    pub fn freeze_by(program: &Path, points: &[PathBuf], limit: Duration) -> Result<Self, Refused> {
        let mut frozen = Vec::with_capacity(points.len());
        for point in points {
            frozen.push(Frozen::begin(program, point, limit)?);
        }
        // Dropped by an early return, each of them thaws what its guard has frozen by then.
        for (words, patience) in
            [(("", "ready"), SYNC_PATIENCE), (("freeze\n", "frozen"), limit + ANSWER_PATIENCE)]
        {
            let (say, expected) = words;
            for one in &mut frozen {
                one.may_be_frozen |= say == "freeze\n";
                one.say(say)?;
            }
            let deadline = Instant::now() + patience;
            for one in &mut frozen {
                one.expect(expected, deadline)?;
            }
        }
        Ok(Self { frozen })
    }

    /// How many file systems are frozen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frozen.len()
    }

    /// Whether there was nothing to freeze.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frozen.is_empty()
    }

    /// Thaws all. The longest time for which one was frozen is returned; zero when there was none.
    ///
    /// # Errors
    /// As [`Frozen::thaw`], for the first that had not stayed frozen; the others are thawed all the same.
    pub fn thaw(mut self) -> Result<Duration, Refused> {
        for one in &mut self.frozen {
            // Told to all before any is waited for. A guard that cannot hear is dealt with below.
            let _ = one.say("thaw\n");
        }
        let ends: Vec<_> = self.frozen.into_iter().map(Frozen::thaw).collect();
        ends.into_iter().try_fold(Duration::ZERO, |longest, end| Ok(longest.max(end?)))
    }
}

impl Frozen {
    /// Starts the guard of `point`; nothing is frozen yet.
    fn begin(program: &Path, point: &Path, limit: Duration) -> Result<Self, Refused> {
        let file = open(point).map_err(|error| refusal(point, "open", error.into()))?;
        let mut child = Command::new(program)
            .arg(VERB)
            .arg(point)
            .arg(limit.as_millis().to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The daemon's own may be a file on what is frozen.
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| guard_refusal(point, &format!("it cannot be started: {error}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(guard_refusal(point, "it has no pipes"));
        };
        let guard = Guard { child, input, output, line: Vec::new() };
        Ok(Self { point: point.to_owned(), file, guard: Some(guard), may_be_frozen: false })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Thaws; the time for which it was frozen is returned. However this ends, the file system is not frozen by us any
    /// more.
    ///
    /// # Errors
    /// It had not stayed frozen until now, or cannot be told to have: what was cut meanwhile is not of grade fs.
    /// `freeze.expired`: its time limit was passed before; `freeze.thawed`: somebody else thawed it; `freeze.guard`: the
    /// guard died; others as [`freeze`].
    pub fn thaw(mut self) -> Result<Duration, Refused> {
        self.end()
    }

    fn say(&mut self, words: &str) -> Result<(), Refused> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        guard
            .input
            .write_all(words.as_bytes())
            .map_err(|error| guard_refusal(&self.point, &error.to_string()))
    }

    fn expect(&mut self, expected: &str, deadline: Instant) -> Result<(), Refused> {
        match self.answer(deadline)? {
            line if line == expected => Ok(()),
            line => Err(guard_refusal(&self.point, &format!("it said '{}'", line.escape_debug()))),
        }
    }

    /// The guard's next line; an error that it tells is one.
    fn answer(&mut self, deadline: Instant) -> Result<String, Refused> {
        let Some(guard) = &mut self.guard else { return Err(guard_refusal(&self.point, "it has ended")) };
        let line = guard.line(deadline).map_err(|why| match why {
            NoLine::Silent => refusal(&self.point, "answer", Errno::TIMED_OUT),
            NoLine::Ended => guard_refusal(&self.point, "it died"),
        })?;
        let Some((step, errno)) = line.strip_prefix("error: ").and_then(|rest| rest.split_once(' ')) else {
            return Ok(line);
        };
        let errno = Errno::from_raw(errno.parse().unwrap_or(0));
        // That of somebody else stays frozen. Only a thaw that failed leaves our own.
        self.may_be_frozen &= step == "thaw" && errno != Errno::INVALID;
        Err(refusal(&self.point, step, errno))
    }

    fn end(&mut self) -> Result<Duration, Refused> {
        // It may have ended by itself; closing its input below says the same.
        let _ = self.say("thaw\n");
        let answer = self.answer(Instant::now() + ANSWER_PATIENCE);
        if let Some(guard) = self.guard.take() {
            guard.dismiss(answer.is_ok());
        }
        let line = answer.inspect_err(|_| self.thaw_without_guard())?;
        let time = |digits: &str| digits.parse().ok().map(Duration::from_nanos);
        match line.split_once(' ').and_then(|(word, digits)| Some((word, time(digits)?))) {
            Some(("thawed", time)) => Ok(time),
            Some(("expired", time)) => Err(Refusal::new(
                Kind::TimedOut,
                "freeze.expired",
                self.point.display(),
                format!(
                    "the file system was thawed after {} ms, its time limit, before the cut was done",
                    time.as_millis()
                ),
                "try again when the volume is less busy, or ask for -o consistency=crash",
            )),
            Some(_) | None => {
                self.thaw_without_guard();
                Err(guard_refusal(&self.point, &format!("it said '{}'", line.escape_debug())))
            }
        }
    }

    /// Thaws after a guard that is gone, stuck or wrong, unless it is known that nothing of ours is frozen.
    fn thaw_without_guard(&self) {
        if !self.may_be_frozen {
            return;
        }
        match calls::thaw(&self.file) {
            Err(error) if error != Errno::INVALID => {
                tracing::error!(point = %self.point.display(), %error, "a file system may still be frozen");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if self.guard.is_some() {
            // Given up before it was of use: what counts is that it is thawed, and the log tells if that fails.
            let _ = self.end();
        }
    }
}

/// Thaws the file system at `point` in case a daemon and its guard died together while it was frozen; whether it was frozen.
///
/// To be called only for mount points of a volume whose cut was prepared and never ended: somebody else's freeze is thawed as
/// well.
///
/// # Errors
/// `freeze.not-permitted`, `freeze.failed`.
pub fn thaw_left_over(point: &Path) -> Result<bool, Refused> {
    let file = open(point).map_err(|error| refusal(point, "open", error.into()))?;
    match calls::thaw(&file) {
        Ok(()) => Ok(true),
        Err(Errno::INVALID) => Ok(false),
        Err(error) => Err(refusal(point, "thaw-left-over", error)),
    }
}

/// The daemon's end of a guard.
#[derive(Debug)]
struct Guard {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    line: Vec<u8>,
}

enum NoLine {
    Silent,
    Ended,
}

impl Guard {
    fn line(&mut self, deadline: Instant) -> Result<String, NoLine> {
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.line[..end]).into_owned();
                self.line.drain(..=end);
                return Ok(line);
            }
            if self.line.len() > MAX_LINE {
                return Err(NoLine::Ended);
            }
            if !readable(self.output.as_fd(), Some(deadline)) {
                return Err(NoLine::Silent);
            }
            let mut bytes = [0; MAX_LINE];
            match self.output.read(&mut bytes) {
                Ok(0) | Err(_) => return Err(NoLine::Ended),
                Ok(count) => self.line.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// Lets the guard go. It is never killed: it thaws when its input is closed.
    fn dismiss(self, done: bool) {
        let Self { mut child, input, output, .. } = self;
        drop((input, output));
        if done {
            // It has said its last line.
            let _ = child.wait();
        } else {
            // It may hang in the kernel. The thread ends with it and holds nothing but its process id.
            std::thread::spawn(move || child.wait());
        }
    }
}

/// Whether `file` has something to read, its end included, before `deadline`.
fn readable(file: BorrowedFd, deadline: Option<Instant>) -> bool {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&file, PollFlags::IN)], limit.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            // Then it cannot be waited for; reading tells why.
            Err(_) => return true,
        }
    }
}

fn open(point: &Path) -> std::io::Result<File> {
    // A mount point can be a single file, even a pipe, at which an opening would wait for a writer.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(point)
}

/// The guard process: freezes the file system at `point`, thaws it on a word, at the end of its input, or `limit` after the
/// freeze began. Returns its exit code.
///
/// The process must have done nothing before: one thread, standard input and output as [`FreezeSet`] gives them.
#[must_use]
pub fn guard_main(point: &Path, limit: Duration) -> u8 {
    // From here on nothing but the kill that cannot be caught ends this process before it has thawed.
    block_signals();
    match guard(point, limit) {
        Ok(code) => code,
        Err((step, error)) => {
            tell(&format!("error: {step} {}\n", error.raw()));
            Kind::System.exit_code()
        }
    }
}

fn guard(point: &Path, limit: Duration) -> Result<u8, (&'static str, Errno)> {
    let system = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    // Without the rights to them these only lower the odds in a machine that is short of memory.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let _ = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
    let file = open(point).map_err(|error| ("open", error.into()))?;
    // Most of the writing happens here, while writers still run.
    rustix::fs::syncfs(&file).map_err(|error| ("sync", system(error)))?;
    tell("ready\n");
    if !hear("freeze\n") {
        return Ok(0);
    }
    let began = Instant::now();
    calls::freeze(&file).map_err(|error| ("freeze", error))?;
    let deadline = began + limit;
    if Instant::now() >= deadline {
        thaw(&file)?;
        return Err(("freeze", Errno::TIMED_OUT));
    }
    tell("frozen\n");
    // Any word and the end of the input mean the same: nobody needs it frozen any more.
    let asked = readable(std::io::stdin().as_fd(), Some(deadline));
    thaw(&file)?;
    let word = if asked { "thawed" } else { "expired" };
    tell(&format!("{word} {}\n", began.elapsed().as_nanos()));
    Ok(if asked { 0 } else { Kind::TimedOut.exit_code() })
}

fn thaw(file: &File) -> Result<(), (&'static str, Errno)> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match calls::thaw(file) {
            Ok(()) => return Ok(()),
            // Not frozen: somebody else has thawed it, and writes may have run beside the cut.
            Err(Errno::INVALID) => return Err(("thaw", Errno::INVALID)),
            Err(error) if attempts >= 50 => return Err(("thaw", error)),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Whether the next line of the input is `expected`; false at its end.
fn hear(expected: &str) -> bool {
    let input = std::io::stdin();
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: what comes after this line must stay in the pipe, where a poll sees it.
    while line.len() < MAX_LINE && !line.ends_with(b"\n") {
        match rustix::io::read(input.as_fd(), &mut byte) {
            Ok(1..) => line.push(byte[0]),
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return false,
        }
    }
    line == expected.as_bytes()
}

/// Says a line to the daemon. It may have died; then the end of the input tells.
fn tell(line: &str) {
    let _ = rustix::io::write(std::io::stdout().as_fd(), line.as_bytes());
}

fn refusal(point: &Path, step: &str, error: Errno) -> Refused {
    let crash = "ask for -o consistency=crash, and let the snapshot be recovered";
    let (kind, id, reason, way_out) = match (step, error.raw()) {
        ("freeze", libc::EOPNOTSUPP | libc::ENOTTY) => {
            (Kind::InvalidState, "freeze.unsupported", "this file system cannot be frozen".to_owned(), crash)
        }
        ("freeze", libc::EBUSY) => (
            Kind::Busy,
            "freeze.busy",
            "the file system is frozen already".to_owned(),
            "thaw it first, with: fsfreeze --unfreeze MOUNTPOINT",
        ),
        ("freeze" | "answer", libc::ETIMEDOUT) => (
            Kind::TimedOut,
            "freeze.slow",
            "the file system could not be frozen within the time limit".to_owned(),
            "try again when the volume is less busy, or ask for -o consistency=crash",
        ),
        ("thaw", libc::EINVAL) => (
            Kind::Changed,
            "freeze.thawed",
            "somebody else thawed the file system before the cut was done".to_owned(),
            "try again",
        ),
        (_, libc::EPERM | libc::EACCES) => (
            Kind::Permission,
            "freeze.not-permitted",
            format!("the daemon may not freeze the file system: {error}"),
            "run cleaved with CAP_SYS_ADMIN",
        ),
        (step, _) => (Kind::System, "freeze.failed", format!("{step} failed: {error}"), crash),
    };
    Refusal::new(kind, id, point.display(), reason, way_out)
}

fn guard_refusal(point: &Path, why: &str) -> Refused {
    Refusal::new(
        Kind::System,
        "freeze.guard",
        point.display(),
        format!("the guard of the frozen file system failed: {why}"),
        "try again, or ask for -o consistency=crash",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A guard in the shape of a shell script, which says `lines` as answers to what it hears.
    fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guard");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (directory, path)
    }

    fn froze(text: &str) -> Result<FreezeSet, Refused> {
        let (_directory, program) = script(text);
        FreezeSet::freeze_by(&program, &[PathBuf::from("/proc")], Duration::from_millis(100))
    }

    #[test]
    fn the_time_that_the_guard_tells_is_the_time_frozen() {
        let set =
            froze("echo ready; read w; echo frozen; read w; [ $w = thaw ] && echo thawed 1234567").unwrap();
        assert_eq!((set.len(), set.frozen[0].point()), (1, Path::new("/proc")));
        assert_eq!(set.thaw().unwrap(), Duration::from_nanos(1_234_567));
        assert_eq!(FreezeSet::freeze(&[], Duration::ZERO).unwrap().thaw().unwrap(), Duration::ZERO);
    }

    #[test]
    fn rule_12_a_file_system_that_did_not_stay_frozen_is_an_error() {
        for (text, id) in [
            ("echo ready; read w; echo frozen; echo expired 5000000", "freeze.expired"),
            ("echo ready; read w; echo frozen; echo error: thaw 22", "freeze.thawed"),
            ("echo ready; read w; echo frozen", "freeze.guard"),
            ("echo ready; read w; echo frozen; read w; echo thawed soon", "freeze.guard"),
            ("echo ready; read w; echo frozen; read w; yes thawed | tr -d '\\n'", "freeze.guard"),
        ] {
            let refused = froze(text).unwrap().thaw().unwrap_err();
            assert_eq!(refused.id, id, "{text}");
            assert_eq!(refused.object, "/proc");
        }
    }

    #[test]
    fn a_freeze_that_fails_says_why() {
        for (text, id) in [
            ("echo error: open 2", "freeze.failed"),
            ("exit 0", "freeze.guard"),
            ("echo hello", "freeze.guard"),
            ("echo ready; read w; echo error: freeze 95", "freeze.unsupported"),
            ("echo ready; read w; echo error: freeze 16", "freeze.busy"),
            ("echo ready; read w; echo error: freeze 110", "freeze.slow"),
            ("echo ready; read w; echo error: freeze 1", "freeze.not-permitted"),
            ("echo ready; read w; echo error: freeze x", "freeze.failed"),
        ] {
            assert_eq!(froze(text).unwrap_err().id, id, "{text}");
        }
        let missing = freeze(Path::new("/nowhere/at/all"), Duration::ZERO).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "/nowhere/at/all: open failed: No such file or directory; \
             ask for -o consistency=crash, and let the snapshot be recovered"
        );
        let refused = FreezeSet::freeze_by(Path::new("/nowhere"), &[PathBuf::from("/proc")], Duration::ZERO);
        assert_eq!(refused.unwrap_err().id, "freeze.guard");
    }

    #[test]
    fn rule_12_one_that_fails_thaws_those_before_it() {
        let (directory, program) = script(
            "echo ready; read w; [ $2 = /sys ] && echo error: freeze 95 && exit; echo frozen; read w; echo $w > $0.heard",
        );
        let points = [PathBuf::from("/proc"), PathBuf::from("/sys")];
        let refused = FreezeSet::freeze_by(&program, &points, Duration::from_secs(1)).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.object.as_str()), ("freeze.unsupported", "/sys"));
        assert_eq!(std::fs::read_to_string(directory.path().join("guard.heard")).unwrap(), "thaw\n");
    }

    #[test]
    fn rule_12_a_guard_that_goes_silent_is_given_up_within_the_limit() {
        let (_directory, program) = script("echo ready; sleep 60");
        let began = Instant::now();
        let limit = Duration::from_millis(1);
        let mut frozen = Frozen::begin(&program, Path::new("/proc"), limit).unwrap();
        frozen.expect("ready", Instant::now() + Duration::from_secs(30)).unwrap();
        assert_eq!(frozen.expect("frozen", Instant::now() + limit).unwrap_err().id, "freeze.slow");
        drop(frozen);
        assert!(began.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn thawing_what_cannot_be_frozen_is_told_from_thawing_nothing() {
        match thaw_left_over(Path::new("/proc")) {
            Ok(frozen) => assert!(!frozen),
            Err(refused) => assert_eq!(refused.id, "freeze.not-permitted"),
        }
    }
}
