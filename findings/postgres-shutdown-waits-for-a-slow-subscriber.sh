#!/usr/bin/env bash
# A subscriber applies more slowly than the publisher writes (a trigger, an index, another disk), and answers. A fast shutdown
# of the publisher waits until the subscriber has applied everything, however long that takes: the slot would keep the rest, and
# wal_sender_timeout ends only who says nothing for that long. Who connects meanwhile is refused.
# Guess before: what a slot keeps is not waited for; the shutdown goes on as soon as the WAL is sent.
# Seen with PostgreSQL 15.19, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 17.11 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  primary "$n1" "wal_level = logical"
  primary "$n2"
  sql "$n1" "create table t(i int primary key); create publication p for table t"
  sql "$n2" "create table t(i int primary key); create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.1); return new; end';
    create trigger slow before insert on t for each row execute function slow(); alter table t enable always trigger slow"
  sql "$n2" "create subscription s connection 'host=$work/$n1.sock user=postgres dbname=postgres' publication p" 2>/dev/null
  until_true 30 is "$n2" "select count(*) from pg_subscription_rel where srsubstate = 'r'" 1
  seq 1 250 | sed 's/.*/insert into t values (&);/' >"$work/rows.sql"
  as_user "$bin/psql" -h "$work/$n1.sock" -U postgres -Xqf - <"$work/rows.sql"
  sleep 1
  before=$(sql "$n2" "select count(*) from t") began=$SECONDS
  as_user "$bin/pg_ctl" -D "$work/$n1" -m fast -w -t 120 stop >/dev/null
  echo "$version: the shutdown took $((SECONDS - began)) s; the subscriber had $before of 250 rows then"
  same "$version, less than half was there at the beginning" yes "$([ "$before" -lt 125 ] && echo yes || echo no)"
  same "$version, rows there when it ended" 250 "$(sql "$n2" "select count(*) from t")"
  stop "$n2" immediate
done
