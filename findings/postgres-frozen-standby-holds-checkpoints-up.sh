#!/usr/bin/env bash
# A standby is frozen: its connection stays, it reads nothing. The WAL that its slot holds passes max_slot_wal_keep_size, so
# the checkpointer terminates the WAL sender and waits for the end of it, to invalidate the slot. The WAL sender waits in turn to
# send its farewell to the frozen standby. Until the standby reads again or its connection ends there are no checkpoints:
# CHECKPOINT hangs, WAL grows, and a fast shutdown hangs, too. wal_sender_timeout does not count any more.
# Guess before: a WAL sender that is terminated goes, and the checkpoint goes on.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  primary "$n1" "max_slot_wal_keep_size = 64MB" "max_wal_size = 32MB" "min_wal_size = 32MB" "wal_sender_timeout = 5s" "autovacuum = off"
  sql "$n1" "create table t(x text); select pg_create_physical_replication_slot('n2', true)" >/dev/null
  standby "$n2" "$n1" "primary_slot_name = 'n2'"
  caught_up "$n2" "$n1"
  receiver=$(sql "$n2" "select pid from pg_stat_wal_receiver")
  kill -STOP "$receiver"
  trap 'kill -CONT $receiver 2>/dev/null || true; leave' EXIT
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    sql "$n1" "insert into t select repeat('x', 1000) from generate_series(1, 12000)"
  done
  as_user timeout 25 "$bin/psql" -h "$work/$n1.sock" -U postgres -Xqc checkpoint >/dev/null 2>&1 && ended=yes || ended=no
  same "$version, a checkpoint within 25 s (wal_sender_timeout is 5 s)" no "$ended"
  waits() { sql "$n1" "select wait_event from pg_stat_activity where backend_type = '$1'"; }
  same "$version, checkpointer and WAL sender wait in" "ReplicationSlotDrop ClientWrite" "$(waits checkpointer) $(waits walsender)"
  as_user "$bin/pg_ctl" -D "$work/$n1" -m fast -w -t 15 stop >/dev/null 2>&1 && ended=yes || ended=no
  same "$version, a fast shutdown within 15 s" no "$ended"
  kill -CONT "$receiver"
  until_true 60 test ! -e "$work/$n1/postmaster.pid"
  echo "$version, when the standby goes on, the server ends"
  stop "$n2"
done
