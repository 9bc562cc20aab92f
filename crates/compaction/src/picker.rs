//! Decides what to compact. Pure: a version and what is busy go in, a plan comes out; no clock, no I/O, no state of its own.
//!
//! Rules that keep every read right
//! - Below level 0 the tables of a level share no user key, and a job never cuts between two versions of one. So a plan for a table takes along all
//!   that overlaps it in the output level, and no more is needed.
//! - A table of level 0 never leaves an older one behind that overlaps it: what goes down would lie under something older.
//! - Level 0 merges into itself only by runs of neighbours in age, and nothing is left between them; tables that were ingested together are of one age.
//! - Level 0 goes to the topmost level in use, so nothing older is jumped over.
//!
//! Every plan of [`Picker::pick`] moves tables down or, level 0 into itself, makes fewer of them, so picking ends.

use crate::garbage::{Shadows, Waste, above_last_run, blob_bytes, collectable, refers};
use crate::options::LeveledOptions;
use crate::plan::{Busy, Plan, PlanKind};
use crate::relief::Relief;
use crate::shape::{Pressure, Shape};
use crate::span::{Span, bytes_of, overlapping};
use esker_format::{FileNo, SeqNo};
use esker_manifest::{KeyspaceVersion, LEVELS, Level, TableMeta};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// Level 0 is merged into itself only if so many tables become one.
const L0_RUN_MIN: usize = 4;

/// Picks compactions for one keyspace at a time.
///
/// ```
/// use esker_compaction::{Busy, LeveledOptions, Picker};
/// use esker_format::KeyspaceId;
/// use esker_manifest::KeyspaceVersion;
///
/// let picker = Picker::new(LeveledOptions::default());
/// let empty = KeyspaceVersion::new(KeyspaceId(1), "logs", "");
/// assert!(picker.pick(&empty, &Busy::new()).is_none());
/// ```
#[derive(Debug, Clone)]
pub struct Picker {
    options: LeveledOptions,
}

impl Picker {
    /// A picker for trees of this shape.
    pub fn new(options: LeveledOptions) -> Self {
        Self { options }
    }

    /// The settings it was made with.
    pub fn options(&self) -> &LeveledOptions {
        &self.options
    }

    /// The most urgent compaction that can start now; `None` if no level is over its target, or all that could help is busy.
    pub fn pick(&self, version: &KeyspaceVersion, busy: &Busy) -> Option<Plan> {
        let choice = self.choice(version, busy);
        let mut scores: Vec<(f64, Level)> =
            Level::all().rev().skip(1).map(|level| (choice.score(level), level)).filter(|s| s.0 >= 1.0).collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores.into_iter().find_map(|(_, level)| match level {
            Level::ZERO => choice.l0_down(|_| true, Tombstones::Most).or_else(|| choice.l0_into_itself()),
            _ => choice.cheapest_down(level),
        })
    }

