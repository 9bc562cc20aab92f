//! What an engine may hold of whose writes some failed: all the contents that its answers so far allow.
//!
//! A write that was acknowledged is in each of them, one that was refused in none; one whose outcome is unknown doubles them, and what is read leaves those that agree with it.

use std::collections::BTreeMap;

pub(crate) const SPACES: usize = 2;
pub(crate) const KEYS: u64 = 60;

/// Which write put what each key of each keyspace holds.
pub(crate) type World = BTreeMap<(usize, u64), u32>;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Effect {
    Put(usize, u64, u32),
    Delete(usize, u64),
    /// From a key up to before another.
    DeleteRange(usize, u64, u64),
}

impl Effect {
    pub(crate) fn deletes(&self, space: usize, key: u64) -> bool {
        match *self {
            Self::Put(..) => false,
            Self::Delete(of, deleted) => of == space && deleted == key,
            Self::DeleteRange(of, from, to) => of == space && (from..to).contains(&key),
        }
    }
}

fn apply(world: &mut World, effects: &[Effect]) {
    for effect in effects {
        match *effect {
            Effect::Put(space, key, id) => _ = world.insert((space, key), id),
            _ => world.retain(|(space, key), _| !effect.deletes(*space, *key)),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Worlds {
    /// What this process may show,
    now: Vec<World>,
    /// what the next one may find,
    later: Vec<World>,
    /// and what may be left by a power cut: of all commits since one that was on stable storage.
    cut: Vec<World>,
    /// Whether what this process shows says nothing of what the next one finds.
    is_split: bool,
}

impl Worlds {
    /// With nothing in them.
    pub(crate) fn new() -> Self {
        let empty = || vec![World::new()];
        Self { now: empty(), later: empty(), cut: empty(), is_split: false }
    }

    pub(crate) fn acknowledged(&mut self, effects: &[Effect]) {
        self.now.iter_mut().chain(&mut self.later).for_each(|world| apply(world, effects));
        self.cut.extend_from_slice(&self.later);
    }

    /// It may be seen now or not, and found later or not, whichever of the two is so now.
    pub(crate) fn unknown(&mut self, effects: &[Effect]) {
        let with = |worlds: &[World]| -> Vec<World> {
            let mut with = worlds.to_vec();
            with.iter_mut().for_each(|world| apply(world, effects));
            with
        };
        self.now.extend(with(&self.now));
        self.later.extend(with(&self.later));
        self.cut.extend_from_slice(&self.later);
        self.is_split = true;
        assert!(self.later.len() <= 1 << 12, "too much is unknown to go on");
    }

    /// Leaves what agrees with something read; whether there is any.
    #[must_use]
    pub(crate) fn saw(&mut self, agrees: impl Fn(&World) -> bool) -> bool {
        let before = self.now.len();
        self.now.retain(agrees);
        if !self.is_split && self.now.len() < before {
            self.later.clone_from(&self.now);
        }
        !self.now.is_empty()
    }

    /// All that was committed is on stable storage.
    pub(crate) fn synced(&mut self) {
        self.cut.clone_from(&self.later);
    }

    /// What is seen was written anew, as synced tables.
    pub(crate) fn resumed(&mut self) {
        self.later.clone_from(&self.now);
        self.is_split = false;
        self.synced();
    }

    pub(crate) fn reopened(&mut self) {
        self.now.clone_from(&self.later);
        self.is_split = false;
    }

    pub(crate) fn may_be_found(&self, world: &World) -> bool {
        self.later.contains(world)
    }

    pub(crate) fn may_be_seen(&self, world: &World) -> bool {
        self.now.contains(world)
    }

    pub(crate) fn may_outlast_a_cut(&self, world: &World) -> bool {
        self.cut.contains(world)
    }
}
