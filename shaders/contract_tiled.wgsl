// Contractions as a matrix product, through workgroup memory: {{invocations}} invocations compute a tile of {{height}}x{{width}} results
// from {{steps}} steps of the sum at a time, which all of them load together: into registers while they multiply what was loaded
// before, then into workgroup memory. There both sources lie step by step in vectors of four rows or columns, so that an
// invocation reads what it multiplies at once. The steps are shared by {{slices}} slices of the invocations.
// Results go through workgroup memory, too: what the slices have is added there, and neighbours are stored by neighbours.
// In each slice sums run over k in order, from the split's first to its last; then they are added in order.
{{declarations}}
{{sources}}
var<workgroup> tiles: array<vec4<f32>, {{vectors}}>;
// Four rows or columns of one step: no invocation stores a part of a vector, which some devices would do by storing all of it.
fn fetch_left(g: u32, top: u32, base: u32, end: u32, at: u32) -> vec4<f32> {
    let m = top + ({{left_m}}) * 4u;
    let k = base + {{left_k}};
    var value = vec4<f32>();
{{left_four}}
    return value;
}
fn fetch_right(g: u32, side: u32, base: u32, end: u32, at: u32) -> vec4<f32> {
    let n = side + ({{right_n}}) * 4u;
    let k = base + {{right_k}};
    var value = vec4<f32>();
{{right_four}}
    return value;
}
fn put_left(at: u32, value: vec4<f32>) {
    let m = {{left_m}};
    let k = {{left_k}};
    tiles[k * {{left_pitch}}u + m] = value;
}
fn put_right(at: u32, value: vec4<f32>) {
    let n = {{right_n}};
    let k = {{right_k}};
    tiles[{{right_first}}u + k * {{right_pitch}}u + n] = value;
}
// Stores what every invocation has put into workgroup memory: so many of its rows, from one on.
fn keep_round(split: u32, g: u32, top: u32, side: u32, lane: u32, first: u32, count: u32) {
    workgroupBarrier();
    let all = count * {{elements}}u;
    for (var at = lane; at < all; at += {{invocations}}u) {
        let row = first + at / {{elements}}u;
        let m = top + (row / 4u * {{down}}u + at % {{elements}}u / {{width}}u) * 4u + row % 4u;
        let n = side + at % {{width}}u;
        var sum = tiles[at / 4u][at % 4u];
        for (var slice = 1u; slice < {{slices}}u; slice += 1u) { sum += tiles[(slice * all + at) / 4u][at % 4u]; }
        if (m < {{m}}u && n < {{n}}u) { keep(split, g, m, n, sum); }
    }
    workgroupBarrier();
}
{{statements}}
    // Tiles in a line: columns, then rows, then splits, then groups.
    let tile_col = t % {{tiles_n}}u;
    let tile_row = t / {{tiles_n}}u % {{tiles_m}}u;
    let part = t / {{tiles_mn}}u;
    let g = part / {{splits}}u;
    let split = part % {{splits}}u;
    let first = split * {{chunk}}u;
    let end = min(first + {{chunk}}u, {{k}}u);
    let top = tile_row * {{height}}u;
    let side = tile_col * {{width}}u;
    let slice = lane / {{own}}u;
    let x = lane % {{across}}u;
    let y = lane % {{own}}u / {{across}}u;
{{begin}}
    var base = first;
{{load}}
    loop {
{{put}}
        workgroupBarrier();
        base += {{steps}}u;
        if (base < end) {
{{load}}
        }
{{multiply}}
        workgroupBarrier();
        if (base >= end) { break; }
    }
{{keep_rows}}
{{keep_all}}
