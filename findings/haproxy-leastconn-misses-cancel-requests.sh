#!/usr/bin/env bash
# Two servers to read from behind HAProxy with `balance leastconn`. A client's query is cancelled (Ctrl-C in psql,
# and what many drivers do for a query timeout): that is a request of its own, by a new connection, which HAProxy
# gives to the server with fewer connections, and the query does not run there. It is dropped without a word,
# and the query runs on. With roundrobin the next connection is the next server's, too (one of ten arrived,
# by hand); `balance source` brings a client's request to where its queries are.
# Guess before: as good as chance, about half of them arrive.
# Seen with HAProxy 2.6.12-1+deb12u3 (Debian 12) and PostgreSQL 15.19.
. "$(dirname "$0")/lib.sh"
debian haproxy 2.6.12-1+deb12u3
postgres 15.19
ports 3
proxy=
trap 'kill -KILL $proxy $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; leave' EXIT
primary a "listen_addresses = '127.0.0.1'" "port = ${port[0]}"
primary b "listen_addresses = '127.0.0.1'" "port = ${port[1]}"
# With the port they are not where `sql` looks for them.
at() { as_user "$bin/psql" -h 127.0.0.1 -p "$1" -U postgres -AXtqc "$2"; }
running() { for one in "${port[0]}" "${port[1]}"; do at "$one" "select pid from pg_stat_activity where wait_event = 'PgSleep'"; done; }
runs() { [ -n "$(running)" ]; }
behind() {
  cat >"$work/haproxy.cfg" <<CFG
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
listen read
    bind 127.0.0.1:${port[2]}
    balance $1
    server a 127.0.0.1:${port[0]}
    server b 127.0.0.1:${port[1]}
CFG
  "$work/root/usr/sbin/haproxy" -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
  proxy=$!
  until_true 20 at "${port[2]}" "select 1"
}
# five BALANCE: how many of five queries are cancelled.
five() {
  behind "$1"
  local arrived=0
  for _ in 1 2 3 4 5; do
    as_user timeout -s INT 2 "$bin/psql" -h 127.0.0.1 -p "${port[2]}" -U postgres -AXtqc "select pg_sleep(600)" >/dev/null 2>&1 &
    client=$!
    until_true 20 runs
    sleep 3
    if runs; then
      for one in "${port[0]}" "${port[1]}"; do at "$one" "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'" >/dev/null; done
    else
      arrived=$((arrived + 1))
    fi
    wait $client || true
  done
  kill -KILL $proxy
  wait $proxy 2>/dev/null || true
  cancelled=$arrived
}
five leastconn
same "leastconn, of 5 queries cancelled" 0 "$cancelled"
five source
same "source, of 5 queries cancelled" 5 "$cancelled"
