//! What published cases leave open of rules: the other direction, decoupled decay, averages, and what is remembered.

use crate::{Drawn, Known, given, harness};
use shadegrad::models::{Memory, Parameters};
use shadegrad::prelude::*;

#[test]
fn maximising_a_loss_is_minimising_its_negative() {
    macro_rules! same {
        ($($rule:expr),*) => {$(
            for (device, _) in harness::devices() {
                let run = |sign: f64, maximize: bool| {
                    let model = Drawn::new(&[&[6], &[2, 3]]);
                    let parameters = Parameters::new(&model, 0).unwrap();
                    let rule = if maximize { $rule.maximize() } else { $rule };
                    let known = Known::new(&parameters, 4);
                    let updater = Updater::new(&parameters, rule);
                    updater.record(&known.graph, &parameters, &(&known.loss * sign));
                    let mut session = Session::new(&device);
                    session.compile(&known.graph, &[]).unwrap().run(4).unwrap();
                    session.read(&parameters.shards()[0]).unwrap()
                };
                let name = stringify!($rule);
                assert_eq!(run(1.0, false), run(-1.0, true), "{name} on {}", device.info());
                assert_ne!(run(1.0, false), run(1.0, true), "{name} on {}", device.info());
            }
        )*};
    }
    same!(Sgd::new(0.1).weight_decay(0.1), AdamW::new(0.1), Rprop::new(0.1), Muon::new(0.1));
}

#[test]
fn decoupled_decay_shrinks_and_leaves_the_step_alone() {
    // With given gradients, steps don't depend on parameters: those of a run without decay.
    macro_rules! decoupled {
        ($($rule:expr),*) => {$(
            for (device, _) in harness::devices() {
                let run = |decay: f64| {
                    let model = Drawn::new(&[&[6]]);
                    let parameters = Parameters::new(&model, 0).unwrap();
                    let known = Known::new(&parameters, 8);
                    let rule = $rule.decoupled_weight_decay().weight_decay(decay);
                    Updater::new(&parameters, rule)
                        .record(&known.graph, &parameters, &known.loss);
                    let mut session = Session::new(&device);
                    let mut loaded = session.compile(&known.graph, &[]).unwrap();
                    let mut all = vec![session.read_array(&parameters.shards()[0]).unwrap().data];
                    for _ in 0..8 {
                        loaded.run(1).unwrap();
                        all.push(session.read_array(&parameters.shards()[0]).unwrap().data);
                    }
                    all
                };
                let (plain, shrunk) = (run(0.0), run(0.3));
                for i in 0..6 {
                    let mut x = plain[0][i];
                    for t in 1..=8 {
                        x = x * (1.0 - 0.05 * 0.3) + (plain[t][i] - plain[t - 1][i]);
                        // Numbers below two, of which each step rounds three, here and there.
                        let allowed = 6.0 * t as f64 * f64::from(f32::EPSILON);
                        let name = stringify!($rule);
                        let near = (shrunk[t][i] - x).abs() <= allowed;
                        assert!(near, "{name}: {} not {x} on {}", shrunk[t][i], device.info());
                    }
                }
            }
        )*};
    }
    decoupled!(NAdam::new(0.05), RAdam::new(0.05));
}

#[test]
fn the_averages_of_asgd_begin_after_t0() {
    for (device, _) in harness::devices() {
        let model = Drawn::new(&[&[6]]);
        let parameters = Parameters::new(&model, 0).unwrap();
        let known = Known::new(&parameters, 10);
        let updater = Updater::new(&parameters, Asgd::new(0.1).t0(4.0));
        updater.record(&known.graph, &parameters, &known.loss);
        let mut session = Session::new(&device);
        let mut loaded = session.compile(&known.graph, &[]).unwrap();
        let ax = updater.state().remove(0).variable;
        let mut expected = [0.0; 6];
        for t in 1..=10 {
            loaded.run(1).unwrap();
            let now = session.read_array(&parameters.shards()[0]).unwrap().data;
            let share = 1.0 / f64::max(1.0, f64::from(t) - 1.0 - 4.0);
            let found = session.read_array(&ax).unwrap().data;
            for ((expected, now), found) in expected.iter_mut().zip(now).zip(found) {
                *expected += (now - *expected) * share;
                // A difference, a quotient and a sum of numbers below two at each step.
                let allowed = 6.0 * f64::from(f32::EPSILON) * f64::from(t);
                assert!((found - *expected).abs() <= allowed, "step {t} on {}", device.info());
            }
        }
    }
}

