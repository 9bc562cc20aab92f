//! Whatever bytes a file holds, reading it ends, in linear time and little memory, and never panics.

mod support;

use esker_format::checksum::Crc;
use esker_vfs::{Map, MemVfs, ReadableFile};
use esker_wal::{FILE_HEADER_BYTES, GroupSync, Lsn, Reader};
use proptest::prelude::*;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{Bytes, append, bytes_of, create, header, path, read_all, read_bytes};

/// Bytes that note how much of them is read, and how much at once.
#[derive(Debug)]
struct Watched {
    bytes: Bytes,
    read: AtomicU64,
    at_once: AtomicU64,
}

impl Watched {
    fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes: Bytes(bytes), read: AtomicU64::new(0), at_once: AtomicU64::new(0) })
    }

    /// Reads it all, and expects each byte to have been read about once.
    fn check(self: Arc<Self>) {
        let len = self.bytes.0.len() as u64;
        let _ = read_all(self.clone());
        let read = self.read.load(Ordering::Relaxed);
        assert!(read <= len + len / 100 + 1024, "{read} bytes read of {len}");
        assert!(self.at_once.load(Ordering::Relaxed) <= 4 << 20, "the buffer grows only as bytes are there");
    }
}

impl ReadableFile for Watched {
    fn len_bytes(&self) -> io::Result<u64> {
        self.bytes.len_bytes()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.at_once.fetch_max(buffer.len() as u64, Ordering::Relaxed);
        self.bytes.read_exact_at(buffer, offset)
    }

    fn map(&self) -> io::Result<Map> {
        self.bytes.map()
    }
}

/// A file header, for `file_id` as in `support`, start 0.
fn file_header() -> Vec<u8> {
    let vfs = MemVfs::new();
    drop(create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO)));
    bytes_of(&*vfs, &path(1))[..FILE_HEADER_BYTES].to_vec()
}

/// A record header with a right checksum, whose payload checksum is wrong.
fn signed_head(offset: u64, len: u32, durable: u64) -> Vec<u8> {
    let mut head = Vec::new();
    head.extend(len.to_le_bytes());
    head.extend(0xbad_u32.to_le_bytes());
    head.extend(durable.to_le_bytes());
    head.extend([1, 0, 0, 0]);
    let file_id = header(1, Lsn::ZERO, Lsn::ZERO).file_id;
    head.extend(Crc::new().u64(file_id.0).u64(offset).bytes(&head).finish().to_le_bytes());
    head
}

#[test]
fn each_byte_is_read_about_once() {
    const LEN: usize = 6 << 20;
    let filled = |pattern: &[u8]| {
        let mut bytes = file_header();
        bytes.extend(pattern.iter().cycle().take(LEN));
        Watched::new(bytes)
    };
    filled(&[0]).check();
    filled(&[0xff]).check();
    // Words that pass every test but the checksum.
    filled(&[1, 0, 0, 0, 0, 0, 0, 0]).check();
    // Single bytes in long runs of zeros.
    let mut sparse = vec![0; 4095];
    sparse.push(1);
    filled(&sparse).check();

    // Signed headers all over, empty, and with payloads that end anywhere.
    for (len, step) in [(0, 24), (100, 128), (u32::MAX, 24)] {
        let mut bytes = file_header();
        while bytes.len() < LEN {
            let mut record = signed_head(bytes.len() as u64, len, 0);
            record.resize(step, 0x77);
            bytes.extend(record);
        }
        Watched::new(bytes).check();
    }
    // One that is as long as the file says, and torn at its end.
    let mut bytes = file_header();
    bytes.extend(signed_head(64, LEN as u32, 0));
    bytes.resize(64 + 24 + LEN, 0x33);
    Watched::new(bytes).check();
}

#[test]
fn a_file_that_claims_to_be_long_costs_what_it_holds() {
    /// Says that it is 2^62 bytes long, and ends.
    #[derive(Debug)]
    struct Liar(Arc<Watched>);
    impl ReadableFile for Liar {
        fn len_bytes(&self) -> io::Result<u64> {
            Ok(1 << 62)
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_exact_at(buffer, offset)
        }
        fn map(&self) -> io::Result<Map> {
            self.0.map()
        }
    }
    let mut bytes = file_header();
    bytes.extend(signed_head(64, u32::MAX, 0));
    bytes.resize(5 << 20, 0x33);
    let watched = Watched::new(bytes);
    let mut reader = Reader::open(Arc::new(Liar(watched.clone())), "x").unwrap();
    assert_eq!(reader.next().unwrap_err().io().unwrap().kind(), io::ErrorKind::UnexpectedEof);
    assert!(watched.at_once.load(Ordering::Relaxed) <= 4 << 20);
}

proptest! {
    #[test]
    fn any_bytes_behind_a_header_end(bytes: Vec<u8>, words in prop::collection::vec(0u8..3, 0..600)) {
        for tail in [bytes, words] {
            let (records, end) = read_bytes(&[file_header(), tail].concat()).unwrap();
            prop_assert!(records.is_empty());
            prop_assert_eq!((end.position, end.vouched), (Lsn(64), Lsn::ZERO));
        }
    }

    #[test]
    fn any_bytes_at_all_end(bytes: Vec<u8>) {
        prop_assert!(read_bytes(&bytes).is_err());
    }

    #[test]
    fn a_log_with_parts_moved_about_reads_as_a_prefix(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
        moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..80), 1..4),
    ) {
        let vfs = MemVfs::new();
        let mut log = create(&*vfs, 1, Lsn::ZERO, &GroupSync::new(Lsn::ZERO));
        for payload in &payloads {
            append(&mut log, payload);
            log.sync().unwrap();
        }
        let mut bytes = bytes_of(&*vfs, &path(1));
        bytes.truncate(log.bytes() as usize);
        let whole = read_bytes(&bytes).unwrap().0;
        for (from, to, len) in moves {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let len = len.min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + len, to);
        }
        if let Ok((records, end)) = read_bytes(&bytes) {
            prop_assert!(whole.starts_with(&records));
            prop_assert_eq!(end.position, records.last().map_or(Lsn(64), |record| record.end));
        }
    }
}
