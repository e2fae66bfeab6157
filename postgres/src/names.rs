//! Names derived from member names.

/// The physical slot of a member, by Patroni's rule, so that both see the same slots: lower case,
/// `-` and `.` become `_`, anything else outside `[a-z0-9_]` becomes `u` and its code point with at
/// least four decimal digits; at most 63 bytes.
#[must_use]
pub fn slot_name(member: &str) -> String {
    let mut out = String::with_capacity(member.len());
    for c in member.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' | '_' => out.push(c),
            '-' | '.' => out.push('_'),
            other => out.push_str(&format!("u{:04}", u32::from(other))),
        }
    }
    out.truncate(63);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_patronis_rule() {
        assert_eq!(slot_name("Node-1.example"), "node_1_example");
        assert_eq!(slot_name("pg:1"), "pgu00581");
        assert_eq!(slot_name("ünïx"), "u0252nu0239x");
        assert_eq!(slot_name(&"x".repeat(80)).len(), 63);
    }
}
