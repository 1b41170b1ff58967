//! The asserting wrapper between layers: range, alignment and outcome, checked once for all.
