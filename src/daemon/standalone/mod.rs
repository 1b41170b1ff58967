//! Verbs that work without the daemon: `cleaved --offline VERB`, run by `cleave` when nobody answers.
//!
//! They take no lock and write nothing, but for `force-stop`, which ends a device. `status` and `force-stop` answer as the
//! daemon would, in messages of the control protocol, one JSON document a line; `dump` and `save` print text; `check` says by its
//! exit status whether this binary can serve what lies in the state directory; `udev` tells udev's rules what a disk is.

mod dump;
mod force_stop;
mod media;
mod save;
mod status;
mod udev;

use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::base::units::counted;
use crate::base::{Kind, Name, Refusal, Refused};
use crate::catalog::{group_directories, look};
use crate::control::{Reply, Row, STATE_DIRECTORY, ServerMessage, last_state};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// `status`, `dump`, `save`, `force-stop`, `check` or `udev`.
    pub verb: String,
    /// The volume, for `save` the group, for `dump` with `medium` nothing.
    pub object: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// A medium whose labels are dumped, or whose properties are asked for, whatever belongs to it.
    pub medium: Option<PathBuf>,
    /// Directory of the groups' state directories; where the last daemon had it when absent.
    pub state: Option<PathBuf>,
    /// The control socket, beside which the last daemon left word.
    pub socket: PathBuf,
}

/// Answer `question` on standard output; the exit code.
///
/// # Errors
/// The refusal, for standard error: `status` and `force-stop` have sent it as a message already.
pub fn answer(question: &Question) -> u8 {
    let state = question
        .state
        .clone()
        .or_else(|| last_state(&question.socket))
        .unwrap_or_else(|| STATE_DIRECTORY.into());
    match outcome(question, &state) {
        Ok(()) => 0,
        Err(refused) => {
            eprintln!("cleaved: {refused}");
            refused.kind.exit_code()
        }
    }
}

fn outcome(question: &Question, state: &Path) -> Result<(), Refused> {
    match question.verb.as_str() {
        "status" => told(status::status(question, state)),
        "force-stop" => told(force_stop::force_stop(question, state)),
        "dump" => dump::dump(question, state).and_then(|text| print(&text)),
        "save" => save::save(question, state).and_then(|text| print(&text)),
        "check" => check(state),
        "udev" => udev::properties(question, state).and_then(|text| print(&text)),
        verb => Err(Refusal::new(
            Kind::Usage,
            "offline.verb",
            verb,
            "is no verb that works without the daemon",
            "choose one of: status, dump, save, force-stop, check, udev",
        )),
    }
}

/// Rows, and what closes them.
type Told = (Vec<Row>, Reply);

fn told(outcome: Result<Told, Refused>) -> Result<(), Refused> {
    let (messages, closed) = match outcome {
        Ok((rows, reply)) => {
            let rows: Vec<_> = rows.into_iter().map(ServerMessage::Row).collect();
            (rows, ServerMessage::Done(reply))
        }
        Err(refused) => (Vec::new(), ServerMessage::Refused(*refused)),
    };
    let mut text = String::new();
    for message in messages.iter().chain([&closed]) {
        text += &line(message)?;
        text.push('\n');
    }
    print(&text)
}

/// A message as JSON, which cannot hold a path that is not UTF-8.
fn line(message: &ServerMessage) -> Result<String, Refused> {
    serde_json::to_string(message).map_err(|error| {
        Refusal::new(
            Kind::System,
            "offline.not-json",
            "cleaved",
            format!("cannot say it in JSON: {error}"),
            "name the state directory by a path of UTF-8",
        )
    })
}

fn print(text: &str) -> Result<(), Refused> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        Refusal::new(
            Kind::System,
            "output.write",
            "standard output",
            format!("cannot be written: {error}"),
            "",
        )
    })
}