    /// The next step of a manual compaction: brings tables that may hold keys between the bounds one level down. `None` when all such
    /// keys lie in the bottom level, or what is left is busy: while a plan of this keyspace runs, ask again when it has ended.
    pub fn pick_range(
        &self,
        version: &KeyspaceVersion,
        busy: &Busy,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Option<Plan> {
        let choice = self.choice(version, busy);
        let wanted = |table: &TableMeta| Span::of(table).meets(lower, upper);
        choice
            .l0_down(wanted, Tombstones::Any)
            .or_else(|| (1..LEVELS - 1).find_map(|level| choice.run_down(Level(level as u8), wanted)))
    }

    /// The last steps of a manual compaction, after [`Picker::pick_range`]: rewrites a table between the bounds that holds tombstones, or what has expired, though nothing
    /// older lies below it.
    ///
    /// `droppable` is the oldest snapshot, or the horizon if there is none: tables with anything newer are left alone, so that
    /// each plan gets rid of all tombstones of its table and picking ends. What expires at `gone_ms` or before, a time in milliseconds since 1970, is seen by nobody: it is when that snapshot was taken, or the time now.
    pub fn pick_rewrite(
        &self,
        version: &KeyspaceVersion,
        busy: &Busy,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        droppable: SeqNo,
        gone_ms: u64,
    ) -> Option<Plan> {
        let choice = Choice { gone_ms, ..self.choice(version, busy) };
        let wanted = |table: &TableMeta| {
            choice.has(Tombstones::Any, table) && table.largest_seq <= droppable && Span::of(table).meets(lower, upper)
        };
        choice.below_l0(wanted).find_map(|(level, table)| choice.rewrite(level, table))
    }

    /// The steps of a manual compaction that is to ask a filter about all: rewrites a table between the bounds that was written before, as its number below `written_from` tells, and under which nothing lies. After [`Picker::pick_range`].
    pub fn pick_to_filter(
        &self,
        version: &KeyspaceVersion,
        busy: &Busy,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        written_from: FileNo,
    ) -> Option<Plan> {
        let choice = self.choice(version, busy);
        let wanted = |table: &TableMeta| table.number < written_from && Span::of(table).meets(lower, upper);
        choice.below_l0(wanted).find_map(|(level, table)| choice.rewrite(level, table))
    }

    /// Work for when [`Picker::pick`] has none: gives back the space that deletions and time have freed, where more than half of a table is tombstones or has expired. They are
    /// brought down until they meet what they hide, and then dropped; what is due for longest first.
    ///
    /// `droppable` and `gone_ms` are as in [`Picker::pick_rewrite`], and picking ends for the same reason.
    pub fn pick_idle(&self, version: &KeyspaceVersion, busy: &Busy, droppable: SeqNo, gone_ms: u64) -> Option<Plan> {
        let choice = Choice { gone_ms, ..self.choice(version, busy) };
        choice.due(droppable).or_else(|| choice.tombstones_down(droppable))
    }

    /// Work that keeps what is wasted in blob files within its bound: rewrites a table that refers to a file which [`Picker::collectable`] names, or brings
    /// down entries that may hide references.
    ///
    /// Each plan leaves fewer live bytes in the files that are collected, or has tables in deeper levels, so picking ends.
    pub fn pick_garbage(&self, version: &KeyspaceVersion, busy: &Busy) -> Option<Plan> {
        if version.blobs.is_empty() {
            return None;
        }
        let choice = self.choice(version, busy);
        choice.collect(&collectable(version, busy, &self.options)).or_else(|| choice.bring_shadows_down())
    }

    /// Work that reads may ask for when they have paid what it costs: merges tables of level 0 that overlap, or brings one down onto what it overlaps, however few they
    /// are. The plan that spares the most runs; `None` if none spares any. A range tombstone that hides a whole table is left where it is, since reads leap over that.
    ///
    /// Each plan leaves fewer tables in level 0, so picking ends.
    pub fn pick_for_reads(&self, version: &KeyspaceVersion, busy: &Busy) -> Option<Plan> {
        self.choice(version, busy).for_reads().map(|(_, plan)| plan)
    }

    /// What [`Picker::pick_for_reads`] would spare reads, and what it costs, if nothing is busy. `None` if there is nothing to spare, or reads
    /// may not ask. Looks at every table of level 0: to be asked once for a version.
    pub fn relief(&self, version: &KeyspaceVersion) -> Option<Relief> {
        if !self.options.compact_for_reads {
            return None;
        }
        self.choice(version, &Busy::new()).for_reads().map(|(relief, _)| relief)
    }

    /// The blob files whose values a job of this keyspace should move elsewhere if it meets them: those with the most garbage for their size, if
    /// there is more garbage than [`LeveledOptions::blob_garbage_percent_max`] allows.
    pub fn collectable(&self, version: &KeyspaceVersion, busy: &Busy) -> BTreeSet<FileNo> {
        collectable(version, busy, &self.options)
    }

    /// Bytes that have to be rewritten until no level is over its target: what graded back-pressure is computed from.
    pub fn debt_bytes(&self, version: &KeyspaceVersion) -> u64 {
        self.pressure(version).debt_bytes
    }

    /// How far compaction is behind. Looks at every table of the keyspace: to be asked once for a version, not for each write.
    pub fn pressure(&self, version: &KeyspaceVersion) -> Pressure {
        Pressure::of(version, &self.options)
    }

    /// What each level below 0 should hold at most, in bytes; `None` for level 0, for levels above the base level, and for the bottom, which
    /// holds what there is.
    pub fn targets(&self, version: &KeyspaceVersion) -> [Option<u64>; LEVELS] {
        Shape::of(version, &self.options).targets.map(|target| (1..u64::MAX).contains(&target).then_some(target))
    }

    fn choice<'a>(&'a self, version: &'a KeyspaceVersion, busy: &'a Busy) -> Choice<'a> {
        Choice { options: &self.options, version, busy, shape: Shape::of(version, &self.options), gone_ms: 0 }
    }
}

