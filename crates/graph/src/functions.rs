//! Composed functions: no gradients and no kernels of their own. Fusion makes them fast.

use crate::Tensor;

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
        let negative = self.minimum(&self.like(0.0)).exp() - 1.0;
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
}
