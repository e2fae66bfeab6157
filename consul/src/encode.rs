//! Names in URLs, durations in queries, `null` in answers.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `base` followed by `name`, percent-encoded per segment (slashes stay). Refuses what would reach
/// another name: Consul's router redirects `//` to `/`, and `.` and `..` are resolved by every URL
/// parser on the way.
pub(crate) fn path(base: &str, name: &str) -> Result<String> {
    let mut segments = name.split('/').peekable();
    let mut encoded = String::from(base);
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment == "." || segment == ".." || (segment.is_empty() && !last) {
            return Err(Error::Invalid {
                what: format!(
                    "\"{}\" has an empty segment, \".\" or \"..\" between its slashes, which \
                     Consul's HTTP API cannot address; choose another name",
                    name.escape_debug()
                ),
            });
        }
        encoded.extend(utf8_percent_encode(segment, SEGMENT));
        if !last {
            encoded.push('/');
        }
    }
    Ok(encoded)
}

/// As [`path`], for a name that must not be empty; `what` says which.
pub(crate) fn named(base: &str, name: &str, what: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::Invalid { what: format!("the {what} is empty") });
    }
    path(base, name)
}

/// A duration as Go reads it, in whole milliseconds; what is not zero does not become zero.
pub(crate) fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let rounded_up = !duration.subsec_nanos().is_multiple_of(1_000_000);
    format!("{}ms", ms + u128::from(rounded_up))
}

/// Go encodes an empty slice or map as `null` or `[]`, as it happens to be.
pub(crate) fn null_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The ACL rule for one resource, in Consul's policy language.
pub(crate) fn rule(resource: &str, name: &str, policy: &str) -> String {
    format!("{resource}_prefix {name:?} {{ policy = \"{policy}\" }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_encoded_and_slashes_kept() {
        let table = [
            ("service/a-b_c.d~/leader", "/k/service/a-b_c.d~/leader"),
            ("a b/ü?#%/+&=", "/k/a%20b/%C3%BC%3F%23%25/%2B%26%3D"),
            ("%2e%2e/x", "/k/%252e%252e/x"),
            ("a\\b\n", "/k/a%5Cb%0A"),
            ("dir/", "/k/dir/"),
            (".../x..", "/k/.../x.."),
            ("", "/k/"),
        ];
        for (name, encoded) in table {
            assert_eq!(path("/k/", name).unwrap(), encoded, "{name}");
        }
        for name in ["/a", "a//b", "a/./b", "a/..", "..", "//"] {
            assert!(matches!(path("/k/", name), Err(Error::Invalid { .. })), "{name}");
        }
        assert!(named("/k/", "", "key").is_err());
    }

    #[test]
    fn durations_round_up() {
        assert_eq!(duration(Duration::from_secs(15)), "15000ms");
        assert_eq!(duration(Duration::from_nanos(1)), "1ms");
        assert_eq!(duration(Duration::from_micros(1500)), "2ms");
        assert_eq!(duration(Duration::ZERO), "0ms");
    }
}
