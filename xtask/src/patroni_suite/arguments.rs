//! What the caller wants.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::FEATURES;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Of patroni/patroni.
    pub(super) checkout: PathBuf,
    /// Without `.feature`.
    pub(super) features: Vec<String>,
    /// How many run beside each other.
    pub(super) jobs: usize,
    /// The folder to work in, which is kept; else one that is removed when all is well.
    pub(super) work: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn read(words: &[String]) -> Result<Self> {
        let (mut named, mut jobs, mut work) = (Vec::new(), 1, None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} takes a value"));
            match word.as_str() {
                "--jobs" => {
                    let given = value()?;
                    let number = given.parse().with_context(|| format!("--jobs {given:?}"))?;
                    ensure!(number > 0, "--jobs takes a number from 1");
                    jobs = number;
                }
                "--work" => work = Some(PathBuf::from(value()?)),
                option if option.starts_with('-') => {
                    bail!("unknown option {option:?}; there are --jobs N and --work FOLDER")
                }
                name => named.push(name),
            }
        }
        let mut named = named.into_iter();
        let checkout = named.next().context("give the folder of a checkout of patroni/patroni")?;
        let features: Vec<String> =
            named.map(|name| name.trim_end_matches(".feature").to_owned()).collect();
        let all = || FEATURES.map(str::to_owned).to_vec();
        let features = if features.is_empty() { all() } else { features };
        Ok(Self { checkout: checkout.into(), features, jobs, work })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Arguments::read(&words)
    }

    #[test]
    fn all_features_are_run_where_none_is_named() {
        let all = read("/src/patroni").unwrap();
        assert_eq!((all.features.len(), all.jobs, all.work), (9, 1, None));
        let some = read("/src/patroni recovery --jobs 3 frozen_patroni.feature --work /w").unwrap();
        assert_eq!(some.features, ["recovery", "frozen_patroni"]);
        assert_eq!((some.jobs, some.work), (3, Some(PathBuf::from("/w"))));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in
            ["", "--jobs 2", "/src --jobs", "/src --jobs 0", "/src --jobs x", "/src --job 2"]
        {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
