#!/usr/bin/env bash
# pg_receivewal (Barman's streaming archiver is one) with both servers in its list of hosts, and a failover. Where the fork
# lies within the segment that it is receiving, it goes on along the new timeline, also where it had more of that segment
# than the standby. But where it has finished that segment it asks again and again for the old timeline from there on, and
# archives nothing more of the new primary:
# - the fork is where a segment ends (the primary was lost when it was idle after archive_timeout or pg_switch_wal()), and
#   nothing at all is lost: an ERROR without a word. The server answers that there is no more on that timeline, which
#   pg_receivewal takes at the end of a stream, but not at its start.
# - the standby had less: "requested starting point … is not in this server's history". It has to lose its segments by hand.
# Guess before: it takes the new timeline from the fork on.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
# failover END: pg_receivewal and n2 follow n1; n2 is promoted, when n1 was lost with more WAL than n2 or without.
failover() {
  n1="n1-$version-$1" n2="n2-$version-$1" got="$work/got-$version-$1"
  primary "$n1" "wal_keep_size = 256MB"
  sql "$n1" "create table t(i int)"
  standby "$n2" "$n1"
  as_user mkdir "$got"
  as_user "$bin/pg_receivewal" -D "$got" -s 1 -v -d "host=$work/$n1.sock,$work/$n2.sock user=postgres" >"$got.log" 2>&1 &
  receiver=$!
  until_true 20 partial
  caught_up "$n2" "$n1"
  [ "$1" = boundary ] || stop "$n2"
  sql "$n1" "insert into t values (1)"
  [ "$1" = within ] || sql "$n1" "select pg_switch_wal()" >/dev/null
  end=$(sql "$n1" "select pg_current_wal_lsn()")
  if [ "$1" = within ]; then sleep 2; else until_true 20 grep -q "finished segment" "$got.log"; fi
  [ "$1" != boundary ] || caught_up "$n2" "$n1"
  stop "$n1" immediate
  [ "$1" = boundary ] || start "$n2"
  sql "$n2" "select pg_promote()" >/dev/null
  sql "$n2" "insert into t values (2)"
}
partial() { [ -n "$(find "$got" -name '*.partial')" ]; }
finish() {
  kill "$receiver"
  wait "$receiver" 2>/dev/null || true
  stop "$n2"
}
asked() { [ "$(grep -c 'could not send replication command "START_REPLICATION"' "$got.log")" -ge 3 ]; }
of_the_new() { find "$got" -name '00000002*' | wc -l; }
for version in 15.19 18.6; do
  postgres "$version"
  failover within
  until_true 30 grep -q "switched to timeline 2" "$got.log"
  same "$version, the fork is within the segment, files of the new timeline" 2 "$(of_the_new)"
  finish

  failover boundary
  until_true 40 asked
  fork=$(cut -f 2 "$work/$n2/pg_wal/00000002.history")
  same "$version, the fork is where the segment ends, bytes that the standby lacked" 0 "$(sql "$n2" "select pg_wal_lsn_diff('$end', '$fork')")"
  same "$version, what it says" 'pg_receivewal: error: could not send replication command "START_REPLICATION": ' "$(grep -m 1 START_REPLICATION "$got.log")"
  same "$version, files of the new timeline after three attempts" 0 "$(of_the_new)"
  finish

  failover behind
  until_true 40 asked
  same "$version, the standby had less than the segment, what it says" "is not in this server's history" "$(grep -m 1 -o "is not in this server's history" "$got.log")"
  same "$version, files of the new timeline after three attempts" 0 "$(of_the_new)"
  finish
done