/// Which tables are worth a rewrite to get rid of their tombstones, where a move would do otherwise.
#[derive(Clone, Copy)]
enum Tombstones {
    /// Those with more than half tombstones, or range tombstones under which lies half of a table, so that bringing them down frees about what it costs.
    Most,
    /// Those with any.
    Any,
}

/// One call's view of a keyspace.
struct Choice<'a> {
    options: &'a LeveledOptions,
    version: &'a KeyspaceVersion,
    busy: &'a Busy,
    shape: Shape,
    /// What expires at this time or before is gone, in milliseconds since 1970.
    gone_ms: u64,
}

impl<'a> Choice<'a> {
    fn is_free(&self, table: &TableMeta) -> bool {
        !self.busy.uses(table.number)
    }

    /// Whether a table has so many tombstones.
    fn has(&self, tombstones: Tombstones, table: &TableMeta) -> bool {
        match tombstones {
            Tombstones::Most => {
                table.deletions > table.entries / 2 || self.due_since(table).is_some() || self.hides_a_table(table)
            }
            Tombstones::Any => {
                let has_expired = table.expiries.is_some_and(|expiries| expiries.earliest_ms <= self.gone_ms);
                table.deletions > 0 || has_expired || table.ranges.is_some()
            }
        }
    }

    /// Since when more than half of a table has expired, or is tombstones.
    fn due_since(&self, table: &TableMeta) -> Option<u64> {
        table.expiries?.half_ms.filter(|half_ms| *half_ms <= self.gone_ms)
    }

    /// Brings down the table that is due for longest, until nothing lies below it, and rewrites it there without what has expired.
    fn due(&self, droppable: SeqNo) -> Option<Plan> {
        let tables = self.version.tables().filter(|(_, table)| table.largest_seq <= droppable && self.is_free(table));
        let mut due: Vec<_> = tables.filter_map(|found| Some((self.due_since(found.1)?, found))).collect();
        due.sort_by_key(|(since, (_, table))| (*since, table.number));
        due.into_iter().find_map(|(_, (level, table))| match level {
            Level::ZERO => self.l0_down(|other| other.number == table.number, Tombstones::Most),
            _ => self.rewrite_or_down(level, table),
        })
    }

    /// Brings down a table of which more than half is tombstones.
    fn tombstones_down(&self, droppable: SeqNo) -> Option<Plan> {
        let wanted = |table: &TableMeta| self.has(Tombstones::Most, table) && table.largest_seq <= droppable;
        self.l0_down(wanted, Tombstones::Most)
            .or_else(|| self.below_l0(wanted).find_map(|(level, table)| self.rewrite_or_down(level, table)))
    }

    fn rewrite_or_down(&self, level: Level, table: &Arc<TableMeta>) -> Option<Plan> {
        self.rewrite(level, table).or_else(|| self.down(level, vec![Arc::clone(table)], Tombstones::Most))
    }

