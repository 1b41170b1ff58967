//! `cleave plex`: takes single plexes out of a volume and in again, and replaces them.

use super::copying::CopyingArgs;
use super::dry_run::DryRunArgs;
use super::group::changed;
use super::mirror::attached;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::{PlexAttach, PlexRef, PlexReplace};
use clap::{Args, Subcommand};

/// What is done with plexes.
#[derive(Subcommand, Debug)]
pub enum PlexVerb {
    /// Take a STALE plex in again: it is copied what it missed, and what it may have lost
    Attach(AttachArgs),
    /// Take a plex out: it goes STALE and what it misses is remembered
    Detach(PlexArg),
    /// Take a plex out and forget what it misses: nothing brings it back but online
    Offline(PlexArg),
    /// Take an offline plex in again: all of it is copied
    Online(AttachArgs),
    /// Make a mirror that is in step a snapshot mirror, ready to be broken off at once
    Convert(PlexArg),
    /// Put a new plex in the place of another, good or dead: it is copied, then the old one is removed
    Replace(ReplaceArgs),
}

/// A plex.
#[derive(Args, Debug)]
pub struct PlexArg {
    /// The plex
    plex: String,
}

/// The words of `plex attach` and `plex online`.
#[derive(Args, Debug)]
pub struct AttachArgs {
    /// The plex
    plex: String,
    #[command(flatten)]
    copying: CopyingArgs,
}

/// The words of `plex replace`.
#[derive(Args, Debug)]
pub struct ReplaceArgs {
    /// The plex that goes
    old: String,
    /// A file or block device for the new one [default: a file on a medium of the group]
    #[arg(value_name = "PATH")]
    new: Option<String>,
    /// Media of the group to choose from [default: all]
    #[arg(long, value_name = "MEDIUM", value_delimiter = ',', conflicts_with = "new")]
    media: Vec<String>,
    /// Leave a new plex file sparse: the medium may then fill up under it
    #[arg(long)]
    sparse: bool,
    #[command(flatten)]
    copying: CopyingArgs,
    /// Use a device even if it carries a foreign file system
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl PlexVerb {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let group = options.group();
        let single = |arg: &PlexArg| -> Result<_, Refused> {
            Ok(PlexRef { group: options.group(), plex: words::name(&arg.plex)? })
        };
        let again = |args: &AttachArgs| -> Result<_, Refused> {
            let plex = words::name(&args.plex)?;
            let bytes_per_second = args.copying.rate()?;
            let latency_us = args.copying.latency()?;
            let background = args.copying.background;
            let group = options.group();
            Ok(PlexAttach { group, volume: None, plex, bytes_per_second, latency_us, background })
        };
        Ok(match self {
            Self::Attach(args) => {
                Action::ask(Request::PlexAttach(again(&args)?), |answered| attached(&answered, "in step"))
            }
            Self::Online(args) => {
                Action::ask(Request::PlexOnline(again(&args)?), |answered| attached(&answered, "online"))
            }
            Self::Detach(arg) => {
                let text = format!("{}: detached", arg.plex);
                Action::ask(Request::PlexDetach(single(&arg)?), move |a| changed(&a, &text))
            }
            Self::Offline(arg) => {
                let text = format!("{}: offline", arg.plex);
                Action::ask(Request::PlexOffline(single(&arg)?), move |a| changed(&a, &text))
            }
            Self::Convert(arg) => {
                let text = format!("{}: SNAPDONE", arg.plex);
                Action::ask(Request::PlexConvert(single(&arg)?), move |a| changed(&a, &text))
            }
            Self::Replace(args) => {
                let request = PlexReplace {
                    group,
                    plex: words::name(&args.old)?,
                    path: args.new.as_deref().map(words::path).transpose()?,
                    media: words::names(&args.media)?,
                    sparse: args.sparse,
                    bytes_per_second: args.copying.rate()?,
                    latency_us: args.copying.latency()?,
                    background: args.copying.background,
                    force: args.force,
                };
                let ready = format!("in the place of {}", args.old);
                let replace = Request::PlexReplace(request);
                args.dry_run.over(Action::ask(replace, move |answered| attached(&answered, &ready)))
            }
        })
    }
}
