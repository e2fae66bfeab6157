#!/usr/bin/env bash
# The slot of a standby that was away is invalidated (max_slot_wal_keep_size), and the standby comes back
# by WAL from the archive with the same primary_slot_name. PostgreSQL 15 lets it stream and makes the
# slot whole again. 16 and 17 let it stream, and the slot moves and looks alive, but it stays invalid
# underneath: it is "unreserved" while in use, protects nothing, and is "lost" again as soon as the
# standby is away, whatever max_slot_wal_keep_size allows. 18 refuses the connection until the slot is
# made anew, and the standby lives on the archive alone.
# Guess before: the same in all versions, either refused or healed.
# Seen with PostgreSQL 15.19, 16.15, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
declare -A after=([15.19]="reserved|t" [16.15]="unreserved|t" [17.11]="unreserved|t" [18.6]="lost|f")
declare -A away=([15.19]=reserved [16.15]=lost [17.11]=lost [18.6]=lost)
segments() {
  for _ in $(seq "$2"); do sql "$1" "insert into t values (2); select pg_switch_wal()" >/dev/null; done
  sql "$1" checkpoint
}
for version in 15.19 16.15 17.11 18.6; do
  postgres "$version"
  a="a-$version" b="b-$version"
  as_user mkdir "$work/archive-$version"
  primary "$a" "archive_mode = on" "archive_command = 'cp %p $work/archive-$version/%f'" \
    "max_slot_wal_keep_size = 64MB" "min_wal_size = 32MB" "max_wal_size = 64MB" "wal_recycle = off"
  sql "$a" "select pg_create_physical_replication_slot('b', true)" >/dev/null
  standby "$b" "$a" "primary_slot_name = b" "archive_mode = off" \
    "restore_command = 'cp $work/archive-$version/%f %p 2>/dev/null'"
  sql "$a" "create table t(i int)"
  caught_up "$b" "$a"
  stop "$b"
  segments "$a" 8
  same "$version, the standby is away for 8 segments" lost "$(sql "$a" "select wal_status from pg_replication_slots")"
  start "$b"
  until_true 30 is "$b" "select pg_last_wal_replay_lsn() >= pg_lsn '0/B000000'" t
  sleep 6
  same "$version, the standby is back" "${after[$version]}" "$(sql "$a" "select wal_status, active from pg_replication_slots")"
  stop "$b"
  segments "$a" 2
  same "$version, away again for 2 segments" "${away[$version]}" "$(sql "$a" "select wal_status from pg_replication_slots")"
  stop "$a"
done
