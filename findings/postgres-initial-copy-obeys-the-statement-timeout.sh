#!/usr/bin/env bash
# statement_timeout (or transaction_timeout, 17 and later) is set for everybody on a publisher, as sites do. A subscription whose
# initial copy of a table takes longer never has the table: the copy is cancelled, begins again with nothing some seconds later, and
# so on for ever; CREATE SUBSCRIPTION has succeeded, and pg_subscription_rel says "d". pg_dump sets both to 0 for itself, the
# process that copies does not. With options='-c statement_timeout=0 -c transaction_timeout=0' in the subscription's connection
# it goes through, and the stream that follows is not subject to them.
# Guess before: a replication connection is subject to neither.
# Seen with PostgreSQL 15.19 and 18.6 (transaction_timeout).
. "$(dirname "$0")/lib.sh"
for one in "15.19 statement_timeout" "18.6 statement_timeout" "18.6 transaction_timeout"; do
  read -r version limit <<<"$one"
  postgres "$version"
  n1="n1-$version-$limit" n2="n2-$version-$limit"
  primary "$n1" "wal_level = logical"
  primary "$n2"
  sql "$n1" "create table t as select i, repeat('x', 2000) x from generate_series(1, 200000) i; create publication p for table t"
  sql "$n1" "alter system set $limit = '1s'"
  sql "$n1" "select pg_reload_conf()" >/dev/null
  # The subscriber takes its time, as one with indexes on a slow disk does.
  sql "$n2" "create table t(i int, x text); create function slow() returns trigger language plpgsql as
    'begin if new.i % 20000 = 0 then perform pg_sleep(0.5); end if; return new; end';
    create trigger slow before insert on t for each row execute function slow(); alter table t enable always trigger slow"
  sql "$n2" "create subscription s connection 'host=$work/$n1.sock user=postgres dbname=postgres' publication p" 2>/dev/null
  message="walsender .*(canceling statement due to statement timeout|terminating connection due to transaction timeout)"
  thrice() { [ "$(grep -cE "$message" "$work/$n1.log")" -ge 3 ]; }
  until_true 90 thrice
  same "$version, $limit = 1s, three attempts later: the table's state, and its rows" "d 0" \
    "$(sql "$n2" "select srsubstate from pg_subscription_rel") $(sql "$n2" "select count(*) from t")"
  sql "$n2" "alter subscription s connection 'host=$work/$n1.sock user=postgres dbname=postgres options=''-c $limit=0'''"
  until_true 120 is "$n2" "select srsubstate from pg_subscription_rel" r
  sleep 3
  sql "$n1" "insert into t values (0, '')"
  until_true 30 is "$n2" "select count(*) from t" 200001
  echo "$version, with 0 in the connection: all rows, and what came after"
  stop "$n1" immediate
  stop "$n2" immediate
done
