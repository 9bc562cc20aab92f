//! What just fits into a version, and what is one too many: each limit from both sides.

mod support;

use esker_format::{FileNo, KEY_BYTES_MAX, SeqNo};
use esker_manifest::{IngestMeta, Level, Version, VersionEdit};
use support::edit;

/// Applies edits one after the other; what comes out holds together, and so does what is read back from its snapshot.
fn applied(base: &Version, edits: &[VersionEdit]) -> Result<Version, String> {
    let mut version = base.clone();
    for edit in edits {
        version = version.apply(edit).map_err(|error| error.to_string())?;
        version.check().unwrap();
        assert_eq!(Version::new().apply(&version.snapshot()).unwrap(), version);
    }
    Ok(version)
}

/// Sequence numbers up to 100 and file numbers below 50 may be used.
fn base() -> Version {
    applied(&Version::new(), &[edit("reserve seq 100 \n reserve file 50")]).unwrap()
}

fn text(text: &str) -> Result<Version, String> {
    applied(&base(), &[edit(text)])
}

fn refused(what: &str) -> impl Fn(Result<Version, String>) {
    move |outcome| {
        let error = outcome.expect_err(what);
        assert!(error.contains(what), "{error}, for {what}");
    }
}

#[test]
fn the_last_sequence_number_of_all_may_be_reserved() {
    let version = applied(&Version::new(), &[edit(&format!("reserve seq {}", SeqNo::MAX.0))]).unwrap();
    assert_eq!(version.last_seq, SeqNo::MAX);
}

#[test]
fn a_blob_file_may_be_live_as_a_whole() {
    let blob = "blob 0 000009 bytes 1080 records 10 record-bytes 1000 id 0f";
    let used = |records: u64, bytes: u64| {
        text(&format!("{blob} \n add 0 L6 000004 a#1,BLOB .. b#2,BLOB blob 000009 records {records} bytes {bytes}"))
    };
    let version = used(10, 1000).unwrap();
    let (_, blob) = version.blobs().next().unwrap();
    assert_eq!((blob.live_records, blob.garbage_bytes()), (10, 0));
    refused("more than it holds")(used(11, 1000));
    refused("more than it holds")(used(10, 1001));
    // A record takes 8 bytes at least.
    assert!(used(2, 16).is_ok());
    refused("more than fit into their bytes")(used(2, 15));
}

#[test]
fn a_blob_file_has_a_number_that_was_given_out_and_more_than_records_in_it() {
    let blob = |number: u64, file_bytes: u64| {
        text(&format!(
            "blob 0 {number} bytes {file_bytes} records 1 record-bytes 1000 id 0f
             add 0 L6 000004 a#1,BLOB .. b#2,BLOB blob {number} records 1 bytes 1000"
        ))
    };
    assert!(blob(49, 1001).is_ok());
    refused("was not given out")(blob(50, 1001));
    refused("more bytes of records than the file has")(blob(49, 1000));
}

#[test]
fn a_table_names_its_blob_files_in_ascending_order() {
    let uses = |first: u64, second: u64| {
        let blob = |number: u64| format!("blob 0 {number} bytes 1080 records 10 record-bytes 1000 id 0f");
        let used = |number: u64| format!("blob {number} records 1 bytes 100");
        let (a, b) = (used(first), used(second));
        text(&format!("{} \n {} \n add 0 L6 000004 a#1,BLOB .. b#2,BLOB {a} {b}", blob(8), blob(9)))
    };
    assert_eq!(uses(8, 9).unwrap().blobs().count(), 2);
    refused("out of order")(uses(9, 8));
}

/// The end of what was deleted lies behind the longest key, which takes one byte more.
#[test]
fn range_tombstones_may_reach_behind_the_longest_key() {
    let reaching = |bytes: usize| {
        let mut edit = edit("add 0 L1 000004 a#2,RANGEDEL .. b#2,RANGEDEL entries 0 ranges 1 \"a\" \"b\"");
        edit.add[0].2.ranges.as_mut().unwrap().end = vec![b'k'; bytes].into();
        applied(&base(), &[edit])
    };
    assert!(reaching(KEY_BYTES_MAX + 1).is_ok());
    refused("range tombstones")(reaching(KEY_BYTES_MAX + 2));
}

