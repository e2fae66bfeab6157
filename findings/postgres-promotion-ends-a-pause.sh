#!/usr/bin/env bash
# Replay of a standby is paused (pg_wal_replay_pause), to look at a moment of the past or to keep it, and the
# standby is promoted. It does not wait for pg_wal_replay_resume: the pause ends, all that was received is
# replayed, and it is a primary. A pause keeps nothing from a failover.
# Guess before: the promotion waits for the end of the pause.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version"
  sql "a-$version" "create table t(i int)"
  standby "b-$version" "a-$version"
  caught_up "b-$version" "a-$version"
  sql "b-$version" "select pg_wal_replay_pause()" >/dev/null
  until_true 10 is "b-$version" "select pg_get_wal_replay_pause_state()" paused
  sql "a-$version" "insert into t select generate_series(1, 1000)"
  until_true 30 is "b-$version" "select pg_last_wal_receive_lsn() >= '$(sql "a-$version" "select pg_current_wal_lsn()")'" t
  same "$version, rows while it is paused" 0 "$(sql "b-$version" "select count(*) from t")"
  same "$version, promoted" t "$(sql "b-$version" "select pg_promote(true, 60)")"
  same "$version, rows then" 1000 "$(sql "b-$version" "select count(*) from t")"
done
