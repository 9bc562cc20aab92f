//! What is written, in each way that there is.

use crate::run::Run;
use crate::store::{Store, key, value};
use crate::worlds::{Effect, KEYS, SPACES, World};
use esker::vfs::Vfs;
use esker::{Durability, ErrorKind, IngestOptions, Result, SstOptions, SstWriter, WriteBatch, WriteOptions};
use std::path::Path;
use std::sync::Arc;

impl Run {
    fn effect(&mut self) -> Effect {
        let (space, key) = (self.random.index(SPACES), self.random.below(KEYS));
        match self.random.below(12) {
            0..2 => Effect::Delete(space, key),
            2 => Effect::DeleteRange(space, key, key + 1 + self.random.below(10)),
            _ => Effect::Put(space, key, self.id()),
        }
    }

    pub(crate) fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes up what came of a write.
    fn wrote(&mut self, what: &str, store: &Store, effects: &[Effect], result: &Result<bool>) {
        // Of what a transaction puts and then deletes nothing is written but the deletion.
        let is_left = |(i, effect): (usize, &Effect)| match *effect {
            Effect::Put(space, key, _) => {
                what != "transact" || !effects[i..].iter().any(|later| later.deletes(space, key))
            }
            _ => false,
        };
        let only_deletes = !effects.iter().enumerate().any(is_left);
        match result {
            Ok(true) => {
                let unseen = self.unseen.take();
                assert!(
                    unseen.is_none() || only_deletes,
                    "seed {}, {what}: the write was not told of {unseen:?}",
                    self.seed
                );
                self.worlds.acknowledged(effects);
            }
            // Nothing was to be written.
            Ok(false) => {}
            Err(error) if error.outcome_unknown() => self.worlds.unknown(effects),
            Err(error) if error.kind() == ErrorKind::Stalled => (0..8).for_each(|_| self.work(&store.engine)),
            Err(_) => self.unseen = None,
        }
    }

    pub(crate) fn write(&mut self, store: &Store) {
        let durability = if self.random.one_in(16) { Durability::Sync } else { Durability::Os };
        let options = WriteOptions { durability, ..WriteOptions::default() };
        let Store { engine, spaces } = store;
        let (what, effects, result) = match self.random.below(60) {
            0 => return self.ingest(store),
            1 => return self.load(store),
            2..10 => {
                let (space, i, id) = (self.random.index(SPACES), self.random.below(KEYS), self.id());
                let insert = || spaces[space].insert_if_absent_with(key(i), value(id), &options);
                let result = self.on("insert_if_absent", engine, insert);
                if let Ok(inserted) = result {
                    let agrees = |world: &World| world.contains_key(&(space, i)) != inserted;
                    assert!(self.worlds.saw(agrees), "seed {}: insert_if_absent({i}): {inserted}", self.seed);
                }
                ("insert_if_absent", vec![Effect::Put(space, i, id)], result)
            }
            10..20 => {
                let effects: Vec<Effect> = (0..=self.random.below(4)).map(|_| self.effect()).collect();
                let result = self.on("transact", engine, || {
                    engine.transact_with(&options, |tx| {
                        for effect in &effects {
                            match *effect {
                                Effect::Put(space, i, id) => {
                                    tx.get_in(&spaces[space], key(i))?;
                                    tx.put_in(&spaces[space], key(i), value(id))?;
                                }
                                Effect::Delete(space, i) => tx.delete_in(&spaces[space], key(i))?,
                                Effect::DeleteRange(space, from, to) => {
                                    tx.delete_range_in(&spaces[space], key(from), key(to))?;
                                }
                            }
                        }
                        Ok(true)
                    })
                });
                ("transact", effects, result)
            }
            n => {
                let many = if n < 30 { self.random.below(6) } else { 0 };
                let effects: Vec<Effect> = (0..=many).map(|_| self.effect()).collect();
                let mut batch = WriteBatch::new();
                for effect in &effects {
                    match *effect {
                        Effect::Put(space, i, id) => batch.put_in(&spaces[space], key(i), value(id)),
                        Effect::Delete(space, i) => batch.delete_in(&spaces[space], key(i)),
                        Effect::DeleteRange(space, from, to) => {
                            batch.delete_range_in(&spaces[space], key(from), key(to))
                        }
                    };
                }
                let result = self.on("write", engine, || engine.write_with(&batch, &options).map(|()| true));
                ("write", effects, result)
            }
        };
        self.wrote(what, store, &effects, &result);
        if durability == Durability::Sync && matches!(result, Ok(true)) {
            self.worlds.synced();
        }
    }

    /// Puts and deletions of one keyspace, in order of keys.
    fn entries(&mut self) -> (usize, Vec<Effect>) {
        let space = self.random.index(SPACES);
        let first = self.random.below(KEYS - 10);
        let mut effects = Vec::new();
        for key in first..first + 1 + self.random.below(10) {
            let id = self.id();
            effects.push(if self.random.one_in(4) { Effect::Delete(space, key) } else { Effect::Put(space, key, id) });
        }
        (space, effects)
    }

    /// Of what comes as tables.
    fn brought(&mut self, what: &str, store: &Store, effects: &[Effect], result: Result<()>) {
        let result = result.map(|()| true);
        self.wrote(what, store, effects, &result);
        if result.is_ok() {
            self.worlds.synced();
        }
    }

    fn ingest(&mut self, store: &Store) {
        let (space, effects) = self.entries();
        // Built where nothing fails.
        let memory = || Arc::clone(&self.memory) as Arc<dyn Vfs>;
        memory().create_dir_all(Path::new("outside")).unwrap();
        let path = format!("outside/{}.sst", self.next_id);
        let mut table = SstWriter::create_on(memory(), &path, &SstOptions::default()).unwrap();
        for effect in &effects {
            match *effect {
                Effect::Put(_, i, id) => table.put(key(i), value(id)).unwrap(),
                Effect::Delete(_, i) => table.delete(key(i)).unwrap(),
                Effect::DeleteRange(..) => unreachable!("there is none"),
            }
        }
        table.finish().unwrap();
        let move_files = self.random.one_in(2);
        let ingest = || store.spaces[space].ingest([&path], &IngestOptions { move_files }).map(drop);
        let result = self.on("ingest", &store.engine, ingest);
        if result.as_ref().is_err_and(|error| !error.outcome_unknown()) {
            assert!(self.memory.metadata(Path::new(&path)).is_ok(), "seed {}: {path} is lost", self.seed);
        }
        self.brought("ingest", store, &effects, result);
    }

    fn load(&mut self, store: &Store) {
        let (space, effects) = self.entries();
        let result = self.on("bulk load", &store.engine, || {
            let mut load = store.spaces[space].bulk_writer()?;
            for effect in &effects {
                match *effect {
                    Effect::Put(_, i, id) => load.put(key(i), value(id))?,
                    Effect::Delete(_, i) => load.delete(key(i))?,
                    Effect::DeleteRange(..) => unreachable!("there is none"),
                }
            }
            load.finish().map(drop)
        });
        self.brought("bulk load", store, &effects, result);
    }
}
