//! `cleaved`: owner loop, workers, start-up, recovery, stop.
