//! Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

/// How `Content-Type` names it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics in the making: each family with its help and type, then its samples.
pub struct Text {
    text: String,
    /// On every sample: `scope="ha",name="n1"`.
    labels: String,
    family: &'static str,
}

impl Text {
    /// Nothing yet. These labels are on every sample.
    pub fn new(labels: &[(&str, &str)]) -> Self {
        Self { text: String::with_capacity(8192), labels: pairs(labels), family: "" }
    }

    /// Begins a family of this type.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        self.family = name;
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(&format!("# HELP {name} {help}\n# TYPE {name} {kind}"))
    }

    /// A family with one sample that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Into<f64>) {
        self.family(name, "gauge", help).sample("", &[], value.into());
    }

    /// A family with one sample that only grows.
    pub fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, "counter", help).sample("", &[], exact(value));
    }

    /// A sample of the family that was begun last; `suffix` is `_sum` or `_count` of a summary.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) -> &mut Self {
        let mut all = self.labels.clone();
        if !labels.is_empty() {
            all = format!("{all},{}", pairs(labels));
        }
        let name = self.family;
        self.line(&format!("{name}{suffix}{{{all}}} {}", number(value)))
    }

    fn line(&mut self, line: &str) -> &mut Self {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
        self
    }

    /// All of it, and what another part of the program has written in the same format.
    pub fn finish(mut self, other: Option<&str>) -> String {
        self.text.push_str(other.unwrap_or_default());
        self.text
    }
}

/// What Prometheus keeps is a double; positions and counts beyond 2^53 lose their last bits there.
#[expect(clippy::cast_precision_loss, reason = "the format's own")]
pub fn exact(value: u64) -> f64 {
    value as f64
}

/// `f64` prints without an exponent, and so that reading it gives the same number.
fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        v => v.to_string(),
    }
}

fn pairs(labels: &[(&str, &str)]) -> String {
    let escape =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<_> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = Text::new(&[("scope", "a\"b\\c\nd")]);
        text.gauge("x", "one\\two\nthree", 1);
        text.family("y", "summary", "sums").sample("_sum", &[("of", "z")], 0.25);
        let expected = "# HELP x one\\\\two\\nthree\n# TYPE x gauge\n\
                        x{scope=\"a\\\"b\\\\c\\nd\"} 1\n\
                        # HELP y sums\n# TYPE y summary\n\
                        y_sum{scope=\"a\\\"b\\\\c\\nd\",of=\"z\"} 0.25\n";
        assert_eq!(text.finish(None), expected);
    }

    #[test]
    fn numbers_are_those_of_the_format() {
        assert_eq!(number(exact(67_108_864)), "67108864");
        assert_eq!(number(f64::INFINITY), "+Inf");
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(1e21), "1000000000000000000000");
    }
}
