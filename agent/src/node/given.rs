//! `synchronous_standby_names` as the brain is to see them: names that somebody gives while hart sets none
//! are no business of its own.

use hart_ha::kv::SynchronousMode;
use hart_ha::observation::Sql;
use hart_ha::waits::are_nobodys;

/// Are names in force that hold commits back, other than those `given` for a mode that is off? In
/// synchronous mode a standby has to rest with names that nobody bears, and with no others that it was
/// left with: what is promoted past hart would acknowledge commits by them.
pub fn wait(sql: &Sql, mode: SynchronousMode, given: &str) -> bool {
    if sql.in_recovery && mode != SynchronousMode::Off {
        are_nobodys(&sql.names)
    } else {
        sql.names != given
    }
}

#[cfg(test)]
mod tests {
    use hart_ha::waits::NOBODY;

    use super::*;

    fn seen(in_recovery: bool, names: &str) -> Sql {
        Sql { in_recovery, names: names.to_owned(), ..Sql::default() }
    }

    #[test]
    fn given_names_are_nobodys_business_while_the_mode_is_off() {
        let off = SynchronousMode::Off;
        for in_recovery in [false, true] {
            assert!(!wait(&seen(in_recovery, "*"), off, "*"));
            assert!(wait(&seen(in_recovery, ""), off, "*"), "they are to be put in force");
            assert!(wait(&seen(in_recovery, NOBODY), off, ""), "they are to be taken away");
            assert!(!wait(&seen(in_recovery, ""), off, ""));
        }
    }

    #[test]
    fn a_standby_that_was_left_with_names_does_not_rest() {
        let on = SynchronousMode::Quorum;
        assert!(!wait(&seen(true, "*"), on, ""), "any standby would let commits go");
        assert!(wait(&seen(true, NOBODY), on, ""));
        assert!(wait(&seen(true, "\"__hart_nobody__\""), on, ""), "as an earlier version left it");
        assert!(wait(&seen(false, "1 (\"n2\")"), on, ""));
    }
}
