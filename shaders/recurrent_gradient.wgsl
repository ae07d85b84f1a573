// The gradient of a recurrent cell over sequences: one workgroup for each goes back through all steps. A step
// first finds the slopes by its gates, which all units then need to find those by the states before it: {{shares}} invocations
// each. Some of the weight, of which each invocation needs the same in all steps, stays in its registers.
{{declarations}}
{{sources}}
{{keep}}
{{past}}
var<workgroup> slopes: array<f32, {{terms}}>;
var<workgroup> by_h: array<f32, {{hidden}}>;
{{cells}}
{{sums}}
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    opaque_zero = group.z;
    let b = (group.y + first_line()) * {{line}}u + group.x;
    if (b >= {{batch}}u) { return; }
{{held}}
    for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
        by_h[u] = 0.0;
        {{begin}}
    }
    for (var back = {{time}}u; back > 0u; back -= 1u) {
        let step = back - 1u;
        let t = {{order}};
        {{mask}}
        for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
            let slope = by_h[u] + upstream(t, b, 0u, u);
            let dh = slope * share;
            var direct = slope * (1.0 - share);
            {{behind}}
            {{cell}}
            {{after}}
            by_h[u] = direct;
        }
        workgroupBarrier();
        for (var at = lane; at < {{all}}u; at += {{size}}u) {
{{multiply}}
{{shared}}
        }
{{joined}}
        workgroupBarrier();
    }
}
