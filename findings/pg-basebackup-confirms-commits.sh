#!/usr/bin/env bash
# A base backup under way whose application_name is a synchronous standby's name (as one gives it to
# pg_basebackup -R for the standby to be) confirms commits in the place of that standby: with its
# temporary slot it reports what it has flushed. There is only half a copy, and it has been replayed nowhere.
# Guess before: a base backup is no standby and never counts.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version" "wal_sender_timeout = 4s"
  sql "a-$version" "create table t(i int); insert into t select generate_series(1, 3000000)"
  names "a-$version" n2
  same "$version, no standby: commits" waits "$(commits "a-$version" t)"
  as_user "$bin/pg_basebackup" -D "$work/b-$version" -d "host=$work/a-$version.sock user=postgres application_name=n2" \
    -R -c fast -X stream -r 2M 2>/dev/null &
  until_true 60 is "a-$version" "select sync_state from pg_stat_replication where state = 'streaming'" sync
  same "$version, while n2 is being copied: commits" yes "$(commits "a-$version" t)"
  same "$version, the copy is still under way" backup "$(sql "a-$version" "select state from pg_stat_replication where state = 'backup'")"
  stop "a-$version" immediate
  wait $! 2>/dev/null || true
done
