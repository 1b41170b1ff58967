//! See the decoder of this name.
#![no_main]
cleave_fuzz::target!("undo-table");
