#!/usr/bin/env bash
# Who counts in synchronous_standby_names: names are compared without regard to upper and lower case, also
# in double quotes; "*" in double quotes is everybody; of two senders that bear one name each takes a place
# of its own, so that FIRST 2 (n1, b) is content with two that are called n1; and the sender of a logical
# stream counts like a standby's (a subscription's application_name is the subscription's name).
# Guesses before: quoted names are exact, as everywhere in SQL; a quoted star is a name; each name counts
# once. (That a logical stream counts was guessed right.)
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version" "wal_level = logical"
  sql "a-$version" "create table t(i int)"
  sql "a-$version" "select pg_create_logical_replication_slot('other', 'test_decoding')" >/dev/null
  for name in b c; do
    standby "$name-$version" "a-$version" "primary_conninfo = 'host=$work/a-$version.sock user=postgres application_name=n1'"
  done
  until_true 30 is "a-$version" "select count(*) from pg_stat_replication where state = 'streaming'" 2
  names "a-$version" '"N1"'
  same "$version, \"N1\", and n1 is there: commits" yes "$(commits "a-$version" t)"
  names "a-$version" '"*"'
  same "$version, \"*\" in quotes: commits" yes "$(commits "a-$version" t)"
  names "a-$version" 'FIRST 2 (n1, b)'
  same "$version, FIRST 2 (n1, b), two called n1 and no b: commits" yes "$(commits "a-$version" t)"
  stop "b-$version"
  same "$version, one called n1: commits" waits "$(commits "a-$version" t)"
  stop "c-$version"
  names "a-$version" n1
  same "$version, no standby: commits" waits "$(commits "a-$version" t)"
  PGAPPNAME=n1 as_user "$bin/pg_recvlogical" -h "$work/a-$version.sock" -U postgres -d postgres --slot other --start \
    --no-loop -F 1 -s 1 -f "/dev/null" 2>/dev/null &
  until_true 30 is "a-$version" "select sync_state from pg_stat_replication where state = 'streaming'" sync
  same "$version, a logical stream called n1: commits" yes "$(commits "a-$version" t)"
done
