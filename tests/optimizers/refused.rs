//! Settings that make no sense are refused when the step is recorded, with the setting, its value and what is possible.

use crate::{Drawn, Known};
use shadegrad::models::{Parameters, Schedule};
use shadegrad::prelude::*;
use shadegrad::train::data::drawn;

/// The error of a step with a rule and settings.
fn error(optimizer: impl Optimizer + 'static, settings: impl Fn(&mut Updater)) -> String {
    let model = Drawn::new(&[&[3], &[2, 2]]);
    let parameters = Parameters::new(&model, 0).unwrap();
    let known = Known::new(&parameters, 1);
    let mut updater = Updater::new(&parameters, optimizer);
    settings(&mut updater);
    updater.record(&known.graph, &parameters, &known.loss);
    let error = known.graph.nodes(&[]).unwrap_err().to_string();
    assert!(error.contains("refused.rs"), "{error}: the caller's line");
    error
}

fn scheduled(schedule: impl Schedule + Clone + 'static) -> String {
    error(Sgd::new(0.1), |updater| updater.schedule(schedule.clone()))
}

macro_rules! refused {
    ($($error:expr => $expected:expr;)*) => {$(
        let error: String = $error;
        assert!(error.contains($expected), "{}: {error}", stringify!($error));
    )*};
}

#[test]
fn optimizers_refuse_settings_that_make_no_sense() {
    let none = |_: &mut Updater| {};
    refused! {
        error(Sgd::new(-1.0), none) => "`lr` is -1: it must be finite and at least 0";
        error(Sgd::new(f64::NAN), none) => "`lr` is NaN";
        error(Sgd::new(0.1).weight_decay(f64::INFINITY), none) => "`weight_decay` is inf";
        error(Sgd::new(0.1).momentum(-0.5), none) => "`momentum` is -0.5";
        error(Sgd::new(0.1).dampening(f64::NAN), none) => "`dampening` is NaN: it must be finite";
        error(Sgd::new(0.1).nesterov(), none) =>
            "`nesterov` is true: it must be used with a momentum above 0 and a dampening of 0";
        error(Adam::new(0.1).betas(1.0, 0.9), none) =>
            "`betas.0` is 1: it must be at least 0 and less than 1";
        error(AdamW::new(0.1).betas(0.9, -0.1), none) => "`betas.1` is -0.1";
        error(Adam::new(0.1).eps(-1e-8), none) => "`eps` is -0.00000001";
        error(Adamax::new(0.1).betas(0.9, 1.5), none) => "`betas.1` is 1.5";
        error(NAdam::new(0.1).momentum_decay(-1.0), none) => "`momentum_decay` is -1";
        error(RAdam::new(0.1).betas(2.0, 0.9), none) => "`betas.0` is 2";
        error(Adagrad::new(0.1).lr_decay(-1.0), none) => "`lr_decay` is -1";
        error(Adagrad::new(0.1).initial_accumulator_value(-1.0), none) =>
            "`initial_accumulator_value` is -1";
        error(Adadelta::new(0.1).rho(1.0), none) => "`rho` is 1";
        error(RMSprop::new(0.1).alpha(1.0), none) => "`alpha` is 1";
        error(RMSprop::new(0.1).momentum(-1.0), none) => "`momentum` is -1";
        error(Rprop::new(0.1).etas(1.5, 1.2), none) =>
            "`etas.0` is 1.5: it must be above 0 and less than 1";
        error(Rprop::new(0.1).etas(0.5, 1.0), none) => "`etas.1` is 1";
        error(Rprop::new(0.1).step_sizes(2.0, 1.0), none) => "`step_sizes` is 2, 1";
        error(Asgd::new(0.1).lambd(-1.0), none) => "`lambd` is -1";
        error(Asgd::new(0.1).t0(-1.0), none) => "`t0` is -1";
        error(Lion::new(0.1).betas(0.9, 1.0), none) => "`betas.1` is 1";
        error(Lamb::new(0.1).eps(f64::NAN), none) => "`eps` is NaN";
        error(Adafactor::new(0.1).beta2_decay(0.5), none) => "`beta2_decay` is 0.5";
        error(Adafactor::new(0.1).d(0.0), none) => "`d` is 0: it must be finite and above 0";
        error(Adafactor::new(0.1).eps(0.0, 1e-3), none) => "`eps.0` is 0";
        error(Muon::new(0.1).momentum(1.0), none) => "`momentum` is 1";
        error(Muon::new(0.1).ns_steps(1000), none) => "`ns_steps` is 1000: it must be less than 100";
        error(Muon::new(0.1).ns_coefficients(f64::NAN, 1.0, 1.0), none) => "`ns_coefficients` is NaN";
        error(Muon::new(0.1).adamw_lr(-1.0), none) => "`adamw_lr` is -1";
        error(Muon::new(0.1).adamw_betas(0.9, 7.0), none) => "`betas.1` is 7";
    }
}

