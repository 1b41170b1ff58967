//! Real ublk devices: run as root where `/dev/ublk-control` exists, elsewhere skipped with a line that says so.
//! `scripts/guest run --payload target/debug/deps/ublk_guest-HASH:ublk_guest -- /cleave/payload/ublk_guest
//! --test-threads=1` boots a kernel that has it.

use cleave::base::{Affinity, ByteRange, Errno, Uuid};
use cleave::device::{BlockDevice, Buffer, Clock, Geometry, Host, OwnedBuffer, Request};
use cleave::export::ublk::{
    self, DataMode, DeviceMark, DeviceOptions, DeviceState, ExportFault, QueueHost, QueueSubmitter, Stopped,
    TryStop, UblkDevice,
};
use cleave::probe::{self, DeviceNumber, Holder};
use cleave::ring::{Allocation, Medium, Opening, RingDevice};
use futures_util::future::join_all;
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(20);

/// Names the part that this program plays when a test starts it as a server.
const PART: &str = "CLEAVE_TEST_PART";

fn ublk_is_here() -> bool {
    if !Path::new("/dev/ublk-control").exists() {
        let _ = Command::new("modprobe").arg("ublk_drv").status();
    }
    let here = Path::new("/dev/ublk-control").exists();
    if !here {
        eprintln!("skipped: this machine has no /dev/ublk-control");
    }
    here
}

fn zero_copy_is_here() -> bool {
    ublk::features().unwrap().zero_copy()
}

fn mark() -> DeviceMark {
    DeviceMark::of(Uuid::from_random([7; 16]))
}

fn options(length: u64, data: DataMode) -> DeviceOptions {
    DeviceOptions {
        id: None,
        name: "test".to_owned(),
        mark: mark(),
        length,
        logical_block_size: 512,
        physical_block_size: 4096,
        queues: 1,
        affinity: Affinity::Auto,
        depth: 32,
        max_request_bytes: 512 << 10,
        max_discard_bytes: 32 << 20,
        discard_granularity: 4096,
        memory_alignment: 512,
        read_only: false,
        data,
    }
}

/// The same request to every plex; a read to the first.
struct Mirror {
    plexes: Vec<RingDevice<QueueSubmitter>>,
}

impl Mirror {
    fn maker(media: Vec<Medium>) -> impl Fn(QueueHost) -> Self + Send + Sync + 'static {
        move |host| Self { plexes: media.iter().map(|medium| host.open(medium)).collect() }
    }
}

impl BlockDevice for Mirror {
    fn geometry(&self) -> Geometry {
        self.plexes[0].geometry()
    }
    async fn submit(&self, request: Request) -> Result<(), Errno> {
        if matches!(request, Request::Read { .. }) {
            return self.plexes[0].submit(request).await;
        }
        let all = join_all(self.plexes.iter().map(|plex| plex.submit(request.clone()))).await;
        all.into_iter().collect()
    }
}

