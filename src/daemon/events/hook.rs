//! The hook: a command of the administrator's that hears of everything that happens.
//!
//! It is run without a shell, with no arguments, in `/`, as the daemon's user, with a clean environment (`PATH` and the
//! variables below), the happening as one JSON document on its standard input and its output thrown away. It runs once for
//! each happening, one at a time, for [`LIMIT`] at most, then it is killed with all its children. Happenings wait in a
//! queue of [`QUEUE`]; what does not fit is not told to the hook, and how many were lost is logged.
//!
//! | variable | holds |
//! | --- | --- |
//! | `CLEAVE_EVENT`, `CLEAVE_SEVERITY` | id and severity |
//! | `CLEAVE_GROUP`, `CLEAVE_VOLUME`, `CLEAVE_PLEX` | names, where there are such |
//! | `CLEAVE_TEXT` | the line that the journal has |

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::base::{Kind, Name, Refusal, Refused};
use crate::control::Happening;

/// How long one run may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Happenings that may wait for their turn.
pub const QUEUE: usize = 256;

/// How long the end of the daemon may wait for the hook.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// How long a killed run may take to go; after that it is left to the kernel, and nothing is run before it has gone.
const REAP_LIMIT: Duration = Duration::from_secs(1);

/// Between two looks at a run.
const POLL: Duration = Duration::from_millis(10);

/// The search path that the command gets.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum Turn {
    Tell(Box<Happening>),
    /// Everything before this was told.
    Finish(SyncSender<()>),
}

/// The hook's queue; its thread ends when this is dropped.
pub struct Hook {
    queue: SyncSender<Turn>,
    lost: Arc<AtomicU64>,
}

impl Hook {
    /// A hook that runs `command`.
    ///
    /// # Errors
    /// `hook.unfit` unless it is an absolute path of an executable file that nobody but its owner can change, and the owner
    /// is root or this process's user; `hook.thread`.
    pub fn start(command: &Path) -> Result<Self, Refused> {
        fit(command)?;
        Self::with_limit(command, LIMIT)
    }

    fn with_limit(command: &Path, limit: Duration) -> Result<Self, Refused> {
        let (queue, turns) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let (command, counted) = (command.to_owned(), Arc::clone(&lost));
        let thread = std::thread::Builder::new().name("cleave-hook".to_owned());
        thread.spawn(move || serve(&command, limit, &turns, &counted)).map_err(|error| no_thread(&error))?;
        Ok(Self { queue, lost })
    }

