#!/usr/bin/env bash
# A cluster whose synchronous standby is away. A sequence writes WAL for 32 numbers ahead at a time. Who takes
# the number that writes waits for the standby as any commit does; those who ask next get theirs at once,
# out of the 32 that the standby does not have. After a failover to it the same numbers are given again.
# (A number that goes into a row of the same transaction is safe, since that commit waits.)
# Guess before: no number that was answered in a synchronous cluster is given out again after a failover.
# Seen with PostgreSQL 15.19, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 17.11 18.6; do
  postgres "$version"
  a="a-$version" b="b-$version"
  primary "$a"
  sql "$a" "create sequence s"
  standby "$b" "$a"
  names "$a" "\"$b\""
  sql "$a" "select nextval('s') from generate_series(1, 33)" >/dev/null
  caught_up "$b" "$a"
  stop "$b"
  number() { as_user timeout 3 "$bin/psql" -h "$work/$1.sock" -U postgres -AXtqc "select nextval('s')" 2>/dev/null || echo waits; }
  # Until one waits, and three more.
  until [ "$(number "$a")" = waits ]; do :; done
  number "$a" >/dev/null
  number "$a" >/dev/null
  last=$(number "$a")
  same "$version, the third number after one that waits" answered "$([[ $last =~ ^[0-9]+$ ]] && echo answered || echo "$last")"
  stop "$a" immediate
  start "$b"
  as_user "$bin/pg_ctl" -D "$work/$b" promote -w >/dev/null
  sql "$b" "alter system set synchronous_standby_names to ''"
  sql "$b" "select pg_reload_conf()" >/dev/null
  until_true 20 is "$b" "show synchronous_standby_names" ""
  next=$(number "$b")
  same "$version, the number $last was answered before the failover; the next one is not greater" yes "$([ "$next" -le "$last" ] && echo yes || echo "no, $next")"
  stop "$b"
done
