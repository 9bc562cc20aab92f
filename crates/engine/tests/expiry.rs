//! Time to live: what is seen when, whatever the clock does, and whose space comes back without being written over.

use esker::vfs::{Clock, CrashPolicy, ManualClock, MemVfs, Vfs};
use esker::{
    Background, Durability, Engine, ErrorKind, KeyspaceOptions, LeveledOptions, Options, WriteBatch, WriteOptions,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const DIR: &str = "/data";

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ttl(of: u64) -> WriteOptions {
    WriteOptions { ttl: Some(secs(of)), ..Default::default() }
}

/// An engine in memory, and the clock that it goes by.
struct Place {
    vfs: Arc<MemVfs>,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        Self { vfs: MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>), clock }
    }

    fn open(&self) -> Engine {
        self.try_open(Options::default(), KeyspaceOptions::default()).unwrap()
    }

    fn try_open(&self, options: Options, default: KeyspaceOptions) -> esker::Result<Engine> {
        Engine::builder(DIR)
            .vfs(Arc::clone(&self.vfs) as Arc<dyn Vfs>)
            .options(options)
            .default_keyspace(default)
            .background(Background::Manual)
            .open()
    }

    /// The same files, with another clock, as a machine has it that was started anew.
    fn with_clock_at(&self, unix_ms: u64) -> Self {
        let clock = Arc::new(ManualClock::new());
        clock.set_unix_ms(unix_ms);
        Self { vfs: self.vfs.with_clock(Arc::clone(&clock) as Arc<dyn Clock>), clock }
    }

    fn advance(&self, of: u64) {
        self.clock.advance(secs(of));
    }

    /// Bytes of tables and blob files.
    fn table_bytes(&self) -> u64 {
        let dir = std::path::Path::new(DIR);
        let names = self.vfs.list(dir).unwrap();
        let files = names.iter().filter(|name| name.ends_with(".sst") || name.ends_with(".blob"));
        files.map(|name| self.vfs.metadata(&dir.join(name)).unwrap().len_bytes).sum()
    }
}

fn work(engine: &Engine) {
    while engine.step().unwrap() {}
}

fn keys(engine: &Engine) -> Vec<Vec<u8>> {
    let forward: Vec<_> = engine.iter().keys().map(|key| key.unwrap().to_vec()).collect();
    let mut backward: Vec<_> = engine.iter().keys().rev().map(|key| key.unwrap().to_vec()).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}

/// Every way to read says the same.
fn check(engine: &Engine, key: &str, expected: Option<&str>) {
    let expected = expected.map(str::as_bytes);
    assert_eq!(engine.get(key).unwrap().as_deref(), expected, "{key}");
    assert_eq!(engine.contains_key(key).unwrap(), expected.is_some());
    assert_eq!(engine.multi_get([key]).unwrap()[0].as_deref(), expected);
    let both = |(found, value): (esker::Slice, esker::Slice)| (found.to_vec(), value.to_vec());
    let pair = expected.map(|value| (key.as_bytes().to_vec(), value.to_vec()));
    assert_eq!(engine.range(key..=key).next().transpose().unwrap().map(both), pair);
    assert_eq!(engine.range(key..=key).next_back().transpose().unwrap().map(both), pair);
    let mut cursor = engine.cursor();
    cursor.seek(key).unwrap();
    let found = (cursor.valid() && cursor.key() == key.as_bytes()).then(|| cursor.value().unwrap());
    assert_eq!(found, expected);
    let tx = engine.transaction();
    assert_eq!(tx.get(key).unwrap().as_deref(), expected);
    assert_eq!(tx.range(key..=key).count(), usize::from(expected.is_some()));
    assert_eq!(engine.get_with_expiry(key).unwrap().as_ref().map(|(value, _)| &value[..]), expected);
}

