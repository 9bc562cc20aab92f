//! What an edit makes of a version, and what must hold of every version.
//!
//! Edits come from disk as well as from the engine, so nothing about them is taken for granted, and no check costs more than
//! n log n of the tables it looks at.

use crate::edit::{CleanClose, VersionEdit};
use crate::error::EditError;
use crate::table::{BlobMeta, BlobState, IngestMeta, LEVELS, Level, TableMeta};
use crate::version::{DEFAULT_KEYSPACE, KeyspaceVersion, Version};
use esker_format::{FileNo, KEY_BYTES_MAX, KeyspaceId, SeqNo, ValueKind};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

pub(crate) fn apply(base: &Version, edit: &VersionEdit) -> Result<Version, EditError> {
    let mut version = if edit.snapshot { Version::nothing() } else { base.clone() };
    version.clean_close = false;
    raise("reserved sequence number", &mut version.last_seq, edit.reserve_seq, |n| n.0)?;
    below("reserved sequence number", version.last_seq.0, SeqNo::MAX.0 + 1)?;
    raise("reserved file number", &mut version.next_file, edit.reserve_file, |n| n.0)?;
    name_oldest_log(&mut version, edit)?;
    raise("clock", &mut version.clock_ms, edit.clock_ms, |n| n)?;
    raise("bytes written", &mut version.written_bytes, edit.written_bytes, |n| n)?;
    for &id in &edit.drop_keyspaces {
        if id == KeyspaceId::DEFAULT {
            return Err(EditError::DefaultKeyspace);
        }
        version.keyspaces.remove(&id).ok_or(EditError::NoKeyspace(id))?;
    }
    create_keyspaces(&mut version, edit)?;
    raise("next keyspace", &mut version.next_keyspace, edit.next_keyspace, |id| u64::from(id.0))?;
    remove_tables(&mut version, edit)?;
    add_blobs(&mut version, edit)?;
    add_tables(&mut version, edit)?;
    count_blobs(&mut version, edit)?;
    for &(id, seq) in &edit.flushed {
        below("flushed sequence number", seq.0, version.last_seq.0 + 1)?;
        raise("flushed sequence number", &mut keyspace_mut(&mut version, id)?.flushed_seq, Some(seq), |n| n.0)?;
    }
    tell_of_ingests(&mut version, edit)?;
    if let Some(clean) = edit.clean {
        close(&mut version, clean)?;
    }
    check_default(&version)?;
    Ok(version)
}

/// Sets which logs are needed, where they begin, and how far they are durable.
fn name_oldest_log(version: &mut Version, edit: &VersionEdit) -> Result<(), EditError> {
    let before = version.oldest_log;
    raise("oldest log", &mut version.oldest_log, edit.oldest_log, |n| n.0)?;
    raise("log durable", &mut version.log_durable, edit.log_durable, |n| n.0)?;
    match edit.log_start {
        None if version.oldest_log != before => version.log_start = None,
        told => raise("log start", &mut version.log_start, told.map(Some), |n| n.map_or(0, |n| n.0))?,
    }
    check_oldest_log(version)
}

fn check_oldest_log(version: &Version) -> Result<(), EditError> {
    below("oldest log", version.oldest_log.0, version.next_file.0)?;
    match version.log_start {
        Some(start) => below("log start", start.0, version.log_durable.0.saturating_add(1)),
        None => Ok(()),
    }
}

/// Adds the edit's ingests to those that the feed of changes tells of, and leaves out what it no longer does.
fn tell_of_ingests(version: &mut Version, edit: &VersionEdit) -> Result<(), EditError> {
    if edit.ingests.is_empty() && edit.changes_from.is_none() {
        return Ok(());
    }
    raise("changes from", &mut version.changes_from, edit.changes_from.map(|(seq, _)| seq), |n| n.0)?;
    raise("first log of changes", &mut version.changes_log, edit.changes_from.map(|(_, log)| log), |n| n.0)?;
    let from = version.changes_from;
    let ingests = Arc::make_mut(&mut version.ingests);
    ingests.extend(edit.ingests.iter().cloned());
    ingests.retain(|ingest| ingest.seq > from);
    check_ingests(version)
}

