//! Convolutions that are computed as others.
//!
//! Those with filters of one element are products. Of one with strides, most pairs of a pixel and an element of the filter give nothing to
//! the input's gradient: adapters compute pixels that are a stride apart together, without those pairs. The CPU's kernel does that itself.
//! Where each channel has a filter of its own, a product has one row, or sums of a few elements: GPUs add up images that are shifted by
//! each element of the filter, whose places are known when the shader is compiled.

use crate::Tensor;
use crate::ops::Conv2dInputGradient;
use shadegrad_device::{Conv, ConvRole};

/// Pixels of an image from which on its product fills tiles.
const PIXELS: usize = 32;

/// Whether a convolution and its input's gradient are products of the channels of pixels with one matrix, and large enough: of images
/// of one pixel all together.
pub(super) fn is_product(conv: &Conv) -> bool {
    let pixels = conv.input[0] * conv.input[1];
    let plain = conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.groups == 1;
    plain
        && conv.padding == [0, 0]
        && conv.input == conv.output
        && (pixels == 1 || pixels >= PIXELS)
}

/// The product of a convolution's filters of one element, or of their transpose, with the pixels of all images.
pub(super) fn product(conv: &Conv, weight: &Tensor, images: &Tensor, transposed: bool) -> Tensor {
    let [from, to] = match transposed {
        true => [conv.out_channels, conv.in_channels],
        false => [conv.in_channels, conv.out_channels],
    };
    let pixels = conv.input[0] * conv.input[1];
    let matrix = weight.reshape(&[conv.out_channels, conv.in_channels]);
    let matrix = if transposed { matrix.transpose(0, 1) } else { matrix };
    let products = if pixels == 1 {
        images.reshape(&[conv.batch, from]).matmul(&matrix.transpose(0, 1))
    } else {
        let matrices = matrix.unsqueeze(0).expand(&[conv.batch, to, from]);
        matrices.matmul(&images.reshape(&[conv.batch, from, pixels]))
    };
    products.reshape(&[conv.batch, to, conv.input[0], conv.input[1]])
}

/// Most convolutions that stand for one: each is a shader.
const PHASES: usize = 4;

/// Whether a convolution has strides, and where it has, no dilation.
pub(super) fn has_phases(conv: &Conv) -> bool {
    let of = |axis: usize| conv.stride[axis] == 1 || conv.dilation[axis] == 1;
    (2..=PHASES).contains(&(conv.stride[0] * conv.stride[1])) && of(0) && of(1)
}

/// The gradient of a convolution's input, perhaps as sums of shifted slopes: pixels whose distance is a multiple of the stride see the same elements of the filter, each
/// for the next output, as in a convolution without strides.
pub(super) fn phases(conv: &Conv, slope: &Tensor, weight: &Tensor, shifts: bool) -> Tensor {
    let Conv { batch, in_channels, input, kernel, stride, padding, .. } = *conv;
    let extents = [0, 1].map(|axis| input[axis].div_ceil(stride[axis]));
    let mut parts = Vec::new();
    for number in 0..stride[0] * stride[1] {
        let phase = [number / stride[1], number % stride[1]];
        // The first element of the filter that meets an output, and at which output that is.
        let first = [0, 1].map(|axis| (phase[axis] + padding[axis]) % stride[axis]);
        let reached = [0, 1].map(|axis| (phase[axis] + padding[axis]) / stride[axis]);
        let seen =
            [0, 1].map(|axis| kernel[axis].saturating_sub(first[axis]).div_ceil(stride[axis]));
        if seen.contains(&0) {
            parts.push(slope.graph().full(
                &[batch, in_channels, 1, extents[0], extents[1]],
                slope.dtype().loaded(),
                0.0,
            ));
            continue;
        }
        let mut elements = weight.clone();
        for axis in 0..2 {
            elements = elements.slice(axis + 2, first[axis], stride[axis] as isize, seen[axis]);
        }
        let of_phase =
            Conv { input: extents, kernel: seen, stride: [1, 1], padding: reached, ..*conv };
        let part = if is_product(&of_phase) {
            product(&of_phase, &elements, slope, true)
        } else if shifts && has_shifts(&of_phase, ConvRole::InputGradient) {
            shifted_sum(&of_phase, ConvRole::InputGradient, slope, &elements)
        } else {
            slope.record(Conv2dInputGradient(of_phase), &[slope, &elements])
        };
        parts.push(part.unsqueeze(2));
    }
    let parts: Vec<&Tensor> = parts.iter().collect();
    let [h, w] = extents;
    slope
        .graph()
        .concat(&parts, 2)
        .reshape(&[batch, in_channels, stride[0], stride[1], h, w])
        .permute(&[0, 1, 4, 2, 5, 3])
        .reshape(&[batch, in_channels, h * stride[0], w * stride[1]])
        .narrow(2, 0, input[0])
        .narrow(3, 0, input[1])
}

