//! What readers pin is shown, and comes back with them.

use esker::vfs::MemVfs;
use esker::{Background, Engine, Options};

#[test]
fn an_old_cursor_pins_memtable_and_tables_until_it_is_dropped_or_refreshed() {
    let options = Options { memtable_bytes: Some(1 << 20), ..Options::default() };
    let engine = Engine::builder("data").options(options).vfs(MemVfs::new()).background(Background::Manual).open().unwrap();
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