fn media(directory: &Path, names: &[&str], length: u64) -> Vec<Medium> {
    let make = |name| Medium::create_file(&directory.join(name), length, Allocation::Sparse).unwrap();
    names.iter().map(make).collect()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new("timeout").arg("120").arg(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn direct(path: &Path) -> fs::File {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT).open(path).unwrap()
}

fn equal(one: &Path, other: &Path) {
    run("cmp", &[one.to_str().unwrap(), other.to_str().unwrap()]);
}

fn pattern(len: usize, seed: u64) -> OwnedBuffer {
    let bytes: Vec<u8> =
        (0..len as u64).map(|i| (i.wrapping_mul(131) ^ seed.wrapping_mul(7919)) as u8 | 1).collect();
    OwnedBuffer::from_slice(&bytes)
}

/// Write page-aligned memory past the page cache.
fn write_direct(file: &fs::File, offset: u64, buffer: &OwnedBuffer) {
    buffer.with_bytes(|bytes| file.write_all_at(bytes, offset)).unwrap();
}

fn no_device_is_left() {
    assert_eq!(ublk::existing().unwrap(), []);
}

#[test]
fn a_file_system_lives_on_a_copied_device_and_the_plex_is_its_plain_image() {
    if !ublk_is_here() {
        return;
    }
    file_system_on(DataMode::Copy, &["plex"]);
}

#[test]
fn a_file_system_lives_on_two_plexes_written_from_the_same_pages() {
    if !ublk_is_here() {
        return;
    }
    if zero_copy_is_here() {
        return file_system_on(DataMode::Zero, &["one", "two"]);
    }
    let directory = TempDir::new().unwrap();
    let media = media(directory.path(), &["one"], 16 * MIB);
    let error = ublk::add(&options(16 * MIB, DataMode::Zero), |_| (), Mirror::maker(media)).unwrap_err();
    assert_eq!((error.refusal().id.as_str(), &error.fault), ("ublk.no-zero-copy", &ExportFault::NoZeroCopy));
    assert!(error.to_string().contains("use data=copy"), "{error}");
    no_device_is_left();
}

fn file_system_on(data: DataMode, names: &[&str]) {
    let directory = TempDir::new().unwrap();
    let length = 64 * MIB;
    let media = media(directory.path(), names, length);
    let device = ublk::add(&options(length, data), |_| (), Mirror::maker(media)).unwrap();
    assert_eq!(device.data(), data);
    assert!(device.stable_writes() && device.is_serving());
    let queue = PathBuf::from(format!("/sys/block/ublkb{}/queue", device.id()));
    let shows = |name: &str| fs::read_to_string(queue.join(name)).unwrap().trim().to_owned();
    assert_eq!(
        (shows("stable_writes"), shows("write_cache"), shows("fua")),
        ("1".into(), "write back".into(), "1".into())
    );
    assert_eq!(
        (shows("discard_max_bytes"), shows("max_hw_sectors_kb")),
        ((32 << 20).to_string(), "512".into())
    );
    let node = device.path();
    let node = node.to_str().unwrap();
    let listed = ublk::existing().unwrap();
    assert_eq!((listed.len(), listed[0].id, listed[0].state), (1, device.id(), DeviceState::Live));
    assert_eq!((listed[0].length, listed[0].pid), (length, std::process::id().cast_signed()));

    run("mkfs.ext4", &["-q", "-F", node]);
    let mount = directory.path().join("mount");
    fs::create_dir(&mount).unwrap();
    run("mount", &["-t", "ext4", node, mount.to_str().unwrap()]);
    for index in 0..20 {
        let mut file = fs::File::create(mount.join(format!("file{index}"))).unwrap();
        pattern(300_000, index).with_bytes(|bytes| file.write_all(bytes)).unwrap();
        file.sync_all().unwrap();
    }
    let number = DeviceNumber::of_node(&device.path()).unwrap();
    let held = probe::holders(number);
    assert!(matches!(&held[..], [Holder::Mount(found)] if found.point == mount), "{held:?}");
    let disk = Some(vec![format!("ublkb{}", device.id())]);
    assert_eq!(probe::ublk_below(&mount.join("file1")).unwrap(), disk);
    assert_eq!(probe::ublk_below(directory.path()).unwrap(), None);
    fs::remove_file(mount.join("file3")).unwrap();
    run("fstrim", &[mount.to_str().unwrap()]);
    run("umount", &[mount.to_str().unwrap()]);
    run("fsck.ext4", &["-f", "-n", node]);
    let opened = fs::File::open(node).unwrap();
    let held = probe::holders(number);
    let me = |holder: &Holder| matches!(holder, Holder::Process { pid, writes: false, .. } if *pid == std::process::id());
    assert!(held.len() == 1 && me(&held[0]), "{held:?}");
    drop(opened);
    assert_eq!(probe::holders(number), []);
    assert!(device.is_serving());
    device.stop(LIMIT).unwrap();
    no_device_is_left();
    assert!(!Path::new(node).exists());

    for name in names {
        let plex = directory.path().join(name);
        run("fsck.ext4", &["-f", "-n", plex.to_str().unwrap()]);
        equal(&plex, &directory.path().join(names[0]));
    }
}

#[test]
fn discards_zeroes_and_forced_writes_arrive() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let media = media(directory.path(), &["plex"], 64 * MIB);
    let device = ublk::add(&options(64 * MIB, DataMode::Copy), |_| (), Mirror::maker(media)).unwrap();
    let node = device.path();
    let file = direct(&node);
    for index in 0..64 {
        write_direct(&file, index * MIB, &pattern(1 << 20, index));
    }
    file.sync_all().unwrap();
    run("blkdiscard", &["-o", "4MiB", "-l", "40MiB", node.to_str().unwrap()]);
    run("blkdiscard", &["-z", "-o", "50MiB", "-l", "4MiB", node.to_str().unwrap()]);
    let synced =
        fs::OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(&node).unwrap();
    write_direct(&synced, 60 * MIB, &pattern(8192, 99));
    drop((file, synced));
    let image = fs::read(directory.path().join("plex")).unwrap();
    for index in 0..64u64 {
        let piece = &image[(index * MIB) as usize..((index + 1) * MIB) as usize];
        match index {
            4..=43 | 50..=53 => assert!(piece.iter().all(|byte| *byte == 0), "MiB {index}"),
            60 => assert!(piece[..8192] == pattern(8192, 99).to_vec()),
            _ => assert!(piece == pattern(1 << 20, index).to_vec(), "MiB {index}"),
        }
    }
    device.stop(LIMIT).unwrap();
    no_device_is_left();
}

