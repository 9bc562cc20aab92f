//! The program as a user runs it: every workload on a small store, its table and its JSON.

use clap::ValueEnum;
use esker_bench::args::StoreName;
use esker_bench::plan::Room;
use esker_bench::report::Report;
use esker_bench::state::State;
use esker_bench::workload::Workload;
use std::collections::BTreeSet;
use std::process::{Command, Output};

const NUM: u64 = 2000;

/// Runs the program with a directory of its own, which must be empty again when it has ended.
fn bench(args: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_esker-bench"))
        .args(args.split_whitespace())
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "a directory was left behind");
    output
}

fn report(args: &str) -> Report {
    let output = bench(&format!("{args} --json -"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_workload_runs_checks_what_it_reads_and_is_reported() {
    let report = report(&format!("--num {NUM}"));
    assert_eq!((report.format, report.settings.num), (1, NUM));
    assert_eq!(report.samples.len(), Workload::by_default().len());
    for sample in &report.samples {
        let workload = sample.workload;
        assert_eq!(sample.operations, workload.operations(NUM, 1), "{workload}");
        assert!(!sample.is_cut_short, "{workload}");
        assert_eq!(sample.lost_entries, (workload == Workload::OpenKill).then_some(0), "{workload}");
        assert!(sample.seconds > 0.0 && sample.ops_per_second > 0.0, "{workload}");
        assert_eq!(sample.latency.is_none(), workload.walks(), "{workload}");
        assert_eq!(sample.space_amplification.is_none(), workload == Workload::DeleteRandom, "{workload}");
        match sample.write_amplification {
            Some(amplification) => assert!(workload.writes() && amplification >= 1.0, "{workload}: {amplification}"),
            None => assert!(!workload.writes(), "{workload}"),
        }
        if let Some(latency) = sample.latency {
            assert!(latency.p50_us <= latency.p99_us && latency.p99_us <= latency.p999_us, "{workload}");
        }
    }
}

#[test]
fn small_memtables_several_threads_and_every_setting_read_the_same() {
    let writes = "fillseq,fillrandom,fillbatch,overwrite,deleterandom";
    let reads = "readrandom,readmissing,seekrandom,readseq,readreverse,readwhilewriting,ycsba,ycsbd,ycsbe,ycsbf,open";
    let settings = "--num 20000 --threads 3 --memtable-mib 1 --cache-mib 1 --compression none --durability memory --flush-after-load";
    let report = report(&format!("{writes} --workloads {reads} {settings}"));
    let walked: Vec<_> = report.samples.iter().filter(|s| s.workload.walks()).map(|s| s.operations).collect();
    assert_eq!(walked, [60_000, 60_000], "each thread walks over everything");
}

#[test]
fn the_table_shows_medians_and_json_goes_to_a_file_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("samples.json");
    let output = bench(&format!("fillrandom readseq --num {NUM} --repeat 2 --json {}", file.display()));
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.contains("esker")).collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows[0].starts_with("| fillrandom ") && rows[1].starts_with("| readseq "), "{table}");
    assert!(table.lines().next().unwrap().contains("p99.9 us"));

    let report: Report = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let order: Vec<_> = report.samples.iter().map(|s| (s.repetition, s.workload)).collect();
    let expected =
        [(0, Workload::FillRandom), (0, Workload::ReadSeq), (1, Workload::FillRandom), (1, Workload::ReadSeq)];
    assert_eq!(order, expected);
}

#[test]
fn the_json_has_the_names_that_scripts_read() {
    let output = bench("readrandom --num 100 --json -");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |text: &str| text.split_whitespace().map(String::from).collect::<BTreeSet<_>>();
    assert_eq!(names(&json), set("format title esker_version versions machine settings samples failures not_run"));
    let machine = "date commit rustc cpu cores memory_bytes kernel file_system load_before load_after";
    assert_eq!(names(&json["machine"]), set(machine));
    let sample = "workload store repetition threads compression durability room state group_peak_bytes operations seconds ops_per_second latency user_bytes written_bytes write_amplification \
                  live_bytes disk_bytes space_amplification peak_memory_bytes heap_bytes cpu_seconds settle_seconds \
                  is_cut_short lost_entries conflicts";
    assert_eq!(names(&json["samples"][0]), set(sample));
    assert_eq!(names(&json["samples"][0]["latency"]), set("p50_us p99_us p999_us max_us"));
    assert_eq!(
        (&json["samples"][0]["workload"], &json["samples"][0]["store"]),
        (&"readrandom".into(), &"esker".into())
    );
}

