#!/usr/bin/env bash
# A standby is restarted. pg_last_wal_receive_lsn() starts at the beginning of the segment, up to 16 MB below
# what the standby has and had said before, and stays there for as long as there is nothing new (or no
# primary): whoever compares standbys by it takes the one that was restarted for one that has lost WAL.
# The larger of received and replayed is right.
# Guess before: it starts where replay has ended.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version" "autovacuum = off"
  standby "b-$version" "a-$version"
  sql "a-$version" "create table t(i int); insert into t select generate_series(1, 50000)"
  caught_up "b-$version" "a-$version"
  stop "a-$version"
  had() { sql "b-$version" "select pg_last_wal_receive_lsn()"; }
  same "$version, received is replayed" t "$(sql "b-$version" "select pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()")"
  before=$(had)
  stop "b-$version"
  start "b-$version"
  until_true 30 is "b-$version" "select pg_last_wal_receive_lsn() is not null" t
  same "$version, after the restart: a segment's start, less than before, less than replayed" "t t t" \
    "$(sql "b-$version" "select concat_ws(' ', (pg_last_wal_receive_lsn() - '0/0') % (16 * 1024 * 1024) = 0,
      pg_last_wal_receive_lsn() < '$before', pg_last_wal_receive_lsn() < pg_last_wal_replay_lsn())")"
  stop "b-$version"
done
