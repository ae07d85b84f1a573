// Pooling, forward: one invocation visits the points that one window covers, row by row.
{{declarations}}
{{functions}}
{{sources}}
@compute @workgroup_size({{size}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * {{line}}u + id.x;
    if (i >= {{points}}u) { return; }
    let plane = i / {{out_plane}}u;
    let oy = i % {{out_plane}}u / {{out_width}}u;
    let ox = i % {{out_width}}u;
    let y_first = max(oy * {{stride_y}}u, {{pad_y}}u) - {{pad_y}}u;
    let x_first = max(ox * {{stride_x}}u, {{pad_x}}u) - {{pad_x}}u;
    let y_end = min(oy * {{stride_y}}u + {{kernel_y}}u - {{pad_y}}u, {{in_height}}u);
    let x_end = min(ox * {{stride_x}}u + {{kernel_x}}u - {{pad_x}}u, {{in_width}}u);
    var value = {{identity}};
    var place = 0xffffffffu;
    for (var y = y_first; y < y_end; y += 1u) {
        for (var x = x_first; x < x_end; x += 1u) {
            let v = source(plane, y, x);
            let at = y * {{in_width}}u + x;
            {{visit}}
        }
    }
    {{finish}}
{{body}}
}
