//! Blocks that say what they are: each written block carries the stamp of its write and its own address, over and over,
//! so that a wrong, torn, misplaced or rotten block is told from a good one.

/// Bytes of a block: the logical block size of the volumes here.
pub const BLOCK: u64 = 512;

/// Which write a block came from; zero is the stamp of zeroes.
pub type Stamp = u64;

/// The stamp of a block that reads as zero.
pub const ZEROES: Stamp = 0;

/// The bytes of `blocks` blocks from block `first` on, as the write `stamp` leaves them.
pub fn bytes_of(stamp: Stamp, first: u64, blocks: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((blocks * BLOCK) as usize);
    for block in first..first + blocks {
        if stamp == ZEROES {
            bytes.resize(bytes.len() + BLOCK as usize, 0);
            continue;
        }
        for word in 0..BLOCK / 16 {
            bytes.extend(stamp.wrapping_add(word << 56).to_le_bytes());
            bytes.extend(block.to_le_bytes());
        }
    }
    bytes
}

/// The stamp of the block at address `block`, or what is wrong with it.
pub fn stamp_of(block: u64, bytes: &[u8]) -> Result<Stamp, String> {
    assert_eq!(bytes.len() as u64, BLOCK);
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(ZEROES);
    }
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let stamp = word(0);
    if bytes == bytes_of(stamp, block, 1) {
        return Ok(stamp);
    }
    Err(format!("block {block} is no block that was written there: it starts with {stamp:#x}, {}", word(8)))
}

/// The stamps of consecutive blocks.
pub fn stamps_of(first: u64, bytes: &[u8]) -> Result<Vec<Stamp>, String> {
    bytes.chunks(BLOCK as usize).zip(first..).map(|(bytes, block)| stamp_of(block, bytes)).collect()
}

#[test]
fn a_block_is_known_again_and_a_damaged_one_is_not() {
    let bytes = bytes_of(77, 5, 2);
    assert_eq!(stamps_of(5, &bytes), Ok(vec![77, 77]));
    assert!(stamps_of(6, &bytes).is_err(), "misplaced");
    for at in [0, 100, 511] {
        let mut rotten = bytes[..512].to_vec();
        rotten[at] ^= 1;
        assert!(stamp_of(5, &rotten).is_err(), "byte {at}");
    }
    let torn = [&bytes_of(77, 5, 1)[..256], &bytes_of(78, 5, 1)[256..]].concat();
    assert!(stamp_of(5, &torn).is_err());
    assert_eq!(stamp_of(9, &[0; 512]), Ok(ZEROES));
}
