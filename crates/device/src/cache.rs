//! Where files that can be made again are kept between runs.

#[cfg(feature = "wgpu")]
use std::path::Path;
use std::path::PathBuf;
#[cfg(feature = "wgpu")]
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder for compiled pipelines and downloaded data: `SHADEGRAD_CACHE`, else `shadegrad` in
/// `XDG_CACHE_HOME`, `LOCALAPPDATA` (on Windows) or `~/.cache`; `None` where the environment names
/// none of these.
pub fn cache_dir() -> Option<PathBuf> {
    cache_dir_from(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
}

fn cache_dir_from(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // The XDG specification says that relative paths in its variables are to be ignored.
    let absolute = |name| var(name).filter(|path| path.is_absolute());
    var("SHADEGRAD_CACHE")
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("shadegrad")))
        .or_else(|| Some(var("LOCALAPPDATA").filter(|_| cfg!(windows))?.join("shadegrad")))
        .or_else(|| Some(var("HOME")?.join(".cache").join("shadegrad")))
}

/// Writes a file of a cache whole or not at all. What can't be written is made again by the next run.
#[cfg(feature = "wgpu")]
pub(crate) fn keep(path: &Path, data: &[u8]) {
    if path.parent().is_none_or(|folder| std::fs::create_dir_all(folder).is_err()) {
        return;
    }
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let part = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    if std::fs::write(&part, data).and_then(|()| std::fs::rename(&part, path)).is_err() {
        let _ = std::fs::remove_file(&part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let cache = |pairs: &[(&str, &str)]| {
            cache_dir_from(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        let home = ("HOME", "/home/me");
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(cache(&[]), None);
        assert_eq!(cache(&[home]), path("/home/me/.cache/shadegrad"));
        assert_eq!(cache(&[home, ("SHADEGRAD_CACHE", "here")]), path("here"));
        if cfg!(unix) {
            assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/c")]), path("/c/shadegrad"));
            assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "c")]), cache(&[home]));
        }
    }
}
