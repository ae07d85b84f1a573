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
var<workgroup> tile_left: array<{{parts}}, {{left_size}}>;
var<workgroup> tile_right: array<{{parts}}, {{right_size}}>;
var<workgroup> tile_sum: array<f32, {{sum_size}}>;
{{matrices}}
fn fetch_left(g: u32, top: u32, base: u32, end: u32, at: u32) -> {{floats}} {
    let m = top + {{left_m}};
    let k = base + {{left_k}};
    var value = {{floats}}();
    if (m < {{m}}u && k < end) { value = {{load_left}}(g, m, k); }
    return value;
}
fn fetch_right(g: u32, side: u32, base: u32, end: u32, at: u32) -> {{floats}} {
    let n = side + {{right_n}};
    let k = base + {{right_k}};
    var value = {{floats}}();
    if (n < {{n}}u && k < end) { value = {{load_right}}(g, k, n); }
    return value;
}
fn put_left(number: u32, value: {{floats}}) {
    let at = place_left(number);
    let high = {{high}};
    tile_left[at] = {{half}};
    {{second_left}}
}
fn put_right(number: u32, value: {{floats}}) {
    let at = place_right(number);
    let high = {{high}};
    tile_right[at] = {{half}};
    {{second_right}}
}
fn place_left(at: u32) -> u32 {
    let m = {{left_m}};
    let k = {{left_k}};
    return (m * {{left_by_m}}u + k * {{left_by_k}}u) / {{width_of}}u;
}
fn place_right(at: u32) -> u32 {
    let n = {{right_n}};
    let k = {{right_k}};
    return (n * {{right_by_n}}u + k * {{right_by_k}}u) / {{width_of}}u;
}
// Stores what the subgroup has put into workgroup memory: a matrix of results from a row and a column on.
fn keep_matrix(split: u32, g: u32, row: u32, col: u32, own: u32, member: u32) {
    workgroupBarrier();
    for (var at = member; at < {{elements}}u; at += {{lanes}}u) {
        let m = row + at / {{side}}u;
        let n = col + at % {{side}}u;
        let sum = {{sum}};
        if (m < {{m}}u && n < {{n}}u) { keep(split, g, m, n, sum); }
    }
    workgroupBarrier();
}
@compute @workgroup_size({{invocations}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
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
{{load}}
{{put}}
        workgroupBarrier();
        for (var step = 0u; step < {{steps}}u; step += {{side}}u) {
{{multiply}}
        }
        workgroupBarrier();
    }
{{keep_rows}}
{{keep_all}}
}
