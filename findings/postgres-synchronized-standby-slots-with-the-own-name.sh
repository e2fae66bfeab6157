#!/usr/bin/env bash
# synchronized_standby_slots with the slots of all members, the same on all, as one writes it once for a
# cluster: whoever leads has no slot of its own, and every logical stream (and pg_logical_slot_get_changes)
# waits for ever, with a WARNING. Where the slot is there and its standby away, they wait as well.
# Guess before: a slot that does not exist is left out of account.
# Seen with PostgreSQL 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 17.11 18.6; do
  postgres "$version"
  primary "n1-$version" "wal_level = logical" "synchronized_standby_slots = 'n1, n2'"
  sql "n1-$version" "create table t(i int)"
  sql "n1-$version" "select pg_create_logical_replication_slot('app', 'test_decoding', failover => true)" >/dev/null
  sql "n1-$version" "select pg_create_physical_replication_slot('n2', true)" >/dev/null
  standby "n2-$version" "n1-$version" "primary_slot_name = 'n2'"
  sql "n1-$version" "insert into t values (1)"
  caught_up "n2-$version" "n1-$version"
  changes() {
    as_user timeout 5 "$bin/psql" -h "$work/n1-$version.sock" -U postgres -AXtqc \
      "select count(*) from pg_logical_slot_get_changes('app', null, null)" 2>/dev/null || echo waits
  }
  same "$version, n1 and n2, n2 streams" waits "$(changes)"
  same "$version, it says" 1 "$(grep -c -m 1 'WARNING:  replication slot "n1" specified in parameter "synchronized_standby_slots" does not exist' "$work/n1-$version.log")"
  sql "n1-$version" "alter system set synchronized_standby_slots to 'n2'"
  sql "n1-$version" "select pg_reload_conf()" >/dev/null
  until_true 30 is "n1-$version" "show synchronized_standby_slots" n2
  same "$version, n2 alone" 3 "$(changes)"
  stop "n2-$version"
  sql "n1-$version" "insert into t values (2)"
  same "$version, n2 alone and away" waits "$(changes)"
done
