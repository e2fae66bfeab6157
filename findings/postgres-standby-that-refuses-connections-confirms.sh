#!/usr/bin/env bash
# A standby is started while a transaction with more than 64 subtransactions (savepoints, exception blocks of PL/pgSQL) is open on
# the primary. It does not take connections before that transaction is over, hours perhaps, and pg_isready says "rejecting".
# All the while it streams, confirms commits as the synchronous standby, and can be promoted: then it takes connections at once.
# Who takes "answers no query" for "is no standby" gives up the one that holds every commit.
# Guess before: it takes connections as soon as it is consistent.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  n1="n1-$version" n2="n2-$version"
  primary "$n1"
  sql "$n1" "create table t(i int)"
  { echo "begin;"; seq 1 80 | sed 's/.*/savepoint s&; insert into t values (&);/'; echo "select pg_sleep(600); commit;"; } >"$work/long.sql"
  as_user "$bin/psql" -h "$work/$n1.sock" -U postgres -Xqf - <"$work/long.sql" >/dev/null 2>&1 &
  until_true 30 is "$n1" "select count(*) from pg_stat_activity where wait_event = 'PgSleep'" 1
  as_user "$bin/pg_basebackup" -D "$work/$n2" -h "$work/$n1.sock" -U postgres -c fast -X stream
  as_user mkdir "$work/$n2.sock"
  printf '%s\n' "unix_socket_directories = '$work/$n2.sock'" "cluster_name = '$n2'" "hot_standby = on" \
    "primary_conninfo = 'host=$work/$n1.sock user=postgres application_name=n2'" >>"$work/$n2/postgresql.conf"
  as_user touch "$work/$n2/standby.signal"
  as_user "$bin/pg_ctl" -D "$work/$n2" -l "$work/$n2.log" -W start >/dev/null
  until_true 30 is "$n1" "select state from pg_stat_replication" streaming
  sleep 10
  ready() { as_user "$bin/pg_isready" -h "$work/$n2.sock" | sed 's/.* - //'; }
  same "$version, the standby after 10 s of streaming" "rejecting connections" "$(ready || true)"
  names "$n1" n2
  same "$version, a commit that waits for it goes" yes "$(commits "$n1" t)"
  same "$version, it is" sync "$(sql "$n1" "select sync_state from pg_stat_replication")"
  same "$version, still" "rejecting connections" "$(ready || true)"
  as_user "$bin/pg_ctl" -D "$work/$n2" -w -t 60 promote >/dev/null
  same "$version, promoted: rows of commits that it confirmed" 1 "$(sql "$n2" "select count(*) from t")"
  stop "$n1" immediate
  stop "$n2" immediate
done
