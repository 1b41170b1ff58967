//! `cleave resize`: a volume becomes longer or shorter. `vxassist` grows and shrinks by the same request.

use super::dry_run::DryRunArgs;
use crate::base::units::{exact_bytes, human_bytes};
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, clean, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::{Length, Resize};
use crate::control::{Reply, Request};
use clap::Args;

/// The words of `resize`.
#[derive(Args, Debug)]
#[command(after_help = "\
A volume that is started, and mounted, becomes longer where the kernel can change the length of a
device in use (from Linux 6.16 on); elsewhere stop it first. Its file system is made larger after
it, with resize2fs, xfs_growfs or btrfs: the command to type is told. What a volume gets reads as zero.

A volume becomes shorter only while it is stopped, and not shorter than its file system: make that
smaller first, with resize2fs (XFS cannot become smaller). What is cut off is gone.

All plexes must be in step, and no snapshot related to the volume.")]
pub struct ResizeArgs {
    /// The volume
    volume: String,
    /// Its new length, or what is added to it or taken from it
    #[arg(value_name = "SIZE|+SIZE|-SIZE", allow_hyphen_values = true)]
    size: String,
    /// Cut off what nobody knows: where it cannot be told how far the content reaches
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl ResizeArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and sizes.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let length = match (self.size.strip_prefix('+'), self.size.strip_prefix('-')) {
            (Some(more), _) => Length::GrowBy(words::size(more)?),
            (None, Some(less)) => Length::ShrinkBy(words::size(less)?),
            (None, None) => Length::To(words::size(&self.size)?),
        };
        Ok(self.dry_run.over(action(options, &self.volume, length, self.force)?))
    }
}

/// A request for that length of `volume`.
///
/// # Errors
/// Those of names.
pub fn action(options: &Options, volume: &str, length: Length, force: bool) -> Result<Action, Refused> {
    let request = Resize { group: options.group(), volume: words::name(volume)?, length, force };
    Ok(Action::ask(Request::Resize(request), |answered| resized(&answered)))
}

/// The length that a `keyword` of `vxassist` asks for.
///
/// # Errors
/// Those of sizes.
pub fn of_keyword(keyword: &str, size: &str) -> Result<Length, Refused> {
    let bytes = words::size(size)?;
    match keyword {
        "growto" => Ok(Length::GrowTo(bytes)),
        "growby" => Ok(Length::GrowBy(bytes)),
        "shrinkto" => Ok(Length::ShrinkTo(bytes)),
        "shrinkby" => Ok(Length::ShrinkBy(bytes)),
        _ => Err(Refusal::new(Kind::Internal, "argument.unknown", keyword, "is no change of length", "")),
    }
}

/// What a volume has now.
fn resized(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Resized(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let (now, before) = (human_bytes(reply.length_bytes), human_bytes(reply.before_bytes));
    let mut text = if reply.length_bytes == reply.before_bytes {
        format!("{}: has {now} already", reply.volume)
    } else {
        format!("{}: {now}, {before} before", reply.volume)
    };
    if reply.lost_bytes > 0 {
        text += &format!("; {} at its end are cut off", exact_bytes(reply.lost_bytes));
    }
    match (&reply.holds, &reply.next_command) {
        (Some(holds), Some(command)) => {
            text += &format!("; now make what it holds ({}) larger: {}", clean(holds), clean(command));
        }
        (Some(holds), None) => text += &format!("; what it holds ({}) has the old length", clean(holds)),
        (None, _) => {}
    }
    text.push('\n');
    Ok(Answer::done(to_json(reply), text))
}
