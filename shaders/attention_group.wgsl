// Attention without a matrix of scores, {{shares}} invocations for each of {{block}} queries: each goes through its part of the keys once,
// and scales what it has added so far down whenever a larger score appears (M. Milakov and N. Gimelshein, arXiv 1805.02867).
// What the parts of a query have is scaled to the largest score of all and added in order.
{{declarations}}
{{sources}}
{{keep}}
var<workgroup> mosts: array<f32, {{invocations}}>;
var<workgroup> totals: array<f32, {{invocations}}>;
var<workgroup> parts: array<f32, {{held}}>;
@compute @workgroup_size({{invocations}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    opaque_zero = group.z;
    let block = (group.y + first_line()) * {{line}}u + group.x;
    let own = lane % {{block}}u;
    let share = lane / {{block}}u;
    // Queries past the last compute it again and don't store it.
    let i = min(block * {{block}}u + own, {{rows}}u - 1u);
    let g = i / {{queries}}u;
    let m = i % {{queries}}u;
{{attend}}
    mosts[lane] = most;
    workgroupBarrier();
    var largest = most;
    for (var s = 0u; s < {{shares}}u; s += 1u) { largest = max_nan(largest, mosts[s * {{block}}u + own]); }
    let shrink = exponential(most - largest);
    totals[lane] = total * shrink;
    workgroupBarrier();
    var all = 0.0;
    for (var s = 0u; s < {{shares}}u; s += 1u) { all += totals[s * {{block}}u + own]; }
    let scale = select(1.0 / all, 0.0, all == 0.0);
    // Some features at a time, of which as many invocations add one each.
    for (var first = 0u; first < {{features}}u; first += {{chunk}}u) {
        for (var c = 0u; c < {{chunk}}u; c += 1u) { parts[c * {{invocations}}u + lane] = sums[first + c] * shrink; }
        workgroupBarrier();
        let d = first + share;
        if (share < {{chunk}}u && d < {{features}}u && block * {{block}}u + own < {{rows}}u) {
            var sum = 0.0;
            for (var s = 0u; s < {{shares}}u; s += 1u) { sum += parts[share * {{invocations}}u + s * {{block}}u + own]; }
            keep(g, m, d, sum * scale);
        }
        workgroupBarrier();
    }
}