#[test]
fn a_value_is_there_before_its_time_and_gone_at_it_and_nothing_comes_up_from_beneath() {
    let place = Place::new();
    let engine = place.open();
    let large = "x".repeat(6_000);
    engine.put("k", "older").unwrap();
    engine.put("large", "older").unwrap();
    engine.put_with("k", "short-lived", &ttl(10)).unwrap();
    engine.put_with("large", &large, &ttl(10)).unwrap();
    engine.put_with("", "", &ttl(10)).unwrap();
    let begin = UNIX_EPOCH + Duration::from_millis(place.clock.unix_ms());
    for flushed in [false, true] {
        if flushed {
            engine.flush().unwrap();
        }
        check(&engine, "k", Some("short-lived"));
        check(&engine, "large", Some(&large));
        check(&engine, "", Some(""));
        assert_eq!(engine.get_with_expiry("k").unwrap().unwrap().1, Some(begin + secs(10)));
    }
    place.clock.advance(Duration::from_millis(9_999));
    check(&engine, "k", Some("short-lived"));
    place.clock.advance(Duration::from_millis(1));
    let gone = |engine: &Engine| ["k", "large", ""].iter().for_each(|key| check(engine, key, None));
    gone(&engine);
    assert!(engine.is_empty().unwrap() && engine.first().unwrap().is_none() && engine.last().unwrap().is_none());
    engine.compact_range(..).unwrap();
    gone(&engine);
    engine.close().unwrap();
    drop(engine);
    let engine = place.open();
    gone(&engine);
    assert_eq!(place.table_bytes(), 0, "and their space is back");
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn the_nearest_word_on_a_time_to_live_counts() {
    let place = Place::new();
    let engine = place.open();
    let sessions = engine.keyspace("sessions", KeyspaceOptions { ttl: Some(secs(30)), ..Default::default() }).unwrap();
    assert_eq!((sessions.ttl(), engine.keyspace("plain", Default::default()).unwrap().ttl()), (Some(secs(30)), None));
    sessions.put("keyspace", "").unwrap();
    sessions.put_with("write", "", &ttl(20)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put_in(&sessions, "of the batch", "").put_expiring_in(&sessions, "operation", "", secs(10));
    batch.put_expiring_in(&sessions, "for ever", "", Duration::MAX).put("default", "");
    engine.write_with(&batch, &ttl(20)).unwrap();
    engine.write(&batch).unwrap();
    let mut tx = engine.transaction();
    tx.put_in(&sessions, "transaction", "").unwrap();
    tx.commit_with(&ttl(40)).unwrap();
    let left = || -> Vec<String> {
        sessions.iter().keys().map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap()).collect()
    };
    assert_eq!(left().len(), 6);
    place.advance(10);
    assert_eq!(left(), ["for ever", "keyspace", "of the batch", "transaction", "write"]);
    place.advance(10);
    // The second write of the batch went by the keyspace.
    assert_eq!(left(), ["for ever", "keyspace", "of the batch", "transaction"]);
    place.advance(10);
    assert_eq!(left(), ["for ever", "transaction"]);
    place.advance(10_000_000);
    assert_eq!(left(), ["for ever"]);
    assert!(engine.contains_key("default").unwrap());
    engine.put("plain", "").unwrap();
    assert_eq!(engine.get_with_expiry("plain").unwrap().unwrap().1, None);
}

/// A time to live counts from the commit: who had to wait for it is not given less.
#[test]
fn what_had_to_wait_for_its_turn_lives_as_long_as_any() {
    let place = Place::new();
    let engine = place.open();
    let users = engine.keyspace("users", KeyspaceOptions { ttl: Some(secs(20)), ..Default::default() }).unwrap();
    let turn = engine.exclusive();
    std::thread::scope(|scope| {
        scope.spawn(|| engine.put_with("one", "1", &ttl(20)).unwrap());
        scope.spawn(|| {
            let mut batch = WriteBatch::new();
            batch.put_in(&users, "a", "1").put_expiring("hour", "1", secs(3600)).delete("none").put("ever", "1");
            batch.put_in(&users, "b", [7; 1000]);
            engine.write(&batch).unwrap();
        });
        scope.spawn(|| engine.transact(|tx| tx.put_in(&users, "tx", "1")).unwrap());
        // If they do not wait yet, they find the later time in any case.
        std::thread::sleep(Duration::from_millis(50));
        place.advance(100);
        turn.commit().unwrap();
    });
    let there = |keyspace: &esker::Keyspace| keyspace.iter().map(|item| item.unwrap().0.to_vec()).collect::<Vec<_>>();
    let default = engine.keyspace("default", KeyspaceOptions::default()).unwrap();
    place.advance(19);
    assert_eq!(there(&users), [&b"a"[..], b"b", b"tx"]);
    assert_eq!(there(&default), [&b"ever"[..], b"hour", b"one"]);
    place.advance(1);
    assert!(there(&users).is_empty());
    assert_eq!(there(&default), [&b"ever"[..], b"hour"]);
    place.advance(3600);
    assert_eq!(there(&default), [&b"ever"[..]]);
}

#[test]
fn a_time_to_live_of_zero_is_refused_before_anything_is_logged() {
    let place = Place::new();
    let engine = place.open();
    let refused = |result: esker::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("time to live"), "{error}");
    };
    refused(engine.put_with("k", "v", &ttl(0)));
    let mut batch = WriteBatch::new();
    batch.put("a", "1").put_expiring("b", "2", Duration::ZERO);
    refused(engine.write(&batch));
    let zero = KeyspaceOptions { ttl: Some(Duration::ZERO), ..Default::default() };
    refused(engine.keyspace("zero", zero).map(drop));
    assert!(engine.is_empty().unwrap() && engine.keyspaces() == ["default"]);
    // What is begun of a millisecond counts as one.
    engine.put_with("k", "v", &WriteOptions { ttl: Some(Duration::from_nanos(1)), ..Default::default() }).unwrap();
    assert!(engine.contains_key("k").unwrap());
    place.clock.advance(Duration::from_millis(1));
    assert!(!engine.contains_key("k").unwrap());
}

