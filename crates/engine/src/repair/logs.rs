//! What the logs hold.
//!
//! Where the manifest is whole and the logs end as recovery would have them, they are replayed as it does. Else each is read by itself: also behind a break, if what lies before it was vouched for and so
//! was promised; an end that nothing vouches for is a torn tail, and what lies behind it counts for nothing, as ever. Behind a place that the device can't read all is used that can be: that is no tear.

use super::tables::{Source, ends_of};
use super::{Loss, Repair, newer};
use crate::error::{ErrorKind, Result};
use crate::open::holds_everything;
use crate::options::RecoveryMode;
use crate::recovery::{self, Told};
use esker_format::batch::{self, BatchOp};
use esker_format::{
    FileKind, FileNo, InternalKey, InternalKeyBuf, KeyspaceId, SeqNo, Trailer, ValueKind, split_expiry,
};
use esker_iterator::{RangeTombstone, RangeTombstoneBuf};
use esker_wal::{LogHeader, Lsn, Reader, RecordKind, WalError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// So much is gathered before it becomes a table, in bytes.
const GATHERED_BYTES: usize = 64 << 20;

/// Operations out of the logs.
#[derive(Default)]
pub(super) struct Gathered {
    entries: BTreeMap<KeyspaceId, Vec<(InternalKeyBuf, Vec<u8>)>>,
    bytes: usize,
    pub(super) ranges: BTreeMap<KeyspaceId, Vec<RangeTombstoneBuf>>,
    /// Versions that tell a table's keyspace: the table's place among the sources, and the key.
    probes: HashMap<SeqNo, Vec<(usize, Vec<u8>)>>,
    /// Keyspaces whose operations are taken though they should be in tables: some of these are lost.
    pub(super) lossy: BTreeSet<KeyspaceId>,
    /// Keyspaces that were met.
    pub(super) keyspaces: BTreeSet<KeyspaceId>,
    pub(super) last_seq: SeqNo,
}

/// A log as its header and end have it.
struct Log {
    number: FileNo,
    header: LogHeader,
    end: Lsn,
}

/// Why nothing is taken of a log.
enum Strange {
    /// There is nothing in it.
    Empty,
    Damaged(Box<Loss>),
    /// Only a newer version can read it.
    Newer(WalError),
}

impl Repair<'_> {
    /// Reads the logs; what they hold becomes more sources.
    pub(super) fn logs(&mut self, sources: &mut Vec<Source>) -> Result<Gathered> {
        let mut gathered = Gathered::default();
        for (i, source) in sources.iter().enumerate() {
            if !source.losses.is_empty() {
                gathered.lossy.extend(source.keyspace);
            }
            if let (None, Some(table)) = (source.keyspace, &source.table) {
                for (key, seq) in ends_of(table)? {
                    gathered.probes.entry(seq).or_default().push((i, key));
                }
            }
        }
        let logs: Vec<FileNo> = self
            .kinds
            .iter()
            .filter_map(|kind| if let FileKind::Wal(number) = kind { Some(*number) } else { None })
            .collect();
        for kind in self.kinds.iter().copied().filter(|kind| matches!(kind, FileKind::WalAside(_))) {
            self.report.unused.push((kind.name(), "recovery has set it aside: it was never promised to last".into()));
        }
        if !self.replay_as_recovery_does(&logs, &mut gathered, sources)? {
            self.read_each(&logs, &mut gathered, sources)?;
        }
        self.spill(&mut gathered, sources)?;
        Ok(gathered)
    }

    /// Whether that could be done.
    fn replay_as_recovery_does(
        &mut self,
        logs: &[FileNo],
        gathered: &mut Gathered,
        sources: &mut Vec<Source>,
    ) -> Result<bool> {
        let Some(version) = self.facts.version.clone().filter(|_| self.report.exact && gathered.lossy.is_empty())
        else {
            return Ok(false);
        };
        if holds_everything(&version) {
            return Ok(true);
        }
        let needed: Vec<FileNo> = logs.iter().copied().filter(|number| *number >= version.oldest_log).collect();
        if needed.first() != Some(&version.oldest_log) && version.oldest_log != FileNo(0) {
            return Ok(false);
        }
        let (vfs, from) = (self.vfs, self.from);
        // What it is called says nothing then of which is needed.
        if recovery::misnamed(&**vfs, from, version.oldest_log)?.is_some() {
            return Ok(false);
        }
        let told = Told::new(&version, self.facts.log_begun);
        // A batch may turn out wrong in its middle, so nothing is gathered before all of them are known to be right.
        match recovery::replay(&**vfs, from, &needed, told, RecoveryMode::PointInTime, |_| Ok(())) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => return Err(newer(&error)),
            Err(_) => return Ok(false),
        }
        let mut operations = 0;
        // What is wrong now and was not is the device's, and the whole repair begins anew with what it is known not to give.
        let replayed = recovery::replay(&**vfs, from, &needed, told, RecoveryMode::PointInTime, |numbered| {
            operations += 1;
            self.gather(numbered.op, numbered.seq, gathered, sources)
        })?;
        // What recovery leaves out behind a place that can't be read was not torn off there.
        let is_unread = |(number, _): &(FileNo, String)| {
            self.patient.is_unreadable(&FileKind::Wal(*number).path(from), 0..u64::MAX)
        };
        if replayed.set_aside.iter().any(is_unread) {
            return Ok(false);
        }
        self.report.logs += replayed.logs.len() as u64;
        self.report.log_operations += operations;
        let met: BTreeSet<FileNo> = replayed.logs.iter().map(|log| log.number).collect();
        let met = &met | &replayed.set_aside.iter().map(|(number, _)| *number).collect();
        // Where one that is needed is not to be found, it may be any that does not begin as a log.
        let is_one_missing = needed.iter().any(|number| !met.contains(number));
        for number in logs.iter().filter(|number| is_one_missing && !met.contains(number)) {
            self.name_headless(*number);
        }
        for (number, why) in replayed.set_aside {
            let why = format!("{why}: it was never promised to last");
            self.report.unused.push((FileKind::Wal(number).name(), why));
        }
        Ok(true)
    }

    /// Says of a log that is passed over that it does not begin as one, if it was ever written to, or of the oldest that it is another.
    fn name_headless(&mut self, number: FileNo) {
        let kind = FileKind::Wal(number);
        let (name, path) = (kind.name(), kind.path(self.from));
        let why = match self.vfs.open_read(&path) {
            Err(error) => format!("it can't be opened: {error}"),
            Ok(file) => match Reader::open(Arc::clone(&file), &name) {
                Err(WalError::NoHeader { cause, .. }) if recovery::holds_bytes(&*file, &path, 0).unwrap_or(true) => {
                    format!("it does not begin as a log does ({cause})")
                }
                Ok(reader) if number == self.facts.oldest_log && reader.header().number < number => {
                    format!("it holds a former log, number {}, and nothing of its own", reader.header().number)
                }
                _ => return,
            },
        };
        self.report.unused.push((name, format!("{why}, and nothing says that what it held was promised to last")));
    }

    /// Each log by itself.
    fn read_each(&mut self, logs: &[FileNo], gathered: &mut Gathered, sources: &mut Vec<Source>) -> Result<()> {
        (self.report.logs, self.report.log_operations) = (0, 0);
        let oldest = self.facts.oldest_log;
        // All that older logs hold is in tables then, and none of these is damaged.
        let is_former_needless = self.report.exact && gathered.lossy.is_empty();
        let mut known: Vec<Log> = Vec::new();
        let mut strange: Vec<(FileNo, Option<Box<Loss>>)> = Vec::new();
        let mut vouched = self.facts.log_durable;
        for &number in logs {
            match self.look_at(number) {
                Ok((log, claimed)) => {
                    vouched = vouched.max(claimed);
                    known.push(log);
                }
                Err(Strange::Newer(_)) if is_former_needless && number < oldest => strange.push((number, None)),
                Err(Strange::Newer(error)) => return Err(newer(&error)),
                Err(Strange::Damaged(loss)) => strange.push((number, Some(loss))),
                Err(Strange::Empty) => strange.push((number, None)),
            }
        }
        // A file of a needed log's name is another's if that log is found elsewhere; if it is not, it may be any that does not begin as a log.
        let is_lacking = |number: FileNo| number >= oldest && !known.iter().any(|log| log.header.number == number);
        let is_one_missing = known.iter().any(|log| is_lacking(log.number));
        for (number, loss) in strange {
            match loss {
                _ if is_former_needless && !is_lacking(number) && !is_one_missing => {}
                Some(loss) if !is_former_needless || is_lacking(number) => self.report.losses.push(*loss),
                _ => self.name_headless(number),
            }
        }
        let known_numbers: BTreeSet<FileNo> =
            logs.iter().copied().chain(known.iter().map(|log| log.header.number)).collect();
        let starts: BTreeSet<Lsn> = known.iter().map(|log| log.header.start).collect();
        // One that was made ahead holds a former log, of use only where it is still needed or the others go on behind it.
        let is_former = |log: &Log| {
            let is_needed = oldest > FileNo(0) && log.header.number >= oldest;
            log.header.number < log.number && !is_needed && !starts.contains(&log.end)
        };
        let mut line: Vec<(Lsn, Lsn, FileNo)> = Vec::new();
        for log in known {
            let name = FileKind::Wal(log.number).name();
            if is_former(&log) {
                let why = format!("it holds a former log, number {}, to be written over", log.header.number);
                self.report.unused.push((name, why));
                continue;
            }
            let end = match is_former_needless && log.header.number < oldest {
                true => log.end,
                false => self.read_log(&log, vouched, &starts, gathered, sources)?,
            };
            line.push((log.header.start, end, log.header.number));
        }
        // Tables hold all of what was written before the engine was closed, and no log has more.
        let was_closed =
            self.facts.version.is_none() && self.facts.closed.is_some_and(|last| gathered.last_seq <= last);
        let needed = !was_closed && !self.facts.version.as_ref().is_some_and(|version| holds_everything(version));
        let oldest_start = self.facts.version.as_ref().and_then(|version| version.log_start);
        // Whatever has become of the log that begins there.
        line.extend(oldest_start.filter(|start| needed && vouched > *start).map(|start| (start, start, oldest)));
        line.sort();
        let gap = |from: Lsn, to: Lsn| Loss {
            file: "the logs".into(),
            what: format!("positions {from} to {to} of their line are in none of them: the writes there are lost"),
            ..Loss::default()
        };
        for pair in line.windows(2) {
            let is_needless = was_closed || is_former_needless && pair[1].2 <= oldest;
            if pair[1].0 > pair[0].1 && !is_needless {
                self.report.losses.push(gap(pair[0].1, pair[1].0));
            }
        }
        let end = line.iter().map(|(_, end, _)| *end).max().unwrap_or(self.facts.log_begun);
        if needed && oldest > FileNo(0) && !known_numbers.contains(&oldest) {
            let what = "it is missing, and the manifest says that it holds writes that no table has".to_owned();
            self.report.losses.push(Loss { file: FileKind::Wal(oldest).name(), what, ..Loss::default() });
        }
        if needed && vouched > end {
            self.report.losses.push(gap(end, vouched));
        }
        Ok(())
    }

    /// The header of a log, where its whole records end, and how far it says that all was on stable storage.
    fn look_at(&mut self, number: FileNo) -> std::result::Result<(Log, Lsn), Strange> {
        let kind = FileKind::Wal(number);
        let name = kind.name();
        let path = kind.path(self.from);
        let lost = |what: String| Strange::Damaged(Box::new(Loss { file: kind.name(), what, ..Loss::default() }));
        let file = self.vfs.open_read(&path).map_err(|error| lost(format!("it can't be opened: {error}")))?;
        self.read(file.len_bytes().unwrap_or(0));
        let mut reader = Reader::open(Arc::clone(&file), &name).map_err(|error| {
            if error.is_unsupported() {
                return Strange::Newer(error);
            }
            match recovery::holds_more_than_a_header(&*file, &path).unwrap_or(true) {
                true => lost(format!("without its header no record can be told from damage: {error}")),
                false => Strange::Empty,
            }
        })?;
        let header = *reader.header();
        let end = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break reader.end().map_or(header.start, |end| end.position),
                Err(error) if error.is_unsupported() => return Err(Strange::Newer(error)),
                Err(error) => return Err(lost(error.to_string())),
            }
        };
        let claimed = reader.end().map_or(header.durable, |end| end.vouched);
        Ok((Log { number, header, end }, claimed))
    }

    /// The operations of one log; where its line ends.
    fn read_log(
        &mut self,
        log: &Log,
        vouched: Lsn,
        starts: &BTreeSet<Lsn>,
        gathered: &mut Gathered,
        sources: &mut Vec<Source>,
    ) -> Result<Lsn> {
        let kind = FileKind::Wal(log.number);
        let name = kind.name();
        let path = kind.path(self.from);
        let file = self.vfs.open_read(&path).map_err(|error| crate::Error::io("open", &path, error))?;
        let mut reader = Reader::open(file, &name)?;
        let mut used = 0;
        let end = loop {
            let Some(record) = reader.next()? else {
                let end = reader.end().expect("at its end").to_owned();
                if !end.leftover || starts.contains(&end.position) {
                    break end.position;
                }
                let offset = end.position.0 - log.header.start.0;
                let next = reader.skip_break()?;
                // Who can't read a place knows that it was not torn there.
                let is_unread = |next: Lsn| self.patient.is_unreadable(&path, offset..next.0 - log.header.start.0);
                if vouched <= end.position && !next.is_some_and(is_unread) {
                    let why = format!("its end, from position {} on, was never promised to last: {end}", end.position);
                    self.report.unused.push((name.clone(), why));
                    break end.position;
                }
                let (more, bytes) = match next {
                    Some(position) => (true, format!("{} bytes", position.0 - end.position.0)),
                    None => (false, "all from here on".to_owned()),
                };
                let what = format!("{bytes} that can't be read, and the writes in them: {}", end.cause);
                self.report.losses.push(Loss { file: name.clone(), offset: Some(offset), what, ..Loss::default() });
                if more {
                    continue;
                }
                break vouched;
            };
            if record.kind != RecordKind::Data {
                continue;
            }
            let offset = Some(record.position.0 - log.header.start.0);
            let decoded = batch::decode(record.payload).and_then(|(first, ops)| {
                // All or nothing of a batch.
                Ok((first, ops.collect::<std::result::Result<Vec<_>, _>>()?))
            });
            let (first, ops) = match decoded {
                Ok(decoded) => decoded,
                // Under another's name it may be a manifest.
                Err(error) if error.is_unsupported() && log.header.number == log.number => {
                    return Err(newer(&recovery::bad_record(&name, record.position, error)));
                }
                Err(error) => {
                    let what = format!("a record that is no batch: {error}");
                    self.report.losses.push(Loss { file: name.clone(), offset, what, ..Loss::default() });
                    continue;
                }
            };
            for (op, seq) in ops.into_iter().zip(first.0..) {
                used += 1;
                self.gather(op, SeqNo(seq), gathered, sources)?;
            }
        };
        self.report.logs += u64::from(used > 0);
        self.report.log_operations += used;
        Ok(end)
    }

    fn gather(
        &mut self,
        op: BatchOp<'_>,
        seq: SeqNo,
        gathered: &mut Gathered,
        sources: &mut Vec<Source>,
    ) -> Result<()> {
        let id = op.keyspace;
        for (source, key) in gathered.probes.get(&seq).into_iter().flatten() {
            if key == op.key && op.kind != ValueKind::RangeDelete {
                sources[*source].keyspace = Some(id);
            }
        }
        gathered.last_seq = gathered.last_seq.max(seq);
        let flushed = self.facts.flushed.get(&id).copied().unwrap_or_default();
        let in_tables = self.report.exact && seq <= flushed && !gathered.lossy.contains(&id);
        let is_gone = self.facts.dropped.contains(&id) || self.report.exact && !self.facts.keyspaces.contains_key(&id);
        if in_tables || is_gone {
            return Ok(());
        }
        gathered.keyspaces.insert(id);
        if op.kind == ValueKind::RangeDelete {
            let tombstone = RangeTombstone { begin: op.key, end: op.value, seq };
            gathered.ranges.entry(id).or_default().push(tombstone.to_buf());
            return Ok(());
        }
        debug_assert!(!op.kind.expires() || split_expiry(op.value).is_some());
        let key = InternalKey { user_key: op.key, trailer: Trailer::new(seq, op.kind) };
        gathered.bytes += op.key.len() + op.value.len() + 64;
        gathered.entries.entry(id).or_default().push((key.to_buf(), op.value.to_vec()));
        if gathered.bytes >= GATHERED_BYTES {
            self.spill(gathered, sources)?;
        }
        Ok(())
    }

    /// Makes tables of what was gathered.
    fn spill(&mut self, gathered: &mut Gathered, sources: &mut Vec<Source>) -> Result<()> {
        gathered.bytes = 0;
        for (id, mut entries) in std::mem::take(&mut gathered.entries) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            // What a first attempt has read is there again.
            entries.dedup_by(|a, b| a.0 == b.0);
            let number = self.new_number();
            let mut builder = self.builder(number, self.scratch_options())?;
            self.scratch.push(number);
            for (key, value) in &entries {
                builder.add(key.as_ref(), value)?;
            }
            builder.finish()?;
            let table = Some(self.open_scratch(number)?);
            sources.push(Source { number, table, keyspace: Some(id), losses: Vec::new(), is_named: true });
        }
        Ok(())
    }
}
