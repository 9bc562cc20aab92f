//! Tables that somebody else has built, ingested. What is taken reads to its end from then on, whatever is done with it; what is not leaves all as it was.

use crate::bytes::Bytes;
use crate::table::CACHE_BYTES;
use esker::vfs::{MemVfs, Vfs, read_file};
use esker::{Background, Codec, Engine, IngestOptions, Options, Result, SstOptions, SstWriter};
use esker_sstable::{BlockCache, InternalIterator, ReadMode, Table, TableOptions, Verify};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/data";
const FILE: &str = "/outside/t.sst";

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(vfs: &Arc<MemVfs>) -> Engine {
    let options = Options { memory_budget_bytes: 1 << 20, memtable_bytes: Some(64 << 10), ..Options::default() };
    let builder = Engine::builder(DIR).options(options).vfs(Arc::clone(vfs) as Arc<dyn Vfs>);
    builder.background(Background::Manual).open().expect("nothing is damaged")
}

fn contents(engine: &Engine) -> Contents {
    let there = |item: Result<(esker::Slice, esker::Slice)>| item.map(|(key, value)| (key.to_vec(), value.to_vec()));
    let forward: Contents = engine.iter().map(there).collect::<Result<_>>().expect("nothing is damaged");
    let back: Contents = engine.iter().rev().map(there).collect::<Result<_>>().expect("nothing is damaged");
    assert!(forward == back, "from the back it is another");
    forward
}

/// A table built outside: puts and deletes, over several blocks.
pub(crate) fn real(compression: Codec) -> Vec<u8> {
    let vfs = MemVfs::new();
    let options = SstOptions { block_size_bytes: 128, compression, ..SstOptions::default() };
    let file = Arc::clone(&vfs) as Arc<dyn Vfs>;
    let mut table = SstWriter::create_on(file, "t.sst", &options).expect("memory takes it");
    for i in 0..20 {
        let key = format!("key{i:02}");
        let added = if i % 5 == 3 { table.delete(key) } else { table.put(key, vec![b'v'; i * 3]) };
        added.expect("keys in order");
    }
    table.finish().expect("memory takes it");
    read_file(&*vfs, Path::new("t.sst"), 1 << 20).expect("it is there")
}

/// What the table would make of nothing, entry by entry as it says: `None` deletes.
fn entries(bytes: &[u8]) -> Option<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
    let options = TableOptions {
        verify: Verify::Always,
        read_mode: ReadMode::Pread,
        cache: BlockCache::new(CACHE_BYTES),
        expect: None,
    };
    let table = Table::open(Bytes::new(bytes.to_vec()), "t.sst", options).ok()?;
    let (mut entries, mut iter) = (BTreeMap::new(), table.iter_once());
    iter.seek_to_first().ok()?;
    while iter.valid() {
        let is_put = iter.key().trailer.kind() == esker_format::ValueKind::Put;
        entries.insert(iter.key().user_key.to_vec(), is_put.then(|| iter.value().to_vec()));
        iter.next().ok()?;
    }
    Some(entries)
}

/// Ingests it over some keys, moved or copied.
pub(crate) fn attack(bytes: Vec<u8>) {
    let vfs = MemVfs::new();
    vfs.create_dir_all(Path::new("/outside")).expect("a new directory");
    vfs.create_new(Path::new(FILE)).and_then(|mut file| file.append(&bytes)).expect("memory takes it");
    let engine = open(&vfs);
    for key in ["a", "key03", "key07", "zz"] {
        engine.put(key, "before").expect("memory takes it");
    }
    let mut expected = contents(&engine);
    let move_files = bytes.len() % 2 == 1;
    match engine.ingest([FILE], &IngestOptions { move_files }) {
        Ok(ingested) => {
            let entries = entries(&bytes).expect("it was read whole");
            assert_eq!(ingested.entries(), entries.len() as u64);
            for (key, value) in entries {
                match value {
                    Some(value) => expected.insert(key, value),
                    None => expected.remove(&key),
                };
            }
        }
        Err(_) => {
            let left = read_file(&*vfs, Path::new(FILE), 1 << 30);
            assert!(left.is_ok_and(|left| left == bytes), "it was not taken, and is not as it was");
        }
    }
    assert!(contents(&engine) == expected, "{expected:?}");
    for (key, value) in &expected {
        assert_eq!(engine.get(key).expect("nothing is damaged").as_deref(), Some(&value[..]), "{}", key.escape_ascii());
    }
    engine.compact_range(..).expect("nothing is damaged");
    assert!(contents(&engine) == expected, "compacted: {expected:?}");
    engine.close().expect("nothing is damaged");
    drop(engine);
    let files = Arc::clone(&vfs) as Arc<dyn Vfs>;
    let report = esker::verify_deep(&files, DIR, &mut |_| {}).expect("nothing has it open");
    assert!(report.is_ok(), "{report:?}");
    assert!(contents(&open(&vfs)) == expected, "opened again: {expected:?}");
}
