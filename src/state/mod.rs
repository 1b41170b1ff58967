//! Volume, plex, snapshot and task as pure machines: event in, new state and actions out.
