// Contractions as a matrix product, straight from memory: each subgroup holds eight rows of results, four columns for each
// of its invocations. Of the left source each of eight invocations loads an element, which all get from it; where loads are
// done for one invocation after the other, as on software adapters, that is a third of what a tile for each invocation
// loads. The sums run over k in order, from the split's first to its last.
{{declarations}}
{{sources}}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) number: u32,
    @builtin(subgroup_invocation_id) lane: u32,
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
    let row = tile_row * {{height}}u + number / {{across}}u * 8u;
    let side = tile_col * {{width}}u + number % {{across}}u * {{stripe}}u;
    // Whole subgroups have nothing to do, never a part of one.
    if (row >= {{m}}u || side >= {{n}}u) { return; }
    let col = side + lane * 4u;
    // Rows and columns past the edge are computed from the last one and not stored.
    let own = min(row + lane % 8u, {{m}}u - 1u);
    let c0 = min(col, {{n}}u - 1u); let c1 = min(col + 1u, {{n}}u - 1u);
    let c2 = min(col + 2u, {{n}}u - 1u); let c3 = min(col + 3u, {{n}}u - 1u);
    var z = 0.0;
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    var s4 = vec4<f32>(); var s5 = vec4<f32>(); var s6 = vec4<f32>(); var s7 = vec4<f32>();
    for (var k = first; k < end; k += 1u) {
        let a = left(g, own, k);
        let b = vec4<f32>(right(g, k, c0), right(g, k, c1), right(g, k, c2), right(g, k, c3));
        s0 += subgroupBroadcast(a, 0u) * b;
        s1 += subgroupBroadcast(a, 1u) * b;
        s2 += subgroupBroadcast(a, 2u) * b;
        s3 += subgroupBroadcast(a, 3u) * b;
        s4 += subgroupBroadcast(a, 4u) * b;
        s5 += subgroupBroadcast(a, 5u) * b;
        s6 += subgroupBroadcast(a, 6u) * b;
        s7 += subgroupBroadcast(a, 7u) * b;
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
        if (row + 4u < {{m}}u) { keep(split, g, row + 4u, n, s4[j]); }
        if (row + 5u < {{m}}u) { keep(split, g, row + 5u, n, s5[j]); }
        if (row + 6u < {{m}}u) { keep(split, g, row + 6u, n, s6[j]); }
        if (row + 7u < {{m}}u) { keep(split, g, row + 7u, n, s7[j]); }
    }
}
