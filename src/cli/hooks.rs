//! Commands around a cut: what brings an application to rest before it, and has it go on behind it.
//!
//! Both are run by one child, a shell, in this order, so that the second never overtakes the first, and it is run whatever
//! becomes of this process: when the pipe to the child ends, the child goes on to it.

use crate::base::{Errno, Kind, Refusal, Refused};
use crate::cli::answer::Answer;
use crate::cli::plan::{Options, ShowOne, Watch};
use crate::cli::progress::Progress;
use crate::cli::session;
use crate::control::Request;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// How long a hook may take, in seconds, where nobody says otherwise.
pub const HOOK_LIMIT_S: u32 = 60;

/// What timeout(1) ends with when the time has passed.
const PASSED: i32 = 124;

/// What it ends with when the command was killed: by itself, for it did not heed the first signal, or by somebody else. It stands
/// for the status of a child that a signal ended, too.
const KILLED: i32 = 137;

/// The child's program. `$1` is the limit in seconds, `$2` and `$3` the commands, of which one may be empty. What the hooks print
/// goes to standard error, for standard output has the result.
const CHILD: &str = r#"
trap : PIPE
status=0
[ -z "$2" ] || { timeout -k 5 "$1" sh -c "$2" </dev/null >&2; status=$?; }
echo "$status" 2>/dev/null
IFS= read -r CLEAVE_RESULT || CLEAVE_RESULT=unknown
export CLEAVE_RESULT
exec >&2
[ -z "$3" ] || exec timeout -k 5 "$1" sh -c "$3" </dev/null
"#;

/// The commands, each for a shell, and their limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hooks {
    /// Run before the cut, which is not made when it fails.
    pub pre: Option<String>,
    /// Run behind the cut, made or not, also when the first one failed.
    pub post: Option<String>,
    /// How long each may take, in seconds.
    pub limit_s: u32,
}

impl Hooks {
    /// Whether there is anything to run.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pre.is_none() && self.post.is_none()
    }
}

/// A request with hooks around it.
pub struct HookedWork {
    /// The hooks.
    pub hooks: Hooks,
    /// What is done between them.
    pub request: Request,
    /// How the answer is shown.
    pub show: ShowOne,
}

impl HookedWork {
    /// Run one hook, do the request, run the other.
    ///
    /// # Errors
    /// Those of the request, before a hook is run where they can be foreseen. `hook.pre` when the first hook fails: nothing was
    /// asked for then. `hook.post` when the second fails after what was asked for has been done. `hook.shell`.
    pub fn run(self, options: &Options, progress: &mut Progress) -> Result<Answer, Refused> {
        let Self { hooks, request, show } = self;
        // What is refused anyway is refused before an application is brought to rest for it.
        let beforehand = Request::Explain(Box::new(request.clone()));
        session::ask(options, &[beforehand], Watch::Progress, progress)?;
        let (done, behind) = hooks.around(|| {
            let requests = std::slice::from_ref(&request);
            let mut answers = session::ask(options, requests, Watch::Progress, progress)?;
            show(answers.remove(0))
        })?;
        if let (Err(_), Err(refused)) = (&done, &behind) {
            progress.announce(&refused.to_string());
        }
        done.and_then(|answer| behind.map(|()| answer))
    }
}

/// What came of the work, and of the hook behind it.
type Outcome<T> = (Result<T, Refused>, Result<(), Refused>);

impl Hooks {
    /// Run `work` between the hooks.
    fn around<T>(&self, work: impl FnOnce() -> Result<T, Refused>) -> Result<Outcome<T>, Refused> {
        let mut child = self.spawn().map_err(no_shell)?;
        let done = match first_status(&mut child).map_err(no_shell)? {
            0 => work(),
            status => Err(self.before(status)),
        };
        let result = match &done {
            Ok(_) => "made",
            Err(refused) if refused.id == "hook.pre" => "pre-failed",
            Err(_) => "failed",
        };
        let behind = self.end(child, result, done.is_ok());
        Ok((done, behind))
    }

    /// Start the child, and the first hook with it.
    fn spawn(&self) -> Result<Child, std::io::Error> {
        Command::new("/bin/sh")
            .args(["-c", CHILD, "cleave-hooks", &self.limit_s.to_string()])
            .args([&self.pre, &self.post].map(|hook| hook.as_deref().unwrap_or_default()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C meant for this process does not end what has to run behind it.
            .process_group(0)
            .spawn()
    }

    /// Let the child go on to the second hook, and wait for its end.
    fn end(&self, mut child: Child, result: &str, made: bool) -> Result<(), Refused> {
        // A child that is gone reads nothing; its status tells that.
        let told = child.stdin.take().map(|mut pipe| writeln!(pipe, "{result}"));
        let status = child.wait().map_err(no_shell)?;
        drop(told);
        match status.code().unwrap_or(KILLED) {
            0 => Ok(()),
            status => Err(self.behind(status, made)),
        }
    }

    fn before(&self, status: i32) -> Refused {
        let way = "nothing was cut, and --post has been run; mend it, or give it more time by --hook-timeout";
        Refusal::new(Kind::Aborted, "hook.pre", "--pre", self.reason(status), way)
    }

    fn behind(&self, status: i32, made: bool) -> Refused {
        let way = match made {
            true => "the snapshot is made; look whether the application goes on",
            false => "look whether the application goes on",
        };
        Refusal::new(Kind::Aborted, "hook.post", "--post", self.reason(status), way)
    }

    fn reason(&self, status: i32) -> String {
        match status {
            PASSED => format!("did not end within {} s", self.limit_s),
            KILLED => format!("was killed, after {} s or by somebody else", self.limit_s),
            _ => format!("ended with status {status}"),
        }
    }
}

/// What the first hook ended with. Of a child that says nothing, what it ended with itself.
fn first_status(child: &mut Child) -> Result<i32, std::io::Error> {
    let mut line = String::new();
    if let Some(pipe) = child.stdout.take() {
        BufReader::new(pipe).read_line(&mut line)?;
    }
    match line.trim_end().parse() {
        Ok(status) => Ok(status),
        Err(_) => Ok(child.wait()?.code().filter(|code| *code != 0).unwrap_or(KILLED)),
    }
}

fn no_shell(error: std::io::Error) -> Refused {
    let reason = format!("cannot be run: {}", Errno::from(error));
    Refusal::new(Kind::System, "hook.shell", "/bin/sh", reason, "see that it is there and may be run")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    struct Scene {
        directory: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap() }
        }

        fn note(&self, word: &str) -> String {
            format!("echo {word} >>'{}'", self.directory.path().join("notes").display())
        }

        fn notes(&self) -> String {
            std::fs::read_to_string(self.directory.path().join("notes")).unwrap_or_default()
        }
    }

