//! Where new plexes are put: each mirror on a medium of its own where there are enough.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::change::Site;
use super::group::{Group, MediumPath, medium_bytes};
use super::refuse;
use crate::base::{Name, Refused};

/// What was found of a medium of the pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Room {
    /// A directory.
    Directory {
        /// Bytes that can still be allocated.
        free: u64,
    },
    /// A block device that nothing uses.
    Block {
        /// Its size in bytes.
        bytes: u64,
    },
    /// It is there and cannot be written.
    ReadOnly,
    /// It cannot be used; the reason completes "the medium cannot be used: ".
    Missing(String),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The volume that the plexes are for.
    pub volume: &'a Name,
    /// Its length in bytes.
    pub length: u64,
    /// How many plexes.
    pub count: usize,
    /// Whether files take their space only as it is written.
    pub sparse: bool,
    /// The media that the user named, in his order; empty is the whole pool.
    pub named: &'a [MediumPath],
}

/// Choose sites for new plexes.
///
/// A named medium must be usable; of the pool, what is missing, read-only or full is passed over while others are left.
/// A medium that carries no plex of this volume comes before one that does, a roomier one before a narrower one. Several
/// plexes of one volume share a directory only when there are not enough media; a block device carries one plex.
///
/// # Errors
/// `medium.unknown`, `medium.twice`, `medium.missing`, `medium.read-only`, `medium.in-use`, `medium.full`, `medium.none`,
/// `plex.none`, `plex.too-small`.
pub fn place(group: &Group, request: &Request, rooms: &[(MediumPath, Room)]) -> Result<Vec<Site>, Refused> {
    if request.count == 0 {
        return Err(refuse::no_plexes(request.volume));
    }
    let need = medium_bytes(request.length);
    let candidates = candidates(group, request, rooms, need)?;
    let mut chosen: Vec<Site> = Vec::new();
    let mut uses = vec![0usize; candidates.len()];
    while chosen.len() < request.count {
        let best = (0..candidates.len())
            .filter(|at| candidates[*at].fits_more(uses[*at], need, request.sparse))
            .min_by_key(|at| {
                (uses[*at] + candidates[*at].present, Reverse(candidates[*at].left(uses[*at], need)), *at)
            });
        let Some(at) = best else {
            let Some(roomiest) = candidates.iter().max_by_key(|candidate| candidate.free) else {
                return Err(refuse::medium_none(&group.name));
            };
            let wanted = need.saturating_mul(request.count as u64);
            return Err(if roomiest.block {
                refuse::medium_none(&group.name)
            } else {
                refuse::medium_full(
                    roomiest.path,
                    roomiest.free,
                    wanted.min(need * (chosen.len() as u64 + 1)),
                )
            });
        };
        let candidate = &candidates[at];
        chosen.push(if candidate.block {
            Site::Block { path: candidate.path.clone(), bytes: candidate.free }
        } else {
            Site::Below { directory: candidate.path.clone(), sparse: request.sparse }
        });
        uses[at] += 1;
    }
    Ok(chosen)
}

/// A medium on which a plex may be put.
struct Candidate<'a> {
    path: &'a MediumPath,
    block: bool,
    free: u64,
    /// Plexes of this volume that lie there already.
    present: usize,
}

impl Candidate<'_> {
    fn fits_more(&self, used: usize, need: u64, sparse: bool) -> bool {
        if self.block { used == 0 } else { sparse || self.left(used, need) >= need }
    }

    const fn left(&self, used: usize, need: u64) -> u64 {
        self.free.saturating_sub(need.saturating_mul(used as u64))
    }
}

fn candidates<'a>(
    group: &'a Group,
    request: &'a Request,
    rooms: &[(MediumPath, Room)],
    need: u64,
) -> Result<Vec<Candidate<'a>>, Refused> {
    let named = !request.named.is_empty();
    let paths: Vec<_> = if named {
        request.named.iter().collect()
    } else {
        group.media.iter().map(|medium| &medium.path).collect()
    };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut passed_over = None;
    for path in paths {
        if !seen.insert(path) {
            return Err(refuse::medium_twice(path));
        }
        if !group.media.iter().any(|medium| medium.path == *path) {
            return Err(refuse::medium_unknown(path, &group.name));
        }
        let room = rooms.iter().find(|(other, _)| other == path).map(|(_, room)| room);
        match candidate(group, request, path, room, need) {
            Ok(candidate) => found.push(candidate),
            Err(refused) if named => return Err(refused),
            Err(refused) => passed_over = passed_over.or(Some(refused)),
        }
    }
    match passed_over {
        Some(refused) if found.is_empty() => Err(refused),
        Some(_) | None => Ok(found),
    }
}

fn candidate<'a>(
    group: &'a Group,
    request: &Request,
    path: &'a MediumPath,
    room: Option<&Room>,
    need: u64,
) -> Result<Candidate<'a>, Refused> {
    let (block, free) = match room {
        None => return Err(refuse::medium_missing(path, "it was not looked at")),
        Some(Room::Missing(why)) => return Err(refuse::medium_missing(path, why)),
        Some(Room::ReadOnly) => return Err(refuse::medium_read_only(path)),
        Some(Room::Directory { free }) => (false, *free),
        Some(Room::Block { bytes }) => (true, *bytes),
    };
    if block {
        let mut plexes = group.volumes.iter().flat_map(|volume| volume.plexes.iter());
        if let Some(plex) = plexes.find(|plex| plex.medium.path == *path) {
            return Err(refuse::medium_in_use(path, &plex.name));
        }
        if free < need {
            return Err(refuse::plex_too_small(path, free, need, request.volume));
        }
    } else if !request.sparse && free < need {
        return Err(refuse::medium_full(path, free, need));
    }
    let below = |file: &MediumPath| file.as_path().parent() == Some(path.as_path());
    let present = group
        .volumes
        .iter()
        .filter(|volume| volume.name == *request.volume)
        .flat_map(|volume| volume.plexes.iter())
        .filter(|plex| below(&plex.medium.path))
        .count();
    Ok(Candidate { path, block, free, present })
}
