// Contractions as a matrix product, through workgroup memory: 256 invocations compute a 64x64
// tile, 4x4 each, from 64x16 and 16x64 tiles of the sources that all of them load once.
// Workgroup memory: 2 * 16 * 64 * 4 = 8 KiB, with a column of padding 8.1 KiB; both tiles are kept
// k-major so that an invocation reads four neighbours of each at a step.
{{declarations}}
{{sources}}
var<workgroup> tile_left: array<array<f32, 65>, 16>;
var<workgroup> tile_right: array<array<f32, 65>, 16>;
@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Tiles in a line: columns, then rows, then splits, then groups.
    let t = (group.y + first_line()) * {{line}}u + group.x;
    if (t >= {{tiles}}u) { return; }
    let tile_col = t % {{tiles_n}}u;
    let tile_row = t / {{tiles_n}}u % {{tiles_m}}u;
    let part = t / {{tiles_mn}}u;
    let g = part / {{splits}}u;
    let split = part % {{splits}}u;
    let first = split * {{chunk}}u;
    let end = min(first + {{chunk}}u, {{k}}u);
    let top = tile_row * 64u;
    let side = tile_col * 64u;
    let row = top + id.y * 4u;
    let col = side + id.x * 4u;
    var z = vec4<f32>();
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    for (var base = first; base < end; base += 16u) {
        for (var t = 0u; t < 4u; t += 1u) {
            let at = t * 256u + lane;
            // Neighbouring invocations load neighbouring elements of either source.
            let lm = {{left_m}};
            let lk = {{left_k}};
            var a = 0.0;
            if (top + lm < {{m}}u && base + lk < end) { a = left(g, top + lm, base + lk); }
            tile_left[lk][lm] = a;
            let rn = {{right_n}};
            let rk = {{right_k}};
            var b = 0.0;
            if (side + rn < {{n}}u && base + rk < end) { b = right(g, base + rk, side + rn); }
            tile_right[rk][rn] = b;
        }
        workgroupBarrier();
        for (var k = 0u; k < 16u; k += 1u) {
            let y = id.y * 4u;
            let x = id.x * 4u;
            let a = vec4<f32>(tile_left[k][y], tile_left[k][y + 1u], tile_left[k][y + 2u], tile_left[k][y + 3u]);
            let b = vec4<f32>(tile_right[k][x], tile_right[k][x + 1u], tile_right[k][x + 2u], tile_right[k][x + 3u]);
            s0 += a.x * b;
            s1 += a.y * b;
            s2 += a.z * b;
            s3 += a.w * b;
            {{add_rows}}
        }
        workgroupBarrier();
    }
    {{keep_rows}}
    for (var j = 0u; j < 4u; j += 1u) {
        let n = col + j;
        if (n < {{n}}u) {
            if (row < {{m}}u) { keep(split, g, row, n, s0[j]); }
            if (row + 1u < {{m}}u) { keep(split, g, row + 1u, n, s1[j]); }
            if (row + 2u < {{m}}u) { keep(split, g, row + 2u, n, s2[j]); }
            if (row + 3u < {{m}}u) { keep(split, g, row + 3u, n, s3[j]); }
        }
    }
}
