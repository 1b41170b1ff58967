//! What is decoded, for some seconds what the fuzz targets do for hours, and every damage of every structure on disk.

mod damage;
#[path = "../fuzz/decoders/mod.rs"]
mod decoders;

use cleave::sim::Rng;
use decoders::{ALL, Decoder, mutate::mutate};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The committed corpus of a decoder.
fn corpus(decoder: &Decoder) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(decoder.name)
}

#[test]
fn the_corpus_is_what_the_encoders_write_and_is_decoded() {
    for decoder in &ALL {
        let (directory, seeds) = (corpus(decoder), (decoder.seeds)());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir_all(&directory).unwrap();
            for (name, bytes) in &seeds {
                std::fs::write(directory.join(name), bytes).unwrap();
            }
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), seeds.len(), "{}", directory.display());
        for (name, bytes) in &seeds {
            let file = directory.join(name);
            assert_eq!(&std::fs::read(&file).unwrap(), bytes, "{}", file.display());
            assert!(bytes.len() <= decoder.max_len, "{}: {} bytes", file.display(), bytes.len());
            assert!((decoder.check)(bytes), "{} is not decoded", file.display());
        }
    }
}

/// Mutates the corpus of `decoder` until `limit` has passed; prints how many inputs were tried and how many decoded.
fn mutations(decoder: &Decoder, limit: Duration) {
    let seeds: Vec<_> = (decoder.seeds)().into_iter().map(|(_, bytes)| bytes).collect();
    let (mut kept, mut rng) = (seeds.clone(), Rng::new(0xdec0de));
    let (mut tried, mut decoded) = (0u64, 0u64);
    let end = Instant::now() + limit;
    while Instant::now() < end {
        let mut input = rng.pick(&kept).clone();
        let other = rng.pick(&seeds).clone();
        mutate(&mut rng, decoder.shape, &mut input, &other, decoder.max_len);
        let shown = input.clone();
        let result = std::panic::catch_unwind(|| (decoder.check)(&input));
        let good = result.unwrap_or_else(|_| panic!("{}: the input is {shown:02x?}", decoder.name));
        tried += 1;
        decoded += u64::from(good);
        // What is decoded leads to more of it; the first of them are the committed ones and stay.
        if good && kept.len() < 256 {
            kept.push(input);
        } else if good {
            let at = seeds.len() + rng.index(256 - seeds.len());
            kept[at] = input;
        }
    }
    println!("{:14} {tried:8} inputs, {decoded:8} of them decoded", decoder.name);
    assert!(decoded > 0 && decoded < tried, "the mutations reach only one side of {}", decoder.name);
}

#[test]
fn no_mutation_of_the_corpus_breaks_a_property() {
    let ms = std::env::var("CLEAVE_MUTATE_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(400);
    for decoder in &ALL {
        mutations(decoder, Duration::from_millis(ms));
    }
}
