//! Faces of one device towards the kernel.
