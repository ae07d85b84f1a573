//! Activations. All but three are composed of other operations: fusion makes them one kernel, and they have
//! the gradients of their parts.

use super::{Axis, Tensor};
use crate::case;
use crate::catalog::{Case, kinked, wide};
use crate::ops::{SampleInput, Scalar};

impl Tensor {
    /// `1 / (1 + exp(-x))`
    #[track_caller]
    pub fn sigmoid(&self) -> Tensor {
        Tensor::scalar(Scalar::Sigmoid, &[self])
    }

    /// `max(x, 0)`; the slope at 0 is 0.
    #[track_caller]
    pub fn relu(&self) -> Tensor {
        Tensor::scalar(Scalar::Relu, &[self])
    }

    /// `x` for positive `x`, else `slope x` (PyTorch's default slope is 0.01).
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Tensor {
        self.zeros_like().less(self).select(self, &(self * slope))
    }

    /// `x` for positive `x`, else `alpha (exp(x) - 1)` (PyTorch's default alpha is 1).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Tensor {
        // The exponential of the negative part only, so that the side not taken stays finite.
        let negative = self.clamp_max(0.0).expm1();
        self.zeros_like().less(self).select(self, &(negative * alpha))
    }

    /// `x sigmoid(x)`.
    #[track_caller]
    pub fn silu(&self) -> Tensor {
        self * self.sigmoid()
    }

    /// `log(1 + exp(x))`, without losing small values or overflowing.
    #[track_caller]
    pub fn softplus(&self) -> Tensor {
        Tensor::scalar(Scalar::Softplus, &[self])
    }

    /// Gaussian error linear unit, `x/2 (1 + erf(x / sqrt 2))` (Hendrycks and Gimpel,
    /// arXiv 1606.08415).
    #[track_caller]
    pub fn gelu(&self) -> Tensor {
        Tensor::scalar(Scalar::Gelu, &[self])
    }

    /// Gaussian error linear unit in its tanh form (Hendrycks and Gimpel, arXiv 1606.08415).
    #[track_caller]
    pub fn gelu_tanh(&self) -> Tensor {
        let inner = (self + self.powf(3.0) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
        self * 0.5 * (inner.tanh() + 1.0)
    }

    /// The logarithm of [`Tensor::softmax`], without losing small probabilities.
    #[track_caller]
    pub fn log_softmax(&self, axis: impl Axis) -> Tensor {
        let Some(axis) = self.axis("log_softmax", axis) else {
            return self.clone();
        };
        let shifted = self.shifted(axis);
        &shifted - shifted.exp().sum(&[axis]).log().keepdim(&[axis])
    }

    /// `exp(x)` over its sum along an axis.
    #[track_caller]
    pub fn softmax(&self, axis: impl Axis) -> Tensor {
        let Some(axis) = self.axis("softmax", axis) else {
            return self.clone();
        };
        let exp = self.shifted(axis).exp();
        &exp / exp.sum(&[axis]).keepdim(&[axis])
    }

    /// `x - max(x)` along an axis. The maximum cancels in what is made of it, so no gradient flows
    /// through it.
    #[track_caller]
    fn shifted(&self, axis: usize) -> Tensor {
        if self.shape()[axis] == 0 {
            return self.clone();
        }
        self - self.detach().amax(&[axis]).keepdim(&[axis])
    }

    /// `log(sigmoid(x))`, without losing small probabilities.
    #[track_caller]
    pub fn log_sigmoid(&self) -> Tensor {
        -(-self).softplus()
    }

    /// `x` for positive `x`, else `weight x`, with one weight for each channel (axis 1) or one for all (He et
    /// al., arXiv 1502.01852).
    #[track_caller]
    pub fn prelu(&self, weight: &Tensor) -> Tensor {
        let (shape, count) = (self.shape(), weight.ty().numel());
        let channels = shape.get(1).copied().unwrap_or(1);
        if weight.shape().len() > 1 || count != 1 && count != channels {
            let reason = format!("takes one weight or one for each of {channels} channels");
            return self.refuse_with("prelu", &[weight], reason);
        }
        let mut aligned = vec![1; shape.len()];
        if count > 1 {
            aligned[1] = count;
        }
        let negative = weight.reshape(&aligned) * self;
        self.zeros_like().less(self).select(self, &negative)
    }

    /// `x` moved into `min..=max`.
    #[track_caller]
    pub fn hardtanh(&self, min: f64, max: f64) -> Tensor {
        let (low, high) = (self.full_like(min), self.full_like(max));
        // Beyond the clamp, no gradient at the bounds themselves, as in PyTorch.
        let inside = low.less(self).and(&self.less(&high));
        inside.select(self, &self.detach().clamp(min, max))
    }

    /// `x - tanh(x)`
    #[track_caller]
    pub fn tanhshrink(&self) -> Tensor {
        self - self.tanh()
    }

    /// The first half of an axis times the sigmoid of the second (Dauphin et al., arXiv 1612.08083).
    #[track_caller]
    pub fn glu(&self, axis: impl Axis) -> Tensor {
        let Some(axis) = self.axis("glu", axis) else {
            return self.clone();
        };
        let len = self.shape()[axis];
        if !len.is_multiple_of(2) {
            return self.refuse("glu", format!("axis {axis} has {len} elements, no two halves"));
        }
        self.narrow(axis, 0, len / 2) * self.narrow(axis, len / 2, len / 2).sigmoid()
    }

    /// Scaled [`Tensor::elu`] (Klambauer et al., arXiv 1706.02515).
    #[track_caller]
    pub fn selu(&self) -> Tensor {
        self.elu(1.673_263_242_354_377_2) * 1.050_700_987_355_480_5
    }

    /// `max(x, 0) + min(0, alpha (exp(x / alpha) - 1))` (Barron, arXiv 1704.07483).
    #[track_caller]
    pub fn celu(&self, alpha: f64) -> Tensor {
        (self * (1.0 / alpha)).elu(1.0) * alpha
    }

    /// `x tanh(softplus(x))` (Misra, arXiv 1908.08681).
    #[track_caller]
    pub fn mish(&self) -> Tensor {
        self * self.softplus().tanh()
    }

    /// `x / (1 + |x|)`
    #[track_caller]
    pub fn softsign(&self) -> Tensor {
        self / (self.abs() + 1.0)
    }

    /// `min(max(x, 0), 6)`
    #[track_caller]
    pub fn relu6(&self) -> Tensor {
        self.hardtanh(0.0, 6.0)
    }

    /// `min(max(x / 6 + 1/2, 0), 1)`
    #[track_caller]
    pub fn hardsigmoid(&self) -> Tensor {
        (self + 3.0).relu6() * (1.0 / 6.0)
    }

    /// `x hardsigmoid(x)` (Howard et al., arXiv 1905.02244).
    #[track_caller]
    pub fn hardswish(&self) -> Tensor {
        self * self.hardsigmoid()
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let away = |kinks| kinked(&[4, 65], kinks);
    vec![
        case!("sigmoid", [SampleInput::float(&[65], -9.0, 9.0)], |_, x| x[0].sigmoid()),
        case!("relu", [away(&[0.0])], |_, x| x[0].relu()),
        case!("leaky_relu", [away(&[0.0])], |_, x| x[0].leaky_relu(0.1)),
        case!("prelu", [kinked(&[2, 3, 5], &[0.0]), wide(&[3])], |_, x| {
            vec![x[0].prelu(&x[1]), x[0].prelu(&x[1].narrow(0, 0, 1))]
        }),
        case!("elu", [away(&[0.0])], |_, x| x[0].elu(1.3)),
        case!("selu", [away(&[0.0])], |_, x| x[0].selu()),
        case!("celu", [away(&[0.0])], |_, x| x[0].celu(1.3)),
        case!("gelu", [wide(&[65])], |_, x| x[0].gelu()),
        case!("gelu_tanh", [wide(&[65])], |_, x| x[0].gelu_tanh()),
        case!("silu", [wide(&[65])], |_, x| x[0].silu()),
        case!("mish", [wide(&[65])], |_, x| x[0].mish()),
        case!("softplus", [SampleInput::float(&[65], -30.0, 30.0)], |_, x| x[0].softplus()),
        case!("softsign", [away(&[0.0])], |_, x| x[0].softsign()),
        case!("log_sigmoid", [SampleInput::float(&[65], -30.0, 30.0)], |_, x| x[0].log_sigmoid()),
        case!("hardsigmoid", [wide(&[65])], |_, x| (&x[0] * 2.0).hardsigmoid()),
        case!("hardswish", [wide(&[65])], |_, x| (&x[0] * 1.4).hardswish()),
        case!("hardtanh", [away(&[-0.75, 1.25])], |_, x| x[0].hardtanh(-0.75, 1.25)),
        case!("relu6", [away(&[0.0])], |_, x| (&x[0] * 2.9).relu6()),
        case!("tanhshrink", [wide(&[65])], |_, x| x[0].tanhshrink()),
        case!("softmax", [wide(&[3, 65, 2])], |_, x| vec![x[0].softmax(1), x[0].softmax(-1)]),
        case!("log_softmax", [wide(&[3, 65, 2])], |_, x| vec![
            x[0].log_softmax(1),
            x[0].log_softmax(0)
        ]),
        case!("glu", [wide(&[3, 8])], |_, x| x[0].glu(-1)),
    ]
}