/// Answers writes at once and keeps their memory, as a plex that is too slow to be waited for does.
struct Keeper {
    plex: RingDevice<QueueSubmitter>,
    kept: Arc<Mutex<Vec<(u64, OwnedBuffer)>>>,
}

impl BlockDevice for Keeper {
    fn geometry(&self) -> Geometry {
        self.plex.geometry()
    }
    async fn submit(&self, request: Request) -> Result<(), Errno> {
        if let Request::Read { offset, buffer: Buffer::Owned(memory) }
        | Request::Write { offset, buffer: Buffer::Owned(memory), .. } = &request
            && memory.len() == 4096
        {
            self.kept.lock().unwrap().push((*offset, memory.clone()));
        }
        self.plex.submit(request).await
    }
}

#[test]
fn memory_that_a_slow_plex_still_reads_is_not_used_again() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let medium = media(directory.path(), &["plex"], 16 * MIB).remove(0);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeper = Arc::clone(&kept);
    // One tag, so that each request would use the memory of the one before.
    let one = DeviceOptions { depth: 1, ..options(16 * MIB, DataMode::Copy) };
    let device = ublk::add(
        &one,
        |_| (),
        move |host: QueueHost| Keeper { plex: host.open(&medium), kept: Arc::clone(&keeper) },
    );
    let device = device.unwrap();
    let file = direct(&device.path());
    kept.lock().unwrap().clear();
    for index in 0..100u64 {
        write_direct(&file, index * 4096, &pattern(4096, index));
    }
    for index in 0..100u64 {
        // A read's bytes reach the reader though its memory is kept.
        let memory = OwnedBuffer::zeroed(4096);
        let mut bytes = vec![0; 8192];
        let start = bytes.as_ptr().align_offset(4096);
        file.read_exact_at(&mut bytes[start..start + 4096], index * 4096).unwrap();
        memory.fill_from(0, &bytes[start..start + 4096]);
        assert!(memory.to_vec() == pattern(4096, index).to_vec(), "block {index}");
    }
    for (offset, memory) in kept.lock().unwrap().iter() {
        assert!(
            memory.to_vec() == pattern(4096, offset / 4096).to_vec(),
            "the memory of block {} changed",
            offset / 4096
        );
    }
    assert_eq!(kept.lock().unwrap().len(), 200);
    drop(file);
    device.stop(LIMIT).unwrap();
    no_device_is_left();
}

/// Never answers a write.
struct Hanging {
    plex: RingDevice<QueueSubmitter>,
}

