//! The typed requests, replies and events between command line and daemon, versioned.
