// Cooperative matrices in plain WGSL, for tests: a matrix of a source is where it begins in workgroup memory, and each
// invocation of the subgroup holds every {{lanes}}-th element of a matrix of sums.
alias Sums = array<f32, {{held}}>;
fn multiply_add(a: u32, b: u32, sums: ptr<function, Sums>, member: u32) {
    for (var held = 0u; held < {{held}}u; held += 1u) {
        let at = held * {{lanes}}u + member;
        let left = a + at / {{side}}u * {{left_by_m}}u;
        let right = b + at % {{side}}u * {{right_by_n}}u;
        var sum = (*sums)[held];
        for (var k = 0u; k < {{side}}u; k += 1u) {
            sum += f32(tile_left[left + k * {{left_by_k}}u]) * f32(tile_right[right + k * {{right_by_k}}u]);
        }
        (*sums)[held] = sum;
    }
}
fn put_sums(at: u32, sums: ptr<function, Sums>, member: u32) {
    for (var held = 0u; held < {{held}}u; held += 1u) {
        tile_sum[at + held * {{lanes}}u + member] = (*sums)[held];
    }
}
