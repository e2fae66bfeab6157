#!/usr/bin/env bash
# The primary's archive is behind when it is lost: three finished segments wait as ".ready". The standby
# has all three and marked them ".done" when it received them, since it does not archive what it did
# not write. The old primary is rewound to the new one, and its own ".ready" files are gone as well: no
# server is left that would archive these segments, though both still have them, and nobody says so.
# The archive has a hole in the middle of the old timeline, and a restore to any later time stops there.
# Guess before: pg_rewind leaves archive_status of the common history alone, so they are archived later.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
waiting() { find "$work/$1/pg_wal/archive_status" -name '00000001000000000000000[345].ready' | wc -l; }
for version in 15.19 18.6; do
  postgres "$version"
  a="a-$version" b="b-$version"
  as_user mkdir "$work/archive-$version"
  primary "$a" "archive_mode = on" "wal_log_hints = on" "wal_keep_size = 256MB" \
    "archive_command = 'test ! -e $work/stuck && cp %p $work/archive-$version/%f'"
  standby "$b" "$a"
  sql "$a" "create table t(i int)"
  caught_up "$b" "$a"
  as_user touch "$work/stuck"
  for _ in 1 2 3; do sql "$a" "insert into t values (2); select pg_switch_wal()" >/dev/null; done
  caught_up "$b" "$a"
  same "$version, waiting on the primary" 3 "$(waiting "$a")"
  stop "$a" immediate
  sql "$b" "select pg_promote()" >/dev/null
  sql "$b" checkpoint
  as_user "$bin/pg_rewind" --target-pgdata "$work/$a" --source-server "host=$work/$b.sock user=postgres" \
    --no-sync >/dev/null 2>&1
  same "$version, waiting on the old primary after the rewind" 0 "$(waiting "$a")"
  same "$version, marked as archived there" 3 \
    "$(find "$work/$a/pg_wal/archive_status" -name '00000001000000000000000[345].done' | wc -l)"
  rm "$work/stuck"
  sql "$b" "insert into t values (3)"
  sql "$b" "select pg_switch_wal()" >/dev/null
  until_true 30 test -e "$work/archive-$version/000000020000000000000006"
  same "$version, of the three in the archive, though it works again" 0 \
    "$(find "$work/archive-$version" -name '00000001000000000000000[345]' | wc -l)"
  stop "$b"
done
