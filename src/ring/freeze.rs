//! Freezing and thawing a mounted file system: two ioctls without a safe wrapper in `rustix`, which is why they stand in
//! the room for unsafe code. They are in no ring: the kernel has no io_uring operation for them, and both block.

use std::os::fd::AsFd;

use rustix::ioctl::{NoArg, Opcode, ioctl, opcode};

use crate::base::Errno;

/// `FIFREEZE` of `include/uapi/linux/fs.h`: `_IOWR('X', 119, int)`, whose argument the kernel does not look at.
const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);

/// `FITHAW` of `include/uapi/linux/fs.h`: `_IOWR('X', 120, int)`, whose argument the kernel does not look at.
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);

/// Freezes the file system of `file`: what is dirty is written, new writes wait until [`thaw`]. Blocks as long as that
/// takes, and writers are held from its beginning.
///
/// # Errors
/// `EBUSY`: frozen already; `EOPNOTSUPP`: this file system cannot be frozen; `EPERM`: the caller lacks `CAP_SYS_ADMIN`;
/// others from the write-back.
pub fn freeze(file: impl AsFd) -> Result<(), Errno> {
    // SAFETY: a plain ioctl number with a null argument that the kernel does not look at; the descriptor is borrowed.
    unsafe { ioctl(file, NoArg::<FIFREEZE>::new()) }.map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// Thaws the file system of `file`.
///
/// # Errors
/// `EINVAL`: not frozen; `EPERM`: the caller lacks `CAP_SYS_ADMIN`.
pub fn thaw(file: impl AsFd) -> Result<(), Errno> {
    // SAFETY: a plain ioctl number with a null argument that the kernel does not look at; the descriptor is borrowed.
    unsafe { ioctl(file, NoArg::<FITHAW>::new()) }.map_err(|error| Errno::from_raw(error.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_and_procfs_cannot_be_frozen() {
        assert_eq!((FIFREEZE, FITHAW), (0xc004_5877, 0xc004_5878));
        let proc = std::fs::File::open("/proc").unwrap();
        // Without the right to freeze anything the kernel says so before it looks at the file system.
        assert!(matches!(freeze(&proc), Err(error) if error == Errno::UNSUPPORTED || error.raw() == 1));
        assert!(matches!(thaw(&proc), Err(error) if error == Errno::INVALID || error.raw() == 1));
    }
}
