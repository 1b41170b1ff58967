//! Fields of a fixed layout: their offsets are summed up by the compiler, in the order of their list.

use crate::base::museum::{self, Exhibit};
use crate::base::{Generation, Uuid, checksum};

use super::Damage;

/// A field: where it stands and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Offset of the first byte in the structure.
    pub at: usize,
    /// Number of bytes.
    pub size: usize,
    /// What the diagram says of it.
    pub what: &'static str,
}

/// `fields! { NAME: size, "what"; ... }` makes a constant [`Field`] of each line, each behind the one before, `END`, the
/// sum of their sizes, and `FIELDS`, their list.
macro_rules! fields {
    ($($name:ident: $size:expr, $what:literal;)*) => {
        const FIELDS: &[$crate::format::layout::Field] = &[$($name),*];
        fields!(@ 0; $($name: $size, $what;)*);
    };
    (@ $at:expr;) => {
        const END: usize = $at;
    };
    (@ $at:expr; $name:ident: $size:expr, $what:literal; $($rest:tt)*) => {
        const $name: $crate::format::layout::Field =
            $crate::format::layout::Field { at: $at, size: $size, what: $what };
        fields!(@ $name.at + $name.size; $($rest)*);
    };
}
pub(super) use fields;

/// Reads and writes of a block that holds the whole layout: the decoders check the block's length first.
impl Field {
    pub(super) fn bytes<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.at..self.at + self.size]
    }

    pub(super) fn put(&self, block: &mut [u8], bytes: &[u8]) {
        block[self.at..self.at + self.size].copy_from_slice(bytes);
    }

    fn array<const N: usize>(&self, block: &[u8]) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(block));
        array
    }

    pub(super) fn u8(&self, block: &[u8]) -> u8 {
        u8::from_le_bytes(self.array(block))
    }

    pub(super) fn u16(&self, block: &[u8]) -> u16 {
        u16::from_le_bytes(self.array(block))
    }

    pub(super) fn u32(&self, block: &[u8]) -> u32 {
        u32::from_le_bytes(self.array(block))
    }

    pub(super) fn u64(&self, block: &[u8]) -> u64 {
        u64::from_le_bytes(self.array(block))
    }

    pub(super) fn uuid(&self, block: &[u8]) -> Uuid {
        Uuid::from_bytes(self.array(block))
    }

    pub(super) fn put_u64(&self, block: &mut [u8], value: u64) {
        self.put(block, &value.to_le_bytes());
    }

    pub(super) fn put_uuid(&self, block: &mut [u8], id: Uuid) {
        self.put(block, id.bytes());
    }

    pub(super) fn is_zero(&self, block: &[u8]) -> bool {
        self.bytes(block).iter().all(|&byte| byte == 0)
    }

    /// A stop generation: zero stands for none.
    pub(super) fn stop(&self, block: &[u8]) -> Option<Generation> {
        Some(self.u64(block)).filter(|&stop| stop != 0).map(Generation)
    }

    pub(super) fn put_stop(&self, block: &mut [u8], stop: Option<Generation>) {
        assert_ne!(stop, Some(Generation(0)), "stop generations start at 1, zero stands for none");
        self.put_u64(block, stop.map_or(0, |stop| stop.0));
    }
}

/// The head that every block shares, in all versions: magic, checksum of the block with this field zero, version.
pub(super) struct Head {
    pub magic: Field,
    pub crc: Field,
    pub version: Field,
}

impl Head {
    /// Check `block`, which has `size` bytes if it is whole.
    pub(super) fn check(
        &self,
        block: &[u8],
        size: usize,
        magic: &[u8; 8],
        newest: u16,
    ) -> Result<(), Damage> {
        if block.len() != size {
            return Err(Damage::WrongLength { found: block.len(), expected: size });
        }
        if self.magic.bytes(block) != magic {
            let blank = block.iter().all(|&byte| byte == 0);
            return Err(if blank { Damage::Blank } else { Damage::BadMagic });
        }
        if self.crc.u32(block) != checksum::crc32c_without(block, self.crc.at)
            && !museum::shows(Exhibit::TornPageBelieved)
        {
            return Err(Damage::BadChecksum);
        }
        match self.version.u16(block) {
            found if found == newest => Ok(()),
            0 => Err(Damage::Absurd("version 0 was never in use")),
            found => Err(Damage::UnknownVersion { found, newest }),
        }
    }

    /// Write the head over `block`, the checksum last; everything else stands there.
    pub(super) fn seal(&self, block: &mut [u8], magic: &[u8; 8], version: u16) {
        self.magic.put(block, magic);
        self.version.put(block, &version.to_le_bytes());
        let crc = checksum::crc32c_without(block, self.crc.at);
        self.crc.put(block, &crc.to_le_bytes());
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! What the tests of all structures share.

    use super::Field;

    /// Assert that the module documentation in `source` shows exactly the layout of `fields`.
    pub(in crate::format) fn diagram_is_in(source: &str, fields: &[Field]) {
        let mut diagram = String::from("//! offset  size  field\n");
        for field in fields {
            diagram.push_str(&format!("//! {:6} {:5}  {}\n", field.at, field.size, field.what));
        }
        assert!(source.contains(&diagram), "the diagram in the module documentation should be:\n{diagram}");
    }

    /// Assert that `refused` holds for `bytes` with each single bit flipped and for each truncation.
    pub(in crate::format) fn every_flip_and_truncation(bytes: &[u8], refused: impl Fn(&[u8]) -> bool) {
        assert!(!refused(bytes), "the sound block is refused");
        let mut flipped = bytes.to_vec();
        for bit in 0..bytes.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&flipped), "bit {} of byte {} flipped and not seen", bit % 8, bit / 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..bytes.len() {
            assert!(refused(&bytes[..length]), "truncation to {length} bytes not seen");
        }
    }

    pub(in crate::format) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
