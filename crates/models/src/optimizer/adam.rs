//! Adam and what was made of it: a step of about the same length for every parameter, from moving
//! averages of the gradient and of its square.

use super::{Base, Optimizer, Slot, State, Update, Updated, averaged, power, settings};
use crate::Setting;
use crate::setting::{not_negative, shares};
use shadegrad_graph::Tensor;

/// Adam (Kingma and Ba, arXiv 1412.6980), as in PyTorch: weight decay is added to the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    base: Base,
    betas: (f64, f64),
    eps: f64,
    amsgrad: bool,
}

settings!(Adam: betas, eps, amsgrad, weight_decay, maximize);

impl Adam {
    /// Adam with a rate (PyTorch's default is 1e-3), betas 0.9 and 0.999, eps 1e-8, no weight
    /// decay.
    pub fn new(lr: f64) -> Adam {
        Adam { base: Base::new(lr), betas: (0.9, 0.999), eps: 1e-8, amsgrad: false }
    }
}

/// The averages of the gradient and of its square.
pub(super) fn moments(u: &Update<'_>, (first, second): (f64, f64)) -> [Tensor; 2] {
    [
        averaged(&u.state[0], u.gradient, first),
        averaged(&u.state[1], &(u.gradient * u.gradient), second),
    ]
}

/// The names of the averages.
pub(super) fn moment_states(slots: &[Slot]) -> Vec<State> {
    vec![State::each(slots, "exp_avg", 0.0), State::each(slots, "exp_avg_sq", 0.0)]
}

/// Whether the settings of the averages make sense.
pub(super) fn check_moments(betas: (f64, f64), eps: f64) -> Result<(), Setting> {
    shares("betas", betas)?;
    not_negative("eps", eps)
}

impl Optimizer for Adam {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        check_moments(self.betas, self.eps)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        let mut states = moment_states(slots);
        if self.amsgrad {
            states.push(State::each(slots, "max_exp_avg_sq", 0.0));
        }
        states
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let (b1, b2) = self.betas;
        let [first, second] = moments(u, self.betas);
        let largest = self.amsgrad.then(|| u.state[2].maximum(&second));
        let size = u.rate / u.bias_correction(b1);
        let below = largest.as_ref().unwrap_or(&second);
        let root = below.sqrt() / u.bias_correction(b2).sqrt() + self.eps;
        let parameters = u.parameters - &first / root * size;
        Updated { parameters, state: [first, second].into_iter().chain(largest).collect() }
    }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct AdamW(Adam);

settings!(AdamW.0: betas, eps, amsgrad, shrinking, maximize);

impl AdamW {
    /// AdamW with a rate (PyTorch's default is 1e-3), betas 0.9 and 0.999, eps 1e-8, weight decay
    /// 0.01.
    pub fn new(lr: f64) -> AdamW {
        AdamW(Adam { base: Base::decoupled(lr, 0.01), ..Adam::new(lr) })
    }
}

impl Optimizer for AdamW {
    fn base(&self) -> &Base {
        self.0.base()
    }

    fn check(&self) -> Result<(), Setting> {
        self.0.check()
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        self.0.state(slots)
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        self.0.update(u)
    }
}

/// Adamax, Adam with the largest of the decaying gradients in place of the second moment (Kingma
/// and Ba, arXiv 1412.6980, section 7.1), as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct Adamax {
    base: Base,
    betas: (f64, f64),
    eps: f64,
}

settings!(Adamax: betas, eps, weight_decay, maximize);

impl Adamax {
    /// Adamax with a rate (PyTorch's default is 2e-3), betas 0.9 and 0.999, eps 1e-8, no weight
    /// decay.
    pub fn new(lr: f64) -> Adamax {
        Adamax { base: Base::new(lr), betas: (0.9, 0.999), eps: 1e-8 }
    }
}

impl Optimizer for Adamax {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        check_moments(self.betas, self.eps)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        vec![State::each(slots, "exp_avg", 0.0), State::each(slots, "exp_inf", 0.0)]
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let (b1, b2) = self.betas;
        let first = averaged(&u.state[0], u.gradient, b1);
        let largest = (&u.state[1] * b2).maximum(&(u.gradient.abs() + self.eps));
        let size = u.rate / u.bias_correction(b1);
        Updated { parameters: u.parameters - &first / &largest * size, state: vec![first, largest] }
    }
}

/// NAdam, Adam with Nesterov's momentum (Dozat, *Incorporating Nesterov Momentum into Adam*, 2016),
/// as in PyTorch: at step `t` the momentum is `mu(t) = betas.0 (1 - 0.96^(t momentum_decay) / 2)`.
#[derive(Clone, Copy, Debug)]
pub struct NAdam {
    base: Base,
    betas: (f64, f64),
    eps: f64,
    momentum_decay: f64,
}

