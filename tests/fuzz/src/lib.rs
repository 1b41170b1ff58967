//! The decoders of the main package as targets of libFuzzer. What must hold of each stands in `decoders`.

#[path = "../decoders/mod.rs"]
pub mod decoders;

use cleave::sim::Rng;
use decoders::Decoder;

/// The next input after the first `size` bytes of `data`, which has room for `max`: libFuzzer's own mutations and ours, which
/// know fields and tokens, by turns. Returns its length.
pub fn mutate(decoder: &Decoder, data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let max = max.min(decoder.max_len);
    let size = size.min(max);
    let mut rng = Rng::new(seed.into());
    if rng.coin() {
        return libfuzzer_sys::fuzzer_mutate(data, size, max);
    }
    let mut input = data[..size].to_vec();
    let other = input.clone();
    decoders::mutate::mutate(&mut rng, decoder.shape, &mut input, &other, max);
    data[..input.len()].copy_from_slice(&input);
    input.len()
}

/// The decoder called `name`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn named(name: &str) -> &'static Decoder {
    decoders::ALL.iter().find(|decoder| decoder.name == name).unwrap_or_else(|| panic!("no decoder is called {name}"))
}

/// The target of the decoder with this name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        static DECODER: std::sync::LazyLock<&'static $crate::decoders::Decoder> =
            std::sync::LazyLock::new(|| $crate::named($name));
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            // An input from elsewhere may be longer than those that are made here.
            let _ = (DECODER.check)(&data[..data.len().min(DECODER.max_len)]);
        });
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
            $crate::mutate(&DECODER, data, size, max, seed)
        });
    };
}
