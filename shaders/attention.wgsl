// Attention without a matrix of scores: one invocation for each query goes through the keys once, and
// scales what it has added so far down whenever a larger score appears (M. Milakov and N. Gimelshein,
// arXiv 1805.02867).
{{declarations}}
{{sources}}
{{keep}}
fn kernel(group: u32, lane: u32) {
    let i = group * {{size}}u + lane;
    if (i >= {{rows}}u) { return; }
    let g = i / {{queries}}u;
    let m = i % {{queries}}u;
{{attend}}
    let scale = select(1.0 / total, 0.0, total == 0.0);
    for (var d = 0u; d < {{features}}u; d += 1u) { keep(g, m, d, sums[d] * scale); }
}
