//! The commands from end to end: words to requests, answers of a scripted daemon to texts, JSON and exit codes.

mod described;

use cleave::base::{Kind, Name, Refusal, Uuid};
use cleave::cli;
use cleave::cli::verbs::doctor::{self, Answering, Check, Facts, Finding, Level, LinkTree};
use cleave::control::event::Event;
use cleave::control::reply::{
    Attached, Changed, Cut, Exported, Forced, Listed, Made, Moved, MovedPlex, Overview, Released, Removed,
    Reply, Resized, Restored, Returned, Scrubbed, Status, Verified,
};
use cleave::control::row::{
    DifferenceRow, GroupRow, HealthRow, HeatOf, HeatRow, IoCounts, MediumRow, PlexRow, RestoringRow, Row,
    SnapshotOf, SnapshotRow, SpaceRow, StatsRow, TaskRow, UndoRow, VolumeRow,
};
use cleave::control::words::{
    DataPath, Grade, Health, KernelState, PlexMode, PlexState, ReadPolicy, TaskKind, TaskState, VolumeState,
};
use cleave::control::{ClientMessage, Decoder, PROTOCOL, Request, ServerMessage, decode, encode};
use cleave::control::{Happening, Severity, What};
use cleave::probe::{
    Abilities, Devices, Driver, FileSystem, Form, Host, KernelVersion, Limit, LockedMemory, Module, Nature,
    Place, RingsFor, Unseen,
};
use described::Described;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

// --- golden files -------------------------------------------------------------------------------------------------

/// Holds `text` against tests/golden/NAME; with UPDATE_GOLDEN=1 writes it there, for a person to read the difference.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (kept, now)) in kept.lines().zip(text.lines()).enumerate() {
        assert_eq!(now, kept, "{name}, line {}", number + 1);
    }
    assert_eq!(text.lines().count(), kept.lines().count(), "{name}: number of lines");
}

fn typed(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| if word == "''" { String::new() } else { word.to_owned() }).collect()
}

// --- a daemon that answers as told --------------------------------------------------------------------------------

impl Send {
    fn message(message: ServerMessage) -> Self {
        Self::Message(Box::new(message))
    }
}

/// What the scripted daemon sends.
enum Send {
    Message(Box<ServerMessage>),
    Raw(Vec<u8>),
    Close,
    Silence,
}

struct Daemon {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    heard: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    fn new(answer: impl Fn(&Request) -> Vec<Send> + Sync + std::marker::Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let listener = UnixListener::bind(&socket).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        thread::spawn(move || {
            for peer in listener.incoming() {
                serve(peer.unwrap(), &answer, &log);
            }
        });
        Self { _directory: directory, socket, heard }
    }

    /// A daemon that closes every answer with `reply` after `rows`.
    fn replying(rows: Vec<Row>, reply: Reply) -> Self {
        Self::new(move |_| {
            let rows = rows.iter().cloned().map(|row| Send::message(ServerMessage::Row(row)));
            rows.chain([Send::message(ServerMessage::Done(reply.clone()))]).collect()
        })
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        run(line, Some(&self.socket))
    }
}

fn serve(mut peer: UnixStream, answer: &impl Fn(&Request) -> Vec<Send>, log: &Mutex<Vec<Request>>) {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(body) = decoder.next_body().unwrap() {
            let sends = match decode(&body).unwrap() {
                ClientMessage::Hello { protocol, .. } => {
                    assert_eq!(protocol, PROTOCOL);
                    vec![Send::message(ServerMessage::Hello {
                        protocol,
                        version: "0.1.0".to_owned(),
                        pid: 42,
                    })]
                }
                ClientMessage::Request(request) => {
                    log.lock().unwrap().push(request.clone());
                    answer(&request)
                }
            };
            for send in sends {
                match send {
                    Send::Message(message) => peer.write_all(&encode(&*message).unwrap()).unwrap(),
                    Send::Raw(bytes) => peer.write_all(&bytes).unwrap(),
                    Send::Close => return,
                    Send::Silence => {
                        let _ = peer.read(&mut buffer);
                        return;
                    }
                }
            }
        }
        match peer.read(&mut buffer) {
            Ok(count) if count > 0 => decoder.feed(&buffer[..count]),
            _ => return,
        }
    }
}

fn command(line: &str, socket: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cleave"));
    command.args(typed(line)).stdin(Stdio::null()).env_remove("COLUMNS").current_dir("/");
    command.env("CLEAVE_SOCKET", socket.unwrap_or(Path::new("/nonexistent/control")));
    command
}

fn run(line: &str, socket: Option<&Path>) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(line, socket).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

// --- things to answer with ----------------------------------------------------------------------------------------

/// Whoever ran `command` was refused with this id and exit code, in one document, and was told nothing else.
#[track_caller]
fn refused_by(command: &mut Command, id: &str, code: i32) {
    let Output { status, stdout, stderr } = command.arg("--json").output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!((said.lines().count(), stdout.as_slice()), (1, [].as_slice()), "{id}: {said}");
    let error: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((error["error"]["id"].as_str(), status.code()), (Some(id), Some(code)), "{said}");
    assert_eq!(error["error"]["exit_code"], code);
    assert!(error["error"]["reason"].as_str().is_some_and(|reason| !reason.contains('\n')), "{said}");
}

