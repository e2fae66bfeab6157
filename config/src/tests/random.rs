use proptest::prelude::*;

use super::SAMPLE;
use crate::{Error, effective_postgresql, load_from_env, load_text, reference};

/// Whatever comes in, an answer comes out, and it can be shown.
fn never_panics(text: &str, env: Vec<(String, String)>) {
    match load_text("n1.yml", text, env) {
        Ok(loaded) => {
            let running = effective_postgresql(&loaded.config, &loaded.config.bootstrap.dynamic);
            assert!(running.parameters.contains_key("max_connections"));
            let shown = format!("{:?} {}", loaded.config, loaded.config.redacted_json());
            assert!(!shown.is_empty() && loaded.config.kv_prefix().ends_with('/'));
            assert!(!loaded.config.consul.endpoints.is_empty());
            assert!(!loaded.config.postgresql.listen.hosts.is_empty());
            assert!(loaded.warnings.iter().all(|warning| !warning.to_string().is_empty()));
        }
        Err(error) => {
            if let Error::Invalid(problems) = &error {
                assert!(!problems.problems.is_empty());
            }
            assert!(error.to_string().contains("\n  hint: "), "{error}");
        }
    }
}

fn at_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

proptest! {
    #[test]
    fn any_text(text in ".{0,400}") {
        never_panics(&text, vec![]);
    }

    #[test]
    fn any_yaml_like_text(text in "([a-c]: |- |\\[|\\]|\\{|\\}|, |\n|  |'|\"|&a |\\*a |<<: |!x |#|\\||>|\\?|---|1|~){0,60}") {
        never_panics(&text, vec![]);
    }

    #[test]
    fn the_sample_with_something_cut_out_and_put_in(
        from in 0..SAMPLE.len(),
        length in 0usize..60,
        put in "[ -~\n]{0,12}",
    ) {
        let from = at_boundary(SAMPLE, from);
        let to = at_boundary(SAMPLE, from + length);
        never_panics(&format!("{}{put}{}", &SAMPLE[..from], &SAMPLE[to..]), vec![]);
    }

    #[test]
    fn the_sample_with_any_value_for_any_key(
        at in 0..reference().len(),
        value in prop_oneof![
            Just("[]".to_owned()), Just("{}".to_owned()), Just("[{a: [b]}]".to_owned()),
            Just("{a: {b: [c]}}".to_owned()), Just("-1".to_owned()), Just("1e308".to_owned()),
            Just("18446744073709551616".to_owned()), Just("~".to_owned()), "'[ -&(-~]{0,20}'",
        ],
    ) {
        let over = reference()[at].path.rsplit('.').fold(value, |value, name| format!("{{{name}: {value}}}"));
        let mut root = crate::yaml::parse(&"n1.yml".into(), SAMPLE).unwrap();
        if let Ok(over) = crate::yaml::parse(&"n1.yml".into(), &over) {
            root.overlay(over);
        }
        never_panics(&root.to_json().to_string(), vec![]);
    }

    #[test]
    fn any_environment(at in 0..reference().len(), value in ".{0,60}") {
        let name = format!("HART_{}", reference()[at].env.unwrap_or("SCOPE"));
        never_panics(SAMPLE, vec![(name.clone(), value.clone())]);
        let _ = load_from_env([("HART_CONFIGURATION".to_owned(), value), (name, "x".to_owned())]);
    }
}