/// Most elements of a filter for which shifted images are added up: each is written out.
const SHIFTS: usize = 49;

/// Whether each channel of a convolution has a filter of its own, of few elements, and what is computed is a sum over them: a gradient of the
/// input if there are no strides.
pub(super) fn has_shifts(conv: &Conv, role: ConvRole) -> bool {
    let Conv { in_channels, out_channels, groups, kernel, stride, .. } = *conv;
    let own = groups > 1 && [in_channels, out_channels] == [groups; 2];
    let strides = role == ConvRole::InputGradient && stride != [1, 1];
    own && !strides && (1..=SHIFTS).contains(&(kernel[0] * kernel[1]))
}

/// The sum, of both inputs of the operation.
pub(super) fn shifted_sum(conv: &Conv, role: ConvRole, left: &Tensor, right: &Tensor) -> Tensor {
    let Conv { groups, input, kernel, output, stride, padding, dilation, .. } = *conv;
    let backward = role == ConvRole::InputGradient;
    let filter = [0, 1].map(|axis| (kernel[axis] - 1) * dilation[axis]);
    // What surrounds what is shifted, and its size, strides and result.
    let (before, size, stride, result) = match backward {
        false => (padding, input, stride, output),
        true => {
            let before = [0, 1].map(|axis| filter[axis].saturating_sub(padding[axis]));
            (before, output, [1, 1], input)
        }
    };
    // Where the filter's first element meets the first result.
    let first = [0, 1].map(|axis| if backward { padding[axis] + before[axis] } else { 0 });
    let mut around = left.clone();
    for axis in 0..2 {
        // Up to where the filter's last element meets the last result.
        let last = (result[axis].max(1) - 1) * stride[axis] + first[axis].max(filter[axis]);
        let after = (last + 1).saturating_sub(before[axis] + size[axis]);
        around = around.pad(axis + 2, before[axis], after);
    }
    let shifted = |at: [usize; 2]| {
        let mut image = around.clone();
        for axis in 0..2 {
            let shift = at[axis] * dilation[axis];
            let start = if backward { first[axis] - shift } else { shift };
            image = image.slice(axis + 2, start, stride[axis] as isize, result[axis]);
        }
        image
    };
    let elements = (0..kernel[0] * kernel[1]).map(|at| [at / kernel[1], at % kernel[1]]);
    if role == ConvRole::WeightGradient {
        // Of each image first: there are more of them than channels.
        let sum = |at| (shifted(at) * right).sum(&[2, 3]).sum(&[0]).unsqueeze(1);
        let sums: Vec<Tensor> = elements.map(sum).collect();
        let sums = left.graph().concat(&sums.iter().collect::<Vec<_>>(), 1);
        return sums.reshape(&[groups, 1, kernel[0], kernel[1]]);
    }
    let term = |at: [usize; 2]| {
        let factor = right.slice(2, at[0], 1, 1).slice(3, at[1], 1, 1);
        shifted(at) * factor.reshape(&[1, groups, 1, 1])
    };
    elements.skip(1).fold(term([0; 2]), |sum, at| sum + term(at))
}
