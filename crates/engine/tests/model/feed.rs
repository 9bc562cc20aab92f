//! The feed of changes beside the model.

use super::Driver;
use esker::{ErrorKind, Keyspace, KeyspaceId, Operation};
use esker_testkit::model::{At, Contents, Key, Space};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

impl Driver {
    /// The feed of changes makes the same of nothing, where logs are kept for it and none was cut off by a crash. Of what was ingested the range is read, and what came later is told later.
    pub(super) fn check_feed(&self) {
        let engine = self.engine();
        if engine.options().wal_retain_bytes.is_none() {
            return;
        }
        let changes = match engine.changes_since(0) {
            Ok(changes) => changes,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Gap, "{error}");
                let from = error.changes_from().expect("a gap has an end");
                let behind = engine.changes_since(from).unwrap();
                return assert!(behind.map(Result::unwrap).all(|change| change.seq() > from));
            }
        };
        // With when it expires.
        let mut made: BTreeMap<KeyspaceId, BTreeMap<Key, (Vec<u8>, SystemTime)>> = BTreeMap::new();
        let mut known: Vec<(KeyspaceId, RangeInclusive<Key>)> = Vec::new();
        let never = UNIX_EPOCH + Duration::from_millis(1 << 50);
        let mut last = 0;
        for change in changes {
            let change = change.unwrap();
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
                                made.entry(keyspace.id).or_default().insert(key.to_vec(), (value.to_vec(), never));
                            }
                            Operation::PutForever { keyspace, key, value } => {
                                made.entry(keyspace.id).or_default().insert(key.to_vec(), (value.to_vec(), never));
                            }
                            Operation::PutExpiring { keyspace, key, value, expires } => {
                                made.entry(keyspace.id).or_default().insert(key.to_vec(), (value.to_vec(), expires));
                            }
                            Operation::Merge { keyspace, key, .. } | Operation::Delete { keyspace, key }
                                if is_known(keyspace.id, key) => {}
                            Operation::Merge { keyspace, key, operand } => {
                                let value = made.entry(keyspace.id).or_default().entry(key.to_vec());
                                value.or_insert((Vec::new(), never)).0.extend_from_slice(operand);
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
                        let now = keyspace
                            .range(range.clone())
                            .map(|item| item.map(|(k, v)| (k.to_vec(), (v.to_vec(), never))).unwrap());
                        contents.extend(now);
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
            let now = UNIX_EPOCH + Duration::from_millis(self.began_ms + self.model.now().time * 1_000);
            let contents = made.remove(&keyspace.id()).unwrap_or_default().into_iter();
            let contents: Contents =
                contents.filter(|(_, (_, expires))| *expires > now).map(|(key, (value, _))| (key, value)).collect();
            // Of what the filter has done only what was read by way of an ingest is in it.
            let at = At { look: 0, ..self.model.now() };
            assert!(self.model.may_be(*space, &contents, at), "{keyspace:?}: the feed makes {contents:?}");
        }
    }
}