#[test]
fn a_group_of_rprop_begins_with_its_own_step() {
    for (device, _) in harness::devices() {
        let model = Drawn::new(&[&[3], &[3]]);
        let parameters = Parameters::new(&model, 0).unwrap();
        let known = Known::new(&parameters, 1);
        let mut updater = Updater::new(&parameters, Rprop::new(0.1));
        updater.group(Group::prefix("p1").lr_multiplier(0.5));
        updater.record(&known.graph, &parameters, &known.loss);
        let mut session = Session::new(&device);
        let before = session.read_array(&parameters.shards()[0]).unwrap().data;
        session.compile(&known.graph, &[]).unwrap().run(1).unwrap();
        let after = session.read_array(&parameters.shards()[0]).unwrap().data;
        for (i, (before, after)) in before.iter().zip(after).enumerate() {
            let step = if i < 3 { 0.1 } else { 0.05 };
            assert!(((after - before).abs() - step).abs() < 1e-6, "on {}", device.info());
        }
    }
}

#[test]
fn what_is_remembered_has_names_and_initial_values() {
    let model = Drawn::new(&[&[2, 3], &[4]]);
    let parameters = Parameters::new(&model, 0).unwrap();
    macro_rules! remembers {
        ($($rule:expr => $expected:expr;)*) => {$(
            let mut session = Session::new(&Device::cpu(Some(1)));
            let state = Updater::new(&parameters, $rule).state();
            let found: Vec<(String, usize, f64)> = (state.iter())
                .map(|Memory { name, variable, .. }| {
                    let data = session.read_array(variable).unwrap().data;
                    assert!(data.iter().all(|v| *v == data[0]), "{name}");
                    (name.clone(), data.len(), data[0])
                })
                .collect();
            let expected: &[(&str, usize, f64)] = &$expected;
            let expected: Vec<(String, usize, f64)> = (expected.iter())
                .map(|&(name, count, value)| (format!("optimizer.0.{name}"), count, value))
                .collect();
            assert_eq!(found, expected, "{}", stringify!($rule));
        )*};
    }
    remembers! {
        Sgd::new(0.5) => [];
        Sgd::new(0.5).momentum(0.9) => [("momentum_buffer", 10, 0.0)];
        Adam::new(0.5) => [("exp_avg", 10, 0.0), ("exp_avg_sq", 10, 0.0)];
        AdamW::new(0.5).amsgrad() =>
            [("exp_avg", 10, 0.0), ("exp_avg_sq", 10, 0.0), ("max_exp_avg_sq", 10, 0.0)];
        Adamax::new(0.5) => [("exp_avg", 10, 0.0), ("exp_inf", 10, 0.0)];
        NAdam::new(0.5) => [("exp_avg", 10, 0.0), ("exp_avg_sq", 10, 0.0), ("mu_product", 1, 1.0)];
        RAdam::new(0.5) => [("exp_avg", 10, 0.0), ("exp_avg_sq", 10, 0.0)];
        Adagrad::new(0.5).initial_accumulator_value(0.25) => [("sum", 10, 0.25)];
        Adadelta::new(0.5) => [("square_avg", 10, 0.0), ("acc_delta", 10, 0.0)];
        RMSprop::new(0.5).momentum(0.9).centered() =>
            [("square_avg", 10, 0.0), ("momentum_buffer", 10, 0.0), ("grad_avg", 10, 0.0)];
        Rprop::new(0.5) => [("prev", 10, 0.0), ("step_size", 10, 0.5)];
        Asgd::new(0.5) => [("ax", 10, 0.0)];
        Lion::new(0.5) => [("exp_avg", 10, 0.0)];
        Lamb::new(0.5) => [("exp_avg", 10, 0.0), ("exp_avg_sq", 10, 0.0)];
        Adafactor::new(0.5) => [("row_var", 2, 0.0), ("col_var", 3, 0.0), ("variance", 4, 0.0)];
        Muon::new(0.5) =>
            [("momentum_buffer", 6, 0.0), ("exp_avg", 4, 0.0), ("exp_avg_sq", 4, 0.0)];
    }
    let model = Drawn::new(&[&[2, 3], &[4]]);
    let parameters = Parameters::sharded(&model, 0, 30).unwrap();
    let mut updater = Updater::new(&parameters, Sgd::new(0.1).momentum(0.9));
    updater.accumulate(2);
    updater.ema(0.9);
    updater.schedule(ReduceLROnPlateau::new());
    let names: Vec<String> = updater.state().into_iter().map(|memory| memory.name).collect();
    assert_eq!(
        names,
        [
            "optimizer.0.momentum_buffer",
            "gradient.0",
            "ema.0",
            "optimizer.1.momentum_buffer",
            "gradient.1",
            "ema.1",
            "schedule.0.observed",
            "schedule.1.best",
            "schedule.2.num_bad_epochs",
            "schedule.3.cooldown_counter",
            "schedule.4.factor"
        ]
    );
}

