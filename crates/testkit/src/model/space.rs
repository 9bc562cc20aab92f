//! The map of versions.

use super::op::{Key, Range, SPACES};
use std::collections::BTreeMap;

/// What one keyspace holds at one instant.
pub type Contents = BTreeMap<Key, Vec<u8>>;

/// One keyspace from its making to its end. One made later under the same name is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(usize);

/// The state that a reader sees: after a commit, as of a time in seconds since the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// After this one.
    pub commit: usize,
    /// What expires then or before is gone.
    pub time: u64,
}

/// A value, and when it expires.
type Living = (Vec<u8>, u64);

/// The versions of one key, oldest first, each with the number of its commit; `None` for a deletion.
type Versions = Vec<(usize, Option<Living>)>;

/// All versions of all keys of all keyspaces that ever were, by the number of the commit that wrote them.
#[derive(Debug, Clone)]
pub struct Model {
    /// By [`Space`].
    spaces: Vec<BTreeMap<Key, Versions>>,
    /// What lives under each of the names, if anything.
    living: [Option<Space>; SPACES],
    commits: usize,
    time: u64,
}

impl Default for Model {
    fn default() -> Self {
        let mut living = [None; SPACES];
        living[0] = Some(Space(0));
        Self { spaces: vec![BTreeMap::new()], living, commits: 0, time: 0 }
    }
}

/// What becomes of a key by a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It has this value.
    Put(Vec<u8>),
    /// It has this value for so many seconds.
    PutFor(Vec<u8>, u64),
    /// Its value, if any, goes on with this.
    Append(Vec<u8>),
    /// It is gone.
    Delete,
    /// So are all keys from it on, up to this one; `None`: all.
    DeleteTo(Option<Key>),
}

impl Model {
    /// Name 0 lives, as `default` does.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of the last commit; 0 before the first.
    pub fn commits(&self) -> usize {
        self.commits
    }

    /// The newest state.
    pub fn now(&self) -> At {
        At { commit: self.commits, time: self.time }
    }

    /// Lets so many seconds pass.
    pub fn pass(&mut self, seconds: u64) {
        self.time += seconds;
    }

    /// What lives under each name.
    pub fn living(&self) -> [Option<Space>; SPACES] {
        self.living
    }

    /// The keyspace made last.
    pub fn newest(&self) -> Space {
        Space(self.spaces.len() - 1)
    }

    /// Makes the keyspace of that name, which must not live.
    pub fn create(&mut self, name: usize) -> Space {
        assert!(self.living[name].is_none());
        let space = Space(self.spaces.len());
        self.spaces.push(BTreeMap::new());
        self.living[name] = Some(space);
        space
    }

    /// Drops the keyspace of that name. What it held can still be asked for.
    pub fn drop_space(&mut self, name: usize) {
        self.living[name] = None;
    }

    /// Says what lives under each name after a crash that may have undone making or dropping.
    pub fn set_living(&mut self, living: [Option<Space>; SPACES]) {
        self.living = living;
    }

    /// One commit: all of it, the later of two writes to one key winning.
    pub fn commit<'a>(&mut self, writes: impl IntoIterator<Item = (Space, &'a Key, Effect)>) {
        self.commits += 1;
        let (commit, time) = (self.commits, self.time);
        for (space, key, effect) in writes {
            let keys = &mut self.spaces[space.0];
            match effect {
                Effect::Put(value) => add(keys.entry(key.clone()).or_default(), commit, Some((value, u64::MAX))),
                Effect::PutFor(value, ttl) => {
                    add(keys.entry(key.clone()).or_default(), commit, Some((value, time + ttl)));
                }
                Effect::Append(operand) => {
                    let versions = keys.entry(key.clone()).or_default();
                    let before =
                        versions.last().and_then(|(_, value)| value.clone()).map_or_else(Vec::new, |(value, _)| value);
                    add(versions, commit, Some(([before, operand].concat(), u64::MAX)));
                }
                Effect::Delete => add(keys.entry(key.clone()).or_default(), commit, None),
                // One by one, as a range delete does not.
                Effect::DeleteTo(end) => {
                    let in_range = keys.range_mut(key.clone()..);
                    let in_range = in_range.take_while(|(key, _)| end.as_ref().is_none_or(|end| *key < end));
                    in_range.for_each(|(_, versions)| add(versions, commit, None));
                }
            }
        }
    }

    /// The value of a key as of `at`.
    pub fn get(&self, space: Space, key: &[u8], at: At) -> Option<&[u8]> {
        visible(self.spaces[space.0].get(key)?, at)
    }

    /// The keys and values in a range as of `at`, in order.
    pub fn range(&self, space: Space, range: &Range, at: At) -> Vec<(&[u8], &[u8])> {
        let entries = self.spaces[space.0].iter();
        entries
            .filter(|(key, _)| range.contains(key))
            .filter_map(|(key, versions)| Some((&key[..], visible(versions, at)?)))
            .collect()
    }

    /// Whether a keyspace is just so as of `at`.
    pub fn is(&self, space: Space, contents: &Contents, at: At) -> bool {
        let mut found = contents.iter();
        for (key, versions) in &self.spaces[space.0] {
            if let Some(value) = visible(versions, at)
                && found.next().is_none_or(|(k, v)| k != key || v != value)
            {
                return false;
            }
        }
        found.next().is_none()
    }

    /// The newest commit among `commits` after which the keyspaces were just so.
    ///
    /// The time is now.
    pub fn find(&self, found: &[(Space, Contents)], commits: std::ops::RangeInclusive<usize>) -> Option<usize> {
        let at = |commit| At { commit, time: self.time };
        commits.rev().find(|&commit| found.iter().all(|(space, contents)| self.is(*space, contents, at(commit))))
    }

    /// The last commit until now that wrote to a keyspace; 0 if none did.
    pub fn last_write(&self, space: Space) -> usize {
        self.spaces[space.0].values().filter_map(|versions| Some(versions.last()?.0)).max().unwrap_or(0)
    }

    /// Forgets the commits behind `at`, which a crash has undone. Numbers go on from `at`.
    pub fn truncate(&mut self, at: usize) {
        for versions in self.spaces.iter_mut().flat_map(|space| space.values_mut()) {
            versions.retain(|(commit, _)| *commit <= at);
        }
        self.commits = at;
    }
}

/// Adds a version, in the place of one of the same commit.
fn add(versions: &mut Versions, commit: usize, value: Option<Living>) {
    versions.pop_if(|(last, _)| *last == commit);
    versions.push((commit, value));
}

fn visible(versions: &[(usize, Option<Living>)], at: At) -> Option<&[u8]> {
    let (_, newest) = versions.iter().rev().find(|(commit, _)| *commit <= at.commit)?;
    newest.as_ref().filter(|(_, expiry)| *expiry > at.time).map(|(value, _)| &value[..])
}
