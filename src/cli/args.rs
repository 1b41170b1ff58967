//! The command line of `cleave`: global options, verbs, and clap's errors as refusals.

use super::plan::{Action, Options, Plan};
use super::verbs;
use super::words;
use super::{answer, archive};
use crate::base::{Kind, Refusal, Refused};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

/// Volumes of one or more full copies, with tracked changes and point-in-time copies.
#[derive(Parser, Debug)]
#[command(
    name = "cleave",
    version,
    max_term_width = 100,
    after_help = "Sizes are numbers with s (512-byte sectors), k, m, g, t or p; without a unit, sectors.\n\
                  Called as vxassist, vxdg, vxedit, vxmend, vxplex, vxprint, vxrecover, vxstat, vxtask or vxvol (or as: cleave vx NAME) it speaks VxVM's words."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What holds for every verb.
#[derive(Args, Debug)]
struct Global {
    /// The group of the volumes [default: default]
    #[arg(short, long, global = true, value_name = "GROUP")]
    group: Option<String>,
    /// Print the result, or the error, as one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// The daemon's socket [default: $CLEAVE_SOCKET, else /run/cleave/control]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print no progress and no result of a verb that changes something
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// The verbs.
#[derive(Subcommand, Debug)]
enum Verb {
    /// Make, remove and list groups
    #[command(subcommand)]
    Group(verbs::group::GroupVerb),
    /// Make a volume and start it
    Make(verbs::make::MakeArgs),
    /// Make a volume of a file or disk as it is, without a copy
    Adopt(verbs::adopt::AdoptArgs),
    /// Give a stopped volume up, whose plexes stay as plain images
    Release(verbs::release::ReleaseArgs),
    /// Add mirrors to a volume
    Mirror(verbs::mirror::MirrorArgs),
    /// Remove a plex of a mirrored volume
    RemoveMirror(verbs::remove_mirror::RemoveMirrorArgs),
    /// Take single plexes out and in again, or replace them
    #[command(subcommand)]
    Plex(verbs::plex::PlexVerb),
    /// Change settings of a volume
    Set(verbs::set::SetArgs),
    /// Make a volume longer, also while it is in use, or shorter
    Resize(verbs::resize::ResizeArgs),
    /// Start volumes: their devices appear
    Start(verbs::start::StartArgs),
    /// Stop volumes: their devices go
    Stop(verbs::stop::StopArgs),
    /// Have every plex that fell behind copied what it lacks
    Recover(verbs::recover::RecoverArgs),
    /// List volumes
    List(verbs::list::ListArgs),
    /// Show all about volumes
    Show(verbs::show::ShowArgs),
    /// List volumes and plexes as vxprint -ht does
    Print(verbs::print::PrintArgs),
    /// Add a snapshot mirror to a volume and copy it
    Snapstart(verbs::snapstart::SnapStartArgs),
    /// Wait until a snapshot mirror is ready
    Snapwait(verbs::snapwait::SnapWaitArgs),
    /// Break a ready snapshot mirror off as a volume of its own
    Snapshot(verbs::snapshot::SnapshotArgs),
    /// Remove a snapshot mirror that is not broken off
    Snapabort(verbs::snapabort::SnapAbortArgs),
    /// Give a snapshot's plex back, copying only what differs
    Snapback(verbs::snapback::SnapBackArgs),
    /// Overwrite a volume from one of its snapshots, with a way back
    Restore(verbs::restore::RestoreArgs),
    /// Put back what a restore has overwritten; list and delete undo archives
    Undo(verbs::undo::UndoArgs),
    /// End the relation of a snapshot to its origin: both go on as volumes of their own
    Snapclear(verbs::snapclear::SnapClearArgs),
    /// List snapshots, and how far they and their origins have gone apart
    Snapprint(verbs::snapprint::SnapPrintArgs),
    /// Remove a volume with its plexes
    Rm(verbs::rm::RmArgs),
    /// Compare all plexes of a volume
    Verify(verbs::verify::VerifyArgs),
    /// Compare all plexes of a volume by and by, now or at intervals, and repair them
    Scrub(verbs::scrub::ScrubArgs),
    /// Show what volumes are asked for, once or every few seconds
    Stat(verbs::stat::StatArgs),
    /// Show what volumes do, again and again, on one screen
    Top(verbs::top::TopArgs),
    /// List, watch and steer long operations
    #[command(subcommand)]
    Task(verbs::task::TaskVerb),
    /// Show how everything is, on one screen; works without the daemon
    Status(verbs::status::StatusArgs),
    /// Look whether this host and Cleave on it are as they should be, and tell what to do where not
    Doctor(verbs::doctor::DoctorArgs),
    /// End a volume whatever hangs: what waits for it gets EIO; works without the daemon
    ForceStop(verbs::force_stop::ForceStopArgs),
    /// Show what can be read of configurations, labels and maps, damaged or not; needs no daemon
    Dump(verbs::dump::DumpArgs),
    /// Show what happened, and what happens
    Events(verbs::events::EventsArgs),
    /// Mount a volume, with nouuid for XFS
    Mount(verbs::mount::MountArgs),
    /// Copy a snapshot or an unmounted volume to a compressed file, or check such a file
    Archive(archive::ArchiveArgs),
    /// Read an archive back
    Unarchive(archive::UnarchiveArgs),
    /// Print what a shell completes words by
    Completions(verbs::completions::CompletionsArgs),
    /// Print a page of the manual, or write all of it
    Manual(verbs::manual::ManualArgs),
    /// Ask after the daemon, or end it
    #[command(subcommand)]
    Daemon(verbs::daemon::DaemonVerb),
}

impl Verb {
    fn action(self, options: &Options) -> Result<Action, Refused> {
        match self {
            Self::Group(verb) => verb.action(options),
            Self::Make(args) => args.action(options),
            Self::Adopt(args) => args.action(options),
            Self::Release(args) => args.action(options),
            Self::Mirror(args) => args.action(options),
            Self::RemoveMirror(args) => args.action(options),
            Self::Plex(verb) => verb.action(options),
            Self::Set(args) => args.action(options),
            Self::Resize(args) => args.action(options),
            Self::Start(args) => args.action(options),
            Self::Stop(args) => args.action(options),
            Self::Recover(args) => args.action(options),
            Self::List(args) => args.action(options),
            Self::Show(args) => args.action(options),
            Self::Print(args) => args.action(options),
            Self::Snapstart(args) => args.action(options),
            Self::Snapwait(args) => args.action(options),
            Self::Snapshot(args) => args.action(options),
            Self::Snapabort(args) => args.action(options),
            Self::Snapback(args) => args.action(options),
            Self::Restore(args) => args.action(options),
            Self::Undo(args) => args.action(options),
            Self::Snapclear(args) => args.action(options),
            Self::Snapprint(args) => args.action(options),
            Self::Rm(args) => args.action(options),
            Self::Verify(args) => args.action(options),
            Self::Scrub(args) => args.action(options),
            Self::Stat(args) => args.action(options),
            Self::Top(args) => args.action(options),
            Self::Task(verb) => verb.action(options),
            Self::Status(args) => args.action(options),
            Self::Doctor(args) => args.action(options),
            Self::ForceStop(args) => args.action(options),
            Self::Dump(args) => args.action(options),
            Self::Events(args) => args.action(options),
            Self::Mount(args) => args.action(options),
            Self::Archive(args) => args.action(options),
            Self::Unarchive(args) => args.action(options),
            Self::Completions(args) => Ok(args.action()),
            Self::Manual(args) => args.action(),
            Self::Daemon(verb) => verb.action(),
        }
    }
}

/// What the words `argv`, the program's name first, ask for.
///
/// # Errors
/// The refusal, and the options as far as they are known.
pub fn plan(argv: &[String]) -> Result<Plan, (Options, Refused)> {
    let mut options = Options { json: wants_json(argv), ..Options::default() };
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) => {
            return match refusal(&error) {
                Ok(text) => Ok(Plan { options, action: Action::Print(text) }),
                Err(refusal) => Err((options, refusal)),
            };
        }
    };
    options.json = cli.global.json;
    options.quiet = cli.global.quiet;
    options.socket = cli.global.socket;
    let group = cli.global.group.as_deref().map(words::name).transpose();
    let action = group.and_then(|group| {
        options.group = group;
        cli.verb.action(&options)
    });
    match action {
        Ok(action) => Ok(Plan { options, action }),
        Err(refusal) => Err((options, refusal)),
    }
}

