//! VxVM's commands by name: their words, their columns, their messages.
//!
//! Options stand before or behind the keyword, attributes (`nmirror=2`) anywhere, as the manuals show both. Commands that
//! change something are silent when they succeed. `--json`, `--socket` and `--help` are ours.

mod elsewhere;
pub mod vxassist;
pub mod vxdg;
pub mod vxedit;
pub mod vxmend;
pub mod vxplex;
pub mod vxprint;
pub mod vxrecover;
pub mod vxstat;
pub mod vxtask;
pub mod vxvol;
pub mod words;

use super::plan::{Action, Options, Plan, Voice};
use crate::base::{Kind, Refusal, Refused};
use std::fmt;

/// The commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applet {
    /// Makes volumes and snapshots.
    Vxassist,
    /// Makes, lists and removes groups.
    Vxdg,
    /// Removes objects.
    Vxedit,
    /// Takes plexes offline and online.
    Vxmend,
    /// Takes plexes out of volumes and in again.
    Vxplex,
    /// Lists objects.
    Vxprint,
    /// Has plexes that fell behind copied.
    Vxrecover,
    /// Shows what volumes are asked for.
    Vxstat,
    /// Lists and steers tasks.
    Vxtask,
    /// Starts and stops volumes.
    Vxvol,
}

impl Applet {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Vxassist,
        Self::Vxdg,
        Self::Vxedit,
        Self::Vxmend,
        Self::Vxplex,
        Self::Vxprint,
        Self::Vxrecover,
        Self::Vxstat,
        Self::Vxtask,
        Self::Vxvol,
    ];

    /// The name that it is called by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxassist => "vxassist",
            Self::Vxdg => "vxdg",
            Self::Vxedit => "vxedit",
            Self::Vxmend => "vxmend",
            Self::Vxplex => "vxplex",
            Self::Vxprint => "vxprint",
            Self::Vxrecover => "vxrecover",
            Self::Vxstat => "vxstat",
            Self::Vxtask => "vxtask",
            Self::Vxvol => "vxvol",
        }
    }

    /// The command of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|applet| applet.name() == name)
    }

    /// What it is for.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Vxassist => "make volumes, mirrors and snapshots",
            Self::Vxdg => "make, list and remove groups",
            Self::Vxedit => "remove volumes",
            Self::Vxmend => "take plexes offline and online",
            Self::Vxplex => "take plexes out of volumes and in again",
            Self::Vxprint => "list volumes and plexes",
            Self::Vxrecover => "have plexes that fell behind copied",
            Self::Vxstat => "show what volumes are asked for",
            Self::Vxtask => "list and steer tasks",
            Self::Vxvol => "start and stop volumes, say which plex is read",
        }
    }

    /// Its help.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Vxassist => vxassist::HELP,
            Self::Vxdg => vxdg::HELP,
            Self::Vxedit => vxedit::HELP,
            Self::Vxmend => vxmend::HELP,
            Self::Vxplex => vxplex::HELP,
            Self::Vxprint => vxprint::HELP,
            Self::Vxrecover => vxrecover::HELP,
            Self::Vxstat => vxstat::HELP,
            Self::Vxtask => vxtask::HELP,
            Self::Vxvol => vxvol::HELP,
        }
    }
}

impl fmt::Display for Applet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What `words`, the command's name not among them, ask of `applet`.
///
/// # Errors
/// The refusal, and the options as far as they are known.
pub fn plan(applet: Applet, typed: &[String]) -> Result<Plan, (Options, Refused)> {
    let json = super::args::wants_json(typed);
    let mut options = Options { json, voice: Voice::Applet(applet), ..Options::default() };
    let flags = match applet {
        Applet::Vxassist => vxassist::FLAGS,
        Applet::Vxdg => vxdg::FLAGS,
        Applet::Vxedit => vxedit::FLAGS,
        Applet::Vxmend => vxmend::FLAGS,
        Applet::Vxplex => vxplex::FLAGS,
        Applet::Vxprint => vxprint::FLAGS,
        Applet::Vxrecover => vxrecover::FLAGS,
        Applet::Vxstat => vxstat::FLAGS,
        Applet::Vxtask => vxtask::FLAGS,
        Applet::Vxvol => vxvol::FLAGS,
    };
    let action = words::split(applet, typed, flags).and_then(|words| {
        options.group.clone_from(&words.group);
        options.socket.clone_from(&words.socket);
        if words.help {
            return Ok(Action::Print(applet.help().to_owned()));
        }
        match applet {
            Applet::Vxassist => vxassist::action(&options, &words),
            Applet::Vxdg => vxdg::action(&options, &words),
            Applet::Vxedit => vxedit::action(&options, &words),
            Applet::Vxmend => vxmend::action(&options, &words),
            Applet::Vxplex => vxplex::action(&options, &words),
            Applet::Vxprint => vxprint::action(&options, &words),
            Applet::Vxrecover => vxrecover::action(&options, &words),
            Applet::Vxstat => vxstat::action(&options, &words),
            Applet::Vxtask => vxtask::action(&options, &words),
            Applet::Vxvol => vxvol::action(&options, &words),
        }
    });
    match action {
        Ok(action) => Ok(Plan { options, action }),
        Err(refusal) => Err((options, refusal)),
    }
}

/// What `cleave vx NAME ...` asks for.
///
/// # Errors
/// As [`plan`], and for an unknown name.
pub fn plan_named(typed: &[String]) -> Result<Plan, (Options, Refused)> {
    let options = Options { json: super::args::wants_json(typed), ..Options::default() };
    let names = Applet::ALL.map(Applet::name);
    match typed.split_first() {
        None => {
            let way_out = format!("name one of: {}", names.join(", "));
            Err((
                options,
                Refusal::new(Kind::Usage, "command.missing", "cleave vx", "a command is missing", way_out),
            ))
        }
        Some((name, _)) if name == "--help" || name == "-h" => {
            let text = Applet::ALL.map(Applet::help).join("\n");
            Ok(Plan { options, action: Action::Print(text) })
        }
        Some((name, rest)) => match Applet::from_name(name) {
            Some(applet) => plan(applet, rest),
            None => Err((options, elsewhere::command(name, names))),
        },
    }
}
