//! The hash index: from a user key's hash to its newest record.
//!
//! ```text
//!   tag = the upper 32 bits of the hash
//!         [ directory bits | ... | 9 bits: where in the page the search begins ]
//!
//!   directory   [page 0][page 0][page 2][page 1]        2^g places; a page may stand in several
//!                   |
//!   page        512 slots of  tag u32 | record u32,     0 where there is none; searched onward from the place of the tag
//! ```
//! Extendible hashing (Fagin et al., 1979). A page too full is divided by the next bit of its tags into two others, which then
//! take its places in the directory; the directory doubles when it has no more bits to tell them apart. So growth moves 400
//! slots at a time, and a slot is all that is needed to move it. A table of few entries has one small page and no directory.
//!
//! A page that was divided is used again at the next division, though readers may still be in it. A reader looks at the
//! directory once more when it has what it came for: if its page has been replaced meanwhile, it begins anew. All slots are stored
//! with Release and loaded with Acquire: who sees one slot of a page's next life also sees that its former life is over.
//!
//! Absent on purpose: removal. A newer version of a key takes over its slot.

use super::records::{NONE, Name};
use super::supply::Supply;
use crate::list::List;
use crate::prefetch::prefetch;
use crate::room::Room;
use esker_format::KeyHash;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Slots of a page.
pub(crate) const PAGE_SLOTS: usize = 512;

/// A page with more slots in use is divided.
const PAGE_USED_MAX: usize = 410;

/// Slots of the one small page of a small table, and how many of them are used before it grows.
const SMALL_SLOTS: usize = 32;
const SMALL_USED_MAX: usize = 24;

/// Directories of 1, 2, 4 .. places. More bits than these would reach into those that order a page.
const DIRECTORIES: usize = 24;

/// Places in the directory for each page, at the most: hashes that agree in many bits must not blow it up.
const PLACES_PER_PAGE_MAX: usize = 16;

/// Slots, each 0 or a tag above a record's name.
pub(crate) type Page = [AtomicU64; PAGE_SLOTS];

/// A page without an entry.
pub(crate) const fn empty_page() -> Page {
    [const { AtomicU64::new(0) }; PAGE_SLOTS]
}

/// What the index knows of a key's hash.
#[derive(Clone, Copy)]
pub(super) struct Tag(u32);

impl Tag {
    #[inline]
    pub(super) fn of(hash: KeyHash) -> Self {
        Self((hash.0 >> 32) as u32)
    }

    /// The first `bits` of it.
    #[inline]
    fn first(self, bits: usize) -> usize {
        (u64::from(self.0) >> (32 - bits)) as usize
    }

    fn slot(self, name: Name) -> u64 {
        u64::from(self.0) << 32 | u64::from(name)
    }

    fn of_slot(slot: u64) -> Self {
        Self((slot >> 32) as u32)
    }
}

/// See the module's page.
pub(super) struct Index {
    small: OnceLock<Box<[AtomicU64; SMALL_SLOTS]>>,
    /// How many directories there have been; the last of them is in use. None: the small page is.
    grade: AtomicUsize,
    /// Directory `g` has `2^g` places: the number of a page, below a count of replacements, so that no entry comes twice.
    directories: [OnceLock<Box<[AtomicU64]>>; DIRECTORIES],
    pages: List<Page>,
}

/// What only the one who inserts needs.
#[derive(Default)]
pub(super) struct IndexWriter {
    small_used: usize,
    /// For each page: slots in use, and how many bits its tags have in common.
    used: Vec<u16>,
    bits: Vec<u8>,
    /// A page to use again.
    spare: Option<usize>,
    replacements: u64,
}

/// Where a key's slot is, or will be.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    page: Option<usize>,
    slot: usize,
    /// What the slot names now.
    pub(super) name: Name,
}