#[test]
fn a_keyspace_keeps_the_time_to_live_that_it_was_made_with() {
    let place = Place::new();
    let with = |ttl| KeyspaceOptions { ttl, ..Default::default() };
    let engine = place.try_open(Options::default(), with(Some(secs(5)))).unwrap();
    engine.keyspace("plain", with(None)).unwrap();
    engine.keyspace("short", with(Some(Duration::from_micros(1_500)))).unwrap();
    engine.close().unwrap();
    drop(engine);

    let refused = |error: esker::Error, names: [&str; 2]| {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(names.iter().all(|name| error.to_string().contains(name)), "{error}");
    };
    refused(place.try_open(Options::default(), with(Some(secs(6)))).unwrap_err(), ["5000 ms", "6000 ms"]);
    for given in [None, Some(secs(5))] {
        let engine = place.try_open(Options::default(), with(given)).unwrap();
        engine.put("k", "v").unwrap();
        place.advance(5);
        check(&engine, "k", None);
        refused(engine.keyspace("plain", with(Some(secs(1)))).unwrap_err(), ["no time to live", "1000 ms"]);
        refused(engine.keyspace("short", with(Some(secs(1)))).unwrap_err(), ["2 ms", "1000 ms"]);
        let short = engine.keyspace("short", with(Some(Duration::from_micros(1_500)))).unwrap();
        assert_eq!(short.ttl(), Some(Duration::from_millis(2)));
        engine.close().unwrap();
    }
}

