//! What a template says of itself, in comments at the beginnings of lines:
//!
//! ```text
//! {# about: HAProxy in front of the cluster #}
//! {# set rw_port = 5433: clients that write connect here #}
//! ```

/// A template's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What it is for; empty where it does not say.
    pub about: String,
    /// Variables that `--set` may change.
    pub settings: Vec<Setting>,
}

/// A variable with its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it is unless set.
    pub default: String,
    /// What it is for.
    pub about: String,
}

impl Header {
    /// Reads the comments of a template.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut header = Self::default();
        for comment in text.lines().filter_map(comment) {
            if let Some(about) = comment.strip_prefix("about:") {
                about.trim().clone_into(&mut header.about);
            }
            header.settings.extend(comment.strip_prefix("set ").and_then(setting));
        }
        header
    }
}

fn comment(line: &str) -> Option<&str> {
    line.strip_prefix("{#")?.strip_suffix("#}").map(str::trim)
}

/// `name = default: about`; the default may have colons in it, but no colon before a blank.
fn setting(text: &str) -> Option<Setting> {
    let (name, rest) = text.split_once('=')?;
    let rest = rest.trim_start();
    let (default, about) =
        rest.strip_prefix(": ").map(|about| ("", about)).or_else(|| rest.split_once(": "))?;
    let trimmed = |text: &str| text.trim().to_owned();
    Some(Setting { name: trimmed(name), default: trimmed(default), about: trimmed(about) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_read() {
        let text = "{# about: a thing #}\n{# set at = 127.0.0.1:53: where #}\n{# set host = : who #}\n\
                    {# nothing #}\nx {# set no = 1: not at the beginning #}\n";
        let header = Header::read(text);
        assert_eq!(header.about, "a thing");
        let read: Vec<_> = header
            .settings
            .iter()
            .map(|s| (s.name.as_str(), s.default.as_str(), s.about.as_str()))
            .collect();
        assert_eq!(read, [("at", "127.0.0.1:53", "where"), ("host", "", "who")]);
    }
}
