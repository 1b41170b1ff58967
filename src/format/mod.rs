//! Bytes to structures and back, one structure a file.
