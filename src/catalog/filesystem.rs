//! How far the file system on a volume reaches, read from its superblock: a volume is not made shorter than that. Offsets are
//! those of `ext4(5)`'s and XFS's on-disk formats.

use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, OwnedBuffer, Request};

use super::foreign_signature;

/// Bytes from the start that tell it.
const HEAD_BYTES: u64 = 4096;

/// What a volume holds, as far as that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A file system of the ext family.
    Ext {
        /// Bytes that it has, from the start of the volume on.
        bytes: u64,
    },
    /// An XFS, which never becomes smaller.
    Xfs {
        /// Bytes that it has, from the start of the volume on.
        bytes: u64,
    },
    /// Something else that is known by its name, and not how far it reaches.
    Other(&'static str),
    /// Nothing that is known.
    Unknown,
}

impl Content {
    /// What it is, for people; none where nothing is known.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Ext { .. } => Some("ext2, ext3 or ext4"),
            Self::Xfs { .. } => Some("XFS"),
            Self::Other(name) => Some(name),
            Self::Unknown => None,
        }
    }

    /// Bytes that it has, from the start of the volume on, where that is known.
    #[must_use]
    pub const fn bytes(self) -> Option<u64> {
        match self {
            Self::Ext { bytes } | Self::Xfs { bytes } => Some(bytes),
            Self::Other(_) | Self::Unknown => None,
        }
    }
}

/// What `device` holds.
///
/// # Errors
/// As for a read.
pub async fn content<D: BlockDevice>(device: &D) -> Result<Content, Errno> {
    let span = HEAD_BYTES.min(device.geometry().length);
    let buffer = OwnedBuffer::zeroed(ByteRange::new(0, span).length as usize);
    device.submit(Request::Read { offset: 0, buffer: buffer.clone().into() }).await?;
    match of_superblock(&buffer.to_vec()) {
        Some(content) => Ok(content),
        None => Ok(foreign_signature(device).await?.map_or(Content::Unknown, Content::Other)),
    }
}

/// What the superblock in `head`, the first bytes of a volume, says; none where no superblock makes sense.
#[must_use]
pub fn of_superblock(head: &[u8]) -> Option<Content> {
    xfs(head).map(|bytes| Content::Xfs { bytes }).or_else(|| ext(head).map(|bytes| Content::Ext { bytes }))
}

/// `sb_magicnum`, `sb_blocksize` and `sb_dblocks`, big-endian.
#[expect(clippy::big_endian_bytes, reason = "XFS is big-endian on every machine")]
fn xfs(head: &[u8]) -> Option<u64> {
    if head.get(..4)? != b"XFSB" {
        return None;
    }
    let block = u64::from(u32::from_be_bytes(array(head, 4)?));
    let blocks = u64::from_be_bytes(array(head, 8)?);
    let fits = block.is_power_of_two() && (512..=65_536).contains(&block) && blocks > 0;
    fits.then(|| blocks.checked_mul(block)).flatten()
}

