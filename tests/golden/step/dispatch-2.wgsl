// Pointwise kernels: one invocation computes one point of the domain.
// No invocation sees another's points, so there is no memory to share and nothing to wait for.
@group(0) @binding(0) var<storage, read_write> b0: array<f32>;
@group(0) @binding(1) var<storage, read> b1: array<f32>;
@group(0) @binding(2) var<storage, read_write> b2: array<f32>;

fn kernel(group: u32, lane: u32) {
    let i = group * 64u + lane;
    if (i >= 8u) { return; }
    let c0 = i;
    let t0: f32 = b0[i];
    let t1: f32 = 0.9f;
    let t2: f32 = (t0 * t1);
    let t3: f32 = b1[16u + i];
    let t4: f32 = (t2 + t3);
    let t5: f32 = 0.1f;
    let t6: f32 = (t4 * t5);
    let t7: f32 = b2[i];
    let t8: f32 = (t7 - t6);
    b0[i] = t4;
    b2[i] = t8;

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
