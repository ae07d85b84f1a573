// What begins the workgroups of most families, which stand in lines as long as a grid's first axis allows: `t` is a
// workgroup's place in all lines.
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, {{invocation}}) {
    opaque_zero = group.z;
    let t = (group.y + first_line()) * {{line}}u + group.x;
{{statements}}}
