//! What readers pin is shown, and comes back with them.

use esker::vfs::MemVfs;
use esker::{Background, Engine, Options};

#[test]
fn an_old_cursor_pins_memtable_and_tables_until_it_is_dropped_or_refreshed() {
    let options = Options { memtable_bytes: Some(1 << 20), ..Options::default() };
    let engine =
        Engine::builder("data").options(options).vfs(MemVfs::new()).background(Background::Manual).open().unwrap();
    let fill = || (0..2000u32).for_each(|i| engine.put(i.to_be_bytes(), [7; 100]).unwrap());
    fill();
    engine.flush().unwrap();
    fill();
    let mut cursor = engine.cursor();
    cursor.seek_to_first().unwrap();
    assert_eq!((engine.metrics().pinned_memtable_bytes, engine.metrics().pinned_table_bytes), (0, 0));

    engine.compact_range(..).unwrap();
    let pinned = engine.metrics();
    assert!(pinned.pinned_memtable_bytes > 200_000, "{}", pinned.pinned_memtable_bytes);
    assert!(pinned.pinned_table_bytes > 100_000, "{}", pinned.pinned_table_bytes);
    assert_eq!(cursor.value().unwrap(), [7; 100]);

    cursor.refresh().unwrap();
    let free = engine.metrics();
    assert_eq!((free.pinned_memtable_bytes, free.pinned_table_bytes), (0, 0));
}

#[test]
fn long_values_of_a_scan_pin_their_table_and_outlive_the_engine() {
    let options = Options { compression: [esker::Codec::None; esker::LEVELS], ..Options::default() };
    let engine =
        Engine::builder("data").options(options).vfs(MemVfs::new()).background(Background::Manual).open().unwrap();
    for i in 0..100u32 {
        engine.put(i.to_be_bytes(), [i as u8; 500]).unwrap();
        engine.put([i.to_be_bytes(), [9; 4]].concat(), [i as u8; 10]).unwrap();
    }
    engine.compact_range(..).unwrap();
    let forward: Vec<_> = engine.iter().map(Result::unwrap).collect();
    let mut backward: Vec<_> = engine.iter().rev().map(Result::unwrap).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    assert!(forward.iter().all(|(key, value)| !key.is_pinned() && value.is_pinned() == (value.len() == 500)));
    engine.close().unwrap();
    drop(engine);
    for (key, value) in forward {
        let i = u32::from_be_bytes(key[..4].try_into().unwrap());
        assert!(value.iter().all(|byte| *byte == i as u8));
        assert!(!value.detach().is_pinned());
    }
}
