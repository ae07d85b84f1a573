// Pointwise kernels: one invocation computes one point of the domain.
// No invocation sees another's points, so there is no memory to share and nothing to wait for.
@group(0) @binding(0) var<storage, read_write> b0: array<u32>;

var<private> opaque_zero: u32 = 0u;
fn zero() -> u32 { return opaque_zero; }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * 64u + id.x;
    if (i >= 1u) { return; }
    let t0: u32 = b0[i];
    let t1: u32 = 1u;
    let t2: u32 = (t0 + t1);
    b0[i] = t2;

}
