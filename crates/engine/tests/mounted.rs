//! Real file systems: power cuts, and disks that fill up.
//!
//! Images in memory are mounted by a loop device, which takes Linux and root; where that can't be done the tests say so and stop.
//!
//! A power cut is the kernel's own: `xfs_io -x -c shutdown` (ext4 has the same call) lets nothing that is not on the device get there any more. ext4 is mounted with
//! `noauto_da_alloc`: by default it hides a sync that is missing before a rename.

#[path = "kill/backend.rs"]
mod backend;
#[path = "mounted/power.rs"]
mod power;
#[path = "kill/store.rs"]
mod store;
#[path = "mounted/told.rs"]
mod told;
#[path = "mounted/writers.rs"]
mod writers;

use backend::backend_of;
use esker::{Engine, ErrorKind};
use esker_testkit::disk::{Disk, Kind, run};
use esker_testkit::stress;
use power::Known;
use std::time::{Duration, Instant};
use store::{builder, opened, value};
use writers::CHILD;

#[test]
fn what_is_synced_outlasts_power_cuts() {
    if let Ok(spec) = std::env::var(CHILD) {
        return writers::child(&spec);
    }
    let known = run("xfs_io -V").and_then(|()| Ok([Known::new(Kind::Ext4)?, Known::new(Kind::Xfs)?]));
    let mut known = match known {
        Ok(known) => known,
        Err(why) => return stress::skip("power", &why),
    };
    let (mut cuts, mut behind_a_sync, mut by_bus) = (0, 0, 0);
    for round in stress::rounds("power", 8) {
        let cut = known[round.seed() as usize % 2].cycle(round.seed());
        round.tried(1);
        cuts += 1;
        behind_a_sync += u64::from(cut.is_behind_a_sync);
        by_bus += u64::from(cut.ended_by_bus);
    }
    println!("{cuts} cuts, {behind_a_sync} of them behind a synced write; {by_bus} ended the writers by SIGBUS");
    // All but one in four wait for one.
    assert!(cuts < 8 || behind_a_sync * 2 >= cuts, "{behind_a_sync} of {cuts} cuts were behind a synced write");
}

/// A disk filled up at some point: nothing is lost, reads go on, deletes are taken, and within five seconds of room there are writes again.
fn fill(disk: &Disk, seed: u64) {
    let dir = disk.at.join("db");
    let open = || opened(builder(&dir, backend_of(seed))).unwrap();
    let (engine, _) = open();
    let key = |i: u64| format!("key {i:06}");
    let check = |engine: &Engine, upto: u64, deleted: u64| {
        for i in 0..upto {
            let found = engine.get(key(i)).unwrap();
            assert_eq!(found.as_deref(), (i >= deleted).then(|| value(i)).as_deref(), "seed {seed}: {i} of {upto}");
        }
    };
    let begin = seed.wrapping_mul(6_364_136_223_846_793_005) >> 33;
    let mut acknowledged = 0;
    for _ in 0..begin % 20_000 {
        // However far flush and compaction are behind: so little data leaves most of the disk free.
        engine.put(key(acknowledged), value(acknowledged)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        acknowledged += 1;
    }
    // What is left goes to somebody else, and so does what the engine gives back.
    let ballast = disk.at.join("ballast");
    let take = || {
        let taken = run(&format!("dd if=/dev/zero of={} bs=64k oflag=append conv=notrunc", ballast.display()));
        assert!(taken.is_err_and(|said| said.contains("No space")), "seed {seed}: the disk is not full");
    };
    take();
    let error = loop {
        if acknowledged % 1000 == 0 {
            take();
        }
        match engine.put(key(acknowledged), value(acknowledged)) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 200_000, "seed {seed}: a full disk takes writes without end");
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace, "seed {seed}: {error}");
    check(&engine, acknowledged, 0);
    for i in 0..10 {
        engine.delete(key(i)).unwrap_or_else(|error| panic!("seed {seed}: a delete while full: {error}"));
    }
    check(&engine, acknowledged, 10);

    std::fs::remove_file(&ballast).unwrap();
    let begin = Instant::now();
    while engine.put("writing", "again").is_err() {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "seed {seed}: writing did not resume: {:?}",
            engine.metrics()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    engine.flush().unwrap();
    check(&engine, acknowledged, 10);
    engine.close().unwrap();
    let (engine, _) = open();
    check(&engine, acknowledged, 10);
    assert_eq!(engine.get("writing").unwrap().unwrap(), b"again");
    assert!(engine.verify().unwrap().is_ok(), "seed {seed}");
    engine.close().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_real_disk_that_fills_up_loses_nothing() {
    let disk = match Disk::new(Kind::Ext4, 64 << 20) {
        Ok(disk) => disk,
        Err(why) => return stress::skip("fill", &why),
    };
    for round in stress::rounds("fill", 2) {
        fill(&disk, round.seed());
        round.tried(1);
    }
}