fn check_ingests(version: &Version) -> Result<(), EditError> {
    below("changes from", version.changes_from.0, version.last_seq.0 + 1)?;
    below("first log of changes", version.changes_log.0, version.next_file.0)?;
    let wrong = |seq: SeqNo, what| Err(EditError::Ingest { seq, what });
    for ingest in &*version.ingests {
        let IngestMeta { seq, tables, smallest, largest, .. } = ingest;
        if *tables == 0 || smallest > largest || smallest.len().max(largest.len()) > KEY_BYTES_MAX {
            return wrong(*seq, "it has no table, or its keys are out of order or too long");
        }
        if *seq > version.last_seq {
            return wrong(*seq, "its sequence number was not given out");
        }
    }
    match version.ingests.windows(2).find(|pair| pair[0].seq >= pair[1].seq) {
        Some(pair) => wrong(pair[1].seq, "its sequence number is not above that of the one before"),
        None => Ok(()),
    }
}

/// Sets a counter that never goes back.
fn raise<T: Copy>(what: &'static str, counter: &mut T, to: Option<T>, n: impl Fn(T) -> u64) -> Result<(), EditError> {
    let Some(to) = to else { return Ok(()) };
    if n(to) < n(*counter) {
        return Err(EditError::GoesBack { what, from: n(*counter), to: n(to) });
    }
    *counter = to;
    Ok(())
}

fn below(what: &'static str, found: u64, limit: u64) -> Result<(), EditError> {
    if found < limit { Ok(()) } else { Err(EditError::Beyond { what, found, limit }) }
}

fn keyspace_mut(version: &mut Version, id: KeyspaceId) -> Result<&mut KeyspaceVersion, EditError> {
    version.keyspaces.get_mut(&id).map(Arc::make_mut).ok_or(EditError::NoKeyspace(id))
}

fn create_keyspaces(version: &mut Version, edit: &VersionEdit) -> Result<(), EditError> {
    if edit.create_keyspaces.is_empty() {
        return Ok(());
    }
    let mut names: BTreeSet<Arc<str>> = version.keyspaces.values().map(|keyspace| Arc::clone(&keyspace.name)).collect();
    for (id, name, options) in &edit.create_keyspaces {
        let next = version.next_keyspace;
        let after = id.0.checked_add(1).filter(|_| *id >= next).ok_or(EditError::KeyspaceId { id: *id, next })?;
        let keyspace = KeyspaceVersion::new(*id, name, options);
        if !names.insert(Arc::clone(&keyspace.name)) {
            return Err(EditError::KeyspaceName(name.clone()));
        }
        version.keyspaces.insert(*id, Arc::new(keyspace));
        version.next_keyspace = KeyspaceId(after);
    }
    Ok(())
}

fn check_default(version: &Version) -> Result<(), EditError> {
    let named = version.keyspaces.get(&KeyspaceId::DEFAULT).is_some_and(|keyspace| &*keyspace.name == DEFAULT_KEYSPACE);
    if named { Ok(()) } else { Err(EditError::DefaultKeyspace) }
}

fn check_level(level: Level) -> Result<(), EditError> {
    if level.index() < LEVELS { Ok(()) } else { Err(EditError::NoLevel(level)) }
}

fn remove_tables(version: &mut Version, edit: &VersionEdit) -> Result<(), EditError> {
    let mut gone: BTreeMap<(KeyspaceId, Level), BTreeSet<FileNo>> = BTreeMap::new();
    for &(keyspace, level, number) in &edit.remove {
        check_level(level)?;
        if !gone.entry((keyspace, level)).or_default().insert(number) {
            return Err(EditError::NoTable { number, keyspace, level });
        }
    }
    for ((keyspace, level), mut numbers) in gone {
        let tables = &mut keyspace_mut(version, keyspace)?.levels[level.index()];
        tables.retain(|table| !numbers.remove(&table.number));
        if let Some(&number) = numbers.first() {
            return Err(EditError::NoTable { number, keyspace, level });
        }
    }
    Ok(())
}

