#!/usr/bin/env bash
# A standby that streams, with what the documentation asks for failover slots: sync_replication_slots, hot_standby_feedback,
# a physical slot, wal_level = logical. primary_conninfo has no dbname, which streaming does not need. The server starts, streams, shows the
# parameter as on, and synchronises nothing; the log alone says so, each time the process begins. After a failover the slots are missing.
# ALTER SYSTEM with a dbname and a reload are enough, without a restart.
# Guess before: the server does not start, or refuses the parameter.
# Seen with PostgreSQL 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 17.11 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  primary "$n1" "wal_level = logical"
  sql "$n1" "select pg_create_physical_replication_slot('n2', true)" >/dev/null
  sql "$n1" "select pg_create_logical_replication_slot('s', 'test_decoding', false, false, true)" >/dev/null
  standby "$n2" "$n1" "primary_slot_name = 'n2'" "sync_replication_slots = on" "hot_standby_feedback = on"
  until_true 30 is "$n2" "select status from pg_stat_wal_receiver" streaming
  sleep 25
  same "$version, the parameter, and slots on the standby after 25 s" "on 0" \
    "$(sql "$n2" "show sync_replication_slots") $(sql "$n2" "select count(*) from pg_replication_slots")"
  said='replication slot synchronization requires "?dbname"? to be specified in "?primary_conninfo"?'
  grep -qE "$said" "$work/$n2.log"
  echo "$version, the log: $(grep -oE "$said" "$work/$n2.log" | sort -u)"
  conninfo=$(sql "$n2" "show primary_conninfo")
  sql "$n2" "alter system set primary_conninfo = '${conninfo//\'/\'\'} dbname=postgres'"
  sql "$n2" "select pg_reload_conf()" >/dev/null
  until_true 60 is "$n2" "select count(*) from pg_replication_slots where slot_name = 's' and synced" 1
  echo "$version, with dbname: synchronised"
  stop "$n1" immediate
  stop "$n2" immediate
done