#[track_caller]
fn refused(line: &str, id: &str, code: i32) {
    refused_by(&mut command(line, None), id, code);
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn uuid(byte: u8) -> Uuid {
    Uuid::from_random([byte; 16])
}

fn changed() -> Reply {
    Reply::Changed(Changed { changed: true })
}

fn volume(volume: &str, length_bytes: u64) -> VolumeRow {
    VolumeRow {
        group: name("default"),
        volume: name(volume),
        uuid: uuid(1),
        kernel_state: KernelState::Enabled,
        state: VolumeState::Active,
        length_bytes,
        block_bytes: 512,
        region_bytes: 65536,
        read_policy: ReadPolicy::Select,
        plex_timeout_s: 30,
        dirty_extents: 1024,
        data: DataPath::Auto,
        queues: 0,
        affinity: Box::default(),
        autostart: true,
        preferred_plex: None,
        device: Some("/dev/ublkb0".into()),
        links: vec![
            format!("/dev/cleave/default/{volume}").into(),
            format!("/dev/vx/dsk/{volume}").into(),
            format!("/dev/vx/rdsk/{volume}").into(),
        ],
        snapshot: None,
        data_path: Some(DataPath::Copy),
        device_queues: Some(1),
        scrub: None,
        notes: Vec::new(),
    }
}

fn plex(volume: &str, number: u32, state: PlexState, mode: PlexMode, length_bytes: u64) -> PlexRow {
    let plex = format!("{volume}-{number:02}");
    PlexRow {
        group: name("default"),
        volume: Some(name(volume)),
        plex: name(&plex),
        uuid: uuid(16 + number as u8),
        kernel_state: KernelState::Enabled,
        state,
        mode,
        length_bytes,
        medium: Some(name("m1")),
        path: format!("/var/lib/cleave/default/media/{plex}.img").into(),
        label_file: None,
        sparse: false,
        dirty_regions: 0,
        fault: None,
    }
}

fn task(done_bytes: u64, state: TaskState) -> TaskRow {
    TaskRow {
        task: 162,
        kind: TaskKind::SnapStart,
        state,
        group: name("default"),
        volume: name("vol"),
        plex: Some(name("vol-02")),
        done_bytes,
        total_bytes: 204_800 * 512,
        copied_bytes: done_bytes,
        rate_bytes: 40 << 20,
        eta_ms: Some(1_500),
        elapsed_ms: 900,
        limit_bytes: None,
        limit_latency_us: None,
        fault: None,
    }
}

/// The answer to a query: one group with two volumes, one of them a snapshot.
fn listing() -> (Vec<Row>, Reply) {
    let length = 204_800 * 512;
    let mut stale = plex("vol", 3, PlexState::Iofail, PlexMode::WriteOnly, length);
    (stale.dirty_regions, stale.fault, stale.kernel_state) =
        (12, Some("write failed (Input/output error)".to_owned()), KernelState::Detached);
    let mut snapshot = volume("SNAP-vol", length);
    snapshot.snapshot = Some(SnapshotOf {
        source: name("vol"),
        taken_ms: 1_790_000_000_000,
        grade: Grade::Fs,
        dirty_regions: 64,
        source_regions: 52,
        own_regions: 16,
    });
    snapshot.device = Some("/dev/ublkb1".into());
    snapshot.notes = vec!["waiting for fence: SNAP-vol-01".to_owned()];
    let rows = vec![
        Row::Group(GroupRow {
            group: name("default"),
            uuid: uuid(9),
            state_directory: "/var/lib/cleave/default".into(),
            volumes: 2,
            generation: 5,
        }),
        Row::Medium(MediumRow {
            group: name("default"),
            medium: name("m1"),
            path: "/var/lib/cleave/default/media".into(),
            length_bytes: 1 << 40,
            free_bytes: 1 << 39,
            online: true,
        }),
        Row::Volume(volume("vol", length)),
        Row::Plex(plex("vol", 1, PlexState::Active, PlexMode::ReadWrite, length)),
        Row::Plex(plex("vol", 2, PlexState::Snapdone, PlexMode::WriteOnly, length)),
        Row::Plex(stale),
        Row::Volume(snapshot),
        Row::Plex(plex("SNAP-vol", 1, PlexState::Active, PlexMode::ReadWrite, length)),
        Row::Task(task(78_824 * 512, TaskState::Running)),
    ];
    let reply = Reply::Listed(Listed { rows: rows.len() as u64 });
    (rows, reply)
}

fn daemon_with(rows: Vec<Row>, reply: Reply) -> Daemon {
    Daemon::replying(rows, reply)
}

// --- words to requests --------------------------------------------------------------------------------------------

/// Every line is planned; the golden file holds the requests.
const GOOD_LINES: &str = "\
cleave group create g
cleave group create g /a m2=/dev/sdb
cleave group destroy g
cleave group list
cleave make v 1g
cleave -g dg make v 204800 --nmirror 2 --media m1,m2 --region 128k --init zero --data copy
cleave make v 1g --plex /a --plex /b --sparse -f
cleave mirror v -b --media m1
cleave adopt v /srv/image
cleave -g dg adopt v /srv/disk.img --length 10g
cleave adopt v /srv/image --dry-run
cleave release v
cleave remove-mirror v
cleave remove-mirror v v-02
cleave plex attach v-02
cleave plex attach v-02 -b
cleave -g dg plex detach v-02
cleave plex offline v-02
cleave plex online v-02
cleave plex replace v-02
cleave plex replace v-02 /dev/sdb -f -b
cleave plex replace v-02 --media m1,m2 --sparse
cleave resize v 20g
cleave resize v +10g
cleave resize v -1g -f
cleave -g dg resize v 2048
cleave set v plex-timeout=10
cleave set v plex-timeout=90s dirty-extents=256
cleave set v plex-timeout=none
cleave set v queues=2 affinity=0,2-3
cleave set v queues=auto affinity=any
cleave set v autostart=no
cleave set v autostart=yes plex-timeout=10
cleave set v read=round
cleave set v read=v-02 plex-timeout=10
cleave plex convert v-02
cleave snapclear tmp
cleave snapprint
cleave snapprint v
cleave start v w
cleave start v --source v-02
cleave start --all -g dg
cleave stop v
cleave stop -a
cleave list
cleave list v
cleave list -g dg
cleave show v
cleave print
cleave snapstart v
cleave snapstart v -b -n 2
cleave snapstart v --latency 5ms --rate 50m
cleave snapwait v -n 2
cleave snapshot v
cleave snapshot v tmp
cleave snapshot v tmp -o consistency=crash
cleave snapshot v=a w=b x
cleave snapshot v tmp -o consistency=app --pre rest --post go-on --hook-timeout 5
cleave snapshot -o name=S%d-%v v w
cleave snapabort v
cleave snapback tmp
cleave snapback tmp --all
cleave snapback tmp --dry-run
cleave snapback s1 s2 s3 --rate 50m
cleave snapabort v --explain
cleave restore tmp
cleave restore tmp --all --no-safety -b
cleave restore tmp --keep --rate 50m
cleave restore tmp -n 2 --dry-run
cleave undo v
cleave undo v 1a2b3c4d --keep --force -b --rate 50m
cleave undo v --dry-run
cleave undo --list
cleave undo --list v
cleave undo --delete v 1a2b3c4d
cleave rm v w -f
cleave verify v
cleave scrub v
cleave scrub v --repair --rate 50m -b
cleave scrub v --every 7d --latency 500us
cleave scrub v --source v-02
cleave scrub v --every 7d --hours 1-5 --repair
cleave scrub v --every never
cleave group import /dev/sda /m/v-02.img
cleave stat
cleave stat v w --every 5 --count 3
cleave stat --reset
cleave top
cleave -g dg top --every 5 --count 3
cleave doctor
cleave -g dg doctor --state /srv/state
cleave task list
cleave task watch
cleave task watch 7
cleave task watch v
cleave task pause 7
cleave task resume 7
cleave task abort 7
cleave task throttle 7 50m
cleave task throttle 7 none
cleave task throttle 7 --latency 5ms
cleave task throttle 7 none --latency none
cleave daemon status
cleave daemon stop --volumes
vxassist make v 1g
/usr/sbin/vxassist -g dg make v 1g layout=mirror m1 m2
vxassist make nmirror=3 v 10g /a/b alloc=m1,m2 init=active regionsize=64k usetype=fsgen
vxassist make v 1g layout=mirror,concat nmirror=3 sparse=yes
vxassist -f mirror v nmirror=2
vxassist -b snapstart v
vxassist snapstart nmirror=2 v m1
vxassist -gdg snapstart v nmirror=2
vxassist snapwait v
vxassist snapwait v nmirror=2
vxassist snapshot v tmp
vxassist snapshot v
vxassist snapshot v w x
vxassist -o name=SNAP%v-%d snapshot v w
vxassist -o allvols,consistency=crash snapshot
vxassist snapshot v tmp nmirror=2
vxassist -o consistency=app snapshot v tmp pre=rest post=go-on
vxplex -g dg -o rm dis v-02
vxdg init dg d1=sdb /dev/sdc /dir/media=x
vxdg -g dg adddisk d3=sdd
cleave group add dg /dev/sde
cleave group remove dg d1
cleave group export dg
cleave group import --name other /dev/sda
cleave -g dg group import
cleave group moved dg
cleave group moved dg /dev/sdz /m/v-02.img
cleave group restore --force /root/dg.configuration
vxdg -g dg rmdisk d1 d2
vxdg deport dg
vxdg import dg
vxdg -n other import dg
vxassist snapback tmp
vxassist -b snapback nmirror=2 tmp
vxassist -g dg snapback s1 s2 nmirror=2
vxassist -o allplexes snapback tmp
vxassist -o resyncfromreplica snapback tmp
vxassist -b -o resyncfromreplica,nosafety snapback tmp nmirror=2
vxassist -o resyncfromreplica,allplexes snapback tmp
vxassist snapabort v
vxassist snapclear tmp
vxassist -g dg snapclear v tmp_snp
vxassist growto v 20g
vxassist -g dg growby v 1g
vxassist shrinkto v 5g
vxassist -f shrinkby v 1g
vxassist snapprint
vxassist -g dg snapprint v
vxassist remove volume v w
vxassist remove mirror v
vxassist remove mirror v v-02
vxedit -rf rm tmp
vxedit -g dg rm v
vxprint -ht
vxprint -g dg -ht v
vxprint -Avq
vxprint -g dg -vF %name v
vxvol start v w
vxvol -g dg stop v
vxvol startall
vxvol stopall
vxvol rdpol round v
vxvol -g dg rdpol prefer v v-02
vxvol rdpol select v
vxplex att v v-02 v-03
vxplex -g dg -b att v v-02
vxplex det v-02
vxplex -o rm dis v-02
vxplex convert state=SNAPDONE v-02
vxmend off v-02
vxmend on v-02
cleave recover
cleave recover v w --start -b
vxrecover -sb
vxrecover -g dg v
vxdg init dg m1=/dev/sdb /a
vxdg list
vxdg -q list dg
vxdg destroy dg
vxstat
vxstat -g dg -i 5 -c 3 v w
vxstat -r
vxtask list
vxtask -q monitor 7
vxtask monitor v
vxtask pause 7 8
vxtask abort 7
vxtask set slow=250 7
vxtask set slow=0 7 8
cleave vx vxedit -rf rm tmp
";

#[test]
fn words_become_these_requests() {
    let mut text = String::new();
    for line in GOOD_LINES.lines() {
        let plan = cli::plan(&typed(line)).unwrap_or_else(|(_, refusal)| panic!("{line}: {refusal}"));
        text += &format!("$ {line}\n");
        assert!(!plan.action.requests().is_empty(), "{line}");
        for request in plan.action.requests() {
            text += &format!("{}\n", serde_json::to_string(request).unwrap());
        }
    }
    golden("cli-requests.txt", &text);
}

/// Every line is refused before the daemon is asked; the golden file holds exit code, id and the line printed.
const BAD_LINES: &str = "\
cleave
cleave mkae v 1g
cleave frobnicate
cleave make
cleave make v
cleave make v 1g extra
cleave make v 0
cleave make v -1
cleave make v 1e3
cleave make v 1KiB
cleave make v 9223372036854775808
cleave make v 18446744073709551616
cleave make '' 1g
cleave make . 1g
cleave make .. 1g
cleave make ../x 1g
cleave make a/b 1g
cleave make %s 1g
cleave make $(x) 1g
cleave make é 1g
cleave make rdsk 1g
cleave make -- -rf 1g
cleave make v 1g --nmirror 0
cleave make v 1g --nmirror 33
cleave make v 1g --nmiror 2
cleave make v 1g --nmirror
cleave make v 1g --nmirror 1 --plex /a --plex /b
cleave make v 1g --region 48k
cleave make v 1g --init fast
cleave -g a/b list
cleave group create g =/x
cleave group create g m=
cleave start
cleave start v --all
cleave start v w --source v-01
cleave snapshot
cleave snapshot v -o consistency=app
cleave snapshot v -o consistency=best
cleave snapshot v -o consistncy=fs
cleave snapshot v -o allvols
cleave snapshot v w -o name=x
cleave snapshot v w -o name=%v%x
cleave task pause
cleave task pause v
cleave task watch -g x a/b
cleave task throttle 7 0
cleave task throttle 7
cleave task throttle 7 --latency 5
cleave snapstart v --latency 0ms
cleave archive v
cleave archive - f
cleave archive --check -
cleave archive --check /f -
cleave unarchive - f
cleave archive v f --level 99
cleave vx
cleave vx vxasist
vxassist
vxassist snapsatrt v
vxassist relayout v 2g
vxassist make v
vxassist make v 1g nmiror=2
vxassist make v 1g layout=stripe
vxassist make v 1g layout=nomirror nmirror=2
vxassist make v 1g usetype=raid5
vxassist make v 1g sparse=maybe
vxassist make v 1g nmirror=2 nmirror=3
vxassist make v 1g !m1
vxassist snapstart
vxassist snapwait v w
vxassist snapwait v nmirror=x
vxassist -o allplexs snapback tmp
vxassist snapback
vxassist snapback s1 s2 s1
cleave snapback s1 s1
vxassist -o resyncfromreplica snapback s1 s2
vxassist -o allplexes snapback tmp nmirror=2
vxassist -o nosafety snapback tmp
vxdg -g dg adddisk
vxdg upgrade dg
vxassist maxsize
vxassist relayout v
vxvol set fastresync=on v
cleave vx vxdisk list
cleave create v 1g
cleave delete v
vxassist -o consistency=app snapshot v tmp post=go-on
cleave snapshot v -o consistency=app
cleave snapshot v --pre x --hook-timeout 0
cleave list --dry-run
cleave restore
cleave restore tmp --keep --all
cleave restore tmp --dry-run -b
cleave undo
cleave undo --delete v
cleave undo --list v 1a2b3c4d
cleave undo --delete v 1a2b3c4d --keep
vxassist -o name=%v make v 1g
vxassist snapshot -o resyncfromreplica v
vxassist snapshot
vxassist remove
vxassist remove disk d
vxassist remove mirror v p q
vxassist -z make v 1g
vxassist -g
vxassist -g ../x make v 1g
vxedit
vxedit rm
vxedit -rf mv v
vxprint -x
vxprint a/b
vxprint -l -m v
vxprint -vn -F %name
vxprint -F
vxprint -F %nam
vxprint -F %{name
vxprint -F %{len:wide} v
vxvol
vxvol start
vxvol startall v
vxvol strat v
vxvol rdpol
vxvol rdpol round
vxvol rdpol prefer v
vxvol rdpol round v v-02
vxvol rdpol siteread v
vxplex
vxplex att v
vxplex dis v-02
vxplex -o rm det v-02
vxplex convert v-02
vxplex convert state=ACTIVE v-02
vxplex mv v-01 v-02
vxmend
vxmend on
vxmend fix clean v-02
vxassist snapclear
vxassist growto
vxassist growby v
vxassist growby v 1g 2g
vxassist growby v +1g
vxassist shrinkto v 1x
vxassist shrink v 1g
cleave resize v
cleave resize v +
cleave resize v -0
cleave resize v 1g 2g
vxassist snapprint v w
cleave completions csh
cleave manual mkae
cleave set v read=a/b
vxtask
vxdg
vxdg init
vxdg list a b
vxdg deport
vxdg deport a b
vxdg -g dg rmdisk
vxdg import
vxrecover -x v
vxrecover a/b
vxstat -i 0 v
vxstat -i
cleave stat --every soon
cleave top --count 0
cleave stat --reset --every 5
vxtask list 7
vxtask pause
vxtask pause v
vxtask monitor 7 8
vxtask --jsn list
vxtask set 7
vxtask set slow=fast 7
vxtask set slow=250
cleave list --json=yes
cleave events --last some
cleave set v frob
cleave set v frob=1
cleave set v data=fast
cleave set v affinity=x
cleave set v autostart=maybe
cleave set v queues=2 queues=3
vxassist make v 1g init=fast
vxassist make v 1g data=fast
";

#[test]
fn bad_words_are_refused_in_one_line_each() {
    let mut text = String::new();
    for line in BAD_LINES.lines() {
        let Err((options, refusal)) = cli::plan(&typed(line)) else { panic!("{line}: not refused") };
        let said = options.refusal_line(&refusal);
        assert!(!said.contains('\n') && said.len() < 220, "{said}");
        text += &format!("$ {line}\n{} {}\n{said}\n", refusal.kind.exit_code(), refusal.id);
    }
    golden("cli-errors.txt", &text);
}

#[test]
fn arguments_that_are_hostile_bytes_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let bad = std::ffi::OsString::from_vec(vec![b'v', 0xff]);
    let output = command("make", None).arg(bad).arg("1g").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "cleave: v\u{fffd}: is not UTF-8\n");
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join(std::ffi::OsString::from_vec(vec![b'd', 0xff]));
    std::fs::create_dir(&odd).unwrap();
    refused_by(command("make v 1g --plex x", None).current_dir(&odd), "path.not-utf8", 2);
    for name in ["a\nb", "a\tb", "\x1b[31mv", "\u{202e}v", "a b"] {
        let output = command("make", None).arg(name).arg("1g").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{said:?}");
        assert_eq!(said.lines().count(), 1);
    }
    let long = command("make", None).arg("n".repeat(4096)).arg("1g").output().unwrap();
    assert_eq!((long.status.code(), long.stderr.len() < 200), (Some(2), true));
}

#[test]
fn help_is_this() {
    let mut text: String =
        cli::args::help().iter().map(|(path, help)| format!("# {path} --help\n{help}\n")).collect();
    for applet in cli::vx::Applet::ALL {
        text += &format!("# {applet} --help\n{}\n", applet.help());
    }
    golden("cli-help.txt", &text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>());
    for applet in cli::vx::Applet::ALL {
        assert_eq!(run(&format!("vx {applet} --help"), None), (0, applet.help().to_owned(), String::new()));
    }
    let (code, out, _) = run("snapshot --help", None);
    assert!(code == 0 && out.contains("consistency=crash"));
    assert_eq!(run("--version", None).1, format!("cleave {}\n", env!("CARGO_PKG_VERSION")));
}

// --- answers to texts and JSON ------------------------------------------------------------------------------------

