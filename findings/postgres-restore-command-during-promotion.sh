#!/usr/bin/env bash
# Between the request to promote and the end of recovery PostgreSQL calls restore_command five times,
# one after the other, also where the standby streamed and has everything: the next timeline's history,
# the present segment, the last finished segment, the next timeline's history again, its own
# timeline's history. Nothing is replayed meanwhile, and pg_is_in_recovery() stays true: with an archive
# that takes 4 s to say no, a promotion takes 20 s in which no position moves.
# Guess before: at most one call, for the next history file.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  calls="$work/calls-$version"
  as_user tee "$work/restore" >/dev/null <<SH
#!/bin/sh
sleep 1
echo "\$1" >>"\$2"
exit 1
SH
  chmod 755 "$work/restore"
  primary "a-$version"
  standby "b-$version" "a-$version" "restore_command = '$work/restore %f $calls'"
  sql "a-$version" "create table t(i int)"
  sql "a-$version" "select pg_switch_wal()" >/dev/null
  sql "a-$version" "insert into t values (1)"
  caught_up "b-$version" "a-$version"
  until_true 20 is "b-$version" "select status from pg_stat_wal_receiver" streaming
  as_user truncate -s 0 "$calls"
  before=$(sql "b-$version" "select pg_last_wal_replay_lsn()")
  sql "b-$version" "select pg_promote(false)" >/dev/null
  until_true 10 test -s "$calls"
  same "$version, after the first call" "t|$before" \
    "$(sql "b-$version" "select pg_is_in_recovery(), pg_last_wal_replay_lsn()")"
  until_true 30 is "b-$version" "select pg_is_in_recovery()" f
  same "$version, asked for during the promotion" \
    "00000002.history segment segment 00000002.history 00000001.history" \
    "$(sed -E 's/^[0-9A-F]{24}$/segment/' "$calls" | paste -sd ' ')"
done
