//! What a write and the mover pay for maps, gate and route. `cargo bench --bench parts` measures; the tests run each once.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use cleave::base::limits::MIB;
use cleave::base::{ByteRange, RegionSize, Uuid};
use cleave::bitmap::{ChangeMap, ExtentMap};
use cleave::volume::{Gate, ReadPolicy, Role, Route, RoutePlex};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const TIB: u64 = 1 << 40;
/// Bytes of a map of 1 TiB in regions of 64 KiB.
const MAP_BYTES: u64 = TIB / (64 << 10) / 8;

fn map() -> ChangeMap {
    ChangeMap::new(TIB, RegionSize::DEFAULT)
}

/// One region in a hundred is marked.
fn sparse_map() -> ChangeMap {
    let map = map();
    let region = RegionSize::DEFAULT.bytes();
    let mut random = 1_u64;
    for _ in 0..TIB / region / 100 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        map.mark(ByteRange::new((random >> 20) % (TIB / region) * region, region));
    }
    map
}

fn full_map() -> ChangeMap {
    let map = map();
    map.mark_all();
    map
}

fn marking(c: &mut Criterion) {
    let mut group = c.benchmark_group("mark");
    let map = map();
    let block = ByteRange::new(TIB / 2, 4096);
    map.mark(block);
    group.bench_function("hot region", |b| b.iter(|| map.mark(black_box(block))));
    group.bench_function("cold regions", |b| {
        let mut at = 0;
        b.iter(|| {
            at = (at + RegionSize::DEFAULT.bytes()) % TIB;
            map.mark(ByteRange::new(at, 4096))
        });
    });
    let intent = ExtentMap::new(TIB);
    intent.set(block);
    group.bench_function("extent that is covered", |b| b.iter(|| intent.covered(black_box(block))));
}

fn searching(c: &mut Criterion) {
    let mut group = c.benchmark_group("next dirty run of 1 TiB");
    let (empty, full) = (map(), full_map());
    group.bench_function("empty", |b| b.iter(|| empty.next_dirty(black_box(0), MIB)));
    group.bench_function("full, cut into MiB", |b| b.iter(|| full.next_dirty(black_box(TIB / 2), MIB)));
    group.bench_function("full, whole", |b| b.iter(|| full.next_dirty(black_box(0), TIB)));
    let last = map();
    last.mark(ByteRange::new(TIB - 4096, 4096));
    group.bench_function("the last region alone", |b| b.iter(|| last.next_dirty(black_box(0), MIB)));
    group.finish();

    let mut group = c.benchmark_group("all dirty ranges of 1 TiB");
    let sparse = sparse_map();
    group.bench_function("one region in 100", |b| b.iter(|| sparse.dirty_ranges().count()));
    group.bench_function("full", |b| b.iter(|| full.dirty_ranges().count()));
}

fn combining(c: &mut Criterion) {
    let mut group = c.benchmark_group("maps of 1 TiB");
    group.throughput(Throughput::Bytes(MAP_BYTES));
    let (sparse, full) = (sparse_map(), full_map());
    group.bench_function("count", |b| b.iter(|| sparse.dirty_regions()));
    group.bench_function("or", |b| {
        b.iter_batched_ref(map, |into| into.or_from(&sparse), BatchSize::LargeInput);
    });
    group.bench_function("or into one that has it all", |b| b.iter(|| full.or_from(&sparse)));
    group.bench_function("and not", |b| {
        b.iter_batched_ref(full_map, |into| into.and_not_from(&sparse), BatchSize::LargeInput);
    });
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn entering(c: &mut Criterion) {
    let mut group = c.benchmark_group("gate");
    let gate = Arc::new(Gate::new());
    let lane = gate.take_lane().expect("the first");
    group.bench_function("enter and leave", |b| {
        b.iter(|| {
            assert!(gate.try_enter(lane).is_ok(), "nothing holds it");
            gate.leave(lane);
        });
    });
    let range = ByteRange::new(MIB, 4096);
    group.bench_function("a write's range", |b| b.iter(|| drop(poll_once(gate.acquire(black_box(range))))));
    let held: Vec<_> = (0..32).filter_map(|n| gate.try_acquire(ByteRange::new(n * 64 * MIB, 4096))).collect();
    group.bench_function("a write's range beside 32", |b| {
        b.iter(|| drop(poll_once(gate.acquire(black_box(range)))));
    });
    drop(held);
}

fn routing(c: &mut Criterion) {
    let plex = |number: u8| RoutePlex {
        uuid: Uuid::from_random([number; 16]),
        medium: (),
        role: Role::ReadWrite,
        behind: Arc::new(map()),
    };
    let mut route = Route::new(vec![plex(1), plex(2)], ReadPolicy::Round);
    route.marks.push(Arc::new(map()));
    let block = ByteRange::new(TIB / 3, 4096);
    let mut group = c.benchmark_group("route");
    group.bench_function("mark a hot region", |b| b.iter(|| route.mark(black_box(block))));
    group.bench_function("plexes that can be read", |b| b.iter(|| route.readable().count()));
}

#[allow(missing_docs, reason = "the macro makes a function that nobody calls by its name")]
mod all {
    use super::*;
    criterion_group!(parts, marking, searching, combining, entering, routing);
}
criterion_main!(all::parts);
