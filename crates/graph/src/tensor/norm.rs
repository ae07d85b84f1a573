//! Normalisation. Channels are axis 1; weights and biases are optional, as in PyTorch.

use super::{Axis, Tensor};
use crate::case;
use crate::catalog::{Case, positive, wide};
use shadegrad_device::numel;

impl Tensor {
    /// Batch normalisation in training (Ioffe and Szegedy, arXiv 1502.03167): each channel of `[batch, channels,
    /// ..]` to mean 0 and variance 1 over the batch, times a weight, plus a bias, both `[channels]`. Also gives
    /// the mean and the unbiased variance, for running statistics.
    #[track_caller]
    pub fn batch_norm_train(
        &self,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> (Tensor, Tensor, Tensor) {
        let shape = self.shape();
        if !self.is_float("batch_norm") {
            return (self.clone(), self.clone(), self.clone());
        }
        let axes: Vec<usize> = (0..shape.len()).filter(|&axis| axis != 1).collect();
        let count: usize = axes.iter().map(|&axis| shape[axis]).product();
        if shape.len() < 2 || count < 2 {
            let reason = format!(
                "takes [batch, channels, ..] with two or more values for each channel, not {count}"
            );
            let same = self.refuse("batch_norm", reason);
            return (same.clone(), same.clone(), same);
        }
        let mean = self.mean(&axes);
        let (centred, variance) = self.centred(&mean, &axes);
        let y = centred * (&variance + eps).rsqrt().keepdim(&axes);
        let unbiased = variance * (count as f64 / (count - 1) as f64);
        (y.affine("batch_norm", weight, bias), mean, unbiased)
    }

    /// Batch normalisation with known statistics, both `[channels]`: `(x - mean) / sqrt(var + eps)` times a weight,
    /// plus a bias.
    #[track_caller]
    pub fn batch_norm(
        &self,
        mean: &Tensor,
        var: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Tensor {
        let shape = self.shape();
        let channels = shape.get(1).copied().unwrap_or(0);
        if shape.len() < 2 || mean.shape() != [channels] || var.shape() != [channels] {
            let reason = format!("takes [batch, channels, ..] and statistics of [{channels}]");
            return self.refuse_with("batch_norm", &[mean, var], reason);
        }
        let axes: Vec<usize> = (0..shape.len()).filter(|&axis| axis != 1).collect();
        let scale = (var + eps).rsqrt().keepdim(&axes);
        ((self - mean.keepdim(&axes)) * scale).affine("batch_norm", weight, bias)
    }

    /// Times a weight and plus a bias for each channel.
    #[track_caller]
    fn affine(&self, operation: &str, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Tensor {
        let shape = self.shape();
        let channels = shape[1];
        if let Some(wrong) = weight.iter().chain(&bias).find(|t| t.shape() != [channels]) {
            let reason = format!("takes a weight and a bias of [{channels}]");
            return self.refuse_with(operation, &[wrong], reason);
        }
        let mut aligned = vec![1; shape.len()];
        aligned[1] = channels;
        let scaled = weight.map_or_else(|| self.clone(), |w| self * w.reshape(&aligned));
        bias.map_or_else(|| scaled.clone(), |b| &scaled + b.reshape(&aligned))
    }

    /// To mean 0 and variance 1 over axes.
    #[track_caller]
    fn standardized(&self, axes: &[usize], eps: f64) -> Tensor {
        let (centred, variance) = self.centred(&self.mean(axes), axes);
        centred * (variance + eps).rsqrt().keepdim(axes)
    }

    /// The distance from the mean, and the mean of its square. What was rounded in the mean, which a small
    /// variance would enlarge, is found in the same pass and taken off.
    #[track_caller]
    fn centred(&self, mean: &Tensor, axes: &[usize]) -> (Tensor, Tensor) {
        let distance = self - mean.keepdim(axes);
        let variance = distance.square().mean(axes);
        let rest = distance.detach().mean(axes).keepdim(axes);
        (distance - rest, variance)
    }

    /// The last axes, whose shape is given; `None`, with the mistake kept, if they have another.
    #[track_caller]
    fn last_axes(
        &self,
        operation: &str,
        shape: &[usize],
        parameters: &[Option<&Tensor>],
    ) -> Option<Vec<usize>> {
        let own = self.shape();
        let given: Vec<&Tensor> = parameters.iter().copied().flatten().collect();
        let wrong = given.iter().any(|t| t.shape() != shape);
        if shape.is_empty() || !own.ends_with(shape) || wrong {
            let reason =
                format!("normalises the last axes {shape:?}, of which parameters have the shape");
            self.refuse_with(operation, &given, reason);
            return None;
        }
        Some((own.len() - shape.len()..own.len()).collect())
    }

    /// Layer normalisation (Ba et al., arXiv 1607.06450): the last axes, of the given shape, to mean 0 and variance
    /// 1, times a weight, plus a bias, both of that shape.
    #[track_caller]
    pub fn layer_norm(
        &self,
        normalized_shape: &[usize],
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Tensor {
        let Some(axes) = self.last_axes("layer_norm", normalized_shape, &[weight, bias]) else {
            return self.clone();
        };
        let y = self.standardized(&axes, eps);
        let scaled = weight.map_or_else(|| y.clone(), |w| &y * w);
        bias.map_or_else(|| scaled.clone(), |b| &scaled + b)
    }

    /// RMS normalisation (Zhang and Sennrich, arXiv 1910.07467): the last axes, of the given shape, over the root of
    /// their mean square, times a weight of that shape.
    #[track_caller]
    pub fn rms_norm(
        &self,
        normalized_shape: &[usize],
        weight: Option<&Tensor>,
        eps: f64,
    ) -> Tensor {
        let Some(axes) = self.last_axes("rms_norm", normalized_shape, &[weight]) else {
            return self.clone();
        };
        let y = self * (self.square().mean(&axes).keepdim(&axes) + eps).rsqrt();
        weight.map_or_else(|| y.clone(), |w| &y * w)
    }

    /// Group normalisation (Wu and He, arXiv 1803.08494): groups of channels of `[batch, channels, ..]` to mean 0
    /// and variance 1 for each sample, times a weight, plus a bias, both `[channels]`.
    #[track_caller]
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Tensor {
        let shape = self.shape();
        if !self.is_float("group_norm") {
            return self.clone();
        }
        let fits = shape.len() >= 2 && groups > 0 && shape[1].is_multiple_of(groups);
        if !fits {
            return self.refuse("group_norm", format!("{groups} groups don't divide the channels"));
        }
        let cut = [shape[0], groups, numel(&shape[1..]) / groups];
        let y = self.reshape(&cut).standardized(&[2], eps).reshape(&shape);
        y.affine("group_norm", weight, bias)
    }

    /// Instance normalisation (Ulyanov et al., arXiv 1607.08022): each channel of each sample of `[batch, channels,
    /// ..]` to mean 0 and variance 1, times a weight, plus a bias, both `[channels]`.
    #[track_caller]
    pub fn instance_norm(
        &self,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Tensor {
        let shape = self.shape();
        if !self.is_float("instance_norm") {
            return self.clone();
        }
        if shape.len() < 3 || numel(&shape[2..]) < 2 {
            let reason = "takes [batch, channels, ..] with more than one value for each channel";
            return self.refuse("instance_norm", reason);
        }
        let axes: Vec<usize> = (2..shape.len()).collect();
        self.standardized(&axes, eps).affine("instance_norm", weight, bias)
    }

    /// Over the `p`-norm along an axis, which counts as at least `eps`.
    #[track_caller]
    pub fn normalize(&self, p: f64, axis: impl Axis, eps: f64) -> Tensor {
        match self.axis("normalize", axis) {
            Some(axis) => self / self.norm(p, &[axis]).clamp_min(eps).keepdim(&[axis]),
            None => self.clone(),
        }
    }

    /// The cosine of the angle between two tensors along an axis, whose norms count as at least `eps`.
    #[track_caller]
    pub fn cosine_similarity(&self, other: &Tensor, axis: impl Axis, eps: f64) -> Tensor {
        let Some(axis) = self.axis("cosine_similarity", axis) else {
            return self.clone();
        };
        let norms = |x: &Tensor| x.norm(2.0, &[axis]).clamp_min(eps);
        (self * other).sum(&[axis]) / (norms(self) * norms(other))
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let images = || wide(&[3, 4, 3, 5]);
    vec![
        case!("batch_norm_train", [images(), wide(&[4]), wide(&[4])], |_, x| {
            let (y, mean, var) = x[0].batch_norm_train(Some(&x[1]), Some(&x[2]), 1e-5);
            vec![y, mean, var]
        }),
        case!("batch_norm", [images(), wide(&[4]), positive(&[4]), wide(&[4])], |_, x| {
            x[0].batch_norm(&x[1], &x[2], Some(&x[3]), None, 1e-5)
        }),
        case!("layer_norm", [images(), wide(&[3, 5]), wide(&[3, 5])], |_, x| {
            x[0].layer_norm(&[3, 5], Some(&x[1]), Some(&x[2]), 1e-5)
        }),
        case!("rms_norm", [images(), wide(&[5])], |_, x| x[0].rms_norm(&[5], Some(&x[1]), 1e-5)),
        case!("group_norm", [images(), wide(&[4]), wide(&[4])], |_, x| {
            x[0].group_norm(2, Some(&x[1]), Some(&x[2]), 1e-5)
        }),
        case!("instance_norm", [images()], |_, x| x[0].instance_norm(None, None, 1e-5)),
        case!("normalize", [wide(&[3, 65])], |_, x| {
            vec![x[0].normalize(2.0, 1, 1e-12), x[0].square().normalize(1.0, 0, 1e-12)]
        }),
        case!("cosine_similarity", [wide(&[3, 65]), wide(&[3, 65])], |_, x| {
            x[0].cosine_similarity(&x[1], 1, 1e-8)
        }),
    ]
}
