//! Steps of optimizers with given gradients, and gradients clipped by norms of three types.

use crate::runner::{allowed, compare, strict};
use crate::train::Given;
use crate::vectors::{self, Case};
use serde_json::Value;
use shadegrad::device::{DType, Device};
use shadegrad::graph::{Array, Graph, Session, Tensor, Variable, check};
use shadegrad::models::{
    Adadelta, Adagrad, Adam, AdamW, Adamax, Asgd, NAdam, Parameters, RAdam, RMSprop, Rprop, Sgd,
    Updater, clip_grads_with_norm, get_total_norm,
};

/// The group of the index.
pub(crate) const GROUP: &str = "optim";

/// Computes every case on a device; returns what differs.
pub(crate) fn failures(device: &Device) -> Vec<String> {
    let mut failures = Vec::new();
    for case in vectors::load(GROUP) {
        let clips = case.op == "clip_grad_norm";
        let got = if clips { clipped(device, &case) } else { steps(device, &case) };
        for expected in &case.outputs {
            let found = got.iter().find(|(name, _)| *name == expected.name);
            let tolerance = if clips { strict(&expected.array) } else { allowed(expected, false) };
            let outcome = match found {
                Some((_, array)) => compare(array, expected, &tolerance),
                None => Err("it is not computed".to_string()),
            };
            if let Err(reason) = outcome {
                failures.push(format!("{} {}: {reason}", case.id, expected.name));
            }
        }
    }
    failures
}

/// Each parameter before the first step and after every step, one after the other.
fn steps(device: &Device, case: &Case) -> Vec<(String, Array)> {
    let model = Given::new(case);
    let parameters = Parameters::new(&model, 0).unwrap();
    let (seed, step) = (Variable::word("seed", 0), Variable::word("step", 0));
    let graph = Graph::training(&seed, &step);
    // The gradient of the sum of parameters times numbers is these numbers.
    let mut loss = graph.full(&[], DType::F32, 0.0);
    for ((name, _), parameter) in parameters.names().zip(parameters.tensors(&graph).concat()) {
        let (_, all) = case.inputs.iter().find(|(n, _)| *n == format!("grad.{name}")).unwrap();
        let all = graph.variable(&check::variable(name, all));
        let now = all.index_select(0, &graph.step().reshape(&[1])).squeeze(0);
        loss = loss + (parameter * now).sum_all();
    }
    updater(case, &parameters).record(&graph, &parameters, &loss);
    graph.assign(&step, &(graph.step() + 1.0));
    let mut session = Session::new(device);
    let mut loaded = session.compile(&graph, &[]).unwrap();
    let shapes = parameters.names().map(|(name, shape)| (name.to_string(), shape.to_vec()));
    let mut got: Vec<(String, Vec<usize>, Vec<f64>)> =
        shapes.map(|(name, shape)| (name, shape, vec![])).collect();
    let count = case.outputs[0].array.ty.shape[0];
    for number in 0..count {
        if number > 0 {
            loaded.run(1).unwrap();
        }
        let all = session.read_array(&parameters.shards()[0]).unwrap().data;
        let mut rest = all.as_slice();
        for (_, shape, data) in &mut got {
            let (own, others) = rest.split_at(shape.iter().product());
            data.extend(own);
            rest = others;
        }
    }
    let array = |(name, shape, data): (String, Vec<usize>, Vec<f64>)| {
        (name, Array::new(&[vec![count], shape].concat(), DType::F32, data))
    };
    got.into_iter().map(array).collect()
}

