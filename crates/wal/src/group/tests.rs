//! [`GroupSync`] by example, and under many threads.

use crate::error::WalError;
use crate::frame::Lsn;
use crate::group::{GroupSync, Log};
use crate::sync::tests::YIELDS;
use esker_vfs::FileSync;
use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A file whose syncs do what a test says.
struct Disk<F>(F);

impl<F> fmt::Debug for Disk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl<F: Fn() -> io::Result<()> + Send + Sync> FileSync for Disk<F> {
    fn sync(&self) -> io::Result<()> {
        (self.0)()
    }
}

fn add(group: &GroupSync, start: u64, sync: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Arc<Log> {
    group.add(&"log".into(), Lsn(start), Arc::new(Disk(sync))).unwrap()
}

/// Syncs that say when they begin, and end when and how they are told to.
struct Steps {
    began: Receiver<()>,
    answer: Sender<io::Result<()>>,
}

fn stepped() -> (Steps, impl Fn() -> io::Result<()> + Send + Sync) {
    let (begins, began) = channel();
    let (answer, answers) = channel();
    let answers = Mutex::new(answers);
    (Steps { began, answer }, move || {
        begins.send(()).unwrap();
        answers.lock().unwrap().recv().unwrap()
    })
}

fn wait_for(what: impl Fn() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(1));
    }
}

impl GroupSync {
    fn waiting(&self) -> usize {
        self.lock().waiters.len()
    }
}

#[test]
fn what_is_pushed_while_a_sync_runs_waits_for_the_next() {
    let group = GroupSync::new(Lsn(0));
    let (disk, sync) = stepped();
    let log = add(&group, 0, sync);
    log.set_pushed(Lsn(10));
    thread::scope(|s| {
        let first = s.spawn(|| group.sync_to(Lsn(10)));
        disk.began.recv().unwrap();
        log.set_pushed(Lsn(30));
        let second = s.spawn(|| group.sync_to(Lsn(20)));
        let third = s.spawn(|| group.sync_to(Lsn(30)));
        wait_for(|| group.waiting() == 2);
        disk.answer.send(Ok(())).unwrap();
        first.join().unwrap().unwrap();
        assert_eq!(group.durable(), Lsn(10), "only what was pushed when the sync began");
        disk.began.recv().unwrap();
        assert_eq!(group.durable(), Lsn(10));
        disk.answer.send(Ok(())).unwrap();
        second.join().unwrap().unwrap();
        third.join().unwrap().unwrap();
    });
    assert_eq!((group.durable(), group.syncs()), (Lsn(30), 2));
    group.sync_to(Lsn(30)).unwrap();
    assert_eq!(group.syncs(), 2, "nothing to do");
}

/// Every leader gave up the processor once before its sync, for others to join; one that was alone did so for nobody, and waited for whatever else the machine had to do.
#[test]
fn only_company_is_waited_for() {
    let group = GroupSync::new(Lsn(0));
    let (disk, sync) = stepped();
    let log = add(&group, 0, sync);
    let alone = |upto| {
        log.set_pushed(Lsn(upto));
        disk.answer.send(Ok(())).unwrap();
        let yields = YIELDS.get();
        group.sync_to(Lsn(upto)).unwrap();
        disk.began.recv().unwrap();
        YIELDS.get() - yields
    };
    assert_eq!(alone(10), 0);
    assert!(!group.lock().shared);
    log.set_pushed(Lsn(20));
    thread::scope(|s| {
        let first = s.spawn(|| group.sync_to(Lsn(20)));
        disk.began.recv().unwrap();
        let second = s.spawn(|| group.sync_to(Lsn(20)));
        wait_for(|| group.waiting() == 1);
        disk.answer.send(Ok(())).unwrap();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    });
    assert!(group.lock().shared, "the next one lets others in first");
    assert_eq!(alone(30), 1, "and does not wait on when none comes");
    assert!(!group.lock().shared);
    assert_eq!(alone(40), 0);
}

#[test]
fn older_logs_are_synced_first_and_only_what_is_not_yet_durable() {
    let group = GroupSync::new(Lsn(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let noting = |n| {
        let order = order.clone();
        move || {
            order.lock().unwrap().push(n);
            Ok(())
        }
    };
    let one = add(&group, 0, noting(1));
    one.set_pushed(Lsn(10));
    group.seal(&one);
    let two = add(&group, 10, noting(2));
    two.set_pushed(Lsn(20));
    group.seal(&two);
    let three = add(&group, 20, noting(3));
    three.set_pushed(Lsn(25));
    group.sync_to(Lsn(25)).unwrap();
    three.set_pushed(Lsn(30));
    group.sync_to(Lsn(30)).unwrap();
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 3]);
    assert_eq!(group.lock().logs.len(), 1, "those synced to their end are forgotten");
    // Sealed after its last sync, a log is forgotten at once.
    group.seal(&three);
    assert!(group.lock().logs.is_empty());
    group.sync_to(Lsn(30)).unwrap();
    assert_eq!(group.syncs(), 4);
}

