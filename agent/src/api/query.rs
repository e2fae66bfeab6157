//! The query part of a URL, and amounts with units.

use percent_encoding::percent_decode_str;

/// Keys and values in order; as in Patroni, those without a value do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=2`; what is not UTF-8 is replaced.
    pub(super) fn read(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.filter(|(_, value)| !value.is_empty());
        Self(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    /// The first value of `key`.
    pub(super) fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The pairs whose key begins with `prefix`, without it.
    pub(super) fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let rest = move |key: &'a str| key.strip_prefix(prefix);
        self.0.iter().filter_map(move |(key, value)| Some((rest(key)?, value.as_str())))
    }
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Bytes from `16777216`, `16MB` or `1.5 GB`, with PostgreSQL's units (powers of 1024).
pub(super) fn bytes(text: &str) -> Option<u64> {
    const KIB: f64 = 1024.0;
    amount(text, |unit| match unit {
        "" | "b" => Some(1.0),
        "kb" => Some(KIB),
        "mb" => Some(KIB * KIB),
        "gb" => Some(KIB * KIB * KIB),
        "tb" => Some(KIB * KIB * KIB * KIB),
        _ => None,
    })
}

/// Seconds from `30`, `30s` or `5min`.
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    amount(text, |unit| match unit {
        "" | "s" => Some(1.0),
        "min" => Some(60.0),
        "h" => Some(3600.0),
        "d" => Some(86400.0),
        _ => None,
    })
}

fn amount(text: &str, factor: impl Fn(&str) -> Option<f64>) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = factor(&unit.trim().to_ascii_lowercase())?;
    let value = number.parse::<f64>().ok().filter(|value| value.is_finite())? * factor;
    // Casting saturates: an absurdly large limit is no limit.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let whole = value.round() as u64;
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::read(Some("lag=16MB&tag_a%20b=x+y&empty=&tag_c=%E2%9C%93&odd"));
        assert_eq!(query.first("lag"), Some("16MB"));
        assert_eq!((query.first("empty"), query.first("odd")), (None, None));
        let tags: Vec<_> = query.with_prefix("tag_").collect();
        assert_eq!(tags, [("a b", "x y"), ("c", "✓")]);
        assert_eq!(Query::read(None), Query::default());
    }

    #[test]
    fn amounts_have_units() {
        assert_eq!(bytes("16777216"), Some(16 << 20));
        assert_eq!(bytes("16MB"), Some(16 << 20));
        assert_eq!(bytes(" 1.5 gB "), Some(3 << 29));
        assert_eq!(bytes("99999999999999999999TB"), Some(u64::MAX));
        assert_eq!(seconds("2min"), Some(120));
        for bad in ["", "MB", "-1", "1XB", "1.2.3", "0x10"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
