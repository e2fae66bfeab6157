#!/usr/bin/env bash
# A standby that synchronises failover slots (sync_replication_slots), whose primary is frozen: the connection stays, nothing is
# answered. Promotion asks the process that synchronises slots to end and waits for it; it does not look while it waits for the
# primary's answer. So the standby does not become primary, for as long as the primary is frozen: pg_promote() returns
# false after its time. pg_terminate_backend() of that process lets the promotion go on.
# Guess before: the process ends at once, as the WAL receiver does.
# Seen with PostgreSQL 17.9 and 18.3; not with 17.11 and 18.6 (nor, by hand, with 17.10 and 18.4).
. "$(dirname "$0")/lib.sh"
for version in 17.9 18.3 17.11 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  primary "$n1" "wal_level = logical"
  sql "$n1" "select pg_create_physical_replication_slot('n2', true)" >/dev/null
  sql "$n1" "select pg_create_logical_replication_slot('s', 'test_decoding', false, false, true)" >/dev/null
  standby "$n2" "$n1" "primary_slot_name = 'n2'" "hot_standby_feedback = on" "sync_replication_slots = on" \
    "primary_conninfo = 'host=$work/$n1.sock user=postgres dbname=postgres application_name=n2'"
  until_true 60 is "$n2" "select count(*) from pg_replication_slots where slot_name = 's' and synced" 1
  postmaster=$(head -n 1 "$work/$n1/postmaster.pid")
  frozen=("$postmaster" $(cat "/proc/$postmaster/task/$postmaster/children"))
  kill -STOP "${frozen[@]}"
  trap 'kill -CONT "${frozen[@]}" 2>/dev/null || true; leave' EXIT
  worker="from pg_stat_activity where backend_type = 'slotsync worker'"
  until_true 60 is "$n2" "select wait_event $worker" LibpqwalreceiverReceive
  promoted=$(sql "$n2" "select pg_promote(true, 15)" 2>/dev/null)
  case $version in
    17.9 | 18.3)
      same "$version, promoted within 15 s" f "$promoted"
      same "$version, the process that promotes waits in" ReplicationSlotsyncShutdown \
        "$(sql "$n2" "select wait_event from pg_stat_activity where backend_type = 'startup'")"
      sql "$n2" "select pg_terminate_backend(pid) $worker" >/dev/null
      until_true 30 is "$n2" "select pg_is_in_recovery()" f
      echo "$version, after pg_terminate_backend() of the slotsync worker: promoted"
      ;;
    *) same "$version, promoted within 15 s" t "$promoted" ;;
  esac
  kill -CONT "${frozen[@]}"
  stop "$n1" immediate
  stop "$n2" immediate
done
