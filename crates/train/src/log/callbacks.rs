//! Logs as callbacks of a fit.

use super::{CsvLog, TensorBoard};
use crate::{Answer, Callback, Control, Epoch, History, Scores};
use std::fmt::Display;

/// Loss and metrics of every step under `train/`, those of validations under `validation/`, and the samples a second.
impl Callback for TensorBoard {
    fn steps(&mut self, from: usize, history: &History) -> Answer {
        for step in from..history.losses.len() {
            self.scalar("train/loss", step + 1, history.losses[step])?;
            for (name, values) in &history.metrics {
                self.scalar(&format!("train/{name}"), step + 1, values[step])?;
            }
        }
        Ok(Control::Continue)
    }

    fn epoch(&mut self, epoch: &Epoch, history: &History) -> Answer {
        let step = history.losses.len();
        self.scalar("train/samples_per_second", step, epoch.samples_per_second as f32)?;
        if let Some(scores) = &epoch.validation {
            self.scalar("validation/loss", step, scores.loss as f32)?;
            for (name, value) in &scores.metrics {
                self.scalar(&format!("validation/{name}"), step, *value as f32)?;
            }
        }
        self.flush()?;
        Ok(Control::Continue)
    }
}

/// A row for each epoch.
impl Callback for CsvLog {
    fn epoch(&mut self, epoch: &Epoch, history: &History) -> Answer {
        let step = history.losses.len();
        let mut row: Row<'_> = vec![("epoch".into(), &epoch.number), ("step".into(), &step)];
        scores(&mut row, "", &epoch.train);
        if let Some(validation) = &epoch.validation {
            scores(&mut row, "validation_", validation);
        }
        row.push(("samples_per_second".into(), &epoch.samples_per_second));
        let row: Vec<(&str, &dyn Display)> = row.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        self.row(&row)?;
        self.flush()?;
        Ok(Control::Continue)
    }
}

/// A row's names and values.
type Row<'v> = Vec<(String, &'v dyn Display)>;

fn scores<'s>(row: &mut Row<'s>, prefix: &str, scores: &'s Scores) {
    row.push((format!("{prefix}loss"), &scores.loss));
    row.extend(scores.metrics.iter().map(|(name, value)| {
        let value: &dyn Display = value;
        (format!("{prefix}{name}"), value)
    }));
}
