//! What a server may ask of us before it has shown who it is.

use std::fmt;

use super::options::Options;

/// Why no password was sent.
#[derive(Debug)]
pub(crate) struct Distrust(pub String);

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Distrust {}

/// Which requests are answered.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    require_auth: Option<Vec<String>>,
    /// A password in clear text would be read by others, or by whoever has taken the server's place.
    in_the_open: bool,
}

impl Rules {
    /// For a connection that is encrypted (or a socket whose other end is known), or is not.
    pub(crate) fn new(options: &Options, is_private: bool) -> Self {
        Self { require_auth: options.require_auth.clone(), in_the_open: !is_private }
    }

    fn judge(&self, method: &'static str) -> Result<(), Distrust> {
        if let Some(list) = &self.require_auth {
            let text = list.join(",");
            return fits(list, method).then_some(()).ok_or_else(|| {
                Distrust(format!(
                    "the server wants authentication by {method:?}, which require_auth={text} does \
                     not allow"
                ))
            });
        }
        if method == "password" && self.in_the_open {
            return Err(Distrust(
                "the server asks for the password in clear text over a connection without \
                 encryption; use scram-sha-256 in its pg_hba.conf, or set sslmode to require or \
                 more (require_auth: password allows it all the same)"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// libpq's rule: a list of what is allowed, or, with `!`, of what is not.
fn fits(list: &[String], method: &str) -> bool {
    if list.iter().all(|word| word.starts_with('!')) {
        return !list.iter().any(|word| &word[1..] == method);
    }
    list.iter().any(|word| word == method)
}

/// Looks at the first message of the server, which says how it wants us to prove who we are.
#[derive(Debug)]
pub(crate) struct Watch {
    rules: Option<Rules>,
    seen: Vec<u8>,
}

/// Type, length and code of an authentication request.
const HEAD: usize = 9;

impl Watch {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules: Some(rules), seen: Vec::new() }
    }

    /// Takes what has arrived.
    pub(crate) fn see(&mut self, bytes: &[u8]) -> Result<(), Distrust> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let wanted = HEAD - self.seen.len();
        self.seen.extend(bytes.iter().take(wanted));
        let request = match self.seen.first() {
            None => return Ok(()),
            Some(b'R') if self.seen.len() < HEAD => return Ok(()),
            Some(b'R') => method(self.seen[HEAD - 1]),
            // An error; it is read elsewhere.
            Some(_) => None,
        };
        let verdict = request.map_or(Ok(()), |method| rules.judge(method));
        self.rules = None;
        verdict
    }
}

/// By the last byte of the code; the others are zero.
fn method(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "none",
        3 => "password",
        5 => "md5",
        7 => "gss",
        9 => "sspi",
        10 => "scram-sha-256",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn rules(require_auth: &str, is_private: bool) -> Rules {
        let given = BTreeMap::from([("require_auth".to_owned(), require_auth.to_owned())]);
        Rules::new(&Options::read(&given, None), is_private)
    }

    /// Byte by byte, as a slow network delivers it.
    fn asked(rules: Rules, code: u8) -> Result<(), Distrust> {
        let mut watch = Watch::new(rules);
        for byte in [b'R', 0, 0, 0, 8, 0, 0, 0, code] {
            watch.see(&[byte])?;
        }
        Ok(())
    }

    #[test]
    fn a_clear_text_password_is_not_sent_in_the_open() {
        let error = asked(rules("", false), 3).unwrap_err().to_string();
        assert!(error.contains("clear text") && error.contains("sslmode"), "{error}");
        for (rules, code) in
            [(rules("", true), 3), (rules("", false), 10), (rules("password", false), 3)]
        {
            asked(rules, code).unwrap();
        }
    }

    #[test]
    fn what_is_not_required_is_refused() {
        for (given, code, good) in [
            ("scram-sha-256", 10, true),
            ("scram-sha-256", 5, false),
            ("scram-sha-256", 0, false),
            ("md5,scram-sha-256", 5, true),
            ("!password,!md5", 5, false),
            ("!password,!md5", 10, true),
        ] {
            assert_eq!(asked(rules(given, true), code).is_ok(), good, "{given} {code}");
        }
    }

    #[test]
    fn only_the_first_message_is_looked_at() {
        let mut watch = Watch::new(rules("", false));
        watch.see(b"E\0\0\0\x08abcd").unwrap();
        watch.see(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).unwrap();
    }
}
