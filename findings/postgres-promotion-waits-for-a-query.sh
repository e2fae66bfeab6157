#!/usr/bin/env bash
# A standby with max_standby_streaming_delay = -1 on which a report runs, and replay waits for it, since
# the primary has vacuumed what it reads. The primary is lost, and pg_promote(): the standby stays one
# until the report has ended. Nor does a reload with max_standby_streaming_delay = 0 help once replay waits;
# pg_terminate_backend() of the report does. (A pause is ended by a promotion, a report is not.)
# Guess before: a promotion cancels what replay waits for.
# Seen with PostgreSQL 15.19, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 17.11 18.6; do
  postgres "$version"
  a="a-$version" b="b-$version"
  primary "$a" "autovacuum = off"
  sql "$a" "create table t(i int); insert into t select generate_series(1, 1000); create table later(i int)"
  standby "$b" "$a" "max_standby_streaming_delay = -1"
  caught_up "$b" "$a"
  sql "$b" "begin isolation level repeatable read; select count(*) from t; select pg_sleep(300)" >/dev/null 2>&1 &
  report=$!
  until_true 20 is "$b" "select count(*) from pg_stat_activity where wait_event = 'PgSleep'" 1
  sql "$a" "delete from t where i < 900"
  sql "$a" "vacuum t"
  sql "$a" "insert into later values (1)"
  replay() { sql "$b" "select wait_event from pg_stat_activity where backend_type = 'startup'"; }
  waits() { [ "$(replay)" = RecoveryConflictSnapshot ]; }
  until_true 20 waits
  stop "$a" immediate
  same "$version, pg_promote() within 10 s" f "$(sql "$b" "select pg_promote(true, 10)" 2>/dev/null)"
  sql "$b" "alter system set max_standby_streaming_delay = 0"
  sql "$b" "select pg_reload_conf()" >/dev/null
  sleep 5
  same "$version, after a reload with 0, in recovery, replay waits in" "t RecoveryConflictSnapshot" "$(sql "$b" "select pg_is_in_recovery()") $(replay)"
  sql "$b" "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(300)' and pid <> pg_backend_pid()" >/dev/null
  wait $report || true
  until_true 30 is "$b" "select pg_is_in_recovery()" f
  same "$version, when the report was ended, promoted with" 1 "$(sql "$b" "table later")"
  stop "$b"
done
