#!/usr/bin/env bash
# Commits wait for a synchronous standby that is away, and their clients give up and go. Each connection
# stays taken until the standby is back, also with client_connection_check_interval: a commit that waits
# does not look for its client. statement_timeout and transaction_timeout (17 and later) do not end the
# wait either. So a pool that times out and tries again fills max_connections.
# Guesses before: the backend ends within the interval; the timeouts end the wait.
# Seen with PostgreSQL 15.19, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 17.11 18.6; do
  postgres "$version"
  primary "a-$version" "client_connection_check_interval = 500ms"
  sql "a-$version" "create table t(i int)"
  names "a-$version" nobody
  limits="-c statement_timeout=1s"
  [ "$version" = 15.19 ] || limits="$limits -c transaction_timeout=1s"
  for statement in "insert into t values (1)" "select pg_sleep(1000)"; do
    PGOPTIONS=$([ "$statement" = "select pg_sleep(1000)" ] || echo "$limits") \
      as_user timeout -s KILL 3 "$bin/psql" -h "$work/a-$version.sock" -U postgres -AXtqc "$statement" 2>/dev/null || true
  done
  sleep 5
  same "$version, what is there five seconds after both clients were killed" "SyncRep insert into t values (1)" \
    "$(sql "a-$version" "select wait_event || ' ' || query from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")"
  names "a-$version" ""
  until_true 10 is "a-$version" "select count(*) from pg_stat_activity where backend_type = 'client backend'" 1
done