#[test]
fn a_snapshot_sees_its_time_for_as_long_as_it_is_held() {
    let place = Place::new();
    let engine = place.open();
    engine.put("k", "older").unwrap();
    engine.put_with("k", "v", &ttl(10)).unwrap();
    engine.put("other", "1").unwrap();
    let before = engine.snapshot();
    let mut iter = engine.iter();
    let mut cursor = engine.cursor();
    let tx = engine.transaction();
    place.advance(10);
    let after = engine.snapshot();
    for round in 0..3 {
        match round {
            1 => engine.flush().unwrap(),
            2 => engine.compact_range(..).unwrap(),
            _ => {}
        }
        assert_eq!(before.get("k").unwrap().unwrap(), b"v", "round {round}");
        assert_eq!(before.iter().rev().count(), 2);
        assert_eq!(tx.get("k").unwrap().unwrap(), b"v");
        assert_eq!((after.get("k").unwrap(), after.iter().count()), (None, 1));
        check(&engine, "k", None);
    }
    assert_eq!(iter.next().unwrap().unwrap().1, b"v", "made before");
    cursor.seek("k").unwrap();
    assert_eq!(cursor.value().unwrap(), b"v");
    cursor.refresh().unwrap();
    cursor.seek("k").unwrap();
    assert_eq!(cursor.key(), b"other");
    drop((before, tx));
    engine.compact_range(..).unwrap();
    assert_eq!(after.get("k").unwrap(), None);
    let entries: u64 = engine.metrics().keyspaces[0].levels.iter().map(|level| level.entries).sum();
    assert_eq!(entries, 1, "nothing of k is left");
}

#[test]
fn conditional_writes_and_transactions_go_by_what_is_there() {
    let place = Place::new();
    let engine = place.open();
    engine.put_with("lock", "mine", &ttl(10)).unwrap();
    assert!(!engine.insert_if_absent_with("lock", "yours", &ttl(10)).unwrap());
    place.advance(10);
    assert!(engine.insert_if_absent_with("lock", "yours", &ttl(10)).unwrap());
    place.advance(10);
    assert!(!engine.compare_and_swap("lock", Some(b"yours"), Some(b"x")).unwrap());
    assert!(engine.compare_and_swap("lock", None, Some(b"x")).unwrap());
    assert_eq!(engine.get_with_expiry("lock").unwrap().unwrap().1, None, "a swap is a put");

    // An update leaves the time as it is, unless it is told otherwise.
    let expiry = |engine: &Engine| engine.get_with_expiry("count").unwrap().unwrap().1;
    engine.put_with("count", [1], &ttl(10)).unwrap();
    let until = expiry(&engine);
    place.advance(5);
    let more = |value: Option<&[u8]>| Some([value.map_or(1, |value| value[0] + 1)]);
    assert_eq!(engine.fetch_update("count", more).unwrap().unwrap(), [1]);
    assert_eq!(expiry(&engine), until);
    engine.fetch_update_with("count", more, &ttl(10)).unwrap();
    assert_eq!(expiry(&engine), until.map(|until| until + secs(5)));
    engine.flush().unwrap();
    place.advance(10);
    assert_eq!(engine.fetch_update("count", more).unwrap(), None, "it begins anew");
    assert_eq!((engine.get("count").unwrap().unwrap().to_vec(), expiry(&engine)), (vec![1], None));

    // Expiry is no write: it conflicts with nothing.
    engine.put_with("session", "ada", &ttl(10)).unwrap();
    let mut tx = engine.transaction();
    assert!(tx.contains_key("session").unwrap());
    place.advance(10);
    tx.put("seen", "ada").unwrap();
    assert!(tx.contains_key("session").unwrap(), "its time is that of its beginning");
    tx.commit().unwrap();
}

