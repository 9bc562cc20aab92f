//! Sorted tables.

use super::{Dump, Entry, Opened, name};
use crate::failure::Result;
use crate::text;
use esker_format::{InternalKeyBuf, SeqNo, ValueKind};
use esker_sstable::{
    BlockCache, InternalIterator, Properties, ReadMode, Skipped, Table, TableError, TableIter, TableOptions, Verify,
    salvage,
};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// Prints a table: its properties, then `SEQ delete-range BEGIN TAB END` for each range tombstone, and `SEQ KIND KEY TAB VALUE` for each version of each key.
///
/// Where a block is damaged, what lies before it is read forwards, and where the sound part behind the damage begins is found backwards.
pub(super) fn sst(dump: &mut Dump, file: Opened, path: &Path) -> Result {
    // Into memory, block by block: a damaged file may be growing shorter still, which a map would not survive.
    let cache = BlockCache::new(0);
    let options = TableOptions { verify: Verify::Always, read_mode: ReadMode::Pread, cache, expect: None };
    let table = match Table::open(Arc::clone(&file), &name(path), options) {
        Err(error) if !error.is_unsupported() => {
            dump.wrong.push(error.to_string());
            return blocks(dump, file, path);
        }
        table => table?,
    };
    about(dump, table.properties())?;
    for range in table.range_tombstones().iter().flat_map(|ranges| ranges.iter()) {
        print_range(dump, range.seq, range.begin, range.end)?;
    }

    let ranges = dump.entries;
    let mut iter = table.iter_once();
    let walked = iter.seek_to_first();
    let Err(damage) = print_on(dump, &mut iter, walked)? else {
        if let Err(error) = table.verify() {
            dump.wrong.push(error.to_string());
        }
        return Ok(());
    };
    dump.wrong.push(damage.to_string());
    match sound_behind(&table) {
        Some(key) => {
            dump.about("entries are missing here", &json!({ "missing": true }))?;
            let mut iter = table.iter_once();
            let walked = iter.seek(key.as_ref());
            if let Err(error) = print_on(dump, &mut iter, walked)? {
                dump.wrong.push(error.to_string());
            }
            Ok(())
        }
        // So it is where the index can't be read, which says where the blocks are.
        None if dump.entries == ranges => blocks(dump, file, path),
        None => dump.about("no entries can be read from here on", &json!({ "missing": true })),
    }
}

/// Prints a table that does not open, or of which the index can't be read, as far as its blocks are found by themselves: `SEQ KIND KEY TAB VALUE` for each entry, then range tombstones, then what is missing.
fn blocks(dump: &mut Dump, file: Opened, path: &Path) -> Result {
    let ranges_are_printed = dump.entries > 0;
    let mut printed = Ok(());
    let salvaged = salvage(file, &name(path), None, None, &mut |key, value| {
        let (seq, kind) = (key.trailer.seq().0, key.trailer.kind());
        if printed.is_ok() {
            printed = dump.entry(&Entry { place: &[], seq, kind, key: key.user_key, value });
        }
    });
    printed?;
    let Ok(salvaged) = salvaged else {
        return dump.about("nothing can be read", &json!({ "missing": true }));
    };
    for range in salvaged.ranges.iter().filter(|_| !ranges_are_printed).flat_map(|ranges| ranges.iter()) {
        print_range(dump, range.seq, range.begin, range.end)?;
    }
    if salvaged.ranges_lost {
        dump.about("range tombstones can't be read, if there are any", &json!({ "missing": true }))?;
    }
    for Skipped { offset, bytes, after, .. } in &salvaged.skipped {
        let behind = match after {
            Some(key) => format!(" behind key '{}'", text::preview(key, 80)),
            None => String::new(),
        };
        let words = format!("entries are missing{behind}: {bytes} bytes at {offset} can't be read");
        dump.about(&words, &json!({ "missing": true, "offset": offset, "bytes": bytes }))?;
    }
    Ok(())
}

/// Prints a range tombstone.
fn print_range(dump: &mut Dump, seq: SeqNo, begin: &[u8], end: &[u8]) -> Result {
    dump.entry(&Entry { place: &[], seq: seq.0, kind: ValueKind::RangeDelete, key: begin, value: end })
}

/// Prints what comes from where `iter` stands, up to the end or an error.
fn print_on(
    dump: &mut Dump,
    iter: &mut TableIter,
    mut walked: std::result::Result<(), TableError>,
) -> Result<std::result::Result<(), TableError>> {
    while walked.is_ok() && iter.valid() {
        let key = iter.key();
        dump.entry(&Entry {
            place: &[],
            seq: key.trailer.seq().0,
            kind: key.trailer.kind(),
            key: key.user_key,
            value: iter.value(),
        })?;
        walked = iter.next();
    }
    Ok(walked)
}

/// The first key of the entries at the table's end that can be read, going back to the first damage from there.
fn sound_behind(table: &Arc<Table>) -> Option<InternalKeyBuf> {
    let mut iter = table.iter_once();
    let mut walked = iter.seek_to_last();
    let mut sound = None;
    while walked.is_ok() && iter.valid() {
        sound = Some(iter.key().to_buf());
        walked = iter.prev();
    }
    sound
}

fn about(dump: &mut Dump, properties: &Properties) -> Result {
    let Properties { file_id, codec, entries, deletions, user_keys, blocks, created_unix_ms, .. } = properties;
    let (smallest, largest) = (&properties.smallest, &properties.largest);
    let raw = properties.raw_key_bytes + properties.raw_value_bytes;
    let json = json!({
        "id": file_id.to_string(),
        "entries": entries,
        "deletions": deletions,
        "range_tombstones": properties.range_tombstones,
        "user_keys": user_keys,
        "blocks": blocks,
        "data_bytes": properties.data_bytes,
        "raw_bytes": raw,
        "index_bytes": properties.index_bytes,
        "filter_bytes": properties.filter_bytes,
        "filter_bits_per_key": properties.filter_bits_per_key,
        "block_size_bytes": properties.block_size_bytes,
        "codec": format!("{codec:?}"),
        "smallest": text::escape(&smallest.user_key),
        "largest": text::escape(&largest.user_key),
        "smallest_seq": properties.smallest_seq.0,
        "largest_seq": properties.largest_seq.0,
        "created_unix_ms": created_unix_ms,
    });
    if dump.json {
        return dump.out.json(&json);
    }
    let show = |key: &InternalKeyBuf| text::preview(&key.user_key, 80);
    for line in [
        format!("table, id {file_id}, made {created_unix_ms} ms after 1970"),
        format!(
            "{entries} entries of {user_keys} keys, {deletions} of them deletions; {} range tombstones; {blocks} blocks, codec {codec:?}",
            properties.range_tombstones
        ),
        format!(
            "{} bytes of data ({raw} before compression), {} of index, {} of filter",
            properties.data_bytes, properties.index_bytes, properties.filter_bytes
        ),
        format!("keys '{}' to '{}'", show(smallest), show(largest)),
        format!("sequence numbers {} to {}", properties.smallest_seq, properties.largest_seq),
    ] {
        dump.out.say(format!("# {line}"))?;
    }
    Ok(())
}
