//! What a power cut leaves of a [`State`].

use std::collections::{BTreeMap, BTreeSet};

use super::content::Content;
use super::state::{DirState, FileOp, FileState, Ino, Names, ROOT, SECTOR_BYTES, State, sectors, set_name};

/// What a power cut leaves of what was not synced. What was synced stays under every policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashPolicy {
    /// Nothing.
    SyncedOnly,
    /// Everything.
    All,
    /// A part that depends on the seed alone: of each file nothing, everything, or of each sector of 512 bytes some state that it was in
    /// since the file was synced, whatever the others were in; the file's length likewise; of the changes of names in a
    /// directory any subset, except that changes of the same name keep their order and a rename is never done by half.
    Subset(u64),
    /// Everything, but of the bytes that were appended last, if they are not synced, only the first half.
    TornLast,
    /// Everything, but of the bytes that were appended last, if they are not synced, only so many.
    Torn {
        /// How many bytes are left of the append.
        keep_bytes: u64,
    },
}

/// The state after a power cut: all that is in it is durable.
pub(crate) fn image(state: &State, policy: CrashPolicy) -> State {
    let names = names(state, policy);
    let mut image = State::new();
    let mut waiting = vec![ROOT];
    let mut seen = BTreeSet::from([ROOT]);
    while let Some(directory) = waiting.pop() {
        let names = names.get(&directory).cloned().unwrap_or_default();
        for &ino in names.values() {
            if let Some(file) = state.files.get(&ino) {
                image.files.entry(ino).or_insert_with(|| reborn(content(state, ino, file, policy))).links += 1;
            } else if seen.insert(ino) {
                waiting.push(ino);
            }
        }
        image.dirs.insert(directory, DirState { live: names.clone(), synced: names });
    }
    image
}

fn reborn(content: Content) -> FileState {
    FileState { live: content.clone(), synced: content, ..FileState::default() }
}

/// The names that are left, by directory.
fn names(state: &State, policy: CrashPolicy) -> BTreeMap<Ino, Names> {
    let mut names: BTreeMap<Ino, Names> = state.dirs.iter().map(|(&ino, dir)| (ino, dir.synced.clone())).collect();
    let mut dropped = BTreeSet::new();
    for (nth, op) in state.pending.iter().enumerate() {
        let keep = match policy {
            CrashPolicy::SyncedOnly => false,
            CrashPolicy::All | CrashPolicy::TornLast | CrashPolicy::Torn { .. } => true,
            CrashPolicy::Subset(seed) => keeps_name(seed, nth) && !op.names().any(|name| dropped.contains(&name)),
        };
        if !keep {
            dropped.extend(op.names());
            continue;
        }
        for change in &op.changes {
            if let Some(names) = names.get_mut(&change.directory) {
                set_name(names, change);
            }
        }
    }
    names
}

/// Of the changes of names, one image in four keeps most, one few, the others half.
fn keeps_name(seed: u64, nth: usize) -> bool {
    let in_eight = [1, 4, 4, 7][(mix(seed, &[1]) % 4) as usize];
    mix(seed, &[2, nth as u64]) % 8 < in_eight
}

fn content(state: &State, ino: Ino, file: &FileState, policy: CrashPolicy) -> Content {
    let torn = |keep: fn(u64, u64) -> u64, bytes: u64| match file.pending.split_last() {
        Some((FileOp::Write { offset, bytes: last }, before)) if state.written_last == Some(ino) => {
            let keep = keep(last.len() as u64, bytes).min(last.len() as u64) as usize;
            torn(file, before, *offset, &last[..keep])
        }
        _ => file.live.clone(),
    };
    match policy {
        CrashPolicy::SyncedOnly => file.synced.clone(),
        CrashPolicy::All => file.live.clone(),
        CrashPolicy::TornLast => torn(|len, _| len / 2, 0),
        CrashPolicy::Torn { keep_bytes } => torn(|_, keep| keep, keep_bytes),
        CrashPolicy::Subset(seed) => match mix(seed, &[3, ino]) % 4 {
            0 => file.synced.clone(),
            1 => file.live.clone(),
            _ => mixed(file, mix(seed, &[4, ino])),
        },
    }
}

/// All that was written but for the last write, of which only `kept` is left.
fn torn(file: &FileState, before: &[FileOp], offset: u64, kept: &[u8]) -> Content {
    let mut content = file.synced.clone();
    for &sector in &file.lost {
        content.write(sector * SECTOR_BYTES, &file.live.slice(sector * SECTOR_BYTES, SECTOR_BYTES));
    }
    for op in before {
        match op {
            FileOp::Write { offset, bytes } => content.write(*offset, bytes),
            FileOp::SetLen(len) => content.set_len(*len),
        }
    }
    content.write(offset, kept);
    content
}

/// Each sector, and the length, as it was at some moment of its own.
fn mixed(file: &FileState, seed: u64) -> Content {
    // Operations before the moment count.
    let moment = |what: u64| {
        let dice = mix(seed, &[what]);
        match dice % 3 {
            0 => 0,
            1 => file.pending.len(),
            _ => (dice >> 8) as usize % (file.pending.len() + 1),
        }
    };
    let len_moment = moment(u64::MAX);
    let mut content = file.synced.clone();
    for &sector in &file.lost {
        let start = sector * SECTOR_BYTES;
        if mix(seed, &[sector, 1]).is_multiple_of(4) && start < content.len() {
            content.write(start, &file.live.slice(start, SECTOR_BYTES.min(content.len() - start)));
        }
    }
    for (nth, op) in file.pending.iter().enumerate() {
        match op {
            FileOp::SetLen(len) if nth < len_moment => content.set_len(*len),
            FileOp::SetLen(_) => {}
            FileOp::Write { offset, bytes } => {
                let end = offset + bytes.len() as u64;
                if nth < len_moment && end > content.len() {
                    content.set_len(end);
                }
                for sector in sectors(*offset, bytes.len()).filter(|&sector| nth < moment(sector)) {
                    let from = (sector * SECTOR_BYTES).max(*offset);
                    let to = ((sector + 1) * SECTOR_BYTES).min(end);
                    content.write(from, &bytes[(from - offset) as usize..(to - offset) as usize]);
                }
            }
        }
    }
    content
}

/// A random number that depends on these alone.
pub(crate) fn mix(seed: u64, what: &[u64]) -> u64 {
    what.iter().fold(split_mix(seed), |hash, &what| split_mix(hash ^ what.wrapping_mul(0xd6e8_feb8_6659_fd93)))
}

/// One step of SplitMix64, without its state.
pub(crate) fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
