//! Optimizers: the update of all parameters as pointwise functions of flat tensors, so that it is
//! one kernel whatever the model.

use shadegrad_graph::Tensor;

/// What an update is made from; all but the scalars are flat, one element for each parameter.
pub struct Update<'a> {
    /// The parameters.
    pub parameters: &'a Tensor,
    /// The gradient of the loss.
    pub gradient: &'a Tensor,
    /// What the optimizer remembers, zero at first.
    pub state: &'a [Tensor],
    /// The learning rate of this step, a scalar.
    pub rate: &'a Tensor,
    /// The number of this step, from one, a float scalar.
    pub step: &'a Tensor,
}

/// What an update gives.
pub struct Updated {
    /// The new parameters.
    pub parameters: Tensor,
    /// What the optimizer remembers now.
    pub state: Vec<Tensor>,
}

/// A rule that makes parameters better.
pub trait Optimizer {
    /// The learning rate, before the schedule.
    fn rate(&self) -> f64;
    /// The names of what it remembers for each parameter.
    fn state(&self) -> Vec<&'static str>;
    /// Records the update.
    fn update(&self, u: &Update<'_>) -> Updated;
}

/// Stochastic gradient descent with momentum, as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
}

impl Sgd {
    /// Plain descent with a learning rate.
    pub fn new(lr: f64) -> Sgd {
        Sgd { lr, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false }
    }

    /// `buffer = momentum buffer + (1 - dampening) gradient`; the buffer is the step.
    pub fn momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = momentum;
        self
    }

    /// How much of the gradient the momentum buffer doesn't take, but at the first step.
    pub fn dampening(mut self, dampening: f64) -> Sgd {
        self.dampening = dampening;
        self
    }

    /// Adds `weight_decay parameters` to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Sgd {
        self.weight_decay = weight_decay;
        self
    }

    /// The step looks ahead: `gradient + momentum buffer`.
    pub fn nesterov(mut self) -> Sgd {
        self.nesterov = true;
        self
    }
}

impl Optimizer for Sgd {
    fn rate(&self) -> f64 {
        self.lr
    }

    fn state(&self) -> Vec<&'static str> {
        if self.momentum == 0.0 { vec![] } else { vec!["momentum_buffer"] }
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let gradient = decayed(u, self.weight_decay);
        if self.momentum == 0.0 {
            return Updated { parameters: u.parameters - gradient * u.rate, state: vec![] };
        }
        // The first step takes the whole gradient into the buffer.
        let first = u.step.less_equal(&u.step.full_like(1.0));
        let share = first.select(&u.step.full_like(1.0), &u.step.full_like(1.0 - self.dampening));
        let buffer = &u.state[0] * self.momentum + &gradient * share;
        let step = if self.nesterov { gradient + &buffer * self.momentum } else { buffer.clone() };
        Updated { parameters: u.parameters - step * u.rate, state: vec![buffer] }
    }
}

/// The gradient with weight decay added, if there is any.
fn decayed(u: &Update<'_>, weight_decay: f64) -> Tensor {
    match weight_decay {
        0.0 => u.gradient.clone(),
        decay => u.gradient + u.parameters * decay,
    }
}

/// Adam (Kingma and Ba, arXiv 1412.6980), as in PyTorch: weight decay is added to the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    lr: f64,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
}

impl Adam {
    /// Adam with betas 0.9 and 0.999, eps 1e-8, no weight decay.
    pub fn new(lr: f64) -> Adam {
        Adam { lr, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }

    /// Decay of the two moments.
    pub fn betas(mut self, first: f64, second: f64) -> Adam {
        self.betas = (first, second);
        self
    }

    /// Added to the root of the second moment.
    pub fn eps(mut self, eps: f64) -> Adam {
        self.eps = eps;
        self
    }

    /// Adds `weight_decay parameters` to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Adam {
        self.weight_decay = weight_decay;
        self
    }

    /// The step and the moments for a gradient.
    fn step(&self, u: &Update<'_>, gradient: &Tensor) -> (Tensor, Vec<Tensor>) {
        let (b1, b2) = self.betas;
        let first = &u.state[0] * b1 + gradient * (1.0 - b1);
        let second = &u.state[1] * b2 + gradient * gradient * (1.0 - b2);
        // 1 - beta^t, once for all parameters.
        let left = |beta: f64| one_minus_exp(&(u.step * beta.ln()));
        let size = u.rate / left(b1);
        let root = second.sqrt() / left(b2).sqrt() + self.eps;
        (&first / root * size, vec![first, second])
    }
}

impl Optimizer for Adam {
    fn rate(&self) -> f64 {
        self.lr
    }

    fn state(&self) -> Vec<&'static str> {
        vec!["exp_avg", "exp_avg_sq"]
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let gradient = decayed(u, self.weight_decay);
        let (step, state) = self.step(u, &gradient);
        Updated { parameters: u.parameters - step, state }
    }
}

/// `1 - exp(z)` for `z <= 0`: near zero by its series, where the difference would cancel.
fn one_minus_exp(z: &Tensor) -> Tensor {
    // z + z^2 / 2 + .. + z^8 / 8!, by Horner: at -0.5 the next term is 5e-9 of the sum.
    let mut series = z.full_like(1.0);
    for n in (2..=8).rev() {
        series = &series * z * (1.0 / f64::from(n)) + 1.0;
    }
    let near = -(&series * z);
    z.full_like(-0.5).less(z).select(&near, &(z.full_like(1.0) - z.exp()))
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct AdamW(Adam);

impl AdamW {
    /// AdamW with betas 0.9 and 0.999, eps 1e-8, weight decay 0.01.
    pub fn new(lr: f64) -> AdamW {
        AdamW(Adam::new(lr).weight_decay(0.01))
    }

    /// Decay of the two moments.
    pub fn betas(self, first: f64, second: f64) -> AdamW {
        AdamW(self.0.betas(first, second))
    }

    /// Added to the root of the second moment.
    pub fn eps(self, eps: f64) -> AdamW {
        AdamW(self.0.eps(eps))
    }

    /// Parameters shrink by `rate weight_decay` at every step.
    pub fn weight_decay(self, weight_decay: f64) -> AdamW {
        AdamW(self.0.weight_decay(weight_decay))
    }
}

impl Optimizer for AdamW {
    fn rate(&self) -> f64 {
        self.0.lr
    }

    fn state(&self) -> Vec<&'static str> {
        self.0.state()
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let (step, state) = self.0.step(u, u.gradient);
        let kept = u.rate.full_like(1.0) - u.rate * self.0.weight_decay;
        Updated { parameters: u.parameters * kept - step, state }
    }
}
