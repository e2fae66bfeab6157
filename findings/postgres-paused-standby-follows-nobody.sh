#!/usr/bin/env bash
# A standby whose replay is paused (pg_wal_replay_pause) goes on receiving, and confirms commits as a synchronous standby. But
# not over a failover: the process that replays is the one that takes a new timeline or a new primary_conninfo up, and it
# is paused. n3 follows n2, and n2 is promoted: n3's receiver ends with the old timeline and waits ("waiting"). n4 followed the lost
# primary and is told to follow n2: it has no receiver at all. Neither gets a byte of the new primary's, nor confirms a
# commit, until replay is resumed. A standby with recovery_min_apply_delay (n5) is like that for as long as a commit waits for its
# time: with an hour's delay it may get no WAL for an hour after each failover.
# Guess before: receiving goes on along the new timeline, as pausing holds replay up and nothing else.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
receiver() { sql "$1" "select coalesce((select status || ' on timeline ' || received_tli from pg_stat_wal_receiver), 'none')"; }
for version in 15.19 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version" n3="n3-$version" n4="n4-$version" n5="n5-$version"
  primary "$n1" "wal_keep_size = 256MB"
  sql "$n1" "create table t(i int)"
  standby "$n2" "$n1"
  standby "$n3" "$n2"
  standby "$n4" "$n1"
  standby "$n5" "$n1" "recovery_min_apply_delay = 1h"
  for name in "$n3" "$n4"; do
    caught_up "$name" "$n1"
    sql "$name" "select pg_wal_replay_pause()" >/dev/null
    until_true 20 is "$name" "select pg_get_wal_replay_pause_state()" paused
  done
  received() { sql "$1" "select pg_last_wal_receive_lsn() >= '$at'"; }
  has_received() { [ "$(received "$1")" = t ]; }
  sql "$n1" "insert into t values (1)"
  at=$(sql "$n1" "select pg_current_wal_lsn()")
  until_true 20 has_received "$n3"
  until_true 20 has_received "$n4"
  until_true 20 has_received "$n5"
  echo "$version, all receive while they are paused, or delayed"
  caught_up "$n2" "$n1"
  stop "$n1" immediate
  sql "$n2" "select pg_promote()" >/dev/null
  for name in "$n4" "$n5"; do
    sql "$name" "alter system set primary_conninfo to 'host=$work/$n2.sock user=postgres application_name=$name'"
    sql "$name" "select pg_reload_conf()" >/dev/null
  done
  sql "$n2" "insert into t select generate_series(1, 1000)"
  at=$(sql "$n2" "select pg_current_wal_lsn()")
  sleep 15
  same "$version, 15 s after the promotion the receiver of the one that followed the new primary before" "waiting on timeline 1" "$(receiver "$n3")"
  same "$version, that of the one that followed the former primary" none "$(receiver "$n4")"
  same "$version, that of the delayed one, and what its replay waits in" "none RecoveryApplyDelay" "$(receiver "$n5") $(sql "$n5" "select wait_event from pg_stat_activity where backend_type = 'startup'")"
  same "$version, what the new primary wrote is received" "f f f" "$(received "$n3") $(received "$n4") $(received "$n5")"
  for name in "$n3" "$n4"; do
    sql "$name" "select pg_wal_replay_resume()" >/dev/null
    until_true 30 has_received "$name"
    same "$version, after pg_wal_replay_resume()" "streaming on timeline 2" "$(receiver "$name")"
    stop "$name"
  done
  stop "$n5"
  stop "$n2"
done