    /// Whether half of a table or more, be it the same, lies between the first and the last of the range tombstones, and is no newer.
    fn hides_a_table(&self, table: &TableMeta) -> bool {
        let Some(ranges) = &table.ranges else { return false };
        let is_hidden = |other: &TableMeta| {
            other.smallest_seq <= table.largest_seq && Span::of(other).lies_half_in(&ranges.begin, &ranges.end)
        };
        let (l0, sorted) = self.version.levels.split_first().expect("there are always seven levels");
        table.entries == 0
            || l0.iter().any(|other| is_hidden(other))
            || sorted.iter().any(|level| {
                let span = Span { lo: &ranges.begin, hi: &ranges.end };
                overlapping(level, span).iter().any(|other| is_hidden(other))
            })
    }

    /// Whether reads leap over what a table's range tombstone hides. Laid beside that, while a snapshot keeps it, they would not; as soon as none does it goes down anyway, see [`Self::tombstones_down`]. Of several tombstones nobody knows how little lies under them.
    fn is_leapt_over(&self, table: &TableMeta) -> bool {
        table.ranges.as_ref().is_some_and(|ranges| ranges.count == 1) && self.hides_a_table(table)
    }

    /// How full a level is, 1 being its target. What running plans take away no longer counts.
    fn score(&self, level: Level) -> f64 {
        let free = self.version.level(level).iter().filter(|table| self.is_free(table));
        if level == Level::ZERO {
            return free.count() as f64 / self.options.l0_trigger.max(1) as f64;
        }
        let bytes: u64 = free.map(|table| table.file_bytes).sum();
        match self.shape.targets[level.index()] {
            0 if bytes > 0 => 1.0 + bytes as f64 / self.options.level_base_bytes.max(1) as f64,
            target => bytes as f64 / target.max(1) as f64,
        }
    }

    /// Free tables below level 0 that are wanted, from the top down.
    fn below_l0(&self, wanted: impl Fn(&TableMeta) -> bool) -> impl Iterator<Item = (Level, &'a Arc<TableMeta>)> {
        self.version.tables().filter(move |(level, table)| *level > Level::ZERO && wanted(table) && self.is_free(table))
    }

    /// The table of a level that drags along the least of the next one, for its size.
    fn cheapest_down(&self, level: Level) -> Option<Plan> {
        let below = &self.version.levels[level.index() + 1];
        let cost =
            |table: &TableMeta| bytes_of(overlapping(below, Span::of(table))) as f64 / table.file_bytes.max(1) as f64;
        let tables = self.version.level(level).iter().filter(|table| self.is_free(table));
        let mut costs: Vec<(f64, &Arc<TableMeta>)> = tables.map(|table| (cost(table), table)).collect();
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        costs.into_iter().find_map(|(_, table)| self.down(level, vec![Arc::clone(table)], Tombstones::Most))
    }

    /// Neighbours of a level that are wanted, as many as one plan should take.
    fn run_down(&self, level: Level, wanted: impl Fn(&TableMeta) -> bool) -> Option<Plan> {
        let tables = self.version.level(level);
        (0..tables.len()).find_map(|start| {
            let mut bytes = 0u64;
            let run = tables[start..].iter().take_while(|table| {
                let fits = bytes == 0 || bytes.saturating_add(table.file_bytes) <= self.options.grandparent_bytes_max();
                bytes = bytes.saturating_add(table.file_bytes.max(1));
                fits && wanted(table) && self.is_free(table)
            });
            let run: Vec<_> = run.cloned().collect();
            if run.is_empty() { None } else { self.down(level, run, Tombstones::Any) }
        })
    }

    /// Brings level 0 down, from the oldest wanted table that can go, with all that it overlaps there.
    fn l0_down(&self, wanted: impl Fn(&TableMeta) -> bool, tombstones: Tombstones) -> Option<Plan> {
        let tables = &self.version.levels[0];
        let seeds = (0..tables.len()).rev().filter(|&seed| wanted(&tables[seed]) && self.is_free(&tables[seed]));
        seeds.into_iter().find_map(|seed| {
            let inputs = self.l0_closure(seed)?;
            self.down(Level::ZERO, inputs, tombstones)
        })
    }

