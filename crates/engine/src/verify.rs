//! [`VerifyReport`]: every table read whole.

use crate::core::Core;
use crate::error::{Error, Result};
use esker_format::FileNo;
use esker_manifest::TableMeta;
use esker_sstable::Table;
use std::collections::BTreeMap;

/// What [`crate::Engine::verify`] found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Tables read.
    pub tables: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// What is damaged, by table; empty if all is well.
    pub damaged: BTreeMap<FileNo, Error>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_ok(&self) -> bool {
        self.damaged.is_empty()
    }
}

impl Core {
    /// See [`crate::Engine::verify`]. Damage found is kept away from compaction.
    pub(crate) fn verify(&self) -> Result<VerifyReport> {
        self.check_open()?;
        let mut report = VerifyReport::default();
        // One state of each keyspace, whose tables can't go while it is held.
        let states: Vec<_> = self.keyspaces().iter().map(|keyspace| keyspace.read.load_full()).collect();
        for open in states.iter().flat_map(|state| state.view.tables()) {
            self.check_open()?;
            report.tables += 1;
            let verified = open.table().and_then(|table| {
                let found = table.verify()?;
                agrees(&open.meta, table)?;
                Ok(found)
            });
            match verified {
                Ok(found) => {
                    report.blocks += found.blocks;
                    report.entries += found.entries;
                    report.bytes += open.meta.file_bytes;
                }
                Err(error) => {
                    self.tables.quarantine(open.meta.number);
                    self.state.lock().busy.exclude(open.meta.number);
                    report.damaged.insert(open.meta.number, error);
                }
            }
        }
        Ok(report)
    }
}

/// Whether the manifest says of a table what the table says of itself.
fn agrees(meta: &TableMeta, table: &Table) -> Result<()> {
    let properties = table.properties();
    let same = properties.smallest == meta.smallest
        && properties.largest == meta.largest
        && properties.smallest_seq == meta.smallest_seq
        && properties.largest_seq == meta.largest_seq
        && properties.entries == meta.entries
        && properties.deletions == meta.deletions;
    if same {
        return Ok(());
    }
    Err(Error::corruption(format!(
        "table {}: the manifest tells its contents otherwise than the table itself",
        table.name()
    )))
}
