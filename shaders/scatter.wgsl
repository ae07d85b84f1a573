// Scatter-add without atomics: one invocation for each element of the result goes through all
// indices in order and adds what is meant for it.
{{declarations}}
{{sources}}
@compute @workgroup_size({{size}})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = (id.y + first_line()) * {{line}}u + id.x;
    if (i >= {{points}}u) { return; }
    let o = i / {{slab}}u;
    let v = i % {{slab}}u / {{inner}}u;
    let e = i % {{inner}}u;
    var value = 0.0;
    for (var j = 0u; j < {{count}}u; j += 1u) {
        if (index(o, j, e) == v) { value += source(o, j, e); }
    }
{{body}}
}
