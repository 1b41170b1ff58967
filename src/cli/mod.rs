//! Words typed to requests, replies to tables and progress, error kinds to exit codes.
