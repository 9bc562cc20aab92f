//! A store with a table and a blob file for each letter, and what can be read of it.

use esker::{Background, Engine, Error, ErrorKind, LeveledOptions, Options, ReadMode, Verify};
use std::path::{Path, PathBuf};

pub(crate) const LETTERS: [char; 5] = ['a', 'b', 'c', 'd', 'e'];

/// Tables stay as they are flushed; what is read is read from the files each time.
pub(crate) fn options((read_mode, verify): (ReadMode, Verify)) -> Options {
    let compaction = LeveledOptions {
        l0_trigger: 20,
        l0_slowdown: 30,
        l0_stop: 40,
        compact_for_reads: false,
        ..LeveledOptions::default()
    };
    Options {
        read_mode,
        verify,
        compaction,
        block_cache_bytes: Some(0),
        memtable_bytes: Some(8 << 20),
        blob_bytes_min: 2 << 10,
        ..Options::default()
    }
}

pub(crate) fn open(dir: &Path, mode: (ReadMode, Verify)) -> Engine {
    Engine::builder(dir).options(options(mode)).background(Background::Manual).open().unwrap()
}

pub(crate) fn key(letter: char, i: usize) -> String {
    format!("{letter}{i:05}")
}

/// What no other key has. One in ten is long enough for a blob file.
pub(crate) fn value(letter: char, i: usize) -> Vec<u8> {
    let mut state = (letter as u64) << 32 | i as u64;
    let len = if i.is_multiple_of(10) { 5000 } else { 400 };
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(len).collect()
}

pub(crate) fn put_all(engine: &Engine, keys: usize) {
    for letter in LETTERS {
        (0..keys).for_each(|i| engine.put(key(letter, i), value(letter, i)).unwrap());
        engine.flush().unwrap();
    }
}

pub(crate) fn fill(dir: &Path, keys: usize) {
    let engine = open(dir, (ReadMode::Map, Verify::FirstUse));
    put_all(&engine, keys);
    engine.close().unwrap();
}

/// The files whose names end so, in order of number.
pub(crate) fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let of_kind = entries.filter(|entry| entry.file_name().to_str().unwrap().ends_with(end));
    let mut paths: Vec<_> = of_kind.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What [`look`] saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Keys that can't be read.
    pub(crate) failed: usize,
    /// Why not.
    pub(crate) errors: Vec<Error>,
}

/// Reads all keys of `letters` one by one, and walks over them both ways. What is read is right.
pub(crate) fn look(engine: &Engine, letters: &[char], keys: usize) -> Seen {
    let (mut unread, mut errors) = (0, Vec::new());
    let mut failed = |error: Error| {
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption), "{error}");
        errors.push(error);
    };
    for letter in letters {
        for i in 0..keys {
            match engine.get(key(*letter, i)) {
                Ok(found) => assert!(found.expect("it is there") == value(*letter, i), "{letter} {i}: another value"),
                Err(error) => {
                    failed(error);
                    unread += 1;
                }
            }
        }
        let entry = |k: usize| (key(*letter, k).into_bytes(), value(*letter, k));
        let walk = || engine.range(key(*letter, 0)..key(*letter, keys));
        let (forward, back) = (walk().zip(0..keys), walk().rev().zip((0..keys).rev()));
        for walk in [Box::new(forward) as Box<dyn Iterator<Item = _>>, Box::new(back)] {
            let mut left = keys;
            for (item, k) in walk {
                match item {
                    Ok((found, of)) => {
                        assert!((found.to_vec(), of.to_vec()) == entry(k), "{letter} {k}: another entry");
                        left -= 1;
                    }
                    Err(error) => {
                        failed(error);
                        left = 0;
                        break;
                    }
                }
            }
            assert_eq!(left, 0, "{letter}: a walk ends early, without an error");
        }
    }
    Seen { failed: unread, errors }
}