#[test]
fn nothing_passes_an_older_log_that_fails() {
    let group = GroupSync::new(Lsn(0));
    let one = add(&group, 0, || Err(io::Error::other("EIO")));
    one.set_pushed(Lsn(10));
    group.seal(&one);
    let two = add(&group, 10, || panic!("must not be synced"));
    two.set_pushed(Lsn(20));
    let error = group.sync_to(Lsn(20)).unwrap_err();
    assert_eq!(error.to_string(), "log log: sync at 10: EIO");
    assert_eq!(group.durable(), Lsn(0));
}

#[test]
fn a_log_of_which_nothing_is_pushed_is_not_synced() {
    let group = GroupSync::new(Lsn(0));
    let one = add(&group, 0, || Ok(()));
    one.set_pushed(Lsn(10));
    group.seal(&one);
    add(&group, 10, || panic!("must not be synced"));
    group.sync_to(Lsn(10)).unwrap();
    assert_eq!((group.durable(), group.syncs()), (Lsn(10), 1));
}

fn adopt(group: &GroupSync, start: u64, end: u64) -> Result<(), WalError> {
    group.adopt("old", Lsn(start), Lsn(end), Arc::new(Disk(|| Ok(()))))
}

#[test]
fn an_adopted_log_is_synced_by_the_round_that_passes_it() {
    let group = GroupSync::new(Lsn(10));
    let failing = Arc::new(Disk(|| Err(io::Error::other("EIO"))));
    group.adopt("durable", Lsn(0), Lsn(9), failing.clone()).unwrap();
    group.adopt("durable", Lsn(9), Lsn(10), failing.clone()).unwrap();
    assert_eq!(Arc::strong_count(&failing), 1, "what needs no sync is left out");
    adopt(&group, 10, 30).unwrap();
    adopt(&group, 30, 40).unwrap();
    // One that nothing was written to.
    adopt(&group, 40, 40).unwrap();
    assert_eq!((group.durable(), group.syncs()), (Lsn(10), 0));
    group.sync_to(Lsn(35)).unwrap();
    assert_eq!((group.durable(), group.syncs()), (Lsn(40), 2));

    group.adopt("failing", Lsn(100), Lsn(150), failing).unwrap();
    assert_eq!(group.sync_to(Lsn(150)).unwrap_err().to_string(), "log failing: sync at 50: EIO");
}

#[test]
fn a_log_out_of_line_is_not_adopted() {
    let group = GroupSync::new(Lsn(0));
    adopt(&group, 0, 10).unwrap();
    for (start, end) in [(9, 20), (5, 3), (20, 15)] {
        let error = adopt(&group, start, end).unwrap_err();
        assert!(matches!(error, WalError::OutOfLine { end: Some(Lsn(10)), .. }), "{start} to {end}: {error}");
    }
    adopt(&group, 10, 20).unwrap();
    // There may be a gap.
    adopt(&group, 25, 30).unwrap();
    add(&group, 30, || Ok(()));
    let error = adopt(&group, 30, 40).unwrap_err();
    assert!(matches!(error, WalError::OutOfLine { end: None, start: Lsn(30), .. }), "{error}");
    assert_eq!(group.lock().logs.len(), 4, "what was refused is not there");
}

#[test]
fn a_failed_sync_is_for_ever_and_for_all() {
    let group = GroupSync::new(Lsn(0));
    let (disk, sync) = stepped();
    let log = add(&group, 0, sync);
    log.set_pushed(Lsn(50));
    assert!(group.failed().is_none());
    thread::scope(|s| {
        let good = s.spawn(|| group.sync_to(Lsn(50)));
        disk.began.recv().unwrap();
        disk.answer.send(Ok(())).unwrap();
        good.join().unwrap().unwrap();

        log.set_pushed(Lsn(100));
        let leader = s.spawn(|| group.sync_to(Lsn(60)));
        disk.began.recv().unwrap();
        let group = &group;
        let followers: Vec<_> = (70..=100).step_by(10).map(|upto| s.spawn(move || group.sync_to(Lsn(upto)))).collect();
        wait_for(|| group.waiting() == 4);
        disk.answer.send(Err(io::Error::other("EIO"))).unwrap();
        for thread in followers.into_iter().chain([leader]) {
            assert_eq!(thread.join().unwrap().unwrap_err().io().unwrap().to_string(), "EIO");
        }
    });
    // The disk works again, but nobody asks it: a sync that succeeds now would prove nothing.
    for upto in [10, 60, 100] {
        assert_eq!(group.sync_to(Lsn(upto)).unwrap_err().io().unwrap().to_string(), "EIO");
    }
    assert_eq!((group.durable(), group.syncs()), (Lsn(50), 2));
    assert_eq!(group.failed().unwrap().io().unwrap().to_string(), "EIO");
}

