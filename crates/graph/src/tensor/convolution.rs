//! Convolutions of signals, images and volumes, and their transposes. Filters are `[out, in / groups, ..]`,
//! of transposes `[in, out / groups, ..]`, as in PyTorch.

use super::Tensor;
use crate::case;
use crate::catalog::{Case, wide};
use crate::ops::{Conv2d, Conv2dInputGradient, conv_extent};
use shadegrad_device::Conv;

/// Zeros around what is convolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding<const N: usize> {
    /// This many on both sides of each axis.
    Zeros([usize; N]),
    /// As many as keep the extents, of which an odd one lies at the end; for stride 1.
    Same,
}

/// How filters move over `N` axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions<const N: usize> {
    /// Step between outputs.
    pub stride: [usize; N],
    /// Zeros around the input.
    pub padding: Padding<N>,
    /// Step between the elements of a filter.
    pub dilation: [usize; N],
    /// Groups of channels that don't see each other; as many as channels for a depthwise convolution.
    pub groups: usize,
}

impl<const N: usize> Default for ConvOptions<N> {
    fn default() -> Self {
        let (stride, dilation) = ([1; N], [1; N]);
        ConvOptions { stride, padding: Padding::Zeros([0; N]), dilation, groups: 1 }
    }
}

impl ConvOptions<1> {
    /// The same over images of one row.
    fn over_rows(&self) -> ConvOptions<2> {
        let padding = match self.padding {
            Padding::Zeros([n]) => Padding::Zeros([0, n]),
            Padding::Same => Padding::Same,
        };
        let (stride, dilation) = ([1, self.stride[0]], [1, self.dilation[0]]);
        ConvOptions { stride, padding, dilation, groups: self.groups }
    }
}

