//! `cleave manual`: the pages of the manual, from the same source as the help.

use crate::base::Refused;
use crate::cli::answer::{Answer, cannot_write, clean};
use crate::cli::cleaved::Arguments;
use crate::cli::plan::Action;
use crate::cli::vx::Applet;
use crate::cli::{args, words};
use clap::{Args, CommandFactory as _};
use clap_mangen::Man;
use serde_json::json;
use std::path::{Path, PathBuf};

/// The words of `manual`.
#[derive(Args, Debug)]
#[command(after_help = "\
To read the page of a verb: cleave manual make | man -l -")]
pub struct ManualArgs {
    /// The page that is printed, as make, plex-attach, vxassist or cleaved [default: that of cleave itself]
    page: Option<String>,
    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "page")]
    to: Option<String>,
}

impl ManualArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of paths; `page.unknown`.
    pub fn action(&self) -> Result<Action, Refused> {
        if let Some(directory) = &self.to {
            return Ok(Action::Manual(words::path(directory)?));
        }
        let pages = pages();
        let wanted = self.page.as_deref().unwrap_or("cleave");
        let found = pages.iter().find(|page| page.name == wanted || page.name == format!("cleave-{wanted}"));
        match found {
            Some(page) => Ok(Action::Print(page.text.clone())),
            None => {
                let known = pages.iter().map(|page| page.name.strip_prefix("cleave-").unwrap_or(&page.name));
                Err(words::unknown("page", wanted, known, "cleave --help"))
            }
        }
    }
}

/// A page in roff, as man(7) has it.
pub(in crate::cli) struct Page {
    /// As `cleave-make`.
    pub name: String,
    text: String,
}

/// All pages of section 8.
pub(in crate::cli) fn pages() -> Vec<Page> {
    fn add(pages: &mut Vec<Page>, command: &clap::Command) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        pages.push(Page { name, text: of_command(command) });
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            add(pages, verb);
        }
    }
    let mut command = args::command();
    command.build();
    let mut pages = Vec::new();
    add(&mut pages, &command);
    pages.extend(Applet::ALL.map(of_applet));
    let text = of_command(&Arguments::command()) + SEE_CLEAVE;
    pages.push(Page { name: "cleaved".to_owned(), text });
    pages
}

const SEE_CLEAVE: &str = ".SH SEE ALSO\n\\fBcleave\\fR(8)\n";

fn of_command(command: &clap::Command) -> String {
    let mut text = Vec::new();
    // Memory takes all that is written to it.
    let _ = Man::new(command.clone()).section("8").manual("Cleave").render(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn of_applet(applet: Applet) -> Page {
    let name = applet.name();
    // A dot or a quote in the first column would be taken for a macro.
    let lines =
        applet.help().lines().map(|line| format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-")));
    let text = format!(
        ".TH {} 8 \"\" \"\" Cleave\n.SH NAME\n{name} \\- {}\n.SH SYNOPSIS\n.nf\n{}.fi\n{SEE_CLEAVE}",
        name.to_uppercase(),
        applet.about(),
        lines.collect::<String>()
    );
    Page { name: name.to_owned(), text }
}

/// Writes all pages into `directory`.
///
/// # Errors
/// `output.write`.
pub(in crate::cli) fn write(directory: &Path) -> Result<Answer, Refused> {
    let mut written: Vec<PathBuf> = Vec::new();
    for page in pages() {
        let path = directory.join(format!("{}.8", page.name));
        std::fs::write(&path, page.text).map_err(|error| cannot_write(&clean(path.display()), &error))?;
        written.push(path);
    }
    let text = format!("{}: {} pages\n", clean(directory.display()), written.len());
    Ok(Answer::done(json!({ "pages": written }), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_command_has_a_page() {
        let pages = pages();
        let text = |name: &str| &pages.iter().find(|page| page.name == name).unwrap().text;
        assert!(
            text("cleave-plex-attach").contains(".TH cleave-plex-attach 8"),
            "{}",
            text("cleave-plex-attach")
        );
        assert!(text("vxassist").contains("snapstart VOLUME"));
        let daemon = text("cleaved");
        assert!(daemon.contains(".TH cleaved 8") && daemon.contains("\\-\\-admin\\-group"), "{daemon}");
        assert!(daemon.contains("CLEAVE_LOG") && daemon.ends_with(SEE_CLEAVE), "{daemon}");
        for applet in Applet::ALL {
            assert!(text(applet.name()).lines().all(|line| !line.starts_with('\'')));
        }
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            pages.len(),
            "no page hides another"
        );
        let gone = write(&directory.path().join("gone")).unwrap_err();
        assert_eq!(gone.id, "output.write");
    }
}
