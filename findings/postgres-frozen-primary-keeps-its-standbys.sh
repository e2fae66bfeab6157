#!/usr/bin/env bash
# A primary's host is frozen (a paused VM, SIGSTOP) for three times wal_sender_timeout, and goes on. Its WAL senders do not end for that,
# though no standby has been heard for so long: they look at what came in first. Where the standby has not given up by itself
# (wal_receiver_timeout), the connection is what it was, the standby is synchronous still, and the next commit is acknowledged at once.
# So after a pause nothing on the primary says that there was one, and its standbys' timeouts alone part them from it.
# Guess before: all standbys are cut off by wal_sender_timeout as soon as it goes on.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  primary "$n1" "wal_sender_timeout = 5s"
  sql "$n1" "create table t(i int)"
  standby "$n2" "$n1" "primary_conninfo = 'host=$work/$n1.sock user=postgres application_name=n2'"
  until_true 30 is "$n1" "select state from pg_stat_replication" streaming
  names "$n1" n2
  sender=$(sql "$n1" "select pid from pg_stat_replication")
  postmaster=$(head -n 1 "$work/$n1/postmaster.pid")
  frozen=("$postmaster" $(cat "/proc/$postmaster/task/$postmaster/children"))
  kill -STOP "${frozen[@]}"
  trap 'kill -CONT "${frozen[@]}" 2>/dev/null || true; leave' EXIT
  sleep 16
  kill -CONT "${frozen[@]}"
  same "$version, a commit right after 16 s" yes "$(commits "$n1" t)"
  sleep 8
  same "$version, the same sender, and its standby is" "yes sync" \
    "$([ "$(sql "$n1" "select pid from pg_stat_replication")" = "$sender" ] && echo yes || echo no) $(sql "$n1" "select sync_state from pg_stat_replication")"
  same "$version, timeouts in the log" 0 "$(grep -c "replication timeout" "$work/$n1.log" || true)"
  stop "$n1"
  stop "$n2" immediate
done
