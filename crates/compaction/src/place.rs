//! Where a table that was built outside comes into the tree.

use crate::plan::Busy;
use crate::span::Span;
use esker_manifest::{KeyspaceVersion, Level, TableMeta};

/// The lowest level that `table` may go to, which is newer than all there is: one where nothing that overlaps it lies above, nor in it, nor will be put by a running plan. Level 0 takes any.
///
/// In each source of a key all is newer than in the next, so nothing of its keys may lie over it; what is below is older.
///
/// ```
/// use esker_compaction::{Busy, place};
/// use esker_manifest::{Level, Version, VersionEdit};
///
/// let edit: VersionEdit = "reserve seq 20\nreserve file 10\nadd 0 L6 1 a#1,PUT .. f#3,PUT\nadd 0 L3 2 p#5,PUT .. q#5,PUT".parse()?;
/// let version = Version::new().apply(&edit)?;
/// let level_of = |text: &str| place(version.keyspace_named("default").unwrap(), &Busy::new(), &text.parse().unwrap());
/// assert_eq!(level_of("5 x#9,PUT .. z#9,PUT"), Level::BOTTOM);
/// assert_eq!(level_of("5 b#9,PUT .. c#9,PUT"), Level(5), "over what is older");
/// assert_eq!(level_of("5 b#9,PUT .. p#9,PUT"), Level(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn place(version: &KeyspaceVersion, busy: &Busy, table: &TableMeta) -> Level {
    let span = Span::of(table);
    let is_free = |level: &Level| {
        !version.level(*level).iter().any(|other| span.overlaps(Span::of(other)))
            && !busy.writes(version.id, *level, span)
    };
    Level::all().take_while(is_free).last().unwrap_or(Level::ZERO)
}
