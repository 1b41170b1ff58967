//! Whose requests the latency of a volume is measured by.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cleave::base::{RegionSize, Uuid};
use cleave::bitmap::{ChangeMap, ExtentMap};
use cleave::device::{BlockDevice, Clock, Geometry, Host, Moment, OwnedBuffer, Request};
use cleave::sim::World;
use cleave::volume::{Intent, ReadPolicy, Role, Route, RoutePlex, Shape, Volume, VolumeQueue};

#[test]
fn what_counts_is_the_application_s_and_no_flush() {
    const LENGTH: u64 = 1 << 20;
    let geometry = Geometry { length: LENGTH, block_size: 512, memory_alignment: 512, discard_zeroes: true };
    let (uuid, region_size) = (Uuid::from_bytes([7; 16]), RegionSize::DEFAULT);
    let world = World::new(1);
    let behind = Arc::new(ChangeMap::new(LENGTH, region_size));
    let plex = RoutePlex { uuid, medium: world.disk("d", geometry), role: Role::ReadWrite, behind };
    let volume = Volume::new(
        Shape { uuid, geometry, region_size },
        Intent::new(LENGTH, ExtentMap::new(LENGTH)),
        Route::new(vec![plex], ReadPolicy::Round),
    );
    let watch = Rc::new(RefCell::new(volume.latency().watch(Moment(0))));
    let host = world.host();
    let queue = || Rc::new(VolumeQueue::new(host.clone(), Arc::clone(&volume)).unwrap());
    let read = || Request::Read { offset: 0, buffer: OwnedBuffer::zeroed(4096).into() };
    let mover = Rc::new(VolumeQueue::new(host.clone(), Arc::clone(&volume)).unwrap().for_mover());
    for (queue, request, counts) in
        [(queue(), read(), true), (queue(), Request::Flush, false), (mover, read(), false)]
    {
        let (watch, clock) = (Rc::clone(&watch), host.clock().clone());
        let took = world.block_on(async move {
            let began = clock.now();
            queue.submit(request).await.unwrap();
            let took = clock.now().since(began);
            (watch.borrow_mut().look(clock.now()), took)
        });
        let (average, took) = took.unwrap();
        assert!(took > Duration::ZERO);
        assert_eq!(average, counts.then_some(took));
    }
}
