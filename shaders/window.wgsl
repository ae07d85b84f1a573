// Pooling, forward: one invocation visits the points that one window covers, row by row.
{{declarations}}
{{sources}}
fn kernel(group: u32, lane: u32) {
    let i = group * {{size}}u + lane;
    if (i >= {{points}}u) { return; }
    let plane = i / ({{to_height}}u * {{to_width}}u);
    let oy = i / {{to_width}}u % {{to_height}}u;
    let ox = i % {{to_width}}u;
    var value = {{identity}};
    var place = 0xffffffffu;
    for (var ky = 0u; ky < {{kernel_y}}u; ky += 1u) {
        // Coordinates before the input wrap around to huge numbers.
        let y = oy * {{stride_y}}u + ky * {{step_y}}u - {{pad_y}}u;
        if (y >= {{from_height}}u) { continue; }
        for (var kx = 0u; kx < {{kernel_x}}u; kx += 1u) {
            let x = ox * {{stride_x}}u + kx * {{step_x}}u - {{pad_x}}u;
            if (x >= {{from_width}}u) { continue; }
            let v = source(plane, y, x);
            let at = y * {{from_width}}u + x;
            {{visit}}
        }
    }
{{body}}
}
