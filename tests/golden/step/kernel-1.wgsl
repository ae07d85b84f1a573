// Row kernels, one invocation for each row: for short rows, and for software adapters, where a
// barrier costs more than the whole row.
@group(0) @binding(0) var<storage, read_write> b0: array<f32>;

var<private> opaque_zero: u32 = 0u;
fn zero() -> u32 { return opaque_zero; }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let r = id.y * 64u + id.x;
    if (r >= 1u) { return; }
    var a0: f32 = 0.0f;
    for (var c = 0u; c < 8u; c += 1u) {
        let c0 = c;

        let t0: f32 = b0[(r * 8u + c)];
        a0 = a0 + t0;
    }
    let t1 = a0;
    let t2: f32 = 0.125f;
    let t3: f32 = (t1 * t2);
    b0[16u + r] = t3;

}
