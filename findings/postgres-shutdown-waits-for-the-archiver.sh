#!/usr/bin/env bash
# A fast shutdown of a primary whose archiver is behind. The shutdown checkpoint is written, the standby has it and could be
# promoted, and the control file says "shut down"; but the postmaster stays until the archiver has archived all that waits,
# however much that is, and takes no connections. Where archive_command hangs it stays for ever; an immediate shutdown ends it,
# and the control file still says "shut down". (A switchover that waits for the end of the old primary waits for all of that.)
# Guess before: the archiver ends after the file at hand, and goes on at the next start.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
waiting() { find "$work/$1/pg_wal/archive_status" -name '*.ready' | wc -l; }
state() { "$bin/pg_controldata" "$work/$1" | sed -n 's/^Database cluster state: *//p'; }
says() { [ "$(state "$1")" = "$2" ]; }
for version in 15.19 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version" archive="$work/archive-$version"
  as_user mkdir "$archive"
  primary "$n1" "archive_mode = on" "archive_command = 'while [ ! -e $archive/open ]; do sleep 0.1; done; cp %p $archive/%f'"
  touch "$archive/open"
  standby "$n2" "$n1"
  rm "$archive/open"
  sql "$n1" "create table t(i int)"
  for _ in 1 2 3 4 5 6; do
    sql "$n1" "insert into t values (1)"
    sql "$n1" "select pg_switch_wal()" >/dev/null
  done
  behind=$(waiting "$n1")
  as_user "$bin/pg_ctl" -D "$work/$n1" -m fast -W stop >/dev/null
  until_true 30 says "$n1" "shut down"
  end=$("$bin/pg_controldata" "$work/$n1" | sed -n 's/^Latest checkpoint location: *//p')
  until_true 30 is "$n2" "select pg_last_wal_replay_lsn() > '$end'" t
  sleep 5
  same "$version, five seconds after the shutdown checkpoint was replayed by the standby, the postmaster" there "$([ -e "$work/$n1/postmaster.pid" ] && echo there || echo gone)"
  same "$version, files that wait" yes "$([ "$(waiting "$n1")" -ge "$behind" ] && echo "yes" || echo "no: $(waiting "$n1")")"
  touch "$archive/open"
  until_true 60 test ! -e "$work/$n1/postmaster.pid"
  same "$version, the archive answers again, files that wait when the postmaster has gone" 0 "$(waiting "$n1")"

  start "$n1"
  rm "$archive/open"
  sql "$n1" "select pg_switch_wal()" >/dev/null
  as_user "$bin/pg_ctl" -D "$work/$n1" -m fast -W stop >/dev/null
  until_true 30 says "$n1" "shut down"
  stop "$n1" immediate
  same "$version, immediate while it waits, the control file says" "shut down" "$(state "$n1")"
  stop "$n2"
done
