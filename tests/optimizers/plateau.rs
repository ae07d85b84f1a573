//! A schedule that looks at a metric: against PyTorch's procedure, fed by the host and by the steps.

use crate::{Drawn, Known, harness};
use shadegrad::models::{Parameters, Schedule};
use shadegrad::prelude::*;

#[derive(Clone, Copy)]
struct Settings {
    max: bool,
    absolute: bool,
    threshold: f64,
    patience: usize,
    cooldown: usize,
    min_lr: f64,
    eps: f64,
}

const SETTINGS: Settings = Settings {
    max: false,
    absolute: false,
    threshold: 0.1,
    patience: 1,
    cooldown: 0,
    min_lr: 0.0,
    eps: 1e-8,
};

impl Settings {
    fn schedule(self) -> ReduceLROnPlateau {
        let schedule = ReduceLROnPlateau::new().factor(0.5).patience(self.patience);
        let schedule = schedule.threshold(self.threshold).cooldown(self.cooldown);
        let schedule = schedule.min_lr(self.min_lr).eps(self.eps);
        let schedule = if self.max { schedule.max() } else { schedule };
        if self.absolute { schedule.absolute() } else { schedule }
    }

    /// The factor after each metric, by the procedure of PyTorch's `ReduceLROnPlateau.step`.
    fn factors(self, metrics: &[f64]) -> Vec<f64> {
        let (mut best, mut bad, mut waiting, mut lr): (Option<f64>, _, _, _) = (None, 0, 0, 1.0);
        let mut factors = Vec::new();
        for &metric in metrics {
            let is_better = |best: f64| match (self.max, self.absolute) {
                (false, false) => metric < best * (1.0 - self.threshold),
                (false, true) => metric < best - self.threshold,
                (true, false) => metric > best * (1.0 + self.threshold),
                (true, true) => metric > best + self.threshold,
            };
            if best.is_none_or(is_better) {
                (best, bad) = (Some(metric), 0);
            } else {
                bad += 1;
            }
            if waiting > 0 {
                (waiting, bad) = (waiting - 1, 0);
            }
            if bad > self.patience {
                let lower = f64::max(lr * 0.5, self.min_lr);
                lr = if lr - lower > self.eps { lower } else { lr };
                (waiting, bad) = (self.cooldown, 0);
            }
            factors.push(lr);
        }
        factors
    }
}

/// Metrics that fall, rise and stand still.
fn metrics(max: bool) -> Vec<f64> {
    let numbers = [
        5.0, 4.0, 3.9, 3.8, 3.0, 3.0, 3.0, 3.0, 2.0, 2.1, 1.95, 1.99, 1.0, 1.0, 1.2, 1.1, 1.3, 1.2,
        1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5,
    ];
    numbers.iter().map(|&v| if max { 6.0 - v } else { v }).collect()
}

fn cases() -> Vec<Settings> {
    let mut cases = Vec::new();
    for max in [false, true] {
        for absolute in [false, true] {
            let settings = Settings { max, absolute, ..SETTINGS };
            cases.push(settings);
            cases.push(Settings { patience: 2, cooldown: 3, ..settings });
            cases.push(Settings { patience: 0, min_lr: 0.2, ..settings });
            cases.push(Settings { patience: 0, eps: 0.1, cooldown: 1, ..settings });
        }
    }
    cases
}

/// A program whose step is nothing but the schedule.
fn program(schedule: &ReduceLROnPlateau, graph: &Graph) -> Tensor {
    schedule.check().unwrap();
    schedule.factor(&graph.step().to(DType::F32))
}

#[test]
fn what_the_host_reports_decides_the_next_step() {
    for (device, _) in harness::devices() {
        for settings in cases() {
            let schedule = settings.schedule();
            let graph = Graph::new();
            let factor = program(&schedule, &graph);
            let mut session = Session::new(&device);
            let mut loaded = session.compile(&graph, &[&factor]).unwrap();
            let metrics = metrics(settings.max);
            for (metric, expected) in metrics.iter().zip(settings.factors(&metrics)) {
                schedule.clone().report(&mut session, *metric).unwrap();
                // Steps without a report change nothing.
                for _ in 0..3 {
                    loaded.run(1).unwrap();
                    let got = loaded.read_array(0).unwrap().data[0];
                    assert_eq!(got as f32, expected as f32, "on {}", device.info());
                }
            }
        }
    }
}

#[test]
fn losses_of_steps_decide_by_their_mean() {
    for (device, _) in harness::devices() {
        for settings in cases() {
            let schedule = settings.schedule().every(4);
            let graph = Graph::training(&Variable::word("seed", 0), &Variable::word("step", 0));
            let factor = program(&schedule, &graph);
            let loss = Variable::new("loss", &[], DType::F32, Init::Full(0.0));
            schedule.observe(&graph.variable(&loss));
            let mut session = Session::new(&device);
            let mut loaded = session.compile(&graph, &[&factor]).unwrap();
            let metrics = metrics(settings.max);
            let factors = settings.factors(&metrics);
            for (number, metric) in metrics.iter().enumerate() {
                for difference in [0.5, -0.25, 0.25, -0.5] {
                    let loss_now = (metric + difference) as f32;
                    session.write(&loss, &loss_now.to_le_bytes()).unwrap();
                    loaded.run(1).unwrap();
                    let got = loaded.read_array(0).unwrap().data[0];
                    let expected = if number == 0 { 1.0 } else { factors[number - 1] };
                    assert_eq!(got as f32, expected as f32, "on {}", device.info());
                }
            }
        }
    }
}

#[test]
fn an_update_with_a_plateau_writes_nothing_from_the_host() {
    for (device, _) in harness::devices() {
        let model = Drawn::new(&[&[5]]);
        let parameters = Parameters::new(&model, 0).unwrap();
        let known = Known::new(&parameters, 60);
        let mut updater = Updater::new(&parameters, Sgd::new(0.1));
        let schedule = ReduceLROnPlateau::new().factor(0.5).patience(1).every(3);
        updater.schedule(WarmUp { steps: 2, then: schedule.clone() });
        updater.accumulate(2);
        updater.record(&known.graph, &parameters, &(&known.loss * 0.0 + 1.0));
        let mut session = Session::new(&device);
        let mut loaded = session.compile(&known.graph, &[]).unwrap();
        loaded.run(2).unwrap();
        session.device().synchronize().unwrap();
        let before = device.counters().writes;
        loaded.run(20).unwrap();
        session.device().synchronize().unwrap();
        assert_eq!(device.counters().writes, before, "on {}", device.info());
        let factor = schedule.state().into_iter().find(|v| v.name() == "factor").unwrap();
        // Losses of 22 steps are seven metrics of one, the first the best: three times two bad ones.
        let reached = session.read_array(&factor).unwrap().data[0];
        assert_eq!(reached, 0.125, "on {}", device.info());
    }
}

#[test]
fn a_metric_that_is_no_number_is_no_better() {
    for (device, _) in harness::devices() {
        let schedule = ReduceLROnPlateau::new().factor(0.5).patience(0);
        let graph = Graph::new();
        let factor = program(&schedule, &graph);
        let mut session = Session::new(&device);
        let mut loaded = session.compile(&graph, &[&factor]).unwrap();
        for (metric, expected) in [(1.0, 1.0), (f64::NAN, 0.5), (0.5, 0.5), (f64::INFINITY, 0.25)] {
            schedule.report(&mut session, metric).unwrap();
            loaded.run(1).unwrap();
            let got = loaded.read_array(0).unwrap().data[0];
            assert_eq!(got, expected, "after {metric} on {}", device.info());
        }
    }
}
