//! The lasting list of groups, volumes, plexes and snapshots: load, commit, import, repair.
