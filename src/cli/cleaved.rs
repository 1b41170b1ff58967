//! The words of `cleaved`: its help and its page of the manual are made of them.

use crate::control::SOCKET_PATH;
use clap::Parser;
use std::path::PathBuf;

/// The daemon of Cleave: serves volumes as /dev/ublkbN.
#[derive(Parser, Debug)]
#[command(
    name = "cleaved",
    version,
    max_term_width = 100,
    after_help = "It logs to standard error; what, says CLEAVE_LOG: warn, info (as without it), debug or trace."
)]
pub struct Arguments {
    /// Directory of the groups' state directories [default: /var/lib/cleave]
    #[arg(long, env = "CLEAVE_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Control socket
    #[arg(long, env = "CLEAVE_SOCKET", default_value = SOCKET_PATH, value_name = "PATH")]
    pub socket: PathBuf,
    /// Command that hears of every event: run without a shell, one at a time, for 10 seconds at most, the event as JSON on
    /// its standard input and in CLEAVE_EVENT, CLEAVE_SEVERITY, CLEAVE_GROUP, CLEAVE_VOLUME, CLEAVE_PLEX and CLEAVE_TEXT
    #[arg(long, value_name = "PATH")]
    pub hook: Option<PathBuf>,
    /// Answer without being the daemon: status, dump, force-stop, check or udev
    #[arg(long, value_name = "VERB")]
    pub offline: Option<String>,
    /// With --offline: the group
    #[arg(long, requires = "offline", value_name = "GROUP")]
    pub group: Option<String>,
    /// With --offline dump or udev: a medium whose labels are looked at
    #[arg(long, requires = "offline", value_name = "PATH")]
    pub medium: Option<PathBuf>,
    /// With --offline: the volume
    #[arg(requires = "offline")]
    pub object: Option<String>,
    /// Group whose members may change what root may change; they must be of the group cleave too
    #[arg(long, value_name = "NAME")]
    pub admin_group: Option<String>,
    /// Start the volumes that shall be started with the host, unless that was done in this run of it: those of `cleave set
    /// VOL autostart=yes`
    #[arg(long)]
    pub autostart: bool,
    /// Print one line on standard output once the daemon listens
    #[arg(long)]
    pub announce: bool,
}
