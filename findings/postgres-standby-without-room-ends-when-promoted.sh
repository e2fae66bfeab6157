#!/usr/bin/env bash
# A standby whose pg_wal has no room streams no further, and lives: it answers queries, the WAL receiver ends and is tried again, and
# with room it goes on by itself. Promoted, it does not become a primary without new WAL: it needs a whole segment for the new
# timeline, and where there is no room for 16 MB, the startup process ends and with it the server, each time. As a
# synchronous standby it is the only one that has every confirmed commit.
# Guess before: it is promoted, for old segments are recycled.
# Seen with PostgreSQL 15.19 and 18.6. Needs root, for a file system of 80 MB.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version" wal="$work/wal-$version"
  primary "$n1"
  sql "$n1" "create table t(x text)"
  as_user "$bin/pg_basebackup" -D "$work/$n2" -h "$work/$n1.sock" -U postgres -c fast -X stream
  mkdir "$wal"
  mount -t tmpfs -o size=80m tmpfs "$wal"
  trap 'for one in "$work"/*/postmaster.pid; do [ -e "$one" ] && kill -QUIT "$(head -n 1 "$one")"; done; sleep 2; umount "$wal"; leave' EXIT
  cp -a "$work/$n2/pg_wal/." "$wal"
  rm -r "$work/$n2/pg_wal"
  ln -s "$wal" "$work/$n2/pg_wal"
  own "$wal"
  chmod 700 "$wal"
  as_user mkdir "$work/$n2.sock"
  printf '%s\n' "unix_socket_directories = '$work/$n2.sock'" "cluster_name = '$n2'" "checkpoint_timeout = 1h" \
    "primary_conninfo = 'host=$work/$n1.sock user=postgres application_name=n2'" >>"$work/$n2/postgresql.conf"
  as_user touch "$work/$n2/standby.signal"
  start "$n2"
  until_true 30 is "$n1" "select state from pg_stat_replication" streaming
  sql "$n1" "insert into t select repeat('x', 1000) from generate_series(1, 140000)"
  until_true 60 grep -q 'walreceiver.*could not write to file "pg_wal/xlogtemp.*No space left on device' "$work/$n2.log"
  same "$version, it is a standby still" t "$(sql "$n2" "select pg_is_in_recovery()")"
  as_user "$bin/pg_ctl" -D "$work/$n2" -w -t 15 promote >/dev/null 2>&1 && promoted=yes || promoted=no
  same "$version, promoted" no "$promoted"
  until_true 30 test ! -e "$work/$n2/postmaster.pid"
  grep -q 'startup.*FATAL.*could not write to file "pg_wal/xlogtemp.*No space left on device' "$work/$n2.log"
  echo "$version, the startup process: No space left on device; the server has ended"
  mount -o remount,size=200m "$wal"
  start "$n2"
  until_true 30 is "$n2" "select pg_is_in_recovery()" t
  as_user "$bin/pg_ctl" -D "$work/$n2" -w -t 60 promote >/dev/null
  echo "$version, with room: a standby again, and promoted when it is asked once more"
  stop "$n2" immediate
  stop "$n1" immediate
  umount "$wal"
  trap leave EXIT
done
