// A recurrent cell over sequences: one workgroup for each goes through all steps, so that a whole layer is
// one dispatch. The states of two steps take turns in workgroup memory, so that one barrier a step is enough:
// whoever writes the states of a step has passed the barrier behind the reads of the step before the last.
{{declarations}}
{{sources}}
{{keep}}
var<workgroup> states: array<array<f32, {{words}}>, 2>;
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let b = (group.y + first_line()) * {{line}}u + group.x;
    if (b >= {{batch}}u) { return; }
    for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
        {{begin}}
    }
    workgroupBarrier();
    for (var step = 0u; step < {{time}}u; step += 1u) {
        let t = {{order}};
        let old = step & 1u;
        {{mask}}
        for (var u = lane; u < {{hidden}}u; u += {{size}}u) {
            {{zero}}
            for (var k = 0u; k < {{hidden}}u; k += 1u) {
                let h = states[old][k];
                {{multiply}}
            }
            {{before}}
            {{cell}}
            {{after}}
        }
        workgroupBarrier();
    }
}