#[test]
fn what_expires_keeps_its_time_over_a_crash() {
    let place = Place::new();
    let engine = place.open();
    engine.put_with("k", "v", &WriteOptions { durability: Durability::Sync, ..ttl(10) }).unwrap();
    place.advance(4);
    let vfs = Arc::new(place.vfs.crash_now(CrashPolicy::SyncedOnly));
    drop(engine);
    let place = Place { vfs, clock: Arc::clone(&place.clock) };
    let read_only = Engine::builder(DIR).vfs(Arc::clone(&place.vfs) as Arc<dyn Vfs>).read_only(true).open().unwrap();
    assert_eq!(read_only.get("k").unwrap().unwrap(), b"v");
    place.advance(6);
    assert_eq!(read_only.get("k").unwrap(), None);
    drop(read_only);
    let engine = place.open();
    check(&engine, "k", None);
    engine.checkpoint("/copy").unwrap();
    let copy = Engine::builder("/copy").vfs(Arc::clone(&place.vfs) as Arc<dyn Vfs>).background(Background::Manual);
    check(&copy.open().unwrap(), "k", None);
}

/// A step of the clock back brings nothing back, whether the engine is open or not, and times to live go on.
#[test]
fn the_clock_may_go_back() {
    let place = Place::new();
    let begin = place.clock.unix_ms();
    let engine = place.open();
    engine.put_with("short", "v", &ttl(10)).unwrap();
    engine.put_with("long", "v", &ttl(100)).unwrap();
    place.advance(50);
    check(&engine, "short", None);
    place.clock.set_unix_ms(begin - 1_000_000);
    check(&engine, "short", None);
    check(&engine, "long", Some("v"));
    engine.put_with("new", "v", &ttl(20)).unwrap();
    place.advance(20);
    check(&engine, "new", None);
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);

    let place = place.with_clock_at(begin - 5_000_000);
    let engine = place.open();
    check(&engine, "short", None);
    check(&engine, "new", None);
    check(&engine, "long", Some("v"));
    place.advance(29);
    check(&engine, "long", Some("v"));
    place.advance(1);
    check(&engine, "long", None);
}

/// An engine in which nothing expired yet did not look at the wall clock before it was asked for the time. If that was set back between opening and the first write with a time to live,
/// it took the time that it was set to, and the value was gone early: as soon as the clock was right again.
#[test]
fn a_clock_that_is_set_back_before_anybody_asks_is_one_that_is_set_back() {
    let place = Place::new();
    let begin = place.clock.unix_ms();
    place.open().close().unwrap();
    place.clock.set_unix_ms(begin + 50_000);
    let engine = place.open();
    place.clock.set_unix_ms(begin);
    engine.put_with("k", "v", &ttl(10)).unwrap();
    place.clock.set_unix_ms(begin + 50_000);
    check(&engine, "k", Some("v"));
    place.advance(9);
    check(&engine, "k", Some("v"));
    place.advance(1);
    check(&engine, "k", None);
}

/// After a crash time goes on from where the manifest has it: a minute before, at most.
#[test]
fn at_most_a_minute_is_lost_by_a_crash_and_a_clock_set_back() {
    let place = Place::new();
    let begin = place.clock.unix_ms();
    let engine = place.open();
    engine.put_with("k", "v", &ttl(200)).unwrap();
    for _ in 0..100 {
        place.advance(10);
        engine.contains_key("k").unwrap();
        work(&engine);
    }
    let vfs = Arc::new(place.vfs.crash_now(CrashPolicy::SyncedOnly));
    drop(engine);
    let crashed = Place { vfs, clock: Arc::clone(&place.clock) }.with_clock_at(begin - 777_000);
    let engine = crashed.open();
    engine.put_with("later", "v", &ttl(1)).unwrap();
    let until = engine.get_with_expiry("later").unwrap().unwrap().1.unwrap().duration_since(UNIX_EPOCH).unwrap();
    let now = until.as_millis() as u64 - 1_000;
    assert!((begin + 1_000_000 - 61_000..=begin + 1_000_000).contains(&now), "{}", now - begin);
}

fn small() -> Options {
    Options {
        memtable_bytes: Some(16 << 10),
        block_size_bytes: 512,
        blob_bytes_min: 2_000,
        compaction: LeveledOptions { table_bytes: 8 << 10, level_base_bytes: 32 << 10, ..Default::default() },
        ..Options::default()
    }
}