/// Looks for a slot with `tag` whose record `is` the one; else stops at the first free one.
#[inline]
fn probe(slots: &[AtomicU64], tag: Tag, mut is: impl FnMut(Name) -> bool) -> (usize, Name) {
    let mask = slots.len() - 1;
    let mut at = tag.0 as usize & mask;
    for _ in 0..slots.len() {
        // Acquire, for the Release in `fill` and `divide`: the record comes before the slot that names it.
        let slot = slots[at].load(Acquire);
        if slot == 0 || (slot >> 32 == u64::from(tag.0) && is(slot as Name)) {
            return (at, slot as Name);
        }
        at = (at + 1) & mask;
    }
    // Only in a page that changes under a reader's eyes, who will notice.
    (at, NONE)
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            small: OnceLock::new(),
            grade: AtomicUsize::new(0),
            directories: [const { OnceLock::new() }; DIRECTORIES],
            pages: List::new(),
        }
    }

    #[inline]
    fn directory(&self, grade: usize) -> &[AtomicU64] {
        self.directories[grade - 1].get().expect("a directory is made before its grade is stored")
    }

    /// Asks for the slot where a search for `tag` begins.
    #[inline]
    pub(super) fn prefetch(&self, tag: Tag) {
        let grade = self.grade.load(Acquire);
        if grade > 0 {
            let entry = self.directory(grade)[tag.first(grade - 1)].load(Acquire);
            prefetch(&self.pages.get(entry as u32 as usize)[tag.0 as usize % PAGE_SLOTS]);
        }
    }

    /// The record that the slot of `tag` names for which `is` holds; `NONE` if there is none.
    #[inline]
    pub(super) fn find(&self, tag: Tag, mut is: impl FnMut(Name) -> bool) -> Name {
        loop {
            // Acquire, for the Release in `grow_out_of_small` and `divide`: the directory comes before its grade.
            let grade = self.grade.load(Acquire);
            if grade == 0 {
                return self.small.get().map_or(NONE, |slots| probe(&**slots, tag, is).1);
            }
            let place = &self.directory(grade)[tag.first(grade - 1)];
            // Acquire, for the Release in `divide`: a page is filled before it takes a place.
            let entry = place.load(Acquire);
            let (_, name) = probe(self.pages.get(entry as u32 as usize), tag, &mut is);
            // Relaxed: if a slot of the page's next life was seen (Acquire, for the Release there), then so is what came before
            // that life began: the place's new entry, or another grade.
            if place.load(Relaxed) == entry && self.grade.load(Relaxed) == grade {
                return name;
            }
        }
    }

    /// As [`find`](Self::find), for the one who inserts, who then may [`fill`](Self::fill) the spot.
    #[inline]
    pub(super) fn spot(&self, tag: Tag, is: impl FnMut(Name) -> bool) -> Spot {
        // Relaxed throughout: only this thread stores them.
        let grade = self.grade.load(Relaxed);
        if grade == 0 {
            let slots = self.small.get_or_init(|| Box::new([const { AtomicU64::new(0) }; SMALL_SLOTS]));
            let (slot, name) = probe(&**slots, tag, is);
            return Spot { page: None, slot, name };
        }
        let page = self.directory(grade)[tag.first(grade - 1)].load(Relaxed) as u32 as usize;
        let (slot, name) = probe(self.pages.get(page), tag, is);
        Spot { page: Some(page), slot, name }
    }

    /// Has the spot that was found for `tag` name `name`. Whether there is room for further keys: where there is none, as
    /// the hashes of too many keys are nearly alike, the index takes no more.
    #[inline]
    pub(super) fn fill<const N: usize>(
        &self,
        writer: &mut IndexWriter,
        supply: &mut Supply<N>,
        tag: Tag,
        spot: Spot,
        name: Name,
    ) -> bool {
        let slots = match spot.page {
            Some(page) => &self.pages.get(page)[..],
            None => &self.small.get().expect("the spot is in it")[..],
        };
        // Release, for the Acquire in `probe`.
        slots[spot.slot].store(tag.slot(name), Release);
        if spot.name != NONE {
            return true;
        }
        let Some(page) = spot.page else {
            if writer.small_used == 0 {
                supply.count(size_of_val(slots));
            }
            writer.small_used += 1;
            if writer.small_used > SMALL_USED_MAX {
                self.grow_out_of_small(writer, supply, slots);
            }
            return true;
        };
        writer.used[page] += 1;
        let used = usize::from(writer.used[page]);
        used <= PAGE_USED_MAX || self.divide(writer, supply, tag, page) || used < PAGE_SLOTS - 1
    }

    #[cold]
    fn grow_out_of_small<const N: usize>(&self, writer: &mut IndexWriter, supply: &mut Supply<N>, small: &[AtomicU64]) {
        let page = self.new_page(writer, supply, 0);
        for slot in small {
            self.move_to(writer, page, slot.load(Relaxed));
        }
        self.new_directory(supply, 1, vec![page as u64]);
    }

    fn new_directory<const N: usize>(&self, supply: &mut Supply<N>, grade: usize, places: Vec<u64>) {
        supply.count(size_of_val(&*places));
        let places = places.into_iter().map(AtomicU64::new).collect();
        assert!(self.directories[grade - 1].set(places).is_ok(), "a directory is made once");
        // Release, for the Acquire in `find` and `prefetch`.
        self.grade.store(grade, Release);
    }

    /// A page for tags that have their first `bits` in common.
    fn new_page<const N: usize>(&self, writer: &mut IndexWriter, supply: &mut Supply<N>, bits: u8) -> usize {
        if let Some(page) = writer.spare.take() {
            // Release: from here on a reader who is still in it must learn that it is replaced.
            self.pages.get(page).iter().for_each(|slot| slot.store(0, Release));
            (writer.used[page], writer.bits[page]) = (0, bits);
            return page;
        }
        let page = supply.page();
        writer.used.push(0);
        writer.bits.push(bits);
        supply.push(&self.pages, page)
    }

    fn move_to(&self, writer: &mut IndexWriter, page: usize, slot: u64) {
        if slot != 0 {
            let slots = self.pages.get(page);
            let (at, _) = probe(slots, Tag::of_slot(slot), |_| false);
            // Release, for the Acquire in `probe`.
            slots[at].store(slot, Release);
            writer.used[page] += 1;
        }
    }

    /// Divides the page of `tag`; whether that could be done.
    #[cold]
    fn divide<const N: usize>(&self, writer: &mut IndexWriter, supply: &mut Supply<N>, tag: Tag, page: usize) -> bool {
        let mut grade = self.grade.load(Relaxed);
        let bits = usize::from(writer.bits[page]);
        if bits + 1 == grade {
            let places = self.directory(grade);
            if grade == DIRECTORIES || places.len() >= PLACES_PER_PAGE_MAX * self.pages.len() {
                return false;
            }
            grade += 1;
            let twice = places.iter().map(|place| place.load(Relaxed)).flat_map(|entry| [entry, entry]).collect();
            self.new_directory(supply, grade, twice);
        }
        let halves = [0, 1].map(|_| self.new_page(writer, supply, bits as u8 + 1));
        for slot in self.pages.get(page) {
            let slot = slot.load(Relaxed);
            self.move_to(writer, halves[Tag::of_slot(slot).first(bits + 1) & 1], slot);
        }
        writer.replacements += 1;
        let places_each = 1 << (grade - 1 - (bits + 1));
        let first = tag.first(bits) * 2 * places_each;
        for (i, place) in self.directory(grade)[first..first + 2 * places_each].iter().enumerate() {
            // Release, for the Acquire in `find`.
            place.store(writer.replacements << 32 | halves[i / places_each] as u64, Release);
        }
        writer.spare = Some(page);
        true
    }

    /// Takes all pages out.
    pub(super) fn drain(&mut self) -> Vec<Room<Page>> {
        self.pages.drain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// An index over made-up records: `names[name]` is the tag it was inserted with.
    struct Filled {
        index: Index,
        writer: IndexWriter,
        supply: Supply<4>,
    }

    impl Filled {
        fn new() -> Self {
            Self { index: Index::new(), writer: IndexWriter::default(), supply: Supply::new(None) }
        }

        /// Inserts a key that is known by its tag alone.
        fn insert(&mut self, tag: u32, name: Name) -> bool {
            let spot = self.index.spot(Tag(tag), |_| true);
            self.index.fill(&mut self.writer, &mut self.supply, Tag(tag), spot, name)
        }
    }

    fn scramble(i: u32) -> u32 {
        (KeyHash::of(&i.to_le_bytes()).0 >> 32) as u32
    }

    #[test]
    fn finds_the_last_name_of_every_key_at_every_size() {
        let count = if cfg!(miri) { 900 } else { 100_000 };
        let mut filled = Filled::new();
        let mut names = HashMap::new();
        for i in 1..=count {
            let tag = scramble(i / 2);
            assert!(filled.insert(tag, i));
            names.insert(tag, i);
            if i.is_power_of_two() || i == count {
                for (tag, name) in &names {
                    assert_eq!(filled.index.find(Tag(*tag), |_| true), *name);
                    assert_eq!(filled.index.find(Tag(*tag), |_| false), NONE);
                }
                let misses = (0..if cfg!(miri) { 20 } else { 1000 })
                    .map(|i| scramble(i << 20 | 0xfffff))
                    .filter(|tag| !names.contains_key(tag));
                misses.for_each(|tag| assert_eq!(filled.index.find(Tag(tag), |_| true), NONE));
            }
        }
        let bytes_per_key = filled.supply.bytes() / names.len();
        assert!(cfg!(miri) || bytes_per_key < 26, "{bytes_per_key} bytes a key");
    }

    /// Whoever picks keys to collide must not make the index large, slow without end, or wrong.
    #[test]
    fn hashes_that_are_alike_close_the_index() {
        let tags: [fn(u32) -> u32; 4] = [|i| i, |_| 7, |i| i << 9, |i| i << 26 | 5];
        for tag in tags {
            let mut filled = Filled::new();
            let mut taken = 0;
            // Each of them is another key, even if the tag is the same.
            while taken < 5000 {
                let spot = filled.index.spot(Tag(tag(taken)), |_| false);
                taken += 1;
                if !filled.index.fill(&mut filled.writer, &mut filled.supply, Tag(tag(taken - 1)), spot, taken) {
                    break;
                }
            }
            assert!(taken > 400, "{taken} taken");
            (0..taken).for_each(|i| assert_eq!(filled.index.find(Tag(tag(i)), |name| name == i + 1), i + 1));
            assert!(filled.supply.bytes() < 2 << 20, "{} bytes", filled.supply.bytes());
        }
    }

    /// Pages are divided, and used again, under the eyes of readers.
    #[test]
    fn readers_find_all_that_was_there_before_they_looked() {
        let (rounds, count) = if cfg!(miri) { (1, 600) } else { (20, 30_000) };
        for _ in 0..rounds {
            let Filled { index, mut writer, mut supply } = Filled::new();
            let done = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for reader in 0..2 {
                    let (index, done) = (&index, &done);
                    scope.spawn(move || {
                        let mut turn = reader;
                        loop {
                            let before = done.load(Acquire);
                            if before > 0 {
                                turn += 1;
                                let i = 1 + scramble(turn) % before as u32;
                                assert_eq!(index.find(Tag(scramble(i)), |name| name == i), i, "{i} of {before}");
                                let not_there = scramble(i).wrapping_add(1);
                                assert_eq!(index.find(Tag(not_there), |_| false), NONE);
                            }
                            if before == count {
                                return;
                            }
                        }
                    });
                }
                for i in 1..=count {
                    let tag = Tag(scramble(i as u32));
                    let spot = index.spot(tag, |name| name == i as u32);
                    assert!(index.fill(&mut writer, &mut supply, tag, spot, i as u32));
                    done.store(i, Release);
                }
            });
        }
    }
}
