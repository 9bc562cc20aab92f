//! Reads of an engine, beside those of its model.

use super::Driver;
use esker::{Cursor, Iter, Keyspace, ReadOptions, Snapshot};
use esker_testkit::model::{At, Range, Space, Step, View};

impl Driver {
    /// The keyspace and snapshot to read, and the state to compare with; `None` if there is nothing to see.
    fn target(&self, name: usize, view: View) -> Option<(&Keyspace, Space, Option<&Snapshot>, At)> {
        let (keyspace, space) = self.handles[name].as_ref()?;
        match view {
            View::Snapshot(n) if !self.snapshots.is_empty() => {
                let taken = &self.snapshots[n % self.snapshots.len()];
                let seen = taken.living.contains(&Some(*space)) || *space > taken.newest;
                seen.then_some((keyspace, *space, Some(&taken.snapshot), taken.at))
            }
            _ if self.model.living()[name].is_some() => Some((keyspace, *space, None, self.model.now())),
            _ => None,
        }
    }

    pub(super) fn get(&self, name: usize, view: View, key: &[u8]) {
        let Some((keyspace, space, snapshot, at)) = self.target(name, view) else { return };
        let found = match snapshot {
            Some(snapshot) => snapshot.of(keyspace).get(key),
            None => keyspace.get(key),
        };
        assert_eq!(found.unwrap().as_deref(), self.model.get(space, key, at), "get {}", key.escape_ascii());
    }

    pub(super) fn scan(&self, name: usize, view: View, range: &Range, pattern: &[bool]) {
        let Some((keyspace, space, snapshot, at)) = self.target(name, view) else { return };
        let bounds = (range.lower.clone(), range.upper.clone());
        let mut iter: Iter = match snapshot {
            Some(snapshot) => snapshot.of(keyspace).range(bounds),
            None => keyspace.range(bounds),
        };
        let mut expected = self.model.range(space, range, at).into_iter();
        for front in pattern.iter().cycle() {
            let (found, expected) = match front {
                true => (iter.next(), expected.next()),
                false => (iter.next_back(), expected.next_back()),
            };
            let found = found.transpose().unwrap();
            assert_eq!(found.as_ref().map(|(key, value)| (&key[..], &value[..])), expected);
            if expected.is_none() {
                break;
            }
        }
        assert!(iter.next().is_none() && iter.next_back().is_none(), "the ends meet once");
    }

    pub(super) fn walk(&self, name: usize, view: View, range: &Range, steps: &[Step]) {
        let Some((keyspace, space, snapshot, at)) = self.target(name, view) else { return };
        let options = ReadOptions { lower: range.lower.clone(), upper: range.upper.clone() };
        let mut cursor: Cursor = match snapshot {
            Some(snapshot) => snapshot.of(keyspace).cursor_with(options),
            None => keyspace.cursor_with(options),
        };
        let entries = self.model.range(space, range, at);
        let mut position: Option<usize> = None;
        for step in steps {
            let sought = match step {
                Step::First => cursor.seek_to_first().map(|()| Some(0)),
                Step::Last => cursor.seek_to_last().map(|()| entries.len().checked_sub(1)),
                Step::Seek(key) => cursor.seek(key).map(|()| Some(entries.partition_point(|(k, _)| *k < &key[..]))),
                Step::SeekForPrev(key) => {
                    cursor.seek_for_prev(key).map(|()| entries.partition_point(|(k, _)| *k <= &key[..]).checked_sub(1))
                }
                Step::Next => cursor.next().map(|()| position.map(|i| i + 1)),
                Step::Prev => cursor.prev().map(|()| position.and_then(|i| i.checked_sub(1))),
            };
            position = sought.unwrap().filter(|i| *i < entries.len());
            let found = cursor.valid().then(|| (cursor.key(), cursor.value().unwrap()));
            assert_eq!(found, position.map(|i| entries[i]), "after {step:?}");
        }
    }
}
