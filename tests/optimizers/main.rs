//! Optimizers, schedules and the update beyond the published cases: rules of papers against references of their own,
//! exact numbers of kernels, groups, frozen parameters, accumulation, averages, and settings that are refused.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

#[path = "../harness/mod.rs"]
mod harness;
mod kernels;
mod papers;
mod plateau;
mod reference;
mod refused;
mod rules;
mod schedules;
mod update;

use shadegrad::device::random;
use shadegrad::models::{Parameter, Visitor};
use shadegrad::prelude::*;

/// Numbers between -1 and 1, the same for the same seed.
fn drawn(count: usize, seed: u32) -> Vec<f32> {
    let number = |i: usize| f64::from(random(seed, i as u32)) / 2_147_483_648.0 - 1.0;
    (0..count).map(|i| number(i) as f32).collect()
}

/// Parameters `p0`, `p1`, .. of some shapes, with drawn numbers.
struct Drawn(Vec<Parameter>);

impl Drawn {
    fn new(shapes: &[&[usize]]) -> Drawn {
        let parameter = |(shape, seed): (&&[usize], u32)| {
            Parameter::from_values(shape, &drawn(shape.iter().product(), seed)).unwrap()
        };
        Drawn(shapes.iter().zip(0..).map(parameter).collect())
    }
}

impl Named for Drawn {
    fn visit(&self, visitor: &mut Visitor) {
        for (number, parameter) in self.0.iter().enumerate() {
            visitor.parameter(&format!("p{number}"), parameter);
        }
    }
}

/// A training step whose gradients are known: those of parameter `i` at step `t` are the numbers drawn with seed
/// `1000 + 100 i + t`.
struct Known {
    graph: Graph,
    loss: Tensor,
}

/// The gradient of parameter `i` at step `t`, from zero.
fn given(count: usize, i: usize, t: usize) -> Vec<f32> {
    drawn(count, (1000 + 100 * i + t) as u32)
}

impl Known {
    fn new(parameters: &Parameters, steps: usize) -> Known {
        let step = Variable::word("step", 0);
        let graph = Graph::training(&Variable::word("seed", 0), &step);
        let mut loss = graph.full(&[], DType::F32, 0.0);
        let tensors = parameters.tensors(&graph).concat();
        for (i, ((name, shape), tensor)) in parameters.names().zip(tensors).enumerate() {
            let count = shape.iter().product();
            let numbers = (0..steps).flat_map(|t| given(count, i, t));
            let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
            let all = Variable::from_bytes(name, &[&[steps], shape].concat(), DType::F32, bytes);
            let now = graph.variable(&all).index_select(0, &graph.step().reshape(&[1])).squeeze(0);
            loss = loss + (tensor * now).sum_all();
        }
        graph.assign(&step, &(graph.step() + 1.0));
        Known { graph, loss }
    }
}
