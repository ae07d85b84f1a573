//! What the training loop costs beside the step: loader threads, logs, checkpoints.

use crate::prelude::*;
use crate::train::data::drawn;
use crate::train::{Answer, Callback, Checkpoints, Control, History, Streaming, TrainError};
use shadegrad_graph::GraphError;
use std::cell::RefCell;
use std::fmt::Write;
use std::time::Instant;

/// Samples of a step of the CNN.
const BATCH: usize = 64;

/// Rounds in which all ways take turns.
const ROUNDS: usize = 9;

/// A way to train, and the milliseconds of a step in several rounds.
#[derive(Clone, Debug)]
pub struct Overhead {
    /// What is done besides.
    pub way: &'static str,
    /// Median.
    pub median: f64,
    /// Smallest: what disturbed the machine least.
    pub min: f64,
}

/// Notes when the host sees the first steps, which compiling comes before, and the last.
#[derive(Default)]
struct Watch(RefCell<Vec<(Instant, usize)>>);

impl Watch {
    fn milliseconds(&self) -> f64 {
        match self.0.borrow()[..] {
            [(first, from), .., (last, to)] => {
                (last - first).as_secs_f64() * 1e3 / (to - from).max(1) as f64
            }
            _ => f64::NAN,
        }
    }
}

impl Callback for &Watch {
    fn steps(&mut self, _: usize, history: &History) -> Answer {
        self.0.borrow_mut().push((Instant::now(), history.losses.len()));
        Ok(Control::Continue)
    }
}

/// Measures the MNIST CNN's step alone, and in a fit with each of what a fit can have; all write to `folder`.
///
/// # Errors
/// What training or writing reports; [`TrainError::Setting`] for a null device, which computes nothing that could be kept.
pub fn overhead(
    device: &Device,
    seconds: f64,
    folder: &std::path::Path,
) -> Result<Vec<Overhead>, TrainError> {
    if device.info().name.starts_with("null:") {
        return Err(TrainError::Setting {
            what: "the device whose training loop is measured",
            value: device.info().to_string(),
            expected:
                "one that computes, or its checkpoints hold nothing: `shadegrad devices` lists them"
                    .to_string(),
        });
    }
    let data = drawn::digits(64 * BATCH, 1);
    let statistics = data.statistics();
    let new = || Trainer::new(device, Cnn::new(data.shape(), 10), CrossEntropy, Adam::new(1e-3));
    // As many steps as take about the asked time.
    let mut trainer = new()?;
    let mut course = trainer.start(&data, BATCH)?;
    let mut alone = |steps: usize| -> Result<f64, TrainError> {
        let clock = Instant::now();
        trainer.advance(&mut course, steps, &mut Default::default())?;
        device.synchronize().map_err(GraphError::from)?;
        Ok(clock.elapsed().as_secs_f64())
    };
    alone(2)?;
    let steps = ((seconds / ROUNDS as f64) / (alone(4)? / 4.0)).clamp(4.0, 1e6) as usize;
    let fit = || Fit::epochs(steps).batch(BATCH).steps(steps).quiet();
    let logged = |fit: Fit<'static>, round: usize| -> Result<Fit<'static>, TrainError> {
        let callback = |error: crate::train::LogError| TrainError::Callback(error.into());
        let log = CsvLog::open(folder.join(format!("{round}.csv"))).map_err(callback)?;
        Ok(fit.callback(log).callback(TensorBoard::create(folder).map_err(callback)?))
    };
    let streamed = || {
        let streaming = Streaming::new(data.clone());
        statistics.map_or(Streaming::new(data.clone()), |s| streaming.normalised(s))
    };
    let checkpoints = || Checkpoints::new(folder.join("checkpoints")).every_steps(200);
    let mut times = vec![vec![]; 5];
    for round in 0..ROUNDS {
        times[0].push(alone(steps)? * 1e3 / steps as f64);
        let mut timed = |way: usize, data: &dyn Dataset, fit: Fit<'_>| -> Result<(), TrainError> {
            let watch = Watch::default();
            new()?.fit(data, fit.callback(&watch))?;
            times[way].push(watch.milliseconds());
            Ok(())
        };
        timed(1, &data, fit())?;
        timed(2, &streamed(), fit())?;
        timed(3, &data, logged(fit(), round)?)?;
        timed(4, &data, fit().checkpoints(checkpoints()))?;
    }
    let ways = [
        "the step alone",
        "fit",
        "fit, streamed by threads",
        "fit, logged to CSV and TensorBoard",
        "fit, a checkpoint every 200 steps",
    ];
    Ok(ways
        .into_iter()
        .zip(times)
        .map(|(way, mut times)| {
            times.sort_by(f64::total_cmp);
            Overhead { way, median: times[times.len() / 2], min: times[0] }
        })
        .collect())
}

/// The measurements as a table, each beside the first.
pub fn overheads(measured: &[Overhead]) -> String {
    let mut text = format!("{:<36} {:>9} {:>9} {:>9}\n", "ms of a step", "median", "min", "of min");
    let base = measured.first().map_or(f64::NAN, |first| first.min);
    for Overhead { way, median, min } in measured {
        let more = (min / base - 1.0) * 100.0;
        let _ = writeln!(text, "{way:<36} {median:>9.3} {min:>9.3} {more:>+7.1} %");
    }
    text
}