    /// The seed and, step by step, all tables of level 0 that overlap what was taken before; newest first.
    ///
    /// Older ones must come along, newer ones save another round. A busy table is a wall: nothing newer is taken, and nothing at all
    /// if something newer was.
    fn l0_closure(&self, seed: usize) -> Option<Vec<Arc<TableMeta>>> {
        let tables = &self.version.levels[0];
        let mut taken = vec![false; tables.len()];
        taken[seed] = true;
        let mut span = Span::of(&tables[seed]);
        let mut newest = seed;
        let mut wall = None;
        loop {
            let before = (span, newest, wall);
            for i in (0..tables.len()).rev() {
                if taken[i] || wall.is_some_and(|wall| i <= wall) || !Span::of(&tables[i]).overlaps(span) {
                    continue;
                }
                if self.is_free(&tables[i]) {
                    taken[i] = true;
                    span = span.join(Span::of(&tables[i]));
                    newest = newest.min(i);
                } else if newest < i {
                    return None;
                } else {
                    wall = Some(i);
                }
            }
            if before == (span, newest, wall) {
                break;
            }
        }
        Some(tables.iter().zip(taken).filter(|(_, taken)| *taken).map(|(table, _)| Arc::clone(table)).collect())
    }

    /// Merges the newest free tables of level 0 into one, so that reads have fewer to look at while the way down is blocked.
    ///
    /// The run grows to older tables as long as that makes each table saved cheaper, so a large result of an earlier such merge is not taken again
    /// and again.
    fn l0_into_itself(&self) -> Option<Plan> {
        let tables = &self.version.levels[0];
        if tables.len() < (self.options.l0_trigger + self.options.l0_slowdown) / 2 {
            return None;
        }
        let cuts = self.l0_cuts();
        cuts.iter().find_map(|&start| self.l0_run(start, &cuts))
    }

    /// Where level 0 can be cut into what is newer and what is older: before which of its tables, and behind the last. Between two of one ingest, which share their sequence number, it can't.
    fn l0_cuts(&self) -> Vec<usize> {
        let tables = &self.version.levels[0];
        let mut newer_from = SeqNo::MAX;
        let mut cuts: Vec<usize> = (0..tables.len())
            .filter(|&at| {
                let is_cut = at == 0 || tables[at].largest_seq < newer_from;
                newer_from = newer_from.min(tables[at].smallest_seq);
                is_cut
            })
            .collect();
        cuts.push(tables.len());
        cuts
    }

    /// The run of level 0 that begins with its table `start` and ends at one of the cuts, if it is worth it.
    fn l0_run(&self, start: usize, cuts: &[usize]) -> Option<Plan> {
        let tables = &self.version.levels[0];
        let (mut bytes, mut per_saved, mut end) = (0u64, u64::MAX, start);
        for table in &tables[start..] {
            bytes = bytes.saturating_add(table.file_bytes);
            let now = bytes.checked_div((end - start) as u64).unwrap_or(u64::MAX);
            if !self.is_free(table) || now > per_saved || bytes > self.options.grandparent_bytes_max() {
                break;
            }
            per_saved = now;
            end += 1;
        }
        let end = cuts[..cuts.partition_point(|&cut| cut <= end)].last().map_or(start, |&cut| cut.max(start));
        let run = &tables[start..end];
        let span = Span::hull(run)?;
        if run.len() < L0_RUN_MIN || self.busy.writes(self.version.id, Level::ZERO, span) {
            return None;
        }
        let older = tables[end..].iter().filter(|table| Span::of(table).overlaps(span));
        let mut deeper: Vec<_> = older.map(|table| vec![Arc::clone(table)]).collect();
        deeper.extend(self.deeper(Level::ZERO, span));
        Some(Plan {
            keyspace: self.version.id,
            inputs: vec![(Level::ZERO, run.to_vec())],
            output_level: Level::ZERO,
            kind: PlanKind::Merge,
            grandparents: Vec::new(),
            deeper,
        })
    }

