//! Logs, and the batches in them.

use crate::bytes::Bytes;
use esker_format::{BatchOp, SeqNo, ValueKind, WriteBatch, batch};
use esker_wal::{Lsn, Reader};

/// Reads a log to its end, goes back to where its records ended, and looks for what vouches.
pub(crate) fn attack(bytes: Vec<u8>) {
    let len = bytes.len() as u64;
    let file = Bytes::new(bytes);
    let Ok(mut reader) = Reader::open(file.clone(), "log") else { return };
    let start = reader.header().start;
    let (mut ends, mut last) = (0u64, start);
    let end = loop {
        match reader.next() {
            Ok(Some(record)) => {
                assert!(record.position >= last && record.end > record.position, "records that overlap");
                assert!(record.end <= start + len && record.durable <= record.position);
                let (_, _) = (record.kind, decoded(record.payload));
                last = record.end;
                ends += 1;
            }
            Ok(None) => break *reader.end().expect("it is at its end"),
            Err(_) => return,
        }
    };
    assert!(ends == 0 || end.position == last, "it ends behind its last record");
    assert!(reader.next().is_ok_and(|record| record.is_none()), "the end stays the end");
    let vouched = esker_wal::vouched(file.clone(), "log").expect("it was read to its end");
    assert!(end.vouched >= vouched.min(end.vouched) && end.vouched <= start + len);
    let mut again = Reader::open(file, "log").expect("it was opened before");
    if end.position > start {
        again.skip_to(end.position).expect("a place in the file");
        assert!(again.next().is_ok_and(|record| record.is_none()), "behind the end there is none");
    }
    for position in [Lsn(0), Lsn(u64::MAX), start] {
        let _ = again.skip_to(position).and_then(|()| again.next().map(|_| ()));
    }
}

/// The operations of a batch, if all of it decodes.
fn decoded(bytes: &[u8]) -> Option<(SeqNo, usize)> {
    let (first, ops) = batch::decode(bytes).ok()?;
    let mut count = 0;
    for op in ops {
        let op = op.ok()?;
        assert!(op.key.len() + op.value.len() <= bytes.len(), "an operation beyond the batch");
        count += 1;
    }
    Some((first, count))
}

/// Decodes a batch. One that decodes is what encoding its operations makes: there is one form of each.
pub(crate) fn attack_batch(bytes: Vec<u8>) {
    let Some((first, count)) = decoded(&bytes) else { return };
    let (_, ops) = batch::decode(&bytes).expect("it decoded before");
    let mut batch = WriteBatch::new();
    for op in ops {
        add(&mut batch, op.expect("it decoded before"));
    }
    assert_eq!(batch.count() as usize, count);
    let (header, rest) = batch::with_first_seq(batch.as_bytes(), first);
    assert!([&header[..], rest].concat() == bytes, "a batch of another form than its operations have");
}

fn add(batch: &mut WriteBatch, op: BatchOp<'_>) {
    let BatchOp { kind, keyspace, key, value } = op;
    match kind {
        ValueKind::Put => batch.put(keyspace, key, value),
        ValueKind::Delete => batch.delete(keyspace, key),
        ValueKind::Merge => batch.merge(keyspace, key, value),
        ValueKind::RangeDelete if value.is_empty() => batch.delete_from(keyspace, key),
        ValueKind::RangeDelete => batch.delete_range(keyspace, key, value),
        ValueKind::Expiring => {
            let (expiry_ms, value) = esker_format::split_expiry(value).expect("it was checked when it was decoded");
            batch.put_expiring(keyspace, key, value, expiry_ms)
        }
        ValueKind::Blob | ValueKind::ExpiringBlob => panic!("no batch may hold a reference"),
    };
}
