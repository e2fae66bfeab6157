#!/usr/bin/env bash
# pg_basebackup is frozen. After wal_sender_timeout the sender of its WAL is ended, and with it the
# temporary slot: the WAL is not kept any more, so the copy is in vain. The sender of the data stays as long
# as the connection, in ClientWrite: it has no timeout.
# Guess before: both end after wal_sender_timeout.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version" "wal_sender_timeout = 2s"
  sql "a-$version" "create table t(i int); insert into t select generate_series(1, 2000000)"
  as_user "$bin/pg_basebackup" -D "$work/b-$version" -h "$work/a-$version.sock" -U postgres -c fast -X stream -r 1M 2>/dev/null &
  state() { is "a-$version" "select string_agg(state, ' ' order by state) from pg_stat_replication" "$1"; }
  until_true 60 state "backup streaming"
  same "$version, slots" 1 "$(sql "a-$version" "select count(*) from pg_replication_slots where temporary")"
  both=$(pgrep -f "pg_basebackup -D $work/b-$version ")
  kill -STOP $both
  until_true 60 state backup
  sleep 10
  same "$version, 10 s later" "backup ClientWrite" \
    "$(sql "a-$version" "select r.state || ' ' || wait_event from pg_stat_replication r join pg_stat_activity using (pid)")"
  same "$version, slots" 0 "$(sql "a-$version" "select count(*) from pg_replication_slots")"
  kill -KILL $both
  wait 2>/dev/null || true
done
