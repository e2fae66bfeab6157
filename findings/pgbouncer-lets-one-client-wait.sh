#!/usr/bin/env bash
# PgBouncer whose server's port refuses (PostgreSQL has ended, the host goes on): the client that finds
# out waits, every other one that asks is disconnected at once, and that for as long as no login has
# succeeded. PAUSE makes all of them wait, also afterwards; after RESUME those that have waited are served,
# but one that has not, and asks before the first login has succeeded, is disconnected even then.
# Guess before: all clients wait for a server, up to query_wait_timeout.
# Seen with PgBouncer 1.18.0-1+deb12u1 (Debian 12, as here), 1.24.1 (Debian 13) and 1.26.1.
. "$(dirname "$0")/lib.sh"
postgres 15.19
debian pgbouncer 1.18.0-1+deb12u1
debian libc-ares2 1.18.1-3
debian libevent-2.1-7 2.1.12-stable-8+deb12u1
primary a
pooler="$work/pooler"
as_user mkdir "$pooler"
cat >"$pooler/pgbouncer.ini" <<INI
[databases]
postgres = host=$work/a.sock port=5432 user=postgres
[pgbouncer]
unix_socket_dir = $pooler
listen_port = 6432
listen_addr =
auth_type = any
pool_mode = transaction
server_login_retry = 15
admin_users = postgres
pidfile = $pooler/pid
INI
export LD_LIBRARY_PATH="$work/root/usr/lib/x86_64-linux-gnu"
as_user "$work/root/usr/sbin/pgbouncer" "$pooler/pgbouncer.ini" >"$work/pooler.log" 2>&1 &
unset LD_LIBRARY_PATH
trap 'kill -KILL "$(cat "$pooler/pid")" $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; leave' EXIT
through() { as_user "$bin/psql" -h "$pooler" -p 6432 -U postgres -AXtqc "$2" "$1"; }
served() { through postgres 'select 1'; }
until_true 20 served
# A client that asks later: psql reads its statement when it is written. $1: its name.
client() {
  as_user mkfifo "$work/$1.in"
  as_user "$bin/psql" -h "$pooler" -p 6432 -U postgres -AXtq postgres <"$work/$1.in" >"$work/$1.out" 2>&1 &
  exec {pen}>"$work/$1.in"
  pens[$1]=$pen
  echo 'select 1;' >&"$pen"
  until_true 20 grep -q 1 "$work/$1.out"
}
declare -A pens
ask() { (echo "select 'served';" >&"${pens[$1]}") 2>/dev/null || echo "$1 is gone: $(cat "$work/$1.out")" >&2; }
state() {
  if grep -q served "$work/$1.out"; then echo served; elif grep -q 'closed the connection\|login has been failing' "$work/$1.out"; then
    echo disconnected; else echo waits; fi
}
settled() { [ "$(state "$1")" != waits ]; }
for name in first second third fourth; do client $name; done
stop a immediate
ask first
until_true 20 grep -q 'connect failed\|Connection refused\|No such file' "$work/pooler.log"
ask second
until_true 20 settled second
same "the port refuses, the first client" waits "$(state first)"
same "the port refuses, another client" disconnected "$(state second)"
through pgbouncer PAUSE >/dev/null
ask third
sleep 1
same "paused, another client" waits "$(state third)"
start a
through pgbouncer RESUME >/dev/null
ask fourth
until_true 20 settled fourth
same "after RESUME, before the first login, another client" disconnected "$(state fourth)"
until_true 30 settled first
until_true 30 settled third
same "after the first login, who has waited" "served served" "$(state first) $(state third)"
