//! The files of intent and change maps on simulated disks.

use cleave::base::limits::SECTOR_BYTES;
use cleave::base::{Generation, Uuid};
use cleave::bitmap::{ChangeMap, ExtentMap};
use cleave::device::{Geometry, Host};
use cleave::sim::{SimDevice, SimDisk, World};
use cleave::volume::Shape;
use cleave::volume::map_file::{Ending, MapFile, MapIdentity, Worth};

pub fn change_map(shape: &Shape) -> ChangeMap {
    ChangeMap::new(shape.geometry.length, shape.region_size)
}

pub fn intent_map(shape: &Shape) -> ExtentMap {
    ExtentMap::new(shape.geometry.length)
}

pub fn intent_identity(shape: &Shape) -> MapIdentity {
    MapIdentity::intent(shape.uuid, &intent_map(shape))
}

pub fn change_identity(shape: &Shape, owner: Uuid) -> MapIdentity {
    MapIdentity::change(owner, shape.uuid, &change_map(shape))
}

/// A disk as large as the file of the map.
pub fn disk(world: &World, name: &str, identity: &MapIdentity) -> SimDisk {
    // A page may be torn at each of its sectors.
    let block_size = SECTOR_BYTES as u32;
    let length = identity.file_bytes();
    world.disk(name, Geometry { length, block_size, memory_alignment: 512, discard_zeroes: true })
}

/// Begin an empty map on an empty disk.
pub async fn create(
    host: impl Host<Medium = SimDisk, Device = SimDevice>,
    disk: &SimDisk,
    identity: MapIdentity,
    run: Generation,
) -> MapFile<SimDevice> {
    let file = MapFile::new(host.open(disk), identity, run);
    file.create().await.expect("no fault while a map is made");
    file
}

/// Load the change map `owner` for the run `run`.
pub async fn load_change(
    host: impl Host<Medium = SimDisk, Device = SimDevice>,
    disk: &SimDisk,
    shape: &Shape,
    owner: Uuid,
    ending: Ending,
    run: Generation,
) -> (ChangeMap, MapFile<SimDevice>, Worth) {
    let map = change_map(shape);
    let file = MapFile::new(host.open(disk), change_identity(shape, owner), run);
    let worth = file.load(map.bits(), ending).await.expect("no fault while a map is loaded");
    file.begin(map.bits()).await.expect("no fault while a map is loaded");
    (map, file, worth)
}

/// Load the intent map for the run `run`.
pub async fn load_intent(
    host: impl Host<Medium = SimDisk, Device = SimDevice>,
    disk: &SimDisk,
    shape: &Shape,
    ending: Ending,
    run: Generation,
) -> (ExtentMap, MapFile<SimDevice>, Worth) {
    let map = intent_map(shape);
    let file = MapFile::new(host.open(disk), intent_identity(shape), run);
    let worth = file.load(map.bits(), ending).await.expect("no fault while a map is loaded");
    file.begin(map.bits()).await.expect("no fault while a map is loaded");
    (map, file, worth)
}
