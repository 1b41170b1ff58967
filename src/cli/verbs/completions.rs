//! `cleave completions`: what a shell completes words by. Verbs and options stand in the script; names of volumes and the like
//! it asks for, by `cleave complete`.

use crate::cli::args;
use crate::cli::plan::Action;
use clap::Args;
use clap_complete::Shell;

/// The words of `completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
For bash: cleave completions bash >/usr/share/bash-completion/completions/cleave
In bash, zsh and fish names of groups, volumes, snapshots, plexes, media and tasks are completed too, while the daemon runs.")]
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
        let script = String::from_utf8_lossy(&script).into_owned();
        Action::Print(match self.shell {
            Shell::Bash => bash(script),
            Shell::Zsh => zsh(&script),
            Shell::Fish => fish(&script),
            _ => script,
        })
    }
}

/// The function of clap's, and one around it.
fn bash(script: String) -> String {
    script.replace("complete -F _cleave ", "complete -F _cleave_and_names ") + BASH
}

/// Lines are split at blanks alone here, as COMP_WORDS are not: readline replaces what is behind the last of its word breaks.
const BASH: &str = r#"
# Names of volumes and the like, which the daemon knows, instead of other words where one is wanted.
_cleave_and_names() {
    local line=${COMP_LINE:0:COMP_POINT} cur=${COMP_WORDS[COMP_CWORD]} last name
    local -a typed names=() known=()
    _cleave "$@"
    for name in "${COMPREPLY[@]}"; do
        # As <VOLUME>: it stands for a word and is none.
        [[ $name == [\<\[]* ]] || known+=("$name")
    done
    COMPREPLY=("${known[@]}")
    read -ra typed <<<"$line"
    [[ $line == *[[:space:]] ]] && typed+=("")
    last=${typed[${#typed[@]} - 1]}
    [[ $cur == [=:] ]] && cur=
    while IFS= read -r name; do
        names+=("${name#"${last%"$cur"}"}")
    done < <("$1" complete "${typed[@]:1}" 2>/dev/null </dev/null)
    ((${#names[@]} == 0)) || COMPREPLY=("${names[@]}")
}
"#;

/// Wherever clap's function would have any word, names are asked for first.
fn zsh(script: &str) -> String {
    let begin = "    typeset -A opt_args\n";
    let end = "if [ \"$funcstack[1]\" = \"_cleave\" ]; then\n";
    script
        .replace(":_default'", ":_cleave_names'")
        .replacen(begin, &format!("{begin}{ZSH_LINE}"), 1)
        .replacen(end, &format!("{ZSH}{end}"), 1)
}

/// Before the words of the line are changed for a verb.
const ZSH_LINE: &str = "    local -a cleave_line=(\"${(@)words[1,CURRENT]}\")\n";

const ZSH: &str = r#"# Names of volumes and the like, which the daemon knows; any word where none is wanted.
(( $+functions[_cleave_names] )) ||
_cleave_names() {
    local -a names
    names=(${(f)"$("$cleave_line[1]" complete "${(@)cleave_line[2,-1]}" 2>/dev/null </dev/null)"})
    if (( $#names )); then
        compadd -- "${(@)names#$IPREFIX}"
    else
        _default
    fi
}

"#;

/// Names for each option that has a value, and for what is no option.
fn fish(script: &str) -> String {
    let with_names = |line: &str| match line.strip_suffix(" -r") {
        Some(_) => format!("{line} -a '(__fish_cleave_names)'\n"),
        None => format!("{line}\n"),
    };
    let lines: String = script.lines().map(with_names).collect();
    format!("{FISH}{lines}complete -c cleave -a '(__fish_cleave_names)'\n")
}

const FISH: &str = r"# Names of volumes and the like, which the daemon knows.
function __fish_cleave_names
    set -l typed (commandline -opc) (commandline -ct)
    command $typed[1] complete $typed[2..-1] 2>/dev/null </dev/null
end

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_for_wherever_clap_would_have_any_word() {
        let script = |shell| match (CompletionsArgs { shell }).action() {
            Action::Print(text) => text,
            other => panic!("{other:?}"),
        };
        let bash = script(Shell::Bash);
        assert_eq!(bash.matches("complete -F _cleave_and_names ").count(), 2, "as clap writes it");
        assert!(!bash.contains("-F _cleave "));
        let zsh = script(Shell::Zsh);
        assert_eq!(zsh.matches("local -a cleave_line=").count(), 1);
        assert_eq!(zsh.matches("\n_cleave_names() {").count(), 1);
        assert!(zsh.matches(":_cleave_names'").count() > 50 && !zsh.contains(":_default'"));
        let fish = script(Shell::Fish);
        assert!(
            fish.lines()
                .any(|line| line.contains("-l media") && line.ends_with("-a '(__fish_cleave_names)'"))
        );
        assert!(script(Shell::Elvish).contains("edit:completion"));
    }
}
