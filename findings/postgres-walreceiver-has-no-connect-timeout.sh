#!/usr/bin/env bash
# connect_timeout in primary_conninfo does nothing: the WAL receiver connects without blocking, and there libpq leaves
# time to its caller. Of two addresses, where the first takes no connection and refuses none, it is at the first until
# TCP gives up: 135 s. psql with the same string is at the second after connect_timeout. tcp_user_timeout does what
# connect_timeout was meant for.
# Guess before: a standby tries the next address after connect_timeout.
# Seen with PostgreSQL 15.19 and 18.6 (and 16.15, 17.11).
. "$(dirname "$0")/lib.sh"
port=$(python3 -c "import socket; s=socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
# A listener whose queue is full.
python3 -c "
import socket, signal
s = socket.socket(); s.bind(('127.0.0.2', $port)); s.listen(0)
held = []
for _ in range(3):
    c = socket.socket(); c.setblocking(False); c.connect_ex(('127.0.0.2', $port)); held.append(c)
signal.pause()" &
full=$!
finish() { kill "$full"; leave; }
trap finish EXIT
hosts="host=127.0.0.2,127.0.0.1 port=$port user=postgres"
streams() { sql "$1" "select count(*) from pg_stat_wal_receiver where status = 'streaming'"; }
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version" "port = $port" "listen_addresses = '127.0.0.1'"
  sql() { as_user "$bin/psql" -h "$work/$1.sock" -p "$port" -U postgres -AXtqc "$2"; }
  same "$version, psql with connect_timeout=2" 1 \
    "$(as_user timeout 20 "$bin/psql" -AXtqc "select 1" "$hosts connect_timeout=2 dbname=postgres")"
  PGPORT=$port standby "b-$version" "a-$version" "listen_addresses = ''" \
    "primary_conninfo = '$hosts connect_timeout=2'"
  sleep 20
  same "$version, streaming 20 s after the start with connect_timeout=2" 0 "$(streams "b-$version")"
  printf '%s\n' "primary_conninfo = '$hosts tcp_user_timeout=2000'" >>"$work/b-$version/postgresql.conf"
  as_user "$bin/pg_ctl" -D "$work/b-$version" reload >/dev/null
  until_true 20 is "b-$version" "select status from pg_stat_wal_receiver" streaming
  same "$version, streaming with tcp_user_timeout=2000" 1 "$(streams "b-$version")"
  stop "b-$version"
  stop "a-$version" immediate
done
