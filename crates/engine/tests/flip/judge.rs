//! Whether all that a damaged store answers is what it held at one and the same moment.

use crate::store::{Contents, NAMES, State, Store};
use crate::told;
use esker::{Change, Engine, ErrorKind, KeyspaceOptions};

pub(crate) struct Judge<'a> {
    store: &'a Store,
    /// The states that all answers so far agree with.
    pub(crate) fits: Vec<usize>,
    /// How many questions were answered by an error.
    pub(crate) errors: usize,
    /// How often the feed of changes ended in one, other than a gap.
    pub(crate) feed_errors: usize,
}

type Item = (Vec<u8>, Vec<u8>);

impl<'a> Judge<'a> {
    /// One that takes answers of the states from number `from` on.
    pub(crate) fn new(store: &'a Store, from: usize) -> Self {
        Self { store, fits: (from..store.states.len()).collect(), errors: 0, feed_errors: 0 }
    }

    /// It does not open, which is an answer too, if it says of what kind.
    pub(crate) fn refused(&mut self, error: &esker::Error) {
        let kinds = [ErrorKind::Corruption, ErrorKind::NotFound, ErrorKind::Unsupported, ErrorKind::InvalidArgument];
        assert!(kinds.contains(&error.kind()), "{:?}: {error}", error.kind());
        self.errors += 1;
    }

    fn answer<T: std::fmt::Debug>(&mut self, answer: esker::Result<T>, what: &str, is_so: impl Fn(&State, &T) -> bool) {
        match answer {
            Ok(answer) => {
                self.fits.retain(|fit| is_so(&self.store.states[*fit], &answer));
                assert!(!self.fits.is_empty(), "{what}: a wrong answer, {answer:?}");
            }
            Err(_) => self.errors += 1,
        }
    }

    /// Asks for everything in every way.
    pub(crate) fn read(&mut self, engine: &Engine, what: &str) {
        self.answer(Ok(engine.keyspaces()), what, |_, names| *names == NAMES);
        for (which, name) in NAMES.iter().enumerate() {
            let what = format!("{what}: {name}");
            let keyspace = engine.keyspace(name, KeyspaceOptions::default());
            let Ok(keyspace) = keyspace else {
                self.errors += 1;
                continue;
            };
            let keys: Vec<&Vec<u8>> = self.store.keys[which].iter().collect();
            for key in &keys {
                let value = keyspace.get(key).map(|value| value.map(|value| value.to_vec()));
                let is_so = |state: &State, value: &Option<Vec<u8>>| state[which].get(*key) == value.as_ref();
                self.answer(value, &format!("{what}, get {}", key.escape_ascii()), is_so);
                let is_there = |state: &State, is_there: &bool| state[which].contains_key(*key) == *is_there;
                self.answer(keyspace.contains_key(key), &format!("{what}, contains {}", key.escape_ascii()), is_there);
            }
            let values = keyspace.multi_get(&keys);
            let values = values.map(|values| values.iter().map(|value| value.as_ref().map(|v| v.to_vec())).collect());
            self.answer(values, &format!("{what}, multi_get"), |state, values: &Vec<Option<Vec<u8>>>| {
                keys.iter().zip(values).all(|(key, value)| state[which].get(*key) == value.as_ref())
            });
            let forward = keyspace.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())));
            self.scan(which, forward, &format!("{what}, forward"), |there| Box::new(there.iter()));
            let backward = keyspace.iter().rev().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())));
            self.scan(which, backward, &format!("{what}, backward"), |there| Box::new(there.iter().rev()));
            let ends = keyspace.first().map(|first| first.map(|(key, value)| (key.to_vec(), value.to_vec())));
            self.answer(ends, &format!("{what}, first"), |state, first: &Option<Item>| {
                state[which].iter().next() == first.as_ref().map(|(key, value)| (key, value))
            });
            let ends = keyspace.last().map(|last| last.map(|(key, value)| (key.to_vec(), value.to_vec())));
            self.answer(ends, &format!("{what}, last"), |state, last: &Option<Item>| {
                state[which].iter().next_back() == last.as_ref().map(|(key, value)| (key, value))
            });
        }
        self.feed(engine, what);
    }

    /// The items are those of some state, or their beginning and then an error.
    fn scan(
        &mut self,
        which: usize,
        items: impl Iterator<Item = esker::Result<Item>>,
        what: &str,
        order: impl Fn(&Contents) -> Box<dyn Iterator<Item = (&Vec<u8>, &Vec<u8>)> + '_>,
    ) {
        let mut found = Vec::new();
        let mut is_whole = true;
        for item in items {
            match item {
                Ok(item) => found.push(item),
                Err(_) => {
                    is_whole = false;
                    self.errors += 1;
                    break;
                }
            }
        }
        self.answer(Ok(found), what, |state, found| {
            let there = &state[which];
            let is_begun = order(there).zip(found).all(|((key, value), found)| (key, value) == (&found.0, &found.1));
            is_begun && if is_whole { found.len() == there.len() } else { found.len() <= there.len() }
        });
    }

    /// What it tells are the writes as they were, in order, none of them left out; and no other than those that are seen.
    fn feed(&mut self, engine: &Engine, what: &str) {
        let from = match engine.changes_since(0) {
            Err(error) if error.kind() == ErrorKind::Gap => error.changes_from().expect("a gap has an end"),
            _ => 0,
        };
        let behind = self.store.told.partition_point(|(seq, _)| *seq <= from);
        let mut next = behind;
        let heard = self.hear(engine, from, &mut next, what);
        self.feed_errors += usize::from(heard.is_err_and(|error| error.kind() != ErrorKind::Gap));
        if next > behind {
            self.fits.retain(|fit| *fit >= next);
            assert!(!self.fits.is_empty(), "{what}: the feed tells of write {next}, which nobody sees");
        }
    }

    /// Counts `next` on with each write that the feed tells of.
    fn hear(&self, engine: &Engine, from: u64, next: &mut usize, what: &str) -> esker::Result<()> {
        for change in engine.changes_since(from)? {
            let Change::Batch(batch) = change? else { panic!("{what}: nothing was ingested") };
            let told: Vec<String> = batch.operations().map(|operation| told::of(&operation)).collect();
            let written = self.store.told.get(*next).map(|(seq, written)| (*seq, vec![written.clone()]));
            assert_eq!(Some((batch.last_seq(), told)), written, "{what}: the feed, from {from} on");
            *next += 1;
        }
        Ok(())
    }
}
