//! Reading an agent's log.

/// The lines of level WARN or ERROR that contain none of `announced`.
pub(super) fn unexpected(log: &str, announced: &[&str]) -> Vec<String> {
    log.lines()
        .filter(|line| is_problem(line) && !announced.iter().any(|known| line.contains(known)))
        .map(str::to_owned)
        .collect()
}

/// Lines are `TIME LEVEL target: message` or JSON with `"level":"WARN"`; without a time, the level
/// comes first. What PostgreSQL itself writes has a colon after the level.
fn is_problem(line: &str) -> bool {
    if line.starts_with('{') {
        return ["\"level\":\"WARN\"", "\"level\":\"ERROR\""]
            .iter()
            .any(|level| line.contains(level));
    }
    line.split_whitespace().take(2).any(|word| matches!(plain(word), "WARN" | "ERROR"))
        || line.contains("panicked at")
}

/// A word without the colour codes around it.
fn plain(word: &str) -> &str {
    let start = word.strip_prefix("\x1b[").and_then(|rest| rest.split_once('m'));
    let word = start.map_or(word, |(_, rest)| rest);
    word.split_once('\x1b').map_or(word, |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_found_and_messages_are_not_levels() {
        let log = "2026-01-01T00:00:00Z  INFO hart: an ERROR in a message\n\
                   2026-01-01T00:00:00Z  WARN hart: lease is short\n\
                   \x1b[31mERROR\x1b[0m hart: broken\n\
                   {\"level\":\"ERROR\",\"message\":\"json\"}\n\
                   {\"level\":\"INFO\",\"message\":\"WARN\"}\n\
                   2026-01-01 00:00:00 UTC ERROR: of PostgreSQL\n\
                   thread 'main' panicked at src/main.rs:1\n";
        let found = unexpected(log, &["lease is short"]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|line| line.contains("broken")));
        assert!(found.iter().any(|line| line.contains("json")));
        assert!(found.iter().any(|line| line.contains("panicked")));
    }
}