/// The optimizer that a case names, with its arguments.
fn updater(case: &Case, parameters: &Parameters) -> Updater {
    let attrs = &case.attrs;
    let number = |name: &str| attrs[name].as_f64().unwrap();
    let flag = |name: &str| attrs[name].as_bool().unwrap();
    let pair = |name: &str| {
        let of = |value: &Value| value.as_f64().unwrap();
        (of(&attrs[name][0]), of(&attrs[name][1]))
    };
    assert!(!flag("maximize"), "{}: no case maximises", case.id);
    let lr = number("lr");
    match case.op.as_str() {
        "sgd" | "sgd_momentum" | "sgd_nesterov" => {
            let sgd = Sgd::new(lr).momentum(number("momentum")).dampening(number("dampening"));
            let sgd = sgd.weight_decay(number("weight_decay"));
            Updater::new(parameters, if flag("nesterov") { sgd.nesterov() } else { sgd })
        }
        "adam" | "adam_amsgrad" => {
            let (first, second) = pair("betas");
            let adam = Adam::new(lr).betas(first, second).eps(number("eps"));
            let adam = adam.weight_decay(number("weight_decay"));
            Updater::new(parameters, if flag("amsgrad") { adam.amsgrad() } else { adam })
        }
        "adamw" => {
            let (first, second) = pair("betas");
            let adamw = AdamW::new(lr).betas(first, second).eps(number("eps"));
            Updater::new(parameters, adamw.weight_decay(number("weight_decay")))
        }
        "adamax" => {
            let (first, second) = pair("betas");
            let adamax = Adamax::new(lr).betas(first, second).eps(number("eps"));
            Updater::new(parameters, adamax.weight_decay(number("weight_decay")))
        }
        "nadam" => {
            let (first, second) = pair("betas");
            let nadam = NAdam::new(lr).betas(first, second).eps(number("eps"));
            let nadam = nadam.momentum_decay(number("momentum_decay"));
            Updater::new(parameters, nadam.weight_decay(number("weight_decay")))
        }
        "radam" => {
            let (first, second) = pair("betas");
            let radam = RAdam::new(lr).betas(first, second).eps(number("eps"));
            Updater::new(parameters, radam.weight_decay(number("weight_decay")))
        }
        "adagrad" => {
            let adagrad = Adagrad::new(lr)
                .lr_decay(number("lr_decay"))
                .initial_accumulator_value(number("initial_accumulator_value"))
                .eps(number("eps"));
            Updater::new(parameters, adagrad.weight_decay(number("weight_decay")))
        }
        "adadelta" => {
            let adadelta = Adadelta::new(lr).rho(number("rho")).eps(number("eps"));
            Updater::new(parameters, adadelta.weight_decay(number("weight_decay")))
        }
        "rmsprop" => {
            let rmsprop = RMSprop::new(lr).alpha(number("alpha")).eps(number("eps"));
            let rmsprop = rmsprop.momentum(number("momentum"));
            let rmsprop = rmsprop.weight_decay(number("weight_decay"));
            Updater::new(parameters, if flag("centered") { rmsprop.centered() } else { rmsprop })
        }
        "rprop" => {
            let ((minus, plus), (low, high)) = (pair("etas"), pair("step_sizes"));
            Updater::new(parameters, Rprop::new(lr).etas(minus, plus).step_sizes(low, high))
        }
        "asgd" => {
            let asgd = Asgd::new(lr).lambd(number("lambd")).alpha(number("alpha"));
            let asgd = asgd.t0(number("t0"));
            Updater::new(parameters, asgd.weight_decay(number("weight_decay")))
        }
        other => panic!("`{other}` has no optimizer"),
    }
}

/// Gradients clipped together, and their norm before.
fn clipped(device: &Device, case: &Case) -> Vec<(String, Array)> {
    let graph = Graph::new();
    let read = |(name, array): &(String, Array)| graph.variable(&check::variable(name, array));
    let gradients: Vec<Tensor> = case.inputs.iter().map(read).collect();
    let norm_type = case.attrs["norm_type"].as_str().unwrap().parse().unwrap();
    let total = get_total_norm(&graph, &gradients, norm_type);
    let max_norm = case.attrs["max_norm"].as_f64().unwrap();
    let mut outputs = clip_grads_with_norm(&gradients, max_norm, &total);
    outputs.push(total);
    let mut session = Session::new(device);
    let mut loaded = session.compile(&graph, &outputs.iter().collect::<Vec<_>>()).unwrap();
    loaded.run(1).unwrap();
    let names = case.inputs.iter().map(|(name, _)| name.as_str()).chain(["total"]);
    names.zip(0..).map(|(name, n)| (name.to_string(), loaded.read_array(n).unwrap())).collect()
}