impl BlockDevice for Hanging {
    fn geometry(&self) -> Geometry {
        self.plex.geometry()
    }
    async fn submit(&self, request: Request) -> Result<(), Errno> {
        if matches!(request, Request::Write { .. }) {
            std::future::pending::<()>().await;
        }
        self.plex.submit(request).await
    }
}

/// Waits a while with each write, on the queue's own clock.
struct Slow {
    plex: RingDevice<QueueSubmitter>,
    host: QueueHost,
    in_hand: Rc<RefCell<u32>>,
}

impl BlockDevice for Slow {
    fn geometry(&self) -> Geometry {
        self.plex.geometry()
    }
    async fn submit(&self, request: Request) -> Result<(), Errno> {
        *self.in_hand.borrow_mut() += 1;
        if matches!(request, Request::Write { .. }) {
            self.host.clock().sleep(Duration::from_millis(300)).await;
        }
        let outcome = self.plex.submit(request).await;
        *self.in_hand.borrow_mut() -= 1;
        outcome
    }
}

#[test]
fn stopping_finishes_what_is_in_hand() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let medium = media(directory.path(), &["plex"], 16 * MIB).remove(0);
    let make = move |host: QueueHost| Slow { plex: host.open(&medium), host, in_hand: Rc::default() };
    let device = ublk::add(&options(16 * MIB, DataMode::Copy), |_| (), make).unwrap();
    let queue = device.queues().next().unwrap();
    assert!(queue.block_on(|host| async move { host.clock().now().0 > 0 }).unwrap());
    let file = direct(&device.path());
    let writers: Vec<_> = (0..8u64)
        .map(|index| {
            let file = file.try_clone().unwrap();
            std::thread::spawn(move || write_direct(&file, index * 4096, &pattern(4096, index)))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(device.stop(LIMIT), Ok(Stopped::Drained));
    for writer in writers {
        writer.join().expect("a write in hand is finished, not failed");
    }
    drop(file);
    no_device_is_left();
    let image = fs::read(directory.path().join("plex")).unwrap();
    for index in 0..8 {
        assert!(image[index * 4096..(index + 1) * 4096] == pattern(4096, index as u64).to_vec());
    }
}

#[test]
fn a_device_that_somebody_has_open_is_not_stopped_by_a_try() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let medium = media(directory.path(), &["plex"], 16 * MIB);
    let device = ublk::add(&options(16 * MIB, DataMode::Copy), |_| (), Mirror::maker(medium)).unwrap();
    let (number, path) = (device.id(), device.path());
    let file = direct(&path);
    let tried = ublk::try_stop(number, LIMIT).unwrap();
    let expected = if ublk::features().unwrap().safe_stop() { TryStop::Open } else { TryStop::Unsupported };
    assert_eq!(tried, expected);
    write_direct(&file, 4096, &pattern(4096, 1));
    drop(file);
    if expected == TryStop::Open {
        assert_eq!(ublk::try_stop(number, LIMIT), Ok(TryStop::Stopped));
        assert!(fs::File::open(&path).is_err(), "what is stopped is not opened any more");
    }
    assert_eq!(device.stop(LIMIT), Ok(Stopped::Drained));
    assert_eq!(ublk::try_stop(4321, LIMIT).is_ok(), expected == TryStop::Unsupported);
    no_device_is_left();
    let image = fs::read(directory.path().join("plex")).unwrap();
    assert!(image[4096..8192] == pattern(4096, 1).to_vec());
}

