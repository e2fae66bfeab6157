#!/usr/bin/env bash
# A standby.signal that is put beside a running primary is not read "at the next start of the server":
# when one backend is killed, the postmaster lives on, restarts recovery, reads the file then, and the
# server is a standby: read-only, with no word to anybody but its own log. Its clients are told
# "cannot execute INSERT in a read-only transaction" until somebody promotes it (to a new timeline).
# Guess before: signal files count when the postmaster starts.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version"
  postmaster=$(head -n 1 "$work/a-$version/postmaster.pid")
  as_user touch "$work/a-$version/standby.signal"
  same "$version, with the file there, before" f "$(sql "a-$version" "select pg_is_in_recovery()")"
  as_user "$bin/psql" -h "$work/a-$version.sock" -U postgres -Xqc "select pg_sleep(60)" >/dev/null 2>&1 &
  sleeper="select pid from pg_stat_activity where wait_event = 'PgSleep'"
  until_true 10 is "a-$version" "select count(*) from ($sleeper) s" 1
  kill -KILL "$(sql "a-$version" "$sleeper")"
  wait $! || true
  until_true 30 is "a-$version" "select pg_is_in_recovery()" t
  same "$version, in recovery after a backend was killed" t "$(sql "a-$version" "select pg_is_in_recovery()")"
  same "$version, the postmaster is the same" "$postmaster" "$(head -n 1 "$work/a-$version/postmaster.pid")"
  same "$version, a write" "ERROR:  cannot execute CREATE TABLE in a read-only transaction" \
    "$(sql "a-$version" "create table t(i int)" 2>&1)"
done