    /// The compaction of level 0 that spares reads the most runs.
    fn for_reads(&self) -> Option<(Relief, Plan)> {
        let tables = &self.version.levels[0];
        let mut seen = BTreeSet::new();
        let mut best: Option<(Relief, Plan)> = None;
        for seed in (0..tables.len()).rev() {
            if seen.contains(&tables[seed].number) || !self.is_free(&tables[seed]) {
                continue;
            }
            let Some(inputs) = self.l0_closure(seed) else { continue };
            seen.extend(inputs.iter().map(|table| table.number));
            if inputs.iter().any(|table| self.is_leapt_over(table)) {
                continue;
            }
            let Some(plan) = self.down(Level::ZERO, inputs, Tombstones::Most) else { continue };
            let better = |relief: &Relief| best.as_ref().is_none_or(|(best, _)| relief.runs > best.runs);
            if let Some(relief) = Relief::of(&plan).filter(better) {
                best = Some((relief, plan));
            }
        }
        best.map(|(relief, plan)| (relief, self.stays_readable(&plan).unwrap_or(plan)))
    }

    /// The same tables merged within level 0, where what they would go down to has nothing of their keys and stores in another codec: that makes as few runs, and those who
    /// ask go on to read them in the codec in which they read them now. Not if it is large: then it would be costly to write once more for its way down.
    fn stays_readable(&self, plan: &Plan) -> Option<Plan> {
        let [(Level::ZERO, run)] = &plan.inputs[..] else { return None };
        let crosses = self.options.codec_changes_at.is_some_and(|at| Level::ZERO < at && at <= plan.output_level);
        let first = self.version.levels[0].iter().position(|table| table.number == run[0].number)?;
        let are_neighbours = self.version.levels[0][first..].iter().zip(run).all(|(a, b)| a.number == b.number);
        let cuts = self.l0_cuts();
        let is_cut_off = [first, first + run.len()].iter().all(|end| cuts.contains(end));
        let span = Span::hull(run)?;
        let fits = bytes_of(run) <= self.options.grandparent_bytes_max();
        if !crosses || !are_neighbours || !is_cut_off || !fits || self.busy.writes(self.version.id, Level::ZERO, span) {
            return None;
        }
        Some(Plan {
            keyspace: self.version.id,
            inputs: plan.inputs.clone(),
            output_level: Level::ZERO,
            kind: PlanKind::Merge,
            grandparents: Vec::new(),
            deeper: self.deeper(Level::ZERO, span),
        })
    }

    /// Rewrites the table that refers to the most of these blob files.
    fn collect(&self, files: &BTreeSet<FileNo>) -> Option<Plan> {
        if files.is_empty() {
            return None;
        }
        let wanted = self.version.tables().filter(|(_, table)| refers(table, files) > 0 && self.is_free(table));
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort_by_key(|(_, table)| (Reverse(refers(table, files)), table.number));
        wanted.into_iter().find_map(|(level, table)| match level {
            Level::ZERO => self.l0_down(|other| other.number == table.number, Tombstones::Most),
            _ => self.rewrite_over(level, table, self.deeper(level, Span::of(table))),
        })
    }

    /// Brings down tables whose entries may hide references, if too much may be hidden: until the garbage that this makes is worth collecting, or there is none. Only
    /// where no more is rewritten than may be freed.
    fn bring_shadows_down(&self) -> Option<Plan> {
        let waste = Waste::of(self.version);
        if waste.excess_bytes(waste.garbage_bytes.saturating_add(waste.shadowed_bytes), self.options) == 0 {
            return None;
        }
        let shadows = Shadows::of(self.version);
        let worth = |table: &TableMeta| shadows.of_table(table) >= table.file_bytes && self.is_free(table);
        let mut above: Vec<_> = above_last_run(self.version).filter(|(_, table)| worth(table)).collect();
        above.sort_by_key(|(_, table)| (Reverse(shadows.of_table(table)), table.number));
        above.into_iter().find_map(|(level, table)| {
            let plan = match level {
                Level::ZERO => self.l0_down(|other| other.number == table.number, Tombstones::Most),
                _ => self.down(level, vec![Arc::clone(table)], Tombstones::Most),
            }?;
            (plan.kind == PlanKind::Move || plan.input_bytes() <= may_free(&plan, &shadows)).then_some(plan)
        })
    }

