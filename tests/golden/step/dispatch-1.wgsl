@group(0) @binding(0) var<storage, read_write> b0: array<f32>;
@group(0) @binding(1) var<storage, read> b1: array<f32>;

// Row kernels, one invocation for each row: for short rows, and for software adapters, where a
// barrier costs more than the whole row.

fn kernel_0(group: u32, lane: u32) {
    let r = group * 64u + lane;
    if (r >= 1u) { return; }
    var a0: f32 = 0.0f;
    for (var c = 0u; c < 8u; c += 1u) {
        let c0 = c;
        let t0: f32 = b0[(r * 8u + c)];
        a0 = (a0 + t0);
    }
    let t1 = a0;
    let t2: f32 = 8.0f;
    let t3: f32 = (t1 / t2);
    b0[24u + r] = t3;

}

// Contractions as a matrix product, straight from memory: each invocation holds a 4x4 tile of the
// result in registers. No workgroup memory and no barrier, which suits software adapters and
// small products; the tiled kernel is compared with it.
// The sums run over k in order, from the split's first to its last.

fn left_1(g: u32, m: u32, k: u32) -> f32 {
    let t0: f32 = b0[8u + (m + k * 2u)];
    return t0;
}
fn right_1(g: u32, k: u32, n: u32) -> f32 {
    let t1: f32 = b1[((g * 4u + k) * 3u + n)];
    return t1;
}
fn keep_1(split: u32, g: u32, m: u32, n: u32, sum: f32) {
    let at = split * 6u + ((g * 2u + m) * 3u + n);
    let t2 = sum;
    b0[16u + at] = t2;
}
fn keep_row_1(split: u32, g: u32, m: u32, sum: f32) {
    let at = split * 2u + g * 2u + m;
    let c0 = at;
    let t3 = sum;
    b0[22u + at] = t3;
}

fn kernel_1(t: u32, lane: u32) {
    // Tiles in a line: columns, then rows, then splits, then groups.
    if (t >= 1u) { return; }
    let tile_col = t % 1u;
    let tile_row = t / 1u % 1u;
    let part = t / 1u;
    let g = part / 1u;
    let split = part % 1u;
    let first = split * 4u;
    let end = min(first + 4u, 4u);
    let row = (tile_row * 8u + lane / 8u) * 4u;
    let col = (tile_col * 8u + lane % 8u) * 4u;
    if (row >= 2u || col >= 3u) { return; }
    // Rows and columns past the edge are computed from the last one and not stored.
    let r0 = row; let r1 = min(row + 1u, 2u - 1u);
    let r2 = min(row + 2u, 2u - 1u); let r3 = min(row + 3u, 2u - 1u);
    let c0 = col; let c1 = min(col + 1u, 3u - 1u);
    let c2 = min(col + 2u, 3u - 1u); let c3 = min(col + 3u, 3u - 1u);
    var z = vec4<f32>();
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    for (var k = first; k < end; k += 1u) {
        let b = vec4<f32>(right_1(g, k, c0), right_1(g, k, c1), right_1(g, k, c2), right_1(g, k, c3));
        let a = vec4<f32>(left_1(g, r0, k), left_1(g, r1, k), left_1(g, r2, k), left_1(g, r3, k));
        s0 += a.x * b;
        s1 += a.y * b;
        s2 += a.z * b;
        s3 += a.w * b;
        z += a;
    }
    if (col == 0u) {
        for (var i = 0u; i < 4u; i += 1u) {
            if (row + i < 2u) { keep_row_1(split, g, row + i, z[i]); }
        }
    }
    for (var j = 0u; j < 4u; j += 1u) {
        let n = col + j;
        if (n >= 3u) { break; }
        keep_1(split, g, row, n, s0[j]);
        if (row + 1u < 2u) { keep_1(split, g, row + 1u, n, s1[j]); }
        if (row + 2u < 2u) { keep_1(split, g, row + 2u, n, s2[j]); }
        if (row + 3u < 2u) { keep_1(split, g, row + 3u, n, s3[j]); }
    }
}
// What begins the workgroups of most families, which stand in lines as long as a grid's first axis allows: `t` is a
// workgroup's place in all lines.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    opaque_zero = group.z;
    let t = (group.y + first_line()) * 2u + group.x;
    if (t >= 0u && t < 1u) {
    let t = t - 0u;
    kernel_0(t, lane);
    }
    if (t >= 1u && t < 2u) {
    let t = t - 1u;
    kernel_1(t, lane);
    }
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
