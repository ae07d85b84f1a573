// Pooling, backward, in gather form: one invocation for each input point visits the windows that
// cover it, so that nothing is added by two invocations and the order is fixed.
{{declarations}}
{{sources}}
fn kernel(group: u32, lane: u32) {
    let i = group * {{size}}u + lane;
    if (i >= {{points}}u) { return; }
    let plane = i / ({{to_height}}u * {{to_width}}u);
    let y = i / {{to_width}}u % {{to_height}}u;
    let x = i % {{to_width}}u;
    let at = y * {{to_width}}u + x;
    var value = 0.0;
    for (var ky = 0u; ky < {{kernel_y}}u; ky += 1u) {
        // Element ky of window o lies at o * stride + ky * step - pad.
        let ty = y + {{pad_y}}u - ky * {{step_y}}u;
        let oy = ty / {{stride_y}}u;
        if (y + {{pad_y}}u < ky * {{step_y}}u || ty % {{stride_y}}u != 0u || oy >= {{from_height}}u) { continue; }
        for (var kx = 0u; kx < {{kernel_x}}u; kx += 1u) {
            let tx = x + {{pad_x}}u - kx * {{step_x}}u;
            let ox = tx / {{stride_x}}u;
            if (x + {{pad_x}}u < kx * {{step_x}}u || tx % {{stride_x}}u != 0u || ox >= {{from_width}}u) { continue; }
            {{visit}}
        }
    }
{{body}}
}
