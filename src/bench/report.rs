//! Measurements as a table, as lines of JSON, and beside those of another run or of other frameworks.

use super::{Measurement, Starts};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The measurements as a table.
pub fn table(measurements: &[Measurement]) -> String {
    let mut text = format!(
        "{:<20} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8} {:>8} {:>7} {:>9} {:>9} {:>9} {:>9}  device, sizes\n",
        "workload",
        "first ms",
        "cold",
        "warm",
        "median",
        "min",
        "floor",
        "disp.",
        "GFLOP",
        "GFLOP/s",
        "GB/s",
        "MB moved",
        "scratch",
        "variables",
        "resident"
    );
    for m in measurements {
        let start = |of: fn(&Starts) -> f64| {
            m.starts.as_ref().map_or("-".to_string(), |starts| format!("{:.1}", of(starts)))
        };
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let _ = writeln!(
            text,
            "{:<20} {:>9.1} {:>9} {:>9} {:>9.3} {:>9.3} {:>9.3} {:>6} {:>8.3} {:>8.1} {:>7.2} {:>9.1} {:>9} {:>9} {:>9}  {}, {}",
            m.workload,
            m.first,
            start(|starts| starts.cold),
            start(|starts| starts.warm),
            m.median,
            m.min,
            m.floor,
            m.counts.dispatches,
            m.counts.flops as f64 * 1e-9,
            m.gflops(),
            m.gbytes(),
            super::bytes(&m.counts) as f64 * 1e-6,
            megabytes(m.counts.scratch_bytes as u64),
            megabytes(m.variable_bytes as u64),
            m.resident_bytes.map_or("-".to_string(), megabytes),
            m.device,
            m.about
        );
    }
    for m in measurements.iter().filter(|m| !m.kernels.is_empty()) {
        let _ = writeln!(text, "\nkernels of {} on {}", m.workload, m.device);
        for kernel in &m.kernels {
            let _ = writeln!(text, "{:>10.4} ms  {}", kernel.milliseconds, kernel.label);
        }
    }
    text
}

/// The kernels of a step one after the other, as a trace for Perfetto or Chrome (the Trace Event Format): a process for each
/// device, a thread for each workload. Times are those of dispatches measured alone.
pub fn trace(measurements: &[Measurement]) -> String {
    let mut events = Vec::new();
    for m in measurements {
        let mut start = 0.0;
        for kernel in &m.kernels {
            let duration = kernel.milliseconds * 1e3;
            events.push(object!({
                "name": kernel.label, "ph": "X", "ts": start, "dur": duration,
                "pid": m.device, "tid": m.workload,
            }));
            start += duration;
        }
    }
    object!({ "traceEvents": events, "displayTimeUnit": "ms" }).to_string()
}

/// A measurement as one line of JSON.
pub fn json(m: &Measurement) -> String {
    object!({
        "peer": "shadegrad",
        "version": env!("CARGO_PKG_VERSION"),
        "workload": m.workload,
        "about": m.about,
        "adapter": m.device,
        "first_step_ms": m.first,
        "first_step_cold_ms": m.starts.map(|starts| starts.cold),
        "first_step_warm_ms": m.starts.map(|starts| starts.warm),
        "pipeline_bytes": m.starts.map(|starts| starts.pipeline_bytes),
        "ms_per_step_median": m.median,
        "ms_per_step_min": m.min,
        "floor_ms": m.floor,
        "product_gflops": m.rates.gflops,
        "copy_gbytes": m.rates.gbytes,
        "dispatches": m.counts.dispatches,
        "flop": m.counts.flops,
        "bytes": super::bytes(&m.counts),
        "scratch_bytes": m.counts.scratch_bytes,
        "live_bytes": m.lower_bound,
        "variable_bytes": m.variable_bytes,
        "resident_bytes": m.resident_bytes,
        "gflops": m.gflops(),
        "gbytes": m.gbytes(),
    })
    .to_string()
}

/// A measurement that was written by this or by another program.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who was measured.
    pub peer: String,
    /// The workload.
    pub workload: String,
    /// Median milliseconds of a step; `None` where it failed.
    pub median: Option<f64>,
    /// Milliseconds of the first step.
    pub first: Option<f64>,
    /// Milliseconds of the first step in a process that finds nothing compiled.
    pub cold: Option<f64>,
    /// And in one that finds all compiled.
    pub warm: Option<f64>,
}

