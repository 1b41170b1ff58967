//! How plexes are copied: options that every verb that copies shares.

use crate::base::Refused;
use crate::cli::words;
use clap::Args;
use std::num::NonZeroU64;

/// How the copy runs.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub struct CopyingArgs {
    /// The most bytes a second that are copied to each plex, as 50m; a daemon that is started anew has no limit
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Copy slower while requests of the application take longer than this on average, as 5ms; not told to a daemon that is
    /// started anew
    #[arg(long, value_name = "TIME")]
    latency: Option<String>,
    /// Return as soon as the copy has begun
    #[arg(short, long)]
    pub background: bool,
}

impl CopyingArgs {
    /// The limit in bytes a second.
    ///
    /// # Errors
    /// Those of [`words::size`].
    pub fn rate(&self) -> Result<Option<NonZeroU64>, Refused> {
        Ok(self.rate.as_deref().map(words::size).transpose()?.and_then(NonZeroU64::new))
    }

    /// The latency target in microseconds.
    ///
    /// # Errors
    /// Those of [`words::latency`].
    pub fn latency(&self) -> Result<Option<NonZeroU64>, Refused> {
        self.latency.as_deref().map(words::latency).transpose()
    }
}
