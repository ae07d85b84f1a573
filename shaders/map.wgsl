// Pointwise kernels: one invocation computes one point of the domain.
// No invocation sees another's points, so there is no memory to share and nothing to wait for.
{{declarations}}
@compute @workgroup_size({{size}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = (id.y + first_line()) * {{line}}u + id.x;
    if (i >= {{points}}u) { return; }
{{body}}
}