#[test]
fn space_comes_back_without_being_written_over() {
    let place = Place::new();
    let engine = place.try_open(small(), KeyspaceOptions::default()).unwrap();
    let value = vec![7; 200];
    let large = vec![9; 3_000];
    // Keys in no order, over several levels, a third of them for ever.
    for i in 0..3_000u32 {
        let key = i.wrapping_mul(2_654_435_761).to_be_bytes();
        let options = match i % 3 {
            0 => WriteOptions::default(),
            1 => ttl(100),
            _ => ttl(200),
        };
        let value = if i % 30 == 1 { &large } else { &value };
        while let Err(error) = engine.put_with(key, value, &options) {
            assert_eq!(error.kind(), ErrorKind::Stalled);
            assert!(engine.step().unwrap());
        }
    }
    engine.flush().unwrap();
    work(&engine);
    let all = place.table_bytes();
    assert!(all > 800_000);
    place.advance(100);
    work(&engine);
    assert_eq!(engine.iter().keys().count(), 2_000);
    // A third is not half, so tables may stay as they are.
    place.advance(100);
    let held = engine.snapshot();
    work(&engine);
    drop(held);
    work(&engine);
    assert_eq!(engine.iter().keys().count(), 1_000);
    let left = place.table_bytes();
    assert!(left < all / 5 * 2, "{left} of {all} bytes are left of a third of the values");
    let expiring: u64 = engine.metrics().keyspaces[0].levels.iter().map(|level| level.expiring).sum();
    assert!(expiring <= 1_000, "in no table more than half: {expiring}");
    engine.compact_range(..).unwrap();
    assert_eq!(engine.iter().keys().count(), 1_000);
    assert!(engine.verify().unwrap().is_ok());
}

/// Tables that hold nothing else are dropped without being read: a time series costs nothing to forget.
#[test]
fn a_series_of_tables_that_expire_is_dropped_unread() {
    let place = Place::new();
    let ttl = KeyspaceOptions { ttl: Some(secs(100)), ..Default::default() };
    let engine = place.try_open(small(), ttl).unwrap();
    for i in 0..2_000u32 {
        while let Err(error) = engine.put(i.to_be_bytes(), [3; 100]) {
            assert_eq!(error.kind(), ErrorKind::Stalled);
            assert!(engine.step().unwrap());
        }
        place.clock.advance(Duration::from_millis(10));
    }
    engine.flush().unwrap();
    work(&engine);
    let before = engine.metrics();
    place.advance(200);
    work(&engine);
    let after = engine.metrics();
    assert_eq!(place.table_bytes(), 0);
    assert_eq!(after.compaction_read_bytes, before.compaction_read_bytes, "nothing was read");
    assert_eq!(after.compaction_written_bytes, before.compaction_written_bytes);
    assert_eq!(engine.iter().count(), 0);
}

/// One that rests after a close in order begins by itself when tables are due.
#[test]
fn an_engine_that_only_rests_gives_space_back() {
    let place = Place::new();
    let engine = place.open();
    for i in 0..100u32 {
        engine.put_with(i.to_be_bytes(), [1; 100], &ttl(10)).unwrap();
    }
    engine.close().unwrap();
    drop(engine);
    assert!(place.table_bytes() > 0);
    let engine = place.open();
    work(&engine);
    assert_eq!(engine.iter().count(), 100);
    place.advance(10);
    work(&engine);
    assert_eq!((place.table_bytes(), engine.iter().count()), (0, 0));
}

/// A map of versions with their times, driven beside an engine of tiny tables while flush, compaction, snapshots, crashes and steps of the clock go on.
#[test]
fn as_a_map_of_versions_says() {
    for seed in 1..=30u64 {
        differential(seed);
    }
}

type Model = BTreeMap<Vec<u8>, Vec<(usize, Option<(u64, Vec<u8>)>)>>;

