//! Other programs beside shadegrad: processes one after the other in rounds, so that what slows the machine down for a while slows
//! all of them down.

use super::{Row, report::row};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Where a command has the name of the workload.
const PLACE: &str = "{}";

/// What is run in turn.
#[derive(Clone, Debug)]
pub struct Beside<'a> {
    /// The path of the command `shadegrad`, and what it gets besides `bench` and the workload.
    pub shadegrad: (&'a Path, Vec<String>),
    /// Commands for the system's shell, with `{}` for the workload. Each prints a line of JSON, as [`super::read`] takes it.
    pub others: &'a [String],
    /// How often all are run.
    pub rounds: usize,
}

impl Beside<'_> {
    /// Runs shadegrad and the others for each workload in turn: our medians and theirs, each the median of all rounds. `told` gets
    /// whatever line of JSON there is, as it comes, and why a program gave none.
    ///
    /// # Errors
    /// What the system says, or what shadegrad printed instead of a measurement, as text. That another program fails is a row without
    /// a time.
    pub fn run(
        &self,
        workloads: &[&str],
        mut told: impl FnMut(Result<&str, &str>),
    ) -> Result<[Vec<Row>; 2], String> {
        if let Some(command) = self.others.iter().find(|command| !command.contains(PLACE)) {
            return Err(format!("`{command}` has no {PLACE} where the workload's name belongs"));
        }
        let mut names: Vec<String> = self.others.to_vec();
        let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
        for _ in 0..self.rounds {
            for workload in workloads {
                let (line, row) = self.ours(workload)?;
                told(Ok(&line));
                ours.push(row);
                for (command, name) in self.others.iter().zip(&mut names) {
                    match line_of(&mut shell(&command.replace(PLACE, workload))) {
                        Ok((line, row)) => {
                            told(Ok(&line));
                            name.clone_from(&row.peer);
                            theirs.push(row);
                        }
                        Err(reason) => {
                            told(Err(&reason));
                            theirs.push(Row::failed(name, workload));
                        }
                    }
                }
            }
        }
        Ok([ours, theirs].map(medians))
    }

    /// Our own line.
    fn ours(&self, workload: &str) -> Result<(String, Row), String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let file = folder.path().join("measured.json");
        let (path, arguments) = &self.shadegrad;
        let mut command = Command::new(path);
        command.args(["bench", workload]).args(arguments);
        command.args([OsStr::new("--json"), file.as_os_str()]);
        let output = command.output().map_err(|e| e.to_string())?;
        let line = std::fs::read_to_string(&file).unwrap_or_default();
        let line = line.trim();
        match row(line) {
            Ok(row) => Ok((line.to_string(), row)),
            Err(_) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// The system's shell with a command.
fn shell(command: &str) -> Command {
    let (program, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut shell = Command::new(program);
    shell.args([option, command]);
    shell
}

/// The last line that is a measurement, or why there is none.
fn line_of(command: &mut Command) -> Result<(String, Row), String> {
    let output = command.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().rev().find_map(|line| Some((line.to_string(), row(line).ok()?)));
    found.ok_or_else(|| {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = error.lines().chain(text.lines()).rfind(|line| !line.trim().is_empty());
        format!("{}: {}", output.status, last.unwrap_or("nothing was printed"))
    })
}

/// One row for all of the same program and workload, with the median of those that have a time.
fn medians(rows: Vec<Row>) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    for row in &rows {
        let same = |other: &&Row| (&other.peer, &other.workload) == (&row.peer, &row.workload);
        if all.iter().any(|other| same(&other)) {
            continue;
        }
        let mut times: Vec<f64> = rows.iter().filter(same).filter_map(|row| row.median).collect();
        times.sort_by(f64::total_cmp);
        all.push(Row { median: times.get(times.len() / 2).copied(), ..row.clone() });
    }
    all
}
