//! The store under pressure, and what each key must hold.

use esker::{Durability, Engine, Keyspace, KeyspaceOptions, LeveledOptions, Options};
use std::path::Path;

pub(crate) const BUDGET: usize = 16 << 20;

/// Each thread writes to a section of its own.
pub(crate) const SECTIONS: u8 = 4;
/// Keys of each section, in `default`, with values of some hundred bytes.
pub(crate) const SMALL: u32 = 20_000;
/// Keys of each section in `large`, with values from 4 to 64 KiB, some of [`LARGEST`].
pub(crate) const LARGE: u32 = 1_000;
pub(crate) const LARGEST: usize = 256 << 10;
/// Large values that one batch holds at most.
pub(crate) const LARGE_TOGETHER: u64 = 3;
/// Counters of each section.
pub(crate) const SUMS: u32 = 500;
/// Keys of each section that expire.
pub(crate) const SHORT: u32 = 1_000;

/// An engine and its keyspaces.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) engine: Engine,
    pub(crate) large: Keyspace,
    pub(crate) sums: Keyspace,
    pub(crate) short: Keyspace,
    pub(crate) bank: Keyspace,
}

fn options(flush_on_close: bool) -> Options {
    Options {
        memory_budget_bytes: BUDGET,
        // Many tables, so that what is known of each adds up.
        compaction: LeveledOptions { level_base_bytes: 8 << 20, table_bytes: 1 << 20, ..LeveledOptions::default() },
        wal_bytes_max: BUDGET as u64,
        wal_retain_bytes: Some(BUDGET as u64 / 2),
        durability: Durability::Os,
        background_threads: 2,
        flush_on_close,
        ..Options::default()
    }
}

impl Store {
    pub(crate) fn open(dir: &Path, flush_on_close: bool) -> Self {
        let engine = Engine::builder(dir).options(options(flush_on_close)).open().unwrap();
        Self::of(engine)
    }

    /// A copy, to be read; it has the least budget there is.
    pub(crate) fn open_copy(dir: &Path) -> Self {
        let options = Options { memory_budget_bytes: 1 << 20, ..options(true) };
        Self::of(Engine::builder(dir).options(options).read_only(true).open().unwrap())
    }

    fn of(engine: Engine) -> Self {
        let keyspace = |name: &str, options| engine.keyspace(name, options).unwrap();
        let merged = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..KeyspaceOptions::default() };
        Self {
            large: keyspace("large", KeyspaceOptions::default()),
            sums: keyspace("sums", merged),
            short: keyspace("short", KeyspaceOptions::default()),
            bank: keyspace("bank", KeyspaceOptions::default()),
            engine,
        }
    }

    /// The keyspace of values of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> Keyspace {
        match kind {
            Kind::Small => self.engine.keyspace("default", KeyspaceOptions::default()).unwrap(),
            Kind::Large => self.large.clone(),
        }
    }
}

/// Values that a model knows by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Small,
    Large,
}

impl Kind {
    pub(crate) fn keys(self) -> u32 {
        match self {
            Kind::Small => SMALL,
            Kind::Large => LARGE,
        }
    }
}

/// Key `i` of a section, of a length between 5 and 44.
pub(crate) fn key(section: u8, i: u32) -> Vec<u8> {
    let mut key = vec![section];
    key.extend(i.to_be_bytes());
    key.resize(5 + (i * 7 % 40) as usize, b'k');
    key
}

/// Which key it is.
pub(crate) fn parse(key: &[u8]) -> (u8, u32) {
    (key[0], u32::from_be_bytes(key[1..5].try_into().unwrap()))
}

fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x.wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

/// The value of a version of a key: the version, and bytes that follow from both, half of which can be compressed.
pub(crate) fn value(kind: Kind, section: u8, i: u32, version: u32) -> Vec<u8> {
    let mut x = mix((u64::from(section) << 56) ^ (u64::from(i) << 32) ^ u64::from(version)) | 1;
    let bytes = match kind {
        Kind::Small => 50 + x % 700,
        Kind::Large if x.is_multiple_of(200) => LARGEST as u64,
        Kind::Large => (4 << 10) + x % (60 << 10),
    };
    let mut value = Vec::with_capacity(bytes as usize + 16);
    value.extend(version.to_be_bytes());
    while value.len() < bytes as usize {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        value.extend(x.to_be_bytes());
        value.extend(b"pressure");
    }
    value
}

/// Fails unless the value is that of some version of its key.
pub(crate) fn assert_whole(kind: Kind, at: &[u8], found: &[u8]) {
    let (section, i) = parse(at);
    let version = u32::from_be_bytes(found[..4].try_into().unwrap());
    assert!(found == value(kind, section, i, version), "{kind:?} {section} {i}: not what version {version} was");
}

/// Fails unless the value is that of `version`, or there is none for version 0.
pub(crate) fn assert_is(kind: Kind, (section, i): (u8, u32), found: Option<&[u8]>, version: u32) {
    match found {
        None => assert_eq!(version, 0, "{kind:?} {section} {i}: not there"),
        Some(bytes) => {
            let there = u32::from_be_bytes(bytes[..4].try_into().unwrap());
            assert_eq!(there, version, "{kind:?} {section} {i}: another version");
            assert!(bytes == value(kind, section, i, version), "{kind:?} {section} {i}: version {version} torn");
        }
    }
}
