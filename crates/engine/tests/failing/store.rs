//! The store on which all is tried, and what is in it.

use crate::worlds::{SPACES, World};
use esker::{
    Builder, Engine, Error, Keyspace, KeyspaceOptions, LeveledOptions, LogBackend, Options, ReadMode, Result, Slice,
    Verify,
};
use esker_testkit::random::Random;

const NAMES: [&str; SPACES] = ["default", "other"];

pub(crate) fn key(i: u64) -> String {
    format!("key{i:03}")
}

/// What write `id` puts: no other puts the same.
pub(crate) fn value(id: u32) -> Vec<u8> {
    let mut value = id.to_le_bytes().to_vec();
    let len = if id.is_multiple_of(8) { 300 + id % 700 } else { 20 + id % 130 };
    value.resize(len as usize, id as u8);
    value
}

/// The write that has put `value`.
pub(crate) fn id_of(found: &[u8]) -> u32 {
    let id = u32::from_le_bytes(found[..4].try_into().expect("a value of ours"));
    assert_eq!(found, value(id), "torn");
    id
}

/// Small, so that all that there is happens often.
pub(crate) fn options(random: &mut Random) -> Options {
    let compaction = LeveledOptions {
        l0_trigger: 2,
        level_base_bytes: 8 << 10,
        level_ratio: 2,
        table_bytes: 2 << 10,
        ..LeveledOptions::default()
    };
    Options {
        memory_budget_bytes: 4 << 20,
        memtable_bytes: Some(*random.pick(&[6 << 10, 16 << 10, 32 << 10])),
        block_size_bytes: 256,
        wal_bytes_max: 32 << 10,
        log_backend: *random.pick(&[LogBackend::Mapped, LogBackend::Write]),
        read_mode: *random.pick(&[ReadMode::Map, ReadMode::GuardedMap, ReadMode::Pread]),
        verify: *random.pick(&[Verify::FirstUse, Verify::Always]),
        block_cache_bytes: *random.pick(&[None, Some(0)]),
        blob_bytes_min: *random.pick(&[0, 64, 256]),
        filter_bits_per_key: *random.pick(&[0, 12]),
        flush_on_close: random.one_in(2),
        wal_retain_bytes: *random.pick(&[None, Some(64 << 10)]),
        compaction,
        ..Options::default()
    }
}

/// All that is in the engine.
pub(crate) fn contents(spaces: &[Keyspace; SPACES], backwards: bool) -> Result<World> {
    let mut world = World::new();
    for (space, keyspace) in spaces.iter().enumerate() {
        let mut take = |item: Result<(Slice, Slice)>| {
            let (key, value) = item?;
            let key = std::str::from_utf8(&key[3..]).unwrap().parse().unwrap();
            let id = id_of(&value);
            assert!(world.insert((space, key), id).is_none(), "a key twice");
            Ok::<_, Error>(())
        };
        let iter = keyspace.iter();
        if backwards {
            iter.rev().try_for_each(&mut take)?
        } else {
            iter.into_iter().try_for_each(&mut take)?
        };
    }
    Ok(world)
}

/// An open engine, and its two keyspaces.
pub(crate) struct Store {
    pub(crate) engine: Engine,
    pub(crate) spaces: [Keyspace; SPACES],
}

impl Store {
    pub(crate) fn open(builder: Builder) -> Result<Self> {
        let engine = builder.open()?;
        let default = engine.keyspace(NAMES[0], KeyspaceOptions::default())?;
        let other = engine.keyspace(NAMES[1], KeyspaceOptions::default())?;
        Ok(Self { engine, spaces: [default, other] })
    }
}
