//! `multi_get` and `contains_key` against a plain `get` of each key, over memtables, tables of L0 and deeper levels, and on snapshots.

use esker::vfs::{MemVfs, Vfs};
use esker::{Background, Codec, Engine, ErrorKind, LEVELS, Options, ReadMode, Verify};
use proptest::prelude::*;
use std::path::Path;

/// What is done before the keys are read.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, usize),
    Delete(u8),
    Flush,
    Compact,
    Snapshot,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any::<u8>(), prop_oneof![0..80usize, 200..600usize]).prop_map(|(key, len)| Step::Put(key, len)),
        4 => any::<u8>().prop_map(Step::Delete),
        3 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Snapshot),
    ]
}

fn key(number: u8) -> String {
    // Some of one length, some longer, with an empty one among them.
    match number % 16 {
        0 if number == 0 => String::new(),
        0..4 => format!("key{number:03}/and/more/of/it"),
        _ => format!("key{number:03}"),
    }
}

fn options(codec: Codec, read_mode: ReadMode, verify: Verify, filter_bits_per_key: u32) -> Options {
    let mut options = Options {
        compression: [codec; LEVELS],
        read_mode,
        verify,
        filter_bits_per_key,
        block_size_bytes: 256,
        memory_budget_bytes: 4 << 20,
        ..Options::default()
    };
    // Many tables of L0, more than are looked at together.
    options.compaction.l0_trigger = 40;
    options.compaction.l0_slowdown = 60;
    options.compaction.l0_stop = 80;
    options
}

macro_rules! check {
    ($reads:expr, $keys:expr) => {{
        let one_by_one: Vec<_> = $keys.iter().map(|key| $reads.get(key).unwrap()).collect();
        prop_assert_eq!(&$reads.multi_get($keys).unwrap(), &one_by_one);
        for (key, value) in $keys.iter().zip(&one_by_one) {
            prop_assert_eq!($reads.contains_key(key).unwrap(), value.is_some(), "{:?}", key);
        }
        one_by_one
    }};
}

proptest! {
    #[test]
    fn gives_what_a_get_of_each_key_gives(
        steps in proptest::collection::vec(any_step(), 0..300),
        wanted in proptest::collection::vec(any::<u8>(), 0..70),
        codec in prop::sample::select(vec![Codec::None, Codec::Lz4]),
        read_mode in prop::sample::select(vec![ReadMode::Map, ReadMode::Pread, ReadMode::GuardedMap]),
        verify in prop::sample::select(vec![Verify::FirstUse, Verify::Always]),
        bits in prop::sample::select(vec![0u32, 1, 12]),
    ) {
        let vfs = MemVfs::new();
        let options = options(codec, read_mode, verify, bits);
        let engine = Engine::builder("data").options(options).vfs(vfs).background(Background::Manual).open().unwrap();
        let mut model = vec![None; 256];
        let mut snapshots = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            match *step {
                Step::Put(number, len) => {
                    let value = vec![i as u8; len];
                    engine.put(key(number), &value).unwrap();
                    model[usize::from(number)] = Some(value);
                }
                Step::Delete(number) => {
                    engine.delete(key(number)).unwrap();
                    model[usize::from(number)] = None;
                }
                Step::Flush => engine.flush().unwrap(),
                Step::Compact => engine.compact_range(..).unwrap(),
                Step::Snapshot => snapshots.push((engine.snapshot(), model.clone())),
            }
        }
        // More than one group, and keys that come twice.
        let keys: Vec<String> = wanted.iter().map(|number| key(*number)).collect();
        let expected = |model: &[Option<Vec<u8>>]| wanted.iter().map(|n| model[usize::from(*n)].clone()).collect::<Vec<_>>();
        let found = check!(engine, &keys);
        prop_assert_eq!(found.iter().map(|v| v.as_ref().map(|v| v.to_vec())).collect::<Vec<_>>(), expected(&model));
        for (snapshot, model) in &snapshots {
            let found = check!(snapshot, &keys);
            prop_assert_eq!(found.iter().map(|v| v.as_ref().map(|v| v.to_vec())).collect::<Vec<_>>(), expected(model));
        }
    }
}

#[test]
fn fails_whole_if_a_key_leads_to_damage_and_only_then() {
    let vfs = MemVfs::new();
    let options = options(Codec::None, ReadMode::Map, Verify::FirstUse, 12);
    let open = || {
        Engine::builder("data").options(options.clone()).vfs(vfs.clone()).background(Background::Manual).open().unwrap()
    };
    let engine = open();
    for i in 0..100u32 {
        engine.put(format!("a{i:03}"), "under damage").unwrap();
        engine.put(format!("b{i:03}"), "whole").unwrap();
    }
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);
    let table = vfs.list(Path::new("data")).unwrap().into_iter().find(|name| name.ends_with(".sst"));
    vfs.edit(&Path::new("data").join(table.unwrap()), |bytes| bytes[5] ^= 0xff).unwrap();

    let engine = open();
    assert_eq!(
        engine.multi_get(["b001", "b050", "c"]).unwrap(),
        [Some("whole".as_bytes().into()), Some("whole".as_bytes().into()), None]
    );
    let error = engine.multi_get(["b001", "a000", "b050"]).unwrap_err();
    assert_eq!((error.kind(), engine.metrics().read_errors), (ErrorKind::Corruption, 1));
    engine.put("a000", "newer").unwrap();
    assert_eq!(engine.multi_get(["b001", "a000"]).unwrap()[1].as_ref().unwrap(), b"newer");
    engine.close().unwrap();
    assert_eq!(engine.multi_get(["a000"]).unwrap_err().kind(), ErrorKind::Closed);
}
