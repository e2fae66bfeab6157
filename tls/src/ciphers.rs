//! `ciphers`: OpenSSL's language of cipher suites, as far as it selects among those that there are. As
//! there, it is about TLS 1.2 only; the suites of TLS 1.3 are always there.

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;

/// The suites of TLS 1.2 by OpenSSL's names, with the words that select them.
const KNOWN: &[(&str, &str, &[&str])] = &[
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        &["AESGCM", "AES256", "AES", "ECDSA", "SHA384"],
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        &["AESGCM", "AES128", "AES", "ECDSA", "SHA256"],
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        &["CHACHA20", "ECDSA"],
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        &["AESGCM", "AES256", "AES", "RSA", "SHA384"],
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        &["AESGCM", "AES128", "AES", "RSA", "SHA256"],
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        &["CHACHA20", "RSA"],
    ),
];

/// Words that select all of them.
const ALL: &[&str] = &[
    "ALL",
    "DEFAULT",
    "HIGH",
    "ECDHE",
    "EECDH",
    "kECDHE",
    "kEECDH",
    "TLSv1.2",
    "COMPLEMENTOFDEFAULT",
];

/// What a list selects.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) suites: Vec<SupportedCipherSuite>,
    /// Words that select nothing here, or the whole list where it does.
    pub(crate) ignored: Vec<String>,
}

fn fits(suite: &(&str, &str, &[&str]), word: &str) -> bool {
    let (name, standard, words) = suite;
    let by_standard = word.strip_prefix("TLS_").is_some_and(|word| word == *standard);
    let word =
        word.strip_prefix('a').filter(|rest| ["RSA", "ECDSA"].contains(rest)).unwrap_or(word);
    word == *name || by_standard || ALL.contains(&word) || words.contains(&word)
}

/// Picks among the provider's suites.
pub(crate) fn select(provider: &CryptoProvider, list: &str) -> Selected {
    let mut chosen: Vec<&(&str, &str, &[&str])> = Vec::new();
    let (mut banned, mut ignored) = (Vec::new(), Vec::new());
    for token in list.split([':', ',', ' ', ';']).filter(|token| !token.is_empty()) {
        let (sign, words) = match token.chars().next() {
            Some(sign @ ('!' | '-' | '+')) => (sign, &token[1..]),
            _ => (' ', token),
        };
        let found = KNOWN.iter().filter(|suite| words.split('+').all(|word| fits(suite, word)));
        let found: Vec<_> = found.collect();
        match sign {
            '!' => banned.extend(found),
            '-' => chosen.retain(|suite| !found.contains(suite)),
            '+' => {
                let (last, first): (Vec<_>, Vec<_>) =
                    chosen.into_iter().partition(|suite| found.contains(suite));
                chosen = first.into_iter().chain(last).collect();
            }
            // `@STRENGTH` orders, `@SECLEVEL` is about keys that the library refuses anyway.
            _ if words.starts_with('@') => {}
            _ if found.is_empty() && !is_of_tls_1_3(words) => ignored.push(words.to_owned()),
            _ => found.iter().for_each(|suite| {
                if !chosen.contains(suite) {
                    chosen.push(suite);
                }
            }),
        }
    }
    chosen.retain(|suite| !banned.contains(suite));
    if chosen.is_empty() {
        return Selected { suites: provider.cipher_suites.clone(), ignored: vec![list.to_owned()] };
    }
    let named = |suite: &&SupportedCipherSuite, standard: &str| {
        suite.suite().as_str().is_some_and(|name| name == format!("TLS_{standard}"))
    };
    let mut suites: Vec<_> =
        provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()).copied().collect();
    for (_, standard, _) in chosen {
        suites.extend(provider.cipher_suites.iter().find(|suite| named(suite, standard)).copied());
    }
    Selected { suites, ignored }
}

fn is_of_tls_1_3(word: &str) -> bool {
    word.starts_with("TLS_AES_") || word.starts_with("TLS_CHACHA20_") || word == "TLSv1.3"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &str) -> (Vec<String>, Vec<String>) {
        let selected = select(&crate::provider(), list);
        let old = selected.suites.iter().filter(|suite| suite.tls13().is_none());
        let names = old.map(|suite| suite.suite().as_str().unwrap().to_owned());
        assert_eq!(selected.suites.iter().filter(|suite| suite.tls13().is_some()).count(), 3);
        (names.collect(), selected.ignored)
    }

    #[test]
    fn openssls_words_select_what_there_is() {
        let patronis = "ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384:\
                        ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:!SSLv1:!SSLv2:!SSLv3:\
                        !TLSv1:!TLSv1.1";
        let (names, ignored) = of(patronis);
        let expected =
            ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"];
        assert_eq!(names, expected);
        assert_eq!(ignored, ["DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256"]);
        let (names, ignored) = of("ECDHE+AESGCM:!aRSA:@STRENGTH");
        assert!(names.len() == 2 && names.iter().all(|name| name.contains("ECDSA")), "{names:?}");
        assert_eq!(ignored, [""; 0]);
        let (names, _) = of("HIGH:-AES128:+AES256:!aNULL:!MD5");
        assert_eq!(names.len(), 4);
        assert!(names[0].contains("CHACHA20") && names[3].contains("AES_256"), "{names:?}");
    }

    #[test]
    fn a_list_of_nothing_here_is_ignored_whole() {
        for list in ["AES128-SHA:RC4", "HIGH:!ECDHE", "nonsense"] {
            let (names, ignored) = of(list);
            assert_eq!((names.len(), ignored), (6, vec![list.to_owned()]));
        }
    }
}
