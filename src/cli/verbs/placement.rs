//! Where new plexes go: options that `make`, `mirror` and `snapstart` share.

use crate::base::{Name, Refused};
use crate::cli::words;
use clap::Args;
use std::path::PathBuf;

/// Where new plexes go.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct PlacementArgs {
    /// Media of the group to choose from [default: all]
    #[arg(long, value_name = "MEDIUM", value_delimiter = ',')]
    media: Vec<String>,
    /// A file or block device to use as a plex; may be given again
    #[arg(long = "plex", value_name = "PATH")]
    plexes: Vec<String>,
    /// Leave new plex files sparse: the medium may then fill up under them
    #[arg(long)]
    sparse: bool,
    /// Use a device even if it carries a foreign file system
    #[arg(short, long)]
    force: bool,
}

/// The same, checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placement {
    /// Media by name.
    pub media: Vec<Name>,
    /// Plexes by absolute path.
    pub plexes: Vec<PathBuf>,
    /// Whether new files are left sparse.
    pub sparse: bool,
    /// Whether a foreign file system is overwritten.
    pub force: bool,
}

impl PlacementArgs {
    /// The checked placement.
    ///
    /// # Errors
    /// Those of names and paths.
    pub fn placement(&self) -> Result<Placement, Refused> {
        Ok(Placement {
            media: words::names(&self.media)?,
            plexes: words::paths(&self.plexes)?,
            sparse: self.sparse,
            force: self.force,
        })
    }
}
