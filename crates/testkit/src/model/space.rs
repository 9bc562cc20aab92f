//! The map of versions.
//!
//! ```text
//! a: after commit 3, "x"     after commit 7, "y": a filter makes nothing of it, as was seen at look 5
//! ```
//! What a compaction filter does follows from no operation: it comes by when it likes. So each version knows what a filter would make of it, and at which look at the engine that was seen; before, either will do where it is looked at, and from
//! then on that alone.

use super::filter::{FILTERED, Fate, fate_of};
use super::op::{Key, Range, SPACES};
use std::collections::BTreeMap;
use std::fmt;

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
    /// Filtered is what was seen to be until this look.
    pub look: usize,
}

/// A value, and when it expires.
type Living = (Vec<u8>, u64);

/// One version of a key.
#[derive(Clone)]
struct Version {
    commit: usize,
    /// `None` for a deletion.
    value: Option<Living>,
    /// What the filter makes of it, where there is one.
    fate: Fate,
    /// The look at which it was seen to have been made so.
    seen: Option<usize>,
}

impl Version {
    /// What it is, or what the filter makes of it, as of a time.
    fn shows(&self, is_filtered: bool, time: u64) -> Option<&[u8]> {
        let (value, _) = self.value.as_ref().filter(|(_, expiry)| *expiry > time)?;
        match &self.fate {
            Fate::Removed if is_filtered => None,
            Fate::Replaced(value) if is_filtered => Some(value),
            _ => Some(value),
        }
    }

    fn is_filtered(&self, at: At) -> bool {
        self.seen.is_some_and(|look| look <= at.look)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map_or_else(|| "deleted".into(), |(value, _)| shown(value));
        let expiry = self.value.as_ref().map(|(_, expiry)| *expiry).filter(|expiry| *expiry < u64::MAX);
        let fate = match &self.fate {
            Fate::Kept => "kept".into(),
            Fate::Removed => "removed".into(),
            Fate::Replaced(value) => shown(value),
        };
        write!(f, "commit {}: {value}, until {expiry:?}, filtered: {fate}, seen {:?}", self.commit, self.seen)
    }
}

/// A value, by how it begins and how long it is.
fn shown(value: &[u8]) -> String {
    format!("{}.. ({})", value[..value.len().min(8)].escape_ascii(), value.len())
}

/// Those of one key, oldest first.
type Versions = Vec<Version>;

/// What a keyspace holds, and held.
#[derive(Debug, Clone, Default)]
struct Keys {
    versions: BTreeMap<Key, Versions>,
    has_filter: bool,
}

/// All versions of all keys of all keyspaces that ever were, by the number of the commit that wrote them.
#[derive(Debug, Clone)]
pub struct Model {
    /// By [`Space`].
    spaces: Vec<Keys>,
    /// What lives under each of the names, if anything.
    living: [Option<Space>; SPACES],
    commits: usize,
    time: u64,
    looks: usize,
    /// The name of the keyspace that has the filter.
    filtered: Option<usize>,
}

