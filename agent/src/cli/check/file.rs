//! Who may read the configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hart_config::Config;

use super::item::Item;

const SUBJECT: &str = "configuration";

/// Files with passwords that everybody on this machine may read.
pub fn check(config: &Config, path: &Path) -> Option<Item> {
    // As it is shown: secrets are masked.
    if !config.redacted_json().to_string().contains("***") {
        return None;
    }
    let open: Vec<String> = files(path)
        .into_iter()
        .filter(|file| {
            fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
        })
        .map(|file| file.display().to_string())
        .collect();
    let found =
        format!("everybody on this machine may read {}, with passwords in it", open.join(", "));
    let remedy = "chmod 0640 (root:postgres), or give the passwords in the environment";
    (!open.is_empty()).then(|| Item::warn(SUBJECT, found, remedy))
}

fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let yaml = |path: &PathBuf| path.extension().is_some_and(|end| end == "yml" || end == "yaml");
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(yaml).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_passwords_is_nobody_elses() {
        let dir = std::env::temp_dir().join(format!("hart-check-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("n1.yml");
        let of = |secret: &str, mode: u32, path: &Path| {
            let text = format!(
                "scope: ha\nname: n1\nrestapi: {{listen: '127.0.0.1:1'{secret}}}\nconsul: {{}}\n\
                 postgresql: {{listen: '127.0.0.1:2', data_dir: /d}}\n"
            );
            fs::write(&file, &text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            check(&hart_config::load_text("n1.yml", &text, []).unwrap().config, path)
        };
        let secret = ", auth: 'a:b'";
        assert!(of(secret, 0o644, &file).is_some() && of(secret, 0o644, &dir).is_some());
        assert_eq!(of(secret, 0o640, &file), None);
        assert_eq!(of("", 0o644, &file), None);
        fs::remove_dir_all(dir).unwrap();
    }
}
