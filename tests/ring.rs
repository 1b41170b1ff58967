//! Ring threads, media and ring devices on real files of the machine that runs the test.

use cleave::base::{ByteRange, Errno};
use cleave::device::{
    BlockDevice, Buffer, Clock, Direction, Durability, Host, OwnedBuffer, RegisteredBuffer, Request, Space,
};
use cleave::ring::{Access, Allocation, Fault, MediaKind, Medium, Opening, RingThread};
use futures_util::future::join_all;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A directory on a real file system: below the build directory, because /tmp may be memory.
fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn file_of(directory: &TempDir, name: &str, length: u64, allocation: Allocation) -> (PathBuf, Medium) {
    let path = directory.path().join(name);
    let medium = Medium::create_file(&path, length, allocation).unwrap();
    (path, medium)
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed) | 1).collect()
}

fn write(offset: u64, bytes: &[u8]) -> Request {
    let buffer = Buffer::Owned(OwnedBuffer::from_slice(bytes));
    Request::Write { offset, buffer, durability: Durability::Volatile }
}

async fn read(device: &impl BlockDevice, offset: u64, len: usize) -> Vec<u8> {
    let buffer = OwnedBuffer::zeroed(len);
    device.submit(Request::Read { offset, buffer: buffer.clone().into() }).await.unwrap();
    buffer.to_vec()
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn what_is_written_reads_back_and_stands_in_the_file() {
    let directory = scratch();
    let (path, medium) = file_of(&directory, "plex", 4 * MIB, Allocation::Full);
    let thread = RingThread::spawn("test-ring", 64).unwrap();
    let bytes = pattern(256 << 10, 7);
    let expected = bytes.clone();
    let got = thread
        .block_on(move |host| async move {
            let device = host.open(&medium);
            assert_eq!(device.geometry().length, 4 * MIB);
            device.submit(write(MIB, &bytes)).await.unwrap();
            device.submit(Request::Flush).await.unwrap();
            let durable = Buffer::Owned(OwnedBuffer::from_slice(&bytes[..4096]));
            let request = Request::Write { offset: 0, buffer: durable, durability: Durability::Durable };
            device.submit(request).await.unwrap();
            read(&device, MIB, 256 << 10).await
        })
        .unwrap();
    thread.join();
    assert!(got == expected);
    let mut found = vec![0; 256 << 10];
    let file = fs::File::open(&path).unwrap();
    file.read_exact_at(&mut found, MIB).unwrap();
    assert!(found == expected);
    file.read_exact_at(&mut found[..4096], 0).unwrap();
    assert!(found[..4096] == expected[..4096]);
}

#[test]
fn zeroes_and_discards_read_as_zero_and_a_full_file_keeps_its_space() {
    let directory = scratch();
    for (name, allocation) in [("full", Allocation::Full), ("sparse", Allocation::Sparse)] {
        let (path, medium) = file_of(&directory, name, 8 * MIB, allocation);
        assert_eq!(medium.is_sparse(), allocation == Allocation::Sparse);
        let thread = RingThread::spawn("test-ring", 64).unwrap();
        let before = thread
            .block_on({
                let (medium, path) = (medium.clone(), path.clone());
                move |host| async move {
                    let device = host.open(&medium);
                    device.submit(write(0, &pattern(8 << 20, 3))).await.unwrap();
                    device.submit(Request::Flush).await.unwrap();
                    allocated(&path)
                }
            })
            .unwrap();
        thread
            .block_on(move |host| async move {
                let device = host.open(&medium);
                assert!(device.geometry().discard_zeroes);
                device.submit(Request::Discard { range: ByteRange::new(MIB, 4 * MIB) }).await.unwrap();
                let request = Request::WriteZeroes {
                    range: ByteRange::new(6 * MIB, MIB),
                    space: Space::Keep,
                    durability: Durability::Durable,
                };
                device.submit(request).await.unwrap();
                let all = read(&device, 0, 8 << 20).await;
                let old = pattern(8 << 20, 3);
                for (index, piece) in all.chunks(1 << 20).enumerate() {
                    let start = index << 20;
                    match index {
                        1..=4 | 6 => assert!(piece.iter().all(|byte| *byte == 0), "MiB {index}"),
                        _ => assert!(piece == &old[start..start + (1 << 20)], "MiB {index}"),
                    }
                }
                device.submit(Request::Flush).await.unwrap();
            })
            .unwrap();
        thread.join();
        // The file system may add a block of its own for the extents that this makes.
        let after = allocated(&path);
        match allocation {
            Allocation::Full => assert!(after >= before, "{after} of {before}"),
            Allocation::Sparse => assert!(after <= before - 4 * MIB + (64 << 10), "{after} of {before}"),
        }
    }
}

#[test]
fn holes_are_found() {
    let directory = scratch();
    let (_, medium) = file_of(&directory, "holes", 64 * MIB, Allocation::Sparse);
    let thread = RingThread::spawn("test-ring", 64).unwrap();
    let found = thread
        .block_on(move |host| async move {
            let device = host.open(&medium);
            device.submit(write(16 * MIB, &pattern(1 << 20, 1))).await.unwrap();
            device.submit(write(40 * MIB, &pattern(4096, 1))).await.unwrap();
            let mut found = Vec::new();
            let mut at = 0;
            while let Some(data) = device.next_data(ByteRange::new(at, 64 * MIB - at)).await.unwrap() {
                found.push((data.offset, data.length));
                at = data.end();
            }
            assert_eq!(device.next_data(ByteRange::new(0, 16 * MIB)).await, Ok(None));
            assert_eq!(
                device.next_data(ByteRange::new(17 * MIB - 4096, MIB)).await,
                Ok(Some(ByteRange::new(17 * MIB - 4096, 4096)))
            );
            found
        })
        .unwrap();
    assert_eq!(found, [(16 * MIB, MIB), (40 * MIB, 4096)]);
}

#[test]
fn more_requests_than_the_ring_has_entries_all_complete() {
    let directory = scratch();
    let (path, medium) = file_of(&directory, "many", 8 * MIB, Allocation::Full);
    let thread = RingThread::spawn("test-ring", 4).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&done);
    thread
        .block_on(move |host| async move {
            let (all, mut waiting) = tokio::sync::mpsc::unbounded_channel::<()>();
            for index in 0..2048u64 {
                let (device, all, counted) = (host.open(&medium), all.clone(), Arc::clone(&counted));
                host.spawn(async move {
                    device.submit(write(index * 4096, &pattern(4096, index as u8))).await.unwrap();
                    counted.fetch_add(1, Ordering::SeqCst);
                    drop(all);
                });
            }
            drop(all);
            assert!(waiting.recv().await.is_none());
        })
        .unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 2048);
    let bytes = fs::read(path).unwrap();
    for (index, block) in bytes.chunks(4096).enumerate() {
        assert!(block == pattern(4096, index as u8), "block {index}");
    }
}