#[test]
fn a_panic_in_a_sync_wakes_those_who_wait() {
    let group = GroupSync::new(Lsn(0));
    let (disk, sync) = stepped();
    let log = add(&group, 0, move || {
        sync().unwrap();
        Ok(())
    });
    log.set_pushed(Lsn(20));
    thread::scope(|s| {
        let leader = s.spawn(|| group.sync_to(Lsn(10)));
        disk.began.recv().unwrap();
        let follower = s.spawn(|| group.sync_to(Lsn(20)));
        wait_for(|| group.waiting() == 1);
        disk.answer.send(Err(io::Error::other("panics"))).unwrap();
        assert!(leader.join().is_err());
        assert!(matches!(follower.join().unwrap(), Err(WalError::Interrupted)));
    });
    assert!(matches!(group.failed(), Some(WalError::Interrupted)));
    assert_eq!(group.durable(), Lsn(0));
}

#[test]
fn a_sync_beyond_what_was_pushed_is_refused_and_harms_nobody() {
    let group = GroupSync::new(Lsn(5));
    assert!(matches!(group.sync_to(Lsn(6)), Err(WalError::NotPushed { upto: Lsn(6), pushed: Lsn(5) })));
    let log = add(&group, 5, || Ok(()));
    log.set_pushed(Lsn(10));
    assert!(matches!(group.sync_to(Lsn(11)), Err(WalError::NotPushed { pushed: Lsn(10), .. })));
    assert_eq!(group.syncs(), 0);
    group.sync_to(Lsn(10)).unwrap();
}

#[test]
fn a_retired_log_is_not_synced_and_not_waited_for() {
    let group = GroupSync::new(Lsn(0));
    let one = add(&group, 0, || panic!("must not be synced"));
    one.set_pushed(Lsn(10));
    group.retire(Lsn(10));
    assert_eq!(group.durable(), Lsn(0), "a log that is written is not retired");
    group.seal(&one);
    group.retire(Lsn(9));
    assert_eq!(group.durable(), Lsn(0), "it holds more");
    let two = add(&group, 10, || Ok(()));
    two.set_pushed(Lsn(20));
    group.retire(Lsn(15));
    assert_eq!(group.durable(), Lsn(10));
    group.sync_to(Lsn(20)).unwrap();
    assert_eq!((group.durable(), group.syncs()), (Lsn(20), 1));
}

#[test]
fn retiring_serves_those_who_wait_for_it() {
    let group = GroupSync::new(Lsn(0));
    let (disk, sync) = stepped();
    let log = add(&group, 0, sync);
    log.set_pushed(Lsn(10));
    thread::scope(|s| {
        let leader = s.spawn(|| group.sync_to(Lsn(10)));
        disk.began.recv().unwrap();
        log.set_pushed(Lsn(20));
        let follower = s.spawn(|| group.sync_to(Lsn(20)));
        wait_for(|| group.waiting() == 1);
        group.seal(&log);
        group.retire(Lsn(20));
        follower.join().unwrap().unwrap();
        disk.answer.send(Ok(())).unwrap();
        leader.join().unwrap().unwrap();
    });
    assert_eq!((group.durable(), group.syncs()), (Lsn(20), 1));
}

#[test]
fn nobody_is_left_waiting() {
    // Fast syncs, many threads, logs that end and are retired meanwhile: every hand-over there is. A lost one would hang the test.
    const THREADS: u64 = 8;
    const SYNCS: u64 = 3_000;
    let group = GroupSync::new(Lsn(0));
    let sync = || {
        thread::yield_now();
        Ok(())
    };
    // The log being written, and the line's end.
    let line = Mutex::new((add(&group, 0, sync), Lsn(0)));
    thread::scope(|s| {
        for id in 0..THREADS {
            let (group, line) = (&group, &line);
            s.spawn(move || {
                for n in 0..SYNCS {
                    let end = {
                        let (log, end) = &mut *line.lock().unwrap();
                        if (n + id).is_multiple_of(97) {
                            group.seal(log);
                            *log = add(group, end.0, sync);
                        }
                        *end = *end + 1;
                        log.set_pushed(*end);
                        *end
                    };
                    if (n + id).is_multiple_of(31) {
                        group.retire(end);
                    }
                    group.sync_to(end).unwrap();
                    assert!(group.durable() >= end);
                }
            });
        }
    });
    assert_eq!(group.durable(), Lsn(THREADS * SYNCS));
    assert_eq!(group.waiting(), 0);
    assert!(group.lock().logs.len() <= 1);
}