fn add_tables(version: &mut Version, edit: &VersionEdit) -> Result<(), EditError> {
    let mut touched: BTreeSet<(KeyspaceId, Level)> = BTreeSet::new();
    let mut numbers: BTreeSet<FileNo> = BTreeSet::new();
    for (_, level, table) in &edit.add {
        check_level(*level)?;
        check_table(table, version)?;
        if !numbers.insert(table.number) {
            return Err(EditError::TableExists(table.number));
        }
    }
    if numbers.is_empty() {
        return Ok(());
    }
    if let Some((_, _, table)) = version.tables().find(|(_, _, table)| numbers.contains(&table.number)) {
        return Err(EditError::TableExists(table.number));
    }
    for (keyspace, level, table) in &edit.add {
        keyspace_mut(version, *keyspace)?.levels[level.index()].push(Arc::new(table.clone()));
        touched.insert((*keyspace, *level));
    }
    for (keyspace, level) in touched {
        let tables = &mut keyspace_mut(version, keyspace)?.levels[level.index()];
        if level == Level::ZERO {
            tables.sort_by_key(|table| newest_first(table));
        } else {
            tables.sort_by(|a, b| a.smallest.cmp(&b.smallest));
        }
        check_order(keyspace, level, tables)?;
    }
    Ok(())
}

fn add_blobs(version: &mut Version, edit: &VersionEdit) -> Result<(), EditError> {
    if edit.add_blobs.is_empty() && version.blobs().next().is_none() {
        return Ok(());
    }
    let taken = |number| Err(EditError::Blob { number, what: "its number is taken" });
    let mut numbers: BTreeSet<FileNo> = version.tables().map(|(_, _, table)| table.number).collect();
    numbers.extend(edit.add.iter().map(|(_, _, table)| table.number));
    if let Some((_, blob)) = version.blobs().find(|(_, blob)| numbers.contains(&blob.meta.number)) {
        return taken(blob.meta.number);
    }
    numbers.extend(version.blobs().map(|(_, blob)| blob.meta.number));
    for (keyspace, blob) in &edit.add_blobs {
        check_blob(blob, version)?;
        let number = blob.number;
        if !numbers.insert(number) {
            return taken(number);
        }
        let state = BlobState { meta: Arc::new(blob.clone()), live_records: 0, live_bytes: 0 };
        keyspace_mut(version, *keyspace)?.blobs.insert(number, state);
    }
    Ok(())
}

/// Counts what the tables of the keyspaces that the edit touches refer to, and lets go of what none refers to.
fn count_blobs(version: &mut Version, edit: &VersionEdit) -> Result<(), EditError> {
    let removed = edit.remove.iter().map(|(keyspace, ..)| *keyspace);
    let added = edit.add.iter().map(|(keyspace, ..)| *keyspace);
    let touched: BTreeSet<KeyspaceId> =
        removed.chain(added).chain(edit.add_blobs.iter().map(|(keyspace, _)| *keyspace)).collect();
    for id in touched {
        let keyspace = &version.keyspaces[&id];
        if keyspace.blobs.is_empty() && keyspace.tables().all(|(_, table)| table.blobs.is_empty()) {
            continue;
        }
        let counted = counted(keyspace)?;
        keyspace_mut(version, id)?.blobs = counted;
    }
    let kept = |id: KeyspaceId, number| version.keyspaces[&id].blobs.contains_key(&number);
    match edit.add_blobs.iter().find(|(id, blob)| !kept(*id, blob.number)) {
        Some((_, blob)) => Err(EditError::Blob { number: blob.number, what: "no table refers to it" }),
        None => Ok(()),
    }
}