#[test]
fn vxprint_has_these_columns() {
    let (rows, reply) = listing();
    let daemon = daemon_with(rows, reply);
    let mut text = String::new();
    for line in [
        "vx vxprint -ht",
        "vx vxprint -g default -ht vol",
        "vx vxprint -g default -t vol",
        "vx vxprint -g default -ht vol-02",
        "vx vxprint -g default",
        "vx vxprint -g default -qp",
        "vx vxprint -g default -vt",
        "vx vxprint -l",
        "vx vxprint -g default -hl vol",
        "vx vxprint -hmQqs",
        "vx vxprint -g default -m",
        "vx vxprint -g default -vn",
        "vx vxprint -g default -F %kstate vol",
        "vx vxprint -qF %type:%name:%{assoc:12}:%len:%state:%pub_len",
        "vx vxprint -Q -F v:%{name:10}%len%%\\t%pref_name -F p,s:%name:%v_name:%path",
        "print",
    ] {
        let (code, out, err) = daemon.run(line);
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        text += &format!("$ {line}\n{out}");
    }
    golden("cli-vxprint.txt", &text);
    let (_, out, _) = daemon.run("print --json");
    Described::new().check("print", &serde_json::from_str(&out).unwrap());
}

/// The answer to the removal of an origin.
fn origin_removed() -> Reply {
    Reply::Removed(Removed {
        volume: Some(name("v")),
        plexes: vec![name("v-01")],
        freed_bytes: 1 << 30,
        lost_bytes: 0,
        independent: vec![name("tmp"), name("friday")],
    })
}

/// The rows of a volume that was stopped while a snapshot mirror of it was being copied.
fn stopped_while_copied() -> Vec<Row> {
    let stopped = VolumeRow {
        kernel_state: KernelState::Disabled,
        state: VolumeState::Clean,
        device: None,
        links: Vec::new(),
        ..volume("v", 1 << 30)
    };
    let dropped = "v-02: the snapshot mirror of v was not complete and goes at its next start";
    vec![Row::Volume(stopped), Row::Note(dropped.to_owned())]
}

/// A command of VxVM says nothing, but for what was given up.
#[test]
fn commands_of_vxvm_are_not_silent_about_what_was_given_up() {
    let parted =
        |name| format!("{name}: is no snapshot of v any more, but independent: no snapback, no restore\n");
    let parted = ["tmp", "friday"].map(parted).concat();
    let dropped = "v-02: the snapshot mirror of v was not complete and goes at its next start\n";
    for (line, rows, reply, said) in [
        ("vx vxedit -rf rm v", Vec::new(), origin_removed(), parted.as_str()),
        ("vx vxassist remove volume v", Vec::new(), origin_removed(), parted.as_str()),
        ("vx vxvol stop v", stopped_while_copied(), changed(), dropped),
    ] {
        let daemon = daemon_with(rows, reply);
        assert_eq!(daemon.run(line), (0, String::new(), said.to_owned()), "{line}");
        let (code, document, err) = daemon.run(&format!("{line} --json"));
        assert_eq!((code, document.lines().count(), err.as_str()), (0, 1, ""), "{line}");
    }
}

fn exported(media: &[&str]) -> Reply {
    let left_out = if media.is_empty() { Vec::new() } else { vec![name("v-03")] };
    Reply::Exported(Exported {
        group: name("dg"),
        media: media.iter().map(PathBuf::from).collect(),
        left_out,
    })
}

fn moved(any: bool) -> Reply {
    let one = MovedPlex { plex: name("v-01"), before: "/dev/sda".into(), now: "/dev/sdz".into() };
    Reply::Moved(Moved { group: name("dg"), plexes: if any { vec![one] } else { Vec::new() } })
}

/// Each line, and how the daemon answers it.
fn answered_lines() -> Vec<(&'static str, Vec<Row>, Reply)> {
    let gib = 1 << 30;
    let made = |plexes: u32| {
        let plexes =
            (1..=plexes).map(|n| Row::Plex(plex("v", n, PlexState::Active, PlexMode::ReadWrite, gib)));
        let rows: Vec<Row> = [Row::Volume(volume("v", gib))].into_iter().chain(plexes).collect();
        (rows, Reply::Made(Made { volume: name("v"), uuid: uuid(1), task: None }))
    };
    let attached = |tasks: Vec<u64>| {
        Reply::Attached(Attached {
            volume: name("v"),
            plexes: vec![name("v-03")],
            tasks,
            copied_bytes: 734_003_200,
            elapsed_ms: 2_345,
        })
    };
    let cut =
        Reply::Cut(Cut { hold_us: 3_204, drain_us: 2_900, elapsed_ms: 81, taken_ms: 1_790_000_000_000 });
    let snapshot = Row::Snapshot(SnapshotRow {
        group: name("default"),
        volume: name("v"),
        snapshot: name("tmp"),
        plexes: vec![name("v-03")],
        grade: Grade::Fs,
        frozen_ms: Some(14),
        device: "/dev/ublkb1".into(),
        links: vec!["/dev/cleave/default/tmp".into()],
    });
    let returned = |tasks: Vec<u64>, snapshot_removed| {
        Reply::Returned(Returned {
            volume: name("v"),
            plexes: vec![name("v-03")],
            regions: 16_384,
            dirty_regions: 131,
            region_bytes: 65_536,
            copied_bytes: 131 * 65_536,
            lost_bytes: 3 << 16,
            snapshot_removed,
            tasks,
            elapsed_ms: 412,
        })
    };
    let removed = |volume: Option<&str>, lost_bytes| {
        Reply::Removed(Removed {
            volume: volume.map(name),
            plexes: vec![name("v-03")],
            freed_bytes: gib,
            lost_bytes,
            independent: Vec::new(),
        })
    };
    let resized = |before_bytes: u64, length_bytes, online| {
        let grown = length_bytes > before_bytes;
        Reply::Resized(Resized {
            volume: name("v"),
            before_bytes,
            length_bytes,
            lost_bytes: before_bytes.saturating_sub(length_bytes),
            online,
            holds: grown.then(|| if online { "XFS" } else { "LUKS" }.to_owned()),
            next_command: (grown && online).then(|| "xfs_growfs /srv/data".to_owned()),
            elapsed_ms: 40,
        })
    };
    let verified = |differing_bytes| {
        Reply::Verified(Verified {
            volume: name("v"),
            plexes: 2,
            compared_bytes: gib,
            differing_bytes,
            elapsed_ms: 1_200,
        })
    };
    let scrubbed = |task, differing_bytes, repaired_bytes| {
        Reply::Scrubbed(Scrubbed {
            volume: name("v"),
            task,
            plexes: 2,
            compared_bytes: gib,
            differing_bytes,
            unreadable_bytes: 0,
            repaired_bytes,
            elapsed_ms: 61_200,
        })
    };
    let repaired = Row::Difference(DifferenceRow {
        reference: name("v-01"),
        plex: name("v-02"),
        offset_bytes: 1 << 20,
        length_bytes: 4096,
        unreadable: false,
        repaired: true,
    });
    let difference = Row::Difference(DifferenceRow {
        reference: name("v-01"),
        plex: name("v-02"),
        offset_bytes: 1_048_576,
        length_bytes: 4_096,
        unreadable: false,
        repaired: false,
    });
    let status = Reply::Status(Status {
        pid: 42,
        version: "0.1.0".to_owned(),
        protocol: PROTOCOL,
        uptime_ms: 61_000,
        kernel: "6.12.0".to_owned(),
        groups: 1,
        volumes: 2,
        started: 1,
        tasks: 0,
    });
    let mut failed = task(1 << 20, TaskState::Failed);
    failed.fault = Some(*Refusal::new(Kind::NoSpace, "medium.full", "m1", "is full", "free 10 MiB on it"));
    let listed = |rows: Vec<Row>| (rows.clone(), Reply::Listed(Listed { rows: rows.len() as u64 }));
    let (all, all_reply) = listing();
    let list = || (all.clone(), all_reply.clone());
    let counted = || {
        let row = |volume, reads, writes| {
            Row::Stats(StatsRow {
                group: name("default"),
                volume: name(volume),
                counts: IoCounts {
                    reads,
                    read_bytes: reads * 4096,
                    read_ms: reads * 3 / 2,
                    writes,
                    write_bytes: writes << 16,
                    write_ms: writes / 4,
                    flushes: writes / 100,
                    in_flight: 3,
                },
            })
        };
        listed(vec![row("v", 1_234_567, 89), row("w", 0, 0)])
    };
    let overwritten = |snapshot: &str| RestoringRow {
        group: name("default"),
        volume: name("v"),
        snapshot: (!snapshot.is_empty()).then(|| name(snapshot)),
        overwritten_bytes: 7 << 20,
        overwritten_regions: 112,
        regions: 16_384,
        snapshot_bytes: 1 << 20,
        since_bytes: 320 << 10,
        archive: Some("/var/lib/cleave/default/v-2023-11-14-22:13:20.1a2b3c4d".into()),
    };
    let restoring = |snapshot: &str| Row::Restoring(overwritten(snapshot));
    let unsafe_one = Row::Restoring(RestoringRow { archive: None, ..overwritten("tmp") });
    let restored = |archive: Option<&str>, task: Option<u64>| {
        Reply::Restored(Restored {
            volume: name("v"),
            written_bytes: if task.is_some() { 0 } else { 7 << 20 },
            archive: archive.map(str::to_owned),
            task,
            elapsed_ms: 2_300,
        })
    };
    let undo = |written_since_bytes| {
        Row::Undo(UndoRow {
            group: name("default"),
            volume: name("v"),
            archive: "1a2b3c4d".to_owned(),
            path: "/var/lib/cleave/default/v-2023-11-14-22:13:20.1a2b3c4d".into(),
            taken_ms: 1_700_000_000_000,
            bytes: 7 << 20,
            written_since_bytes,
        })
    };
    let note = Row::Note("waiting for fence: v-01".to_owned());
    let failure = *Refusal::new(
        Kind::CannotStart,
        "volume.no-plex",
        "w",
        "has no plex that may start",
        "see cleave show w",
    );
    let start = Row::Volume(volume("v", gib));
    let with = |line, (rows, reply)| (line, rows, reply);
    vec![
        with("group create g", (vec![], changed())),
        with("group destroy g", (vec![], changed())),
        with("group list", list()),
        with("make v 1g -n 2", made(2)),
        with("mirror v", (vec![], attached(vec![]))),
        with("remove-mirror v", (vec![], removed(None, 0))),
        with("start v", (vec![start.clone()], changed())),
        with("start --all", (vec![start, Row::Failure(failure)], changed())),
        with("stop v", (vec![], Reply::Changed(Changed { changed: false }))),
        with("stop v", (stopped_while_copied(), changed())),
        with("list", list()),
        with("show vol SNAP-vol", list()),
        with("snapstart v", (vec![], attached(vec![]))),
        with("snapstart v -b", (vec![], attached(vec![7]))),
        with("snapwait v", (vec![], attached(vec![]))),
        with("snapshot v tmp", (vec![snapshot], cut)),
        with("snapabort v", (vec![], removed(None, 0))),
        with("snapback tmp", (vec![], returned(vec![], true))),
        with("snapback tmp -b", (vec![], returned(vec![7], false))),
        with("restore tmp", (vec![restoring("tmp")], restored(Some("1a2b3c4d"), None))),
        with("restore tmp --no-safety", (vec![unsafe_one], restored(None, None))),
        with("restore tmp -b", (vec![restoring("tmp")], restored(Some("1a2b3c4d"), Some(7)))),
        with("restore tmp --dry-run", (vec![restoring("tmp")], Reply::Changed(Changed { changed: false }))),
        with("undo v", (vec![restoring("")], restored(None, None))),
        with("undo v --keep", (vec![restoring("")], restored(Some("1a2b3c4d"), None))),
        with("undo --list", listed(vec![undo(Some(0)), undo(Some(5 << 20)), undo(None)])),
        with("undo --list v", listed(vec![])),
        with("undo --delete v 1a2b3c4d", (vec![], changed())),
        with("plex convert v-02", (vec![], changed())),
        with("snapclear tmp", (vec![], changed())),
        with(
            "release v",
            (
                vec![],
                Reply::Released(Released {
                    volume: name("v"),
                    images: vec!["/srv/v.img".into(), "/dev/sdb".into()],
                    length_bytes: 10 << 30,
                }),
            ),
        ),
        with("resize v +10g", (vec![], resized(10 << 30, 20 << 30, true))),
        with("resize v 20g", (vec![], resized(10 << 30, 20 << 30, false))),
        with("resize v -5g", (vec![], resized(10 << 30, 5 << 30, false))),
        with("resize v 10g", (vec![], resized(10 << 30, 10 << 30, true))),
        with("snapprint", list()),
        with("snapprint vol", list()),
        with("rm tmp", (vec![], removed(Some("tmp"), 4 << 20))),
        with("rm -f v", (vec![], origin_removed())),
        with("verify v", (vec![], verified(0))),
        with("verify v", (vec![difference.clone()], verified(4_096))),
        with("scrub v", (vec![], scrubbed(None, 0, 0))),
        with("scrub v", (vec![difference.clone()], scrubbed(None, 4_096, 0))),
        with("scrub v --repair", (vec![repaired], scrubbed(None, 4_096, 4_096))),
        with("scrub v -b", (vec![], scrubbed(Some(7), 0, 0))),
        with("scrub v --every 7d", (vec![], changed())),
        with("group import /dev/sda", (vec![Row::Volume(volume("v", gib))], changed())),
        with("group export dg", (vec![], exported(&["/dev/sda", "/dev/sdb"]))),
        with("group export dg", (vec![], exported(&[]))),
        with("group moved dg", (vec![], moved(true))),
        with("group moved dg", (vec![], moved(false))),
        with("task list", listed(vec![Row::Task(task(78_824 * 512, TaskState::Running))])),
        with("task watch", listed(vec![Row::Task(task(204_800 * 512, TaskState::Done))])),
        with("task watch", listed(vec![Row::Task(failed)])),
        with("task pause 162", (vec![Row::Task(task(78_824 * 512, TaskState::Paused))], changed())),
        with("daemon status", (vec![note], status)),
        with("daemon stop", (vec![], changed())),
        with("stat", counted()),
        with("vx vxstat v", counted()),
        with("recover", (vec![Row::Volume(volume("v", gib))], changed())),
        with("vx vxdg list", list()),
        with("vx vxdg -q list default", list()),
        with("vx vxtask list", listed(vec![Row::Task(task(78_824 * 512, TaskState::Running))])),
        with("vx vxtask -p list", listed(vec![Row::Task(task(78_824 * 512, TaskState::Running))])),
    ]
}

