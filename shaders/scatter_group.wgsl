// Scatter-add without atomics where the index is the same for a whole slice: one workgroup for a few rows of the
// result, one invocation for each element. The workgroup looks for the indices that name one of its rows once, 32
// by each invocation; what each element adds, it adds in order.
{{declarations}}
{{sources}}
var<workgroup> hits: array<u32, {{size}}>;
var<workgroup> summary: array<u32, {{summaries}}>;
@compute @workgroup_size({{size}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    opaque_zero = group.z;
    let tile = (group.y + first_line()) * {{line}}u + group.x;
    if (tile >= {{tiles}}u) { return; }
    let o = tile / {{row_tiles}}u / {{column_tiles}}u;
    let first = tile / {{column_tiles}}u % {{row_tiles}}u * {{rows}}u;
    let v = first + lane / {{columns}}u;
    let e = tile % {{column_tiles}}u * {{columns}}u + lane % {{columns}}u;
    let inside = lane < {{rows}}u * {{columns}}u && v < {{len}}u && e < {{inner}}u;
    var value = 0.0;
    for (var start = 0u; start < {{count}}u; start += {{size}}u * 32u) {
        var word = 0u;
        for (var bit = 0u; bit < 32u; bit += 1u) {
            let j = start + lane * 32u + bit;
            if (j < {{count}}u) {
                // Below `first` it wraps around, past all rows.
                if (index(o, j, 0u) - first < {{rows}}u) { word |= 1u << bit; }
            }
        }
        hits[lane] = word;
        workgroupBarrier();
        // Most words are zero: a bit for each that isn't.
        if (lane < {{summaries}}u) {
            word = 0u;
            for (var bit = 0u; bit < 32u && lane * 32u + bit < {{size}}u; bit += 1u) {
                if (hits[lane * 32u + bit] != 0u) { word |= 1u << bit; }
            }
            summary[lane] = word;
        }
        workgroupBarrier();
        let summaries = min({{summaries}}u, ({{count}}u - start + 1023u) / 1024u);
        for (var part = 0u; part < summaries; part += 1u) {
            for (var some = summary[part]; some != 0u; some &= some - 1u) {
                let at = part * 32u + firstTrailingBit(some);
                for (var left = hits[at]; left != 0u; left &= left - 1u) {
                    let j = start + at * 32u + firstTrailingBit(left);
                    if (inside && index(o, j, 0u) == v) { value += source(o, j, e); }
                }
            }
        }
        workgroupBarrier();
    }
    if (inside) {
        let i = (o * {{len}}u + v) * {{inner}}u + e;
{{body}}
    }
}
