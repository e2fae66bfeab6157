#!/usr/bin/env bash
# A switchover in good order with hot_standby_feedback and a slot for each standby. The old primary returns
# as a standby and still has the slot of the one that leads now, with the xmin of the time before. Nobody
# uses that slot, but a standby's feedback is the oldest of its own and its slots' xmin: the new primary's
# vacuum removes nothing that has died since, for as long as the slot is there. Moving it on
# (pg_replication_slot_advance) leaves its xmin; no view of the new primary shows anything but a streaming
# standby's slot. Dropping the slot and making it anew mends it.
# Guess before: a slot that nobody uses on a standby holds WAL back there, and nothing on the primary.
# Seen with PostgreSQL 15.19, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
vacuum() {
  as_user "$bin/psql" -h "$work/$1.sock" -U postgres -AXtqc "vacuum (verbose) t" 2>&1 |
    sed -n 's/.*tuples: \([0-9]* removed\), \([0-9]* remain\).*/\1, \2/p'
}
for version in 15.19 17.11 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  primary "$n1" "hot_standby_feedback = on" "wal_receiver_status_interval = 1s" "autovacuum = off"
  sql "$n1" "create table t(i int); insert into t select generate_series(1, 1000)"
  sql "$n1" "select pg_create_physical_replication_slot('n2', true)" >/dev/null
  standby "$n2" "$n1" "primary_slot_name = 'n2'"
  until_true 30 is "$n1" "select xmin is not null from pg_replication_slots" t
  caught_up "$n2" "$n1"
  stop "$n1"
  as_user "$bin/pg_ctl" -D "$work/$n2" promote -w >/dev/null
  sql "$n2" "select pg_create_physical_replication_slot('n1', true)" >/dev/null
  printf '%s\n' "primary_conninfo = 'host=$work/$n2.sock user=postgres'" "primary_slot_name = 'n1'" >>"$work/$n1/postgresql.conf"
  as_user touch "$work/$n1/standby.signal"
  start "$n1"
  caught_up "$n1" "$n2"
  sql "$n2" "delete from t where i <= 900"
  for _ in 1 2 3 4 5; do sql "$n2" "insert into t values (0)"; done
  caught_up "$n1" "$n2"
  sql "$n1" "select pg_replication_slot_advance('n2', pg_last_wal_replay_lsn())" >/dev/null
  old=$(sql "$n1" "select xmin from pg_replication_slots where slot_name = 'n2' and not active")
  sleep 3
  same "$version, xmin that the new primary keeps for the old one" "$old" "$(sql "$n2" "select xmin from pg_replication_slots")"
  same "$version, vacuum of 1005 rows of which 900 are deleted" "0 removed, 1005 remain" "$(vacuum "$n2")"
  sql "$n1" "select pg_drop_replication_slot('n2'); select pg_create_physical_replication_slot('n2', true)" >/dev/null
  until_true 30 is "$n2" "select xmin::text::bigint > $old from pg_replication_slots" t
  same "$version, with the slot made anew" "900 removed, 105 remain" "$(vacuum "$n2")"
  stop "$n1"
  stop "$n2"
done