#[test]
fn registered_buffers_carry_the_same_bytes_and_are_used_again() {
    let directory = scratch();
    let (path, medium) = file_of(&directory, "fixed", 8 * MIB, Allocation::Full);
    let thread = RingThread::spawn("test-ring", 64).unwrap();
    thread
        .block_on(move |host| async move {
            use cleave::ring::Submitter;
            let device = host.open(&medium);
            let buffers = host.buffers(8, 512 << 10);
            for (index, buffer) in buffers.iter().enumerate() {
                assert_eq!(host.submitter().registered(buffer), Some(index as u16));
                buffer.fill_from(0, &pattern(512 << 10, index as u8));
            }
            for (index, buffer) in buffers.iter().enumerate() {
                // A slice in the middle is found in the table as well.
                for half in [0, 256 << 10] {
                    let part = Buffer::Owned(buffer.slice(half, 256 << 10));
                    let offset = (index * (512 << 10) + half) as u64;
                    let request = Request::Write { offset, buffer: part, durability: Durability::Volatile };
                    device.submit(request).await.unwrap();
                }
            }
            let first = buffers[0].as_ptr();
            drop(buffers);
            let again = host.buffers(1, 512 << 10);
            assert_eq!(again[0].as_ptr(), first);
            device
                .submit(Request::Read { offset: 512 << 10, buffer: again[0].clone().into() })
                .await
                .unwrap();
            assert!(again[0].to_vec() == pattern(512 << 10, 1));
            // More than the table holds: the rest are plain, and work.
            let many = host.buffers(80, 4096);
            assert_eq!(host.submitter().registered(&many[79]), None);
            device.submit(Request::Read { offset: 0, buffer: many[79].clone().into() }).await.unwrap();
            assert!(many[79].to_vec() == pattern(512 << 10, 0)[..4096]);
        })
        .unwrap();
    let bytes = fs::read(path).unwrap();
    for index in 0..8 {
        assert!(bytes[index << 19..(index + 1) << 19] == pattern(512 << 10, index as u8));
    }
}

