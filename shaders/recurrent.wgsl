// A recurrent cell over sequences: one workgroup for each goes through all steps, so that a whole layer is
// one dispatch. In a step, invocations first find what the states give to the gates, {{shares}} of them each sum, then the states
// after it. Some of the weight, of which each invocation needs the same in all steps, stays in its registers.
{{declarations}}
{{sources}}
{{keep}}
var<workgroup> states: array<f32, {{terms}}>;
{{cells}}
var<workgroup> sums: array<f32, {{all}}>;
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    opaque_zero = group.z;
    let b = (group.y + first_line()) * {{line}}u + group.x;
    if (b >= {{batch}}u) { return; }
{{held}}
    for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
        {{begin}}
    }
    workgroupBarrier();
    for (var step = 0u; step < {{time}}u; step += 1u) {
        let t = {{order}};
        {{mask}}
        for (var at = lane; at < {{all}}u; at += {{size}}u) {
{{multiply}}
            sums[at] = sum;
        }
        workgroupBarrier();
        for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
            {{before}}
            {{cell}}
            {{after}}
        }
        workgroupBarrier();
    }
}
