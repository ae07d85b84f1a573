// What WGSL leaves open, settled by bits: compilers may assume that NaN and infinity don't occur, and
// `max`, `min` and `clamp` may then drop a NaN that should be seen.

// A zero that compilers can't foresee, for constants that WGSL can't spell and loops that shall not be unrolled: entry points take
// it from the grid, whose third index is always zero.
var<private> opaque_zero: u32;
fn zero() -> u32 { return opaque_zero; }
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn max_nan(a: f32, b: f32) -> f32 { return select(select(max(a, b), b, is_nan(b)), a, is_nan(a)); }
fn min_nan(a: f32, b: f32) -> f32 { return select(select(min(a, b), b, is_nan(b)), a, is_nan(a)); }