/// What a reader sees that knows of so many writes, as of a time.
fn seen(model: &Model, writes: usize, now: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let visible = model.iter().filter_map(|(key, versions)| {
        let (_, version) = versions.iter().rev().find(|(nth, _)| *nth <= writes)?;
        version.as_ref().filter(|(expiry, _)| *expiry > now).map(|(_, value)| (key.clone(), value.clone()))
    });
    visible.collect()
}

fn differential(seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut dice = move |sides: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % sides
    };
    let mut place = Place::new();
    let options = || Options {
        memtable_bytes: Some(2 << 10),
        block_size_bytes: 128,
        blob_bytes_min: 300,
        compaction: LeveledOptions { table_bytes: 1 << 10, level_base_bytes: 4 << 10, ..Default::default() },
        ..Options::default()
    };
    let mut engine = place.try_open(options(), KeyspaceOptions::default()).unwrap();
    let mut model = Model::new();
    let (mut writes, mut now) = (0, place.clock.unix_ms());
    let mut snapshots = Vec::new();
    for nth in 0..600usize {
        match dice(20) {
            0..=10 => {
                let key = format!("key{:02}", dice(40)).into_bytes();
                let value = vec![nth as u8; [3, 40, 500][dice(3) as usize]];
                let of = [None, Some(1 + dice(5)), Some(1 + dice(50))][dice(3) as usize];
                let deletes = dice(6) == 0;
                loop {
                    let written = match of {
                        _ if deletes => engine.delete(&key),
                        Some(of) => engine.put_with(&key, &value, &ttl(of)),
                        None => engine.put(&key, &value),
                    };
                    match written {
                        Ok(()) => break,
                        Err(error) if error.kind() == ErrorKind::Stalled => assert!(engine.step().unwrap()),
                        Err(error) => panic!("{error}"),
                    }
                }
                writes += 1;
                let version = (of.map_or(u64::MAX, |of| now + of * 1_000), value);
                model.entry(key).or_default().push((writes, (!deletes).then_some(version)));
            }
            11..=12 => {
                let of = dice(4);
                place.advance(of);
                now += of * 1_000;
            }
            13 => place.clock.set_unix_ms(place.clock.unix_ms() - 1_000 * dice(20)),
            14 => snapshots.push((engine.snapshot(), writes, now)),
            15 if !snapshots.is_empty() => drop(snapshots.swap_remove(dice(snapshots.len() as u64) as usize)),
            16 => engine.flush().unwrap(),
            17 => drop((0..dice(6)).find(|_| !engine.step().unwrap())),
            18 if dice(3) == 0 => engine.compact_range(..).unwrap(),
            19 if dice(4) == 0 => {
                snapshots.clear();
                // Who has written nothing keeps no time but once in a minute.
                while engine.delete("nothing").is_err() {
                    assert!(engine.step().unwrap());
                }
                engine.close().unwrap();
                drop(engine);
                place = place.with_clock_at(now - 1_000 * dice(30));
                engine = place.try_open(options(), KeyspaceOptions::default()).unwrap();
            }
            _ => {}
        }
        let views = snapshots.iter().map(|(snapshot, writes, now)| (Some(snapshot), *writes, *now));
        for (snapshot, writes, now) in views.chain([(None, writes, now)]) {
            let expected = seen(&model, writes, now);
            let iter = || snapshot.map_or_else(|| engine.iter(), |snapshot| snapshot.iter());
            let pair = |item: esker::Result<(esker::Slice, esker::Slice)>| {
                item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()
            };
            let what = format!("seed {seed}, step {nth}, {writes} writes, {now} ms");
            assert_eq!(iter().map(pair).collect::<Vec<_>>(), expected, "{what}");
            if nth % 7 == 0 {
                let mut backward: Vec<_> = iter().rev().map(pair).collect();
                backward.reverse();
                assert_eq!(backward, expected, "{what}");
                for key in model.keys() {
                    let found = snapshot.map_or_else(|| engine.get(key), |snapshot| snapshot.get(key)).unwrap();
                    let there = expected.iter().find(|(other, _)| other == key).map(|(_, value)| &value[..]);
                    assert_eq!(found.as_deref(), there, "{what}: get {}", key.escape_ascii());
                }
            }
        }
        assert!(keys(&engine).len() <= 40);
    }
    snapshots.clear();
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn nothing_expires_in_a_keyspace_with_a_merge_operator() {
    let vfs = MemVfs::new();
    let engine = Engine::builder("data").vfs(vfs).open().unwrap();
    let operator = Some("esker.append".to_owned());
    let both =
        KeyspaceOptions { merge_operator: operator.clone(), ttl: Some(Duration::from_secs(1)), ..Default::default() };
    assert_eq!(engine.keyspace("both", both).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let options = KeyspaceOptions { merge_operator: operator, ..Default::default() };
    let log = engine.keyspace("log", options).unwrap();
    let to_live = WriteOptions { ttl: Some(Duration::from_secs(1)), ..Default::default() };
    assert_eq!(log.put_with("k", "v", &to_live).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut batch = WriteBatch::new();
    batch.put("a", "1").put_expiring_in(&log, "k", "v", Duration::from_secs(1));
    assert_eq!(engine.write(&batch).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!((engine.get("a").unwrap(), log.get("k").unwrap()), (None, None), "nothing was written");

    // Beside it, in one batch with what expires, operands stay what they are.
    let mut batch = WriteBatch::new();
    batch.put_expiring("a", "1", Duration::from_secs(9)).merge_in(&log, "k", "x").merge_in(&log, "k", "y");
    engine.write(&batch).unwrap();
    assert_eq!(log.get("k").unwrap().unwrap(), b"xy");
    assert_eq!(log.get_with_expiry("k").unwrap().unwrap(), (b"xy".into(), None));
    assert!(engine.get_with_expiry("a").unwrap().unwrap().1.is_some());
}

/// An update gave a value that was put for ever the time to live of its keyspace.
#[test]
fn an_update_leaves_what_never_expires_for_ever() {
    let place = Place::new();
    let options = KeyspaceOptions { ttl: Some(secs(10)), ..Default::default() };
    let engine = place.try_open(Options::default(), options).unwrap();
    engine.put_with("k", "1", &WriteOptions { ttl: Some(Duration::MAX), ..Default::default() }).unwrap();
    engine.fetch_update("k", |_| Some("2")).unwrap();
    engine.fetch_update("new", |_| Some("1")).unwrap();
    assert_eq!(engine.get_with_expiry("k").unwrap().unwrap().1, None);
    assert!(engine.get_with_expiry("new").unwrap().unwrap().1.is_some(), "what is made is put as any other");
    place.advance(11);
    assert_eq!((engine.get("k").unwrap().unwrap(), engine.get("new").unwrap()), (b"2".into(), None));
}

#[test]
fn an_operand_with_a_time_to_live_is_refused() {
    let place = Place::new();
    let options = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..Default::default() };
    let engine = place.try_open(Options::default(), options).unwrap();
    assert_eq!(engine.merge_with("k", "a", &ttl(1)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(engine.get("k").unwrap(), None);
}

/// A get of what expires, a minute after opening, made a log and a manifest.
#[test]
fn reading_what_expires_leaves_the_directory_as_it_was() {
    let place = Place::new();
    let engine = place.open();
    engine.put_with("k", "1", &ttl(100_000)).unwrap();
    engine.close().unwrap();
    drop(engine);
    let names = || {
        let mut names = place.vfs.list(std::path::Path::new(DIR)).unwrap();
        names.sort();
        names
    };
    let engine = place.open();
    work(&engine);
    let before = names();
    place.advance(120);
    engine.get("k").unwrap();
    work(&engine);
    assert_eq!(names(), before);
}
