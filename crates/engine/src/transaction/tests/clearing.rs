//! Keys that are deleted with ranges, blindly: no list is left that would tell when. So whoever deletes one appends to a marker beside it, and whoever reads one looks at the marker too, at the same
//! instant but without the engine's knowing, so that it takes a look at range deletes to find a conflict.
//!
//! ```text
//! marker       [T7 T9]                   the key was deleted by T7, then by T9
//! key          [3 4] T7 [5] T9 [8 6]     what was in it when, as those tell who appended: each knows how many deletions and how many appends came before
//! ```
//! Written one behind the other this is a list that is appended to alone, as [`anomaly`](super::history::anomaly) has them; here reads are put in their places in it.

use super::history::{Committed, Id, Key, Read};
use std::collections::BTreeMap;
use std::ops::Range;

/// Beside other keys of the other keyspace.
pub(super) const CLEARED: Range<Key> = 600..605;

pub(super) fn marker(key: Key) -> Key {
    key + 100
}

/// What was seen of such a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// Who had deleted it.
    pub(super) clears: Vec<Id>,
    /// What was in it.
    pub(super) list: Vec<Id>,
}

/// All that was ever in a key.
struct Line {
    all: Vec<Id>,
    /// What was appended before the first deletion, and behind each.
    epochs: Vec<Vec<Id>>,
    /// Where in `all` they begin.
    begins: Vec<usize>,
}

impl Line {
    /// How much had been in the key when it was looked at; `None` if it never was so.
    fn place(&self, clears: &[Id], look: &Look) -> Option<usize> {
        let nth = look.clears.len();
        let epoch =
            self.epochs.get(nth).filter(|epoch| clears.starts_with(&look.clears) && epoch.starts_with(&look.list))?;
        // Who deletes and puts does both at once.
        let is_put_at_once = look.clears.last().is_some_and(|clear| epoch.first() == Some(clear));
        (!is_put_at_once || !look.list.is_empty()).then_some(self.begins[nth] + look.list.len())
    }
}

/// Puts together what was in a key: `clears` is the final list of its marker, `list` what is in it at last.
fn line(history: &[Committed], key: Key, clears: &[Id], list: &[Id]) -> Result<Line, String> {
    let mut epochs: Vec<BTreeMap<usize, Id>> = vec![BTreeMap::new(); clears.len() + 1];
    for tx in history.iter().filter(|tx| tx.appends.contains(&key)) {
        // Who has deleted it first has appended to nothing.
        let (epoch, place) = match tx.looks.get(&key) {
            Some(look) => (look.clears.len(), look.list.len()),
            None => (clears.iter().position(|id| *id == tx.id).map_or(0, |nth| nth + 1), 0),
        };
        let other = epochs.get_mut(epoch).and_then(|epoch| epoch.insert(place, tx.id));
        if let Some(other) = other {
            return Err(format!("lost update: {other} and {} have appended to {key} at the same place", tx.id));
        }
    }
    let mut line = Line { all: Vec::new(), epochs: Vec::new(), begins: Vec::new() };
    for (nth, epoch) in epochs.into_iter().enumerate() {
        if epoch.keys().copied().ne(0..epoch.len()) {
            return Err(format!("{key} was appended to where nothing was: {epoch:?} behind {nth} deletions"));
        }
        let epoch: Vec<Id> = epoch.into_values().collect();
        if let Some(clear) = nth.checked_sub(1).map(|nth| clears[nth])
            && epoch.first() != Some(&clear)
        {
            line.all.push(clear);
        }
        line.begins.push(line.all.len());
        line.all.extend(&epoch);
        line.epochs.push(epoch);
    }
    match line.epochs.last() {
        Some(last) if last == list => Ok(line),
        last => Err(format!("{key} holds {list:?} at last, and not {last:?}")),
    }
}

/// Makes of what was seen of these keys reads of lists that are appended to alone. What is wrong with it, if so much can be told already.
pub(super) fn resolve(history: &mut [Committed], lists: &mut BTreeMap<Key, Vec<Id>>) -> Result<(), String> {
    for key in CLEARED {
        let clears = lists.get(&marker(key)).cloned().unwrap_or_default();
        let line = line(history, key, &clears, lists.get(&key).map_or(&[], |list| list))?;
        for tx in &mut *history {
            if let Some(look) = tx.looks.get(&key) {
                let end = line
                    .place(&clears, look)
                    .ok_or_else(|| format!("{} has seen {look:?} of {key}, which was never there", tx.id))?;
                tx.reads.insert(key, Read::of(&line.all[..end]));
            }
            if tx.clears.contains(&key) && !tx.appends.contains(&key) {
                tx.appends.push(key);
            }
        }
        lists.insert(key, line.all);
    }
    Ok(())
}

#[test]
fn what_was_deleted_is_put_in_its_place() {
    let key = CLEARED.start;
    let tx = |id, look: Option<(&[Id], &[Id])>, appends: bool, clears: bool| Committed {
        id,
        looks: look
            .map(|(clears, list)| (key, Look { clears: clears.into(), list: list.into() }))
            .into_iter()
            .collect(),
        appends: if appends { vec![key] } else { Vec::new() },
        clears: if clears { vec![key] } else { Vec::new() },
        ..Committed::default()
    };
    let history = [
        tx(1, Some((&[], &[])), true, false),
        tx(2, Some((&[], &[1])), true, false),
        tx(3, None, false, true),
        tx(4, Some((&[3], &[])), true, false),
        tx(5, None, true, true),
        tx(6, Some((&[3, 5], &[5])), true, false),
        tx(7, Some((&[3, 5], &[5])), false, false),
    ];
    let lists = BTreeMap::from([(marker(key), vec![3, 5]), (key, vec![5, 6])]);
    let (mut resolved, mut of) = (history.clone(), lists.clone());
    resolve(&mut resolved, &mut of).unwrap();
    assert_eq!(of[&key], [1, 2, 3, 4, 5, 6]);
    assert_eq!(resolved[6].reads[&key], Read::of(&[1, 2, 3, 4, 5]));
    assert_eq!(super::history::anomaly(&resolved, &of), None);
    let fails = |nth: usize, tx: Committed| {
        let mut history = history.to_vec();
        history[nth] = tx;
        resolve(&mut history, &mut lists.clone()).unwrap_err()
    };
    fails(5, tx(6, Some((&[3, 5], &[])), true, false));
    fails(6, tx(7, Some((&[3, 5], &[])), false, false));
    fails(6, tx(7, Some((&[3], &[5])), false, false));
    // Who had not seen the deletion and wrote what it saw: back comes what was deleted.
    let at_last = BTreeMap::from([(marker(key), vec![3, 5]), (key, vec![1, 2, 6])]);
    resolve(&mut history.to_vec(), &mut at_last.clone()).unwrap_err();
}