#[test]
fn answers_read_like_this() {
    let (mut texts, mut documents) = (String::new(), String::new());
    let described = Described::new();
    for (line, rows, reply) in answered_lines() {
        let daemon = daemon_with(rows, reply);
        let (code, out, err) = daemon.run(line);
        texts += &format!("$ cleave {line}\n{out}{err}");
        texts += &if code == 0 { String::new() } else { format!("exit code {code}\n") };
        let (json_code, json, json_err) = daemon.run(&format!("{line} --json"));
        assert_eq!(json_code, code, "{line}: --json does not change the exit code");
        assert_eq!(json.lines().count(), 1, "{line}: one document");
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        described.check(line, &document);
        documents +=
            &format!("$ cleave {line} --json\n{}\n", serde_json::to_string_pretty(&document).unwrap());
        if code != 0 {
            let error: serde_json::Value = serde_json::from_str(&json_err).unwrap();
            described.check_error(&error);
            assert_eq!(error["error"]["exit_code"], code);
        }
        let (quiet_code, quiet, _) = daemon.run(&format!("{line} -q"));
        assert_eq!(quiet_code, code);
        assert!(
            quiet.is_empty() || quiet == out || line.starts_with("vx "),
            "{line}: quiet is all or nothing"
        );
    }
    golden("cli-texts.txt", &texts);
    golden("cli-json.txt", &documents);
}

#[test]
fn looks_come_one_after_the_other() {
    let (rows, reply) = answered_lines()
        .into_iter()
        .find_map(|(line, rows, reply)| (line == "stat").then_some((rows, reply)))
        .unwrap();
    let daemon = daemon_with(rows, reply);
    let (code, out, _) = daemon.run("stat --every 1 --count 2 --json");
    assert_eq!(code, 0);
    let looks: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reads: Vec<_> = looks.iter().map(|look| look["volumes"][0]["reads"].as_u64().unwrap()).collect();
    assert_eq!(reads, [1_234_567, 0], "what came before, then what came meanwhile");
    assert_eq!(daemon.heard.lock().unwrap().len(), 2);
}

/// Of a second with many requests: rates are those of the span between two looks, whose length differs from run to run.
#[test]
fn top_shows_rates_maps_tasks_and_events_of_all_groups() {
    let length = 1 << 30;
    let counts = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let daemon = Daemon::new(move |request| {
        let counted = counts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (rows, reply) = match request {
            Request::Overview(_) => {
                let health = HealthRow {
                    group: name("default"),
                    volume: name("vol"),
                    health: Health::Degraded,
                    reasons: vec!["plex vol-02 is STALE".to_owned()],
                };
                let rows = vec![
                    Row::Volume(volume("vol", length)),
                    Row::Plex(plex("vol", 1, PlexState::Active, PlexMode::ReadWrite, length)),
                    Row::Plex(plex("vol", 2, PlexState::Stale, PlexMode::WriteOnly, length)),
                    Row::Health(health),
                    Row::Task(task(25 << 20, TaskState::Running)),
                    Row::Happened(happening(What::PlexLost, "left its volume", Some(PlexState::Stale))),
                ];
                (rows, overview(Health::Degraded, true))
            }
            Request::Heat(heat) => {
                let mut percent = vec![0; usize::from(heat.columns)];
                percent[3] = 1;
                percent[4] = 100;
                let row = |map| {
                    Row::Heat(HeatRow {
                        group: name("default"),
                        volume: name("vol"),
                        map,
                        percent: percent.clone(),
                    })
                };
                let rows = vec![
                    row(HeatOf::Written),
                    row(HeatOf::Since(name("tmp"))),
                    row(HeatOf::Behind(name("vol-02"))),
                ];
                let count = rows.len() as u64;
                (rows, Reply::Listed(Listed { rows: count }))
            }
            Request::Stats(_) => {
                let counts = IoCounts {
                    reads: counted * 1_000_000,
                    read_ms: counted * 2_000_000,
                    ..IoCounts::default()
                };
                let row = StatsRow { group: name("default"), volume: name("vol"), counts };
                (vec![Row::Stats(row)], Reply::Listed(Listed { rows: 1 }))
            }
            other => panic!("{other:?}"),
        };
        let rows = rows.into_iter().map(|row| Send::message(ServerMessage::Row(row)));
        rows.chain([Send::message(ServerMessage::Done(reply))]).collect()
    });
    let (code, out, err) = daemon.run("top");
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "cleaved 0.1.0, up 1 min 1 s, Linux 7.2.12: degraded");
    let cells: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!([cells[0], cells[1], cells[4], cells[7]], ["default/vol", "degraded", "2.00", "-"], "{out}");
    assert!(cells[2].parse::<u64>().unwrap() > 1_000_000 && lines[3].ends_with("1 of 2"), "{out}");
    let strip = format!("···▁█{} ", "·".repeat(55));
    for (line, what) in lines[4..7].iter().zip(["written", "since tmp", "vol-02 lacks"]) {
        assert!(
            line.starts_with(&format!("  {what} ")) && line.contains(&strip) && line.ends_with("  1 %"),
            "{line}"
        );
    }
    assert_eq!(lines[7], "  plex vol-02 is STALE");
    let (task, event) = (lines[lines.len() - 2], lines[lines.len() - 1]);
    assert!(task.contains("[#####               ] 25 % of 100 MiB"), "{task}");
    assert!(event.ends_with("plex.lost vol-02: left its volume; see to it"), "{event}");

    let (code, out, _) = daemon.run("top --json --count 2 --every 1");
    let looks: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, looks.len()), (0, 2));
    Described::new().check("top", &looks[0]);
    assert_eq!(looks[0]["volumes"][0]["maps"][1]["map"]["since"], "tmp");
    assert_eq!(looks[0]["volumes"][0]["counts"]["reads"], 3_000_000);
    assert_eq!(looks[0]["tasks"][0]["state"], "running");
}

#[test]
fn commands_of_vxvm_are_silent_when_they_succeed() {
    for (line, rows, reply) in answered_lines() {
        let vx = match line {
            "make v 1g -n 2" => "vx vxassist -b make v 1g nmirror=2",
            "mirror v" => "vx vxassist mirror v",
            "snapstart v -b" => "vx vxassist -b snapstart v",
            "snapwait v" => "vx vxassist snapwait v",
            "snapshot v tmp" => "vx vxassist snapshot v tmp",
            "snapback tmp" => "vx vxassist snapback tmp",
            "restore tmp" => "vx vxassist -o resyncfromreplica snapback tmp",
            "plex convert v-02" => "vx vxplex convert state=SNAPDONE v-02",
            "snapclear tmp" => "vx vxassist snapclear tmp",
            "resize v +10g" => "vx vxassist growby v 10g",
            "rm tmp" => "vx vxedit -rf rm tmp",
            "start v" => "vx vxvol start v",
            _ => continue,
        };
        let daemon = daemon_with(rows, reply);
        let (code, out, err) = daemon.run(vx);
        // But for what is overwritten.
        let told = if line == "restore tmp" {
            "v: 112 of 16384 regions (7 MiB) are overwritten from tmp;"
        } else {
            ""
        };
        assert_eq!((code, out.as_str(), err.is_empty()), (0, "", told.is_empty()), "{vx}: {err}");
        assert!(err.starts_with(told), "{vx}: {err}");
        assert_eq!(daemon.run(line).0, 0);
        let heard = daemon.heard.lock().unwrap();
        assert_eq!(heard[0].verb(), heard[1].verb());
    }
}

fn happening(id: What, reason: &str, state: Option<PlexState>) -> Happening {
    Happening {
        number: 9,
        time_ms: 1_700_000_000_123,
        id,
        severity: id.severity(),
        group: Some(name("default")),
        volume: Some(name("vol")),
        plex: Some(name("vol-02")),
        state,
        reason: reason.to_owned(),
        way_out: if id.severity() > Severity::Info { "see to it".to_owned() } else { String::new() },
    }
}

#[test]
fn what_happened_is_a_line_each_and_following_prints_them_as_they_come() {
    let lost = happening(What::PlexLost, "left its volume: \u{1b}[31m", Some(PlexState::Stale));
    let row = |happening: &Happening| Row::Happened(happening.clone());
    let whole = happening(What::VolumeWhole, "fine", None);
    let rows = vec![row(&lost), row(&whole)];
    let daemon = Daemon::replying(rows.clone(), Reply::Listed(Listed { rows: 2 }));
    let (code, out, err) = daemon.run("events vol -n 2");
    let lines = "\
2023-11-14 22:13:20 error   plex.lost vol-02: left its volume: \\u{1b}[31m; see to it
2023-11-14 22:13:20 info    volume.whole vol-02: fine
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, lines, ""));
    let (code, out, _) = daemon.run("events --json");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["events"][0]), (0, &serde_json::to_value(&lost).unwrap()));
    let described = Described::new();
    described.check("events", &document);
    described.check("events --follow", &document["events"][0]);

    let daemon = Daemon::new(move |_| {
        let rows = rows.iter().cloned().map(|row| Send::message(ServerMessage::Row(row)));
        rows.chain([Send::Close]).collect()
    });
    let (code, out, err) = daemon.run("events --follow");
    assert_eq!((code, out.as_str()), (4, lines), "{err}");
    let (_, out, _) = daemon.run("events -f --json");
    let each: Vec<Happening> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(each, [lost.clone(), whole.clone()]);
}

fn overview(health: Health, daemon: bool) -> Reply {
    let daemon = daemon.then(|| Status {
        pid: 42,
        version: "0.1.0".to_owned(),
        protocol: PROTOCOL,
        uptime_ms: 61_000,
        kernel: "7.2.12".to_owned(),
        groups: 1,
        volumes: 1,
        started: 1,
        tasks: 0,
    });
    Reply::Overview(Overview { health, daemon, notes: vec![] })
}