impl Row {
    /// Somebody who gave no time.
    pub(super) fn failed(peer: &str, workload: &str) -> Row {
        let [peer, workload] = [peer, workload].map(str::to_string);
        Row { peer, workload, median: None, first: None, cold: None, warm: None }
    }
}

/// Reads lines of JSON with `peer`, `workload`, and what else a [`Row`] has under the names that [`json`] gives it; of several of
/// the same peer and workload the medians.
///
/// # Errors
/// The number of the line that isn't an object with a workload, and why, as text.
pub fn read(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = row(line).map_err(|reason| format!("line {}: {reason}", number + 1))?;
        rows.push(row);
    }
    Ok(medians(&rows))
}

/// One row for all of the same peer and workload, with the medians of what they have; the mean of the middle two of an even number.
pub(super) fn medians(rows: &[Row]) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    for row in rows {
        let same = |other: &&Row| (&other.peer, &other.workload) == (&row.peer, &row.workload);
        if all.iter().any(|other| same(&other)) {
            continue;
        }
        let median = |of: fn(&Row) -> Option<f64>| {
            let mut times: Vec<f64> = rows.iter().filter(same).filter_map(of).collect();
            times.sort_by(f64::total_cmp);
            let middle = times.len().checked_sub(1)?;
            Some((times[middle / 2] + times[middle.div_ceil(2)]) / 2.0)
        };
        all.push(Row {
            median: median(|row| row.median),
            first: median(|row| row.first),
            cold: median(|row| row.cold),
            warm: median(|row| row.warm),
            ..row.clone()
        });
    }
    all
}

/// Reads one line; why it isn't a measurement, as text.
pub(super) fn row(line: &str) -> Result<Row, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let word = |key: &str| {
        let word = value.get(key).and_then(Value::as_str).map(str::to_string);
        word.ok_or_else(|| format!("`{key}` is missing"))
    };
    let number = |key: &str| value.get(key).and_then(Value::as_f64);
    Ok(Row {
        peer: word("peer")?,
        workload: word("workload")?,
        median: number("ms_per_step_median"),
        first: number("first_step_ms"),
        cold: number("first_step_cold_ms"),
        warm: number("first_step_warm_ms"),
    })
}

/// Median milliseconds of each workload side by side: those of `ours` first, then each peer of `theirs` with how many
/// times as long it takes. First steps follow in the same way, where `ours` have them.
pub fn compare(ours: &[Row], theirs: &[Row]) -> String {
    let mut text = beside("ms per step", ours, theirs, |row| row.median);
    type Of = fn(&Row) -> Option<f64>;
    let firsts: [(&str, Of); 2] =
        [("first step, cold", |row| row.cold), ("first step, warm", |row| row.warm)];
    for (title, of) in firsts {
        let ours: Vec<Row> = ours.iter().filter(|row| of(row).is_some()).cloned().collect();
        if !ours.is_empty() {
            text += &format!("\n{}", beside(title, &ours, theirs, of));
        }
    }
    for row in theirs.iter().filter(|t| !ours.iter().any(|o| o.workload == t.workload)) {
        let _ = writeln!(text, "only measured for {}: {}", row.peer, row.workload);
    }
    text
}

/// Milliseconds of one kind side by side.
fn beside(title: &str, ours: &[Row], theirs: &[Row], of: fn(&Row) -> Option<f64>) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for row in theirs {
        if !columns.contains(&row.peer.as_str()) {
            columns.push(&row.peer);
        }
    }
    let found: BTreeMap<(&str, &str), &Row> =
        theirs.iter().map(|r| ((r.peer.as_str(), r.workload.as_str()), r)).collect();
    let mut text = format!("{title:<20} {:>12}", ours.first().map_or("", |r| &r.peer));
    for column in &columns {
        let _ = write!(text, " {column:>28}");
    }
    text.push('\n');
    for row in ours {
        let shown = |ms: Option<f64>| ms.map_or("failed".to_string(), |ms| format!("{ms:.3}"));
        let _ = write!(text, "{:<20} {:>12}", row.workload, shown(of(row)));
        for column in &columns {
            let cell = match found.get(&(*column, row.workload.as_str())) {
                None => "-".to_string(),
                Some(other) => match (of(other), of(row)) {
                    (Some(theirs), Some(ours)) => format!("{theirs:.3} ({:.2}x)", theirs / ours),
                    // Other times may have been measured of it than these.
                    (None, _) if other.median.is_some() => "-".to_string(),
                    (median, _) => shown(median),
                },
            };
            let _ = write!(text, " {cell:>28}");
        }
        text.push('\n');
    }
    text
}
