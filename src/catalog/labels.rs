//! Labels on media: read the newest, write the next, erase. The functions run wherever the device's ring does.
//!
//! A label is written to the near area, durably, then to the far area, each into the slot of its sequence number: at every
//! instant at least one whole copy stands on the medium, the old one or the new.

use crate::base::limits::{LABEL_AREA_BYTES, MIB, PAGE_BYTES};
use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, Durability, OwnedBuffer, Request, Space};
use crate::format::Damage;
use crate::format::label::{COPY_BYTES, Label, Places, StateWord, far_area, newest};
use crate::state::{Group, Plex, Volume, VolumeState};

use super::Committed;

/// What was read of a medium's labels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// The newest sound label.
    Label(Box<Label>),
    /// No copy was ever written.
    None,
    /// Copies are there, and none can be believed: each copy's damage, or that two sound ones contradict each other.
    Damaged(Vec<Damage>),
}

/// The label that belongs on the medium of `plex`; its sequence number is given when it is written.
///
/// # Panics
/// When a word for a plex state does not fit a label: the states' names are constants.
#[must_use]
pub fn label_of(group: &Group, committed: &Committed, volume: &Volume, plex: &Plex) -> Label {
    Label {
        sequence: 0,
        group: group.uuid(),
        volume: volume.uuid(),
        plex: plex.uuid(),
        volume_length: volume.length(),
        state: StateWord::new(plex.state().word()).expect("plex states are words of at most 16 capitals"),
        intent_lost: volume.is_intent_lost(),
        run: volume.run(),
        stop: (volume.state() == VolumeState::Clean && volume.stop().0 > 0).then(|| volume.stop()),
        data_generation: plex.generation(),
        past: plex.past_generations().to_vec(),
        config_generation: committed.generation,
        configuration: committed.text.clone().into_bytes(),
    }
}

/// The newest label on `device`. `volume_length` says where the near area stands; without it, the far area is read, and
/// the near one where a far label tells its place.
///
/// # Errors
/// A failed read, when no copy could be read well.
pub async fn read_label<D: BlockDevice>(device: &D, volume_length: Option<u64>) -> Result<Found, Errno> {
    let medium_length = device.geometry().length;
    let mut copies = Copies::default();
    if let Some(far) = far_area(medium_length) {
        copies.read(device, far).await;
        copies.read(device, far + COPY_BYTES).await;
    }
    let known = volume_length.or_else(|| copies.sound().map(|label| label.volume_length));
    if let Some(places) = known.and_then(|length| Places::new(length, medium_length).ok()) {
        let near = places.near_area();
        if far_area(medium_length) != Some(near) {
            copies.read(device, near).await;
            copies.read(device, near + COPY_BYTES).await;
        }
    }
    copies.newest()
}

/// Write `label` as the next after the one on `device`, durably to both areas. The sequence number is returned.
///
/// # Errors
/// [`Errno::BUSY`] when the medium bears the label of another plex; [`Errno::NO_SPACE`] when it is too small; a failed read
/// or write: at least one area still holds a whole label.
pub async fn write_label<D: BlockDevice>(device: &D, label: &Label) -> Result<u64, Errno> {
    let last = last_sequence(device, label, label.volume_length).await?;
    put(device, label, device.geometry().length, last + 1).await
}

/// As [`write_label`] where the volume has, or is to have, another length than its last label says, perhaps: `other` bytes. The
/// label goes to the places that it has on a medium of `medium_length` bytes: what `device` has, or will have once it is cut off.
///
/// # Errors
/// As there.
pub async fn write_label_for<D: BlockDevice>(
    device: &D,
    label: &Label,
    other: u64,
    medium_length: u64,
) -> Result<u64, Errno> {
    // After the one in the other place too, or that would be taken for the newer of the two.
    let last = last_sequence(device, label, label.volume_length).await?;
    let last = last.max(last_sequence(device, label, other).await?);
    put(device, label, medium_length, last + 1).await
}

/// The number of the newest label of the plex of `label` on `device`, the near one where a volume of `length` bytes has it; 0 for
/// none.
async fn last_sequence<D: BlockDevice>(device: &D, label: &Label, length: u64) -> Result<u64, Errno> {
    match read_label(device, Some(length)).await? {
        Found::Label(found) if found.plex != label.plex => Err(Errno::BUSY),
        Found::Label(found) => Ok(found.sequence),
        Found::Damaged(damage) if damage.iter().any(|found| matches!(found, Damage::WrongOwner { .. })) => {
            Err(Errno::BUSY)
        }
        Found::None | Found::Damaged(_) => Ok(0),
    }
}

