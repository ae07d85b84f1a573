//! The update as part of the recorded step: gradients, clipping, schedule, optimizer, assignment.

use crate::{Optimizer, Parameters, Schedule, Update};
use shadegrad_device::DType;
use shadegrad_graph::{Graph, Init, Tensor, Variable};

/// An optimizer with its memory for one set of parameters.
pub struct Updater {
    optimizer: Box<dyn Optimizer>,
    schedule: Box<dyn Schedule>,
    clip: Option<f64>,
    /// For each shard of the parameters what the optimizer remembers.
    state: Vec<Vec<Variable>>,
}

impl Updater {
    /// An optimizer at a constant rate without clipping.
    pub fn new(parameters: &Parameters, optimizer: impl Optimizer + 'static) -> Updater {
        let memory = |shard: &Variable| {
            let name = |name| Variable::new(name, &shard.ty().shape, DType::F32, Init::Full(0.0));
            optimizer.state().into_iter().map(name).collect()
        };
        Updater {
            state: parameters.shards().iter().map(memory).collect(),
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

    /// What the optimizer remembers, for each shard of the parameters.
    pub fn state(&self) -> &[Vec<Variable>] {
        &self.state
    }

    /// Records the gradients of `loss` and the update of all parameters. The step counter of the
    /// graph is not advanced: the recording's owner does that once.
    #[track_caller]
    pub fn record(&self, graph: &Graph, parameters: &Parameters, loss: &Tensor) {
        let tensors = parameters.tensors(graph);
        // Named here, where the names are known.
        let unused: Vec<String> = parameters
            .names()
            .zip(tensors.iter().flatten())
            .filter(|(_, tensor)| !graph.depends(loss, tensor))
            .map(|((name, _), _)| format!("`{name}`"))
            .collect();
        if !unused.is_empty() {
            let reason = format!("the loss does not depend on {}", unused.join(", "));
            graph.refuse("training step", &[loss], &reason);
            return;
        }
        let mut flows =
            graph.gradients(loss, &tensors.iter().flatten().collect::<Vec<_>>()).into_iter();
        let mut gradients: Vec<Tensor> = tensors
            .iter()
            .map(|shard| {
                let flows: Vec<Tensor> = flows.by_ref().take(shard.len()).collect();
                graph.pack(&flows.iter().collect::<Vec<_>>())
            })
            .collect();
        if let Some(max_norm) = self.clip {
            gradients = clip_grad_norm(&gradients, max_norm);
        }
        let step = graph.step().to(DType::F32);
        let rate = self.schedule.factor(&step) * self.optimizer.rate();
        for ((shard, gradient), memory) in
            parameters.shards().iter().zip(&gradients).zip(&self.state)
        {
            let state: Vec<Tensor> = memory.iter().map(|v| graph.variable(v)).collect();
            let updated = self.optimizer.update(&Update {
                parameters: &graph.variable(shard),
                gradient,
                state: &state,
                rate: &rate,
                step: &(&step + 1.0),
            });
            for (variable, value) in memory.iter().zip(&updated.state) {
                graph.assign(variable, value);
            }
            graph.assign(shard, &updated.parameters);
        }
    }
}

/// Gradients scaled to a norm of at most `max_norm` over all of them, as PyTorch's
/// `clip_grad_norm_`.
#[track_caller]
pub fn clip_grad_norm(gradients: &[Tensor], max_norm: f64) -> Vec<Tensor> {
    let squares = |gradient: &Tensor| {
        // Two levels, where the length allows: a row for each of up to 4096 groups of invocations.
        let count = gradient.shape().iter().product::<usize>();
        let rows =
            (1..=count.min(4096)).rev().find(|rows| count.is_multiple_of(*rows)).unwrap_or(1);
        (gradient * gradient).reshape(&[rows, count / rows]).sum(&[1]).sum_all()
    };
    let Some(total) = gradients.iter().map(squares).reduce(|a, b| a + b) else { return vec![] };
    let norm = total.sqrt();
    let scale = (norm.full_like(max_norm) / (&norm + 1e-6)).minimum(&norm.full_like(1.0));
    gradients.iter().map(|gradient| gradient * &scale).collect()
}