#[test]
fn status_is_one_screen_and_its_exit_code_tells_how_everything_is() {
    let length = 1 << 30;
    let rows = |health, reason: Option<&str>| {
        let reasons = reason.into_iter().map(str::to_owned).collect();
        vec![
            Row::Volume(volume("vol", length)),
            Row::Plex(plex("vol", 1, PlexState::Active, PlexMode::ReadWrite, length)),
            Row::Plex(plex("vol", 2, PlexState::Stale, PlexMode::WriteOnly, length)),
            Row::Plex(plex("vol", 3, PlexState::Snapdone, PlexMode::WriteOnly, length)),
            Row::Health(HealthRow { group: name("default"), volume: name("vol"), health, reasons }),
            Row::Space(SpaceRow {
                directories: vec!["/state".into(), "/m".into(), "/n".into()],
                free_bytes: 1 << 30,
                promised_bytes: 20 << 30,
                warning: Some("that is too much".to_owned()),
            }),
            Row::Happened(happening(What::PlexLost, "left its volume", Some(PlexState::Stale))),
        ]
    };
    let daemon = Daemon::replying(
        rows(Health::Degraded, Some("plex vol-02 is STALE\n")),
        overview(Health::Degraded, true),
    );
    let (code, out, err) = daemon.run("status");
    let screen = "\
cleaved 0.1.0 runs as 42 for 1 min 1 s on Linux 7.2.12
degraded: 0 of 1 volume is well
GROUP    VOLUME  HEALTH    STATE   PLEXES    DEVICE
default  vol     degraded  ACTIVE  1 of 2+1  /dev/ublkb0
default/vol: plex vol-02 is STALE\\u{a}
/state, /m, and 1 more: 1 GiB free, sparse plexes may still take 20 GiB: that is too much
last events (UTC):
2023-11-14 22:13:20 error   plex.lost vol-02: left its volume; see to it
";
    assert_eq!((code, out.as_str(), err.as_str()), (80, screen, ""));
    let (code, out, _) = daemon.run("status vol --json");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["volumes"][0]["health"].as_str()), (80, Some("degraded")));
    Described::new().check("status", &document);
    for (health, daemon, expected) in
        [(Health::Ok, true, 0), (Health::Failed, true, 81), (Health::Ok, false, 3)]
    {
        let daemon = Daemon::replying(rows(health, None), overview(health, daemon));
        assert_eq!(daemon.run("status").0, expected, "{health}");
    }
}

#[test]
fn without_the_daemon_status_force_stop_and_dump_look_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().display();
    let (code, out, err) = run(&format!("status --state {state}"), None);
    assert_eq!((code, err.as_str()), (3, ""), "{out}");
    assert!(out.contains("the daemon does not run") && out.contains("ok: 0 of 0 volumes"), "{out}");
    let (code, out, _) = run(&format!("status --state {state} --json"), None);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["health"].as_str(), document.get("daemon")), (3, Some("ok"), None));
    let (code, out, err) = run(&format!("status v --state {state}"), None);
    assert_eq!((code, out.as_str()), (11, ""), "{err}");
    let (code, _, err) = run(&format!("force-stop v --state {state}"), None);
    assert_eq!((code, err.lines().count()), (9, 1), "{err}");
    let (code, out, _) = run(&format!("dump --state {state}"), None);
    assert_eq!((code, out), (0, format!("{state} holds no group\n")));
    let described = Described::new();
    let (_, out, _) = run(&format!("dump --state {state} --json"), None);
    described.check("dump", &serde_json::from_str(&out).unwrap());
    let pages = tempfile::tempdir().unwrap();
    let (_, out, _) = run(&format!("manual --to {} --json", pages.path().display()), None);
    described.check("manual --to", &serde_json::from_str(&out).unwrap());
    let group = directory.path().join("g");
    std::fs::create_dir(&group).unwrap();
    std::fs::write(group.join("configuration"), "garbage").unwrap();
    let (code, out, _) = run(&format!("status --state {state}"), None);
    assert!(code == 3 && out.contains("no configuration in it can be read"), "{out}");
    let (code, out, _) = run(&format!("dump --state {state}"), None);
    assert!(code == 0 && out.contains("configuration: NOT READABLE") && out.contains("| garbage"), "{out}");
}

#[test]
fn what_answers_in_the_daemons_place_may_be_missing_or_another_program() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let cleave = directory.path().join("cleave");
    std::fs::copy(env!("CARGO_BIN_EXE_cleave"), &cleave).unwrap();
    let alone = |verb: &str| {
        let mut command = Command::new(&cleave);
        command.args(["--socket", "/nonexistent/control", verb]).env("PATH", directory.path());
        command
    };
    for verb in ["status", "dump"] {
        refused_by(&mut alone(verb), "offline.program", 3);
    }
    let cleaved = directory.path().join("cleaved");
    std::fs::write(&cleaved, "#!/bin/sh\necho 'cleaved: is another' >&2\necho more >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&cleaved, std::fs::Permissions::from_mode(0o755)).unwrap();
    for verb in ["status", "dump"] {
        refused_by(&mut alone(verb), "offline.answer", 5);
    }
    std::fs::write(&cleaved, "#!/bin/sh\necho '{}'\n").unwrap();
    refused_by(&mut alone("status"), "offline.answer", 5);
}

#[test]
fn a_socket_that_cannot_be_reached_is_not_taken_for_a_daemon_that_does_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("control");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    refused_by(&mut command("list", Some(&link)), "control.connect", 4);
}

#[test]
fn plexes_that_differ_are_told_with_the_answer_and_fail_the_command() {
    for (line, rows, reply) in answered_lines() {
        let id = match &reply {
            Reply::Verified(verified) if verified.differing_bytes > 0 => "verify.differs",
            Reply::Scrubbed(scrubbed) if scrubbed.differing_bytes > scrubbed.repaired_bytes => {
                "scrub.differs"
            }
            _ => continue,
        };
        let (code, out, err) = daemon_with(rows, reply).run(&format!("{line} --json"));
        let error: serde_json::Value = serde_json::from_str(&err).unwrap();
        assert_eq!((error["error"]["id"].as_str(), code, out.lines().count()), (Some(id), 70, 1), "{line}");
    }
}

#[test]
fn force_stop_says_what_it_did() {
    let forced = Forced {
        volume: name("vol"),
        steps: vec!["one".to_owned(), "two\u{7}".to_owned()],
        elapsed_ms: 1500,
    };
    let daemon = Daemon::replying(vec![], Reply::Forced(forced));
    assert_eq!(
        daemon.run("force-stop vol"),
        (0, "vol: stopped by force in 1.5 s\n  one\n  two\\u{7}\n".to_owned(), String::new())
    );
    assert_eq!(daemon.heard.lock().unwrap()[0].verb(), "force-stop");
    let (_, out, _) = daemon.run("force-stop vol --json");
    Described::new().check("force-stop", &serde_json::from_str(&out).unwrap());
}

#[test]
fn an_upgrade_that_is_refused_changes_nothing_and_one_that_is_made_is_waited_for() {
    let refusal = Refusal::new(Kind::InvalidState, "upgrade.unfit", "/x", "too old", "name another");
    let daemon = Daemon::new(move |_| vec![Send::message(ServerMessage::Refused(*refusal.clone()))]);
    let (code, _, err) = daemon.run("daemon upgrade --binary /x");
    assert_eq!((code, err.as_str()), (20, "cleave: /x: too old; name another\n"));
    let daemon = Daemon::new(|request| match request {
        Request::Upgrade(_) => vec![Send::message(ServerMessage::Done(changed())), Send::Close],
        _ => vec![Send::message(ServerMessage::Done(changed()))],
    });
    let (code, out, err) = daemon.run("daemon upgrade");
    assert!(
        code == 0 && out.starts_with("cleaved 0.1.0 gave its place to 0.1.0 (process 42) in "),
        "{out}{err}"
    );
    let (_, out, _) = daemon.run("daemon upgrade --json");
    Described::new().check("daemon upgrade", &serde_json::from_str(&out).unwrap());
}

#[test]
fn events_are_progress_on_standard_error_and_nothing_when_quiet() {
    let daemon = Daemon::new(|request| {
        let event = |event| Send::message(ServerMessage::Event(event));
        let done = match request {
            Request::TaskWatch(_) => Reply::Listed(Listed { rows: 0 }),
            _ => Reply::Attached(Attached {
                volume: name("vol"),
                plexes: vec![name("vol-02")],
                tasks: vec![],
                copied_bytes: 1,
                elapsed_ms: 1,
            }),
        };
        vec![
            event(Event::Alive),
            event(Event::Progress(task(1 << 20, TaskState::Running))),
            event(Event::Happened(happening(What::FenceWaiting, "the old daemon holds it\n", None))),
            event(Event::Happened(happening(What::PlexInStep, "is SNAPDONE", Some(PlexState::Snapdone)))),
            event(Event::Progress(task(204_800 * 512, TaskState::Done))),
            Send::message(ServerMessage::Done(done)),
        ]
    });
    let (code, out, err) = daemon.run("snapstart vol");
    assert_eq!((code, out.as_str()), (0, "vol: vol-02 SNAPDONE; copied 1 B in 1 ms\n"));
    assert_eq!(
        err,
        "vol-02: the old daemon holds it\\n; see to it\nsnapstart vol vol-02: 100 % of 100 MiB, done\n"
    );
    for line in ["snapstart vol -q", "snapstart vol --json", "vx vxassist snapstart vol"] {
        assert_eq!(daemon.run(line).2, "", "{line}");
    }
    assert!(daemon.run("task watch").2.contains("vol-02: is SNAPDONE"));
    let (code, out, _) = daemon.run("vx vxtask monitor");
    let expected = "\
TASKID PTID TYPE/STATE  PCT    PROGRESS
162         ATCOPY/R     1.00% 0/204800/2048 SNAPSTART vol vol-02
162         ATCOPY/X    100.00% 0/204800/204800 SNAPSTART vol vol-02
";
    assert_eq!((code, out.as_str()), (0, expected));
}

// --- completion ---------------------------------------------------------------------------------------------------

