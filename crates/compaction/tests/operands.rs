//! Operands over what they can't be folded with: nothing that they lie over is lost, and a job fails only where trying again may help.

mod folder;

use esker_blob::{BlobError, BlobRef};
use esker_compaction::{
    BlobConfig, BlobFiles, Cause, CompactionError, CompactionIter, JobConfig, Outcome, write_tables,
};
use esker_format::{FileId, FileNo, InternalKey, InternalKeyBuf, SeqNo, Slice, ValueKind};
use esker_iterator::{MergeOperator, Operands, OperatorError, VecIterator, operators::Append};
use esker_vfs::{MemVfs, WritableFile};
use folder::{Entries, Folder, config, delete, keys, put};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// Makes nothing of anything.
struct Fails;

impl MergeOperator for Fails {
    fn merge(&self, _: &[u8], _: Option<&[u8]>, _: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        Err("as the test asks for".into())
    }
}

/// No value can be read, for this reason.
struct Unreadable(BlobError);

impl BlobFiles for Unreadable {
    fn create_blob(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError> {
        unreachable!("no value is large enough")
    }

    fn finished_blob(&self, _: FileNo) -> Result<(), CompactionError> {
        unreachable!("none was made")
    }

    fn read_blob(&self, _: BlobRef) -> Result<Slice, BlobError> {
        Err(self.0.clone())
    }
}

fn of_kind(key: &str, seq: u64, kind: ValueKind, stored: &[u8]) -> (InternalKeyBuf, Vec<u8>) {
    (InternalKey::new(key.as_bytes(), SeqNo(seq), kind).to_buf(), stored.to_vec())
}

fn operand(key: &str, seq: u64) -> (InternalKeyBuf, Vec<u8>) {
    of_kind(key, seq, ValueKind::Merge, b"+")
}

/// What is left of `entries` in the end, with the horizon at 9, and how many tombstones went.
fn left(operator: impl MergeOperator, entries: Entries, snapshots: &[SeqNo], older: bool) -> (String, u64) {
    let iter = CompactionIter::new(VecIterator::new(entries), snapshots, SeqNo(9), |_: &[u8]| older);
    let mut iter = iter.with_operator(Arc::new(operator));
    let mut left = Entries::new();
    iter.seek_to_first().unwrap();
    while iter.valid() {
        left.push((iter.key().to_buf(), iter.value().to_vec()));
        iter.next().unwrap();
    }
    (keys(&left), iter.counts().tombstones)
}

#[test]
fn a_tombstone_under_operands_that_fail_stays_as_long_as_it_hides_something() {
    let entries = || vec![operand("a", 9), delete("a", 8), put("a", 3, b"old")];
    assert_eq!(left(Fails, entries(), &[], false), ("a#9,MERGE".into(), 1));
    let whole = "a#9,MERGE a#8,DEL";
    assert_eq!(left(Fails, entries(), &[], true), (whole.into(), 0), "something older may lie elsewhere");
    let seen = format!("{whole} a#3,PUT");
    assert_eq!(left(Fails, entries(), &[SeqNo(4)], false), (seen, 0), "a snapshot keeps what it hides");
    // What can be folded takes it in, and lies over nothing then.
    assert_eq!(left(Append::new(), entries(), &[], false), ("a#9,PUT".into(), 1));
    assert_eq!(left(Append::new(), entries(), &[SeqNo(4)], false), ("a#9,PUT a#3,PUT".into(), 0));
}

/// An operator may go by it: where it is to put operands together it is promised two.
#[test]
fn one_operand_alone_is_put_together_with_nothing() {
    struct Two;
    impl MergeOperator for Two {
        fn merge(&self, _: &[u8], base: Option<&[u8]>, _: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
            Ok(base.unwrap_or(b"none").to_vec())
        }

        fn combine(&self, _: &[u8], mut operands: Operands<'_>) -> Result<Option<Vec<u8>>, OperatorError> {
            Ok(Some([operands.next().unwrap(), operands.next().ok_or("one alone")?].concat()))
        }
    }
    let entries = |count: u64| (10 - count..10).map(|seq| operand("a", seq)).collect::<Entries>();
    let counts = |count, older| {
        let iter = CompactionIter::new(VecIterator::new(entries(count)), &[], SeqNo(9), |_: &[u8]| older);
        let mut iter = iter.with_operator(Arc::new(Two));
        iter.seek_to_first().unwrap();
        let kind = iter.key().trailer.kind();
        (kind, iter.value().to_vec(), iter.counts().folded, iter.counts().not_folded)
    };
    assert_eq!(counts(1, true), (ValueKind::Merge, b"+".to_vec(), 0, 0));
    assert_eq!(counts(2, true), (ValueKind::Merge, b"++".to_vec(), 1, 0));
    assert_eq!(counts(1, false), (ValueKind::Put, b"none".to_vec(), 0, 0));
}

/// No keyspace has both; if one did, neither the value nor its time may get lost.
#[test]
fn operands_over_what_expires_are_left_as_they_are() {
    for kind in [ValueKind::Expiring, ValueKind::ExpiringBlob] {
        let entries = vec![operand("a", 9), operand("a", 8), of_kind("a", 7, kind, &[0xff; 32]), put("a", 3, b"old")];
        let shown = keys(&entries[..3].to_vec());
        assert_eq!(left(Append::new(), entries, &[], false), (shown, 0));
    }
}

/// An operand over a value in a blob file that can't be read, `error` being the reason.
fn over_unreadable(error: BlobError) -> (Folder, Result<Outcome, CompactionError>) {
    let mut reference = Vec::new();
    BlobRef { file: FileNo(7), offset: 64, value_bytes: 6 }.encode_into(&mut reference);
    let entries = vec![operand("a", 9), of_kind("a", 5, ValueKind::Blob, &reference), put("b", 1, b"beside")];
    let (none, files) = (BTreeSet::new(), Unreadable(error));
    let blobs = BlobConfig { value_bytes_min: usize::MAX, file_bytes: u64::MAX, collect: &none, files: &files };
    let operator: Arc<dyn MergeOperator> = Arc::new(Append::new());
    let job = JobConfig { horizon: SeqNo(9), blobs: Some(blobs), operator: Some(&operator), ..config() };
    let folder = Folder::new(MemVfs::new());
    let outcome = write_tables(
        CompactionIter::new(VecIterator::new(entries), &[], SeqNo(9), |_: &[u8]| false),
        &[],
        &folder,
        &job,
    );
    (folder, outcome)
}

#[test]
fn a_value_that_the_system_does_not_give_fails_the_job_and_a_file_that_is_wrong_does_not() {
    let file: Arc<str> = "7.blob".into();
    let (_, outcome) = over_unreadable(BlobError::from_io(&file, "read", io::ErrorKind::PermissionDenied.into()));
    let error = outcome.unwrap_err();
    assert!(matches!(error.cause(), Cause::BlobInput { number: FileNo(7), .. }), "{error}");
    assert!(!error.is_corruption() && error.damaged_input().is_none(), "it may be read another time: {error}");

    // Trying again would not help, and the whole keyspace would never be compacted.
    let shorter = BlobError::from_io(&file, "read", io::ErrorKind::UnexpectedEof.into());
    for error in [shorter, BlobError::Unsupported { file, what: "version", found: 9 }] {
        let (folder, outcome) = over_unreadable(error);
        let outcome = outcome.unwrap();
        assert_eq!(keys(&folder.entries(&outcome.outputs[0])), "a#9,MERGE a#5,BLOB b#1,PUT");
        assert_eq!((outcome.counts.folded, outcome.counts.not_folded), (0, 0), "no operator was asked");
    }
}

#[test]
fn what_is_gathered_shows_when_an_iterator_is_printed() {
    let entries = vec![operand("a", 9), operand("a", 8), put("a", 7, b"base")];
    let keep: fn(&[u8]) -> bool = |_| false;
    let iter = CompactionIter::new(VecIterator::new(entries), &[], SeqNo(9), keep);
    let mut iter = iter.with_operator(Arc::new(Fails));
    iter.seek_to_first().unwrap();
    assert!(format!("{iter:?}").contains("Fold { versions: 3, out: 1"), "{iter:?}");
}
