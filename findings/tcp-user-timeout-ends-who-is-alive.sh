#!/usr/bin/env bash
# TCP_USER_TIMEOUT also counts while the other side is alive, acknowledges every probe, and does not read for a while (its
# receive window is zero). So what is meant to find dead peers ends
# - a client that takes its time over a large result (a pager, a program that works on rows as they come), through HAProxy
#   with `tcp-ut` on its bind line: "server closed the connection unexpectedly", in the middle of the rows;
# - a COPY FROM STDIN (a large batch likewise) whose server waits for another transaction's row, with tcp_user_timeout in
#   the connection string: "connection to server was lost".
# Without these both finish. net.ipv4.tcp_retries2 bounds dead peers, and is not counted while they acknowledge.
# Guess before: HAProxy keeps it: a peer that acknowledges is no dead peer.
# Seen with Linux 6.18, HAProxy 2.6.12-1+deb12u3 (Debian 12) and PostgreSQL 18.6.
. "$(dirname "$0")/lib.sh"
postgres 18.6
debian haproxy 2.6.12-1+deb12u3
debian liblua5.3-0 5.3.6-2
ports 3
primary a "listen_addresses = '127.0.0.1'" "port = ${port[0]}"
through() { as_user "$bin/psql" "host=127.0.0.1 port=$1 user=postgres dbname=postgres ${3:-}" -AXtqc "$2"; }
cat >"$work/haproxy.cfg" <<CFG
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen with
  bind 127.0.0.1:${port[1]} tcp-ut 5s
  server a 127.0.0.1:${port[0]}
listen without
  bind 127.0.0.1:${port[2]}
  server a 127.0.0.1:${port[0]}
CFG
LD_LIBRARY_PATH="$work/root/usr/lib/x86_64-linux-gnu" "$work/root/usr/sbin/haproxy" -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
proxy=$!
trap 'kill $proxy 2>/dev/null || true; wait $proxy 2>/dev/null || true; leave' EXIT
until_true 20 through "${port[2]}" "select 1"
through "${port[0]}" "create table big as select repeat('x', 1000) x from generate_series(1, 100000); create table t(i int primary key, x text)"
# slowly PORT: how many more of 100000 rows come to one who looks at the first for 15 s.
slowly() { (through "$1" "copy big to stdout" 2>/dev/null || true) | (read -r _ && sleep 15 && wc -l); }
all() { [ "$(slowly "$1")" = 99999 ] && echo "all rows" || echo "cut off"; }
same "a result that is not read for 15 s, through HAProxy without tcp-ut" "all rows" "$(all "${port[2]}")"
same "the same, with tcp-ut 5s" "cut off" "$(all "${port[1]}")"
# copies OPTION: a COPY that waits for a row of somebody's for about 15 s.
copies() {
  through "${port[0]}" "begin; insert into t values (1000, 'mine'); select pg_sleep(15); rollback" >/dev/null &
  until_true 10 row_is_there
  (seq 1 60000 | sed "s/\$/\t$(printf 'y%.0s' $(seq 1000))/") 2>/dev/null | through "${port[0]}" "copy t from stdin" "$1" >"$work/copy" 2>&1 && echo "all rows" || grep -o "connection to server was lost" "$work/copy"
  wait $!
  through "${port[0]}" "truncate t"
}
row_is_there() { [ "$(through "${port[0]}" "select count(*) from pg_stat_activity where wait_event = 'PgSleep'")" = 1 ]; }
same "COPY FROM STDIN that waits for 15 s" "all rows" "$(copies "")"
same "the same, with tcp_user_timeout=5000" "connection to server was lost" "$(copies tcp_user_timeout=5000)"
