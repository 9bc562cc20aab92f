//! The feed of changes beside the model.

use super::Driver;
use esker::{ChangeOptions, Engine, ErrorKind, Keyspace, KeyspaceId, Operation};
use esker_testkit::model::{At, Contents, Key, Space};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A value, and when it expires, if it does.
type Timed = (Vec<u8>, Option<SystemTime>);

/// What is there now in a range. What was ingested never expires, in a keyspace with a time to live neither; what else lies there does when it says so.
fn there(keyspace: &Keyspace, range: &RangeInclusive<Key>) -> BTreeMap<Key, Timed> {
    let mut cursor = keyspace.cursor();
    let mut there = BTreeMap::new();
    cursor.seek(range.start()).unwrap();
    while cursor.valid() && cursor.key() <= &range.end()[..] {
        there.insert(cursor.key().to_vec(), (cursor.value().unwrap().to_vec(), cursor.expiry()));
        cursor.next().unwrap();
    }
    there
}

/// All changes from the first on; `None` where no logs are kept for them, or some are gone. Behind these they can be told.
fn all_changes(engine: &Engine, how: ChangeOptions) -> Option<Vec<esker::Change>> {
    let options = engine.options();
    if options.wal_retain_bytes.is_none() && options.wal_retain_age.is_none() {
        return None;
    }
    let removes_some = options.wal_retain_bytes != Some(u64::MAX) || options.wal_retain_age.is_some();
    let all = |from| -> esker::Result<Vec<esker::Change>> {
        let changes = engine.changes_since_with(from, &how);
        assert!(changes.is_ok() || from == 0, "asked from where it can be told it is a gap again: {:?}", changes.err());
        let changes = changes?.collect::<esker::Result<Vec<_>>>();
        // Of logs that were to be removed a crash may leave any.
        assert!(changes.is_ok() || removes_some, "none was ever removed: {changes:?}");
        changes
    };
    let (mut from, mut found) = (0, all(0));
    while let Err(error) = found {
        assert_eq!(error.kind(), ErrorKind::Gap, "{error}");
        let next = error.changes_from().expect("a gap has an end");
        assert!(next > from, "{error}");
        from = next;
        found = all(from);
    }
    let changes = found.expect("it is no error");
    assert!(changes.iter().all(|change| change.seq() > from));
    (from == 0).then_some(changes)
}

impl Driver {
    /// The last commit that the feed of changes tells of, behind a crash; `None` where it need not tell of all: no logs are kept for it, or it says that there is a gap.
    ///
    /// Commits that look alike to who reads may not be so to the feed, which is told of nothing that a filter does: where the filter has removed a value, and its deletion, written later, was lost in a power cut, both states
    /// read the same, and only without the deletion does the feed make the value. So of such commits it is to say which was the last; what it makes must then be that state and no other.
    pub(super) fn last_told(&self, engine: &Engine) -> Option<usize> {
        // Of what was found nothing is to become durable by being told.
        let changes = all_changes(engine, ChangeOptions { durable: false })?;
        let last = changes.last().map_or(0, esker::Change::seq);
        let told = self.ends.partition_point(|end| *end <= last);
        assert_eq!(last, told.checked_sub(1).map_or(0, |at| self.ends[at]), "it ends where a commit did");
        Some(told)
    }

