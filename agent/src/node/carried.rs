//! What others have in `status`. A lease transaction writes the key whole, so what it does not bring along
//! is lost: Patroni's positions of slots, and fields that hart does not know.

use hart_ha::keeper::Payload;
use hart_ha::kv::Status;

/// What a renewal carries: positions of its own take the place of those that are there.
pub(super) fn on(payload: Payload, status: Option<&Status>) -> Payload {
    match status {
        Some(status) if payload.slots.is_empty() => {
            Payload { slots: status.slots.clone(), ..payload }
        }
        _ => payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let text = r#"{"optime":9,"slots":{"b":1},"retain_slots":["b"],"x":[1]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_renewal_keeps_the_positions_until_there_are_own_ones() {
        let other = status().other;
        let none = Payload { other, retain_slots: vec!["n2".into()], ..Payload::default() };
        let carried = on(none.clone(), Some(&status()));
        assert_eq!(carried, Payload { slots: status().slots, ..none.clone() });
        let own = Payload { slots: [("c".to_owned(), 5)].into(), ..none };
        assert_eq!(on(own.clone(), Some(&status())), own);
    }
}