#[test]
fn an_ingest_may_be_of_one_key_of_any_length_under_the_last_sequence_number() {
    let ingest = |seq: u64, key: &[u8]| {
        let mut edit = edit(&format!("ingest 0 seq {seq} tables 1 entries 1 \"\" \"\""));
        let IngestMeta { smallest, largest, .. } = &mut edit.ingests[0];
        (*smallest, *largest) = (key.into(), key.into());
        applied(&base(), &[edit])
    };
    assert_eq!(ingest(100, b"k").unwrap().ingests[0].seq, SeqNo(100));
    refused("was not given out")(ingest(101, b"k"));
    assert!(ingest(7, &[b'k'; KEY_BYTES_MAX]).is_ok());
    for more in [1, 2, 1000] {
        refused("too long")(ingest(7, &vec![b'k'; KEY_BYTES_MAX + more]));
    }
}

/// The feed tells of nothing at or below where it begins.
#[test]
fn an_ingest_is_left_out_once_the_feed_of_changes_begins_at_it() {
    let told = |from: u64| {
        let ingest = edit("ingest 0 seq 9 tables 1 entries 2 \"a\" \"b\"");
        let version = applied(&base(), &[ingest, edit(&format!("changes from {from} log 4"))]).unwrap();
        version.ingests.len()
    };
    assert_eq!((told(8), told(9)), (1, 0));
}

#[test]
fn a_level_is_as_long_as_its_tables() {
    let version = text(
        "add 0 L1 000004 a#1,PUT .. b#2,PUT bytes 700
         add 0 L1 000005 c#1,PUT .. d#2,PUT bytes 800
         add 0 L2 000006 a#1,PUT .. b#2,PUT bytes 900",
    )
    .unwrap();
    let default = version.keyspace_named("default").unwrap();
    assert_eq!([0, 1, 2].map(|level| default.level_bytes(Level(level))), [0, 1500, 900]);
}

#[test]
fn a_version_is_shown_as_the_edit_that_makes_it() {
    let made =
        "reserve seq 100 \n reserve file 50 \n create keyspace 1 \"users\" \"\" \n add 1 L0 000004 a#1,PUT .. b#2,PUT";
    let version = applied(&Version::new(), &[edit(made)]).unwrap();
    let shown = version.to_string();
    assert!(shown.contains("create keyspace 1 \"users\""), "{shown}");
    assert_eq!(applied(&Version::new(), &[edit(&shown)]), Ok(version));
}

#[test]
fn an_edit_is_empty_until_it_says_something() {
    assert!(VersionEdit::default().is_empty() && edit("").is_empty());
    for said in ["snapshot bytewise", "clock 0", "remove 0 L0 000004", "clean seq 0 file 0"] {
        assert!(!edit(said).is_empty(), "{said}");
    }
}

#[test]
fn what_a_text_leaves_out_of_a_table_follows_from_its_keys() {
    let table = |keys: &str| edit(&format!("add 0 L1 000004 {keys}")).add.remove(0).2;
    let one = table("a#5,PUT .. a#5,PUT");
    assert_eq!((one.entries, one.smallest_seq, one.largest_seq), (1, SeqNo(5), SeqNo(5)));
    let two = table("a#9,PUT .. a#5,PUT");
    assert_eq!((two.number, two.entries, two.smallest_seq, two.largest_seq), (FileNo(4), 2, SeqNo(5), SeqNo(9)));
}

#[test]
fn the_bottom_is_the_last_level_there_is() {
    assert_eq!(Level::all().last(), Some(Level::BOTTOM));
    assert_eq!(Level::all().count(), Level::BOTTOM.index() + 1);
}
