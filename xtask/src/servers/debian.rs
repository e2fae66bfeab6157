//! A server out of packages of another release of Debian, unpacked beside the libraries that it was built with, and not
//! installed: its programs are told where these are (patchelf), so that nothing of the system changes for others.
//! apt has lists and a state of its own for it, below the same folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{output, run};
use crate::setup;

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The release whose mirror is known here.
const HERE: &str = "bookworm";

/// Where a version is.
struct Source {
    /// The release that has the server and libpq.
    server: &'static str,
    /// The one that has the other libraries.
    libraries: &'static str,
    /// Whether they need a newer C library than the system's.
    own_libc: bool,
}

fn source(major: u32) -> Result<Source> {
    Ok(match major {
        13 => Source { server: "bullseye", libraries: "bullseye", own_libc: false },
        19 => Source { server: "experimental", libraries: "sid", own_libc: true },
        _ => bail!("no release of Debian is known to have it"),
    })
}

/// The server of `major` into the empty folder `into`, to be used when that is called `place`.
pub(super) fn fetch(major: u32, into: &Path, place: &Path) -> Result<()> {
    let source = source(major)?;
    setup::install(&[setup::PATCHELF])?;
    let apt = Apt::new(&into.join("apt"), &source)?;
    run(&mut apt.command("apt-get", &["update"]))?;
    let server = format!("postgresql-{major}");
    let client = format!("postgresql-client-{major}");
    let libraries = apt.libraries(&server, &source)?;
    let packages: Vec<String> = [server, client, "libpq5".to_owned()]
        .iter()
        .map(|name| format!("{name}/{}", source.server))
        .chain(libraries.iter().map(|name| format!("{name}/{}", source.libraries)))
        .collect();
    run(apt.command("apt-get", &["download"]).args(packages).current_dir(&apt.dir))?;
    unpack(&apt.dir, into)?;
    fs::remove_dir_all(&apt.dir).with_context(|| format!("{}", apt.dir.display()))?;
    // Without it PostgreSQL compiles no expressions, and asks for no compiler.
    let lib = format!("usr/lib/postgresql/{major}/lib/llvmjit.so");
    let _ = fs::remove_file(into.join(lib));
    tell_programs(major, into, place, &source)
}

/// apt with sources, lists and a state of its own.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new(dir: &Path, source: &Source) -> Result<Self> {
        let about = || format!("cannot write {}", dir.display());
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(name)).with_context(about)?;
        }
        ensure!(Path::new(KEYS).exists(), "{KEYS} is missing: install debian-archive-keyring");
        let mirror = setup::mirror(HERE)?;
        let suites: BTreeSet<_> = [source.server, source.libraries].into();
        let line = |suite: &str| format!("deb [signed-by={KEYS}] {mirror} {suite} main\n");
        let lines: String = suites.into_iter().map(line).collect();
        fs::write(dir.join("sources.list"), lines).with_context(about)?;
        // Nothing counts as installed.
        fs::write(dir.join("status"), "").with_context(about)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        for (name, file) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("-o").arg(format!("{name}={}", self.dir.join(file).display()));
        }
        // The system's own sources and preferences are about what is installed.
        for option in
            ["SourceParts=/dev/null", "Preferences=/dev/null", "PreferencesParts=/dev/null"]
        {
            command.arg("-o").arg(format!("Dir::Etc::{option}"));
        }
        command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "-q"]);
        command.args(arguments);
        command
    }

    /// The libraries that a server needs, and theirs, as far as their release has them.
    fn libraries(&self, server: &str, source: &Source) -> Result<Vec<String>> {
        let release = format!("APT::Default-Release={}", source.server);
        let depends = [
            "-o",
            &release,
            "depends",
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
            server,
        ];
        let listed = output(&mut self.command("apt-cache", &depends))?;
        let names = libraries(&String::from_utf8_lossy(&listed), source.own_libc);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let told = output(self.command("apt-cache", &["madison"]).args(&names))?;
        Ok(of_release(&String::from_utf8_lossy(&told), source.libraries))
    }
}

/// Names of libraries among the lines of `apt-cache depends --recurse`; those that stand at a line's beginning.
fn libraries(listed: &str, own_libc: bool) -> BTreeSet<String> {
    const NOT: [&str; 6] = ["perl", "llvm", "libpython", "libc-bin", "libpq5", "libdebian"];
    let is = |name: &&str| {
        (name.starts_with("lib") || *name == "zlib1g")
            && !NOT.iter().any(|part| name.contains(part))
            && (own_libc || *name != "libc6")
    };
    listed.lines().filter(is).map(str::to_owned).collect()
}

/// Names of the packages that `apt-cache madison` finds in this release: `name | version | mirror release/main …`.
fn of_release(told: &str, release: &str) -> Vec<String> {
    let part = format!(" {release}/main ");
    let name = |line: &str| line.split('|').next().map(|name| name.trim().to_owned());
    let names: BTreeSet<String> =
        told.lines().filter(|line| line.contains(&part)).filter_map(name).collect();
    names.into_iter().collect()
}

fn unpack(from: &Path, into: &Path) -> Result<()> {
    let about = || format!("cannot read {}", from.display());
    for entry in fs::read_dir(from).with_context(about)? {
        let path = entry.with_context(about)?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(path).arg(into))?;
        }
    }
    Ok(())
}

/// Where the programs find their libraries, with a path that counts for what they load later as well.
fn tell_programs(major: u32, root: &Path, place: &Path, source: &Source) -> Result<()> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let dirs = ["usr/lib", "lib"].map(|dir| place.join(dir).join(&triplet).display().to_string());
    let bin = root.join(format!("usr/lib/postgresql/{major}/bin"));
    let about = || format!("cannot read {}", bin.display());
    for entry in fs::read_dir(&bin).with_context(about)? {
        let path = entry.with_context(about)?.path();
        let is_program = fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
        // A link leads to another one of them.
        if !is_program || path.is_symlink() {
            continue;
        }
        let mut patch = Command::new("patchelf");
        patch.arg("--force-rpath").arg("--set-rpath").arg(dirs.join(":"));
        if source.own_libc {
            let loader = loader(&root.join("usr/lib").join(&triplet))?;
            patch.arg("--set-interpreter").arg(place.join("usr/lib").join(&triplet).join(loader));
        }
        run(patch.arg(path))?;
    }
    Ok(())
}

/// The file name of the program that loads programs.
fn loader(libraries: &Path) -> Result<String> {
    let entries = fs::read_dir(libraries).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found = names.find(|name| name.starts_with("ld-linux-"));
    found.with_context(|| format!("no ld-linux-* in {}", libraries.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_from_the_rest() {
        let listed = "postgresql-19\n  Depends: libpq5\nlibpq5\nlibc6\nlibldap2\nlibllvm19\n\
                      libtext-charwidth-perl\nzlib1g\n  Depends: libz\nperl\n";
        let names =
            |own_libc| libraries(listed, own_libc).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(names(true), "libc6 libldap2 zlib1g");
        assert_eq!(names(false), "libldap2 zlib1g");
    }

    #[test]
    fn only_what_the_release_has_is_asked_for() {
        let told = "   libssl4 |    4.0.3-1 | http://mirror/debian experimental/main amd64 Packages\n\
                    libldap2 | 2.6.14 | http://mirror/debian sid/main amd64 Packages\n\
                    libldap2 | 2.6.10 | http://mirror/debian trixie/main amd64 Packages\n";
        assert_eq!(of_release(told, "sid"), ["libldap2"]);
    }
}
