#!/usr/bin/env bash
# An address moves to another host within a second after a neighbour has heard the former one's answer: an entry that young is
# not replaced (net.ipv4.neigh.*.locktime). What the new host announces counts all the same if it is a gratuitous request, or a
# gratuitous reply whose target hardware address is the sender's own; the reply with ff:ff:ff:ff:ff:ff there, as some programs
# send it, is no announcement to Linux, and is ignored: the neighbour goes on sending to the former host.
# Guess before: each announcement within locktime is ignored.
# Seen with Linux 6.18. Needs root, for network namespaces (iproute2).
. "$(dirname "$0")/lib.sh"
hosts=(fa fb fc fs)
trap 'for host in "${hosts[@]}"; do ip netns del "$host$$" 2>/dev/null || true; done; leave' EXIT
for host in "${hosts[@]}"; do ip netns add "$host$$"; done
on() { ip netns exec "$1$$" "${@:2}"; }
on fs ip link add hub type bridge
on fs ip link set hub up
for n in 1 2 3; do
  host=${hosts[$((n - 1))]}
  on fs ip link add "p$n" type veth peer name e0 netns "$host$$"
  on fs ip link set "p$n" master hub up
  on "$host" ip link set e0 up
  on "$host" ip addr add "10.77.0.$n/24" dev e0
done
mac() { on "$1" cat /sys/class/net/e0/address; }
cat >"$work/announce.py" <<'PY'
import socket, struct, sys
mac, form = bytes.fromhex(sys.argv[1].replace(":", "")), sys.argv[2]
target = {"request": b"\0" * 6, "reply to itself": mac, "reply to all": b"\xff" * 6}[form]
address = socket.inet_aton("10.77.0.100")
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("e0", 0))
link.send(b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1 if form == "request" else 2) + mac + address + target + address)
PY
# A connection that is refused: somebody has the address.
reach() { on fc python3 -c 'import socket
try: socket.create_connection(("10.77.0.100", 9), 1)
except ConnectionRefusedError: pass' >/dev/null 2>&1; }
# moved FORM: what the third host's entry says after fa had the address, it moved to fb, and fb announced it in that form.
moved() {
  on fb ip addr del 10.77.0.100/32 dev e0 2>/dev/null || true
  on fa ip addr add 10.77.0.100/32 dev e0
  on fc ip neigh flush all
  until_true 20 reach
  on fc ip neigh flush all
  reach
  on fa ip addr del 10.77.0.100/32 dev e0
  on fb ip addr add 10.77.0.100/32 dev e0
  on fb python3 -S "$work/announce.py" "$(mac fb)" "$1"
  sleep 0.3
  on fc ip neigh show 10.77.0.100 | grep -q "$(mac fb)" && echo new || echo former
}
# Five seconds instead of one, so that a slow machine is within it.
on fc sysctl -q -w net.ipv4.neigh.e0.locktime=500
same "a request" new "$(moved request)"
same "a reply to itself" new "$(moved "reply to itself")"
same "a reply to all" former "$(moved "reply to all")"
