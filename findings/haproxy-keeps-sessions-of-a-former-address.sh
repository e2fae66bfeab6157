#!/usr/bin/env bash
# HAProxy takes its servers from DNS (server-template), and a server gets another address: its host was replaced. With
# on-marked-down shutdown-sessions, sessions at the former address end after `hold obsolete` where the template asks for A
# records: the address has gone, and the new one is another server. With SRV the name in the record is the same, so the server
# keeps its place and gets the new address: sessions at the former one go on, and no check looks at that address any more.
# Guess before: they go on in both.
# Seen with HAProxy 2.6.12-1+deb12u3 (Debian 12), and by hand with 3.4.7.
. "$(dirname "$0")/lib.sh"
debian haproxy 2.6.12-1+deb12u3
debian liblua5.3-0 5.3.6-2
ports 4
cat >"$work/world.py" <<'PY'
"""Two hosts that say their address to who asks, and a DNS server for any.test and _pg._tcp.any.test: n1 is at 127.0.0.11, and at
127.0.0.12 as soon as the file `moved` exists."""
import os, socket, struct, sys, threading

dns, port, moved = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def host(address):
    with socket.create_server((address, port)) as server:
        while True:
            threading.Thread(target=talk, args=(server.accept()[0], address.encode()), daemon=True).start()


def talk(client, address):
    while client.recv(100):
        client.sendall(address)


def record(name, kind, data):
    return name + struct.pack(">HHIH", kind, 1, 1, len(data)) + data


for address in ["127.0.0.11", "127.0.0.12"]:
    threading.Thread(target=host, args=(address,), daemon=True).start()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", dns))
    while True:
        question, client = server.recvfrom(4096)
        end = question.index(b"\0", 12) + 1
        kind = struct.unpack(">H", question[end : end + 2])[0]
        address = socket.inet_aton("127.0.0.12" if os.path.exists(moved) else "127.0.0.11")
        answer = more = b""
        if kind == 33:
            name = b"\x02n1\x04test\0"
            answer = record(b"\xc0\x0c", 33, struct.pack(">HHH", 1, 1, port) + name)
            more = record(name, 1, address)
        elif kind == 1:
            answer = record(b"\xc0\x0c", 1, address)
        head = struct.pack(">HHHHH", 0x8580, 1, bool(answer), 0, bool(more))
        server.sendto(question[:2] + head + question[12 : end + 4] + answer + more, client)
PY
cat >"$work/haproxy.cfg" <<CFG
resolvers here
  nameserver one 127.0.0.1:${port[0]}
  accepted_payload_size 4096
  timeout resolve 1s
  hold valid 1s
  hold obsolete 2s
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  default-server inter 200ms rise 1 fall 2 check on-marked-down shutdown-sessions resolvers here resolve-prefer ipv4 init-addr none
listen addresses
  bind 127.0.0.1:${port[2]}
  server-template pg 2 any.test:${port[1]}
listen services
  bind 127.0.0.1:${port[3]}
  server-template pg 2 _pg._tcp.any.test
CFG
python3 "$work/world.py" "${port[0]}" "${port[1]}" "$work/moved" &
LD_LIBRARY_PATH="$work/root/usr/lib/x86_64-linux-gnu" "$work/root/usr/sbin/haproxy" -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; leave' EXIT
cat >"$work/session.py" <<'PY'
"""Opens a session at each port, lets the server move, and says what each session and a new one hear ten seconds after."""
import socket, sys, time

def ask(session):
    try:
        session.sendall(b"?")
        return session.recv(100).decode() or "ended"
    except OSError:
        return "ended"

def new(port):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            session = socket.create_connection(("127.0.0.1", port), 5)
            if ask(session) != "ended":
                return session
        except OSError:
            pass
        time.sleep(0.2)

ports = [int(port) for port in sys.argv[2:]]
sessions = [new(port) for port in ports]
open(sys.argv[1], "w").close()
time.sleep(10)
for kind, port, session in zip(["A records", "SRV"], ports, sessions):
    print(f"{kind}: the session {ask(session)}, a new one {ask(new(port))}")
PY
seen=$(timeout 100 python3 "$work/session.py" "$work/moved" "${port[2]}" "${port[3]}")
same "ten seconds after the move" "A records: the session ended, a new one 127.0.0.12
SRV: the session 127.0.0.11, a new one 127.0.0.12" "$seen"