/// The blob files to which the tables of a keyspace refer, with how much of each is live.
fn counted(keyspace: &KeyspaceVersion) -> Result<BTreeMap<FileNo, BlobState>, EditError> {
    let mut live: BTreeMap<FileNo, (u64, u64)> = BTreeMap::new();
    for (_, table) in keyspace.tables() {
        for used in &table.blobs {
            let (records, bytes) = live.entry(used.file).or_default();
            *records = records.saturating_add(used.records);
            *bytes = bytes.saturating_add(used.bytes);
        }
    }
    let counted = live.into_iter().map(|(number, (live_records, live_bytes))| {
        let refused = |what| EditError::Blob { number, what };
        let known = keyspace.blobs.get(&number).ok_or(refused("a table refers to it, and it is not there"))?;
        let meta = Arc::clone(&known.meta);
        if live_records > meta.records || live_bytes > meta.record_bytes {
            return Err(refused("tables refer to more than it holds"));
        }
        Ok((number, BlobState { meta, live_records, live_bytes }))
    });
    counted.collect()
}

/// What must hold of a blob file by itself and beside the counters.
fn check_blob(blob: &BlobMeta, version: &Version) -> Result<(), EditError> {
    let number = blob.number;
    let rules = [
        (number != FileNo(0) && number < version.next_file, "its number was not given out"),
        (blob.records > 0, "it has no record"),
        (blob.record_bytes / 8 >= blob.records, "more records than fit into their bytes"),
        (blob.file_bytes > blob.record_bytes, "more bytes of records than the file has"),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, what)) => Err(EditError::Blob { number, what }),
    }
}

/// Lowers the reservations to what was given out.
fn close(version: &mut Version, clean: CleanClose) -> Result<(), EditError> {
    below("last sequence number at close", clean.last_seq.0, version.last_seq.0.saturating_add(1))?;
    below("next file number at close", clean.next_file.0, version.next_file.0.saturating_add(1))?;
    version.last_seq = clean.last_seq;
    version.next_file = clean.next_file;
    version.clean_close = true;
    check(version)
}

pub(crate) fn check(version: &Version) -> Result<(), EditError> {
    check_default(version)?;
    below("reserved sequence number", version.last_seq.0, SeqNo::MAX.0 + 1)?;
    check_oldest_log(version)?;
    check_ingests(version)?;
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (&id, keyspace) in &version.keyspaces {
        if id != keyspace.id || id >= version.next_keyspace {
            return Err(EditError::KeyspaceId { id, next: version.next_keyspace });
        }
        if !names.insert(&keyspace.name) {
            return Err(EditError::KeyspaceName(keyspace.name.to_string()));
        }
        below("flushed sequence number", keyspace.flushed_seq.0, version.last_seq.0 + 1)?;
        for (_, table) in keyspace.tables() {
            check_table(table, version)?;
            if !numbers.insert(table.number) {
                return Err(EditError::TableExists(table.number));
            }
        }
        for blob in keyspace.blobs.values() {
            check_blob(&blob.meta, version)?;
            if !numbers.insert(blob.meta.number) {
                return Err(EditError::Blob { number: blob.meta.number, what: "its number is taken" });
            }
        }
        let counted = counted(keyspace)?;
        let wrong = keyspace.blobs.iter().find(|(number, blob)| counted.get(number) != Some(*blob));
        if let Some((&number, _)) = wrong {
            return Err(EditError::Blob { number, what: "its live records are not those that the tables refer to" });
        }
        for level in Level::all() {
            check_order(id, level, keyspace.level(level))?;
        }
    }
    Ok(())
}

