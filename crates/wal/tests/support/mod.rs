//! What the tests share: small logs in memory, and files that are just bytes.
#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]

use esker_format::checksum::Crc;
use esker_format::{FileId, FileKind, FileNo};
use esker_vfs::{Map, ReadableFile, Vfs};
use esker_wal::{Backend, GroupSync, LogEnd, LogHeader, Lsn, Prepared, Reader, RecordKind, Reserve, WalError, Writer};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub kind: RecordKind,
    pub position: Lsn,
    pub end: Lsn,
    pub durable: Lsn,
    pub payload: Vec<u8>,
}

/// A file that is just bytes.
#[derive(Debug)]
pub struct Bytes(pub Vec<u8>);

impl ReadableFile for Bytes {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let there = self.0.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub fn path(number: u64) -> PathBuf {
    FileKind::Wal(FileNo(number)).path(Path::new("/"))
}

pub fn header(number: u64, start: Lsn, durable: Lsn) -> LogHeader {
    LogHeader { file_id: FileId(0xabcd_0000 + number), number: FileNo(number), start, durable }
}

/// Log `number`, which starts where it is told to.
pub fn create(vfs: &dyn Vfs, number: u64, start: Lsn, group: &Arc<GroupSync>) -> Writer {
    Writer::create(vfs, &path(number), header(number, start, group.durable()), group).unwrap()
}

/// As [`create`], by either backend.
pub fn create_by(backend: Backend, vfs: &dyn Vfs, number: u64, start: Lsn, group: &Arc<GroupSync>) -> Writer {
    let prepared = Prepared::create(vfs, &path(number), backend).unwrap();
    begin(prepared, number, start, group)
}

/// Log `number` in the file of log `old`, which nobody needs any more.
pub fn recycle(vfs: &dyn Vfs, old: u64, number: u64, start: Lsn, group: &Arc<GroupSync>) -> Writer {
    let prepared = Prepared::reuse(vfs, &path(old), &path(number)).unwrap();
    begin(prepared, number, start, group)
}

fn begin(prepared: Prepared, number: u64, start: Lsn, group: &Arc<GroupSync>) -> Writer {
    let mut log = prepared.begin(header(number, start, group.durable()), group).unwrap();
    log.push().unwrap();
    log
}

pub fn append(log: &mut Writer, payload: &[u8]) -> Lsn {
    log.append(RecordKind::Data, &[payload], Reserve::Keep).unwrap()
}

pub fn bytes_of(vfs: &dyn Vfs, path: &Path) -> Vec<u8> {
    esker_vfs::read_file(vfs, path, 1 << 30).unwrap()
}

/// All whole records of a file, and how it ends.
pub fn read_all(file: Arc<dyn ReadableFile>) -> Result<(Vec<Owned>, LogEnd), WalError> {
    let mut reader = Reader::open(file, "the log")?;
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        let (kind, position, end, durable) = (record.kind, record.position, record.end, record.durable);
        records.push(Owned { kind, position, end, durable, payload: record.payload.to_vec() });
    }
    assert!(reader.next()?.is_none(), "the end stays the end");
    Ok((records, *reader.end().unwrap()))
}

pub fn read_bytes(bytes: &[u8]) -> Result<(Vec<Owned>, LogEnd), WalError> {
    read_all(Arc::new(Bytes(bytes.to_vec())))
}

/// Makes the checksum of a changed record header right, in log `number` that starts at `start`.
pub fn sign_record(bytes: &mut [u8], number: u64, start: Lsn, offset: usize) {
    let head = &bytes[offset..offset + 20];
    let file_id = header(number, start, start).file_id.0;
    let crc = Crc::new().u64(file_id).u64(start.0 + offset as u64).bytes(head).finish();
    bytes[offset + 20..offset + 24].copy_from_slice(&crc.to_le_bytes());
}
