//! `cleave completions`: what a shell completes words by.

use crate::cli::args;
use crate::cli::plan::Action;
use clap::Args;
use clap_complete::Shell;

/// The words of `completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
For bash: cleave completions bash >/usr/share/bash-completion/completions/cleave")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// What the words ask for.
    #[must_use]
    pub fn action(&self) -> Action {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut args::command(), "cleave", &mut script);
        Action::Print(String::from_utf8_lossy(&script).into_owned())
    }
}
