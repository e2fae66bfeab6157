#!/usr/bin/env bash
# A commit waits for a standby that is lost; synchronous_standby_names is changed to one that has everything
# on disk, and reloaded. pg_stat_replication shows it as sync at once, with a flush_lsn beyond the commit, and
# the commit waits on: a sender lets commits go when its standby reports, and an idle one does that after
# wal_receiver_status_interval (10 s). Anything that writes WAL makes it report at once.
# Guess before: the reload lets the commit go.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version" "wal_receiver_status_interval = 300s" "wal_sender_timeout = 600s" "autovacuum = off" "bgwriter_delay = 10s"
  sql "a-$version" "create table t(i int)"
  standby "b-$version" "a-$version"
  until_true 30 is "a-$version" "select state from pg_stat_replication" streaming
  names "a-$version" lost
  waits() { is "a-$version" "select count(*) from pg_stat_activity where wait_event = 'SyncRep'" "$1"; }
  for _ in 1 2 3; do # The background writer logs something every 15 s or so, which ends it, too.
    sql "a-$version" "insert into t values (1)" &
    until_true 10 waits 1
    until_true 10 is "a-$version" "select application_name from pg_stat_replication where flush_lsn >= pg_current_wal_flush_lsn()" "b-$version"
    sql "a-$version" "alter system set synchronous_standby_names to '\"b-$version\"'"
    sql "a-$version" "select pg_reload_conf()" >/dev/null
    until_true 10 is "a-$version" "select sync_state from pg_stat_replication" sync
    sleep 3
    seen=$(sql "a-$version" "select sync_state, flush_lsn >= pg_current_wal_flush_lsn(), (select count(*) from pg_stat_activity where wait_event = 'SyncRep') from pg_stat_replication")
    sql "a-$version" "select pg_logical_emit_message(false, '', ''); set synchronous_commit to off; create table if not exists u()" >/dev/null 2>&1
    wait $!
    [ "$seen" = "sync|t|1" ] && break
    names "a-$version" lost
  done
  same "$version, three seconds after the reload: state, has everything, commits that wait" "sync|t|1" "$seen"
  same "$version, after a little WAL: commits that wait" 0 "$(sql "a-$version" "select count(*) from pg_stat_activity where wait_event = 'SyncRep'")"
done
