//! Where files that can be made again are kept between runs.

use std::path::PathBuf;

/// The folder for compiled pipelines and downloaded data: `SHADEGRAD_CACHE`, else the user's cache
/// folder on this system; `None` where the environment names neither.
pub fn cache_dir() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    folder("SHADEGRAD_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|path| path.join("shadegrad")))
        .or_else(|| folder("LOCALAPPDATA").map(|path| path.join("shadegrad")))
        .or_else(|| folder("HOME").map(|path| path.join(".cache").join("shadegrad")))
}
