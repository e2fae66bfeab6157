#!/usr/bin/env bash
# An unlogged table with a column of type bigserial (or an identity). After a failover, and after a crash of the
# primary, the table is empty, as everybody knows. From 15 on its sequence is unlogged, too, and begins with 1
# again: what other tables, queues or programs kept of the numbers means other rows now. In 14 it goes on.
# Guess before: sequences are always logged, so it goes on.
# Seen with PostgreSQL 14.23 (goes on), 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
number() { sql "$1" "insert into $2(v) values (1) returning id"; }
for version in 14.23 15.19 18.6; do
  postgres "$version"
  a="a-$version" b="b-$version"
  primary "$a"
  for kind in unlogged ""; do sql "$a" "create $kind table ${kind:-logged}_one(id bigserial primary key, v int)"; done
  for kind in unlogged logged; do sql "$a" "insert into ${kind}_one(v) select generate_series(1, 100)"; done
  standby "$b" "$a"
  caught_up "$b" "$a"
  as_user "$bin/pg_ctl" -D "$work/$b" promote -w >/dev/null
  case $version in 14.*) want=on ;; *) want=again ;; esac
  went() { [ "$1" -gt 100 ] && echo on || { [ "$1" = 1 ] && echo again; }; }
  same "$version, after a failover, the sequence of a logged table goes" on "$(went "$(number "$b" logged_one)")"
  same "$version, after a failover, that of an unlogged one goes" $want "$(went "$(number "$b" unlogged_one)")"
  stop "$a" immediate
  start "$a"
  same "$version, after a crash, that of an unlogged one goes" $want "$(went "$(number "$a" unlogged_one)")"
  stop "$a"
  stop "$b"
done
