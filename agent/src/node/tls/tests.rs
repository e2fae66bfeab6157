//! What a start and a reload say of certificates.

use super::pki::Pki;
use super::*;

fn config(restapi: &str, more: &str) -> Config {
    let text = format!(
        "scope: ha\nname: n1\nrestapi:\n  listen: 127.0.0.1:8008\n{restapi}consul: {{}}\n\
         postgresql: {{listen: '127.0.0.1:5432', data_dir: /d}}\n{more}"
    );
    hart_config::load_text("t.yml", &text, []).unwrap().config
}

fn refusal(tls: &Tls, config: &Config) -> String {
    tls.check(config).err().expect("it is refused")
}

#[test]
fn a_bad_pair_is_refused_and_the_old_one_stays() {
    let pki = Pki::new(&["n1", "n2"]);
    let config = config(&pki.restapi("n1"), "");
    let tls = Tls::begin(Fresh::read(&config).unwrap());
    let before = tls.server.as_ref().unwrap().pair();
    let (key, cert) = (pki.at("n1.key"), pki.at("n1.crt"));
    let good = (std::fs::read(&key).unwrap(), std::fs::read(&cert).unwrap());

    // Renewed by half: a certificate without its key.
    std::fs::copy(pki.at("n2.crt"), &cert).unwrap();
    let why = refusal(&tls, &config);
    assert!(why.contains("restapi.keyfile") && why.contains("n1.key is not that of"), "{why}");
    assert!(why.ends_with("goes on with the certificate that it has"), "{why}");
    std::fs::write(&key, "nonsense").unwrap();
    assert!(refusal(&tls, &config).contains("holds no private key"));
    std::fs::remove_file(&key).unwrap();
    assert!(refusal(&tls, &config).contains("cannot read"));
    pki.sign("n1", 2001);
    let why = refusal(&tls, &config);
    assert!(why.contains("n1.crt is not valid: it expired at 2001"), "{why}");
    assert!(tls.server.as_ref().unwrap().pair().is_same(&before));

    // Back, and then renewed.
    std::fs::write(&key, good.0).unwrap();
    std::fs::write(&cert, good.1).unwrap();
    tls.renew(tls.check(&config).unwrap());
    assert!(tls.server.as_ref().unwrap().pair().is_same(&before));
    pki.sign("n1", 2091);
    tls.renew(tls.check(&config).unwrap());
    assert!(!tls.server.as_ref().unwrap().pair().is_same(&before));
}

/// It serves whoever does not verify, and a reload for another setting is not in its way.
#[test]
fn one_that_expires_while_it_runs_is_kept() {
    let pki = Pki::new(&[]);
    pki.sign("n1", 2001);
    let config = config(&pki.restapi("n1"), "");
    let fresh = Fresh::read(&config).unwrap();
    assert!(fresh.late.as_ref().unwrap().contains("it expired at 2001"));
    let tls = Tls::begin(fresh);
    tls.renew(tls.check(&config).unwrap());
    pki.sign("n1", 2091);
    tls.renew(tls.check(&config).unwrap());
    assert!(Fresh::read(&config).unwrap().late.is_none());
}

#[test]
fn what_others_would_refuse_is_said() {
    let pki = Pki::new(&["n1"]);
    let warnings =
        |restapi: &str, more: &str| Fresh::read(&config(restapi, more)).unwrap().warnings;
    let plain = pki.restapi("n1");
    assert_eq!(warnings("", ""), [""; 0]);
    assert_eq!(warnings(&plain, ""), [""; 0]);
    assert_eq!(warnings(&format!("{plain}  verify_client: required\n"), ""), [""; 0]);
    let said = warnings(&format!("{plain}  connect_address: 10.0.0.9:8008\n"), "");
    assert!(said[0].contains("at 10.0.0.9") && said[0].contains("subjectAltName"), "{said:?}");
    let insecure = format!("{plain}  connect_address: 10.0.0.9:8008\n");
    assert_eq!(warnings(&insecure, "ctl: {insecure: true}\n"), [""; 0]);
    // No CA is named, and the system knows none of this name.
    let unnamed = plain.lines().filter(|line| !line.contains("cafile")).collect::<Vec<_>>();
    let said = warnings(&format!("{}\n", unnamed.join("\n")), "");
    assert!(said[0].contains("do not believe its certificate"), "{said:?}");
    // The callers' CA is another one than that of what this node shows.
    let other = Pki::new(&["n1"]);
    let ctl =
        format!("ctl: {{certfile: {}, keyfile: {}}}\n", other.at("n1.crt"), other.at("n1.key"));
    let said = warnings(&format!("{plain}  verify_client: optional\n"), &ctl);
    assert!(said[0].contains("members refuse this node's calls"), "{said:?}");
    let consul = warnings(&format!("{plain}  verify_client: required\n  ciphers: RC4\n"), "");
    assert!(consul[0].contains("restapi.ciphers: RC4 is ignored"), "{consul:?}");
}

#[test]
fn consuls_check_without_a_certificate_is_said() {
    let pki = Pki::new(&["n1"]);
    for (verify, expected) in [("none", 0), ("optional", 0), ("required", 1)] {
        let restapi = format!("{}  verify_client: {verify}\n", pki.restapi("n1"));
        let mut config = config(&restapi, "");
        config.consul.register_service = true;
        let said = Fresh::read(&config).unwrap().warnings;
        assert_eq!(said.len(), expected, "{said:?}");
        assert!(said.iter().all(|text| text.contains("enable_agent_tls_for_checks")), "{said:?}");
    }
}

/// Patroni: `ctl` first, then `restapi`; and here the node's own certificate where one is asked for.
#[test]
fn what_is_shown_and_believed_comes_from_ctl_first() {
    let of = |restapi: &str, more: &str| {
        let files = client_files(&config(restapi, more));
        let pair = files.pair.map(|pair| (pair.section, pair.certfile.display().to_string()));
        (files.ca.map(|(what, _)| what), pair)
    };
    let own = "  certfile: /a\n  cafile: /ca\n";
    assert_eq!(of("", ""), (None, None));
    assert_eq!(of(own, ""), (Some("restapi.cafile"), None));
    let asked = format!("{own}  verify_client: optional\n");
    assert_eq!(of(&asked, ""), (Some("restapi.cafile"), Some(("restapi", "/a".to_owned()))));
    let ctl = "ctl: {cacert: /other, certfile: /b}\n";
    assert_eq!(of(&asked, ctl), (Some("ctl.cacert"), Some(("ctl", "/b".to_owned()))));
}