/// What bash has completed the line by: its function is called as readline calls it, with words broken at `=` and `:` too.
fn completed(line: &str, socket: &Path) -> Vec<String> {
    const CALL: &str = r#"
        eval "$(cleave completions bash)"
        called=$(complete -p cleave) called=${called#*-F } called=${called%% *}
        COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
        before=; ((COMP_CWORD == 0)) || before=${COMP_WORDS[COMP_CWORD - 1]}
        cur=${COMP_WORDS[COMP_CWORD]}
        "$called" cleave "$cur" "$before"
        ((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut words = Vec::new();
    for word in line.split(' ') {
        let mut rest = word;
        while let Some(at) = rest.find(['=', ':']) {
            words.extend([&rest[..at], &rest[at..=at]]);
            rest = &rest[at + 1..];
        }
        words.push(rest);
        if word.ends_with(['=', ':']) {
            words.pop();
        }
    }
    let program = Path::new(env!("CARGO_BIN_EXE_cleave")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", CALL, "bash", line])
        .args(words)
        .env("PATH", path)
        .env("CLEAVE_SOCKET", socket);
    let Output { status, stdout, stderr } = bash.stdin(Stdio::null()).output().unwrap();
    assert!(status.success() && stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_the_names_that_the_daemon_knows() {
    let (rows, reply) = listing();
    let daemon = daemon_with(rows, reply);
    for (line, words) in [
        ("cleave show ", &["vol", "SNAP-vol"][..]),
        ("cleave show vo", &["vol"]),
        ("cleave snapback ", &["SNAP-vol"]),
        ("cleave plex attach v", &["vol-01", "vol-02", "vol-03"]),
        ("cleave -g d", &["default"]),
        ("cleave show --group=d", &["default"]),
        ("cleave show --group=", &["default"]),
        ("cleave mirror vol --media m", &["m1"]),
        ("cleave mirror vol --media m1,", &["m1,m1"]),
        ("cleave task pause ", &["162"]),
        ("cleave snapb", &["snapback"]),
        ("cleave make v 1g --spa", &["--sparse"]),
    ] {
        assert_eq!(completed(line, &daemon.socket), words, "{line}");
    }
    let groups: Vec<_> = {
        completed("cleave -g dg show ", &daemon.socket);
        let heard = daemon.heard.lock().unwrap();
        heard
            .iter()
            .filter_map(|asked| if let Request::Query(query) = asked { query.group.clone() } else { None })
            .collect()
    };
    assert_eq!(groups.last(), Some(&name("dg")), "the group that the line names");
    let marks = completed("cleave make ", &daemon.socket);
    assert!(!marks.is_empty() && marks.iter().all(|word| word.starts_with('-')), "{marks:?}");
}

#[test]
fn completion_has_no_names_and_no_errors_without_a_daemon_and_waits_for_none_that_hangs() {
    let nobody = Path::new("/nonexistent/control");
    assert_eq!(run("complete show ", Some(nobody)), (0, String::new(), String::new()));
    assert!(completed("cleave show v", nobody).is_empty());
    assert_eq!(run("complete", Some(nobody)), (0, String::new(), String::new()));
    let refusing = Daemon::new(|_| {
        let refusal = Refusal::new(Kind::NoGroup, "group.unknown", "default", "no such group", "");
        vec![Send::message(ServerMessage::Refused(*refusal))]
    });
    let listed = || vec![Send::message(ServerMessage::Event(Event::Alive)), Send::Silence];
    for daemon in [refusing, Daemon::new(move |_| listed())] {
        let begun = Instant::now();
        assert_eq!(daemon.run("complete show v"), (0, String::new(), String::new()));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

// --- failures -----------------------------------------------------------------------------------------------------

const KINDS: [Kind; 26] = [
    Kind::Usage,
    Kind::Syntax,
    Kind::DaemonDown,
    Kind::DaemonTalk,
    Kind::System,
    Kind::Internal,
    Kind::NoGroup,
    Kind::Changed,
    Kind::NotFound,
    Kind::Exists,
    Kind::Busy,
    Kind::Last,
    Kind::InvalidState,
    Kind::Io,
    Kind::CannotStart,
    Kind::Started,
    Kind::NotStarted,
    Kind::Open,
    Kind::NoSpace,
    Kind::Medium,
    Kind::Host,
    Kind::Permission,
    Kind::Damaged,
    Kind::TimedOut,
    Kind::Differs,
    Kind::Aborted,
];

#[test]
fn every_kind_of_refusal_has_its_exit_code() {
    for kind in KINDS {
        let daemon = Daemon::new(move |_| {
            let refusal = Refusal::new(kind, "a.b", "v", "is so", "do that");
            vec![Send::message(ServerMessage::Refused(*refusal))]
        });
        let code = i32::from(kind.exit_code());
        assert_eq!(daemon.run("verify v"), (code, String::new(), "cleave: v: is so; do that\n".to_owned()));
        let (json_code, out, err) = daemon.run("vx vxassist snapwait v --json");
        assert_eq!((json_code, out.as_str()), (code, ""));
        let error: serde_json::Value = serde_json::from_str(&err).unwrap();
        let fields = ["id", "object", "reason", "way_out"]
            .map(|field| error["error"][field].as_str().unwrap().to_owned());
        assert_eq!(fields, ["a.b", "v", "is so", "do that"]);
        assert_eq!(error["error"]["exit_code"], code);
        let message = format!("VxVM vxassist ERROR V-5-1-{} v: is so; do that\n", 9000 + code);
        assert_eq!(daemon.run("vx vxassist snapwait v").2, message);
    }
}

#[test]
fn later_requests_are_not_sent_after_a_refusal() {
    let daemon = Daemon::new(|_| {
        vec![Send::message(ServerMessage::Refused(*Refusal::new(
            Kind::NotFound,
            "volume.unknown",
            "a",
            "x",
            "",
        )))]
    });
    assert_eq!(daemon.run("rm a b c").0, 11);
    assert_eq!(daemon.heard.lock().unwrap().len(), 1);
}

/// A daemon that refuses to give one snapshot back, when it is asked whether it could or when it is asked to.
fn giving_back(checked: &'static str, given: &'static str) -> Daemon {
    Daemon::new(move |request| {
        let (foretold, request) = match request {
            Request::Explain(inner) => (true, &**inner),
            other => (false, other),
        };
        let Request::SnapBack(back) = request else { panic!("{request:?}") };
        let snapshot = back.snapshot.as_str();
        if snapshot == if foretold { checked } else { given } {
            let refusal = Refusal::new(Kind::Open, "volume.open", snapshot, "is in use", "close it");
            return vec![Send::message(ServerMessage::Refused(*refusal))];
        }
        let reply = match foretold {
            true => Reply::Changed(Changed { changed: false }),
            false => Reply::Returned(Returned {
                volume: name("v"),
                plexes: vec![name(&format!("{snapshot}-01"))],
                regions: 16,
                dirty_regions: 1,
                region_bytes: 65_536,
                copied_bytes: 65_536,
                lost_bytes: 0,
                snapshot_removed: true,
                tasks: vec![],
                elapsed_ms: 1,
            }),
        };
        vec![Send::message(ServerMessage::Done(reply))]
    })
}

#[test]
fn several_snapshots_go_back_one_after_the_other_when_each_could() {
    let verbs = |daemon: &Daemon| -> Vec<String> {
        daemon.heard.lock().unwrap().iter().map(|request| request.verb().to_owned()).collect()
    };
    let daemon = giving_back("-", "-");
    let (code, out, err) = daemon.run("snapback a b c");
    assert_eq!((code, out.lines().count(), err.as_str()), (0, 3, ""), "{out}");
    assert!(out.starts_with("v: a-01 given back"), "{out}");
    let heard = verbs(&daemon);
    assert_eq!(heard.len(), 6);
    let (checks, done) = heard.split_at(3);
    assert!(checks.iter().all(|verb| *verb == checks[0]) && done.iter().all(|verb| *verb == done[0]));
    assert_ne!(checks[0], done[0]);
    let (_, out, _) = daemon.run("snapback a b --json");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["results"][1]["plexes"][0], "b-01");
    Described::new().check("snapback", &document);
    assert_eq!(daemon.run("vx vxassist snapback a b"), (0, String::new(), String::new()));
    let (_, out, _) = daemon.run("snapback a b --dry-run --json");
    Described::new().check("snapback --dry-run", &serde_json::from_str(&out).unwrap());
    let (code, out, _) = daemon.run("snapback a b --dry-run");
    assert_eq!((code, out.as_str()), (0, "nothing was changed\n"));

    // What one of them cannot keeps all of them.
    let daemon = giving_back("c", "-");
    let (code, out, err) = daemon.run("snapback a b c");
    let said = "cleave: c: is in use; close it; done: none; not done: a, b, c\n";
    assert_eq!((code, out.as_str(), err.as_str()), (31, "", said));
    assert_eq!(verbs(&daemon).len(), 3, "the checks");

    // What comes in between is told with how far it went.
    let daemon = giving_back("-", "b");
    let (code, out, err) = daemon.run("snapback a b c");
    let said = "cleave: b: is in use; close it; done: a; not done: b, c\n";
    assert_eq!((code, out.lines().count(), err.as_str()), (31, 1, said), "{out}");
    let (code, out, err) = daemon.run("snapback a b c --json");
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["not_done"]), (31, &serde_json::json!(["b", "c"])));
    Described::new().check("snapback", &document);
    assert_eq!(document["results"].as_array().unwrap().len(), 1);
    assert_eq!(err.lines().count(), 1);
    let (code, out, err) = daemon.run("vx vxassist snapback a b c");
    assert_eq!((code, out.as_str()), (31, ""));
    assert!(err.ends_with("; done: a; not done: b, c\n"), "{err}");
    let (code, _, err) = giving_back("-", "a").run("snapback a b");
    assert_eq!((code, err.as_str()), (31, "cleave: a: is in use; close it; done: none; not done: a, b\n"));
    let (code, _, err) = giving_back("-", "a").run("snapback a");
    assert_eq!((code, err.as_str()), (31, "cleave: a: is in use; close it\n"));
}

#[test]
fn a_daemon_that_does_not_run_is_exit_code_3_with_a_way_out() {
    let (code, out, err) = run("list", None);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(
        err.starts_with("cleave: /nonexistent/control: the daemon does not run; start it, as root: cleaved"),
        "{err}"
    );
    let (code, _, err) = run("vx vxprint -ht", None);
    assert_eq!((code, err.contains("V-5-1-9003")), (3, true));
    assert_eq!(run("--socket /nonexistent/other list", None).0, 3);
}

#[test]
fn a_broken_daemon_is_exit_code_4_within_its_time() {
    let hello = |raw: Vec<u8>, end: fn() -> Send| Daemon::new(move |_| vec![Send::Raw(raw.clone()), end()]);
    let done = || encode(&ServerMessage::Done(changed())).unwrap();
    let half = || done()[..done().len() / 2].to_vec();
    for (daemon, id) in [
        (hello(b"garbage and more garbage".to_vec(), || Send::Silence), "control.frame-too-long"),
        (hello(vec![0; 8], || Send::Silence), "control.frame-empty"),
        (hello(encode(&"no message").unwrap(), || Send::Silence), "control.frame-garbage"),
        (hello(half(), || Send::Close), "control.frame-cut-off"),
        (hello(vec![], || Send::Close), "control.closed"),
        (hello(half(), || Send::Silence), "control.silent"),
        (hello(done(), || Send::Silence), "control.unfitting"),
        (daemon_with(vec![], Reply::Listed(Listed { rows: 1 })), "control.rows-lost"),
    ] {
        let begun = Instant::now();
        let (code, out, err) = daemon.run("verify v --json");
        assert!(begun.elapsed() < Duration::from_secs(12), "{id}: {:?}", begun.elapsed());
        let error: serde_json::Value = serde_json::from_str(&err).unwrap();
        assert_eq!((error["error"]["id"].as_str(), code, out.as_str()), (Some(id), 4, ""));
    }
}

#[test]
fn a_full_or_closed_standard_output_is_no_panic() {
    let (rows, reply) = listing();
    let daemon = daemon_with(rows, reply);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command("list", Some(&daemon.socket)).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output: cannot be written"));
    let mut child =
        command("list", Some(&daemon.socket)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(5), b"".as_slice()));
}

#[test]
fn the_program_speaks_as_it_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("vxedit");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cleave"), &link).unwrap();
    let output = Command::new(&link).args(["-rf", "mr", "v"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "VxVM vxedit ERROR V-5-1-9001 mr: is no keyword; did you mean 'rm'?\n");
}

// --- the doctor ---------------------------------------------------------------------------------------------------

fn good_host() -> Host {
    Host {
        release: "7.3.4+deb13-amd64".to_owned(),
        kernel: Some(KernelVersion::new(7, 3)),
        machine: "x86_64".to_owned(),
        distribution: vec!["debian".to_owned()],
        module: Module::Loaded,
        driver: Driver::Can(Abilities {
            zero_copy: true,
            recovery: true,
            safe_stop: true,
            resize: true,
            quiesce: true,
        }),
        devices: Devices { there: 2, limit: Some(64), unserved: Some(0) },
        rings: RingsFor::Everybody,
        ring: Ok(true),
        udev: true,
        readers: Some(970),
        root: true,
    }
}

fn place(form: Form, filesystem: &str, nature: Nature) -> Place {
    Place {
        form,
        mode: 0o700,
        owner: 0,
        device: 1,
        filesystem: FileSystem { name: filesystem.to_owned(), nature },
        free_bytes: 10 << 30,
        no_more_files: false,
        read_only: false,
        direct: true,
        on_ublk: None,
    }
}

fn file(bytes: u64, allocated: u64) -> Place {
    place(Form::File { bytes, allocated }, "ext4", Nature::Local)
}

fn health(volume: &str, health: Health, reason: Option<&str>) -> Row {
    let reasons = reason.into_iter().map(str::to_owned).collect();
    Row::Health(HealthRow { group: name("default"), volume: name(volume), health, reasons })
}

/// A host on which all is well: a volume of two plexes, and one of one whose requests' pages are lent.
fn good_facts() -> Facts {
    let length = 1 << 30;
    let active =
        |volume, number| Row::Plex(plex(volume, number, PlexState::Active, PlexMode::ReadWrite, length));
    let mut lent = volume("single", length);
    lent.data_path = Some(DataPath::Zero);
    let rows = vec![
        Row::Volume(volume("vol", length)),
        active("vol", 1),
        active("vol", 2),
        health("vol", Health::Ok, None),
        Row::Volume(lent),
        active("single", 1),
        health("single", Health::Ok, None),
    ];
    let Reply::Overview(overview) = overview(Health::Ok, true) else { unreachable!() };
    let paths =
        ["vol-01", "vol-02", "single-01"].map(|plex| format!("/var/lib/cleave/default/media/{plex}.img"));
    let mut plexes: std::collections::BTreeMap<PathBuf, _> =
        paths.iter().map(|path| (path.into(), Ok(file(length, length)))).collect();
    plexes.insert(paths[2].clone().into(), Ok(file(length, 1 << 20)));
    plexes.insert(paths[1].clone().into(), Ok(place(Form::Disk, "devtmpfs", Nature::Local)));
    let tree = |path: &str, expected| LinkTree { path: path.into(), there: true, expected, wrong: vec![] };
    Facts {
        host: good_host(),
        daemon: Ok(Answering {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: 42,
            overview,
            rows,
            groups: vec!["/var/lib/cleave/default".into()],
        }),
        memory: LockedMemory { limit: Some(Limit::Unlimited), locked: Some(30 << 20) },
        state: vec![("/var/lib/cleave".into(), Ok(place(Form::Directory, "xfs", Nature::Local)))],
        links: vec![tree("/dev/cleave", 2), tree("/dev/vx", 8)],
        plexes,
    }
}

fn down() -> Refusal {
    let way_out = "start it, as root: cleaved";
    *Refusal::new(Kind::DaemonDown, "control.down", "/run/cleave/control", "the daemon does not run", way_out)
}

/// Hosts on which something is not as it should be.
fn sick_worlds() -> Vec<(&'static str, Facts)> {
    let mut worlds = Vec::new();
    let mut world = |about, change: &dyn Fn(&mut Facts)| {
        let mut facts = good_facts();
        change(&mut facts);
        worlds.push((about, facts));
    };
    let answering =
        |facts: &mut Facts, change: &dyn Fn(&mut Answering)| change(facts.daemon.as_mut().unwrap());
    world("an ordinary user, and a daemon that turns him away", &|facts| {
        facts.host.root = false;
        facts.host.driver = Driver::NotPermitted;
        facts.host.devices.unserved = None;
        facts.host.rings = RingsFor::Privileged { group: None };
        facts.host.ring = Err(cleave::base::Errno::from_raw(1));
        facts.host.udev = false;
        facts.host.readers = None;
        facts.memory = LockedMemory { limit: Some(Limit::Bytes(8 << 20)), locked: Some(0) };
        facts.daemon = Err(*Refusal::new(
            Kind::Permission,
            "control.permission",
            "/run/cleave/control",
            "this user may not use it",
            "run it as root, or as a member of the group cleave",
        ));
        facts.state[0].1 = Err(Unseen::NotPermitted);
    });
    world("a kernel without the driver's module, on Ubuntu", &|facts| {
        facts.host.release = "6.0.9-generic".to_owned();
        facts.host.kernel = Some(KernelVersion::new(6, 0));
        facts.host.distribution = vec!["linuxmint".to_owned(), "ubuntu".to_owned(), "debian".to_owned()];
        facts.host.module = Module::Absent;
        facts.host.driver = Driver::Missing;
        facts.host.devices = Devices { there: 0, limit: None, unserved: None };
        facts.host.rings = RingsFor::Nobody;
        facts.host.ring = Err(cleave::base::Errno::from_raw(1));
        facts.daemon = Err(down());
        facts.memory.limit = None;
        facts.state[0].1 = Err(Unseen::Missing);
        facts.links[0] = LinkTree { path: "/dev/cleave".into(), there: false, expected: 0, wrong: vec![] };
    });
    world("an old kernel, nearly full of devices that wait for a daemon", &|facts| {
        facts.host.release = "6.1.0-44-amd64".to_owned();
        facts.host.kernel = Some(KernelVersion::new(6, 1));
        facts.host.driver = Driver::Can(Abilities {
            zero_copy: false,
            recovery: false,
            safe_stop: false,
            resize: false,
            quiesce: false,
        });
        facts.host.devices = Devices { there: 60, limit: Some(64), unserved: Some(2) };
        facts.daemon = Err(down());
    });
    world("modules that are not those of the kernel, and one too many device", &|facts| {
        facts.host.kernel = Some(KernelVersion::new(6, 12));
        facts.host.module = Module::NoModules;
        facts.host.driver = Driver::Silent;
        facts.host.devices = Devices { there: 64, limit: Some(64), unserved: None };
        facts.host.ring = Ok(false);
        facts.daemon =
            Err(*Refusal::new(Kind::DaemonTalk, "control.silent", "x", "cleaved did not answer in time", ""));
    });
    world("a driver that is not loaded, in Debian", &|facts| {
        facts.host.kernel = None;
        facts.host.module = Module::Loadable;
        facts.host.driver = Driver::NoNode;
        facts.host.ring = Err(cleave::base::Errno::from_raw(38));
        facts.memory.locked = Some(0);
    });
    world("a module that only another kernel has, in Debian, in a container", &|facts| {
        facts.host.module = Module::Absent;
        facts.host.driver = Driver::NotPermitted;
        facts.host.ring = Err(cleave::base::Errno::from_raw(1));
        facts.memory.locked = None;
        answering(facts, &|daemon| daemon.version = "0.0.9".to_owned());
    });
    world("a driver that fails, from a distribution that is not known", &|facts| {
        facts.host.module = Module::Absent;
        facts.host.distribution.clear();
        let (reason, way_out) = ("the kernel took too long to answer".to_owned(), "see its log".to_owned());
        facts.host.driver = Driver::Fails { reason, way_out };
        facts.host.ring = Err(cleave::base::Errno::from_raw(12));
    });
    world("state directories in memory, with a server, full, on a volume", &|facts| {
        let directory = |name, nature| place(Form::Directory, name, nature);
        let mut memory = directory("tmpfs", Nature::Memory);
        (memory.mode, memory.free_bytes) = (0o755, 20 << 20);
        let mut server = directory("nfs", Nature::Remote);
        (server.owner, server.free_bytes) = (65534, 0);
        let mut full = directory("ext4", Nature::Local);
        (full.read_only, full.no_more_files) = (true, true);
        full.on_ublk = Some(vec!["dm-0".to_owned(), "ublkb3".to_owned()]);
        facts.state = vec![
            ("/run/state".into(), Ok(memory)),
            ("/net/state".into(), Ok(server)),
            ("/mnt/state".into(), Ok(full)),
            ("/etc/passwd".into(), Ok(file(9, 4096))),
            ("/gone".into(), Err(Unseen::Missing)),
            ("/hangs".into(), Err(Unseen::Hangs)),
            ("/broken".into(), Err(Unseen::Error(cleave::base::Errno::IO))),
        ];
    });
    world("volumes that are not well, and links that lead elsewhere", &|facts| {
        answering(facts, &|daemon| {
            daemon.overview.notes = vec!["group g waits for its state directory".to_owned()];
            daemon.rows[3] = health("vol", Health::Degraded, Some("plex vol-02 is STALE"));
            daemon.rows[6] = health("single", Health::Failed, Some("it does not serve\u{7}"));
            let Row::Volume(single) = &mut daemon.rows[4] else { unreachable!() };
            single.data_path = Some(DataPath::Copy);
        });
        facts.links[0].wrong = vec![("/dev/cleave/default/vol".into(), "default/vol".to_owned())];
    });
    for (about, asked, used, block, lends) in [
        ("lent until the next start", DataPath::Copy, DataPath::Zero, 512, true),
        ("copied as was asked for", DataPath::Copy, DataPath::Copy, 512, true),
        ("lent as was asked for", DataPath::Zero, DataPath::Zero, 512, true),
        ("not lent by this kernel", DataPath::Zero, DataPath::Copy, 512, false),
        ("copied by this kernel", DataPath::Auto, DataPath::Copy, 512, false),
        ("blocks too large to be lent", DataPath::Zero, DataPath::Copy, 4096, true),
        ("blocks too large", DataPath::Auto, DataPath::Copy, 4096, true),
    ] {
        world(about, &|facts| {
            let Driver::Can(can) = &mut facts.host.driver else { unreachable!() };
            can.zero_copy = lends;
            answering(facts, &|daemon| {
                let Row::Volume(single) = &mut daemon.rows[4] else { unreachable!() };
                (single.data, single.data_path, single.block_bytes) = (asked, Some(used), block);
            });
        });
    }
    world("plexes in memory, on a ublk device, without room", &|facts| {
        let mut places = facts.plexes.values_mut();
        let mut memory = place(Form::File { bytes: 1 << 30, allocated: 0 }, "tmpfs", Nature::Memory);
        (memory.free_bytes, memory.direct) = (1 << 30, false);
        *places.next().unwrap() = Ok(memory.clone());
        memory.filesystem = FileSystem { name: "btrfs".to_owned(), nature: Nature::Local };
        *places.next().unwrap() = Ok(memory);
        let mut below = file(1 << 30, 1 << 30);
        below.on_ublk = Some(vec!["ublkb7".to_owned()]);
        *places.next().unwrap() = Ok(below);
    });
    world("plexes that are gone, hang, or are no file", &|facts| {
        let mut places = facts.plexes.values_mut();
        *places.next().unwrap() = Err(Unseen::Missing);
        *places.next().unwrap() = Err(Unseen::Hangs);
        *places.next().unwrap() = Ok(place(Form::Directory, "ext4", Nature::Local));
    });
    world("plexes that may not be looked at, or not written", &|facts| {
        let mut places = facts.plexes.values_mut();
        *places.next().unwrap() = Err(Unseen::NotPermitted);
        let mut protected = file(1 << 30, 1 << 30);
        protected.read_only = true;
        *places.next().unwrap() = Ok(protected);
        *places.next().unwrap() =
            Ok(place(Form::File { bytes: 9, allocated: 1 << 31 }, "nfs", Nature::Remote));
    });
    worlds
}

#[test]
fn the_doctor_reads_like_this() {
    let good = doctor::judge(&good_facts());
    let answer = doctor::show(&good);
    assert_eq!(answer.code, 0, "{}", answer.text);
    let mut text = format!("# all is well\n{}exit code 0\n", answer.text);
    text += &format!("# the same with --json\n{}\n", serde_json::to_string_pretty(&answer.json).unwrap());
    Described::new().check("doctor", &answer.json);
    let mut seen: BTreeSet<(&str, Level)> =
        good.iter().map(|finding| (finding.id.id(), finding.level)).collect();
    let whole: BTreeSet<String> = good.iter().map(|finding| format!("{finding:?}")).collect();
    for (about, facts) in sick_worlds() {
        let findings = doctor::judge(&facts);
        for Finding { id, level, object, found, way_out } in &findings {
            assert_eq!(*level == Level::Ok, way_out.is_empty(), "{about}: {id:?} {found}: {way_out}");
            assert!(!object.is_empty() && !found.is_empty(), "{about}: {id:?}");
            seen.insert((id.id(), *level));
        }
        let answer = doctor::show(&findings);
        let worst = findings.iter().map(|finding| finding.level).max().unwrap();
        let code = match worst {
            Level::Ok | Level::Note => 0,
            Level::Warn => 80,
            Level::Fail => 81,
        };
        assert_eq!(answer.code, code, "{about}");
        assert_eq!(answer.json["level"], worst.word(), "{about}");
        Described::new().check("doctor", &answer.json);
        assert_eq!(answer.json["checks"].as_array().unwrap().len(), findings.len());
        assert_eq!(answer.text.lines().count(), findings.len() + 1, "{about}: a line each");
        // What is as on a good host is not told again here.
        let told: Vec<Finding> =
            findings.into_iter().filter(|finding| !whole.contains(&format!("{finding:?}"))).collect();
        text += &format!("# {about}\n{}exit code {code}\n", doctor::show(&told).text);
    }
    for check in Check::ALL {
        let id = check.id();
        assert!(seen.contains(&(id, Level::Ok)) || *check == Check::UblkFeatures, "{id} is never good");
        let sick = [Level::Note, Level::Warn, Level::Fail].iter().any(|level| seen.contains(&(id, *level)));
        assert!(sick, "{id} is always good");
    }
    golden("cli-doctor.txt", &text);
}

#[test]
fn the_doctor_looks_at_this_host_with_and_without_a_daemon() {
    let findings = |line: &str, daemon: Option<&Daemon>| {
        let (code, out, err) = run(&format!("{line} --json"), daemon.map(|daemon| daemon.socket.as_path()));
        assert!([0, 80, 81].contains(&code) && err.is_empty(), "{code}: {err}");
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        let checks = document["checks"].as_array().unwrap().clone();
        for check in &checks {
            let id = check["id"].as_str().unwrap();
            assert!(Check::ALL.iter().any(|known| known.id() == id), "{id}");
            assert_eq!(check["level"] == "ok", check.get("way_out").is_none(), "{check}");
        }
        let of = move |id: &str| checks.iter().find(|check| check["id"] == id).cloned().unwrap_or_default();
        (code, of)
    };
    let directory = tempfile::tempdir().unwrap();
    let (_, of) = findings(&format!("doctor --state {}", directory.path().display()), None);
    assert_eq!(of("daemon.runs")["level"], "warn");
    assert_eq!(of("kernel.release")["object"].as_str().unwrap().split(' ').next(), Some("Linux"));
    assert_eq!(of("state.directory")["object"].as_str(), directory.path().to_str());
    assert_eq!(of("state.below")["level"], "ok");
    let (_, of) = findings("doctor --state /nonexistent/state", None);
    assert_eq!(of("state.directory")["level"], "note", "before the first start");

    let (rows, listed) = listing();
    let mut rows_of_all = rows[2..8].to_vec();
    rows_of_all.insert(4, health("vol", Health::Degraded, Some("plex vol-03 is IOFAIL")));
    let daemon = Daemon::new(move |request| {
        let (rows, reply) = match request {
            Request::Overview(_) => (rows_of_all.clone(), overview(Health::Degraded, true)),
            _ => (rows[..2].to_vec(), listed.clone()),
        };
        let rows = rows.into_iter().map(|row| Send::message(ServerMessage::Row(row)));
        rows.chain([Send::message(ServerMessage::Done(reply))]).collect()
    });
    let (code, of) = findings("doctor", Some(&daemon));
    assert!(code >= 80, "there is no such device, and no such plex");
    assert_eq!(of("daemon.runs")["level"], "ok");
    assert_eq!(of("daemon.version")["level"], "ok");
    assert_eq!(of("volume.health")["found"], "plex vol-03 is IOFAIL");
    assert_eq!(of("links.lead")["object"], "/dev/cleave/default/vol");
    assert_eq!(of("plex.medium")["level"], "warn");
    assert_eq!(of("volume.data")["found"], "data are copied, as it has several plexes");
    let (_, of) = findings("doctor -g g", Some(&daemon));
    assert_eq!(of("daemon.volumes")["level"], "ok");
    let asked: Vec<String> =
        daemon.heard.lock().unwrap().iter().map(|request| serde_json::to_string(request).unwrap()).collect();
    assert!(
        !asked[0].contains("\"g\"") && asked[2].contains("\"g\"") && asked[3].contains("\"g\""),
        "{asked:?}"
    );
}

// --- archives -----------------------------------------------------------------------------------------------------

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| if at / 70_000 % 3 == 1 { 0 } else { (at * at / 7) as u8 }).collect()
}

#[test]
fn an_archive_is_a_plain_zstd_file_that_reads_back_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let described = Described::new();
    for length in [0, 1, 4096, 3_500_001] {
        let (source, file, back) = (path("source"), path(&format!("a{length}")), path(&format!("b{length}")));
        std::fs::write(&source, content(length)).unwrap();
        let (code, out, err) = run(&format!("archive {source} {file} --json"), None);
        assert_eq!((code, err.as_str()), (0, ""), "{err}");
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        described.check("archive", &document);
        assert_eq!(document["bytes"], length as u64);
        let hashes: Vec<u8> =
            content(length).chunks(1 << 20).flat_map(|chunk| *blake3::hash(chunk).as_bytes()).collect();
        assert_eq!(document["blake3"], cleave::base::checksum::blake3_hex(&hashes));
        assert_eq!(document["archive_bytes"], std::fs::metadata(&file).unwrap().len());
        let plain = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
        assert!(plain == content(length), "any zstd reads it, {length} bytes");
        let (code, out, _) = run(&format!("archive --check {file} {source} --json"), None);
        assert_eq!(code, 0);
        described.check("archive --check", &serde_json::from_str(&out).unwrap());
        let (code, out, _) = run(&format!("unarchive {file} {back} --json"), None);
        assert_eq!(code, 0);
        described.check("unarchive", &serde_json::from_str(&out).unwrap());
        assert!(std::fs::read(&back).unwrap() == content(length));
        let output = command(&format!("unarchive {file} -"), None).output().unwrap();
        assert!(output.status.success() && output.stdout == content(length));
        let mut piped = command(&format!("archive {source} - --json"), None);
        let output = piped.current_dir(directory.path()).output().unwrap();
        assert!(output.status.success() && output.stdout == std::fs::read(&file).unwrap());
        let beside: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((&beside["file"], &beside["blake3"]), (&serde_json::Value::Null, &document["blake3"]));
        assert!(!directory.path().join("-").exists());
        let (code, _, err) = run(&format!("archive {source} {file}"), None);
        assert_eq!(code, 12, "{err}");
        assert_eq!(run(&format!("unarchive {file} {back}"), None).0, 12);
    }
    assert!(
        std::fs::read_dir(directory.path()).unwrap().all(|entry| !entry.unwrap().path().ends_with("partial"))
    );
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (source, file, bad, back) = (path("source"), path("good"), path("bad"), path("back"));
    std::fs::write(&source, content(300_000)).unwrap();
    assert_eq!(run(&format!("archive {source} {file}"), None).0, 0);
    let good = std::fs::read(&file).unwrap();
    let at_each = (0..good.len()).step_by(good.len() / 23).chain(good.len() - 70..good.len());
    let flipped = at_each.map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        bytes
    });
    let cut =
        [0, 1, 63, 64, good.len() / 2, good.len() - 64, good.len() - 1].map(|length| good[..length].to_vec());
    let mut longer = good.clone();
    longer.splice(0..0, zstd::encode_all([7; 100].as_slice(), 1).unwrap());
    for bytes in flipped.chain(cut).chain([longer]) {
        std::fs::write(&bad, &bytes).unwrap();
        let (code, _, err) = run(&format!("unarchive {bad} {back}"), None);
        assert_eq!(code, 68, "{err}");
        assert_eq!(err.lines().count(), 1);
        assert!(!Path::new(&back).exists() && !Path::new(&format!("{back}.partial")).exists());
    }
    let mut other = content(300_000);
    other[299_999] ^= 1;
    std::fs::write(&source, &other).unwrap();
    let (code, _, err) = run(&format!("archive --check {file} {source}"), None);
    assert_eq!((code, err.contains("differs first at byte 299999")), (70, true), "{err}");
    std::fs::write(&source, &other[..9]).unwrap();
    assert_eq!(run(&format!("archive --check {file} {source}"), None).0, 70);
}