    /// Rewrites one table where it is, if nothing older lies below.
    fn rewrite(&self, level: Level, table: &Arc<TableMeta>) -> Option<Plan> {
        let span = Span::of(table);
        let deeper = self.deeper(level, span);
        if deeper.is_empty() { self.rewrite_over(level, table, deeper) } else { None }
    }

    /// Rewrites one table where it is, over what lies `deeper`.
    fn rewrite_over(&self, level: Level, table: &Arc<TableMeta>, deeper: Vec<Vec<Arc<TableMeta>>>) -> Option<Plan> {
        let span = Span::of(table);
        if self.busy.writes(self.version.id, level, span) {
            return None;
        }
        Some(Plan {
            keyspace: self.version.id,
            inputs: vec![(level, vec![Arc::clone(table)])],
            output_level: level,
            kind: PlanKind::Merge,
            grandparents: Vec::new(),
            deeper,
        })
    }

    /// Brings `tables` of `level` one level down, those of level 0 to where level 0 goes; `None` if something busy is in the way.
    fn down(&self, level: Level, tables: Vec<Arc<TableMeta>>, tombstones: Tombstones) -> Option<Plan> {
        let output = match level {
            Level::ZERO => self.shape.l0_output,
            Level::BOTTOM => return None,
            Level(level) => Level(level + 1),
        };
        let span = Span::hull(&tables)?;
        let met = overlapping(self.version.level(output), span);
        let span = met.iter().map(|table| Span::of(table)).fold(span, Span::join);
        if met.iter().any(|table| !self.is_free(table)) || self.busy.writes(self.version.id, output, span) {
            return None;
        }
        let grandparents = match output {
            Level::BOTTOM => &[],
            Level(below) => overlapping(&self.version.levels[usize::from(below) + 1], span),
        };
        let deeper = self.deeper(output, span);

        let alone = level > Level::ZERO || tables.len() == 1;
        let crosses = self.options.codec_changes_at.is_some_and(|at| level < at && at <= output);
        let drops = deeper.is_empty() && tables.iter().any(|table| self.has(tombstones, table));
        let fits = bytes_of(grandparents) <= self.options.grandparent_bytes_max().saturating_mul(tables.len() as u64);
        let kind = match met.is_empty() && alone && !drops && fits {
            true if crosses => PlanKind::Recode,
            true => PlanKind::Move,
            false => PlanKind::Merge,
        };
        let grandparents = grandparents.to_vec();
        let met = (!met.is_empty()).then(|| (output, met.to_vec()));
        Some(Plan {
            keyspace: self.version.id,
            inputs: [(level, tables)].into_iter().chain(met).collect(),
            output_level: output,
            kind,
            grandparents,
            deeper,
        })
    }

    /// What lies in the levels below `level` within `span`.
    fn deeper(&self, level: Level, span: Span<'_>) -> Vec<Vec<Arc<TableMeta>>> {
        let levels = self.version.levels[level.index() + 1..].iter();
        levels.map(|tables| overlapping(tables, span).to_vec()).filter(|tables| !tables.is_empty()).collect()
    }
}

/// What a plan may free of blob files, in bytes, if all that it brings down hides something; what are no references, not more than there is below.
fn may_free(plan: &Plan, shadows: &Shadows<'_>) -> u64 {
    let sum = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
    let upper = || plan.tables().filter(|(level, _)| *level < plan.output_level).map(|(_, table)| table);
    let met = plan.tables().filter(|(level, _)| *level == plan.output_level).map(|(_, table)| table);
    let below = sum(&mut met.chain(plan.deeper.iter().flatten()).map(|table| blob_bytes(table)));
    let others = sum(&mut upper().map(|table| shadows.of_others(table)));
    sum(&mut upper().map(|table| blob_bytes(table))).saturating_add(others.min(below))
}
