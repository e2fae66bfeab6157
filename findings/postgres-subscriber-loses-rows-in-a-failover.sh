#!/usr/bin/env bash
# A cluster with a synchronous standby subscribes to another server. The standby is away, so that no commit
# of a client is answered. The subscription applies all the same and confirms it to the publisher: its own
# synchronous_commit is off unless told otherwise, and then nothing waits for the standby. When the standby
# is promoted, the publisher begins after what was confirmed: the rows between are on no server of the
# cluster, nobody says a word, and the slot goes on. With synchronous_commit = on for the subscription
# all of them come again. (PostgreSQL's manual has it that `off` is safe, since what the subscriber lost
# will be sent again.)
# Guess before: in a synchronous cluster what was lost is sent again.
# Seen with PostgreSQL 15.19, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 17.11 18.6; do
  postgres "$version"
  for mode in off on; do
    publisher="p-$version-$mode" a="a-$version-$mode" b="b-$version-$mode"
    primary "$publisher" "wal_level = logical"
    sql "$publisher" "create table t(i int primary key); create publication pub for table t"
    primary "$a"
    sql "$a" "create table t(i int primary key)"
    standby "$b" "$a"
    names "$a" "\"$b\""
    sql "$a" "create subscription sub connection 'host=$work/$publisher.sock user=postgres dbname=postgres'
      publication pub with (synchronous_commit = $mode)" 2>/dev/null
    sql "$publisher" "insert into t values (1)"
    until_true 30 is "$b" "select count(*) from t" 1
    stop "$b"
    sql "$publisher" "insert into t values (2)"
    sql "$publisher" "insert into t values (3)"
    rows=$(sql "$publisher" "select pg_current_wal_lsn()")
    sql "$a" "create table w(i int)" >/dev/null 2>&1 & # a client's commit, which waits
    waiting=$!
    confirmed() { is "$publisher" "select confirmed_flush_lsn >= '$rows' from pg_replication_slots" t; }
    case $mode in
      off) want=yes && until_true 60 confirmed ;;
      on) want=no && sleep 12 ;;
    esac
    same "$version, $mode, confirmed without the standby" $want "$(confirmed && echo yes || echo no)"
    kill -0 $waiting || { echo "the client's commit did not wait" >&2; exit 1; }
    stop "$a" immediate
    wait $waiting 2>/dev/null || true
    start "$b"
    as_user "$bin/pg_ctl" -D "$work/$b" promote -w >/dev/null
    sql "$b" "alter system set synchronous_standby_names to ''"
    sql "$b" "select pg_reload_conf()" >/dev/null
    sql "$publisher" "insert into t values (4)"
    until_true 60 is "$b" "select count(*) from t where i = 4" 1
    case $mode in off) want=1,4 ;; on) want=1,2,3,4 ;; esac
    same "$version, $mode, rows after the failover, of 1,2,3,4" "$want" "$(sql "$b" "select string_agg(i::text, ',' order by i) from t")"
    same "$version, $mode, errors that say so" 0 "$(grep -c 'ERROR' "$work/$b.log")"
    stop "$b"
    stop "$publisher"
  done
done
