//! Pooling and resampling.

use super::{Call, Outputs, named, y};
use shadegrad::graph::{Interpolation, PoolOptions};

/// Windows; arguments that a case doesn't have keep their defaults.
fn options<const N: usize>(call: &Call<'_>) -> PoolOptions<N> {
    let default: PoolOptions<N> = PoolOptions::new(call.each("kernel"));
    let flag = |name: &str, default: bool| call.attr(name).as_bool().unwrap_or(default);
    PoolOptions {
        stride: call.each("stride"),
        padding: call.each("padding"),
        dilation: match call.attr("dilation").is_null() {
            true => default.dilation,
            false => call.each("dilation"),
        },
        ceil_mode: flag("ceil_mode", default.ceil_mode),
        count_include_pad: flag("count_include_pad", default.count_include_pad),
        ..default
    }
}

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    let x = call.find("x")?;
    let size = || call.each("output_size");
    Some(y(match call.op() {
        "max_pool2d" => {
            // Indices count the elements of a plane, without padding.
            let (y, indices) = x.max_pool2d_with_indices(&options(call));
            return Some(named([("y", y), ("indices", indices)]));
        }
        "max_pool1d" => x.max_pool1d(&options(call)),
        "avg_pool1d" => x.avg_pool1d(&options(call)),
        "avg_pool2d" => x.avg_pool2d(&options(call)),
        "adaptive_avg_pool2d" => x.adaptive_avg_pool2d(size()),
        "adaptive_max_pool2d" => x.adaptive_max_pool2d(size()),
        // Element `i` of `n` comes from `floor(i m / n)` of `m`, without rounding.
        "upsample_nearest" | "upsample_nearest_x2" => {
            x.interpolate(&size(), Interpolation::Nearest)
        }
        "upsample_bilinear" => {
            let align_corners = call.flag("align_corners");
            x.interpolate(&size(), Interpolation::Bilinear { align_corners })
        }
        _ => return None,
    }))
}
