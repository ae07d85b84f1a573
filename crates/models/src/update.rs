//! The update as part of the recorded step: gradients, clipping, schedule, optimizer, assignment.

use crate::{Optimizer, Parameters, Schedule, Update};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Init, Tensor, Variable};

/// An optimizer with its memory for one set of parameters.
pub struct Updater {
    optimizer: Box<dyn Optimizer>,
    schedule: Box<dyn Schedule>,
    clip: Option<f64>,
    state: Vec<Variable>,
}

impl Updater {
    /// An optimizer at a constant rate without clipping.
    pub fn new(parameters: &Parameters, optimizer: impl Optimizer + 'static) -> Updater {
        let shape = &parameters.flat().ty().shape;
        let memory = |name| Variable::new(name, shape, DType::F32, Init::Full(0.0));
        Updater {
            state: optimizer.state().into_iter().map(memory).collect(),
            optimizer: Box::new(optimizer),
            schedule: Box::new(crate::Constant),
            clip: None,
        }
    }

    /// Multiplies the rate by a schedule.
    pub fn schedule(&mut self, schedule: impl Schedule + 'static) {
        self.schedule = Box::new(schedule);
    }

    /// Scales the gradient down where its norm over all parameters exceeds `max_norm`.
    pub fn clip_grad_norm(&mut self, max_norm: f64) {
        self.clip = Some(max_norm);
    }

    /// What the optimizer remembers.
    pub fn state(&self) -> &[Variable] {
        &self.state
    }

    /// Records the gradients of `loss` and the update of all parameters. The step counter of the
    /// graph is not advanced: the recording's owner does that once.
    #[track_caller]
    pub fn record(&self, graph: &Graph, parameters: &Parameters, loss: &Tensor) {
        let tensors = parameters.tensors(graph);
        let gradients = graph.gradients(loss, &tensors.iter().collect::<Vec<_>>());
        let mut gradient = graph.pack(&gradients.iter().collect::<Vec<_>>());
        if let Some(max_norm) = self.clip {
            gradient = clip_grad_norm(&gradient, max_norm);
        }
        let step = graph.step().to(DType::F32);
        let rate = self.schedule.factor(&step) * self.optimizer.rate();
        let state: Vec<Tensor> = self.state.iter().map(|v| graph.variable(v)).collect();
        let updated = self.optimizer.update(&Update {
            parameters: &graph.variable(parameters.flat()),
            gradient: &gradient,
            state: &state,
            rate: &rate,
            step: &(step + 1.0),
        });
        for (variable, value) in self.state.iter().zip(&updated.state) {
            graph.assign(variable, value);
        }
        graph.assign(parameters.flat(), &updated.parameters);
    }
}

/// The gradient scaled to a norm of at most `max_norm`, as PyTorch's `clip_grad_norm_`.
#[track_caller]
pub fn clip_grad_norm(gradient: &Tensor, max_norm: f64) -> Tensor {
    // Two levels, where the length allows: one row for each of up to 4096 groups of invocations.
    let count = gradient.shape().iter().product::<usize>();
    let rows = (1..=count.min(4096)).rev().find(|rows| count.is_multiple_of(*rows)).unwrap_or(1);
    let squares = (gradient * gradient).reshape(&[rows, count / rows]);
    let norm = squares.sum(&[1]).sum_all().sqrt();
    let scale =
        (norm.like(max_norm) / (norm + 1e-6)).minimum(&gradient.graph().full(&[], DType::F32, 1.0));
    gradient * scale
}
