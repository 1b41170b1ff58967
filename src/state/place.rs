//! Where new plexes are put: each mirror on a medium of its own where there are enough.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::change::Site;
use super::group::Group;
use super::medium::MediumPath;
use super::refuse;
use crate::base::limits::medium_bytes;
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
    /// A block device that is in use, by us or by others.
    Used {
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
        Some(refused) if found.is_empty() && refused.id == "medium.in-use" => {
            Err(refuse::no_medium_left(&group.name, group.media.len(), &refused))
        }
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
    let mut plexes = group.volumes.iter().flat_map(|volume| volume.plexes.iter());
    // Before the disk is asked, which says only that it is in use.
    if let Some(plex) = plexes.find(|plex| plex.medium.path == *path) {
        return Err(refuse::medium_in_use(path, &plex.name));
    }
    let (block, free) = match room {
        None => return Err(refuse::medium_missing(path, "it was not looked at")),
        Some(Room::Used { .. }) => return Err(refuse::medium_missing(path, "it is in use")),
        Some(Room::Missing(why)) => return Err(refuse::medium_missing(path, why)),
        Some(Room::ReadOnly) => return Err(refuse::medium_read_only(path)),
        Some(Room::Directory { free }) => (false, *free),
        Some(Room::Block { bytes }) => (true, *bytes),
    };
    if block {
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

#[cfg(test)]
mod tests {
    use super::super::change::tests::{MIB, below, empty_group, make, path};
    use super::super::change::{MakeArgs, add_medium, create_group, make_volume};
    use super::*;
    use crate::base::Kind;
    use crate::state::{Ids, PoolMedium};

    fn name() -> Name {
        Name::new("v").unwrap()
    }

    fn directory(text: &str, free: u64) -> (MediumPath, Room) {
        (path(text), Room::Directory { free })
    }

    fn put(
        group: &Group,
        count: usize,
        named: &[&str],
        rooms: &[(MediumPath, Room)],
    ) -> Result<Vec<String>, Refused> {
        let (volume, named): (_, Vec<_>) = (name(), named.iter().map(|text| path(text)).collect());
        let request = Request { volume: &volume, length: 100 * MIB, count, sparse: false, named: &named };
        let sites = place(group, &request, rooms)?;
        Ok(sites
            .into_iter()
            .map(|site| match site {
                Site::Below { directory, .. } => directory.to_string(),
                Site::Block { path, bytes } => format!("{path} {bytes}"),
                Site::NewFile { .. } | Site::File { .. } | Site::Apart { .. } => {
                    panic!("only media of the pool are chosen")
                }
            })
            .collect())
    }

    #[track_caller]
    fn refused(result: Result<Vec<String>, Refused>, kind: Kind, id: &str, line: &str) {
        let refusal = result.unwrap_err();
        assert_eq!((refusal.kind, refusal.id.as_str(), refusal.to_string().as_str()), (kind, id, line));
    }

    #[test]
    fn each_mirror_gets_a_medium_of_its_own_where_there_are_enough() {
        let group = empty_group();
        let rooms = [directory("/a", 1000 * MIB), directory("/b", 2000 * MIB)];
        assert_eq!(put(&group, 1, &[], &rooms).unwrap(), ["/b"], "the roomier one");
        assert_eq!(put(&group, 2, &[], &rooms).unwrap(), ["/b", "/a"]);
        assert_eq!(put(&group, 3, &[], &rooms).unwrap(), ["/b", "/a", "/b"]);
        assert_eq!(put(&group, 1, &["/a"], &rooms).unwrap(), ["/a"]);
        let rooms = [directory("/a", 1000 * MIB), (path("/b"), Room::ReadOnly)];
        assert_eq!(put(&group, 2, &[], &rooms).unwrap(), ["/a", "/a"], "what cannot be used is passed over");
    }

    #[test]
    fn a_medium_without_a_plex_of_the_volume_comes_first() {
        let group = make(&empty_group(), "v", &[below("/b")]);
        let rooms = [directory("/a", 1000 * MIB), directory("/b", 2000 * MIB)];
        assert_eq!(put(&group, 1, &[], &rooms).unwrap(), ["/a"]);
    }

    #[test]
    fn a_disk_carries_one_plex() {
        let disk = |text| PoolMedium { path: path(text), block: true, name: None };
        let group =
            create_group("dg", &[disk("/dev/x"), disk("/dev/y")], &mut Ids::from_seed([1; 32])).unwrap();
        let rooms = ["/dev/x", "/dev/y"].map(|text| (path(text), Room::Block { bytes: 200 * MIB }));
        assert_eq!(put(&group, 2, &[], &rooms).unwrap(), ["/dev/x 209715200", "/dev/y 209715200"]);
        refused(
            put(&group, 3, &[], &rooms),
            Kind::Medium,
            "medium.none",
            "dg: the group has no medium to put a plex on; name a file, directory or block device",
        );
        let used = make(&group, "w", &[Site::Block { path: path("/dev/x"), bytes: 200 * MIB }]);
        refused(
            put(&used, 1, &["/dev/x"], &rooms),
            Kind::Medium,
            "medium.in-use",
            "/dev/x: it carries plex w-01; choose another file or device",
        );
        let rooms = [(path("/dev/x"), Room::Block { bytes: MIB })];
        refused(
            put(&group, 1, &["/dev/x"], &rooms),
            Kind::NoSpace,
            "plex.too-small",
            "/dev/x: too small by 101 MiB (105906176 bytes) for a plex of volume v: it has 1 MiB (1048576 bytes), \
             102 MiB (106954752 bytes) are needed; \
             make it at least 102 MiB (106954752 bytes)",
        );
    }

    #[test]
    fn a_named_medium_must_be_usable() {
        let group = empty_group();
        let rooms =
            [directory("/a", MIB), (path("/b"), Room::Missing("No such file or directory".to_owned()))];
        refused(
            put(&group, 1, &["/a"], &rooms),
            Kind::NoSpace,
            "medium.full",
            "/a: 1 MiB (1048576 bytes) are free, 102 MiB (106954752 bytes) are needed: \
             101 MiB (105906176 bytes) too few; \
             free space, ask for less, or choose another medium",
        );
        refused(
            put(&group, 1, &["/b"], &rooms),
            Kind::Medium,
            "medium.missing",
            "/b: the medium cannot be used: No such file or directory; mount or create it, or choose another medium",
        );
        refused(
            put(&group, 1, &["/c"], &rooms),
            Kind::NotFound,
            "medium.unknown",
            "/c: not a medium of group dg; list the media with: cleave group list",
        );
        refused(
            put(&group, 1, &["/a", "/a"], &[directory("/a", 1000 * MIB)]),
            Kind::Usage,
            "medium.twice",
            "/a: named twice; name each medium once",
        );
        refused(
            put(&group, 1, &["/a"], &[(path("/a"), Room::ReadOnly)]),
            Kind::Medium,
            "medium.read-only",
            "/a: the medium is read-only; make it writable or choose another medium",
        );
        refused(
            put(&group, 0, &[], &rooms),
            Kind::Usage,
            "plex.none",
            "v: no plex was asked for; ask for at least one mirror",
        );
        refused(
            put(&group, 1, &[], &rooms),
            Kind::NoSpace,
            "medium.full",
            "/a: 1 MiB (1048576 bytes) are free, 102 MiB (106954752 bytes) are needed: \
             101 MiB (105906176 bytes) too few; \
             free space, ask for less, or choose another medium",
        );
        let disk = PoolMedium { path: path("/dev/sdb"), block: true, name: None };
        let disks = create_group("dg", &[disk], &mut Ids::from_seed([1; 32])).unwrap();
        let block = [(path("/dev/sdb"), Room::Block { bytes: 1 << 40 })];
        let sites = [Site::Block { path: path("/dev/sdb"), bytes: 1 << 40 }];
        let args = MakeArgs { name: "w", length: 8 * MIB, region_size: None, sites: &sites };
        let taken = make_volume(&disks, &args, &mut Ids::from_seed([2; 32])).unwrap().group;
        refused(
            put(&taken, 1, &[], &block),
            Kind::Medium,
            "medium.none-left",
            "dg: its only medium cannot carry another plex, a disk carries one \
             (/dev/sdb: it carries plex w-01); name a disk or a directory by its path, or give the group another: \
             cleave group add dg MEDIUM",
        );
        let bare = create_group("dg", &[], &mut Ids::from_seed([1; 32])).unwrap();
        assert_eq!(put(&bare, 1, &[], &[]).unwrap_err().id, "medium.none");
        let medium = PoolMedium { path: path("/a"), block: false, name: None };
        assert_eq!(add_medium(&group, medium).unwrap_err().id, "medium.twice");
    }

    #[test]
    fn mirrors_that_do_not_fit_together_are_refused() {
        let group = empty_group();
        let rooms = [directory("/a", 150 * MIB), directory("/b", 150 * MIB)];
        assert_eq!(put(&group, 2, &[], &rooms).unwrap().len(), 2);
        let refusal = put(&group, 3, &[], &rooms).unwrap_err();
        assert_eq!((refusal.kind, refusal.id.as_str()), (Kind::NoSpace, "medium.full"));
    }
}
