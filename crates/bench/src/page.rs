//! The report as one page of HTML: no script, no font, no file beside it. Charts are SVG, laid out by hand: each row is a small chart of its own, since rows differ by three
//! orders of magnitude.

use crate::args::StoreName;
use crate::compare::{self, Cell, Figure, LEGEND, Row, Verdict};
use crate::meter::Latency;
use crate::plan::Case;
use crate::report::{Report, group_name, median, percent, short};
use std::fmt::{self, Write};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;color:#1c2430;max-width:1240px;margin:2em auto;padding:0 1em}\
h1{font-size:1.6em}h2{margin-top:2em;border-bottom:1px solid #ccd3dc}h3{margin:1.6em 0 .4em}\
table{border-collapse:collapse;font-size:13px}td,th{padding:3px 9px;border-bottom:1px solid #e3e7ec;text-align:right;white-space:nowrap}\
td:first-child,th:first-child,td:last-child{text-align:left}.scroll{overflow-x:auto}\
.lost{color:#b3261e;font-weight:600}.short{color:#8a6100}.met{color:#1e6b3a}\
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(390px,1fr));gap:14px}\
svg{width:100%;height:auto;border:1px solid #e3e7ec;border-radius:6px;background:#fff}\
svg text{font:12px system-ui,sans-serif;fill:#1c2430}svg .title{font-weight:600;font-size:13px}svg .dim{fill:#66707d}\
pre{font-size:12px;overflow-x:auto;background:#f6f8fa;padding:1em}";

const WIDTH: f64 = 400.0;
/// Where bars begin, behind the names of the stores, and how long the longest is: its value stands behind it.
const BAR_LEFT: f64 = 82.0;
const BAR_LENGTH: f64 = 185.0;
const LINE: f64 = 20.0;
const TOP: f64 = 46.0;

/// The page.
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write_page(report, &mut page);
    page
}

fn write_page(report: &Report, page: &mut String) -> fmt::Result {
    let (title, date) = (&report.title, &report.machine.date);
    write!(page, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}, {date}</title>")?;
    writeln!(page, "<meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>")?;
    writeln!(page, "<h1>{title}, {date}</h1>")?;
    writeln!(
        page,
        "<p><b>Machine</b>: {}.<br><b>Settings</b>: {}.<br>",
        escaped(&report.machine.line()),
        report.settings_line()
    )?;
    let versions: Vec<_> = report.versions.iter().map(|v| format!("{} {}", v.package, v.version)).collect();
    writeln!(page, "<b>Versions</b>: {}.</p>\n<p>{}</p>", escaped(&versions.join(", ")), escaped(LEGEND))?;
    write_lost(report, page)?;
    for line in report.missing() {
        writeln!(page, "<p class=\"lost\">{}.</p>", escaped(&line))?;
    }
    for group in report.groups() {
        writeln!(page, "<h2>With {}</h2>", group_name(&group))?;
        let rows = compare::rows(report, &group);
        write_table(report, &rows, page)?;
        let charts = [
            ("Throughput", Figure::Throughput),
            ("Opening", Figure::OpenTime),
            ("p99.9", Figure::P999),
            ("Worst stall", Figure::WorstStall),
            ("Write amplification", Figure::WriteAmplification),
            ("Space amplification", Figure::SpaceAmplification),
            ("Memory", Figure::PeakMemory),
        ];
        for (name, figure) in charts {
            let of_figure: Vec<_> = rows.iter().filter(|row| row.figure == figure).collect();
            if !of_figure.is_empty() {
                writeln!(page, "<h3>{name}</h3>\n<div class=\"charts\">")?;
                of_figure.into_iter().try_for_each(|row| write_bars(row, page))?;
                writeln!(page, "</div>")?;
            }
            if figure == Figure::Throughput {
                write_latencies(report, &group, page)?;
            }
        }
        writeln!(
            page,
            "<details><summary>Every figure</summary><pre>{}</pre></details>",
            escaped(&report.table(&group))
        )?;
    }
    writeln!(page, "</body></html>")
}

fn write_lost(report: &Report, page: &mut String) -> fmt::Result {
    let lost = compare::lost(report);
    writeln!(page, "<h2>Rows we lose</h2>")?;
    if lost.is_empty() {
        return writeln!(page, "<p>{}</p>", compare::none_lost(report));
    }
    writeln!(page, "<table><tr><th>row<th>esker<th>best rival<th>: best<th></tr>")?;
    for (group, row) in &lost {
        let Some((ours, best)) = row.cell(StoreName::Esker).zip(row.best_rival()) else { continue };
        let show = |cell: &Cell| format!("{}{}", row.figure.show(cell.value), compare::marks(cell));
        let noise = if row.is_within_noise() { "within noise" } else { "" };
        let (title, ratio) = (row.title(), row.ratio(best).unwrap_or_default());
        writeln!(
            page,
            "<tr><td>{title} ({group})<td>{}<td>{} {}<td class=\"lost\">{ratio:.2}<td>{noise}</tr>",
            show(ours),
            best.store,
            show(best)
        )?;
    }
    writeln!(page, "</table>")
}

fn write_table(report: &Report, rows: &[Row], page: &mut String) -> fmt::Result {
    let stores = report.stores();
    write!(page, "<div class=\"scroll\"><table><tr><th>row")?;
    stores.iter().try_for_each(|store| write!(page, "<th>{store}"))?;
    writeln!(page, "<th>: RocksDB<th>: best<th>goal<th>verdict</tr>")?;
    for row in rows {
        write!(page, "<tr><td>{}", row.title())?;
        for store in &stores {
            match row.cell(*store) {
                Some(cell) => {
                    let spread = cell.spread.map(|part| format!(" ({})", percent(part))).unwrap_or_default();
                    write!(page, "<td>{}{}{spread}", row.figure.show(cell.value), compare::marks(cell))?;
                }
                None => write!(page, "<td>-")?,
            }
        }
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
        let best = ratio(row.best_rival().and_then(|best| row.ratio(best)));
        let (rocksdb, goal) = (ratio(row.ratio_to_rocksdb()), row.goal_text());
        let (class, verdict) = (class(row.verdict()), row.verdict_text());
        writeln!(page, "<td>{rocksdb}<td>{best}<td>{goal}<td class=\"{class}\">{verdict}</tr>")?;
    }
    writeln!(page, "</table></div>")
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Lost => "lost",
        Verdict::Short => "short",
        Verdict::Met => "met",
        Verdict::Alone => "",
    }
}

fn color(store: StoreName) -> &'static str {
    match store {
        StoreName::Esker => "#d9480f",
        StoreName::RocksDb => "#3b5b92",
        StoreName::Lmdb => "#5f7fb8",
        StoreName::Fjall => "#4f8a8b",
        StoreName::Redb => "#7a6ba8",
        StoreName::Sled => "#9a8c7a",
        StoreName::SurrealKv => "#8f6b82",
    }
}

/// The frame of a chart of `lines` stores, with its two titles.
fn write_frame(lines: usize, title: &str, below: &str, page: &mut String) -> fmt::Result {
    let height = TOP + LINE * lines as f64 + 8.0;
    writeln!(page, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">")?;
    writeln!(
        page,
        "<text class=\"title\" x=\"8\" y=\"18\">{title}</text><text class=\"dim\" x=\"8\" y=\"35\">{below}</text>"
    )
}

/// A bar for each store, from 0; a thin line over its end shows how far the repetitions lie apart.
fn write_bars(row: &Row, page: &mut String) -> fmt::Result {
    let better = if row.figure == Figure::Throughput { "more is better" } else { "less is better" };
    write_frame(row.cells.len(), &row.title(), &format!("{}, {better}; {}", row.figure, row.verdict_text()), page)?;
    let longest = row.cells.iter().map(|cell| cell.value).fold(f64::MIN_POSITIVE, f64::max);
    for (nth, cell) in row.cells.iter().enumerate() {
        let y = TOP + LINE * nth as f64;
        let length = BAR_LENGTH * cell.value / longest;
        let end = BAR_LEFT + length;
        writeln!(page, "<text x=\"8\" y=\"{:.0}\">{}</text>", y + 12.0, cell.store)?;
        writeln!(
            page,
            "<rect x=\"{BAR_LEFT}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"15\" fill=\"{}\"/>",
            color(cell.store)
        )?;
        let half = length * cell.spread.unwrap_or(0.0) / 2.0;
        if half > 0.5 {
            let (left, right, middle) = ((end - half).max(BAR_LEFT), end + half, y + 7.5);
            writeln!(page, "<path d=\"M{left:.1} {middle:.1}H{right:.1}\" stroke=\"#1c2430\" stroke-width=\"1.2\"/>")?;
        }
        let (x, value) = (end + half + 6.0, row.figure.show(cell.value));
        // What overshoots would be cut off.
        let x = x.min(WIDTH - 66.0);
        writeln!(page, "<text x=\"{x:.1}\" y=\"{:.0}\">{value}{}</text>", y + 12.0, compare::marks(cell))?;
    }
    writeln!(page, "</svg>")
}

/// From p50 to p99.9 of each store, on a logarithmic scale, with a tick at p99.
fn write_latencies(report: &Report, group: &[Case], page: &mut String) -> fmt::Result {
    writeln!(page, "<h3>Latency</h3>\n<div class=\"charts\">")?;
    for &case in group.iter().filter(|case| !case.workload.opens()) {
        let latencies: Vec<_> =
            report.stores().into_iter().filter_map(|store| Some((store, latency(report, case, store)?))).collect();
        if latencies.is_empty() {
            continue;
        }
        write_frame(
            latencies.len(),
            &case.to_string(),
            "us: p50, p99 (tick), p99.9; logarithmic, less is better",
            page,
        )?;
        let all = || latencies.iter().flat_map(|(_, latency)| [latency.p50_us, latency.p999_us]);
        let least = all().fold(f64::INFINITY, f64::min).max(0.001).ln() - 0.1;
        let most = all().fold(0.001, f64::max).ln() + 0.1;
        let x = |us: f64| BAR_LEFT + BAR_LENGTH * (us.max(0.001).ln() - least) / (most - least);
        for (nth, (store, latency)) in latencies.iter().enumerate() {
            let y = TOP + LINE * nth as f64;
            let (p50, p99, p999) = (x(latency.p50_us), x(latency.p99_us), x(latency.p999_us));
            let (middle, color) = (y + 7.5, color(*store));
            writeln!(page, "<text x=\"8\" y=\"{:.0}\">{store}</text>", y + 12.0)?;
            writeln!(
                page,
                "<path d=\"M{p50:.1} {middle:.1}H{p999:.1}M{p99:.1} {:.1}v10\" stroke=\"{color}\" stroke-width=\"3\"/>",
                y + 2.5
            )?;
            writeln!(page, "<circle cx=\"{p50:.1}\" cy=\"{middle:.1}\" r=\"5\" fill=\"{color}\"/>")?;
            let values = [latency.p50_us, latency.p99_us, latency.p999_us].map(compact).join(" · ");
            writeln!(page, "<text x=\"{:.0}\" y=\"{:.0}\">{values}</text>", BAR_LEFT + BAR_LENGTH + 8.0, y + 12.0)?;
        }
        writeln!(page, "</svg>")?;
    }
    writeln!(page, "</div>")
}

/// Medians of the percentiles of the repetitions.
fn latency(report: &Report, case: Case, store: StoreName) -> Option<Latency> {
    let latencies: Vec<_> = report.samples(case, store).iter().filter_map(|sample| sample.latency).collect();
    let median_of = |field: fn(&Latency) -> f64| median(latencies.iter().map(field).collect());
    Some(Latency {
        p50_us: median_of(|latency| latency.p50_us)?,
        p99_us: median_of(|latency| latency.p99_us)?,
        p999_us: median_of(|latency| latency.p999_us)?,
        max_us: median_of(|latency| latency.max_us)?,
    })
}

/// Microseconds in five characters at most: three of them stand behind a bar.
fn compact(us: f64) -> String {
    match us {
        us if us < 1e3 => short(us),
        us if us < 1e6 => format!("{}k", short(us / 1e3)),
        us => format!("{}M", short(us / 1e6)),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
