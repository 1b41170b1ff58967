//! VxVM's commands by name: their words, their columns, their messages.
//!
//! Options stand before or behind the keyword, attributes (`nmirror=2`) anywhere, as the manuals show both. Commands that
//! change something are silent when they succeed. `--json`, `--socket` and `--help` are ours.

pub mod vxassist;
pub mod vxedit;
pub mod vxprint;
pub mod vxtask;
pub mod vxvol;
pub mod words;

use super::plan::{Action, Options, Plan, Voice};
use super::words::unknown;
use crate::base::{Kind, Refusal, Refused};
use std::fmt;

/// The commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applet {
    /// Makes volumes and snapshots.
    Vxassist,
    /// Removes objects.
    Vxedit,
    /// Lists objects.
    Vxprint,
    /// Lists and steers tasks.
    Vxtask,
    /// Starts and stops volumes.
    Vxvol,
}

impl Applet {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Vxassist, Self::Vxedit, Self::Vxprint, Self::Vxtask, Self::Vxvol];

    /// The name that it is called by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxassist => "vxassist",
            Self::Vxedit => "vxedit",
            Self::Vxprint => "vxprint",
            Self::Vxtask => "vxtask",
            Self::Vxvol => "vxvol",
        }
    }

    /// The command of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|applet| applet.name() == name)
    }

    /// Its help.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Vxassist => vxassist::HELP,
            Self::Vxedit => vxedit::HELP,
            Self::Vxprint => vxprint::HELP,
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
        Applet::Vxedit => vxedit::FLAGS,
        Applet::Vxprint => vxprint::FLAGS,
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
            Applet::Vxedit => vxedit::action(&options, &words),
            Applet::Vxprint => vxprint::action(&options, &words),
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
            None => Err((options, unknown("command", name, names, "cleave vx --help"))),
        },
    }
}