/// Whether `--json` stands among the options, for errors found before all of them are known.
pub(super) fn wants_json(argv: &[String]) -> bool {
    argv.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// All words of `cleave`.
#[must_use]
pub(super) fn command() -> clap::Command {
    Cli::command()
}

/// A command and its help.
pub type Page = (String, String);

/// The help of the program and of every verb, as it is printed on a screen of 100 columns.
#[must_use]
pub fn help() -> Vec<Page> {
    pages(Cli::command())
}

/// The same, without the options that every verb takes.
#[must_use]
pub fn own_help() -> Vec<Page> {
    fn without(command: clap::Command) -> clap::Command {
        let common = |argument: &clap::Arg| argument.is_global_set() || argument.get_id() == "help";
        command
            .mut_args(|argument| if common(&argument) { argument.hide(true) } else { argument })
            .mut_subcommands(without)
    }
    // Only what is built has the options of every verb at each of them.
    let mut command = Cli::command();
    command.build();
    pages(without(command))
}

fn pages(command: clap::Command) -> Vec<Page> {
    fn add(pages: &mut Vec<Page>, path: &str, command: &clap::Command) {
        pages.push((path.to_owned(), command.clone().render_long_help().to_string()));
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            add(pages, &format!("{path} {}", verb.get_name()), verb);
        }
    }
    let mut command = command.term_width(100);
    command.build();
    let mut pages = Vec::new();
    add(&mut pages, "cleave", &command);
    pages
}