/// The frames of an archive, its trailer the last.
fn frames(mut archive: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !archive.is_empty() {
        let (frame, rest) =
            archive.split_at(zstd::zstd_safe::find_frame_compressed_size(archive).expect("a frame"));
        frames.push(frame.to_vec());
        archive = rest;
    }
    frames
}

#[test]
fn the_frames_of_an_archive_are_reused_and_refused_when_they_are_not_the_right_ones() {
    const CHUNK: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (source, file, bad, back) = (path("source"), path("good"), path("bad"), path("back"));
    // Text, zeroes, other text, zeroes twice, and a short chunk of zeroes.
    let mut bytes = vec![0; 5 * CHUNK + 1000];
    bytes[..CHUNK].copy_from_slice(&content(CHUNK));
    bytes[2 * CHUNK..3 * CHUNK].copy_from_slice(&content(CHUNK + 77)[77..]);
    std::fs::write(&source, &bytes).unwrap();
    for level in [1, 19] {
        let archive = path(&format!("level{level}"));
        assert_eq!(run(&format!("archive {source} {archive} --level {level}"), None).0, 0);
        assert_eq!(run(&format!("archive --check {archive} {source}"), None).0, 0);
        let good = frames(&std::fs::read(&archive).unwrap());
        assert_eq!(good.len(), 7, "a frame for each chunk, and the trailer");
        assert!(good[1] == good[3] && good[3] == good[4] && good[5] != good[4]);
    }
    assert_eq!(run(&format!("archive {source} {file}"), None).0, 0);
    assert!(zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap() == bytes, "an ordinary stream");
    assert_eq!(run(&format!("unarchive {file} {back}"), None).0, 0);
    assert!(std::fs::read(&back).unwrap() == bytes);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&back).unwrap());
    assert!(blocks * 512 < 3 * CHUNK as u64, "zeroes became holes");
    std::fs::remove_file(&back).unwrap();

    let good = frames(&std::fs::read(&file).unwrap());
    let order = |order: &[usize]| order.iter().flat_map(|at| good[*at].clone()).collect::<Vec<u8>>();
    let mut wrong = vec![
        order(&[2, 1, 0, 3, 4, 5, 6]),
        order(&[1, 0, 2, 3, 4, 5, 6]),
        order(&[0, 1, 3, 2, 4, 5, 6]),
        order(&[0, 1, 2, 3, 5, 4, 6]),
        order(&[0, 1, 2, 3, 4, 6]),
        order(&[0, 1, 2, 3, 5, 6]),
        order(&[0, 1, 2, 3, 4, 4, 5, 6]),
        order(&[0, 1, 2, 3, 4, 5, 5, 6]),
        order(&[0, 1, 2, 3, 4, 5, 6, 6]),
        order(&[6]),
    ];
    for (at, frame) in good.iter().enumerate() {
        for byte in (0..frame.len()).step_by(frame.len().div_ceil(9)) {
            let mut flipped = good.clone();
            flipped[at][byte] ^= 0x40;
            wrong.push(flipped.concat());
        }
        let mut cut = good.clone();
        cut[at].pop();
        wrong.push(cut.concat());
    }
    for (number, archive) in wrong.iter().enumerate() {
        std::fs::write(&bad, archive).unwrap();
        let (code, _, err) = run(&format!("unarchive {bad} {back}"), None);
        assert_eq!((code, err.lines().count()), (68, 1), "{number}: {err}");
        assert!(!Path::new(&back).exists());
        assert_eq!(run(&format!("archive --check {bad}"), None).0, 68, "{number}");
    }

    for at in [4 * CHUNK + 4097, 2 * CHUNK + 5, 5 * CHUNK + 999] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        std::fs::write(&source, &other).unwrap();
        let (code, _, err) = run(&format!("archive --check {file} {source}"), None);
        assert_eq!((code, err.contains(&format!("differs first at byte {at}"))), (70, true), "{err}");
    }
}

