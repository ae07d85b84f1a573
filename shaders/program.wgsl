// A whole program of small kernels as one workgroup, for as many steps as a uniform says. Each call stands for all workgroups
// of a kernel; the barrier behind it shows what they stored to the kernels that follow.
{{declarations}}
@group(0) @binding({{steps}}) var<uniform> steps: vec4<u32>;
{{kernels}}
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    opaque_zero = group.z;
    let first = {{first}};
    let lane = {{lane}};
    for (var step = 0u; step < steps.x; step += 1u) {
{{calls}}
    }
}
