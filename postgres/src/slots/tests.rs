use super::*;

fn there(list: &[(&str, Slot)]) -> There {
    list.iter().map(|(name, slot)| ((*name).to_owned(), slot.clone())).collect()
}

const IDLE: Slot = Slot {
    physical: true,
    temporary: false,
    active: false,
    lost: false,
    restart: Some(Lsn(100)),
    holds_rows: false,
    redo: Some(Lsn(150)),
    database: None,
    plugin: None,
    failover: false,
    synced: false,
};

const PRIMARY: Server = Server { standby: false, major: 17, decodes: true };
const STANDBY: Server = Server { standby: true, ..PRIMARY };

fn decoding(plugin: &str) -> Slot {
    let (database, plugin) = (Some("app".to_owned()), Some(plugin.to_owned()));
    Slot { physical: false, database, plugin, failover: true, ..IDLE }
}

fn kind(plugin: &str) -> SlotKind {
    SlotKind::Logical { database: "app".into(), plugin: plugin.into() }
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn physical(list: &[(&str, Option<Lsn>)]) -> WantedSlots {
    let physical: BTreeMap<_, _> =
        list.iter().map(|(name, to)| ((*name).to_owned(), *to)).collect();
    WantedSlots { permanent: physical.keys().cloned().collect(), physical, ..<_>::default() }
}

fn logical(list: &[(&str, &str)]) -> WantedSlots {
    let logical = list.iter().map(|(name, plugin)| ((*name).to_owned(), kind(plugin))).collect();
    let permanent = list.iter().map(|(name, _)| (*name).to_owned()).collect();
    WantedSlots { logical, permanent, ..<_>::default() }
}

/// After a switchover the old primary's slot of the new one had the `xmin` of its last feedback for ever.
#[test]
fn a_standbys_slot_that_holds_rows_back_is_made_anew_where_no_wal_is_lost_by_it() {
    let slots = there(&[("n1", Slot { holds_rows: true, ..IDLE })]);
    let at = |to| plan(STANDBY, &slots, &physical(&[("n1", to)]));
    assert_eq!(at(Some(Lsn(150))), [SlotChange::Recreated("n1".into())]);
    assert_eq!(at(Some(Lsn(149))), [SlotChange::Advanced("n1".into(), Lsn(149))]);
    assert_eq!(at(None), [], "the primary's slots are their standbys'");
}

#[test]
fn only_known_idle_physical_slots_are_dropped() {
    let slots = there(&[
        ("gone", IDLE),
        ("busy", Slot { active: true, ..IDLE }),
        ("logical", decoding("p")),
        ("foreign", IDLE),
        ("ignored", IDLE),
    ]);
    let known = names(&["gone", "busy", "logical", "absent", "ignored"]);
    let ignored = vec![SlotMatcher { name: Some("ignored".into()), ..<_>::default() }];
    let wanted = WantedSlots { known, ignored, ..<_>::default() };
    assert_eq!(plan(PRIMARY, &slots, &wanted), [SlotChange::Dropped("gone".into())]);
}

#[test]
fn wanted_slots_are_made_and_moved_forward_only() {
    let slots = there(&[
        ("lost", Slot { lost: true, ..IDLE }),
        ("n1", IDLE),
        ("n2", IDLE),
        ("n3", Slot { active: true, ..IDLE }),
    ]);
    let wanted = physical(&[
        ("lost", None),
        ("new", None),
        ("n1", Some(Lsn(200))),
        ("n2", Some(Lsn(50))),
        ("n3", Some(Lsn(200))),
    ]);
    assert_eq!(
        plan(STANDBY, &slots, &wanted),
        [
            SlotChange::Recreated("lost".into()),
            SlotChange::Advanced("n1".into(), Lsn(200)),
            SlotChange::Created("new".into()),
        ]
    );
}

#[test]
fn what_was_permanent_is_dropped_when_it_is_what_it_was() {
    let slots = there(&[
        ("p", IDLE),
        ("l", decoding("p")),
        ("changed", decoding("p")),
        ("busy", Slot { active: true, ..IDLE }),
        ("synced", Slot { synced: true, ..decoding("p") }),
        ("wanted", IDLE),
    ]);
    let former = [("p", true), ("l", false), ("changed", true), ("busy", true), ("synced", false)];
    let former = former.into_iter().chain([("wanted", true), ("absent", true)]);
    let former = former.map(|(name, physical)| (name.to_owned(), physical)).collect();
    let wanted = WantedSlots { former, ..physical(&[("wanted", None)]) };
    let dropped = ["l", "p"].map(|name| SlotChange::Dropped(name.into()));
    assert_eq!(plan(PRIMARY, &slots, &wanted), dropped);
}

#[test]
fn another_slot_of_the_name_is_said_and_left_alone() {
    let slots =
        there(&[("p", decoding("x")), ("l", IDLE), ("m", decoding("x")), ("n", decoding("y"))]);
    let mut wanted = logical(&[("l", "y"), ("m", "y"), ("n", "y")]);
    wanted.physical.insert("p".into(), Some(Lsn(900)));
    wanted.permanent.insert("p".into());
    wanted.led.insert("n".into(), Lsn(1));
    for server in [PRIMARY, Server { standby: true, ..PRIMARY }] {
        let said = faults(server, &slots, &wanted);
        assert!(
            said.iter().any(|text| text.starts_with("slots.p: ") && text.contains("plugin x")),
            "{said:?}"
        );
        assert!(
            said.iter()
                .any(|text| text.starts_with("slots.l: ") && text.contains("a physical one"))
        );
        assert!(said.iter().any(|text| text.starts_with("slots.m: ")));
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(to_make(server, &slots, &wanted), []);
    }
    assert_eq!(plan(PRIMARY, &slots, &wanted), []);
}

#[test]
fn logical_slots_are_made_by_the_leader_only() {
    let wanted = logical(&[("l", "p"), ("m", "p")]);
    let slots = there(&[("m", decoding("p"))]);
    assert_eq!(to_make(PRIMARY, &slots, &wanted), [("l".to_owned(), kind("p"))]);
    assert_eq!(to_make(STANDBY, &slots, &wanted), []);
    let replica = Server { decodes: false, ..PRIMARY };
    assert_eq!(to_make(replica, &slots, &wanted), []);
    let said = faults(replica, &slots, &wanted);
    assert!(
        said.len() == 1 && said[0].starts_with("slots: l, m cannot be made: wal_level"),
        "{said:?}"
    );
    let said = faults(Server { major: 16, ..PRIMARY }, &slots, &wanted);
    assert!(said.len() == 1 && said[0].contains("PostgreSQL 16 does not bring"), "{said:?}");
    assert_eq!(faults(PRIMARY, &slots, &wanted), [""; 0]);
}

/// A failover slot from the time when this node led stops the synchronisation of all slots.
#[test]
fn a_former_leaders_logical_slot_goes_when_the_leader_has_its_own() {
    let slots = there(&[
        ("l", decoding("p")),
        ("synced", Slot { synced: true, ..decoding("p") }),
        ("busy", Slot { active: true, ..decoding("p") }),
        ("unled", decoding("p")),
        ("foreign", decoding("p")),
    ]);
    let mut wanted = logical(&[("l", "p"), ("synced", "p"), ("busy", "p"), ("unled", "p")]);
    wanted.led = ["l", "synced", "busy", "foreign"].map(|name| (name.to_owned(), Lsn(5))).into();
    assert_eq!(plan(STANDBY, &slots, &wanted), [SlotChange::Outlived("l".into())]);
    assert_eq!(plan(PRIMARY, &slots, &wanted), []);
}

#[test]
fn a_lost_or_unbrought_logical_slot_is_said() {
    let slots = there(&[
        ("l", Slot { lost: true, ..decoding("p") }),
        ("m", Slot { failover: false, ..decoding("p") }),
    ]);
    let said = faults(PRIMARY, &slots, &logical(&[("l", "p"), ("m", "p")]));
    assert!(
        said[0].contains("l is lost") && said[1].contains("m was made without failover"),
        "{said:?}"
    );
    assert_eq!(said.len(), 2);
}
