//! Other programs beside shadegrad: processes one after the other in rounds, so that what slows the machine down for a while slows
//! all of them down.

use super::Row;
use super::report::{medians, row};
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
    /// Runs shadegrad and the others for each workload in turn: our medians of all rounds, and theirs. `told` gets whatever line of
    /// JSON there is, as it comes, and why a program gave none.
    ///
    /// # Errors
    /// What the system says, or what shadegrad printed instead of a measurement, as text. That another program fails is a row without
    /// a time, unless it succeeds in another round.
    pub fn run(
        &self,
        workloads: &[&str],
        mut told: impl FnMut(Result<&str, &str>),
    ) -> Result<[Vec<Row>; 2], String> {
        if let Some(command) = self.others.iter().find(|command| !command.contains(PLACE)) {
            return Err(format!("`{command}` has no {PLACE} where the workload's name belongs"));
        }
        let mut ours = Vec::new();
        // Under the names that programs give themselves, as soon as they have.
        let mut theirs: Vec<(&String, Vec<Row>)> =
            self.others.iter().map(|command| (command, vec![])).collect();
        for _ in 0..self.rounds {
            for workload in workloads {
                let (line, row) = self.ours(workload)?;
                told(Ok(&line));
                ours.push(row);
                for (command, rows) in &mut theirs {
                    match line_of(&mut shell(&command.replace(PLACE, workload))) {
                        Ok((line, row)) => {
                            told(Ok(&line));
                            rows.iter_mut().for_each(|other| other.peer.clone_from(&row.peer));
                            rows.push(row);
                        }
                        Err(reason) => {
                            told(Err(&reason));
                            let name = rows.first().map_or(*command, |first| &first.peer);
                            rows.push(Row::failed(name, workload));
                        }
                    }
                }
            }
        }
        let theirs: Vec<Row> = theirs.into_iter().flat_map(|(_, rows)| rows).collect();
        Ok([ours, theirs].map(|rows| medians(&rows)))
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
