//! Convolutions: weights are `[out, in / groups, ..]`, transposed ones `[in, out / groups, ..]`.

use super::{Call, Outputs, y};
use shadegrad::graph::{ConvOptions, Padding};

fn options<const N: usize>(call: &Call<'_>) -> ConvOptions<N> {
    ConvOptions {
        stride: call.each("stride"),
        padding: Padding::Zeros(call.each("padding")),
        dilation: call.each("dilation"),
        groups: call.count("groups"),
    }
}

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    let (x, w) = (call.find("x")?, call.find("w")?);
    let bias = call.find("b");
    let extra = "output_padding";
    Some(y(match call.op() {
        "conv1d" => x.conv1d(w, bias, &options(call)),
        "conv2d" => x.conv2d(w, bias, &options(call)),
        "conv3d" => x.conv3d(w, bias, &options(call)),
        "conv_transpose1d" => x.conv_transpose1d(w, bias, &options(call), call.each(extra)),
        "conv_transpose2d" => x.conv_transpose2d(w, bias, &options(call), call.each(extra)),
        _ => return None,
    }))
}
