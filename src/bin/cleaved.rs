//! `cleaved`: parse, call, exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cleave::base::Kind;
use cleave::control::{SOCKET_PATH, STATE_DIRECTORY};
use cleave::daemon::{self, Options, freeze, standalone};
use cleave::volume::KEEPS_MAPS;

/// The daemon of Cleave: serves volumes as /dev/ublkbN.
#[derive(Parser)]
#[command(name = "cleaved", version)]
struct Arguments {
    /// Directory of the groups' state directories [default: /var/lib/cleave]
    #[arg(long, env = "CLEAVE_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// Control socket
    #[arg(long, env = "CLEAVE_SOCKET", default_value = SOCKET_PATH, value_name = "PATH")]
    socket: PathBuf,
    /// Command that hears of every event: run without a shell, one at a time, for 10 seconds at most, the event as JSON on
    /// its standard input and in CLEAVE_EVENT, CLEAVE_SEVERITY, CLEAVE_GROUP, CLEAVE_VOLUME, CLEAVE_PLEX and CLEAVE_TEXT
    #[arg(long, value_name = "PATH")]
    hook: Option<PathBuf>,
    /// Answer without being the daemon: status, dump, force-stop or check
    #[arg(long, value_name = "VERB")]
    offline: Option<String>,
    /// With --offline: the group
    #[arg(long, requires = "offline", value_name = "GROUP")]
    group: Option<String>,
    /// With --offline dump: a medium whose labels are shown
    #[arg(long, requires = "offline", value_name = "PATH")]
    medium: Option<PathBuf>,
    /// With --offline: the volume
    #[arg(requires = "offline")]
    object: Option<String>,
    /// Group whose members may change what root may change; they must be of the group cleave too
    #[arg(long, value_name = "NAME")]
    admin_group: Option<String>,
    /// Print one line on standard output once the daemon listens
    #[arg(long)]
    announce: bool,
}

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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let options = Options {
        state: arguments.state.unwrap_or_else(|| STATE_DIRECTORY.into()),
        socket: arguments.socket,
        admin_group: arguments.admin_group,
        hook: arguments.hook,
    };
    let outcome = daemon::run(&options, || {
        if arguments.announce {
            println!("cleaved listens on {}", options.socket.display());
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => {
            eprintln!("cleaved: {refused}");
            ExitCode::from(refused.kind.exit_code())
        }
    }
}