/// What must hold of a table by itself and beside the counters.
fn check_table(table: &TableMeta, version: &Version) -> Result<(), EditError> {
    let number = table.number;
    let seqs = table.smallest_seq..=table.largest_seq;
    let rules = [
        (number != FileNo(0) && number < version.next_file, "its number was not given out"),
        (table.smallest <= table.largest, "its smallest key lies behind its largest"),
        (!seqs.is_empty(), "its smallest sequence number is above its largest"),
        (
            [&table.smallest, &table.largest].iter().all(|key| seqs.contains(&key.trailer.seq())),
            "the sequence number of a bound is out of its range",
        ),
        (table.largest_seq <= version.last_seq, "its largest sequence number was not given out"),
        (
            table.deletions <= table.entries && (table.entries > 0 || table.ranges.is_some()),
            "it counts more tombstones than entries, or has neither entries nor range tombstones",
        ),
        (
            table.ranges.as_ref().is_none_or(|ranges| {
                // The place behind the longest key is one byte longer.
                ranges.count > 0
                    && ranges.begin < ranges.end
                    && ranges.begin.len().max(ranges.end.len()) <= KEY_BYTES_MAX + 1
            }),
            "its range tombstones are none, or hold no key",
        ),
        (
            table.ranges.is_some()
                || [&table.smallest, &table.largest].iter().all(|key| key.trailer.kind() != ValueKind::RangeDelete),
            "a bound is that of a range tombstone, and it has none",
        ),
        (
            table.expiries.is_none_or(|expiries| expiries.is_sound(table.entries, table.deletions)),
            "it counts more entries that expire than there are, or their times are out of order",
        ),
        (
            [&table.smallest, &table.largest].iter().all(|key| key.user_key.len() <= KEY_BYTES_MAX),
            "a bound is longer than a key can be",
        ),
        (
            table.table_seq.is_none_or(|seq| seq > SeqNo::ZERO && seqs == (seq..=seq)),
            "its table-wide sequence number is none, or not that of its entries",
        ),
        (
            table.table_seq.is_none() || table.blobs.is_empty() && table.ranges.is_none(),
            "it was built outside, and refers to blob files or has range tombstones",
        ),
        (table.blobs.is_sorted_by(|a, b| a.file < b.file), "the blob files it refers to are out of order"),
        (
            table.blobs.iter().all(|used| used.records > 0 && used.bytes / 8 >= used.records),
            "it refers to no record of a blob file, or to more than fit into their bytes",
        ),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, what)) => Err(EditError::Table { number, what }),
    }
}

fn newest_first(table: &TableMeta) -> (Reverse<SeqNo>, Reverse<FileNo>) {
    (Reverse(table.largest_seq), Reverse(table.number))
}

fn check_order(keyspace: KeyspaceId, level: Level, tables: &[Arc<TableMeta>]) -> Result<(), EditError> {
    let overlap = |left: &TableMeta, right: &TableMeta| {
        Err(EditError::Overlap { keyspace, level, left: left.number, right: right.number })
    };
    for pair in tables.windows(2) {
        let in_order = match level {
            Level::ZERO => newest_first(&pair[0]) < newest_first(&pair[1]),
            _ => pair[0].largest.user_key < pair[1].smallest.user_key,
        };
        if !in_order {
            return overlap(&pair[0], &pair[1]);
        }
    }
    match interleaved(tables).filter(|_| level == Level::ZERO) {
        Some((left, right)) => overlap(left, right),
        None => Ok(()),
    }
}

/// Two tables of level 0 that share a user key and whose sequence numbers overlap: then neither is the newer one, and a look-up that goes
/// from newest to oldest could stop at an old version.
///
/// A sweep over the user keys. As long as no such pair is found, the tables that lie under the sweep have disjoint sequence numbers, so each new one is
/// compared with its two neighbours alone.
fn interleaved(tables: &[Arc<TableMeta>]) -> Option<(&TableMeta, &TableMeta)> {
    let mut by_key: Vec<&TableMeta> = tables.iter().map(Arc::as_ref).collect();
    by_key.sort_by(|a, b| a.smallest.user_key.cmp(&b.smallest.user_key));
    let mut under: BTreeMap<SeqNo, &TableMeta> = BTreeMap::new();
    let mut ends: BinaryHeap<Reverse<(&[u8], SeqNo)>> = BinaryHeap::new();
    for table in by_key {
        while let Some(Reverse((end, seq))) = ends.peek().copied()
            && *end < *table.smallest.user_key
        {
            ends.pop();
            under.remove(&seq);
        }
        let before = under.range(..=table.largest_seq).next_back();
        if let Some((_, other)) = before
            && other.largest_seq >= table.smallest_seq
        {
            return Some((other, table));
        }
        under.insert(table.smallest_seq, table);
        ends.push(Reverse((&*table.largest.user_key, table.smallest_seq)));
    }
    None
}

#[cfg(test)]
mod tests;
