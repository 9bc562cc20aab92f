//! What a compaction filter is asked about, and what becomes of it.

mod folder;

use esker_blob::{BlobError, BlobRef};
use esker_compaction::{
    BlobFiles, Cause, CompactionError, CompactionFilter, CompactionIter, FilterDecision, Filtering, JobConfig, Outcome,
    Times, write_tables,
};
use esker_format::{FileId, FileNo, InternalKey, InternalKeyBuf, SeqNo, Slice, ValueKind};
use esker_iterator::VecIterator;
use esker_manifest::Level;
use esker_vfs::{MemVfs, WritableFile};
use folder::{Entries, Folder, config, delete, keys, put};
use std::sync::{Arc, Mutex};

/// Does with each value as the value says, and remembers what it was asked.
#[derive(Default)]
struct Obedient(Mutex<Vec<String>>);

impl CompactionFilter for Obedient {
    fn filter(&self, level: u8, key: &[u8], value: &[u8]) -> FilterDecision {
        self.0.lock().unwrap().push(format!("L{level} {}={}", key.escape_ascii(), value.escape_ascii()));
        match value {
            b"remove" => FilterDecision::Remove,
            b"replace" => FilterDecision::Replace(b"other".to_vec()),
            b"panic" => panic!("at the word"),
            _ => FilterDecision::Keep,
        }
    }
}

