//! State directories as a catalogue may find them: any mixture of heads, next ones and past generations, whole and not.
//!
//! An input is a row of files, each of five bytes and what they ask for:
//!
//! ```text
//! which name | generation | what: whole, cut, flipped, own bytes | where, or how many | the group's device number
//! ```

use super::configuration::{small_group, vouched};
use super::mutate::Shape;
use super::{Decoder, meter, told};
use cleave::base::Generation;
use cleave::catalog::{Catalog, StateFiles};
use cleave::format::config;
use cleave::state::{Group, change};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// State directories.
pub const CATALOGUE: Decoder =
    Decoder { name: "catalogue", max_len: 256, shape: Shape::Binary, check, seeds };

const FILE_BYTES: usize = 5;
const MOST_FILES: usize = 12;

/// Heap that opening may take: each text, its copy and its record, of which none has more than some KiB here.
const HEAP: usize = MOST_FILES * (64 << 10);

/// A directory in memory.
#[derive(Clone, Default)]
pub struct Files(Rc<RefCell<BTreeMap<String, Vec<u8>>>>);

impl StateFiles for Files {
    fn place(&self) -> &str {
        "/state/dg"
    }
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().keys().cloned().collect())
    }
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.borrow().get(name).map(|bytes| bytes[..bytes.len().min(limit)].to_vec()))
    }
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
    fn sync(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let bytes = self.0.borrow().get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        self.write(to, &bytes)
    }
    fn rename_if_there(&self, from: &str, to: &str) -> io::Result<()> {
        let bytes = self.0.borrow_mut().remove(from);
        bytes.map_or(Ok(()), |bytes| self.write(to, &bytes))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name);
        Ok(())
    }
    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
    fn clear(&self) -> io::Result<()> {
        self.0.borrow_mut().clear();
        Ok(())
    }
}

thread_local! {
    /// The text's body, its device number being that of this place.
    static BODIES: Vec<Vec<u8>> = (0..4).map(body).collect();
}

fn body(number: u32) -> Vec<u8> {
    let group = small_group();
    let volume = group.volumes()[0].uuid();
    let group = change::assign_device(&group, volume, Some(number)).map_or(group, |done| done.group);
    super::configuration::body_of(&group)
}

fn name_of(which: u8) -> String {
    match which % 8 {
        0 => "configuration".to_owned(),
        1 => "configuration.new".to_owned(),
        2 => "configuration.damaged".to_owned(),
        past => format!("configuration.{:020}", u64::from(past) - 2),
    }
}

fn directory(data: &[u8]) -> Files {
    let files = Files::default();
    let mut rest = data;
    for _ in 0..MOST_FILES {
        let Some((&[which, generation, what, at, number], behind)) = rest.split_first_chunk::<FILE_BYTES>()
        else {
            break;
        };
        rest = behind;
        let generation = match generation {
            255 => u64::MAX,
            254 => u64::MAX - 1,
            generation => u64::from(generation % 8),
        };
        let body = BODIES.with(|bodies| bodies[usize::from(number) % bodies.len()].clone());
        let mut text = vouched(generation, &body);
        let place = usize::from(at) * text.len() / 256;
        match what % 6 {
            0..=2 => {}
            3 => text.truncate(place),
            4 => text[place] ^= 1 << (number % 8),
            _ => {
                let (own, behind) = rest.split_at(usize::from(at).min(rest.len()));
                (text, rest) = (vouched(generation, own), behind);
            }
        }
        files.0.borrow_mut().insert(name_of(which), text);
    }
    files
}

fn check(data: &[u8]) -> bool {
    let files = directory(data);
    let before = files.0.borrow().clone();
    let opened = meter::within(HEAP, || Catalog::open_on(files.clone()));
    assert_eq!(*files.0.borrow(), before, "looking changes nothing");
    let (mut catalog, loaded) = match opened {
        Ok(opened) => opened,
        Err(refused) => {
            // It names every file that it could not read, so it may be long, but not a second line.
            assert!(!refused.to_string().chars().any(char::is_control), "{refused}");
            return false;
        }
    };
    // It is the newest of those that vouch for themselves, apart from a next one that was never renamed.
    let sound: Vec<(&String, Generation, Group)> = before
        .iter()
        .filter(|(name, _)| !name.ends_with(".new") && !name.ends_with(".damaged"))
        .filter_map(|(name, text)| {
            config::decode(text).ok().map(|(generation, group)| (name, generation, group))
        })
        .filter(|(_, _, group): &(_, _, Group)| group.check().is_ok())
        .collect();
    let newest = sound.iter().max_by_key(|(_, generation, _)| *generation).expect("one was taken");
    assert_eq!((loaded.generation, &loaded.group), (newest.1, &newest.2));
    for warning in &loaded.warnings {
        told(warning);
    }
    // It can be gone on from: the next one is newer than all that could be read, and is what is found then.
    let committed = catalog.commit(&loaded.group).expect("nothing stands in the way");
    assert!(sound.iter().all(|(_, generation, _)| *generation < committed.generation));
    let (_, again) = Catalog::open_on(files).expect("what was just committed");
    assert_eq!((again.generation, again.group), (committed.generation, loaded.group));
    true
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |name: &str, files: &[[u8; FILE_BYTES]]| (name.to_owned(), files.concat());
    vec![
        seed("usual", &[[0, 5, 0, 0, 1], [3, 1, 0, 0, 2], [4, 2, 0, 0, 3]]),
        seed("head-cut", &[[0, 5, 3, 128, 1], [6, 4, 0, 0, 2], [1, 5, 0, 0, 1]]),
        seed("head-flipped", &[[0, 5, 4, 90, 1], [6, 4, 0, 0, 2]]),
        ("own-bytes".to_owned(), [&[0, 5, 5, 2, 1, b'{', b'}'][..], &[6, 4, 0, 0, 2]].concat()),
    ]
}