    /// Have the command told, some time; never waits.
    pub fn tell(&self, happening: &Happening) {
        match self.queue.try_send(Turn::Tell(Box::new(happening.clone()))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Wait until the command was told of everything so far, for [`FINISH_LIMIT`] at most.
    pub fn finish(&self) {
        let (done, told) = sync_channel(1);
        let deadline = Instant::now() + FINISH_LIMIT;
        let mut turn = Turn::Finish(done);
        while Instant::now() < deadline {
            match self.queue.try_send(turn) {
                Ok(()) => {
                    // Past the limit the rest is not told.
                    let _ = told.recv_timeout(deadline.saturating_duration_since(Instant::now()));
                    return;
                }
                Err(TrySendError::Full(back)) => turn = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            std::thread::sleep(POLL);
        }
    }
}

fn no_thread(error: &std::io::Error) -> Refused {
    let reason = format!("cannot make the hook's thread: {error}");
    Refusal::new(Kind::System, "hook.thread", "cleaved", reason, "")
}

/// Refuse what must not be run as root.
fn fit(command: &Path) -> Result<(), Refused> {
    let refuse = |reason: String| {
        Err(Refusal::new(
            Kind::Usage,
            "hook.unfit",
            command.display(),
            reason,
            "name an executable file by its whole path that belongs to root and that nobody else can write",
        ))
    };
    if !command.is_absolute() {
        return refuse("the hook is no absolute path".to_owned());
    }
    let found = match std::fs::metadata(command) {
        Ok(found) => found,
        Err(error) => {
            return refuse(format!("the hook cannot be found: {}", crate::base::Errno::from(error)));
        }
    };
    let owner = found.uid();
    if !found.is_file() || found.mode() & 0o111 == 0 {
        refuse("the hook is no executable file".to_owned())
    } else if owner != 0 && owner != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        refuse("the hook can be changed by others".to_owned())
    } else {
        Ok(())
    }
}

fn serve(command: &Path, limit: Duration, turns: &Receiver<Turn>, lost: &AtomicU64) {
    let mut stuck: Option<Child> = None;
    while let Ok(turn) = turns.recv() {
        let happening = match turn {
            Turn::Tell(happening) => happening,
            Turn::Finish(done) => {
                // Who asked may have given up waiting.
                let _ = done.send(());
                continue;
            }
        };
        // Never more than one at once.
        if let Some(child) = &mut stuck {
            if matches!(child.try_wait(), Ok(None)) {
                lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            stuck = None;
        }
        match run(command, &happening, limit) {
            Ok(End::Ended(status)) if status.success() => {}
            Ok(End::Ended(status)) => {
                tracing::warn!(id = happening.id.id(), "the hook {}", how(status));
            }
            Ok(End::Late(child)) => {
                tracing::warn!(
                    id = happening.id.id(),
                    "the hook did not end within {} s and was killed",
                    limit.as_secs_f32()
                );
                stuck = child;
            }
            Err(error) => tracing::warn!(id = happening.id.id(), "the hook cannot be run: {error}"),
        }
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            count => tracing::warn!(count, "the hook was too slow and did not hear of some events"),
        }
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

enum End {
    Ended(ExitStatus),
    /// Killed; the child is given back when it has not gone even so.
    Late(Option<Child>),
}

fn run(command: &Path, happening: &Happening, limit: Duration) -> std::io::Result<End> {
    let mut run = Command::new(command);
    run.env_clear()
        .env("PATH", SEARCH_PATH)
        .env("CLEAVE_EVENT", happening.id.id())
        .env("CLEAVE_SEVERITY", happening.severity.word())
        .env("CLEAVE_TEXT", happening.to_string())
        .current_dir(PathBuf::from("/"))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let names = [
        ("CLEAVE_GROUP", &happening.group),
        ("CLEAVE_VOLUME", &happening.volume),
        ("CLEAVE_PLEX", &happening.plex),
    ];
    for (variable, name) in names {
        if let Some(name) = name {
            run.env(variable, Name::as_str(name));
        }
    }
    let mut child = run.spawn()?;
    // What spares the daemon when memory is short is not for what it runs. It may have ended by now.
    let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "0");
    let mut document = serde_json::to_vec(happening).unwrap_or_default();
    document.push(b'\n');
    if let Some(mut input) = child.stdin.take() {
        // A happening is far smaller than a pipe, so this never waits; a command that does not read is free to.
        let _ = input.write_all(&document);
    }
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Ended(status));
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(POLL);
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended just now.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let deadline = Instant::now() + REAP_LIMIT;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(End::Late(None));
        }
        std::thread::sleep(POLL);
    }
    Ok(End::Late(Some(child)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Severity, What};
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &Path, mode: u32, body: &str) -> PathBuf {
        let path = directory.join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn happening(number: u64) -> Happening {
        Happening {
            number,
            time_ms: 5,
            id: What::PlexLost,
            severity: Severity::Error,
            group: Some(Name::new("g").unwrap()),
            volume: Some(Name::new("v").unwrap()),
            plex: None,
            state: None,
            reason: "left; $(reboot) `x` \"\n".to_owned(),
            way_out: String::new(),
        }
    }

    fn wait_for(path: &Path, lines: usize) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.lines().count() >= lines {
                return text;
            }
            assert!(Instant::now() < deadline, "only: {text}");
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn the_command_hears_the_happening_and_nothing_of_our_environment() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let body = format!("{{ cat; env | sort; pwd; echo $#; }} >>{0}.part; mv {0}.part {0}", out.display());
        let hook = Hook::start(&script(directory.path(), 0o755, &body)).unwrap();
        hook.tell(&happening(3));
        let text = wait_for(&out, 8);
        let heard: Happening = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(heard, happening(3));
        let rest: Vec<_> = text.lines().skip(1).filter(|line| !line.starts_with("_=")).collect();
        let expected = [
            "CLEAVE_EVENT=plex.lost",
            "CLEAVE_GROUP=g",
            "CLEAVE_SEVERITY=error",
            "CLEAVE_TEXT=v: left; $(reboot) `x` \\\"\\n",
            "CLEAVE_VOLUME=v",
        ];
        for line in expected {
            assert!(rest.contains(&line), "{line} is missing in {rest:?}");
        }
        assert!(!text.contains("CARGO") && !text.contains("HOME="), "{text}");
        assert_eq!(rest[rest.len() - 2..], ["/", "0"]);
    }

