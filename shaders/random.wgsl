// Twin of `random` and `shuffle` in crates/device/src/intrinsic.rs, which say where they come from.
fn pcg(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}
fn random_bits(key: u32, counter: u32) -> u32 {
    return pcg(pcg(key) ^ (counter * 0x9e3779b9u + 0x85ebca6bu));
}
fn shuffle(index: u32, length: u32, key: u32) -> u32 {
    if (index >= length) { return index; }
    let bits = 32u - countLeadingZeros(length - 1u);
    let half = max((bits + 1u) / 2u, 1u);
    let mask = (1u << half) - 1u;
    var value = index;
    loop {
        var a = value >> half;
        var b = value & mask;
        for (var round = 0u; round < 4u; round += 1u) {
            let next = a ^ (random_bits(key + round, b) & mask);
            a = b;
            b = next;
        }
        value = (a << half) | b;
        if (value < length) { break; }
    }
    return value;
}
