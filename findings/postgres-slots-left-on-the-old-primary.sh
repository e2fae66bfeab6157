#!/usr/bin/env bash
# A switchover in good order with sync_replication_slots. The old primary returns as a standby and still has
# its own failover slots, which are not "synced" ones: the slot sync worker ends at the first of them with an
# ERROR, is started again, and ends again. None of the other slots is synchronised, also those that were made
# after the switchover, and the left ones hold WAL back for good. Dropping them by hand mends it.
# Guess before: the slot of the same name is taken over, and others are synchronised in any case.
# Seen with PostgreSQL 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 17.11 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  common=("wal_level = logical" "hot_standby_feedback = on" "sync_replication_slots = on" "wal_keep_size = 512MB")
  primary "$n1" "${common[@]}"
  sql "$n1" "create table t(i int)"
  sql "$n1" "select pg_create_logical_replication_slot('app', 'test_decoding', failover => true)" >/dev/null
  sql "$n1" "select pg_create_physical_replication_slot('n2', true)" >/dev/null
  upstream() { echo "primary_conninfo = 'host=$work/$1.sock user=postgres dbname=postgres'"; }
  standby "$n2" "$n1" "${common[@]}" "$(upstream "$n1")" "primary_slot_name = 'n2'"
  # A slot is synchronised when it moves on; the worker looks at an idle primary rarely.
  move() {
    sql "$1" "insert into t values (1)"
    sql "$1" "select pg_log_standby_snapshot()" >/dev/null
    sql "$1" "select count(*) from pg_replication_slots, pg_logical_slot_get_changes(slot_name, null, null) where slot_type = 'logical'" >/dev/null
  }
  synced() { move "$1" && is "$2" "select count(*) from pg_replication_slots where slot_name = '$3' and synced and not temporary" 1; }
  until_true 120 synced "$n1" "$n2" app
  stop "$n1"
  as_user "$bin/pg_ctl" -D "$work/$n2" promote -w >/dev/null
  sql "$n2" "select pg_create_physical_replication_slot('n1', true)" >/dev/null
  sql "$n2" "select pg_create_logical_replication_slot('third', 'test_decoding', failover => true)" >/dev/null
  printf '%s\n' "$(upstream "$n2")" "primary_slot_name = 'n1'" >>"$work/$n1/postgresql.conf"
  as_user touch "$work/$n1/standby.signal"
  start "$n1"
  caught_up "$n1" "$n2"
  complained() { move "$n2" && grep -q 'ERROR:  exiting from slot synchronization because same name slot "app" already exists' "$work/$n1.log"; }
  until_true 120 complained
  for _ in 1 2 3 4 5 6; do move "$n2" && sleep 5; done
  same "$version, slots on the one that returned" "app (synced f, failover t)|n2 (synced f, failover f)" \
    "$(sql "$n1" "select string_agg(format('%s (synced %s, failover %s)', slot_name, synced, failover), '|' order by slot_name) from pg_replication_slots")"
  sql "$n1" "select pg_drop_replication_slot('app')" >/dev/null
  until_true 180 synced "$n2" "$n1" third
  same "$version, with app dropped" "app t|third t" \
    "$(until_true 60 synced "$n2" "$n1" app; sql "$n1" "select string_agg(slot_name || ' ' || synced::text::char(1), '|' order by slot_name) from pg_replication_slots where failover")"
done
