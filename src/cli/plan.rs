//! What a command line asks for, as a value: nothing has been touched when a plan stands.

use super::answer::Answer;
use super::archive::ArchiveWork;
use super::complete::CompleteWork;
use super::hooks::HookedWork;
use super::in_turn::InTurnWork;
use super::session::Answered;
use super::verbs::daemon::UpgradeWork;
use super::verbs::doctor::DoctorWork;
use super::verbs::mount::MountWork;
use super::verbs::stat::StatWork;
use super::verbs::top::TopWork;
use super::vx::Applet;
use crate::base::{Name, Refused};
use crate::control::Request;
use crate::control::request::default_group;
use std::path::PathBuf;

/// Whose manner of speaking results and errors have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Voice {
    /// `cleave: object: reason; way out`.
    #[default]
    Cleave,
    /// `VxVM vxassist ERROR V-5-1-NNNN object: reason; way out`, silent on success.
    Applet(Applet),
}

/// What holds for every verb.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// The group named with `-g`.
    pub group: Option<Name>,
    /// Whether the result and the error are JSON documents.
    pub json: bool,
    /// Whether results of changing verbs and progress are left out.
    pub quiet: bool,
    /// The socket named with `--socket`.
    pub socket: Option<PathBuf>,
    /// The manner of speaking.
    pub voice: Voice,
}

impl Options {
    /// The group named, or `default`.
    #[must_use]
    pub fn group(&self) -> Name {
        self.group.clone().unwrap_or_else(default_group)
    }
}

/// Options and what is to be done.
#[derive(Debug)]
pub struct Plan {
    /// What holds for every verb.
    pub options: Options,
    /// What is to be done.
    pub action: Action,
}

/// How answers become the result.
pub type Show = Box<dyn FnOnce(Vec<Answered>) -> Result<Answer, Refused>>;

/// How one answer becomes the result.
pub type ShowOne = Box<dyn FnOnce(Answered) -> Result<Answer, Refused>>;

/// What is shown of events while a request is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watch {
    /// Progress as the options want it.
    Progress,
    /// Also changes of state.
    Everything,
    /// Each row of what happened as it arrives, a line of text or of JSON; nothing is kept of it.
    Events {
        /// Whether each is a JSON document on a line of its own.
        json: bool,
    },
    /// Lines as `vxtask monitor` prints them, on standard output.
    VxTask {
        /// Whether the heads of the columns come first.
        head: bool,
    },
}

/// What is to be done.
pub enum Action {
    /// Print a text: help or version.
    Print(String),
    /// Ask the daemon, one request after the other, until one is refused.
    Ask {
        /// The requests.
        requests: Vec<Request>,
        /// What is shown meanwhile.
        watch: Watch,
        /// How the answers are shown.
        show: Show,
    },
    /// Ask the daemon, between two commands.
    Hooked(HookedWork),
    /// Ask the daemon for several things, of which none is done unless all could be.
    InTurn(InTurnWork),
    /// Ask the daemon, or, when nobody answers, `cleaved` without the daemon.
    Anyway {
        /// The request.
        request: Request,
        /// The verb without the daemon.
        verb: &'static str,
        /// Its words.
        words: Vec<String>,
        /// How the answer is shown.
        show: ShowOne,
    },
    /// Show what can be read of the state directory, by `cleaved` without the daemon.
    Offline {
        /// The verb.
        verb: &'static str,
        /// Its words.
        words: Vec<String>,
    },
    /// Give the daemon's place to another binary.
    Upgrade(UpgradeWork),
    /// Write, check or read back an archive.
    Archive(ArchiveWork),
    /// Mount a volume.
    Mount(MountWork),
    /// Look at counts, again and again.
    Stat(StatWork),
    /// Look at what volumes do, again and again.
    Top(TopWork),
    /// List names for a shell.
    Complete(CompleteWork),
    /// Look whether all is as it should be.
    Doctor(DoctorWork),
    /// Write the pages of the manual into this directory.
    Manual(PathBuf),
}

impl Action {
    /// Asks one request and shows its answer by `show`.
    pub fn ask(request: Request, show: impl FnOnce(Answered) -> Result<Answer, Refused> + 'static) -> Self {
        Self::Ask {
            requests: vec![request],
            watch: Watch::Progress,
            show: Box::new(move |mut answers| show(answers.remove(0))),
        }
    }

    /// Asks several requests and shows all answers, one after the other, by `show`.
    pub fn ask_each(
        requests: Vec<Request>,
        show: impl Fn(Answered) -> Result<Answer, Refused> + 'static,
    ) -> Self {
        Self::Ask {
            requests,
            watch: Watch::Progress,
            show: Box::new(move |answers| {
                Ok(Answer::joined(answers.into_iter().map(&show).collect::<Result<_, _>>()?))
            }),
        }
    }

    /// The requests, for tests and for nothing else.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        match self {
            Self::Ask { requests, .. } => requests,
            Self::Hooked(HookedWork { request, .. }) | Self::Anyway { request, .. } => {
                std::slice::from_ref(request)
            }
            Self::InTurn(work) => &work.requests,
            Self::Upgrade(work) => std::slice::from_ref(&work.request),
            Self::Complete(work) => std::slice::from_ref(&work.request),
            Self::Stat(work) => std::slice::from_ref(&work.request),
            Self::Top(work) => &work.requests,
            Self::Doctor(work) => &work.requests,
            Self::Print(_) | Self::Offline { .. } | Self::Archive(_) | Self::Mount(_) | Self::Manual(_) => {
                &[]
            }
        }
    }
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Print(text) => f.debug_tuple("Print").field(text).finish(),
            Self::Ask { requests, watch, .. } => f
                .debug_struct("Ask")
                .field("requests", requests)
                .field("watch", watch)
                .finish_non_exhaustive(),
            Self::Anyway { request, verb, words, .. } => f
                .debug_struct("Anyway")
                .field("request", request)
                .field("verb", verb)
                .field("words", words)
                .finish_non_exhaustive(),
            Self::Hooked(work) => f
                .debug_struct("Hooked")
                .field("hooks", &work.hooks)
                .field("request", &work.request)
                .finish_non_exhaustive(),
            Self::Offline { verb, words } => {
                f.debug_struct("Offline").field("verb", verb).field("words", words).finish()
            }
            Self::InTurn(work) => {
                f.debug_struct("InTurn").field("requests", &work.requests).finish_non_exhaustive()
            }
            Self::Upgrade(work) => f.debug_tuple("Upgrade").field(work).finish(),
            Self::Archive(work) => f.debug_tuple("Archive").field(work).finish(),
            Self::Mount(work) => f.debug_tuple("Mount").field(work).finish(),
            Self::Stat(work) => f.debug_tuple("Stat").field(work).finish(),
            Self::Top(work) => f.debug_tuple("Top").field(work).finish(),
            Self::Complete(work) => f.debug_tuple("Complete").field(work).finish(),
            Self::Doctor(work) => f.debug_tuple("Doctor").field(work).finish(),
            Self::Manual(directory) => f.debug_tuple("Manual").field(directory).finish(),
        }
    }
}
