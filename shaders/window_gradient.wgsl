// Pooling, backward, in gather form: one invocation for each input point visits the windows that
// cover it, so that nothing is added by two invocations and the order is fixed.
{{declarations}}
{{functions}}
{{sources}}
@compute @workgroup_size({{size}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * {{line}}u + id.x;
    if (i >= {{points}}u) { return; }
    let plane = i / {{in_plane}}u;
    let y = i % {{in_plane}}u / {{in_width}}u;
    let x = i % {{in_width}}u;
    let at = y * {{in_width}}u + x;
    // Window o covers o * stride - pad .. o * stride - pad + kernel.
    let y_low = max(y + {{pad_y}}u + 1u, {{kernel_y}}u) - {{kernel_y}}u;
    let x_low = max(x + {{pad_x}}u + 1u, {{kernel_x}}u) - {{kernel_x}}u;
    let y_first = (y_low + {{stride_y}}u - 1u) / {{stride_y}}u;
    let x_first = (x_low + {{stride_x}}u - 1u) / {{stride_x}}u;
    let y_end = min((y + {{pad_y}}u) / {{stride_y}}u + 1u, {{out_height}}u);
    let x_end = min((x + {{pad_x}}u) / {{stride_x}}u + 1u, {{out_width}}u);
    var value = 0.0;
    for (var oy = y_first; oy < y_end; oy += 1u) {
        for (var ox = x_first; ox < x_end; ox += 1u) {
            {{visit}}
        }
    }
    {{finish}}
{{body}}
}