#[test]
fn lion_remembers_by_its_second_beta() {
    // Signs say little of what they are of.
    for (device, _) in harness::devices() {
        let model = Drawn::new(&[&[9]]);
        let parameters = Parameters::new(&model, 0).unwrap();
        let known = Known::new(&parameters, 5);
        let updater = Updater::new(&parameters, Lion::new(0.1).betas(0.9, 0.7));
        updater.record(&known.graph, &parameters, &known.loss);
        let mut session = Session::new(&device);
        session.compile(&known.graph, &[]).unwrap().run(5).unwrap();
        let found = session.read_array(&updater.state()[0].variable).unwrap().data;
        for (i, found) in found.into_iter().enumerate() {
            let gradients = (0..5).map(|t| f64::from(given(9, 0, t)[i]));
            let expected = gradients.fold(0.0, |average, g| 0.7 * average + 0.3 * g);
            // Two products and a sum of numbers below one at each of five steps.
            let near = (found - expected).abs() <= 15.0 * f64::from(f32::EPSILON);
            assert!(near, "{found}, not {expected}, on {}", device.info());
        }
    }
}

#[test]
fn defaults_are_those_of_pytorch_and_of_the_papers() {
    macro_rules! equal {
        ($($short:expr => $long:expr;)*) => {$(
            assert_eq!(format!("{:?}", $short), format!("{:?}", $long));
        )*};
    }
    equal! {
        Sgd::new(0.5) => Sgd::new(0.5).momentum(0.0).dampening(0.0).weight_decay(0.0);
        Adam::new(0.5) => Adam::new(0.5).betas(0.9, 0.999).eps(1e-8).weight_decay(0.0);
        AdamW::new(0.5) => AdamW::new(0.5).betas(0.9, 0.999).eps(1e-8).weight_decay(0.01);
        Adamax::new(0.5) => Adamax::new(0.5).betas(0.9, 0.999).eps(1e-8).weight_decay(0.0);
        NAdam::new(0.5) =>
            NAdam::new(0.5).betas(0.9, 0.999).eps(1e-8).momentum_decay(0.004).weight_decay(0.0);
        RAdam::new(0.5) => RAdam::new(0.5).betas(0.9, 0.999).eps(1e-8).weight_decay(0.0);
        Adagrad::new(0.5) => Adagrad::new(0.5)
            .lr_decay(0.0).initial_accumulator_value(0.0).eps(1e-10).weight_decay(0.0);
        Adadelta::new(0.5) => Adadelta::new(0.5).rho(0.9).eps(1e-6).weight_decay(0.0);
        RMSprop::new(0.5) =>
            RMSprop::new(0.5).alpha(0.99).eps(1e-8).momentum(0.0).weight_decay(0.0);
        Rprop::new(0.5) => Rprop::new(0.5).etas(0.5, 1.2).step_sizes(1e-6, 50.0);
        Asgd::new(0.5) => Asgd::new(0.5).lambd(1e-4).alpha(0.75).t0(1e6).weight_decay(0.0);
        Adafactor::new(0.5) => Adafactor::new(0.5)
            .beta2_decay(-0.8).eps(2f64.powi(-23), 1e-3).d(1.0).weight_decay(0.0);
        Muon::new(0.5) => Muon::new(0.5)
            .momentum(0.95).nesterov(true).ns_coefficients(3.4445, -4.775, 2.0315).eps(1e-7)
            .ns_steps(5).weight_decay(0.1).adamw_lr(3e-4).adamw_betas(0.9, 0.95).adamw_eps(1e-10);
        Lion::new(0.5) => Lion::new(0.5).betas(0.9, 0.99).weight_decay(0.0);
        Lamb::new(0.5) => Lamb::new(0.5).betas(0.9, 0.999).eps(1e-6).weight_decay(0.01);
        StepLR::new(3) => StepLR::new(3).gamma(0.1);
        MultiStepLR::new(&[3]) => MultiStepLR::new(&[3]).gamma(0.1);
        PolynomialLR::new(3) => PolynomialLR::new(3).power(1.0);
        LinearLR::new(3) => LinearLR::new(3).start_factor(1.0 / 3.0).end_factor(1.0);
        ConstantLR::new(3) => ConstantLR::new(3).factor(1.0 / 3.0);
        CosineAnnealingLR::new(3) => CosineAnnealingLR::new(3).eta_min(0.0);
        CosineAnnealingWarmRestarts::new(3) =>
            CosineAnnealingWarmRestarts::new(3).t_mult(1).eta_min(0.0);
        CyclicLR::new(3.0) => CyclicLR::new(3.0).step_size_up(2000);
        OneCycleLR::new(9) =>
            OneCycleLR::new(9).pct_start(0.3).div_factor(25.0).final_div_factor(1e4);
        ReduceLROnPlateau::new() => ReduceLROnPlateau::new()
            .factor(0.1).patience(10).threshold(1e-4).cooldown(0).min_lr(0.0).eps(1e-8);
    }
}