    fn hooks(pre: &str, post: &str) -> Hooks {
        let command = |word: &str| (!word.is_empty()).then(|| word.to_owned());
        Hooks { pre: command(pre), post: command(post), limit_s: 20 }
    }

    fn failed() -> Refused {
        Refusal::new(Kind::Busy, "test.failed", "v", "failed", "nothing")
    }

    #[test]
    fn the_work_is_done_between_the_hooks() {
        let scene = Scene::new();
        let hooks =
            hooks(&scene.note("pre"), &format!("{}; {}", scene.note("post"), scene.note("$CLEAVE_RESULT")));
        let seen = Cell::new(String::new());
        let outcome = hooks.around(|| {
            seen.set(scene.notes());
            Ok(7)
        });
        assert_eq!((outcome.unwrap(), seen.take().as_str()), ((Ok(7), Ok(())), "pre\n"));
        assert_eq!(scene.notes(), "pre\npost\nmade\n");
    }

    #[test]
    fn a_hook_before_the_cut_that_fails_keeps_it_from_being_made_and_the_one_behind_is_run_all_the_same() {
        let scene = Scene::new();
        let hooks = hooks("exit 3", &scene.note("$CLEAVE_RESULT"));
        let (done, behind) = hooks.around(|| -> Result<(), _> { unreachable!() }).unwrap();
        let refused = done.unwrap_err();
        assert_eq!(behind, Ok(()));
        assert_eq!((refused.id.as_str(), refused.kind), ("hook.pre", Kind::Aborted));
        assert!(refused.reason.ends_with("status 3"), "{refused}");
        assert_eq!(scene.notes(), "pre-failed\n");
    }

    #[test]
    fn the_hook_behind_the_cut_is_run_when_the_cut_is_refused_and_its_failure_hides_nothing() {
        let scene = Scene::new();
        let around = hooks("", &format!("{}; exit 4", scene.note("$CLEAVE_RESULT")));
        let (done, behind) = around.around(|| Err::<(), _>(failed())).unwrap();
        assert_eq!((done.unwrap_err().id.as_str(), scene.notes().as_str()), ("test.failed", "failed\n"));
        let refused = behind.unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("hook.post", Kind::Aborted));
        assert!(refused.reason.ends_with("status 4"), "{refused}");
    }

    #[test]
    fn a_hook_that_is_killed_is_told_as_that() {
        let (done, _) = hooks("kill -9 $$", "").around(|| -> Result<(), _> { unreachable!() }).unwrap();
        let refused = done.unwrap_err();
        assert_eq!(refused.id, "hook.pre");
        assert!(refused.reason.starts_with("was killed"), "{refused}");
    }

    #[test]
    fn a_shell_that_cannot_be_run_is_told_of() {
        let refused = no_shell(std::io::Error::from_raw_os_error(2));
        assert_eq!((refused.id.as_str(), refused.kind), ("hook.shell", Kind::System));
        assert!(refused.to_string().starts_with("/bin/sh: cannot be run: No such file"), "{refused}");
    }

    #[test]
    fn a_hook_that_does_not_end_is_ended() {
        let scene = Scene::new();
        let mut hooks = hooks("sleep 1000", &scene.note("post"));
        hooks.limit_s = 1;
        let began = Instant::now();
        let (done, behind) = hooks.around(|| -> Result<(), _> { unreachable!() }).unwrap();
        let refused = done.unwrap_err();
        assert_eq!(behind, Ok(()));
        assert_eq!((refused.id.as_str(), refused.kind), ("hook.pre", Kind::Aborted));
        assert!(refused.reason.ends_with("within 1 s"), "{refused}");
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_eq!(scene.notes(), "post\n");
    }

    #[test]
    fn the_hook_behind_the_cut_is_run_though_this_process_dies() {
        let scene = Scene::new();
        let mut hooks = hooks(&format!("sleep 0.2; {}", scene.note("pre")), &scene.note("$CLEAVE_RESULT"));
        hooks.limit_s = 20;
        let mut child = hooks.spawn().unwrap();
        // What a death leaves: pipes that have ended, and nobody who waits.
        drop((child.stdin.take(), child.stdout.take()));
        let until = Instant::now() + Duration::from_secs(20);
        while scene.notes() != "pre\nunknown\n" {
            assert!(Instant::now() < until, "{:?}", scene.notes());
            std::thread::sleep(Duration::from_millis(20));
        }
        child.wait().unwrap();
    }
}
