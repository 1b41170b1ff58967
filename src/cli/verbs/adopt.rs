//! `cleave adopt`: makes a volume of a file or disk as it is.

use super::dry_run::DryRunArgs;
use super::make;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::Adopt;
use clap::Args;

/// The words of `adopt`.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is copied: the volume has the bytes that are there. Behind them two labels are written. A
file becomes some MiB longer for that; on a disk there must be room behind its file system, and how
much is missing is told. Unmount it first, and mount the volume from then on, by its own name. What
would be written, and where, is told by --dry-run.

A disk without room is adopted with its labels in a file of 2 MiB elsewhere: --label-file. Name the
disk by a link in /dev/disk/by-id then, and keep the file: without it the volume does not start. It
is the file that group import and group moved are given. Such a volume cannot be resized.

cleave release gives the plain image back.")]
pub struct AdoptArgs {
    /// The new volume
    volume: String,
    /// The file or block device
    path: String,
    /// How much of it is the volume's [default: all of a file, as much of a disk as leaves room for labels]
    #[arg(short, long, value_name = "SIZE")]
    length: Option<String>,
    /// A file to make for its labels: nothing is written to the disk, or behind the data of the file
    #[arg(long, value_name = "FILE")]
    label_file: Option<String>,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl AdoptArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names, sizes and paths.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request = Adopt {
            group: options.group(),
            volume: words::name(&self.volume)?,
            path: words::path(&self.path)?,
            length_bytes: self.length.as_deref().map(words::size).transpose()?,
            label_file: self.label_file.as_deref().map(words::path).transpose()?,
        };
        Ok(self.dry_run.over(Action::ask(Request::Adopt(request), make::show)))
    }
}