/// The values of blob file 7; those of other files can't be read.
struct Values(&'static [u8]);

impl BlobFiles for Values {
    fn create_blob(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError> {
        unreachable!("no value is large enough")
    }

    fn finished_blob(&self, _: FileNo) -> Result<(), CompactionError> {
        unreachable!("none was made")
    }

    fn read_blob(&self, reference: BlobRef) -> Result<Slice, BlobError> {
        match reference.file {
            FileNo(7) => Ok(self.0.into()),
            _ => Err(BlobError::from_io(&"other".into(), "open", std::io::ErrorKind::NotFound.into())),
        }
    }
}

fn of_kind(key: &str, seq: u64, kind: ValueKind, stored: &[u8]) -> (InternalKeyBuf, Vec<u8>) {
    (InternalKey::new(key.as_bytes(), SeqNo(seq), kind).to_buf(), stored.to_vec())
}

fn large(key: &str, seq: u64, file: u64) -> (InternalKeyBuf, Vec<u8>) {
    let mut stored = Vec::new();
    BlobRef { file: FileNo(file), offset: 64, value_bytes: 6 }.encode_into(&mut stored);
    of_kind(key, seq, ValueKind::Blob, &stored)
}

/// What came of a job, and what was asked in it.
struct Filtered {
    outcome: Result<Outcome, CompactionError>,
    entries: Entries,
    asked: Vec<String>,
}

/// A job into L5 with snapshots at 2 and 4 and the horizon at 9; something older of the keys in `older` lies below.
fn filtered(entries: Entries, older: &str, files: Option<&Values>, newer: Option<&str>) -> Filtered {
    let folder = Folder::new(MemVfs::new());
    let filter = Obedient::default();
    let has_newer = |key: &[u8]| newer.is_some_and(|newer| newer.as_bytes() == key);
    let filtering = Filtering {
        filter: &filter,
        level: Level(5),
        files: files.map(|files| files as &dyn BlobFiles),
        has_newer: newer.map(|_| &has_newer as _),
    };
    let snapshots = [SeqNo(2), SeqNo(4)];
    let times = Times { snapshots_ms: &[100, 200], now_ms: 1000 };
    let job = JobConfig { snapshots: &snapshots, horizon: SeqNo(9), times, filter: Some(filtering), ..config() };
    let keep = |key: &[u8]| older.as_bytes().contains(&key[0]);
    let iter = CompactionIter::new(VecIterator::new(entries), &snapshots, SeqNo(9), keep);
    let outcome = write_tables(iter.as_of(&snapshots, SeqNo(9), times), &[], &folder, &job);
    let entries = outcome.iter().flat_map(|outcome| &outcome.outputs).flat_map(|table| folder.entries(table)).collect();
    Filtered { outcome, entries, asked: filter.0.into_inner().unwrap() }
}

#[test]
fn asked_about_is_the_newest_value_that_no_snapshot_sees() {
    let found = filtered(
        vec![
            put("a", 9, b"one"),
            put("a", 5, b"hidden"),
            put("b", 10, b"beyond the horizon"),
            put("b", 6, b"not the newest"),
            put("c", 5, b"two"),
            put("d", 4, b"seen"),
            delete("e", 7),
            of_kind("f", 7, ValueKind::Merge, b"operand"),
            put("f", 6, b"under an operand"),
        ],
        "abcdef",
        None,
        None,
    );
    assert_eq!(found.asked, ["L5 a=one", "L5 c=two"]);
    let expected = "a#9,PUT b#10,PUT b#6,PUT c#5,PUT d#4,PUT e#7,DEL f#7,MERGE f#6,PUT";
    assert_eq!((keys(&found.entries).as_str(), found.outcome.unwrap().counts.filtered), (expected, 0));
}

/// What is removed must never let something older come up.
#[test]
fn what_is_removed_reads_as_deleted() {
    let found = filtered(vec![put("a", 9, b"remove"), put("a", 3, b"remove"), put("b", 5, b"stays")], "", None, None);
    assert_eq!(keys(&found.entries), "a#9,DEL a#3,PUT b#5,PUT", "snapshot 4 sees #3");
    let counts = found.outcome.unwrap().counts;
    assert_eq!((counts.filtered, counts.tombstones), (1, 0));
    assert_eq!(found.entries[0].1, b"");
}

#[test]
fn without_snapshots_nothing_is_left_of_what_is_removed_but_over_something_older() {
    let gone = |older: bool| {
        let folder = Folder::new(MemVfs::new());
        let filter = Obedient::default();
        let filtering = Filtering { filter: &filter, level: Level(6), files: None, has_newer: None };
        let job = JobConfig { horizon: SeqNo(9), filter: Some(filtering), ..config() };
        let entries = vec![put("a", 9, b"remove"), put("b", 5, b"stays")];
        let iter = CompactionIter::new(VecIterator::new(entries), &[], SeqNo(9), |_| older);
        let outcome = write_tables(iter, &[], &folder, &job).unwrap();
        (keys(&folder.entries(&outcome.outputs[0])), outcome.counts.filtered, outcome.counts.tombstones)
    };
    assert_eq!(gone(false), ("b#5,PUT".into(), 1, 1));
    assert_eq!(gone(true), ("a#9,DEL b#5,PUT".into(), 1, 0));
}

#[test]
fn a_replaced_value_keeps_its_number_and_its_time() {
    let until = |unix_ms: u64, value: &[u8]| [&unix_ms.to_le_bytes()[..], value].concat();
    let found = filtered(
        vec![
            put("a", 9, b"replace"),
            of_kind("b", 8, ValueKind::Expiring, &until(5000, b"replace")),
            of_kind("c", 8, ValueKind::Expiring, &until(5000, b"stays")),
            of_kind("d", 8, ValueKind::Expiring, &until(900, b"has expired")),
        ],
        "d",
        None,
        None,
    );
    assert_eq!(found.asked, ["L5 a=replace", "L5 b=replace", "L5 c=stays"]);
    assert_eq!(keys(&found.entries), "a#9,PUT b#8,EXP c#8,EXP d#8,DEL");
    let values: Vec<&[u8]> = found.entries.iter().map(|(_, value)| &value[..]).collect();
    assert_eq!(values, [b"other", &until(5000, b"other")[..], &until(5000, b"stays"), b""]);
    assert_eq!(found.outcome.unwrap().counts.filtered, 2);
}

#[test]
fn a_large_value_is_shown_if_it_can_be_read_and_else_kept() {
    let entries = vec![large("a", 9, 7), large("b", 9, 8)];
    let found = filtered(entries.clone(), "", Some(&Values(b"replace")), None);
    assert_eq!((found.asked, keys(&found.entries).as_str()), (vec!["L5 a=replace".into()], "a#9,PUT b#9,BLOB"));
    assert_eq!(found.entries[0].1, b"other");
    let found = filtered(entries.clone(), "", None, None);
    assert_eq!((found.asked.len(), &found.entries), (0, &entries));
}

/// It is no value of the key where an operand that is not among the inputs lies over it.
#[test]
fn what_something_newer_may_lie_over_is_not_asked_about() {
    let found = filtered(vec![put("a", 9, b"remove"), put("b", 9, b"replace")], "", None, Some("a"));
    assert_eq!(found.asked, ["L5 b=replace"]);
    assert_eq!(keys(&found.entries), "a#9,PUT b#9,PUT");
}

#[test]
fn a_panic_and_a_damaged_entry_fail_the_job_and_say_what() {
    let found = filtered(vec![put("a", 9, b"panic")], "", None, None);
    let error = found.outcome.unwrap_err();
    assert!(matches!(error.cause(), Cause::Filter { .. }) && !error.is_corruption(), "{error}");
    assert_eq!(error.to_string(), "compaction filter: it panicked: at the word");
    assert_eq!(error.created(), [], "nothing was written yet");

    let found = filtered(vec![of_kind("a", 9, ValueKind::Expiring, b"short")], "", None, None);
    let error = found.outcome.unwrap_err();
    assert!(matches!(error.cause(), Cause::Reference { .. }) && error.is_corruption(), "{error}");
    assert_eq!(found.asked.len(), 0);
}

#[test]
fn a_closure_is_a_filter() {
    let shorter = |level: u8, _: &[u8], value: &[u8]| FilterDecision::Replace(vec![level; value.len() - 1]);
    let filter: Arc<dyn CompactionFilter> = Arc::new(shorter);
    assert_eq!(filter.filter(6, b"k", b"abc"), FilterDecision::Replace(vec![6, 6]));
}
