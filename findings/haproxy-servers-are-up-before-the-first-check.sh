#!/usr/bin/env bash
# HAProxy starts (or is reloaded) with three servers whose health checks say yes for one and no for two. Until
# its first check each of them counts as up: connections of the first tenth of a second go to all three. From
# 3.1 on `init-state down` keeps a server out until a check has been good.
# Guess before: a server with a check takes no connection before the check was good.
# Seen with HAProxy 2.6.12-1+deb12u3 (Debian 12), and by hand with 3.0.11 and 3.2.26.
. "$(dirname "$0")/lib.sh"
debian haproxy 2.6.12-1+deb12u3
python3 - "$work" <<'P'
import socket, subprocess, sys, threading, time
work = sys.argv[1]

def serve(answer):
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    def one(client):
        with client:
            try:
                answer(client)
            except OSError:
                pass
    def loop():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()
    return listener.getsockname()[1]

def check(code):
    def answer(client):
        client.recv(1000)
        client.sendall(b"HTTP/1.0 %d x\r\nContent-Length: 0\r\n\r\n" % code)
    return serve(answer)

servers = "\n".join(
    f"    server {name} 127.0.0.1:{serve(lambda c, n=name: (c.sendall(n.encode()), c.recv(1)))} check port {check(code)}"
    for name, code in [("replica1", 503), ("primary", 200), ("replica2", 503)])
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
open(f"{work}/haproxy.cfg", "w").write(f"""
defaults
    mode tcp
    timeout connect 400ms
    timeout client 10s
    timeout server 10s
    timeout check 500ms
    default-server inter 500ms fastinter 200ms rise 1 fall 2 on-marked-down shutdown-sessions
frontend write
    bind 127.0.0.1:{port}
    default_backend primary
backend primary
    option httpchk OPTIONS /primary
    http-check expect status 200
{servers}
""")
haproxy = subprocess.Popen([f"{work}/root/usr/sbin/haproxy", "-f", f"{work}/haproxy.cfg"], stderr=open(f"{work}/log", "w"))
seen, end = [], time.monotonic() + 15
try:
    while time.monotonic() < end and seen[-30:] != ["primary"] * 30:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
                seen.append(client.recv(20).decode() or "closed")
        except OSError:
            pass
        time.sleep(0.005)
finally:
    haproxy.kill()
    haproxy.wait()
open(f"{work}/seen", "w").write("yes" if {"replica1", "replica2"} & set(seen[:-30]) else "no")
open(f"{work}/then", "w").write("the primary alone" if seen[-30:] == ["primary"] * 30 else "others")
P
same "connections of the beginning reached a server whose check says no" yes "$(cat "$work/seen")"
same "later ones reached" "the primary alone" "$(cat "$work/then")"