settings!(NAdam: betas, eps, weight_decay, decoupled_weight_decay, maximize);

impl NAdam {
    /// NAdam with a rate (PyTorch's default is 2e-3), betas 0.9 and 0.999, eps 1e-8, no weight
    /// decay, momentum decay 4e-3.
    pub fn new(lr: f64) -> NAdam {
        NAdam { base: Base::new(lr), betas: (0.9, 0.999), eps: 1e-8, momentum_decay: 4e-3 }
    }

    /// How fast the momentum comes near the first beta.
    pub fn momentum_decay(mut self, momentum_decay: f64) -> NAdam {
        self.momentum_decay = momentum_decay;
        self
    }
}

impl Optimizer for NAdam {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        check_moments(self.betas, self.eps)?;
        not_negative("momentum_decay", self.momentum_decay)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        let mut states = moment_states(slots);
        states.push(State::scalar("mu_product", 1.0));
        states
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let [first, second] = moments(u, self.betas);
        let momentum = |step: &Tensor| {
            let decay = power(0.96, &(step * self.momentum_decay));
            (step.full_like(1.0) - decay * 0.5) * self.betas.0
        };
        let (now, next) = (momentum(u.step), momentum(&(u.step + 1.0)));
        let product = &u.state[2] * &now;
        let one = product.full_like(1.0);
        let of_gradient = u.rate * ((&one - &now) / (&one - &product));
        let of_average = u.rate * (&next / (&one - &product * &next));
        let root = (&second / u.bias_correction(self.betas.1)).sqrt() + self.eps;
        let step = (u.gradient * of_gradient + &first * of_average) / root;
        Updated { parameters: u.parameters - step, state: vec![first, second, product] }
    }
}

/// RAdam, Adam that doesn't divide by the second moment while too little is known of it (Liu et
/// al., arXiv 1908.03265), as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct RAdam {
    base: Base,
    betas: (f64, f64),
    eps: f64,
}

settings!(RAdam: betas, eps, weight_decay, decoupled_weight_decay, maximize);

impl RAdam {
    /// RAdam with a rate (PyTorch's default is 1e-3), betas 0.9 and 0.999, eps 1e-8, no weight
    /// decay.
    pub fn new(lr: f64) -> RAdam {
        RAdam { base: Base::new(lr), betas: (0.9, 0.999), eps: 1e-8 }
    }

    /// The length of the average of which the second moment is one, in the long run.
    fn longest(&self) -> f64 {
        2.0 / (1.0 - self.betas.1) - 1.0
    }

    /// The first step at which that length exceeds five, from where on it is divided by the second
    /// moment; none if it never does.
    fn first_rectified(&self) -> Option<u32> {
        let length = |t: f64| self.longest() - 2.0 * t / (-t * self.betas.1.ln()).exp_m1();
        // Near one, beta reaches five at the sixth step; near 2/3, above which the long run is above
        // five, t beta^t is below every f64 long before the last of these.
        (1..1000).find(|&t| length(f64::from(t)) > 5.0)
    }

    /// The length after `u.step` steps: `longest - 2 t beta^t / (1 - beta^t)`.
    fn length(&self, u: &Update<'_>) -> Tensor {
        let rate = -self.betas.1.ln();
        let x = u.step * rate;
        // The difference of two large numbers at first. With 1 / (e^x - 1) as the series of
        // Bernoulli's numbers (the next term is 4e-8 of the sum where x is one), the large ones are
        // constants and cancel here.
        let square = &x * &x;
        let mut series = x.full_like(-1.0 / 1_209_600.0);
        for c in [1.0 / 30_240.0, -1.0 / 720.0, 1.0 / 12.0] {
            series = series * &square + c;
        }
        let near = u.step - u.step * &x * series * 2.0 + (self.longest() - 2.0 / rate);
        let over = u.step * (-&x).exp() / u.bias_correction(self.betas.1);
        let far = -(over * 2.0) + self.longest();
        x.less(&x.full_like(1.0)).select(&near, &far)
    }
}

impl Optimizer for RAdam {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        check_moments(self.betas, self.eps)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        moment_states(slots)
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let [first, second] = moments(u, self.betas);
        let size = u.rate / u.bias_correction(self.betas.0);
        let mut step = &first * &size;
        if let Some(from) = self.first_rectified() {
            let longest = self.longest();
            let length = self.length(u).maximum(&u.step.full_like(5.0));
            let variance = (&length - 4.0) * (&length - 2.0) / &length
                * (longest / ((longest - 4.0) * (longest - 2.0)));
            let rectifier = (variance * u.bias_correction(self.betas.1)).sqrt();
            let rectified = &first * (&size * rectifier) / (second.sqrt() + self.eps);
            step = u.step.less(&u.step.full_like(f64::from(from))).select(&step, &rectified);
        }
        Updated { parameters: u.parameters - step, state: vec![first, second] }
    }
}