#[test]
fn values_larger_than_a_block_and_a_limit_of_time_read_the_same() {
    let report = report("fillrandom readrandom seek100 readreverse ycsbe openkill --num 500 --value-bytes 8192");
    assert_eq!(report.samples.len(), 6);
    let limited = self::report("fillsync fillrandom fillbatch --num 100000000 --seconds 1");
    assert!(limited.samples.iter().all(|sample| sample.is_cut_short && sample.seconds < 10.0));
}

#[test]
fn a_comparison_leaves_three_files_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (out, store) = (dir.path().join("run"), "--store esker");
    let output =
        bench(&format!("--compare {store} fillrandom,open,readrandom --num 2000 --repeat 2 --out {}", out.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let report: Report = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(report.samples.len(), 6);
    assert!(report.settings.flush_after_load);
    let markdown = read("report.md");
    assert!(markdown.contains("\n| fillrandom | ") && markdown.contains("## Rows we lose"), "{markdown}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), markdown.trim_end());
    let page = read("report.html");
    assert!(page.contains("<svg ") && !page.contains("http") && !page.contains("<script"), "{page}");
}

#[test]
fn each_key_is_overwritten_ten_times_and_a_full_store_keeps_all_at_a_kill() {
    let report = report(&format!("sustained openkillfull --num {NUM} --threads 1,3 --memtable-mib 1"));
    let operations: Vec<_> = report.samples.iter().map(|sample| sample.operations).collect();
    assert_eq!(operations, [10 * NUM, 10 * NUM, 1, 1]);
    let [sustained, _, killed, _] = &report.samples[..] else { panic!("four samples") };
    assert!(sustained.write_amplification >= Some(1.0) && !sustained.is_cut_short);
    assert_eq!(killed.lost_entries, Some(0));
    assert_eq!(killed.live_bytes, 2 * sustained.live_bytes, "as many keys in the log as in tables");
}

#[test]
fn every_row_of_the_data_model_runs_and_checks_what_it_reads() {
    let all = Workload::value_variants().iter().filter(|workload| workload.is_of_model());
    let names: Vec<_> = all.clone().map(Workload::to_string).collect();
    // Several tables, and a range of them that is not whole.
    let num = 12_345;
    let with_tables = "--flush-after-load --memtable-mib 1 --durability memory --compression none --threads 3";
    for (settings, threads) in [("", 1), (with_tables, 3)] {
        let report = report(&format!("{} --num {num} {settings}", names.join(",")));
        let rows: usize =
            all.clone().map(|workload| if workload.is_over_a_hole() { State::HOLES.len() } else { 1 }).sum();
        assert_eq!(report.samples.len(), rows);
        for sample in &report.samples {
            let workload = sample.workload;
            assert_eq!(sample.operations, workload.operations(num, threads), "{workload}");
            assert!(!sample.is_cut_short && sample.seconds > 0.0, "{workload}");
            assert_eq!(sample.conflicts.is_some(), workload.conflicts(), "{workload}");
            assert_eq!(sample.write_amplification.is_some(), workload.writes(), "{workload}");
            assert_eq!(sample.latency.is_none(), workload.walks(), "{workload}");
        }
    }
}

#[test]
fn a_row_of_the_data_model_that_is_cut_short_leaves_what_it_counted() {
    let rows = "mergerandom transact deleteranges fillexpiring multiget compareandswap";
    let report = report(&format!("{rows} --num 300000 --seconds 0"));
    assert!(report.samples.iter().all(|sample| sample.is_cut_short), "{:?}", report.samples);
}

#[test]
fn keyspaces_that_could_do_more_are_rows_of_their_own() {
    let report = report(&format!(
        "fillrandom,readrandom,readseq,transact,readmerged --num {NUM} --keyspace plain,operator,beside,expiring"
    ));
    let names: Vec<_> = report.cases().iter().map(|case| case.to_string()).collect();
    let expected = ["fillrandom", "readrandom", "readseq", "transact"]
        .iter()
        .flat_map(|name| ["", ", operator", ", beside", ", expiring"].map(|state| format!("{name}{state}")))
        .chain(["readmerged".into()]);
    assert!(names.iter().cloned().eq(expected), "{names:?}");
}

/// Rows with little memory need a control group: where none can be made, they are named, with the reason.
#[test]
fn a_run_at_scale_keeps_its_data_from_row_to_row_and_leaves_no_row_out_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let output = bench(&format!("--scale --num 3000 --threads 1,2 --seconds 20 --out {}", out.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Report = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    let limited = |name: &str| name.contains("memory 64 MiB");
    let measured: Vec<_> = report.cases().iter().map(|case| case.to_string()).collect();
    let (in_group, others) = measured.iter().partition::<Vec<_>, _>(|name| limited(name));
    let expected = [
        "fillrandom",
        "fillrandom, 2 threads",
        "fillsync",
        "fillsync, 2 threads",
        "load",
        "readrandom",
        "readrandom, 2 threads",
        "readmissing",
        "seekrandom",
        "seek100",
        "readseq",
        "readreverse",
        "open",
        "readrandom, cache 8 MiB",
        "seekrandom, cache 8 MiB",
        "ycsba",
        "ycsba, 2 threads",
        "sustained",
        "openkillfull",
    ];
    assert_eq!(others, expected);
    assert_eq!(in_group.len() + report.not_run.len(), 4, "{:?}", report.not_run);
    assert!(
        report.not_run.iter().all(|line| limited(line) && line.contains("no control group")),
        "{:?}",
        report.not_run
    );
    let in_groups: Vec<_> = report.samples.iter().filter(|sample| matches!(sample.room, Room::LimitMib(_))).collect();
    assert_eq!(in_groups.len(), in_group.len());
    // Pages of the program and of files that others use are counted elsewhere: a megabyte is left.
    let within = |bytes: u64| bytes > 1 << 18 && bytes <= 64 << 20;
    assert!(in_groups.iter().all(|sample| sample.group_peak_bytes.is_none_or(within)));
    let markdown = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(
        markdown.starts_with("# Esker at scale, ") && markdown.contains("| sustained: worst stall | "),
        "{markdown}"
    );
    assert_eq!(markdown.matches("NOT RUN").count(), report.not_run.len());
}

#[test]
fn a_store_that_is_not_built_in_is_refused_with_what_to_do() {
    let all = ["fjall", "redb", "sled", "surrealkv", "rocksdb", "lmdb"];
    for store in all.into_iter().filter(|store| !StoreName::from_str(store, false).unwrap().is_built_in()) {
        let output = bench(&format!("fillseq --num 100 --store {store}"));
        assert!(!output.status.success());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(&format!("cargo xtask bench --store {store}")), "{message}");
    }
}

/// With the features `rivals` and `native`: as they are built, each store runs everything, and keeps at `kill -9` what it is said to keep.
#[test]
fn every_store_that_is_built_in_runs_every_workload() {
    for &store in StoreName::value_variants().iter().filter(|store| store.is_built_in()) {
        for settings in
            ["", "--durability sync --compression none", "--durability memory --threads 2 --value-bytes 5000"]
        {
            for (workloads, count) in [("", Workload::by_default().len()), ("sustained,openkillfull", 2)] {
                let report = report(&format!("{workloads} --store {store} --num 300 {settings}"));
                assert_eq!(report.samples.len(), count, "{store}");
            }
            // Those over a hole take a measurement for each state of it, and so are made under the usual settings alone.
            let is_made =
                |workload: &&Workload| workload.is_of_model() && (settings.is_empty() || !workload.is_over_a_hole());
            let of_model = Workload::value_variants().iter().filter(is_made);
            let names: Vec<_> = of_model.clone().map(Workload::to_string).collect();
            let states =
                |workload: &Workload| if workload.is_over_a_hole() { &State::HOLES[..] } else { &[State::Plain] };
            let rows =
                of_model.flat_map(|workload| states(workload).iter().map(move |state| store.has(*workload, *state)));
            let report = report(&format!("{} --store {store} --num 300 {settings}", names.join(",")));
            assert_eq!(report.samples.len(), rows.filter(|has| *has).count(), "{store}");
        }
    }
}