impl Default for Model {
    fn default() -> Self {
        Self::with_filter(Some(FILTERED))
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

    /// The same, where no keyspace has a filter: all that it says follows from the operations.
    pub fn without_filter() -> Self {
        Self::with_filter(None)
    }

    fn with_filter(filtered: Option<usize>) -> Self {
        let mut model = Self { spaces: Vec::new(), living: [None; SPACES], commits: 0, time: 0, looks: 0, filtered };
        model.create(0);
        model
    }

    /// The number of the last commit; 0 before the first.
    pub fn commits(&self) -> usize {
        self.commits
    }

    /// The newest state.
    pub fn now(&self) -> At {
        At { commit: self.commits, time: self.time, look: self.looks }
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
        self.spaces.push(Keys { has_filter: self.filtered == Some(name), ..Keys::default() });
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
                Effect::Put(value) => keys.add(key, commit, Some((value, u64::MAX))),
                Effect::PutFor(value, ttl) => keys.add(key, commit, Some((value, time + ttl))),
                Effect::Append(operand) => {
                    let last = keys.versions.get(key).and_then(|versions| versions.last()?.value.clone());
                    let before = last.map_or_else(Vec::new, |(value, _)| value);
                    keys.add(key, commit, Some(([before, operand].concat(), u64::MAX)));
                }
                Effect::Delete => keys.add(key, commit, None),
                // One by one, as a range delete does not.
                Effect::DeleteTo(end) => {
                    let in_range = keys.versions.range_mut(key.clone()..);
                    let in_range = in_range.take_while(|(key, _)| end.as_ref().is_none_or(|end| *key < end));
                    in_range.for_each(|(_, versions)| add(versions, commit, None, Fate::Kept));
                }
            }
        }
    }

    /// The value of a key as of `at`.
    pub fn get(&self, space: Space, key: &[u8], at: At) -> Option<&[u8]> {
        visible(self.spaces[space.0].versions.get(key)?, at)
    }

    /// The keys and values in a range as of `at`, in order.
    pub fn range(&self, space: Space, range: &Range, at: At) -> Vec<(&[u8], &[u8])> {
        let entries = self.spaces[space.0].versions.iter();
        entries
            .filter(|(key, _)| range.contains(key))
            .filter_map(|(key, versions)| Some((&key[..], visible(versions, at)?)))
            .collect()
    }

    /// Whether a keyspace is just so as of `at`.
    pub fn is(&self, space: Space, contents: &Contents, at: At) -> bool {
        self.spaces[space.0].fit(contents, |versions, found| visible(versions, at) == found)
    }

    /// Whether it may be so, whatever else the filter has come by: what was not seen to be filtered may be or not.
    pub fn may_be(&self, space: Space, contents: &Contents, at: At) -> bool {
        self.spaces[space.0].fit(contents, |versions, found| {
            let Some(newest) = newest(versions, at.commit) else { return found.is_none() };
            newest.shows(true, at.time) == found || !newest.is_filtered(at) && newest.shows(false, at.time) == found
        })
    }

    /// Notes what a look at a keyspace has found: what the filter has done since the last one, to versions of the commits that `may` says.
    ///
    /// # Errors
    /// The key that is not as it may be, and what it may be.
    pub fn look(&mut self, space: Space, contents: &Contents, may: impl Fn(usize) -> bool) -> Result<(), String> {
        self.looks += 1;
        let at = self.now();
        let keys = &mut self.spaces[space.0];
        for (key, versions) in &mut keys.versions {
            let found = contents.get(key).map(|value| &value[..]);
            let expected = visible(versions, at);
            if found == expected {
                continue;
            }
            let newest = versions.last_mut().filter(|newest| newest.seen.is_none() && may(newest.commit));
            match newest.filter(|newest| newest.shows(true, at.time) == found) {
                Some(newest) => newest.seen = Some(at.look),
                None => {
                    let found = found.map_or("nothing".into(), shown);
                    return Err(format!("{} holds {found}; its versions are {versions:?}", key.escape_ascii()));
                }
            }
        }
        let unknown = contents.keys().find(|key| !keys.versions.contains_key(*key));
        unknown.map_or(Ok(()), |key| Err(format!("{} was never written", key.escape_ascii())))
    }

    /// Notes that the filter has come by everything in a range: by what was written by commits behind `held`.
    pub fn filter(&mut self, space: Space, range: &Range, held: Option<usize>) {
        self.looks += 1;
        let keys = &mut self.spaces[space.0];
        for (_, versions) in keys.versions.iter_mut().filter(|(key, _)| range.contains(key)) {
            if let Some(newest) = versions.last_mut()
                && held.is_none_or(|held| newest.commit > held)
            {
                newest.seen = newest.seen.or(Some(self.looks));
            }
        }
    }

    /// The newest commit among `commits` after which the keyspaces may have been just so, where what was seen to be filtered until `look` is.
    ///
    /// The time is now.
    pub fn find(
        &self,
        found: &[(Space, Contents)],
        commits: std::ops::RangeInclusive<usize>,
        look: usize,
    ) -> Option<usize> {
        let at = |commit| At { commit, time: self.time, look };
        commits.rev().find(|&commit| found.iter().all(|(space, contents)| self.may_be(*space, contents, at(commit))))
    }

    /// The last commit until now that wrote to a keyspace; 0 if none did.
    pub fn last_write(&self, space: Space) -> usize {
        let keys = self.spaces[space.0].versions.values();
        keys.filter_map(|versions| Some(versions.last()?.commit)).max().unwrap_or(0)
    }

    /// Forgets the commits behind `at`, which a crash has undone. Numbers go on from `at`.
    pub fn truncate(&mut self, at: usize) {
        for versions in self.spaces.iter_mut().flat_map(|keys| keys.versions.values_mut()) {
            versions.retain(|version| version.commit <= at);
        }
        self.commits = at;
    }
}

impl Keys {
    fn add(&mut self, key: &Key, commit: usize, value: Option<Living>) {
        let fate = match &value {
            Some((value, _)) if self.has_filter => fate_of(value),
            _ => Fate::Kept,
        };
        add(self.versions.entry(key.clone()).or_default(), commit, value, fate);
    }

    /// Whether of each key what was found, and that nothing was, fits its versions; and nothing else was found.
    fn fit(&self, contents: &Contents, fits: impl Fn(&Versions, Option<&[u8]>) -> bool) -> bool {
        let mut found = contents.iter().peekable();
        let all_fit = self.versions.iter().all(|(key, versions)| {
            let value = found.next_if(|(other, _)| *other == key).map(|(_, value)| &value[..]);
            fits(versions, value)
        });
        all_fit && found.next().is_none()
    }
}

/// Adds a version, in the place of one of the same commit.
fn add(versions: &mut Versions, commit: usize, value: Option<Living>, fate: Fate) {
    versions.pop_if(|last| last.commit == commit);
    versions.push(Version { commit, value, fate, seen: None });
}

fn newest(versions: &[Version], commit: usize) -> Option<&Version> {
    versions.iter().rev().find(|version| version.commit <= commit)
}

fn visible(versions: &[Version], at: At) -> Option<&[u8]> {
    let newest = newest(versions, at.commit)?;
    newest.shows(newest.is_filtered(at), at.time)
}
