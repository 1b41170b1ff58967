//! The seeded faulty disk, clock and scheduler.