#[test]
fn a_request_buffer_of_ublk_is_refused_on_another_ring() {
    let directory = scratch();
    let (_, medium) = file_of(&directory, "foreign", MIB, Allocation::Full);
    let thread = RingThread::spawn("test-ring", 8).unwrap();
    let outcome = thread
        .block_on(move |host| async move {
            let _own = host.buffers(1, 4096);
            let part = RegisteredBuffer {
                slot: 0,
                offset: 0,
                len: 4096,
                direction: Direction::Drain,
                in_table: true,
            };
            let request = Request::Write {
                offset: 0,
                buffer: Buffer::Registered(part),
                durability: Durability::Volatile,
            };
            host.open(&medium).submit(request).await
        })
        .unwrap();
    assert_eq!(outcome, Err(Errno::INVALID));
}

#[test]
fn a_dropped_request_keeps_its_memory_until_it_completed() {
    let directory = scratch();
    let (path, medium) = file_of(&directory, "dropped", 16 * MIB, Allocation::Full);
    let thread = RingThread::spawn("test-ring", 64).unwrap();
    thread
        .block_on(move |host| async move {
            let device = host.open(&medium);
            let buffer = OwnedBuffer::from_slice(&pattern(16 << 20, 9));
            {
                let request = Request::Write {
                    offset: 0,
                    buffer: buffer.clone().into(),
                    durability: Durability::Durable,
                };
                let mut future = std::pin::pin!(device.submit(request));
                let polled =
                    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
                assert!(polled.is_pending());
            }
            assert!(!buffer.is_unshared(), "the operation in flight holds the memory");
            let clock = host.clock().clone();
            for _ in 0..1000 {
                if buffer.is_unshared() {
                    return;
                }
                clock.sleep(Duration::from_millis(10)).await;
            }
            panic!("the operation never let go of its memory");
        })
        .unwrap();
    thread.join();
    assert!(fs::read(path).unwrap() == pattern(16 << 20, 9));
}

#[test]
fn another_thread_wakes_a_sleeping_ring_and_timers_keep_time() {
    let thread = RingThread::spawn("test-ring", 8).unwrap();
    let (waker, woken) = tokio::sync::oneshot::channel::<u32>();
    let outcome = thread.run(move |_| async move { woken.await.unwrap() });
    std::thread::sleep(Duration::from_millis(50));
    waker.send(41).unwrap();
    assert_eq!(outcome.blocking_recv().unwrap(), 41);

    let order = thread
        .block_on(|host| async move {
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            let start = host.clock().now();
            for millis in [60u64, 20, 40] {
                let (clock, sender) = (host.clock().clone(), sender.clone());
                host.spawn(async move {
                    clock.sleep(Duration::from_millis(millis)).await;
                    let late = clock.now().since(start);
                    assert!(late >= Duration::from_millis(millis), "woken after {late:?}");
                    sender.send(millis).unwrap();
                });
            }
            drop(sender);
            let mut order = Vec::new();
            while let Some(millis) = receiver.recv().await {
                order.push(millis);
            }
            order
        })
        .unwrap();
    assert_eq!(order, [20, 40, 60]);
}

