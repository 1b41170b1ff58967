//! Signatures of what others keep on a disk, so that a new plex does not overwrite it unasked. Offsets are those of
//! libblkid's probes and of the formats' own definitions.

use crate::base::limits::{MIB, PAGE_BYTES};
use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, OwnedBuffer, Request};

/// From where an offset counts.
#[derive(Clone, Copy)]
enum From {
    Start(u64),
    /// Bytes before the end, rounded down to a multiple of the second number.
    End(u64, u64),
}

struct Signature {
    name: &'static str,
    at: From,
    magic: &'static [u8],
}

const fn signature(name: &'static str, at: u64, magic: &'static [u8]) -> Signature {
    Signature { name, at: From::Start(at), magic }
}

const MD_MAGIC: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];

/// What is looked for, the outer containers first.
const SIGNATURES: [Signature; 22] = [
    signature("LUKS", 0, b"LUKS\xba\xbe"),
    signature("LVM2 physical volume", 24, b"LVM2 001"),
    signature("LVM2 physical volume", 512 + 24, b"LVM2 001"),
    signature("LVM2 physical volume", 1024 + 24, b"LVM2 001"),
    signature("LVM2 physical volume", 1536 + 24, b"LVM2 001"),
    signature("md raid member", 0, MD_MAGIC),
    signature("md raid member", 4096, MD_MAGIC),
    Signature { name: "md raid member", at: From::End(8192, 4096), magic: MD_MAGIC },
    Signature { name: "md raid member", at: From::End(65536, 65536), magic: MD_MAGIC },
    signature("bcache", 4096 + 24, &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca]),
    signature("ext2, ext3 or ext4", 0x438, &[0x53, 0xef]),
    signature("XFS", 0, b"XFSB"),
    signature("btrfs", 0x10040, b"_BHRfS_M"),
    signature("F2FS", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    signature("swap", 4086, b"SWAPSPACE2"),
    signature("NTFS", 3, b"NTFS    "),
    signature("exFAT", 3, b"EXFAT   "),
    signature("FAT", 82, b"FAT32   "),
    signature("FAT", 54, b"FAT1"),
    signature("GPT partition table", 512, b"EFI PART"),
    signature("GPT partition table", 4096, b"EFI PART"),
    signature("boot sector or partition table", 510, &[0x55, 0xaa]),
];

/// What somebody else keeps on `device`, or none that is known: file systems, RAID and LVM members, encryption, swap,
/// partition tables. Cleave's own labels do not count.
///
/// # Errors
/// As for a read.
pub async fn foreign_signature<D: BlockDevice>(device: &D) -> Result<Option<&'static str>, Errno> {
    let length = device.geometry().length;
    let span = MIB.min(length - length % PAGE_BYTES as u64);
    if span == 0 {
        return Ok(None);
    }
    let head = read(device, ByteRange::new(0, span)).await?;
    let tail_at = (length - span) - (length - span) % PAGE_BYTES as u64;
    let tail = read(device, ByteRange::new(tail_at, span)).await?;
    Ok(find(&head, &tail, tail_at, length))
}

fn find(head: &[u8], tail: &[u8], tail_at: u64, length: u64) -> Option<&'static str> {
    let found = SIGNATURES.iter().find(|signature| {
        let (bytes, at) = match signature.at {
            From::Start(at) => (head, Some(at)),
            From::End(before, unit) => {
                let at = length.checked_sub(before).map(|at| at - at % unit);
                (tail, at.and_then(|at| at.checked_sub(tail_at)))
            }
        };
        let at = at.and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| bytes.get(at..at.checked_add(signature.magic.len())?)) == Some(signature.magic)
    });
    found.map(|signature| signature.name)
}

async fn read<D: BlockDevice>(device: &D, range: ByteRange) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::with_capacity(range.length as usize);
    for piece in range.pieces(u64::from(crate::base::limits::MAX_REQUEST_BYTES)) {
        let buffer = OwnedBuffer::zeroed(piece.length as usize);
        device.submit(Request::Read { offset: piece.offset, buffer: buffer.clone().into() }).await?;
        bytes.extend(buffer.to_vec());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::labels::tests::block_on;
    use super::*;
    use crate::device::memory::Memory;

    #[test]
    fn every_signature_is_found_at_its_place() {
        let length = 8 * MIB + 4096;
        for signature in &SIGNATURES {
            let device = Memory::new(length, 512);
            assert_eq!(block_on(foreign_signature(&device)), Ok(None));
            let at = match signature.at {
                From::Start(at) => at,
                From::End(before, unit) => (length - before) / unit * unit,
            };
            device.poke(at, signature.magic);
            assert_eq!(
                block_on(foreign_signature(&device)),
                Ok(Some(signature.name)),
                "{} at {at}",
                signature.name
            );
        }
    }

    #[test]
    fn random_bytes_and_small_devices_have_none() {
        let device = Memory::new(4096, 512);
        device.poke(0, &[0xa5; 4096]);
        assert_eq!(block_on(foreign_signature(&device)), Ok(None));
        assert_eq!(block_on(foreign_signature(&Memory::new(512, 512))), Ok(None));
    }

    #[test]
    fn what_the_tools_of_this_machine_write_is_recognised() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk");
        let mut seen = 0;
        for (tool, options, name) in [
            ("mkfs.ext4", &["-q", "-F"][..], "ext2, ext3 or ext4"),
            ("mkfs.xfs", &["-q", "-f"][..], "XFS"),
            ("mkfs.btrfs", &["-q", "-f"][..], "btrfs"),
            ("mkswap", &[][..], "swap"),
        ] {
            std::fs::File::create(&file).unwrap().set_len(320 * MIB).unwrap();
            let made = std::process::Command::new(tool).args(options).arg(&file).output();
            let Ok(made) = made else {
                println!("{tool} is not on this machine: its signature is checked by its definition alone");
                continue;
            };
            assert!(made.status.success(), "{tool}: {}", String::from_utf8_lossy(&made.stderr));
            let device = Memory::new(MIB, 512);
            let mut head = std::fs::read(&file).unwrap();
            head.truncate(MIB as usize);
            device.poke(0, &head);
            assert_eq!(block_on(foreign_signature(&device)), Ok(Some(name)), "{tool}");
            seen += 1;
        }
        println!("{seen} of 4 tools tried");
    }
}