/// Erase what stands of a label where the near one of a volume of `stale` bytes has its place, durably: the volume has `length`
/// bytes now, its medium `medium_length`, and its labels stand where they belong.
///
/// # Errors
/// [`Errno::NO_SPACE`] when the medium is too small; a failed write.
pub async fn erase_stale_label<D: BlockDevice>(
    device: &D,
    stale: u64,
    length: u64,
    medium_length: u64,
) -> Result<(), Errno> {
    let places = Places::new(length, medium_length).map_err(|_| Errno::NO_SPACE)?;
    let at = stale.next_multiple_of(MIB);
    let end = (at + LABEL_AREA_BYTES).min(places.far_area());
    // Near places are whole MiB: they are one, or do not meet.
    if at == places.near_area() || at >= end {
        return Ok(());
    }
    let range = ByteRange::new(at, end - at);
    let request = Request::WriteZeroes { range, space: Space::Keep, durability: Durability::Durable };
    device.submit(request).await?;
    device.submit(Request::Flush).await
}

/// Write the first label of a new plex: whatever label areas of an earlier use hold is erased before.
///
/// # Errors
/// [`Errno::NO_SPACE`] when the medium is too small; a failed write.
pub async fn write_first_label<D: BlockDevice>(device: &D, label: &Label) -> Result<u64, Errno> {
    erase_labels(device, label.volume_length).await?;
    put(device, label, device.geometry().length, 1).await
}

/// Erase both label areas of a medium that carried a volume of `volume_length` bytes; the data stays.
///
/// # Errors
/// [`Errno::NO_SPACE`] when the medium is too small to have them; a failed write.
pub async fn erase_labels<D: BlockDevice>(device: &D, volume_length: u64) -> Result<(), Errno> {
    let places = Places::new(volume_length, device.geometry().length).map_err(|_| Errno::NO_SPACE)?;
    for at in places.all() {
        let range = ByteRange::new(at, COPY_BYTES);
        // Fully allocated files stay so: the next label must not meet a full disk.
        let request = Request::WriteZeroes { range, space: Space::Keep, durability: Durability::Durable };
        device.submit(request).await?;
    }
    device.submit(Request::Flush).await
}

async fn put<D: BlockDevice>(
    device: &D,
    label: &Label,
    medium_length: u64,
    sequence: u64,
) -> Result<u64, Errno> {
    let places = Places::new(label.volume_length, medium_length).map_err(|_| Errno::NO_SPACE)?;
    let label = Label { sequence, ..label.clone() };
    for offset in places.of_sequence(sequence) {
        let buffer = OwnedBuffer::from_slice(&label.encode(offset)).into();
        device.submit(Request::Write { offset, buffer, durability: Durability::Durable }).await?;
        // The far area is not touched before the near one is known to be whole.
        device.submit(Request::Flush).await?;
    }
    Ok(sequence)
}

/// The copies that were read of one medium.
#[derive(Default)]
struct Copies {
    read: Vec<Result<Label, Damage>>,
    failed: Option<Errno>,
}

impl Copies {
    async fn read<D: BlockDevice>(&mut self, device: &D, at: u64) {
        match read_copy(device, at).await {
            Ok(copy) => self.read.push(copy),
            Err(errno) => self.failed = Some(errno),
        }
    }

    fn sound(&self) -> Option<&Label> {
        self.read.iter().filter_map(|copy| copy.as_ref().ok()).max_by_key(|label| label.sequence)
    }

    fn newest(self) -> Result<Found, Errno> {
        match newest(self.read) {
            Ok(label) => Ok(Found::Label(Box::new(label))),
            Err(damage) => {
                let contradiction = |found: &Damage| match found {
                    Damage::WrongOwner { .. } | Damage::Absurd(_) => true,
                    Damage::WrongLength { .. }
                    | Damage::Blank
                    | Damage::BadMagic
                    | Damage::BadChecksum
                    | Damage::UnknownVersion { .. }
                    | Damage::WrongAddress { .. } => false,
                };
                match self.failed {
                    Some(errno) if !damage.iter().any(contradiction) => Err(errno),
                    Some(_) | None => Ok(if damage.iter().all(|found| *found == Damage::Blank) {
                        Found::None
                    } else {
                        Found::Damaged(damage)
                    }),
                }
            }
        }
    }
}

async fn read_copy<D: BlockDevice>(device: &D, at: u64) -> Result<Result<Label, Damage>, Errno> {
    let header = read(device, at, PAGE_BYTES).await?;
    match Label::copy_length(&header, at) {
        Err(damage) => Ok(Err(damage)),
        Ok(length) => Ok(Label::decode(&read(device, at, length).await?, at)),
    }
}