/// This program as a server in a process of its own.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Server {
    fn start(part: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "a_part_of_another_test", "--nocapture", "--test-threads=1"])
            .env(PART, part);
        for (name, value) in environment {
            command.env(name, value);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The words of the next line that begins with `word`.
    fn await_line(&mut self, word: &str) -> Vec<String> {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the server ended before it said {word}");
            // The test runner's own words may stand in front.
            if let Some(at) = line.find(word) {
                return line[at..].split_whitespace().skip(1).map(str::to_owned).collect();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Not a test of its own: what the servers of other tests run.
#[test]
fn a_part_of_another_test() {
    let Ok(part) = std::env::var(PART) else { return };
    let directory = PathBuf::from(std::env::var("CLEAVE_TEST_DIRECTORY").unwrap());
    let patient = Opening::WRITE.waiting(LIMIT);
    let data = match std::env::var("CLEAVE_TEST_DATA").as_deref() {
        Ok("zero") => DataMode::Zero,
        _ => DataMode::Copy,
    };
    let open = |name: &str| Medium::open(&directory.join(name), patient).unwrap();
    match part.as_str() {
        "mirror" => {
            let media = vec![open("one"), open("two")];
            let length = media[0].length();
            let device = ublk::add(&options(length, data), |_| (), Mirror::maker(media)).unwrap();
            serve(&device);
        }
        "recover" => {
            let media = vec![open("one"), open("two")];
            let id = std::env::var("CLEAVE_TEST_ID").unwrap().parse().unwrap();
            let device = ublk::recover(id, LIMIT, Affinity::Auto, Mirror::maker(media)).unwrap();
            assert_eq!(device.data(), data, "the mode is the device's");
            serve(&device);
        }
        "hang" => {
            let medium = open("one");
            let length = medium.length();
            let make = move |host: QueueHost| Hanging { plex: host.open(&medium) };
            let device = ublk::add(&options(length, data), |_| (), make).unwrap();
            println!("serving {}", device.id());
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).unwrap();
            let start = Instant::now();
            assert_eq!(device.stop(Duration::from_secs(2)), Ok(Stopped::CutOff));
            println!("stopped {}", start.elapsed().as_millis());
        }
        "starve" => starve(&open("one")),
        other => panic!("no part is called {other}"),
    }
}

fn serve(device: &UblkDevice) {
    println!("serving {}", device.id());
    while device.is_serving() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Add a device with ever more descriptors allowed, so that each step that needs one fails once.
fn starve(medium: &Medium) {
    let used = fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
    let mut served = 0;
    for spare in 0..24 {
        let limit = libc::rlimit { rlim_cur: used + spare, rlim_max: 4096 };
        // SAFETY: plain numbers.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        let start = Instant::now();
        let outcome =
            ublk::add(&options(medium.length(), DataMode::Copy), |_| (), Mirror::maker(vec![medium.clone()]));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(45), "{spare} spare descriptors: {took:?}");
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        match outcome {
            Ok(device) => {
                served += 1;
                device.stop(LIMIT).unwrap();
            }
            Err(error) => println!("{spare} spare: {error} ({took:?})"),
        }
        let left: Vec<u32> = ublk::existing().unwrap().iter().map(|device| device.id).collect();
        for id in left {
            // Where even the taking back had no descriptor: a forced stop ends it.
            ublk::delete(id, LIMIT).unwrap();
        }
    }
    println!("starved {served}");
}

#[test]
fn set_up_that_fails_at_any_step_neither_hangs_nor_leaves_a_device() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    drop(media(directory.path(), &["one"], 16 * MIB));
    let mut server =
        Server::start("starve", &[("CLEAVE_TEST_DIRECTORY", directory.path().to_str().unwrap())]);
    let served: u32 = server.await_line("starved")[0].parse().unwrap();
    assert!((1..24).contains(&served), "{served} of 24 were served: some must fail, some not");
    assert!(server.child.wait().unwrap().success());
    no_device_is_left();
}

#[test]
fn stopping_is_bounded_while_a_request_hangs() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    drop(media(directory.path(), &["one"], 16 * MIB));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "a_part_of_another_test", "--nocapture", "--test-threads=1"])
        .envs([(PART, "hang"), ("CLEAVE_TEST_DIRECTORY", directory.path().to_str().unwrap())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut server = Server { child, lines };
    let id: u32 = server.await_line("serving")[0].parse().unwrap();
    let writer = std::thread::spawn(move || {
        let file = direct(Path::new(&format!("/dev/ublkb{id}")));
        pattern(4096, 1).with_bytes(|bytes| file.write_all_at(bytes, 0)).is_err()
    });
    std::thread::sleep(Duration::from_millis(300));
    server.child.stdin.as_mut().unwrap().write_all(b"stop\n").unwrap();
    let took: u64 = server.await_line("stopped")[0].parse().unwrap();
    assert!((2000..6000).contains(&took), "{took} ms");
    assert!(writer.join().unwrap(), "the write that hung fails");
    assert!(server.child.wait().unwrap().success());
    no_device_is_left();
}

#[test]
fn a_killed_server_is_succeeded_and_nothing_is_lost() {
    if !ublk_is_here() {
        return;
    }
    let mut modes = vec!["copy"];
    if zero_copy_is_here() {
        modes.push("zero");
    }
    for data in modes {
        killed_and_succeeded(data);
    }
}

fn killed_and_succeeded(data: &str) {
    let directory = TempDir::new().unwrap();
    drop(media(directory.path(), &["one", "two"], 32 * MIB));
    let place = directory.path().to_str().unwrap();
    let environment = [("CLEAVE_TEST_DIRECTORY", place), ("CLEAVE_TEST_DATA", data)];
    let mut server = Server::start("mirror", &environment);
    let id = server.await_line("serving")[0].clone();
    let number: u32 = id.parse().unwrap();

    // While it is served nobody else gets it, and it stays served.
    let error = ublk::recover(number, Duration::from_millis(50), Affinity::Auto, Mirror::maker(Vec::new()))
        .unwrap_err();
    assert_eq!(error.refusal().id, "ublk.served");
    assert!(
        matches!(error.fault, ExportFault::Served { pid } if pid == server.child.id().cast_signed()),
        "{error}"
    );

    let node = format!("--filename=/dev/ublkb{id}");
    let fio = Command::new("timeout")
        .args(["120", "fio", "--name=verify", &node, "--allow_file_create=0", "--rw=randwrite", "--bs=4k"])
        .args([
            "--direct=1",
            "--ioengine=libaio",
            "--iodepth=16",
            "--size=32m",
            "--io_size=64m",
            "--randrepeat=0",
        ])
        .args(["--verify=crc32c", "--verify_fatal=1", "--verify_dump=0", "--do_verify=1", "--rate_iops=1500"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let environment = [environment[0], environment[1], ("CLEAVE_TEST_ID", &id)];
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        server.kill();
        server = Server::start("recover", &environment);
        assert_eq!(server.await_line("serving")[0], id);
    }
    let output = fio.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{data}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    server.kill();
    let quiesced = Instant::now() + LIMIT;
    while ublk::existing().unwrap()[0].state != DeviceState::Quiesced {
        assert!(Instant::now() < quiesced, "the device waits for a successor");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Its server is gone, and perhaps forgotten by the kernel: whose it is can be told all the same.
    assert_eq!(ublk::existing().unwrap()[0].mark, Some(mark()));
    ublk::delete(number, LIMIT).unwrap();
    no_device_is_left();
    let range = ByteRange::new(0, 32 * MIB);
    assert_eq!(fs::metadata(directory.path().join("one")).unwrap().len(), range.length);
    equal(&directory.path().join("one"), &directory.path().join("two"));
}

#[test]
fn what_is_no_device_is_refused() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let medium = media(directory.path(), &["plex"], 16 * MIB);
    let maker = || Mirror::maker(medium.clone());
    let odd = DeviceOptions { length: 16 * MIB + 100, ..options(16 * MIB, DataMode::Copy) };
    let error = ublk::add(&odd, |_| (), maker()).unwrap_err();
    assert!(matches!(error.fault, ExportFault::BadOption { .. }));
    assert_eq!(error.refusal().id, "ublk.bad-option");
    let error = ublk::recover(4321, Duration::ZERO, Affinity::Auto, maker()).unwrap_err();
    assert_eq!(error.to_string(), "/dev/ublkb4321: there is no such ublk device; start the volume again");
    assert_eq!(error.refusal().id, "ublk.no-such-device");
    assert_eq!(ublk::delete(4321, LIMIT).unwrap_err().fault, ExportFault::NoSuchDevice);

    // An id that is taken is refused, and whoever has it keeps it.
    let device =
        ublk::add(&DeviceOptions { id: Some(5), ..options(16 * MIB, DataMode::Copy) }, |_| (), maker())
            .unwrap();
    assert_eq!(device.id(), 5);
    let again = DeviceOptions { id: Some(5), ..options(16 * MIB, DataMode::Copy) };
    let error = ublk::add(&again, |_| (), maker()).unwrap_err();
    assert_eq!((error.refusal().id.as_str(), &error.fault), ("ublk.id-taken", &ExportFault::IdTaken));
    assert!(device.is_serving());
    write_direct(&direct(&device.path()), 0, &pattern(4096, 1));

    // Deleted by another hand: the threads notice.
    ublk::delete(5, LIMIT).unwrap();
    let deadline = Instant::now() + LIMIT;
    while device.is_serving() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(device.stop(LIMIT), Ok(Stopped::Drained), "what is gone already is stopped");
    no_device_is_left();
}

#[test]
fn a_device_grows_and_shrinks_where_the_kernel_can() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let media = media(directory.path(), &["plex"], 32 * MIB);
    let device = ublk::add(&options(16 * MIB, DataMode::Copy), |_| (), Mirror::maker(media)).unwrap();
    let length = || ublk::existing().unwrap()[0].length;
    let grown = device.resize(32 * MIB);
    if ublk::features().unwrap().resize() {
        assert_eq!((grown, length()), (Ok(()), 32 * MIB));
        write_direct(&direct(&device.path()), 32 * MIB - 4096, &pattern(4096, 1));
        device.resize(8 * MIB).unwrap();
        assert_eq!(length(), 8 * MIB);
        assert!(device.resize(MIB + 100).is_err());
    } else {
        assert_eq!(grown.unwrap_err().errno, Some(Errno::UNSUPPORTED));
        assert_eq!(length(), 16 * MIB);
    }
    device.stop(LIMIT).unwrap();
    no_device_is_left();
}

#[test]
fn the_drivers_limit_of_devices_is_told() {
    const MOST: &str = "/sys/module/ublk_drv/parameters/ublks_max";
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let media = media(directory.path(), &["plex"], 16 * MIB);
    let first = ublk::add(&options(16 * MIB, DataMode::Copy), |_| (), Mirror::maker(media.clone())).unwrap();
    let before = fs::read_to_string(MOST).unwrap();
    fs::write(MOST, "1").unwrap();
    let second = ublk::add(&options(16 * MIB, DataMode::Copy), |_| (), Mirror::maker(media));
    fs::write(MOST, before.trim()).unwrap();
    match second {
        // Newer drivers limit only the devices of unprivileged users.
        Ok(device) => drop(device.stop(LIMIT).unwrap()),
        Err(error) => {
            assert_eq!(error.fault, ExportFault::TooManyDevices { limit: Some(1) });
            assert_eq!(error.refusal().id, "ublk.too-many-devices");
            assert!(error.to_string().contains("at most 1 devices; stop a volume"), "{error}");
        }
    }
    first.stop(LIMIT).unwrap();
    no_device_is_left();
}

#[test]
fn a_read_only_device_refuses_writes() {
    if !ublk_is_here() {
        return;
    }
    let directory = TempDir::new().unwrap();
    drop(media(directory.path(), &["plex"], 16 * MIB));
    let plex = Medium::open(&directory.path().join("plex"), Opening::READ).unwrap();
    let read_only = DeviceOptions { read_only: true, ..options(16 * MIB, DataMode::Copy) };
    let device = ublk::add(&read_only, |_| (), Mirror::maker(vec![plex])).unwrap();
    // Root may open it for writing; the write is what the kernel refuses.
    let forced = fs::OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).open(device.path());
    assert!(forced.and_then(|file| file.write_all_at(&[1; 512], 0)).is_err());
    let mut first = [1; 512];
    fs::File::open(device.path()).unwrap().read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [0; 512]);
    device.stop(LIMIT).unwrap();
    no_device_is_left();
}
