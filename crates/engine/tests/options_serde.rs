//! Options as serde data (feature `serde`).

use esker::{Codec, KeyspaceOptions, Options};

#[test]
fn options_go_there_and_back_and_what_is_missing_takes_its_default() {
    let mut options = Options { memtable_bytes: Some(1 << 20), ..Options::default() };
    options.compression[2] = Codec::None;
    let text = serde_json::to_string(&options).unwrap();
    assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options);

    let partial: Options = serde_json::from_str(r#"{"durability": "Sync", "compaction": {"l0_trigger": 8}}"#).unwrap();
    assert_eq!((partial.durability, partial.compaction.l0_trigger), (esker::Durability::Sync, 8));
    assert_eq!(partial.block_size_bytes, Options::default().block_size_bytes);

    let keyspace: KeyspaceOptions = serde_json::from_str("{}").unwrap();
    assert_eq!(keyspace, KeyspaceOptions::default());
}
