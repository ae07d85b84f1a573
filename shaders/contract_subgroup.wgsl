// Contractions as a matrix product, straight from memory, where loads are done for one invocation after the other, as on
// software adapters. Each subgroup holds {{rows}} rows of results, four columns for each of its invocations. What the left source
// has for eight rows and four steps of the sum is loaded once, a part by each of eight invocations, and all get it from
// them. Such adapters also choose between old and new values in every turn of a loop, so a turn adds four products.
// The sums run over k in order, from the split's first to its last.
{{declarations}}
{{sources}}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) number: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    opaque_zero = group.z;
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
    let row = tile_row * {{height}}u + number / {{across}}u * {{rows}}u;
    let side = tile_col * {{width}}u + number % {{across}}u * {{stripe}}u;
    // Whole subgroups have nothing to do, never a part of one.
    if (row >= {{m}}u || side >= {{n}}u) { return; }
    let col = side + lane * 4u;
    // Rows and columns past the edge are computed from the last one and not stored.
    let c0 = min(col, {{n}}u - 1u); let c1 = min(col + 1u, {{n}}u - 1u);
    let c2 = min(col + 2u, {{n}}u - 1u); let c3 = min(col + 3u, {{n}}u - 1u);
{{begin}}
    for (var k = first; k < end; k += {{steps}}u) {
{{load}}
{{multiply}}
{{add_rows}}
    }
{{keep_rows}}
    var sums = array<vec4<f32>, {{rows}}>({{sums}});
    let inside = min({{rows}}u, {{m}}u - row);
    for (var i = 0u; i < inside; i += 1u) {
        let sum = sums[i];
        for (var j = 0u; j < 4u; j += 1u) {
            let n = col + j;
            if (n >= {{n}}u) { break; }
            keep(split, g, row + i, n, sum[j]);
        }
    }
}
