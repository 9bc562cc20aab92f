//! Which tables there are, what of each can be read, and to which keyspace it belongs.

use super::{Loss, Repair, newer};
use crate::error::{Error, Result};
use esker_format::{FileId, FileKind, FileNo, KeyspaceId, SeqNo};
use esker_manifest::TableMeta;
use esker_sstable::{
    BlockCache, BuilderOptions, Expect, KeyHash, ReadMode, Salvage, Table, TableError, TableOptions, Verify, salvage,
    told_file_id,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What entries get whose sequence number only a lost manifest knew: below all that was ever written.
const OLDEST: SeqNo = SeqNo(1);

/// A table to take from: one of the damaged directory, or in the new one what could be read of it.
pub(super) struct Source {
    pub(super) number: FileNo,
    /// `None` if nothing could be read.
    pub(super) table: Option<Arc<Table>>,
    /// `None` if nothing says so.
    pub(super) keyspace: Option<KeyspaceId>,
    /// What could not be read.
    pub(super) losses: Vec<Loss>,
    /// Whether the manifest names it.
    pub(super) is_named: bool,
}

pub(super) fn options(expect: Option<Expect>) -> TableOptions {
    TableOptions { verify: Verify::Always, read_mode: ReadMode::Pread, cache: BlockCache::new(0), expect }
}

impl Repair<'_> {
    /// All tables that may be needed.
    pub(super) fn tables(&mut self) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut seen: BTreeSet<FileId> = BTreeSet::new();
        let numbers: Vec<FileNo> = self
            .kinds
            .iter()
            .filter_map(|kind| if let FileKind::Table(number) = kind { Some(*number) } else { None })
            .collect();
        for number in numbers {
            sources.extend(self.table(number, &mut seen)?);
        }
        let missing: Vec<(KeyspaceId, TableMeta)> =
            self.facts.tables.values().filter(|(_, meta)| !seen.contains(&meta.file_id)).cloned().collect();
        for (id, meta) in missing {
            let file = FileKind::Table(meta.number).name();
            let what = match self.report.exact {
                true => "it is missing",
                false => "it is missing, unless an edit of the manifest that is lost has removed it",
            };
            let (first, last) = (Some(meta.smallest.user_key.to_vec()), Some(meta.largest.user_key.to_vec()));
            let loss = Loss { file, what: what.into(), first, last, records: Some(meta.entries), ..Loss::default() };
            sources.push(Source {
                number: meta.number,
                table: None,
                keyspace: Some(id),
                losses: vec![loss],
                is_named: true,
            });
        }
        Ok(sources)
    }

    fn unused(&mut self, kind: FileKind, why: impl Into<String>) {
        self.report.unused.push((kind.name(), why.into()));
    }

    fn table(&mut self, number: FileNo, seen: &mut BTreeSet<FileId>) -> Result<Option<Source>> {
        let kind = FileKind::Table(number);
        let name = kind.name();
        let path = kind.path(self.from);
        let mut source = Source { number, table: None, keyspace: None, losses: Vec::new(), is_named: false };
        let file = match self.vfs.open_read(&path) {
            Ok(file) => file,
            Err(error) => {
                let known = self.facts.tables.get(&number).cloned();
                if known.is_none() && (self.report.exact || self.facts.removed.contains(&number)) {
                    self.unused(kind, format!("the manifest does not name it, and it can't be opened: {error}"));
                    return Ok(None);
                }
                let mut loss = Loss { file: name, what: format!("it can't be opened: {error}"), ..Loss::default() };
                if let Some((id, meta)) = known {
                    seen.insert(meta.file_id);
                    (source.keyspace, source.is_named) = (Some(id), true);
                    loss.first = Some(meta.smallest.user_key.to_vec());
                    loss.last = Some(meta.largest.user_key.to_vec());
                    loss.records = Some(meta.entries);
                }
                source.losses.push(loss);
                return Ok(Some(source));
            }
        };
        self.read(file.len_bytes().unwrap_or(0));
        let opened = Table::open(Arc::clone(&file), &name, options(None));
        // A file may have been given another's name. Its id tells; where none can be read, or one under no checksum that is nobody's, the name must do.
        let by_id = |id: FileId| self.facts.tables.values().find(|(_, meta)| meta.file_id == id).cloned();
        let by_number = || self.facts.tables.get(&number).cloned();
        let named = match &opened {
            Ok(table) => by_id(table.properties().file_id),
            Err(_) => match told_file_id(Arc::clone(&file), &name) {
                Some((id, true)) => by_id(id),
                Some((id, false)) => by_id(id).or_else(by_number),
                None => by_number(),
            },
        };
        let (id, meta) = named.unzip();
        if id.is_none() && (self.report.exact || self.facts.removed.contains(&number)) {
            self.unused(kind, "the manifest does not name it: what it held is in other tables, or in the logs");
            return Ok(None);
        }
        if id.is_some_and(|id| self.facts.dropped.contains(&id)) {
            self.unused(kind, "its keyspace was dropped");
            return Ok(None);
        }
        (source.keyspace, source.is_named) = (id, meta.is_some());
        let outside = |table: &Table| table.properties().entries > 0 && table.properties().largest_seq == SeqNo::ZERO;
        let mut seq = meta.as_ref().and_then(|meta| meta.table_seq).filter(|seq| *seq <= SeqNo::MAX);
        if meta.is_none() && opened.as_ref().is_ok_and(|table| outside(table)) {
            seq = Some(OLDEST);
            self.remark(format!(
                "{name} was built outside and ingested, and nothing says when: whatever else there is of its keys counts as newer"
            ));
        }
        let damage = match self.whole(&file, &name, opened, seq) {
            Ok(table) => {
                seen.insert(table.properties().file_id);
                self.report.tables_whole += 1;
                source.table = Some(table);
                return Ok(Some(source));
            }
            Err(error) if error.is_unsupported() => return Err(newer(&error)),
            Err(error) => error,
        };
        let told = meta.as_ref().map(|meta| meta.file_id);
        match self.rebuild(file, &name, told, seq)? {
            Ok((salvaged, table)) => {
                seen.insert(salvaged.file_id);
                seen.extend(told);
                self.report.tables_in_part += u64::from(table.is_some());
                source.losses = losses_of(&name, &salvaged, meta.as_ref());
                source.table = table;
            }
            Err(_) => {
                seen.extend(told);
                let (first, last) = meta.as_ref().map_or((None, None), |meta| {
                    (Some(meta.smallest.user_key.to_vec()), Some(meta.largest.user_key.to_vec()))
                });
                let records = meta.map(|meta| meta.entries);
                let what = format!("nothing of it can be read: {damage}");
                source.losses.push(Loss { file: name, what, first, last, records, ..Loss::default() });
            }
        }
        Ok(Some(source))
    }

    /// The table, if all of it passes.
    fn whole(
        &self,
        file: &Arc<dyn esker_vfs::ReadableFile>,
        name: &str,
        opened: Result<Arc<Table>, TableError>,
        seq: Option<SeqNo>,
    ) -> Result<Arc<Table>, TableError> {
        let mut table = opened?;
        let mut found = Vec::new();
        table.verify_all(&mut |error| found.push(error), &mut |_| {});
        // Beside what is damaged there may be what only a newer version can read.
        found.sort_by_key(|error| !error.is_unsupported());
        if let Some(first) = found.into_iter().next() {
            return Err(first);
        }
        if seq.is_some() {
            let (file_bytes, file_id) = (table.file_bytes(), table.properties().file_id);
            table = Table::open(Arc::clone(file), name, options(Some(Expect { file_bytes, file_id, seq })))?;
        }
        Ok(table)
    }

    /// Writes what can be read of a table as one in the new directory, which goes when all is done. The inner error: nothing can be read.
    #[expect(clippy::type_complexity, reason = "an error of the new file, and one of the old")]
    fn rebuild(
        &mut self,
        file: Arc<dyn esker_vfs::ReadableFile>,
        name: &str,
        told: Option<FileId>,
        seq: Option<SeqNo>,
    ) -> Result<Result<(Salvage, Option<Arc<Table>>), TableError>> {
        let number = self.new_number();
        let mut builder = self.builder(number, self.scratch_options())?;
        self.scratch.push(number);
        let mut failed = None;
        let salvaged = salvage(file, name, told, seq, &mut |key, value| {
            if failed.is_none() {
                failed = builder.add(key, value).err();
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        let salvaged = match salvaged {
            Ok(salvaged) => salvaged,
            Err(error) => return Ok(Err(error)),
        };
        for layer in salvaged.ranges.iter().flat_map(|ranges| ranges.layers()) {
            builder.add_range_tombstones(Arc::clone(layer))?;
        }
        if salvaged.entries == 0 && salvaged.ranges.is_none() {
            return Ok(Ok((salvaged, None)));
        }
        builder.finish()?;
        let table = self.open_scratch(number)?;
        Ok(Ok((salvaged, Some(table))))
    }

    /// How tables are built that are read once and removed.
    pub(super) fn scratch_options(&self) -> BuilderOptions {
        BuilderOptions { file_id: FileId(self.vfs.random()), filter_bits_per_key: 0, ..BuilderOptions::default() }
    }

    pub(super) fn open_scratch(&self, number: FileNo) -> Result<Arc<Table>> {
        let kind = FileKind::Table(number);
        let path = kind.path(self.to);
        let file = self.vfs.open_read(&path).map_err(|error| Error::io("open", &path, error))?;
        Ok(Table::open(file, &kind.name(), options(None))?)
    }

    /// Gives a keyspace to tables that the manifest says nothing of: the one in which another table, or a log (`probe`), has the same version of a key.
    pub(super) fn assign(&mut self, sources: &mut [Source]) -> Result<()> {
        for i in 0..sources.len() {
            if sources[i].keyspace.is_some() {
                continue;
            }
            let Some(table) = sources[i].table.clone() else { continue };
            let ends = ends_of(&table)?;
            let holds = |other: &Source| {
                let other = other.table.as_ref()?;
                ends.iter()
                    .any(|(key, seq)| {
                        let found = other.get_unfiltered(key, KeyHash::of(key), *seq);
                        matches!(found, Ok(Some((trailer, _))) if trailer.seq() == *seq)
                    })
                    .then_some(())
            };
            sources[i].keyspace = sources
                .iter()
                .filter(|other| other.keyspace.is_some())
                .find_map(|other| holds(other).and(other.keyspace));
        }
        Ok(())
    }
}

/// The first and the last version in a table.
pub(super) fn ends_of(table: &Arc<Table>) -> Result<Vec<(Vec<u8>, SeqNo)>> {
    use esker_sstable::InternalIterator;
    let mut iter = table.iter_once();
    let mut ends = Vec::new();
    iter.seek_to_first()?;
    if iter.valid() {
        ends.push((iter.key().user_key.to_vec(), iter.key().trailer.seq()));
    }
    iter.seek_to_last()?;
    if iter.valid() {
        ends.push((iter.key().user_key.to_vec(), iter.key().trailer.seq()));
    }
    Ok(ends)
}

fn losses_of(name: &str, salvaged: &Salvage, meta: Option<&TableMeta>) -> Vec<Loss> {
    let properties = salvaged.properties.as_ref();
    let bound = |told: Option<&[u8]>| told.map(<[u8]>::to_vec);
    let first = bound(properties.map(|p| &*p.smallest.user_key).or(meta.map(|meta| &*meta.smallest.user_key)));
    let last = bound(properties.map(|p| &*p.largest.user_key).or(meta.map(|meta| &*meta.largest.user_key)));
    let entries = properties.map(|p| p.entries).or(meta.map(|meta| meta.entries));
    let gone = entries.map(|entries| entries.saturating_sub(salvaged.entries));
    let one = salvaged.skipped.len() == 1;
    let mut losses: Vec<Loss> = salvaged
        .skipped
        .iter()
        .map(|skipped| Loss {
            file: name.to_owned(),
            offset: Some(skipped.offset),
            what: format!("{} bytes that can't be read: {}", skipped.bytes, skipped.why),
            keyspace: None,
            first: skipped.after.clone().or(first.clone()),
            last: skipped.before.clone().or(last.clone()),
            records: gone.filter(|_| one),
        })
        // Of a table that was read to its end, what is behind the last block is no entry.
        .filter(|loss| loss.records != Some(0))
        .collect();
    // A manifest that names the table knows whether it has any.
    if salvaged.ranges_lost && meta.is_none_or(|meta| meta.ranges.is_some()) {
        let if_any = if meta.is_some() { "" } else { ", if it has any" };
        let what = format!("its range deletes can't be read{if_any}: what they deleted may be there again");
        losses.push(Loss { file: name.to_owned(), what, first, last, ..Loss::default() });
    }
    losses
}
