//! Composed functions: no gradients and no kernels of their own. Fusion makes them fast.

use crate::Tensor;
use shadegrad_device::DType;

impl Tensor {
    /// `x` for positive `x`, else `slope x` (PyTorch's default slope is 0.01).
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Tensor {
        self.like(0.0).less(self).select(self, &(self * slope))
    }

    /// `x` for positive `x`, else `alpha (exp(x) - 1)` (PyTorch's default alpha is 1).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Tensor {
        // The exponential of the negative part only, so that the side not taken stays finite.
        let negative = self.minimum(&self.like(0.0)).expm1();
        self.like(0.0).less(self).select(self, &(negative * alpha))
    }

    /// `x sigmoid(x)`.
    #[track_caller]
    pub fn silu(&self) -> Tensor {
        self * self.sigmoid()
    }

    /// `log(1 + exp(x))`, computed as `m + log(exp(x - m) + exp(-m))` with `m = max(x, 0)`, which
    /// cancels in value and slope.
    #[track_caller]
    pub fn softplus(&self) -> Tensor {
        let m = self.relu().detach();
        &m + ((self - &m).exp() + (-&m).exp()).log()
    }

    /// Gaussian error linear unit, `x/2 (1 + erf(x / sqrt 2))` (Hendrycks and Gimpel,
    /// arXiv 1606.08415).
    #[track_caller]
    pub fn gelu(&self) -> Tensor {
        self * 0.5 * ((self * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0)
    }

    /// Gaussian error linear unit in its tanh form (Hendrycks and Gimpel, arXiv 1606.08415).
    #[track_caller]
    pub fn gelu_tanh(&self) -> Tensor {
        let inner = (self + self.powf(3.0) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
        self * 0.5 * (inner.tanh() + 1.0)
    }

    /// The logarithm of [`Tensor::softmax`], without losing small probabilities.
    #[track_caller]
    pub fn log_softmax(&self, axis: usize) -> Tensor {
        let shifted = self.shifted(axis);
        &shifted - shifted.exp().sum(&[axis]).log().unsqueeze(axis).broadcast_to(&self.shape())
    }

    /// `exp(x)` over its sum along an axis.
    #[track_caller]
    pub fn softmax(&self, axis: usize) -> Tensor {
        let exp = self.shifted(axis).exp();
        &exp / exp.sum(&[axis]).unsqueeze(axis).broadcast_to(&self.shape())
    }

    /// `x - max(x)` along an axis. The maximum cancels in what is made of it, so no gradient flows
    /// through it.
    #[track_caller]
    fn shifted(&self, axis: usize) -> Tensor {
        let max = self.detach().max(&[axis]).unsqueeze(axis).broadcast_to(&self.shape());
        self - max
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
        self.clamp(0.0, 6.0)
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

    /// Each element moved into `low..=high`.
    #[track_caller]
    pub fn clamp(&self, low: f64, high: f64) -> Tensor {
        self.maximum(&self.like(low)).minimum(&self.like(high))
    }

    /// -1, 0 or 1.
    #[track_caller]
    pub fn sign(&self) -> Tensor {
        let zero = self.like(0.0);
        zero.less(self).to(DType::F32) - self.less(&zero).to(DType::F32)
    }

    /// `1 / x`
    #[track_caller]
    pub fn reciprocal(&self) -> Tensor {
        self.like(1.0) / self
    }

    /// `1 / sqrt(x)`
    #[track_caller]
    pub fn rsqrt(&self) -> Tensor {
        self.sqrt().reciprocal()
    }

    /// Whether it is greater.
    #[track_caller]
    pub fn greater(&self, other: &Tensor) -> Tensor {
        other.less(self)
    }

    /// Whether it is greater or equal.
    #[track_caller]
    pub fn greater_equal(&self, other: &Tensor) -> Tensor {
        other.less_equal(self)
    }

    /// Whether they differ.
    #[track_caller]
    pub fn not_equal(&self, other: &Tensor) -> Tensor {
        self.equal(other).not()
    }

    /// The variance over axes, which disappear: the mean squared distance from the mean, over
    /// `count - correction` (PyTorch's default correction is 1).
    #[track_caller]
    pub fn var(&self, axes: &[usize], correction: usize) -> Tensor {
        let mut kept = self.shape();
        let mut count = 1;
        for &axis in axes.iter().filter(|axis| **axis < kept.len()) {
            count *= kept[axis];
        }
        for &axis in axes {
            if let Some(extent) = kept.get_mut(axis) {
                *extent = 1;
            }
        }
        let centred = self - self.mean(axes).reshape(&kept).broadcast_to(&self.shape());
        (&centred * &centred).sum(axes) * (1.0 / (count as f64 - correction as f64))
    }

    /// The logarithm of the sum of exponentials along an axis, which disappears.
    #[track_caller]
    pub fn logsumexp(&self, axis: usize) -> Tensor {
        let max = self.detach().max(&[axis]);
        let shifted = self - max.unsqueeze(axis).broadcast_to(&self.shape());
        shifted.exp().sum(&[axis]).log() + max
    }
}