async fn read<D: BlockDevice>(device: &D, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let buffer = OwnedBuffer::zeroed(length);
    device.submit(Request::Read { offset, buffer: buffer.clone().into() }).await?;
    Ok(buffer.to_vec())
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::base::{Generation, GenerationId, Uuid};
    use crate::device::Geometry;
    use crate::device::memory::Memory;

    /// Memory answers at the first poll, so nothing has ever to be waited for.
    pub(in crate::catalog) fn block_on<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the memory body answers at once"),
        }
    }

    fn id(seed: u8) -> Uuid {
        Uuid::from_random([seed; 16])
    }

    pub(in crate::catalog) fn label(plex: u8, config: u64, text: usize) -> Label {
        Label {
            sequence: 0,
            group: id(1),
            volume: id(2),
            plex: id(plex),
            volume_length: 16 * MIB,
            state: StateWord::new("ACTIVE").unwrap(),
            intent_lost: false,
            run: Generation(3),
            stop: None,
            data_generation: GenerationId(id(4)),
            past: vec![GenerationId(id(5))],
            config_generation: Generation(config),
            configuration: vec![b'x'; text],
        }
    }

    fn found(device: &impl BlockDevice, length: Option<u64>) -> Found {
        block_on(read_label(device, length)).unwrap()
    }

    fn expect(device: &impl BlockDevice, length: Option<u64>, wanted: &Label, sequence: u64) {
        let wanted = Label { sequence, ..wanted.clone() };
        assert_eq!(found(device, length), Found::Label(Box::new(wanted)));
    }

    #[test]
    fn the_newest_label_is_read_with_and_without_the_length() {
        let device = Memory::new(20 * MIB + 512, 512);
        assert_eq!(found(&device, Some(16 * MIB)), Found::None);
        for sequence in 1..=5 {
            let label = label(9, sequence, 1000 * sequence as usize);
            assert_eq!(block_on(write_label(&device, &label)), Ok(sequence));
            expect(&device, Some(16 * MIB), &label, sequence);
            expect(&device, None, &label, sequence);
        }
        // Data in front of the labels is not touched.
        assert!(device.peek(ByteRange::new(0, 16 * MIB)).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn either_area_alone_is_enough() {
        for area in [16 * MIB, 19 * MIB] {
            let device = Memory::new(20 * MIB, 512);
            let label = label(9, 7, 5000);
            block_on(write_label(&device, &label)).unwrap();
            device.poke(area, &vec![0xa5; MIB as usize]);
            expect(&device, Some(16 * MIB), &label, 1);
        }
    }

    #[test]
    fn the_label_of_another_plex_is_not_written_over_unless_it_is_a_new_one() {
        let device = Memory::new(20 * MIB, 512);
        block_on(write_label(&device, &label(9, 7, 100))).unwrap();
        let other = label(10, 1, 100);
        assert_eq!(block_on(write_label(&device, &other)), Err(Errno::BUSY));
        assert_eq!(block_on(write_first_label(&device, &other)), Ok(1));
        expect(&device, None, &other, 1);
        block_on(erase_labels(&device, 16 * MIB)).unwrap();
        assert_eq!(found(&device, Some(16 * MIB)), Found::None);
    }

    #[test]
    fn a_medium_that_is_too_small_has_no_place_for_labels() {
        let device = Memory::new(17 * MIB, 512);
        assert_eq!(block_on(write_label(&device, &label(9, 7, 100))), Err(Errno::NO_SPACE));
    }

    /// A device whose power goes at its `left`-th change: that one is torn in the middle, nothing after it arrives.
    #[derive(Clone)]
    struct Dying {
        memory: Memory,
        left: Rc<Cell<usize>>,
    }

    impl BlockDevice for Dying {
        fn geometry(&self) -> Geometry {
            self.memory.geometry()
        }
        async fn submit(&self, request: Request) -> Result<(), Errno> {
            if !request.changes() {
                return self.memory.submit(request).await;
            }
            match self.left.get() {
                0 => Err(Errno::GONE),
                1 => {
                    self.left.set(0);
                    if let Request::Write { offset, buffer, .. } = &request {
                        let half = (buffer.len() / 2).next_multiple_of(512);
                        self.memory.poke(*offset, &buffer.owned().unwrap().to_vec()[..half]);
                    }
                    Err(Errno::GONE)
                }
                left => {
                    self.left.set(left - 1);
                    self.memory.submit(request).await
                }
            }
        }
    }

    #[test]
    fn a_power_cut_at_every_step_leaves_the_old_label_or_the_new_one() {
        for history in 1..4u64 {
            for step in 0..=3 {
                let memory = Memory::new(20 * MIB, 512);
                for config in 1..=history {
                    block_on(write_label(&memory, &label(9, config, 9000))).unwrap();
                }
                let dying = Dying { memory: memory.clone(), left: Rc::new(Cell::new(step)) };
                let next = label(9, history + 1, 6000);
                let written = block_on(write_label(&dying, &next));
                assert_eq!(written.is_ok(), step == 3, "two writes, and one more than those");
                let Found::Label(seen) = found(&memory, Some(16 * MIB)) else { panic!("a label") };
                let expected = if step >= 2 { history + 1 } else { history };
                assert_eq!(seen.config_generation, Generation(expected), "history {history}, step {step}");
            }
        }
    }

    #[test]
    fn a_label_of_another_length_moves_and_leaves_nothing_behind() {
        let at = |length: u64, config| Label { volume_length: length * MIB, ..label(9, config, 100) };
        // To and fro on one medium, by so little that places meet, and by more.
        for (from, to) in [(16, 17), (17, 16), (4, 18), (18, 4), (16, 16)] {
            let device = Memory::new(20 * MIB, 512);
            block_on(write_label(&device, &at(from, 1))).unwrap();
            block_on(write_label(&device, &at(to, 2))).unwrap();
            expect(&device, Some(to * MIB), &at(to, 2), 2);
            // Also who knows the old length alone finds the new label: the far one has not moved.
            expect(&device, Some(from * MIB), &at(to, 2), 2);
            block_on(erase_stale_label(&device, from * MIB, to * MIB, 20 * MIB)).unwrap();
            expect(&device, Some(to * MIB), &at(to, 2), 2);
            let old = ByteRange::new(from * MIB, MIB);
            assert_eq!(device.peek(old).iter().all(|byte| *byte == 0), from != to, "{from} to {to}");
        }
        // On a medium that has become longer the far place is a new one: the label there is the newer one all the same.
        let shorter = Memory::new(18 * MIB, 512);
        for config in 1..=4 {
            block_on(write_label(&shorter, &at(16, config))).unwrap();
        }
        let longer = Memory::new(20 * MIB, 512);
        longer.poke(0, &shorter.peek(ByteRange::new(0, 18 * MIB)));
        assert_eq!(block_on(write_label_for(&longer, &at(18, 5), 16 * MIB, 20 * MIB)), Ok(5));
        for length in [Some(16 * MIB), Some(18 * MIB), None] {
            expect(&longer, length, &at(18, 5), 5);
        }
        // What becomes the far place of a medium that is cut off is not erased.
        let device = Memory::new(20 * MIB, 512);
        block_on(write_label(&device, &at(18, 1))).unwrap();
        let shorter = at(17, 2);
        assert_eq!(block_on(write_label_for(&device, &shorter, 18 * MIB, 19 * MIB)), Ok(2));
        block_on(erase_stale_label(&device, 18 * MIB, 17 * MIB, 19 * MIB)).unwrap();
        let cut_off = Memory::new(19 * MIB, 512);
        cut_off.poke(0, &device.peek(ByteRange::new(0, 19 * MIB)));
        expect(&cut_off, None, &shorter, 2);
    }

    #[test]
    fn a_medium_that_cannot_be_read_is_no_blank_one() {
        struct Broken(Memory);
        impl BlockDevice for Broken {
            fn geometry(&self) -> Geometry {
                self.0.geometry()
            }
            async fn submit(&self, _: Request) -> Result<(), Errno> {
                Err(Errno::IO)
            }
        }
        let broken = Broken(Memory::new(20 * MIB, 512));
        assert_eq!(block_on(read_label(&broken, Some(16 * MIB))), Err(Errno::IO));
        assert_eq!(block_on(write_label(&broken, &label(9, 1, 10))), Err(Errno::IO));
    }

    #[test]
    fn contradicting_copies_are_damage() {
        let device = Memory::new(20 * MIB, 512);
        block_on(write_label(&device, &label(9, 7, 100))).unwrap();
        let other = Label { sequence: 2, ..label(10, 1, 100) };
        let far = far_area(20 * MIB).unwrap();
        device.poke(far, &other.encode(far));
        assert!(matches!(found(&device, Some(16 * MIB)), Found::Damaged(damage) if damage.len() == 1));
        device.poke(far, &[1; 4096]);
        device.poke(far + COPY_BYTES, &[1; 4096]);
        assert!(matches!(found(&device, None), Found::Damaged(_)));
    }
}