fn check(state: &Path) -> Result<(), Refused> {
    let mut groups = 0usize;
    for directory in group_directories(state)? {
        let texts = look::texts(&directory).map_err(|error| unreadable(&directory, &error))?;
        // What is damaged is not served by the daemon that asks either; what only a newer program can read would be lost.
        if let Some(newer) = texts.iter().find(|text| text.newer) {
            let why = newer.read.as_ref().err().cloned().unwrap_or_default();
            return Err(Refusal::new(
                Kind::Damaged,
                "group.newer-format",
                format!("{}/{}", directory.display(), newer.name),
                format!("the configuration {why}"),
                "use the newer program that wrote it",
            ));
        }
        groups += 1;
    }
    print(&format!("cleaved {} can read {}\n", env!("CARGO_PKG_VERSION"), counted(groups, "group")))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refused {
    let reason =
        format!("cannot be read: {}", crate::base::Errno::from_raw(error.raw_os_error().unwrap_or(5)));
    Refusal::new(
        Kind::System,
        "state.directory",
        path.display(),
        reason,
        "run it as root, and see to the directory",
    )
}

/// The process id of the daemon that holds the lock at `path`, if one does.
fn holder(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Ok(()) | Err(_) => return None,
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Some(text.lines().next().map(str::trim).filter(|line| !line.is_empty()).unwrap_or("not known").to_owned())
}

/// The daemon that runs on this host or on `socket`, by its process id.
fn daemon(socket: &Path) -> Option<String> {
    [socket.with_extension("lock"), PathBuf::from(super::startup::HOST_LOCK)]
        .iter()
        .find_map(|path| holder(path))
}

fn name(text: &str) -> Result<Name, Refused> {
    crate::state::refuse::parse_name("name", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::row::SpaceRow;
    use crate::state::Ids;
    use crate::state::change::create_group;

    #[test]
    fn a_daemon_is_known_by_its_lock_and_leaves_word_of_its_state() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let lock = directory.path().join("control.lock");
        assert_eq!((holder(&lock), last_state(&socket)), (None, None));
        std::fs::write(&lock, "123\n/srv/state\n").unwrap();
        assert_eq!((holder(&lock), last_state(&socket)), (None, Some(PathBuf::from("/srv/state"))));
        let held = std::fs::File::open(&lock).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(holder(&lock), Some("123".to_owned()));
        std::fs::write(&lock, "123\nrelative\n").unwrap();
        assert_eq!(last_state(&socket), None);
    }

    #[test]
    fn a_path_that_json_cannot_hold_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let row = SpaceRow {
            directories: vec![std::ffi::OsString::from_vec(vec![b'/', 0xff]).into()],
            free_bytes: 1,
            promised_bytes: 0,
            warning: None,
        };
        let refused = line(&ServerMessage::Row(Row::Space(row))).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("offline.not-json", Kind::System));
    }

    #[test]
    fn a_verb_that_needs_the_daemon_and_one_without_its_medium_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let ask = |verb: &str| Question {
            verb: verb.to_owned(),
            object: Some("v".to_owned()),
            group: None,
            medium: None,
            state: None,
            socket: root.path().join("control"),
        };
        for (verb, id) in [("list", "offline.verb"), ("udev", "offline.medium")] {
            let refused = outcome(&ask(verb), root.path()).unwrap_err();
            assert_eq!((refused.id.as_str(), refused.kind, refused.object.as_str()), (id, Kind::Usage, verb));
        }
        // A daemon that runs and does not answer has the volumes in hand.
        let lock = std::fs::File::create(root.path().join("control.lock")).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let refused = force_stop::force_stop(&ask("force-stop"), root.path()).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("daemon.running", Kind::Busy));
    }

    #[test]
    fn a_format_that_only_a_newer_binary_knows_fails_the_check_and_damage_does_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("g");
        let group = create_group("g", &[], &mut Ids::from_seed([1; 32])).unwrap();
        drop(crate::catalog::Catalog::create(&path, &group).unwrap());
        assert_eq!(check(root.path()), Ok(()));
        let head = path.join("configuration");
        let text = std::fs::read_to_string(&head).unwrap();
        std::fs::write(&head, text.replacen("configuration 1 ", "configuration 2 ", 1)).unwrap();
        let refused = check(root.path()).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("group.newer-format", Kind::Damaged));
        assert_eq!(refused.to_string().lines().count(), 1);
        std::fs::write(&head, "garbage").unwrap();
        assert_eq!(check(root.path()), Ok(()));
    }
}
