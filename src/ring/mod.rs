//! io_uring bodies of the device: files and block devices for queue threads, the mover and state files.