/// `s_magic`, `s_log_block_size`, `s_blocks_count_lo` and `_hi` of a superblock at 1024, little-endian.
fn ext(head: &[u8]) -> Option<u64> {
    const AT: usize = 1024;
    const INCOMPAT_64BIT: u32 = 0x80;
    let word = |at: usize| Some(u32::from_le_bytes(array(head, AT + at)?));
    if u16::from_le_bytes(array(head, AT + 0x38)?) != 0xef53 {
        return None;
    }
    let log = word(0x18)?;
    let high = if word(0x60)? & INCOMPAT_64BIT == 0 { 0 } else { u64::from(word(0x150)?) };
    let blocks = high << 32 | u64::from(word(0x4)?);
    (log <= 6 && blocks > 0).then(|| blocks.checked_mul(1024 << log)).flatten()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::labels::tests::block_on;
    use super::*;
    use crate::base::limits::MIB;
    use crate::device::memory::Memory;

    fn ext_head(log: u32, blocks: u64, wide: bool) -> Vec<u8> {
        let mut head = vec![0; 4096];
        let mut put = |at: usize, bytes: &[u8]| head[1024 + at..][..bytes.len()].copy_from_slice(bytes);
        put(0x38, &0xef53u16.to_le_bytes());
        put(0x18, &log.to_le_bytes());
        put(0x4, &(blocks as u32).to_le_bytes());
        put(0x60, &(if wide { 0x80u32 } else { 0x40 }).to_le_bytes());
        put(0x150, &((blocks >> 32) as u32).to_le_bytes());
        head
    }

    #[expect(clippy::big_endian_bytes, reason = "as above")]
    fn xfs_head(block: u32, blocks: u64) -> Vec<u8> {
        let mut head = vec![0; 4096];
        head[..4].copy_from_slice(b"XFSB");
        head[4..8].copy_from_slice(&block.to_be_bytes());
        head[8..16].copy_from_slice(&blocks.to_be_bytes());
        head
    }

    #[test]
    fn a_superblock_says_how_far_its_file_system_reaches() {
        assert_eq!(of_superblock(&ext_head(0, 65_536, false)), Some(Content::Ext { bytes: 64 * MIB }));
        assert_eq!(of_superblock(&ext_head(2, 1 << 33, true)), Some(Content::Ext { bytes: 1 << 45 }));
        // Without its flag the upper half is something else.
        assert_eq!(of_superblock(&ext_head(2, 1 << 33 | 5, false)), Some(Content::Ext { bytes: 5 * 4096 }));
        assert_eq!(of_superblock(&xfs_head(4096, 1 << 20)), Some(Content::Xfs { bytes: 4 << 30 }));
    }

    #[test]
    fn what_makes_no_sense_is_no_superblock() {
        for head in [
            ext_head(7, 1, false),
            ext_head(0, 0, false),
            ext_head(6, u64::MAX, true),
            xfs_head(4095, 1),
            xfs_head(256, 1),
            xfs_head(4096, 0),
            xfs_head(4096, u64::MAX),
            vec![0; 4096],
            b"XFSB".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(of_superblock(&head), None);
        }
    }

    #[test]
    fn anything_else_is_told_by_its_name_or_unknown() {
        let device = Memory::new(2 * MIB, 512);
        assert_eq!(block_on(content(&device)), Ok(Content::Unknown));
        device.poke(4086, b"SWAPSPACE2");
        assert_eq!(block_on(content(&device)), Ok(Content::Other("swap")));
        device.poke(0, &xfs_head(4096, 256));
        let xfs = Content::Xfs { bytes: MIB };
        assert_eq!(block_on(content(&device)), Ok(xfs));
        assert_eq!((xfs.name(), xfs.bytes()), (Some("XFS"), Some(MIB)));
        let ext = Content::Ext { bytes: 7 };
        assert_eq!((ext.name(), ext.bytes()), (Some("ext2, ext3 or ext4"), Some(7)));
        assert_eq!((Content::Other("swap").name(), Content::Other("swap").bytes()), (Some("swap"), None));
        assert_eq!((Content::Unknown.name(), Content::Unknown.bytes()), (None, None));
    }

    #[test]
    fn what_the_tools_of_this_machine_make_is_measured() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk");
        let mut seen = 0;
        for (tool, options, mib) in [
            ("mkfs.ext4", &["-q", "-F"][..], 64),
            ("mkfs.ext2", &["-q", "-F"][..], 33),
            ("mkfs.xfs", &["-q", "-f"][..], 320),
        ] {
            std::fs::File::create(&file).unwrap().set_len(mib * MIB).unwrap();
            let Ok(made) = std::process::Command::new(tool).args(options).arg(&file).output() else {
                println!("{tool} is not on this machine: the guest has it");
                continue;
            };
            assert!(made.status.success(), "{tool}: {}", String::from_utf8_lossy(&made.stderr));
            let mut head = std::fs::read(&file).unwrap();
            head.truncate(4096);
            let bytes = match of_superblock(&head) {
                Some(Content::Ext { bytes } | Content::Xfs { bytes }) => bytes,
                other => panic!("{tool}: {other:?}"),
            };
            assert_eq!(bytes, mib * MIB, "{tool}");
            seen += 1;
        }
        println!("{seen} of 3 tools tried");
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048), xfs in any::<bool>()) {
            let mut head = bytes;
            if xfs && head.len() >= 4 {
                head[..4].copy_from_slice(b"XFSB");
            } else if head.len() >= 1024 + 0x3a {
                head[1024 + 0x38..1024 + 0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
            }
            let _ = of_superblock(&head);
        }
    }
}