impl Tensor {
    /// Convolution (cross-correlation) of signals `[batch, in, length]` with filters `[out, in / groups, k]` and
    /// perhaps a bias `[out]`.
    #[track_caller]
    pub fn conv1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: &ConvOptions<1>,
    ) -> Tensor {
        if self.shape().len() != 3 || weight.shape().len() != 3 {
            return self.refuse_with("conv1d", &[weight], "takes signals and filters of rank 3");
        }
        let (x, w) = (self.unsqueeze(2), weight.unsqueeze(2));
        x.convolved("conv1d", &w, bias, &options.over_rows()).squeeze(2)
    }

    /// Convolution (cross-correlation) of images `[batch, in, h, w]` with filters `[out, in / groups, kh, kw]`
    /// and perhaps a bias `[out]`.
    #[track_caller]
    pub fn conv2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: &ConvOptions<2>,
    ) -> Tensor {
        self.convolved("conv2d", weight, bias, options)
    }

    #[track_caller]
    fn convolved(
        &self,
        operation: &str,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: &ConvOptions<2>,
    ) -> Tensor {
        let (x, w) = (self.shape(), weight.shape());
        let ConvOptions { stride, dilation, groups, .. } = *options;
        let (&[_, in_channels, _, _], &[out_channels, per_group, kh, kw]) =
            (x.as_slice(), w.as_slice())
        else {
            return self.refuse_with(operation, &[weight], "takes images and filters of rank 4");
        };
        if groups == 0 || in_channels != per_group * groups || out_channels % groups != 0 {
            let reason = format!("{groups} groups of {in_channels} channels don't fit the filters");
            return self.refuse_with(operation, &[weight], reason);
        }
        let (input, padding) = match options.padding {
            Padding::Zeros(padding) => (self.clone(), padding),
            Padding::Same if stride != [1, 1] => {
                let reason = format!("stride {stride:?} can't keep the extents");
                return self.refuse_with(operation, &[weight], reason);
            }
            Padding::Same => {
                let around = [kh, kw].map(|k| k.saturating_sub(1));
                let around = [0, 1].map(|axis| around[axis].saturating_mul(dilation[axis]));
                // What is odd lies at the end.
                let padded = self.pad(2, 0, around[0] % 2).pad(3, 0, around[1] % 2);
                (padded, around.map(|n| n / 2))
            }
        };
        let [batch, _, h, w] = [0, 1, 2, 3].map(|axis| input.shape()[axis]);
        let (extents, kernel) = ([h, w], [kh, kw]);
        let extent = |axis: usize| {
            conv_extent([extents[axis], kernel[axis], stride[axis], padding[axis], dilation[axis]])
        };
        let output = [extent(0), extent(1)];
        if output.contains(&0) || dilation.contains(&0) {
            let reason = format!(
                "stride {stride:?}, padding {padding:?}, dilation {dilation:?} leave no output"
            );
            return self.refuse_with(operation, &[weight], reason);
        }
        let conv = Conv {
            batch,
            in_channels,
            out_channels,
            groups,
            input: extents,
            kernel,
            output,
            stride,
            padding,
            dilation,
        };
        let y = input.record(Conv2d(conv), &[&input, weight]);
        y.with_bias(operation, [self, weight], bias, out_channels)
    }

    /// Convolution (cross-correlation) of volumes `[batch, in, d, h, w]` with filters `[out, in / groups, kd, kh,
    /// kw]` and perhaps a bias `[out]`.
    ///
    /// The filter's planes become channels of a convolution of images, so the input is stored once for each.
    #[track_caller]
    pub fn conv3d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: &ConvOptions<3>,
    ) -> Tensor {
        let (x, w) = (self.shape(), weight.shape());
        let ConvOptions { stride, dilation, groups, .. } = *options;
        let (&[batch, in_channels, depth, _, _], &[out_channels, per_group, kd, kh, kw]) =
            (x.as_slice(), w.as_slice())
        else {
            return self.refuse_with("conv3d", &[weight], "takes volumes and filters of rank 5");
        };
        if groups == 0 || in_channels != per_group * groups || stride[0] == 0 || dilation[0] == 0 {
            let reason = format!("{options:?} doesn't fit the volumes and filters");
            return self.refuse_with("conv3d", &[weight], reason);
        }
        let around = dilation[0].saturating_mul(kd.saturating_sub(1));
        let (padding, [before, after]) = match options.padding {
            Padding::Zeros([d, h, w]) => (Padding::Zeros([h, w]), [d, d]),
            Padding::Same if stride[0] == 1 => (Padding::Same, [around / 2, around - around / 2]),
            Padding::Same => {
                let reason = format!("stride {stride:?} can't keep the extents");
                return self.refuse_with("conv3d", &[weight], reason);
            }
        };
        let around = before.saturating_add(after);
        let planes = conv_extent([depth.saturating_add(around), kd, stride[0], 0, dilation[0]]);
        if planes == 0 {
            let reason = format!("{kd} planes of a filter don't fit {depth}, {before} and {after}");
            return self.refuse_with("conv3d", &[weight], reason);
        }
        let padded = self.pad(2, before, after);
        let taps: Vec<Tensor> = (0..kd)
            .map(|tap| padded.slice(2, tap * dilation[0], stride[0] as isize, planes))
            .collect();
        // [batch, in, kd, planes, h, w], then one image for each plane.
        let stacked = self.graph().stack(&taps.iter().collect::<Vec<_>>(), 2);
        let images = stacked.permute(&[0, 3, 1, 2, 4, 5]).reshape(&[
            batch * planes,
            in_channels * kd,
            x[3],
            x[4],
        ]);
        let filters = weight.reshape(&[out_channels, per_group * kd, kh, kw]);
        let (stride, dilation) = ([stride[1], stride[2]], [dilation[1], dilation[2]]);
        let flat = ConvOptions { stride, padding, dilation, groups };
        let y = images.convolved("conv3d", &filters, bias, &flat);
        match y.shape().as_slice() {
            &[_, _, oh, ow] => {
                y.reshape(&[batch, planes, out_channels, oh, ow]).permute(&[0, 2, 1, 3, 4])
            }
            _ => y,
        }
    }

    /// Transposed convolution of signals `[batch, in, length]` with filters `[in, out / groups, k]`; see
    /// [`Tensor::conv_transpose2d`].
    #[track_caller]
    pub fn conv_transpose1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: &ConvOptions<1>,
        output_padding: [usize; 1],
    ) -> Tensor {
        if self.shape().len() != 3 || weight.shape().len() != 3 {
            let reason = "takes signals and filters of rank 3";
            return self.refuse_with("conv_transpose1d", &[weight], reason);
        }
        let (rows, extra) = (options.over_rows(), [0, output_padding[0]]);
        self.unsqueeze(2).conv_transpose2d(&weight.unsqueeze(2), bias, &rows, extra).squeeze(2)
    }

    /// Transposed convolution of images `[batch, in, h, w]` with filters `[in, out / groups, kh, kw]` and perhaps
    /// a bias `[out]`: what the gradient of a convolution by its input is. `output_padding` rows and columns are
    /// added at the end, where several inputs of the convolution have this output.
    #[track_caller]
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: &ConvOptions<2>,
        output_padding: [usize; 2],
    ) -> Tensor {
        let (x, w) = (self.shape(), weight.shape());
        let ConvOptions { stride, dilation, groups, .. } = *options;
        let (&[batch, in_channels, h, width], &[channels, per_group, kh, kw]) =
            (x.as_slice(), w.as_slice())
        else {
            let reason = "takes images and filters of rank 4";
            return self.refuse_with("conv_transpose2d", &[weight], reason);
        };
        let Padding::Zeros(padding) = options.padding else {
            let reason = "takes a number of zeros as padding";
            return self.refuse_with("conv_transpose2d", &[weight], reason);
        };
        let small = |axis: usize| output_padding[axis] < stride[axis].max(dilation[axis]);
        if groups == 0
            || in_channels != channels
            || in_channels % groups != 0
            || stride.contains(&0)
            || dilation.contains(&0)
            || kh * kw == 0
            || !(small(0) && small(1))
        {
            let reason = format!("{options:?}, output padding {output_padding:?} don't fit");
            return self.refuse_with("conv_transpose2d", &[weight], reason);
        }
        let (output, kernel) = ([h, width], [kh, kw]);
        let extent = |axis: usize| {
            let covered = dilation[axis].checked_mul(kernel[axis] - 1)?.checked_add(1)?;
            let steps = output[axis].checked_sub(1)?.checked_mul(stride[axis])?;
            let whole = steps.checked_add(covered)?.checked_add(output_padding[axis])?;
            whole.checked_sub(padding[axis].checked_mul(2)?)
        };
        let (Some(oh), Some(ow)) = (extent(0), extent(1)) else {
            let reason = format!(
                "{options:?} takes away more than there is, or leaves more than can be counted"
            );
            return self.refuse_with("conv_transpose2d", &[weight], reason);
        };
        // The convolution whose output this input is.
        let conv = Conv {
            batch,
            in_channels: per_group * groups,
            out_channels: in_channels,
            groups,
            input: [oh, ow],
            kernel,
            output,
            stride,
            padding,
            dilation,
        };
        let y = self.record(Conv2dInputGradient(conv), &[self, weight]);
        y.with_bias("conv_transpose2d", [self, weight], bias, per_group * groups)
    }

    #[track_caller]
    fn with_bias(
        &self,
        operation: &str,
        [x, weight]: [&Tensor; 2],
        bias: Option<&Tensor>,
        channels: usize,
    ) -> Tensor {
        match bias {
            None => self.clone(),
            Some(bias) if bias.shape() == [channels] => self + bias.reshape(&[1, channels, 1, 1]),
            Some(bias) => {
                let reason = format!("takes a bias of [{channels}]");
                x.refuse_with(operation, &[weight, bias], reason)
            }
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("conv1d", [wide(&[2, 4, 11]), wide(&[6, 2, 3]), wide(&[6])], |_, x| {
            let padding = Padding::Zeros([1]);
            let options = ConvOptions { stride: [2], padding, groups: 2, ..ConvOptions::default() };
            x[0].conv1d(&x[1], Some(&x[2]), &options)
        }),
        case!("conv2d", [wide(&[2, 3, 7, 6]), wide(&[4, 3, 3, 2]), wide(&[4])], |_, x| {
            let padding = Padding::Zeros([1, 0]);
            let options = ConvOptions { stride: [2, 1], padding, ..ConvOptions::default() };
            let same = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
            vec![x[0].conv2d(&x[1], Some(&x[2]), &options), x[0].conv2d(&x[1], None, &same)]
        }),
        case!("conv3d", [wide(&[2, 2, 4, 5, 5]), wide(&[4, 1, 3, 2, 3]), wide(&[4])], |_, x| {
            let padding = Padding::Zeros([1, 0, 1]);
            let options =
                ConvOptions { stride: [1, 2, 1], padding, groups: 2, ..ConvOptions::default() };
            let same = ConvOptions { padding: Padding::Same, groups: 2, ..ConvOptions::default() };
            vec![x[0].conv3d(&x[1], Some(&x[2]), &options), x[0].conv3d(&x[1], None, &same)]
        }),
        case!("conv_transpose1d", [wide(&[1, 4, 6]), wide(&[4, 2, 4]), wide(&[4])], |_, x| {
            let padding = Padding::Zeros([1]);
            let options = ConvOptions { stride: [2], padding, groups: 2, ..ConvOptions::default() };
            x[0].conv_transpose1d(&x[1], Some(&x[2]), &options, [1])
        }),
        case!(
            "conv_transpose2d",
            [wide(&[2, 4, 4, 3]), wide(&[4, 3, 3, 2]), wide(&[6])],
            |_, x| {
                let (stride, padding) = ([2, 1], Padding::Zeros([1, 0]));
                let options = ConvOptions { stride, padding, groups: 2, ..ConvOptions::default() };
                x[0].conv_transpose2d(&x[1], Some(&x[2]), &options, [1, 0])
            }
        ),
    ]
}
