// Pointwise kernels: one invocation computes one point of the domain.
// No invocation sees another's points, so there is no memory to share and nothing to wait for.
@group(0) @binding(0) var<storage, read_write> b0: array<u32>;

fn kernel(group: u32, lane: u32) {
    let i = group * 64u + lane;
    if (i >= 1u) { return; }
    let t0: u32 = b0[i];
    let t1: u32 = 1u;
    let t2: u32 = (t0 + t1);
    b0[i] = t2;

}
// What begins the workgroups of most families, which stand in lines as long as a grid's first axis allows: `t` is a
// workgroup's place in all lines.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    opaque_zero = group.z;
    let t = (group.y + first_line()) * 1u + group.x;
    if (t >= 1u) { return; }
    kernel(t, lane);
}
fn first_line() -> u32 { return 0u; }
// What WGSL leaves open, settled by bits: compilers may assume that NaN and infinity don't occur, and
// `max`, `min` and `clamp` may then drop a NaN that should be seen.

// A zero that compilers can't foresee, for constants that WGSL can't spell and loops that shall not be unrolled: entry points take
// it from the grid, whose third index is always zero.
var<private> opaque_zero: u32;
fn zero() -> u32 { return opaque_zero; }
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn max_nan(a: f32, b: f32) -> f32 { return select(select(max(a, b), b, is_nan(b)), a, is_nan(a)); }
fn min_nan(a: f32, b: f32) -> f32 { return select(select(min(a, b), b, is_nan(b)), a, is_nan(a)); }