/// An argument without the marks of a usage line.
fn plain(argument: &str) -> String {
    argument.replace(['<', '>', '[', ']'], "").replace("...", "")
}

/// The text of help or version, or the refusal, of what clap reports.
fn refusal(error: &clap::Error) -> Result<String, Refused> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = || context(ContextKind::InvalidArg).unwrap_or_else(|| "arguments".to_owned());
    let usage = |kind, id: &str, object: String, reason: String, way_out: Option<String>| {
        let way_out = way_out.unwrap_or_else(|| "see --help".to_owned());
        Err(Refusal::new(kind, id, words::clip(&answer::clean(object)), reason, way_out))
    };
    let suggestion = |kind| context(kind).map(|near| format!("did you mean '{near}'?"));
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(error.render().to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            usage(Kind::Usage, "verb.missing", "cleave".to_owned(), "a verb is missing".to_owned(), None)
        }
        ErrorKind::InvalidSubcommand => usage(
            Kind::Usage,
            "verb.unknown",
            context(ContextKind::InvalidSubcommand).unwrap_or_default(),
            "is no verb".to_owned(),
            context(ContextKind::InvalidSubcommand)
                .and_then(|verb| synonym(&verb))
                .map(|near| format!("did you mean '{near}'?"))
                .or_else(|| suggestion(ContextKind::SuggestedSubcommand)),
        ),
        ErrorKind::UnknownArgument => usage(
            Kind::Usage,
            "argument.unknown",
            argument(),
            "is not expected here".to_owned(),
            suggestion(ContextKind::SuggestedArg),
        ),
        ErrorKind::MissingRequiredArgument => {
            usage(Kind::Usage, "argument.missing", plain(&argument()), "is missing".to_owned(), None)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            if value.is_empty() {
                return usage(Kind::Usage, "value.missing", argument(), "needs a value".to_owned(), None);
            }
            let way_out = context(ContextKind::ValidValue).map(|valid| format!("choose one of: {valid}"));
            usage(Kind::Usage, "value.invalid", value, format!("is not good for {}", argument()), way_out)
        }
        ErrorKind::ArgumentConflict => usage(
            Kind::Usage,
            "argument.conflict",
            plain(&argument()),
            format!(
                "cannot stand with {}",
                context(ContextKind::PriorArg).map_or_else(|| "the others".to_owned(), |prior| plain(&prior))
            ),
            None,
        ),
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            usage(Kind::Usage, "argument.invalid", argument(), line, None)
        }
    }
}
/// The verb for what others call otherwise; by likeness some of these would come near to one that overwrites.
fn synonym(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "create" | "lvcreate" | "new" => "make",
        "delete" | "del" | "destroy" | "lvremove" | "remove" => "rm",
        "extend" | "grow" | "lvextend" | "shrink" => "resize",
        "lvs" | "ls" => "list",
        "info" | "display" => "show",
        "clone" | "snap" => "snapshot",
        "rollback" | "revert" => "restore",
        _ => return None,
    })
}
