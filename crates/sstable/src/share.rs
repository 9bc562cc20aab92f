//! How much of a table lies before a key: for estimates, by the index and one block.

use crate::block::Layout;
use crate::error::TableError;
use crate::table::{Fill, Table};
use esker_format::InternalKey;

impl Table {
    /// The share of the table's data, from 0 to 1, that lies before `target`; entries within one block count alike. Two of them tell about how much lies between two keys.
    ///
    /// Costs as much as a seek.
    ///
    /// # Errors
    /// The index, or the block that holds the place, could not be read or is damaged.
    pub fn share_before(&self, target: InternalKey<'_>) -> Result<f64, TableError> {
        let (index, bytes) = self.index()?;
        let number = self.find_block(target)?;
        if number == index.count() {
            return Ok(1.0);
        }
        let at = index.block(bytes, number).ok_or_else(|| self.astray())?.range;
        let block = self.block(number, Fill::Cache)?;
        let payload = self.payload(&block);
        let layout = Layout::parse(payload).map(|layout| layout.lifted(self.lift()));
        let place = layout.and_then(|layout| Some((layout.lower_bound(payload, target)?, layout.count)));
        let (before, count) = place.ok_or_else(|| self.damaged(number, &block))?;
        let within = at.len() as f64 * before as f64 / count.max(1) as f64;
        Ok(((at.start as f64 + within) / self.properties().data_bytes.max(1) as f64).clamp(0.0, 1.0))
    }
}
