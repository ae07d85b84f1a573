//! The WGSL of every kernel family, with named holes that the device crate fills.
//!
//! The contract of holes and bindings is in `shaders/README.md`.

/// NaN, infinity and constants made of bits: part of every kernel.
pub const BITS: &str = include_str!("../bits.wgsl");
/// Functions that WGSL doesn't have.
pub const SPECIAL: &str = include_str!("../special.wgsl");
/// Pointwise kernels.
pub const MAP: &str = include_str!("../map.wgsl");
/// Row kernels, one invocation for each row.
pub const ROWS_SINGLE: &str = include_str!("../rows_single.wgsl");
/// Row kernels, one workgroup for each row.
pub const ROWS_GROUP: &str = include_str!("../rows_group.wgsl");
/// Contractions straight from memory.
pub const CONTRACT_DIRECT: &str = include_str!("../contract_direct.wgsl");
/// Contractions through workgroup memory.
pub const CONTRACT_TILED: &str = include_str!("../contract_tiled.wgsl");
/// Pooling, forward.
pub const WINDOW: &str = include_str!("../window.wgsl");
/// Pooling, backward.
pub const WINDOW_GRADIENT: &str = include_str!("../window_gradient.wgsl");
/// Scatter-add.
pub const SCATTER: &str = include_str!("../scatter.wgsl");
/// Counter-based random numbers and permutations.
pub const RANDOM: &str = include_str!("../random.wgsl");

/// Fills the holes `{{name}}` of a template.
///
/// # Errors
/// The name of a hole that has no value, or of a value that has no hole.
pub fn fill(template: &str, holes: &[(&str, String)]) -> Result<String, String> {
    let mut text = String::with_capacity(template.len() * 2);
    let mut used = vec![false; holes.len()];
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a hole doesn't close")?;
        let at = holes.iter().position(|(hole, _)| *hole == name);
        let at = at.ok_or_else(|| format!("no value for hole `{name}`"))?;
        used[at] = true;
        text.push_str(before);
        text.push_str(&holes[at].1);
        rest = after;
    }
    text.push_str(rest);
    match used.iter().position(|used| !used) {
        Some(at) => Err(format!("no hole for value `{}`", holes[at].0)),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn holes_and_values_must_match() {
        let value = |name| vec![(name, "1".to_string())];
        assert_eq!(fill("a {{x}} b {{x}}", &value("x")).as_deref(), Ok("a 1 b 1"));
        assert_eq!(fill("{{y}}", &value("x")), Err("no value for hole `y`".to_string()));
        assert_eq!(fill("", &value("x")), Err("no hole for value `x`".to_string()));
        assert_eq!(fill("{{x", &value("x")), Err("a hole doesn't close".to_string()));
    }
}