#[test]
fn an_idle_ring_thread_is_never_woken() {
    let thread = RingThread::spawn("test-idle", 8).unwrap();
    let tid = thread.block_on(|_| async { fs::read_link("/proc/thread-self").unwrap() }).unwrap();
    let switches = || {
        let status = fs::read_to_string(Path::new("/proc").join(&tid).join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_millis(100));
    let before = switches();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(switches(), before);
}

#[test]
fn a_thread_ends_after_its_tasks_and_refuses_work_then() {
    let thread = RingThread::spawn("test-ring", 8).unwrap();
    let handle = thread.handle();
    let (done, waits) = mpsc::channel();
    let late = thread.run(move |host| async move {
        host.clock().sleep(Duration::from_millis(100)).await;
        done.send(()).unwrap();
    });
    thread.join();
    waits.try_recv().expect("join waits for the task");
    assert!(late.blocking_recv().is_ok());
    assert!(handle.block_on(|_| async {}).is_err());
}

#[test]
fn rule_20_a_medium_is_locked_and_its_successor_waits() {
    let directory = scratch();
    let (path, medium) = file_of(&directory, "locked", MIB, Allocation::Full);
    let error = Medium::open(&path, Opening::WRITE).unwrap_err();
    let Fault::InUse { holder } = &error.fault else { panic!("{error}") };
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    assert!(error.to_string().contains("in use by"), "{error}");
    assert!(Medium::open(&path, Opening::READ).is_err());

    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    let (identity, release) = (medium.identity(), medium);
    let waiting = std::thread::spawn(move || {
        let start = Instant::now();
        let opened = Medium::open(&link, Opening::WRITE.waiting(Duration::from_secs(10))).unwrap();
        (opened.identity(), start.elapsed())
    });
    std::thread::sleep(Duration::from_millis(200));
    drop(release);
    let (found, waited) = waiting.join().unwrap();
    assert_eq!(found, identity);
    assert!(waited >= Duration::from_millis(150), "{waited:?}");
}

#[test]
fn media_that_cannot_serve_are_refused_with_their_reason() {
    let directory = scratch();
    let missing = Medium::open(&directory.path().join("none"), Opening::WRITE).unwrap_err();
    assert_eq!(missing.fault, Fault::Missing);
    assert_eq!(Medium::open(directory.path(), Opening::WRITE).unwrap_err().fault, Fault::Directory);
    assert_eq!(
        Medium::open(Path::new("/dev/null"), Opening::WRITE).unwrap_err().fault,
        Fault::NotAFileOrDisk
    );
    let (path, medium) = file_of(&directory, "small", MIB, Allocation::Full);
    drop(medium);
    let small = Medium::open(&path, Opening::WRITE.at_least(2 * MIB)).unwrap_err();
    assert_eq!(small.fault, Fault::TooSmall { length: MIB, needed: 2 * MIB });
    assert_eq!(
        small.to_string(),
        format!(
            "{}: it has 1 MiB (1048576 bytes), but 2 MiB (2097152 bytes) are needed; make it larger, or choose another",
            path.display()
        )
    );

    assert_eq!(Medium::create_file(&path, MIB, Allocation::Full).unwrap_err().fault, Fault::Exists);
    assert_eq!(fs::metadata(&path).unwrap().len(), MIB, "what was there is untouched");
    let dangling = directory.path().join("dangling");
    symlink(directory.path().join("elsewhere"), &dangling).unwrap();
    assert_eq!(Medium::create_file(&dangling, MIB, Allocation::Full).unwrap_err().fault, Fault::Exists);
    assert!(!directory.path().join("elsewhere").exists());

    let huge = directory.path().join("huge");
    let error = Medium::create_file(&huge, 1 << 50, Allocation::Full).unwrap_err();
    assert!(matches!(error.fault, Fault::NoSpace { .. } | Fault::System { .. }), "{error}");
    assert!(!huge.exists(), "a file that could not be made is taken back");
}

#[test]
fn created_files_are_for_root_alone_and_readers_cannot_write() {
    let directory = scratch();
    let (path, medium) = file_of(&directory, "private", MIB, Allocation::Full);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(medium.kind(), MediaKind::File);
    drop(medium);
    let reader = Medium::open(&path, Opening::READ).unwrap();
    let second = Medium::open(&path, Opening::READ).unwrap();
    assert_eq!((reader.access(), second.identity()), (Access::ReadOnly, reader.identity()));
    let thread = RingThread::spawn("test-ring", 8).unwrap();
    let outcome = thread
        .block_on(move |host| async move { host.open(&reader).submit(write(0, &[1; 4096])).await })
        .unwrap();
    assert_eq!(outcome, Err(Errno::READ_ONLY));
}

#[test]
fn a_file_that_shrank_gives_an_error_and_no_bytes() {
    let directory = scratch();
    let (path, medium) = file_of(&directory, "shrunk", 2 * MIB, Allocation::Full);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(MIB + 8192).unwrap();
    let thread = RingThread::spawn("test-ring", 8).unwrap();
    let outcomes = thread
        .block_on(move |host| async move {
            let device = host.open(&medium);
            let mut outcomes = Vec::new();
            for offset in [MIB, MIB + 4096, MIB + 8192] {
                let buffer = Buffer::Owned(OwnedBuffer::zeroed(8192));
                outcomes.push(device.submit(Request::Read { offset, buffer }).await);
            }
            let beyond = Request::Read { offset: 2 * MIB, buffer: OwnedBuffer::zeroed(4096).into() };
            outcomes.push(device.submit(beyond).await);
            outcomes
        })
        .unwrap();
    // Gone as a whole, and not bytes here and errors there: what is left of it is for a person to look at.
    let gone = Err(Errno::GONE);
    assert_eq!(outcomes, [gone, gone, gone, Err(Errno::INVALID)]);
}

#[test]
fn a_medium_in_memory_is_not_taken_for_direct() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: this machine has no /dev/shm");
        return;
    };
    let path = directory.path().join("plex");
    let medium = Medium::create_file(&path, MIB, Allocation::Full).unwrap();
    assert!(!medium.is_direct());
    let thread = RingThread::spawn("test-ring", 8).unwrap();
    thread
        .block_on(move |host| async move {
            let device = host.open(&medium);
            device.submit(write(4096, &pattern(4096, 5))).await.unwrap();
            // tmpfs has no ZERO_RANGE: the zeroes are written.
            device.submit(Request::Discard { range: ByteRange::new(4096, 2048) }).await.unwrap();
            let got = read(&device, 4096, 4096).await;
            assert!(got[..2048].iter().all(|byte| *byte == 0));
            assert!(got[2048..] == pattern(4096, 5)[2048..]);
            // Long reads are done by workers of the kernel, several at a time.
            let half = MIB as usize / 2;
            device.submit(write(MIB / 2, &pattern(half, 6))).await.unwrap();
            let reads = [0, MIB / 2, MIB / 4].map(|offset| read(&device, offset, half));
            let [first, second, across] = <[_; 3]>::try_from(join_all(reads).await).unwrap();
            assert!(first[..4096].iter().all(|byte| *byte == 0) && first[6144..8192] == got[2048..]);
            assert!(second == pattern(half, 6));
            assert!(across[..half / 2] == first[half / 2..] && across[half / 2..] == second[..half / 2]);
            let cut = std::fs::File::options().write(true).open(device.medium().path()).unwrap();
            cut.set_len(MIB / 2).unwrap();
            let buffer = OwnedBuffer::zeroed(half).into();
            assert_eq!(device.submit(Request::Read { offset: MIB / 4, buffer }).await, Err(Errno::GONE));
            cut.set_len(MIB).unwrap();
        })
        .unwrap();
    thread.join();
    assert_eq!(allocated(&path), MIB / 2);
}
