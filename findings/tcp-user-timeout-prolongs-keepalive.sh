#!/usr/bin/env bash
# A peer vanishes without a word while the connection is idle. Keepalive alone (idle 2 s, every second, three
# times) ends it after about 5 s. With TCP_USER_TIMEOUT of 20 s beside it (tcp_user_timeout of libpq,
# PostgreSQL and PgBouncer; tcp-ut of HAProxy) it is ended after 20 s: the count of probes is not looked at
# any more. A shorter one shortens it.
# Guess before: whichever of the two comes first.
# Seen with Linux 6.18. Needs root, for two network namespaces.
. "$(dirname "$0")/lib.sh"
a="find-a-$$" b="find-b-$$"
ip netns add "$a"
ip netns add "$b"
trap 'ip netns pids "$b" | xargs -r kill; ip netns del "$a"; ip netns del "$b"; leave' EXIT
ip -n "$a" link add eth type veth peer name eth netns "$b"
for one in "$a" "$b"; do ip -n "$one" link set eth up; done
ip -n "$a" address add 198.51.100.1/24 dev eth
ip -n "$b" address add 198.51.100.2/24 dev eth
ip netns exec "$b" python3 -c 'import socket
listener, held = socket.create_server(("198.51.100.2", 7000)), []
while True: held.append(listener.accept())' &
until_true 10 ip netns exec "$a" python3 -c 'import socket; socket.create_connection(("198.51.100.2", 7000), 1)'
ip netns exec "$a" python3 - "$b" "$work" <<'P'
import select, socket, subprocess, sys, time
connections = {}
for name, limit in [("keepalive alone", 0), ("with 20 s", 20_000), ("with 3 s", 3_000)]:
    one = socket.create_connection(("198.51.100.2", 7000))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in [(socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3), (socket.TCP_USER_TIMEOUT, limit)]:
        one.setsockopt(socket.IPPROTO_TCP, option, value)
    connections[one] = name
subprocess.run(["ip", "-n", sys.argv[1], "route", "add", "blackhole", "198.51.100.1"], check=True)
begun, order, times = time.monotonic(), [], {}
while connections:
    ready = select.select(list(connections), [], [], 60)[0]
    assert ready, "nothing ended within 60 s"
    for one in ready:
        name = connections.pop(one)
        order.append(name)
        times[name] = time.monotonic() - begun
        print(f"{name}: {times[name]:.1f} s", flush=True)
long = times["with 20 s"] > 18
open(f"{sys.argv[2]}/order", "w").write(", ".join(order) + (", not before its 20 s" if long else ", before its 20 s"))
P
same "ended in this order" "with 3 s, keepalive alone, with 20 s, not before its 20 s" "$(cat "$work/order")"
