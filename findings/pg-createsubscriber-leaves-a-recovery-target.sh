#!/usr/bin/env bash
# pg_createsubscriber makes a logical subscriber of a standby. What it needs for that it writes into postgresql.auto.conf
# (recovery_target_lsn, recovery_target_action = promote), and never takes it out again. Where it gives up (here the
# standby applies with a delay, and --recovery-timeout passes), it stops the server and says "recovery timed out": started
# again, the standby, as one believes, promotes itself as soon as it gets there, with the primary's system identifier, and
# there are two. Where it succeeds, each standby that is copied from the new server ends at its start: "requested recovery
# stop point is before consistent recovery point".
# Guess before: it cleans up, and neither matters.
# Seen with PostgreSQL 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
targets() { grep -c "^recovery_target_lsn = '0/\|^recovery_target_action = '\?promote" "$work/$1/postgresql.auto.conf"; }
# What it starts must have the client library of its own version.
subscriber() {
  LD_LIBRARY_PATH="$work/server-$version/lib" as_user "$bin/pg_createsubscriber" -D "$work/$b" -d postgres -P "host=$work/$a.sock user=postgres" \
    -s "$work" -U postgres "$@" >"$work/$b-made.log" 2>&1
}
for version in 17.11 18.6; do
  postgres "$version"
  a="a-$version" b="late-$version"
  primary "$a" "wal_level = logical"
  sql "$a" "create table t(i int primary key)"
  standby "$b" "$a" "recovery_min_apply_delay = 5s"
  caught_up "$b" "$a"
  stop "$b"
  if subscriber --recovery-timeout=2; then echo "succeeded" >&2; exit 1; fi
  same "$version, it gives up" "recovery timed out" "$(grep -o 'recovery timed out' "$work/$b-made.log")"
  same "$version, lines of the recovery target left" 2 "$(targets "$b")"
  export LD_LIBRARY_PATH="$work/server-$version/lib"
  start "$b"
  until_true 30 is "$b" "select pg_is_in_recovery()" f
  unset LD_LIBRARY_PATH
  of() { sql "$1" "select system_identifier from pg_control_system()"; }
  same "$version, the standby that was started again is a primary of the same cluster" "$(of "$a")" "$(of "$b")"
  sql "$b" "insert into t values (1)"
  sql "$a" "insert into t values (1)"
  stop "$b"

  b="made-$version" c="copy-$version"
  standby "$b" "$a"
  caught_up "$b" "$a"
  stop "$b"
  subscriber
  same "$version, it succeeds, lines of the recovery target left" 2 "$(targets "$b")"
  start "$b"
  start() { as_user "$bin/pg_ctl" -D "$work/$1" -l "$work/$1.log" -w -t 60 start >/dev/null || true; }
  standby "$c" "$b" 2>/dev/null
  same "$version, a standby that is copied from it" "requested recovery stop point is before consistent recovery point" "$(sed -n 's/.*FATAL:  //p' "$work/$c.log")"
  stop "$b"
  stop "$a"
done