#[test]
fn updates_refuse_settings_that_make_no_sense() {
    let with = |settings: fn(&mut Updater)| error(Adam::new(0.1), settings);
    refused! {
        with(|u| u.clip_grad_norm(0.0)) => "`max_norm` is 0: it must be finite and above 0";
        with(|u| u.clip_grad_norm_of_type(1.0, 3.0)) => "`norm_type` is 3: it must be 1, 2 or infinity";
        with(|u| u.clip_grad_value(-1.0)) => "`clip_value` is -1";
        with(|u| u.l1_penalty(f64::NAN)) => "`l1_penalty` is NaN";
        with(|u| u.accumulate(0)) => "`accumulate` is 0: it must be at least 1";
        with(|u| u.ema(1.0)) => "`ema` is 1: it must be at least 0 and less than 1";
        with(|u| u.group(Group::prefix("p0").lr_multiplier(-1.0))) => "`lr_multiplier` is -1";
        with(|u| u.group(Group::prefix("p0").weight_decay(-1.0))) => "`weight_decay` is -1";
        with(|u| u.group(Group::prefix("p").frozen())) =>
            "`Group::prefix(\"p\")` is a group without parameters: it must be a group of any of `p0`, `p1`";
        with(|u| u.group(Group::matching(|_| false))) => "`Group::matching` is a group without parameters";
        with(|u| u.group(Group::prefix("").frozen())) => "`frozen` is said of every parameter";
    }
}

#[test]
fn schedules_refuse_settings_that_make_no_sense() {
    refused! {
        scheduled(StepLR::new(0)) => "`step_size` is 0: it must be at least 1";
        scheduled(StepLR::new(1).gamma(0.0)) => "`gamma` is 0: it must be finite and above 0";
        scheduled(MultiStepLR::new(&[1]).gamma(-1.0)) => "`gamma` is -1";
        scheduled(ExponentialLR::new(f64::INFINITY)) => "`gamma` is inf";
        scheduled(PolynomialLR::new(0)) => "`total_iters` is 0";
        scheduled(PolynomialLR::new(3).power(-1.0)) => "`power` is -1";
        scheduled(LinearLR::new(0)) => "`total_iters` is 0";
        scheduled(LinearLR::new(3).start_factor(-1.0)) => "`start_factor` is -1";
        scheduled(LinearLR::new(3).end_factor(f64::NAN)) => "`end_factor` is NaN";
        scheduled(ConstantLR::new(3).factor(-1.0)) => "`factor` is -1";
        scheduled(Noam::new(0, 10)) => "`d_model` is 0";
        scheduled(Noam::new(10, 0)) => "`warmup` is 0";
        scheduled(Cosine { steps: 3, floor: f64::NAN }) => "`floor` is NaN";
        scheduled(CosineAnnealingLR::new(0)) => "`T_max` is 0";
        scheduled(CosineAnnealingLR::new(3).eta_min(-1.0)) => "`eta_min` is -1";
        scheduled(CosineAnnealingWarmRestarts::new(0)) => "`T_0` is 0";
        scheduled(CosineAnnealingWarmRestarts::new(3).t_mult(0)) => "`T_mult` is 0";
        scheduled(CyclicLR::new(-1.0)) => "`max_factor` is -1";
        scheduled(CyclicLR::new(2.0).step_size_up(0)) => "`step_size_up` is 0";
        scheduled(CyclicLR::new(2.0).step_size_down(0)) => "`step_size_down` is 0";
        scheduled(OneCycleLR::new(1)) => "`total_steps` is 1: it must be at least 2";
        scheduled(OneCycleLR::new(9).pct_start(1.0)) => "`pct_start` is 1";
        scheduled(OneCycleLR::new(9).div_factor(0.0)) => "`div_factor` is 0";
        scheduled(OneCycleLR::new(9).final_div_factor(0.0)) => "`final_div_factor` is 0";
        scheduled(ReduceLROnPlateau::new().factor(1.0)) => "`factor` is 1";
        scheduled(ReduceLROnPlateau::new().threshold(2.0)) => "`threshold` is 2";
        scheduled(ReduceLROnPlateau::new().min_lr(-1.0)) => "`min_lr` is -1";
        scheduled(ReduceLROnPlateau::new().eps(f64::NAN)) => "`eps` is NaN";
        scheduled(ReduceLROnPlateau::new().every(0)) => "`every` is 0";
        scheduled(WarmUp { steps: 3, then: StepLR::new(0) }) => "`step_size` is 0";
        scheduled(SequentialLR::new(Constant, 3, StepLR::new(0))) => "`step_size` is 0";
    }
}

#[test]
fn a_trainer_takes_all_settings_and_reports_those_that_make_no_sense() {
    let device = Device::cpu(Some(1));
    let data = drawn::digits(20, 1);
    let trainer = |settings: fn(Trainer<Mlp>) -> Trainer<Mlp>| {
        let mlp = Mlp::new(&[784, 8, 10]);
        settings(Trainer::new(&device, mlp, CrossEntropy, AdamW::new(1e-3)).unwrap())
    };
    let mut good = trainer(|trainer| {
        trainer
            .schedule(WarmUp { steps: 2, then: CosineAnnealingLR::new(10) })
            .group(Group::prefix("layers.0").lr_multiplier(0.5))
            .group(Group::matching(|name| name.ends_with(".bias")).weight_decay(0.0))
            .l1_penalty(1e-5)
            .clip_grad_value(1.0)
            .clip_grad_norm_of_type(1.0, f64::INFINITY)
            .accumulate(2)
            .ema(0.9)
    });
    good.fit(&data, Fit::epochs(2).batch(5).quiet()).unwrap();
    let averages = good.updater().averages().into_iter().cloned().collect::<Vec<_>>();
    let found = good.session().read_array(&averages[0]).unwrap().data;
    assert_eq!(found.len(), good.parameters().count());
    let mut bad = trainer(|trainer| trainer.accumulate(0));
    let error = bad.fit(&data, Fit::epochs(1).batch(5).quiet()).unwrap_err().to_string();
    assert!(error.contains("`accumulate` is 0: it must be at least 1"), "{error}");
}
