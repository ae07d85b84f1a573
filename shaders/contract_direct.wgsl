// Contractions as a matrix product, straight from memory: each invocation holds a 4x4 tile of the
// result in registers. No workgroup memory and no barrier, which suits software adapters and
// small products; the tiled kernel is compared with it.
// The sums run over k in order, from the split's first to its last.
{{declarations}}
{{sources}}
fn kernel(t: u32, lane: u32) {
    // Tiles in a line: columns, then rows, then splits, then groups.
    if (t >= {{tiles}}u) { return; }
    let tile_col = t % {{tiles_n}}u;
    let tile_row = t / {{tiles_n}}u % {{tiles_m}}u;
    let part = t / {{tiles_mn}}u;
    let g = part / {{splits}}u;
    let split = part % {{splits}}u;
    let first = split * {{chunk}}u;
    let end = min(first + {{chunk}}u, {{k}}u);
    let row = (tile_row * {{down}}u + lane / {{across}}u) * 4u;
    let col = (tile_col * {{across}}u + lane % {{across}}u) * 4u;
    if (row >= {{m}}u || col >= {{n}}u) { return; }
    // Rows and columns past the edge are computed from the last one and not stored.
    let r0 = row; let r1 = min(row + 1u, {{m}}u - 1u);
    let r2 = min(row + 2u, {{m}}u - 1u); let r3 = min(row + 3u, {{m}}u - 1u);
    let c0 = col; let c1 = min(col + 1u, {{n}}u - 1u);
    let c2 = min(col + 2u, {{n}}u - 1u); let c3 = min(col + 3u, {{n}}u - 1u);
    var z = vec4<f32>();
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    for (var k = first; k < end; k += 1u) {
        let b = vec4<f32>(right(g, k, c0), right(g, k, c1), right(g, k, c2), right(g, k, c3));
        let a = vec4<f32>(left(g, r0, k), left(g, r1, k), left(g, r2, k), left(g, r3, k));
        s0 += a.x * b;
        s1 += a.y * b;
        s2 += a.z * b;
        s3 += a.w * b;
        {{add_rows}}
    }
    {{keep_rows}}
    for (var j = 0u; j < 4u; j += 1u) {
        let n = col + j;
        if (n >= {{n}}u) { break; }
        keep(split, g, row, n, s0[j]);
        if (row + 1u < {{m}}u) { keep(split, g, row + 1u, n, s1[j]); }
        if (row + 2u < {{m}}u) { keep(split, g, row + 2u, n, s2[j]); }
        if (row + 3u < {{m}}u) { keep(split, g, row + 3u, n, s3[j]); }
    }
}
