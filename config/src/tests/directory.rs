use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{LEAST, SAMPLE};
use crate::load;

/// A directory of its own that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hart-config-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn error(path: &Path) -> String {
    let text = load(path, []).unwrap_err().to_string();
    text.replace(&path.display().to_string(), "PATH")
}

#[test]
fn a_file_is_read() {
    let folder = Folder::new();
    let file = folder.put("n1.yml", SAMPLE);
    let loaded = load(&file, []).unwrap();
    assert_eq!((loaded.config.name.as_str(), loaded.warnings), ("n1", vec![]));
}

#[test]
fn the_files_of_a_directory_are_merged_in_order() {
    let folder = Folder::new();
    folder.put("10-base.yml", LEAST);
    folder.put("20-node.yaml", "name: n2\nconsul: {host: c}\n");
    folder.put("30-more.yml", "consul: {port: x, register_service: on}\n");
    folder.put("readme.txt", "]not yaml[");
    let shown = error(&folder.0);
    assert!(
        shown.starts_with("PATH/30-more.yml:1:16: consul.port: expected a whole number"),
        "{shown}"
    );
    folder.put("30-more.yml", "consul: {port: 1, regster_service: on}\n");
    let loaded = load(&folder.0, []).unwrap();
    assert_eq!(loaded.config.name, "n2");
    assert_eq!(loaded.config.consul.endpoints, ["http://c:1"]);
    assert!(loaded.warnings[0].place.file.ends_with("30-more.yml"));
    assert_eq!(loaded.warnings[0].nearest(), Some("register_service"));
}

#[test]
fn what_cannot_be_read_is_named_with_the_reason() {
    let folder = Folder::new();
    assert_eq!(
        error(&folder.0.join("none.yml")),
        "cannot read PATH: No such file or directory (os error 2)\n  hint: check the path"
    );
    assert!(error(&folder.0).starts_with("cannot read PATH: the directory has no *.yml in it"));
    let file = folder.put("bytes.yml", b"scope: ha\nname: \xff\n");
    assert_eq!(
        error(&file),
        "PATH:2:7: not valid YAML: a byte here is not UTF-8 text\n  hint: save the file as UTF-8"
    );
    let file = folder.put("long.yml", vec![b'#'; (1 << 20) + 1]);
    assert!(error(&file).starts_with("cannot read PATH: it is longer than 1 MiB"));
}