#[test]
fn an_archive_that_does_not_fit_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let source = path("source");
    // Nothing that compresses: the output of a hash without end.
    let mut bytes = vec![0; 3_000_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    std::fs::write(&source, bytes).unwrap();
    // A limit on the size of files stands for a full disk: the same error path, without needing one.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec {} archive {source} {}",
        env!("CARGO_BIN_EXE_cleave"),
        path("a")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be written (File too large)"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    for line in ["archive /nonexistent/v /tmp/never", "archive novolume /tmp/never", "mount novolume /mnt"] {
        refused(line, "device.missing", 11);
    }
}

#[test]
fn what_is_wrong_with_an_archive_is_told_apart() {
    const CHUNK: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (source, bad, back) = (path("source"), path("bad"), path("back"));
    let packed = |bytes: &[u8], name: &str| {
        std::fs::write(&source, bytes).unwrap();
        assert_eq!(run(&format!("archive {source} {}", path(name)), None).0, 0);
        frames(&std::fs::read(path(name)).unwrap())
    };
    let mut bytes = content(CHUNK + 1000);
    let good = packed(&bytes, "good");
    bytes[5] ^= 1;
    let other = packed(&bytes, "other");
    let [first, second, trailer] = good.as_slice() else { panic!("{} frames", good.len()) };
    for (frames, id) in [
        (vec![first, second], "archive.no-trailer"),
        (vec![first, trailer], "archive.too-short"),
        (vec![first, second, second, trailer], "archive.too-long"),
        (vec![second, first, trailer], "archive.damaged"),
        (vec![&other[0], second, trailer], "archive.checksum"),
    ] {
        std::fs::write(&bad, frames.into_iter().flatten().copied().collect::<Vec<u8>>()).unwrap();
        refused(&format!("unarchive {bad} {back}"), id, 68);
        refused(&format!("archive --check {bad}"), id, 68);
    }
    refused(&format!("archive --check {}", directory.path().display()), "archive.not-a-file", 68);
    refused(&format!("archive --check {} {source}", path("good")), "archive.differs", 70);
    std::fs::write(&source, b"short").unwrap();
    refused(&format!("archive --check {} {source}", path("good")), "archive.differs", 70);
    refused(&format!("archive {source} {}", path("good")), "file.exists", 12);
    refused(&format!("unarchive {} {source}", path("good")), "file.exists", 12);
    // A terminal is not filled with what no person can read: the controlling side of one is a terminal too.
    for line in [format!("unarchive {} - --json", path("good")), format!("archive {source} - --json")] {
        let terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx").unwrap();
        let output = command(&line, None).stdout(terminal).output().unwrap();
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(
            (error["error"]["id"].as_str(), output.status.code()),
            (Some("archive.terminal"), Some(1))
        );
    }
    // A reader that leaves early is no success, and nothing hangs.
    std::fs::write(&source, content(CHUNK * 9)).unwrap();
    let mut piped = command(&format!("archive {source} - --json"), None);
    let mut child = piped.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((error["error"]["id"].as_str(), output.status.code()), (Some("output.write"), Some(5)));
}

#[test]
fn a_source_that_gives_less_than_its_length_or_cannot_be_read_leaves_no_archive() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    // A file of sysfs says that it has a page, and gives a line.
    refused(&format!("archive /sys/kernel/uevent_seqnum {}", path("a")), "archive.length", 21);
    refused(&format!("archive /proc/self/mem {}", path("a")), "archive.read", 21);
    let socket = path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    refused(&format!("unarchive {socket} {}", path("a")), "device.open", 21);
    refused(&format!("archive {socket} {}", path("a")), "archive.not-a-device", 1);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
