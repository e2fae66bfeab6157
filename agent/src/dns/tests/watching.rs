use super::*;

#[tokio::test]
async fn every_cluster_in_consul_is_served() {
    let rig = Rig::start(&[("ha", keys()), ("other", keys())]).await;
    rig.until("primary.ha.pg.test", &[1]).await;
    assert_eq!(rig.ask("replica.other.pg.test").1.len(), 2);
    rig.put("service/later/initialize", &json!("1")).await;
    for (key, value) in keys() {
        rig.put(&format!("service/later/{key}"), &value).await;
    }
    rig.until("primary.later.pg.test", &[1]).await;
    assert!(rig.client.kv().delete_recurse("service/later/").await.unwrap());
    rig.until_code("primary.later.pg.test", &(3, vec![])).await;
    rig.until("primary.ha.pg.test", &[1]).await;
}

#[tokio::test]
async fn a_new_leader_is_named_and_a_released_lease_is_nobodys() {
    let rig = Rig::start(&[("ha", keys())]).await;
    rig.until("primary.ha.pg.test", &[1]).await;
    rig.put("service/ha/status", &status("n1", 2, 600_000, "released")).await;
    rig.until("primary.ha.pg.test", &[]).await;
    rig.put("service/ha/status", &status("n2", 3, 600_000, "held")).await;
    rig.until("primary.ha.pg.test", &[2]).await;
    rig.until("any.ha.pg.test", &[2, 3]).await;
}

#[tokio::test]
async fn before_consul_has_answered_nothing_is_denied() {
    let rig = Rig::start(&[]).await;
    rig.until_code("primary.ha.pg.test", &(3, vec![])).await;
    let publisher = Publisher::new(options().settings, 1);
    let blind = Responder::new(publisher, Arc::new(Counters::default()));
    assert_eq!(ask(&blind, "primary.ha.pg.test").0, 2);
}
