//! The maps in memory: set, clear, or, and-not, next run.