    /// The feed of changes makes the same of nothing, where logs are kept for it and none was cut off by a crash: the same values, which expire when those do. Of what was ingested the range is read, and what came later is told later.
    pub(super) fn check_feed(&self) {
        let Some(changes) = all_changes(self.engine(), ChangeOptions::default()) else { return };
        let mut made: BTreeMap<KeyspaceId, BTreeMap<Key, Timed>> = BTreeMap::new();
        let mut known: Vec<(KeyspaceId, RangeInclusive<Key>)> = Vec::new();
        let mut last = 0;
        for change in changes {
            assert!(change.seq() > last, "in order");
            last = change.seq();
            let is_known =
                |id: KeyspaceId, key: &[u8]| known.iter().any(|(of, range)| *of == id && range.contains(&key.to_vec()));
            match &change {
                esker::Change::Batch(batch) => {
                    for operation in batch.operations() {
                        match operation {
                            Operation::Put { keyspace, key, value } => {
                                let of = self.handles.iter().flatten().find(|(of, _)| of.id() == keyspace.id);
                                assert!(of.is_none_or(|(of, _)| of.ttl().is_none()), "such a put would expire");
                                if is_known(keyspace.id, key) {
                                    continue;
                                }
                                made.entry(keyspace.id).or_default().insert(key.to_vec(), (value.to_vec(), None));
                            }
                            Operation::PutForever { keyspace, key, value } => {
                                made.entry(keyspace.id).or_default().insert(key.to_vec(), (value.to_vec(), None));
                            }
                            Operation::PutExpiring { keyspace, key, value, expires } => {
                                let timed = (value.to_vec(), Some(expires));
                                made.entry(keyspace.id).or_default().insert(key.to_vec(), timed);
                            }
                            Operation::Merge { keyspace, key, .. } | Operation::Delete { keyspace, key }
                                if is_known(keyspace.id, key) => {}
                            Operation::Merge { keyspace, key, operand } => {
                                let value = made.entry(keyspace.id).or_default().entry(key.to_vec());
                                value.or_insert((Vec::new(), None)).0.extend_from_slice(operand);
                            }
                            Operation::Delete { keyspace, key } => {
                                made.entry(keyspace.id).or_default().remove(key);
                            }
                            Operation::DeleteRange { keyspace, begin, end } => {
                                let is_in = |key: &Key| {
                                    let is_behind = end.is_some_and(|end| &key[..] >= end);
                                    &key[..] >= begin && !is_behind && !is_known(keyspace.id, key)
                                };
                                made.entry(keyspace.id).or_default().retain(|key, _| !is_in(key));
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
                esker::Change::Ingest(ingest) => {
                    let range = ingest.smallest.clone()..=ingest.largest.clone();
                    let contents = made.entry(ingest.keyspace).or_default();
                    contents.retain(|key, _| !range.contains(key));
                    let named = |(keyspace, _): &&(Keyspace, Space)| keyspace.id() == ingest.keyspace;
                    let handle = self.handles.iter().flatten().find(named);
                    if let Some((keyspace, _)) = handle.filter(|(_, space)| self.lives(*space)) {
                        contents.extend(there(keyspace, &range));
                        // Operands that are told again would count twice. All that is to come is in what was read.
                        if keyspace.merge_operator().is_some() {
                            known.push((ingest.keyspace, range));
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        for (keyspace, space) in self.handles.iter().flatten().filter(|(_, space)| self.lives(*space)) {
            let now = UNIX_EPOCH + Duration::from_millis(self.right_ms());
            let mut contents = made.remove(&keyspace.id()).unwrap_or_default();
            contents.retain(|_, (_, expires)| expires.is_none_or(|expires| expires > now));
            if let (Some((first, _)), Some((last, _))) = (contents.first_key_value(), contents.last_key_value()) {
                for (key, (_, expires)) in there(keyspace, &(first.clone()..=last.clone())) {
                    let made = contents.get(&key).map(|(_, made)| *made);
                    assert!(
                        made.is_none_or(|made| made == expires),
                        "{keyspace:?}, {key:?}: {made:?}, not {expires:?}"
                    );
                }
            }
            let contents: Contents = contents.into_iter().map(|(key, (value, _))| (key, value)).collect();
            // Of what the filter has done only what was read by way of an ingest is in it.
            let at = At { look: 0, ..self.model.now() };
            assert!(self.model.may_be(*space, &contents, at), "{keyspace:?}: the feed makes {contents:?}");
        }
    }
}
