// Contractions as a matrix product in cooperative matrices: each subgroup holds {{side}}x{{side}} matrices of sums, and multiplies
// matrices of halves that all invocations of the workgroup have put into its memory, {{steps}} steps of the sum at a time.
// A float becomes {{halves}} halves: itself rounded and, if there is a second one, 2^11 times what that left, so that it is no
// smaller. Products with second halves have sums of their own, which count 2^-11.
// Results go through workgroup memory, a matrix of each subgroup at a time, since only there an invocation knows which they are.
// Sums of rows are of the floats. Matrices are multiplied, loaded and stored by whole workgroups only, and nothing else here is
// done in subgroups. The sums run over k in order, from the split's first to its last, in an order within {{side}} steps that the
// hardware chooses.
{{declarations}}
{{sources}}
var<workgroup> tile_left: array<f16, {{left_size}}>;
var<workgroup> tile_right: array<f16, {{right_size}}>;
var<workgroup> tile_sum: array<f32, {{sum_size}}>;
{{matrices}}
// Conversions may cut off what they should round, so it is rounded before.
fn put_left(at: u32, a: f32) {
    let high = f16(half(a));
    tile_left[at] = high;
    {{put_left}}
}
fn put_right(at: u32, b: f32) {
    let high = f16(half(b));
    tile_right[at] = high;
    {{put_right}}
}
// Stores what the subgroup has put into workgroup memory: a matrix of results from a row and a column on.
fn keep_matrix(split: u32, g: u32, row: u32, col: u32, own: u32, member: u32) {
    workgroupBarrier();
    for (var at = member; at < {{counted}}({{elements}}u); at += {{lanes}}u) {
        let m = row + at / {{side}}u;
        let n = col + at % {{side}}u;
        let sum = {{sum}};
        if (m < {{m}}u && n < {{n}}u) { keep(split, g, m, n, sum); }
    }
    workgroupBarrier();
}
@compute @workgroup_size({{invocations}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // Tiles in a line: columns, then rows, then splits, then groups.
    let t = (group.y + first_line()) * {{line}}u + group.x;
    if (t >= {{tiles}}u) { return; }
    let tile_col = t % {{tiles_n}}u;
    let tile_row = t / {{tiles_n}}u % {{tiles_m}}u;
    let part = t / {{tiles_mn}}u;
    let g = part / {{splits}}u;
    let split = part % {{splits}}u;
    let first = split * {{chunk}}u;
    let end = min(first + {{chunk}}u, {{counted}}({{k}}u));
    let top = tile_row * {{height}}u;
    let side = tile_col * {{width}}u;
    // Subgroups are invocations in a row.
    let number = lane / {{lanes}}u;
    let member = lane % {{lanes}}u;
    let own = number * {{own}}u;
    let row = number / {{across}}u * {{rows}}u;
    let col = number % {{across}}u * {{cols}}u;
{{begin}}
    for (var base = first; base < end; base += {{steps}}u) {
        // Neighbouring invocations load neighbouring elements of either source.
        for (var t = 0u; t < {{counted}}({{left_turns}}u); t += 1u) {
            let at = t * {{invocations}}u + lane;
            let lm = {{left_m}};
            let lk = {{left_k}};
            var a = 0.0;
            if (top + lm < {{m}}u && base + lk < end) { a = left(g, top + lm, base + lk); }
            put_left(lm * {{left_by_m}}u + lk * {{left_by_k}}u, a);
            {{add_rows}}
        }
        for (var t = 0u; t < {{counted}}({{right_turns}}u); t += 1u) {
            let at = t * {{invocations}}u + lane;
            let rn = {{right_n}};
            let rk = {{right_k}};
            var b = 0.0;
            if (side + rn < {{n}}u && base + rk < end) { b = right(g, base + rk, side + rn); }
            put_right(rn * {{right_by_n}}u + rk * {{right_by_k}}u, b);
        }
        workgroupBarrier();
        for (var step = 0u; step < {{counted}}({{steps}}u); step += {{side}}u) {
{{multiply}}
        }
        workgroupBarrier();
    }
{{keep_rows}}
{{keep_all}}
}
