//! Adam's second moment in the memory of rows and columns.

use super::{
    Base, Decay, Optimizer, Slot, State, Update, Updated, by_parameter, norm, part, settings,
    shrunk, states_by_parameter,
};
use crate::Setting;
use crate::setting::{not_negative, positive, require};
use shadegrad_graph::Tensor;

/// Adafactor (Shazeer and Stern, arXiv 1804.04235, algorithms 4 to 6), with the names and defaults of
/// PyTorch. Of tensors of two axes and more, it keeps the averages of squared gradients along the
/// last axis and along the one before it; what a square is expected to be is their product. At step
/// `t`, with the root mean square as `rms`:
///
/// ```text
/// averages   = t^beta2_decay new + (1 - t^beta2_decay) averages
/// update     = gradient / sqrt(expected)
/// size       = max(eps2, rms(parameters)) min(rate, 1 / sqrt(t))
/// parameters = parameters - size update / max(1, rms(update) / d)
/// ```
///
/// Weight decay is decoupled. The schedule multiplies the rate, which bounds the relative step.
#[derive(Clone, Copy, Debug)]
pub struct Adafactor {
    base: Base,
    beta2_decay: f64,
    eps: (f64, f64),
    d: f64,
}

settings!(Adafactor: shrinking, maximize);

/// As how many matrices of how many rows and columns a tensor is seen; none for one of fewer than
/// two axes, whose squares are averaged one by one.
fn matrices(slot: &Slot) -> Option<[usize; 3]> {
    match *slot.shape.as_slice() {
        [ref batch @ .., rows, columns] => Some([batch.iter().product(), rows, columns]),
        _ => None,
    }
}

/// How many averages a tensor has: of rows, of columns, and of single numbers.
fn lengths(slot: &Slot) -> [usize; 3] {
    match matrices(slot) {
        Some([batch, rows, columns]) => [batch * rows, batch * columns, 0],
        None => [0, 0, slot.count()],
    }
}

impl Adafactor {
    /// Adafactor with a rate (PyTorch's default is 0.01), beta2_decay -0.8, eps 2^-23 and 1e-3, d 1,
    /// no weight decay.
    pub fn new(lr: f64) -> Adafactor {
        let eps = (f64::from(f32::EPSILON), 1e-3);
        let base = Base { decay: Decay::Own, ..Base::new(lr) };
        Adafactor { base, beta2_decay: -0.8, eps, d: 1.0 }
    }

    /// The power of the step that a new square's share in the averages is.
    pub fn beta2_decay(mut self, beta2_decay: f64) -> Adafactor {
        self.beta2_decay = beta2_decay;
        self
    }

    /// The least that a gradient's expected size is taken for, and a parameter's root mean square.
    pub fn eps(mut self, gradient: f64, parameter: f64) -> Adafactor {
        self.eps = (gradient, parameter);
        self
    }

    /// The root mean square above which an update is scaled down to it.
    pub fn d(mut self, d: f64) -> Adafactor {
        self.d = d;
        self
    }
}

/// The root mean square of a tensor's numbers.
fn rms(x: &Tensor) -> Tensor {
    norm(x) * (1.0 / (x.ty().numel().max(1) as f64).sqrt())
}

impl Optimizer for Adafactor {
    fn base(&self) -> &Base {
        &self.base
    }

    fn check(&self) -> Result<(), Setting> {
        let decay = self.beta2_decay;
        require(decay <= 0.0 && decay.is_finite(), "beta2_decay", decay, "finite and at most 0")?;
        // Its square has to be above zero in f32.
        let (gradient, parameter) = self.eps;
        let expected = "finite and at least 1e-18";
        require(gradient >= 1e-18 && gradient.is_finite(), "eps.0", gradient, expected)?;
        not_negative("eps.1", parameter)?;
        positive("d", self.d)
    }

    fn state(&self, slots: &[Slot]) -> Vec<State> {
        states_by_parameter(slots, ["row_var", "col_var", "variance"], lengths)
    }

    fn update(&self, u: &Update<'_>) -> Updated {
        let share = u.step.pow(&u.step.full_like(self.beta2_decay));
        let joined = |average: &Tensor, new: Tensor| average + (new - average) * &share;
        let bound = u.step.sqrt().reciprocal();
        by_parameter(u, lengths, |slot, [row, column, single]| {
            let (old, gradient) = (part(u.parameters, slot), part(u.gradient, slot));
            let squares = &gradient * &gradient;
            let (expected, state) = match matrices(slot) {
                Some([batch, rows, columns]) => {
                    let squares = squares.reshape(&[batch, rows, columns]);
                    let row = joined(row, squares.mean(&[2]).flatten(0));
                    let column = joined(column, squares.mean(&[1]).flatten(0));
                    let by_row = row.reshape(&[batch, rows, 1]);
                    let mean = by_row.mean(&[1]).unsqueeze(1).clamp_min(self.eps.0);
                    let product = by_row * column.reshape(&[batch, 1, columns]) / mean;
                    (product.flatten(0), [row, column, single.clone()])
                }
                None => {
                    let single = joined(single, squares);
                    (single.clone(), [row.clone(), column.clone(), single])
                }
            };
            let update = gradient * expected.clamp_min(self.eps.0 * self.eps.0).rsqrt();
            let too_large = rms(&update) * (1.0 / self.d);
            let rate = u.rate_of(slot, self.base.lr);
            let size = rms(&old).clamp_min(self.eps.1) * rate.minimum(&bound);
            let size = size / too_large.clamp_min(1.0);
            (shrunk(&old, &rate, slot.weight_decay) - update * size, state)
        })
    }
}
