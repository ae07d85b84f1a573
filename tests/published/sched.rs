//! Sixty steps of schedules: the rate that each step uses.

use crate::runner::{compare, strict};
use crate::vectors::{self, Case};
use shadegrad::device::{DType, Device};
use shadegrad::graph::{Array, Graph, Session, Tensor, Variable, check};
use shadegrad::models::{
    ConstantLR, CosineAnnealingLR, CosineAnnealingWarmRestarts, CyclicLR, ExponentialLR, LinearLR,
    MultiStepLR, Noam, OneCycleLR, PolynomialLR, ReduceLROnPlateau, Schedule, SequentialLR, StepLR,
};

/// The group of the index.
pub(crate) const GROUP: &str = "sched";

/// Computes every case on a device; returns what differs.
pub(crate) fn failures(device: &Device) -> Vec<String> {
    let mut failures = Vec::new();
    for case in vectors::load(GROUP) {
        for expected in &case.outputs {
            let array = rates(device, &case);
            if let Err(reason) = compare(&array, expected, &strict(&expected.array)) {
                failures.push(format!("{} {}: {reason}", case.id, expected.name));
            }
        }
    }
    failures
}

/// The rate of every step.
fn rates(device: &Device, case: &Case) -> Array {
    let count = case.outputs[0].array.ty.shape[0];
    let (schedule, base) = schedule(case);
    let step = Variable::word("step", 0);
    let graph = Graph::training(&Variable::word("seed", 0), &step);
    let rate = schedule.factor(&graph.step().to(DType::F32)) * base;
    schedule.observe(&metric(&graph, case));
    graph.assign(&step, &(graph.step() + 1.0));
    let mut session = Session::new(device);
    let mut loaded = session.compile(&graph, &[&rate]).unwrap();
    let mut data = Vec::new();
    for _ in 0..count {
        loaded.run(1).unwrap();
        data.push(loaded.read_array(0).unwrap().data[0]);
    }
    Array::new(&[count], DType::F32, data)
}

/// The metric of this step, where a case has one: a schedule that remembers sees it before the next
/// step.
fn metric(graph: &Graph, case: &Case) -> Tensor {
    match case.inputs.iter().find(|(name, _)| name == "metric") {
        Some((name, all)) => {
            let all = graph.variable(&check::variable(name, all));
            all.index_select(0, &graph.step().reshape(&[1])).squeeze(0)
        }
        None => graph.full(&[], DType::F32, 0.0),
    }
}

/// The schedule that a case names with its arguments, and the rate that its factors are of.
fn schedule(case: &Case) -> (Box<dyn Schedule>, f64) {
    let number = |name: &str| case.attrs[name].as_f64().unwrap();
    let count = |name: &str| case.attrs[name].as_u64().unwrap() as usize;
    let base = number("base_lr");
    let schedule: Box<dyn Schedule> = match case.op.as_str() {
        "lr_step" => Box::new(StepLR::new(count("step_size")).gamma(number("gamma"))),
        "lr_multistep" => {
            let milestones = case.attrs["milestones"].as_array().unwrap().iter();
            let milestones: Vec<usize> =
                milestones.map(|step| step.as_u64().unwrap() as usize).collect();
            Box::new(MultiStepLR::new(&milestones).gamma(number("gamma")))
        }
        "lr_exponential" => Box::new(ExponentialLR::new(number("gamma"))),
        "lr_cosine" => {
            Box::new(CosineAnnealingLR::new(count("T_max")).eta_min(number("eta_min") / base))
        }
        "lr_cosine_restarts" => Box::new(
            CosineAnnealingWarmRestarts::new(count("T_0"))
                .t_mult(count("T_mult"))
                .eta_min(number("eta_min") / base),
        ),
        "lr_linear" => Box::new(
            LinearLR::new(count("total_iters"))
                .start_factor(number("start_factor"))
                .end_factor(number("end_factor")),
        ),
        "lr_constant" => Box::new(ConstantLR::new(count("total_iters")).factor(number("factor"))),
        "lr_polynomial" => Box::new(PolynomialLR::new(count("total_iters")).power(number("power"))),
        "lr_onecycle" => {
            let cycle = OneCycleLR::new(count("total_steps"))
                .pct_start(number("pct_start"))
                .div_factor(number("div_factor"))
                .final_div_factor(number("final_div_factor"));
            return (Box::new(cycle), number("max_lr"));
        }
        "lr_cyclic_triangular" => {
            // The cycle has a base rate of its own, which takes the optimizer's place. The case
            // says the optimizer's; the cycle's is its first rate, 0.01.
            let base = case.outputs[0].array.data[0];
            let cycle = CyclicLR::new(number("max_lr") / base);
            return (Box::new(cycle.step_size_up(count("step_size_up"))), base);
        }
        "lr_noam" => Box::new(Noam::new(count("d_model"), count("warmup"))),
        "lr_warmup_cosine" => {
            let rising = LinearLR::new(count("warmup")).start_factor(number("start_factor"));
            let falling = CosineAnnealingLR::new(count("T_max")).eta_min(number("eta_min") / base);
            Box::new(SequentialLR::new(rising, count("warmup"), falling))
        }
        "lr_reduce_on_plateau" => {
            assert_eq!(case.attrs["threshold_mode"], "rel");
            let plateau = ReduceLROnPlateau::new()
                .factor(number("factor"))
                .patience(count("patience"))
                .threshold(number("threshold"))
                .cooldown(count("cooldown"))
                .min_lr(number("min_lr") / base);
            Box::new(plateau.every(1))
        }
        other => panic!("`{other}` has no schedule"),
    };
    (schedule, base)
}
