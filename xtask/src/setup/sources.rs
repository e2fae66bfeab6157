//! Where this machine's apt takes its packages from.

use std::fs;
use std::path::{Path, PathBuf};

/// One source of packages: sources.list(5), in either of its two forms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// A file with keys, where one is named.
    signed_by: Option<String>,
}

/// All enabled sources of binary packages below `root`.
pub(super) fn read(root: &Path) -> Vec<Source> {
    let mut files = vec![root.join("etc/apt/sources.list")];
    let entries = fs::read_dir(root.join("etc/apt/sources.list.d"));
    let mut more: Vec<PathBuf> =
        entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    more.sort();
    files.extend(more);
    files.iter().flat_map(|file| read_file(file)).collect()
}

fn read_file(file: &Path) -> Vec<Source> {
    let text = || fs::read_to_string(file).unwrap_or_default();
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("list") => parse_lines(&text()),
        Some("sources") => parse_stanzas(&text()),
        // As apt does.
        _ => Vec::new(),
    }
}

/// The mirror of the main archive: the first source that has `suite` itself with `main`. Its
/// updates and security suites may live elsewhere.
pub(super) fn mirror_of<'a>(sources: &'a [Source], suite: &str) -> Option<&'a str> {
    let main = |source: &&Source| {
        source.suites.iter().any(|name| name == suite)
            && source.components.iter().any(|name| name == "main")
    };
    sources.iter().find(main)?.uris.first().map(String::as_str)
}

/// The key file of the source that [`mirror_of`] finds at `mirror`.
pub(super) fn keys_of<'a>(sources: &'a [Source], mirror: &str) -> Option<&'a str> {
    let same = |source: &&Source| source.uris.iter().any(|uri| uri == mirror);
    sources.iter().find(same)?.signed_by.as_deref()
}

/// `deb [option=value …] URI suite component…`, one per line.
fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// Stanzas of `Field: values`, divided by empty lines; values go on in indented lines.
fn parse_stanzas(text: &str) -> Vec<Source> {
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = uncommented.split(|line| line.trim().is_empty());
    stanzas.filter(|lines| !lines.is_empty()).filter_map(parse_stanza).collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let enabled = field(lines, "enabled");
    let off = enabled.first().is_some_and(|value| matches!(value.as_str(), "no" | "false" | "0"));
    if off || !field(lines, "types").iter().any(|kind| kind == "deb") {
        return None;
    }
    let keys = field(lines, "signed-by");
    Some(Source {
        uris: field(lines, "uris"),
        suites: field(lines, "suites"),
        components: field(lines, "components"),
        // A key may also stand in the file itself.
        signed_by: keys.into_iter().next().filter(|path| path.starts_with('/')),
    })
}

fn field(lines: &[&str], name: &str) -> Vec<String> {
    let mut inside = false;
    let mut values = Vec::new();
    for line in lines {
        let mut value = *line;
        if !line.starts_with([' ', '\t']) {
            let Some((key, rest)) = line.split_once(':') else { continue };
            inside = key.trim().eq_ignore_ascii_case(name);
            value = rest;
        }
        if inside {
            values.extend(value.split_whitespace().map(str::to_owned));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
# written by an image builder
Types: deb deb-src
# http://snapshot.invalid/archive
URIs: http://mirror.invalid/debian
Suites: bookworm
  bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.invalid/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://other.invalid/debian
Suites: bookworm
Components: main
";

    #[test]
    fn stanzas() {
        let sources = parse_stanzas(STANZAS);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        let mirror = mirror_of(&sources, "bookworm").expect("found");
        assert_eq!(mirror, "http://mirror.invalid/debian");
        let keys = Some("/usr/share/keyrings/debian-archive-keyring.gpg");
        assert_eq!(keys_of(&sources, mirror), keys);
        assert_eq!(mirror_of(&sources, "trixie"), None);
    }

    #[test]
    fn lines() {
        let sources = parse_lines(
            "# deb http://commented.invalid/debian bookworm main\n\
             deb-src http://mirror.invalid/debian bookworm main\n\
             deb http://security.invalid/debian-security bookworm-security main\n\
             deb [ arch=amd64 signed-by=/k.gpg ] mirror+file:/etc/apt/mirrors bookworm contrib main # x\n\
             deb http://broken.invalid\n\
             debug\n",
        );
        assert_eq!(sources.len(), 2);
        let mirror = mirror_of(&sources, "bookworm").expect("found");
        assert_eq!(mirror, "mirror+file:/etc/apt/mirrors");
        assert_eq!(keys_of(&sources, mirror), Some("/k.gpg"));
    }

    #[test]
    fn a_source_without_main_is_not_the_archive() {
        let sources = parse_lines("deb http://mirror.invalid/extra bookworm contrib\n");
        assert_eq!(mirror_of(&sources, "bookworm"), None);
    }
}
