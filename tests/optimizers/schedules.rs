//! Schedules at steps that the published cases don't reach: restarts, cycles and milestones far out, ends and beyond,
//! settings at their limits.

use crate::harness;
use shadegrad::models::Schedule;
use shadegrad::prelude::*;
use std::f64::consts::PI;

/// Compares a schedule with a formula at some steps: four units in the last place of the largest factor.
fn agrees(name: &str, schedule: impl Schedule, steps: &[u32], formula: impl Fn(u32) -> f64) {
    for (device, _) in harness::devices() {
        let graph = Graph::new();
        let numbers: Vec<f32> = steps.iter().map(|&step| step as f32).collect();
        schedule.check().unwrap();
        let factor = schedule.factor(&graph.tensor(&[steps.len()], &numbers));
        let got = factor.eval(&device).unwrap().data;
        let expected: Vec<f64> = steps.iter().map(|&step| formula(step)).collect();
        let largest = expected.iter().fold(0f64, |largest, e| largest.max(e.abs()));
        let allowed = 4.0 * f64::from(f32::EPSILON) * largest;
        for ((step, got), expected) in steps.iter().zip(got).zip(expected) {
            let near = (got - expected).abs() <= allowed;
            assert!(near, "{name} at {step}: {got}, not {expected}, on {}", device.info());
        }
    }
}

fn first(count: u32) -> Vec<u32> {
    (0..count).collect()
}

/// Steps around multiples of a period, far out.
fn around(period: u32) -> Vec<u32> {
    let multiples = [1, 2, 3, 1001, 9_999, 123_457].map(|n| n * period);
    let near = |at: u32| [at - 1, at, at + 1];
    multiples.into_iter().filter(|at| *at < 1 << 24).flat_map(near).collect()
}

fn wave(share: f64) -> f64 {
    0.5 + 0.5 * (PI * share).cos()
}

#[test]
fn steps_fall_where_they_should_however_far_out() {
    for size in [1, 3, 7, 10, 49] {
        // A gamma so near one that many powers of it can be told from each other.
        let gamma = 0.9999f64;
        let formula = |step| gamma.powi((step / size) as i32);
        agrees("StepLR", StepLR::new(size as usize).gamma(gamma), &around(size), formula);
    }
    let falls = |step: u32| {
        let reached = [4, 9, 9, 30].iter().filter(|&&m| step >= m).count();
        0.5f64.powi(reached as i32)
    };
    agrees("MultiStepLR", MultiStepLR::new(&[9, 30, 4, 9]).gamma(0.5), &first(40), falls);
    agrees("no milestones", MultiStepLR::new(&[]), &first(3), |_| 1.0);
}

#[test]
fn restarts_and_cycles_begin_where_they_should_however_far_out() {
    for t_0 in [1, 3, 10] {
        let schedule = CosineAnnealingWarmRestarts::new(t_0 as usize).eta_min(0.1);
        let formula = |step| 0.1 + 0.9 * wave(f64::from(step % t_0) / f64::from(t_0));
        agrees("even restarts", schedule, &around(t_0), formula);
        for mult in [2, 3, 5] {
            let restarted = |step| {
                let (mut length, mut place) = (u64::from(t_0), u64::from(step));
                while place >= length {
                    place -= length;
                    length *= u64::from(mult);
                }
                wave(place as f64 / length as f64)
            };
            let mut steps = first(40);
            let (mut start, mut length) = (t_0, t_0);
            while start < 1 << 23 {
                steps.extend([start - 1, start, start + 1]);
                length *= mult;
                start += length;
            }
            let schedule = CosineAnnealingWarmRestarts::new(t_0 as usize).t_mult(mult as usize);
            agrees("longer restarts", schedule, &steps, restarted);
        }
    }
    let cycle = CyclicLR::new(4.0).step_size_up(3).step_size_down(7);
    let formula = |step: u32| {
        let place = f64::from(step % 10);
        1.0 + 3.0 * if place <= 3.0 { place / 3.0 } else { (10.0 - place) / 7.0 }
    };
    agrees("CyclicLR", cycle, &[first(25), around(10)].concat(), formula);
    let annealed = |step: u32| 0.2 + 0.8 * wave(f64::from(step % 18) / 9.0);
    let schedule = CosineAnnealingLR::new(9).eta_min(0.2);
    agrees("CosineAnnealingLR", schedule, &[first(25), around(9)].concat(), annealed);
}

#[test]
fn one_cycle_stays_at_its_end() {
    for (pct_start, linear) in [(0.3, true), (0.25, false), (0.0, false), (0.04, true)] {
        let schedule = OneCycleLR::new(25).pct_start(pct_start).div_factor(10.0);
        let schedule = schedule.final_div_factor(100.0);
        let schedule = if linear { schedule.linear() } else { schedule };
        let formula = |step: u32| {
            let (step, top) = (f64::from(step.min(24)), pct_start * 25.0 - 1.0);
            let along = |from: f64, to: f64, share: f64| match linear {
                true => from + (to - from) * share,
                false => to + (from - to) * wave(share),
            };
            match step <= top && top > 0.0 {
                true => along(0.1, 1.0, step / top),
                false => along(1.0, 0.001, (step - top) / (24.0 - top)),
            }
        };
        agrees("OneCycleLR", schedule, &[first(30), vec![1000]].concat(), formula);
    }
}

#[test]
fn others_keep_their_last_factor() {
    let linear = LinearLR::new(5);
    let formula = |step: u32| 1.0 / 3.0 + 2.0 / 3.0 * (f64::from(step) / 5.0).min(1.0);
    agrees("LinearLR", linear, &first(9), formula);
    let formula = |step: u32| (1.0 - (f64::from(step) / 6.0).min(1.0)).powf(0.9);
    agrees("PolynomialLR", PolynomialLR::new(6).power(0.9), &first(9), formula);
    agrees("ConstantLR", ConstantLR::new(2), &first(4), |t| if t < 2 { 1.0 / 3.0 } else { 1.0 });
    agrees("ExponentialLR", ExponentialLR::new(0.999), &[0, 1, 777, 5000, 100_000], |step| {
        0.999f64.powi(step as i32)
    });
    let formula = |step: u32| {
        let number = f64::from(step + 1);
        512f64.powf(-0.5) * number.powf(-0.5).min(number * 4000f64.powf(-1.5))
    };
    agrees("Noam", Noam::new(512, 4000), &[0, 1, 3998, 3999, 4000, 100_000], formula);
    let cosine = Cosine { steps: 4, floor: 0.1 };
    let formula = |step: u32| 0.1 + 0.9 * wave((f64::from(step) / 4.0).min(1.0));
    agrees("Cosine", cosine, &first(8), formula);
}

#[test]
fn schedules_follow_each_other_from_their_beginning() {
    let third = SequentialLR::new(ConstantLR::new(1).factor(0.5), 2, StepLR::new(2).gamma(0.5));
    let all = SequentialLR::new(LinearLR::new(4).start_factor(0.2), 3, third);
    let formula = |step: u32| match step {
        0..3 => 0.2 + 0.8 * f64::from(step) / 4.0,
        3 => 0.5,
        4 => 1.0,
        _ => 0.5f64.powi((step as i32 - 5) / 2),
    };
    agrees("SequentialLR", all, &first(12), formula);
    let warm = WarmUp { steps: 4, then: ExponentialLR::new(0.5) };
    let formula = |step: u32| match step {
        0..4 => f64::from(step + 1) / 4.0,
        _ => 0.5f64.powi(step as i32 - 4),
    };
    agrees("WarmUp", warm, &first(9), formula);
}
