//! `cleaved`: parse, call, exit code.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cleave::base::Kind;
use cleave::cli::cleaved::Arguments;
use cleave::control::STATE_DIRECTORY;
use cleave::daemon::{self, Options, freeze, standalone};
use cleave::volume::KEEPS_MAPS;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    // The guard of a frozen file system is this program under another verb.
    if let [_, verb, point, limit] = &words[..]
        && verb == "freeze-guard"
    {
        let limit =
            limit.to_str().and_then(|text| text.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
        return ExitCode::from(freeze::guard_main(point.as_ref(), limit));
    }
    let arguments = Arguments::parse();
    if let Some(verb) = arguments.offline {
        return ExitCode::from(standalone::answer(&standalone::Question {
            verb,
            object: arguments.object,
            group: arguments.group,
            medium: arguments.medium,
            state: arguments.state,
            socket: arguments.socket,
        }));
    }
    if !KEEPS_MAPS && std::env::var_os("CLEAVE_WITHOUT_MAPS").is_none_or(|value| value != "1") {
        eprintln!(
            "cleaved: this build keeps no maps and loses data in a crash: for a benchmark set CLEAVE_WITHOUT_MAPS=1, else \
             build it without the feature without-maps"
        );
        return ExitCode::from(Kind::Usage.exit_code());
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("CLEAVE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A line that nobody takes any more, because the journal has ended before the daemon does, is lost and no reason to end:
    // with internal errors logged, that would be told where it cannot be told either, which panics.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
    let options = Options {
        state: arguments.state.unwrap_or_else(|| STATE_DIRECTORY.into()),
        socket: arguments.socket,
        admin_group: arguments.admin_group,
        hook: arguments.hook,
        autostart: arguments.autostart,
    };
    let outcome = daemon::run(&options, || {
        if arguments.announce {
            // Who started it may have gone away.
            let _ = writeln!(std::io::stdout(), "cleaved listens on {}", options.socket.display());
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => {
            let _ = writeln!(std::io::stderr(), "cleaved: {refused}");
            ExitCode::from(refused.kind.exit_code())
        }
    }
}
