//! Paths as people write them.

use std::path::{Component, Path, PathBuf};

/// The path, absolute and in one spelling: without slashes at its end or doubled, without `.` and `..`.
/// What stands before a `..` is followed where it is a symbolic link, as the kernel does; other links stay
/// as they are given, so that one can be pointed elsewhere.
pub(crate) fn spelled(path: &Path) -> PathBuf {
    // Fails for an empty path, and where there is no current directory.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut spelled = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if let Ok(followed) = spelled.canonicalize() {
                    spelled = followed;
                }
                spelled.pop();
            }
            other => spelled.push(other),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        let of = |text: &str| spelled(Path::new(text)).to_str().map(str::to_owned).unwrap();
        for text in [
            "/nowhere/data",
            "/nowhere/data/",
            "/nowhere/data//",
            "//nowhere/./data/.",
            "/nowhere//x/../data",
            "/../nowhere/data/x/y/../../",
        ] {
            assert_eq!(of(text), "/nowhere/data", "{text}");
        }
        assert_eq!(of("/"), "/");
        let here = std::env::current_dir().unwrap();
        assert_eq!(spelled(Path::new("data/")), here.join("data"));
    }

    #[test]
    fn two_dots_lead_out_of_where_a_link_points() {
        let dir = std::env::temp_dir().join(format!("hart-place-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("real/deep")).unwrap();
        let dir = dir.canonicalize().unwrap();
        std::os::unix::fs::symlink(dir.join("real/deep"), dir.join("link")).unwrap();
        assert_eq!(spelled(&dir.join("link/../data/")), dir.join("real/data"));
        assert_eq!(spelled(&dir.join("link/data")), dir.join("link/data"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
