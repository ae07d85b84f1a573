// Attention without a matrix of scores: one invocation for each query goes through the keys once, and
// scales what it has added so far down whenever a larger score appears (M. Milakov and N. Gimelshein,
// arXiv 1805.02867). The query and the sum of values stay in registers.
{{declarations}}
{{sources}}
{{keep}}
fn kernel(group: u32, lane: u32) {
    let i = group * {{size}}u + lane;
    if (i >= {{rows}}u) { return; }
    let g = i / {{queries}}u;
    let m = i % {{queries}}u;
    var q: array<f32, {{width}}>;
    for (var d = 0u; d < {{width}}u; d += 1u) { q[d] = query(g, m, d) * {{scale}}; }
    var sums: array<f32, {{features}}>;
    for (var d = 0u; d < {{features}}u; d += 1u) { sums[d] = 0.0; }
    var most = {{nothing}};
    var total = 0.0;
    for (var n = 0u; n < {{keys}}u; n += 1u) {
        {{masked}}
        var score = 0.0;
        for (var d = 0u; d < {{width}}u; d += 1u) { score += q[d] * key(g, n, d); }
        {{bias}}
        let largest = max_nan(most, score);
        let shrink = exponential(most - largest);
        let weight = exponential(score - largest);
        most = largest;
        total = total * shrink + weight;
        for (var d = 0u; d < {{features}}u; d += 1u) {
            sums[d] = sums[d] * shrink + weight * value(g, n, d);
        }
    }
    let scale = select(1.0 / total, 0.0, total == 0.0);
    for (var d = 0u; d < {{features}}u; d += 1u) { keep(g, m, d, sums[d] * scale); }
}
