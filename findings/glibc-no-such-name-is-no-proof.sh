#!/usr/bin/env bash
# getaddrinfo says "no such name" (EAI_NONAME) also where a server was silent: of a short name, after the search domain's
# question went unanswered, the bare name's NXDOMAIN is the answer, 10 s later. And it says "no address" (EAI_NODATA)
# at once where the question for IPv4 failed (SERVFAIL) and there is no IPv6, as where a forwarder remembers the one and
# cannot ask for the other. A program that drops what it knew by these codes drops it while the resolver is broken.
# Guess before: a resolver that fails or is silent is always EAI_AGAIN.
# Seen with glibc 2.36. Runs in a network and a mount namespace of its own (util-linux; /proc/sys/user/max_user_namespaces).
. "$(dirname "$0")/lib.sh"
cat >"$work/server.py" <<'P'
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
while True:
    q, client = s.recvfrom(600)
    end = q.index(b"\0", 12)
    name, kind = q[12:end], struct.unpack(">H", q[end + 1:end + 3])[0]
    code = {"search": 3, "half": 2 if kind == 1 else 0}[sys.argv[1]]
    if sys.argv[1] == "search" and b"example" in name:
        continue
    s.sendto(q[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, 0, 0, 0) + q[12:end + 5], client)
P
cat >"$work/ask.py" <<'P'
import socket, subprocess, sys, time
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = subprocess.Popen([sys.executable, sys.argv[1] + "/server.py", sys.argv[2]])
time.sleep(1)
begun = time.monotonic()
try:
    print(socket.getaddrinfo(sys.argv[3], 5432, 0, socket.SOCK_STREAM))
except socket.gaierror as error:
    names = [n for n in dir(socket) if n.startswith("EAI_") and getattr(socket, n) == error.errno]
    print(*names, "late" if time.monotonic() - begun >= 1 else "at once")
server.kill()
P
printf 'search example.test\nnameserver 127.0.0.1\n' >"$work/resolv.conf"
printf 'hosts: dns\n' >"$work/nsswitch.conf"
ask() {
  unshare --user --map-root-user --net --mount sh -c 'mount --bind "$0/resolv.conf" /etc/resolv.conf &&
    mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf && exec python3 "$0/ask.py" "$@"' "$work" "$work" "$@"
}
same "glibc" 2.36 "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)"
same "db1: silence for db1.example.test, NXDOMAIN for db1" "EAI_NONAME late" "$(ask search db1)"
same "db1.hart.test: SERVFAIL for A, no AAAA" "EAI_NODATA at once" "$(ask half db1.hart.test)"
