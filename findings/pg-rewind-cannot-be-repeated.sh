#!/usr/bin/env bash
# pg_rewind is broken off while it copies (here by a limit for the size of a file, which stands for a full
# disk or a kill). It has removed the server's own WAL of the time after the fork before that, and needs it
# to find out what has changed: it cannot be run again, and the server does not start. There are its data,
# half of them. (The replication slots are gone, too, after one that succeeds as well.)
# Guess before: pg_rewind can be run again until it succeeds.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  a="a-$version" b="b-$version"
  primary "$a" "wal_keep_size = 1GB" "autovacuum = off"
  sql "$a" "create table t(i int, p text); insert into t select g, repeat('x', 100) from generate_series(1, 200000) g"
  standby "$b" "$a"
  caught_up "$b" "$a"
  as_user "$bin/pg_ctl" -D "$work/$b" promote -w >/dev/null
  sql "$b" "checkpoint; update t set p = repeat('b', 100)"
  sql "$a" "select pg_switch_wal()" >/dev/null
  sql "$a" "update t set p = repeat('a', 100)"
  stop "$a"
  as_user cp -a "$work/$a" "$work/whole-$version"
  cp -p "$work/$a/postgresql.conf" "$work/$a.conf"
  rewind() { as_user "$bin/pg_rewind" -D "$work/$1" --source-server="host=$work/$b.sock user=postgres dbname=postgres" 2>&1; }
  (ulimit -f 20000 && rewind "$a" >/dev/null 2>&1) && { echo "was not broken off" >&2; exit 1; }
  same "$version, run again" 1 "$(rewind "$a" | grep -c 'could not \(read\|find\)')"
  cp -p "$work/$a.conf" "$work/$a/postgresql.conf"
  same "$version, starts" no "$(start "$a" 2>/dev/null && echo yes || echo no)"
  same "$version, because of" 1 "$(grep -c 'PANIC.*could not locate a valid checkpoint record' "$work/$a.log")"
  same "$version, one that is not broken off" 1 "$(rewind "whole-$version" | grep -c 'Done!')"
  stop "$b"
done