    #[test]
    fn runs_come_one_at_a_time_a_slow_one_is_killed_and_nobody_waits() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        // The first hangs, with a child, and holds a lock that another run at the same time would find; then each fails.
        let body = format!(
            "mkdir {0}.lock || echo together >>{0}\necho run >>{0}\nif [ ! -e {0}.first ]; then touch {0}.first; rmdir {0}.lock; sleep 100 & wait; fi\nrmdir {0}.lock\nexit 3",
            out.display()
        );
        let hook =
            Hook::with_limit(&script(directory.path(), 0o755, &body), Duration::from_millis(300)).unwrap();
        let began = Instant::now();
        for number in 0..3 {
            hook.tell(&happening(number));
        }
        assert!(began.elapsed() < Duration::from_millis(200), "telling waits for nothing");
        assert_eq!(wait_for(&out, 3), "run\nrun\nrun\n");
        assert!(began.elapsed() >= Duration::from_millis(300), "the first was given its time");
    }

    #[test]
    fn what_does_not_fit_the_queue_is_counted_and_a_dead_command_is_survived() {
        let directory = tempfile::tempdir().unwrap();
        let path = script(directory.path(), 0o755, "exit 0");
        let hook = Hook::with_limit(&path, Duration::from_secs(5)).unwrap();
        std::fs::remove_file(&path).unwrap();
        for number in 0..20 * QUEUE as u64 {
            hook.tell(&happening(number));
        }
        // The thread lives and serves: the queue, however long a busy machine takes for it, has an end.
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let began = Instant::now();
            hook.finish();
            if began.elapsed() < FINISH_LIMIT {
                break;
            }
            assert!(Instant::now() < deadline, "the queue has no end");
        }
    }

    #[test]
    fn a_hook_without_a_thread_is_told_by_the_systems_word() {
        let refused = no_thread(&std::io::Error::from_raw_os_error(libc::EAGAIN));
        assert_eq!((refused.id.as_str(), refused.kind), ("hook.thread", Kind::System));
        assert_eq!(refused.to_string().lines().count(), 1);
    }

    #[test]
    fn a_command_that_others_can_change_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |path: &Path| {
            let refused = Hook::start(path).err()?;
            assert_eq!((refused.id.as_str(), refused.kind), ("hook.unfit", Kind::Usage));
            Some(refused.reason)
        };
        assert_eq!(refused(Path::new("hook")).unwrap(), "the hook is no absolute path");
        assert!(refused(&directory.path().join("none")).unwrap().contains("cannot be found"));
        assert_eq!(refused(directory.path()).unwrap(), "the hook is no executable file");
        for (mode, reason) in [
            (0o644, Some("the hook is no executable file")),
            (0o775, Some("the hook can be changed by others")),
            (0o757, Some("the hook can be changed by others")),
            (0o700, None),
        ] {
            let path = script(directory.path(), mode, "exit 0");
            assert_eq!(refused(&path).as_deref(), reason, "{mode:o}");
        }
    }
}
