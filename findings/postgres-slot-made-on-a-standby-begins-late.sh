#!/usr/bin/env bash
# A physical slot that is to exist on a primary and on its standby, for a consumer that goes to whoever leads. Made on the
# standby, with WAL reserved at once, it begins where the standby's last restartpoint did: after the slot on the primary,
# where that one was made before the base backup. The standby promises nothing about the WAL between, also where it has
# the files still. Moved forward there, it does not go past what is replayed, and says no word of that; after a crash of
# the standby it is where it was before it was moved, never further.
# Guess before: it begins no later than the primary's, as both hold all WAL since the base backup; what it was moved to
# is kept.
# Seen with PostgreSQL 15.19, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 17.11 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  primary "$n1"
  sql "$n1" "create table t(i int)"
  sql "$n1" "select pg_create_physical_replication_slot('app', true)" >/dev/null
  sql "$n1" "insert into t select generate_series(1, 1000)"
  standby "$n2" "$n1"
  caught_up "$n2" "$n1"
  sql "$n2" "select pg_create_physical_replication_slot('app', true)" >/dev/null
  at() { sql "$1" "select restart_lsn from pg_replication_slots where slot_name = 'app'"; }
  begun=$(at "$n2")
  same "$version, the standby's slot begins after the primary's" t "$(sql "$n1" "select '$begun'::pg_lsn > '$(at "$n1")'")"
  same "$version, where the last restartpoint began" t "$(sql "$n2" "select redo_lsn = '$begun' from pg_control_checkpoint()")"
  sql "$n1" "insert into t select generate_series(1, 1000)"
  caught_up "$n2" "$n1"
  sql "$n2" "select pg_replication_slot_advance('app', pg_last_wal_replay_lsn() + 100000000)" >/dev/null
  same "$version, moved beyond what is replayed, it is there" t "$(sql "$n2" "select '$(at "$n2")' = pg_last_wal_replay_lsn()")"
  stop "$n2" immediate
  start "$n2"
  same "$version, after a crash it is where it was" "$begun" "$(at "$n2")"
done