#[test]
fn parameters_without_numbers_are_no_trouble() {
    let shapes: [&[usize]; 5] = [&[0], &[4], &[0, 3], &[2, 3], &[2, 0, 3]];
    macro_rules! runs {
        ($($rule:expr),*) => {$(
            for (device, _) in harness::devices() {
                let model = Drawn::new(&shapes);
                let parameters = Parameters::new(&model, 0).unwrap();
                let known = Known::new(&parameters, 2);
                let mut updater = Updater::new(&parameters, $rule);
                updater.group(Group::prefix("p2").frozen());
                for norm_type in [2.0, f64::INFINITY] {
                    updater.clip_grad_norm_of_type(1.0, norm_type);
                    updater.record(&known.graph, &parameters, &known.loss);
                    let mut session = Session::new(&device);
                    let before = session.read_array(&parameters.shards()[0]).unwrap().data;
                    session.compile(&known.graph, &[]).unwrap().run(2).unwrap();
                    let after = session.read_array(&parameters.shards()[0]).unwrap().data;
                    let moved = before.iter().zip(&after).all(|(b, a)| a != b && a.is_finite());
                    assert!(moved, "{} on {}", stringify!($rule), device.info());
                }
            }
        )*};
    }
    runs!(AdamW::new(0.1), Lamb::new(0.1), Adafactor::new(0.1), Muon::new(0.1));
}
