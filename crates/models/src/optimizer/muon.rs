//! Momentum whose singular values are made equal.

use super::adam::check_moments;
use super::{
    Base, Decay, Optimizer, Slot, State, Update, Updated, averaged, by_parameter, norm, part,
    scaled, settings, shrunk, states_by_parameter,
};
use crate::Setting;
use crate::setting::{not_negative, require, share};
use shadegrad_graph::Tensor;

/// Muon (Jordan et al., *Muon: An optimizer for hidden layers in neural networks*, 2024). A matrix
/// steps in the direction of its momentum made orthogonal, by iterations of Newton and Schulz:
///
/// ```text
/// buffer     = momentum buffer + (1 - momentum) gradient
/// x          = momentum buffer + (1 - momentum) gradient      with nesterov, else the buffer
/// x          = x / max(norm(x), eps)
/// x          = a x + (b g + c g g) x, where g = x x^T         ns_steps times
/// parameters = parameters - rate sqrt(max(1, rows / columns)) x
/// ```
///
/// Names and defaults are those of PyTorch's `Muon`. Tensors of more than two axes, such as the
/// filters of convolutions, are matrices whose rows are the first axis. What has fewer than two
/// takes steps of AdamW, with a rate of its own that the schedule multiplies too. Weight decay is
/// decoupled and shrinks each parameter by its own rate. Embeddings and last layers, which the
/// authors leave to AdamW as well, are matrices here.
#[derive(Clone, Copy, Debug)]
pub struct Muon {
    base: Base,
    momentum: f64,
    nesterov: bool,
    ns_coefficients: (f64, f64, f64),
    eps: f64,
    ns_steps: usize,
    adamw_lr: f64,
    betas: (f64, f64),
    adamw_eps: f64,
}

settings!(Muon: momentum, eps, shrinking, maximize);

impl Muon {
    /// Muon with a rate (PyTorch's default is 1e-3, the authors' 0.02), weight decay 0.1, momentum
    /// 0.95, nesterov, coefficients 3.4445, -4.775 and 2.0315, eps 1e-7, five iterations; what is no
    /// matrix at a rate of 3e-4 with betas 0.9 and 0.95 and eps 1e-10.
    pub fn new(lr: f64) -> Muon {
        Muon {
            base: Base { weight_decay: 0.1, decay: Decay::Own, ..Base::new(lr) },
            momentum: 0.95,
            nesterov: true,
            ns_coefficients: (3.4445, -4.775, 2.0315),
            eps: 1e-7,
            ns_steps: 5,
            adamw_lr: 3e-4,
            betas: (0.9, 0.95),
            adamw_eps: 1e-10,
        }
    }

    /// Whether the momentum looks ahead.
    pub fn nesterov(mut self, nesterov: bool) -> Muon {
        self.nesterov = nesterov;
        self
    }

    /// Of `x`, of `g x` and of `g g x` in an iteration.
    pub fn ns_coefficients(mut self, a: f64, b: f64, c: f64) -> Muon {
        self.ns_coefficients = (a, b, c);
        self
    }

    /// How many iterations there are.
    pub fn ns_steps(mut self, ns_steps: usize) -> Muon {
        self.ns_steps = ns_steps;
        self
    }

    /// The rate of what is no matrix.
    pub fn adamw_lr(mut self, adamw_lr: f64) -> Muon {
        self.adamw_lr = adamw_lr;
        self
    }

    /// Decay of the two moments of what is no matrix.
    pub fn adamw_betas(mut self, first: f64, second: f64) -> Muon {
        self.betas = (first, second);
        self
    }

    /// Added to the root of the second moment of what is no matrix.
    pub fn adamw_eps(mut self, adamw_eps: f64) -> Muon {
        self.adamw_eps = adamw_eps;
        self
    }

    /// A matrix with its singular values near one, by the iterations.
    fn orthogonal(&self, matrix: &Tensor, rows: usize, columns: usize) -> Tensor {
        let (a, b, c) = self.ns_coefficients;
        // The product is of the shorter side.
        let turned = |x: Tensor| if rows > columns { x.transpose(0, 1) } else { x };
        let mut x = turned(matrix / norm(matrix).clamp_min(self.eps));
        for _ in 0..self.ns_steps {
            let g = x.matmul(&x.transpose(0, 1));
            let both = &g * b + g.matmul(&g) * c;
            x = &x * a + both.matmul(&x);
        }
        turned(x)
    }
}

/// Rows and columns of what is seen as a matrix.
fn matrix(slot: &Slot) -> Option<[usize; 2]> {
    match slot.shape.as_slice() {
        [rows, first, others @ ..] => Some([*rows, first * others.iter().product::<usize>()]),
        _ => None,
    }
}

/// How many numbers a tensor's momentum has, and its two moments.
fn lengths(slot: &Slot) -> [usize; 3] {
    let count = slot.count();
    if matrix(slot).is_some() { [count, 0, 0] } else { [0, count, count] }
}

impl Optimizer for Muon {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        share("momentum", self.momentum)?;
        not_negative("eps", self.eps)?;
        let (a, b, c) = self.ns_coefficients;
        let finite = [a, b, c].iter().all(|c| c.is_finite());
        require(finite, "ns_coefficients", format!("{a}, {b}, {c}"), "three finite numbers")?;
        require(self.ns_steps < 100, "ns_steps", self.ns_steps, "less than 100")?;
        not_negative("adamw_lr", self.adamw_lr)?;
        check_moments(self.betas, self.adamw_eps)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        states_by_parameter(slots, ["momentum_buffer", "exp_avg", "exp_avg_sq"], lengths)
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let (b1, b2) = self.betas;
        by_parameter(u, lengths, |slot, [buffer, first, second]| {
            let (old, gradient) = (part(u.parameters, slot), part(u.gradient, slot));
            let (lr, step, state) = match matrix(slot) {
                Some([rows, columns]) => {
                    let buffer = averaged(buffer, &gradient, self.momentum);
                    let ahead = match self.nesterov {
                        true => averaged(&buffer, &gradient, self.momentum),
                        false => buffer.clone(),
                    };
                    let x = self.orthogonal(&ahead.reshape(&[rows, columns]), rows, columns);
                    let longer = (rows as f64 / columns.max(1) as f64).max(1.0).sqrt();
                    let step = scaled(&x.flatten(0), longer);
                    (self.base.lr, step, [buffer, first.clone(), second.clone()])
                }
                None => {
                    let first = averaged(first, &gradient, b1);
                    let second = averaged(second, &(&gradient * &gradient), b2);
                    let root = (&second / u.bias_correction(b2)).sqrt() + self.adamw_eps;
                    let step = &first / u.bias_correction(b1) / root;
                    (self.adamw_lr, step, [buffer.clone(), first, second])
                }
            };
            let rate = u.rate_of(slot, lr);
            (shrunk(&old, &rate, slot.weight_decay) - step * rate, state)
        })
    }
}
