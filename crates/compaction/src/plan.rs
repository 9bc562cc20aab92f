//! What a compaction will do, and what is being done already.

use crate::span::Span;
use esker_format::{FileNo, KeyspaceId};
use esker_manifest::{Level, TableMeta, VersionEdit};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How a plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanKind {
    /// The inputs change their level and no byte is read: only the manifest says so.
    Move,
    /// One table that meets nothing goes where another codec is used: moved if it is stored in that one already, else rewritten.
    Recode,
    /// The inputs are merged into new tables.
    Merge,
}

/// One compaction: these tables become tables of that level.
///
/// A plan holds all that [`run`](crate::run()) needs to know of the version it was picked from, so that it needs no lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whose tables.
    pub keyspace: KeyspaceId,
    /// The inputs by level, the upper level first; those of level 0 newest first, those of another by key.
    pub inputs: Vec<(Level, Vec<Arc<TableMeta>>)>,
    /// Where the outputs go.
    pub output_level: Level,
    /// Move, recode or merge.
    pub kind: PlanKind,
    /// The tables one level below the output that overlap it, by key. Outputs are cut so that none overlaps too many.
    pub grandparents: Vec<Arc<TableMeta>>,
    /// Sorted runs that are older than every input and overlap them: deeper levels, and for an output in level 0 the older tables there.
    /// A tombstone may go only where none of them can hold its key. Runs without a table are left out.
    pub deeper: Vec<Vec<Arc<TableMeta>>>,
}

impl Plan {
    /// Every input with its level.
    pub fn tables(&self) -> impl Iterator<Item = (Level, &Arc<TableMeta>)> {
        self.inputs.iter().flat_map(|(level, tables)| tables.iter().map(|table| (*level, table)))
    }

    /// The length of all inputs.
    pub fn input_bytes(&self) -> u64 {
        self.tables().fold(0, |sum, (_, table)| sum.saturating_add(table.file_bytes))
    }

    /// Whether nothing older lies below any of the inputs: all tombstones that no snapshot needs will be dropped.
    pub fn is_bottom(&self) -> bool {
        self.deeper.is_empty()
    }

    /// The edit that puts `outputs` in the place of the inputs. A moved table is its own output.
    pub fn edit(&self, outputs: &[TableMeta]) -> VersionEdit {
        VersionEdit {
            remove: self.tables().map(|(level, table)| (self.keyspace, level, table.number)).collect(),
            add: outputs.iter().map(|table| (self.keyspace, self.output_level, table.clone())).collect(),
            ..VersionEdit::default()
        }
    }

    fn span(&self) -> Option<Span<'_>> {
        Span::hull(self.tables().map(|(_, table)| table))
    }
}

impl fmt::Display for Plan {
    /// `L0[9 8] L5[3] -> L5 merge`, with tables by number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, tables) in &self.inputs {
            let numbers: Vec<String> = tables.iter().map(|table| table.number.0.to_string()).collect();
            write!(f, "{level}[{}] ", numbers.join(" "))?;
        }
        let kind = match self.kind {
            PlanKind::Move => "move",
            PlanKind::Recode => "recode",
            PlanKind::Merge => "merge",
        };
        write!(f, "-> {} {kind}", self.output_level)
    }
}

/// What the picker must keep away from: the inputs of running plans, and the key ranges they will put tables into.
///
/// Two plans conflict if they share an input, or if their outputs go to the same level and their key ranges overlap.
#[derive(Debug, Clone, Default)]
pub struct Busy {
    inputs: BTreeSet<FileNo>,
    excluded: BTreeSet<FileNo>,
    running: Vec<Running>,
}

#[derive(Debug, Clone)]
struct Running {
    first_input: FileNo,
    keyspace: KeyspaceId,
    output_level: Level,
    lo: Box<[u8]>,
    hi: Box<[u8]>,
}

impl Busy {
    /// Nothing runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a plan that is about to run.
    ///
    /// # Panics
    /// If it conflicts with one that runs.
    pub fn add(&mut self, plan: &Plan) {
        assert!(!self.conflicts(plan), "{plan} conflicts with a running plan");
        let (Some((_, first)), Some(span)) = (plan.tables().next(), plan.span()) else { return };
        self.inputs.extend(plan.tables().map(|(_, table)| table.number));
        self.running.push(Running {
            first_input: first.number,
            keyspace: plan.keyspace,
            output_level: plan.output_level,
            lo: span.lo.into(),
            hi: span.hi.into(),
        });
    }

    /// Forgets a plan that has ended, whether it was installed or not.
    pub fn remove(&mut self, plan: &Plan) {
        for (_, table) in plan.tables() {
            self.inputs.remove(&table.number);
        }
        self.running.retain(|running| plan.tables().all(|(_, table)| table.number != running.first_input));
    }

    /// Registers a table that will come into `level` without a plan, one built outside. No plan must write there meanwhile.
    pub fn claim(&mut self, keyspace: KeyspaceId, level: Level, table: &TableMeta) {
        self.running.push(Running {
            first_input: table.number,
            keyspace,
            output_level: level,
            lo: table.smallest.user_key.clone(),
            hi: table.largest.user_key.clone(),
        });
    }

    /// Forgets the claim of a table, whether it has come or not.
    pub fn release(&mut self, number: FileNo) {
        self.running.retain(|running| running.first_input != number);
    }

    /// Keeps a table out of all plans from now on, because it is damaged.
    pub fn exclude(&mut self, number: FileNo) {
        self.excluded.insert(number);
    }

    /// Whether no plan may take this table.
    pub fn uses(&self, number: FileNo) -> bool {
        self.inputs.contains(&number) || self.excluded.contains(&number)
    }

    /// Whether it is kept out of all plans because it is damaged.
    pub(crate) fn excludes(&self, number: FileNo) -> bool {
        self.excluded.contains(&number)
    }

    /// How many plans run in `keyspace`.
    pub fn plans(&self, keyspace: KeyspaceId) -> usize {
        self.running.iter().filter(|running| running.keyspace == keyspace).count()
    }

    /// Whether `plan` must not start now.
    pub fn conflicts(&self, plan: &Plan) -> bool {
        plan.tables().any(|(_, table)| self.uses(table.number))
            || plan.span().is_some_and(|span| self.writes(plan.keyspace, plan.output_level, span))
    }

    /// Whether a running plan may put a table into this part of that level.
    pub(crate) fn writes(&self, keyspace: KeyspaceId, level: Level, span: Span<'_>) -> bool {
        self.running.iter().any(|running| {
            running.keyspace == keyspace
                && running.output_level == level
                && span.overlaps(Span { lo: &running.lo, hi: &running.hi })
        })
    }
}
