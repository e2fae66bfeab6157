#!/usr/bin/env bash
# Two hosts that take no packets, connect_timeout=2. target_session_attrs=any gives up after 4 s,
# prefer-standby after 8 s: where no standby was found, all hosts are tried once more, also those whose time
# ran out a moment ago. (connect_timeout=1 is taken for 2 up to libpq 16; from 17 on it is 1.)
# Guesses before: the time-out counts once for each host; 1 is 1.
# Seen with libpq 15.19, 16.15, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 16.15 17.11 18.6; do
  postgres "$version"
  python3 - "$bin/psql" >"$work/$version" <<'P'
import socket, subprocess, sys, time
# A listener whose queue is full lets further connections wait.
full, filling = [], []
with socket.create_server(("127.0.7.1", 0)) as free:
    port = free.getsockname()[1]
for host in ("127.0.7.1", "127.0.7.2"):
    one = socket.socket()
    one.bind((host, port))
    one.listen(0)
    full.append(one)
    for _ in range(4):
        other = socket.socket()
        other.setblocking(False)
        other.connect_ex((host, port))
        filling.append(other)

def tries(**options):
    text = f"host=127.0.7.1,127.0.7.2 port={port} dbname=x user=x " + " ".join(f"{k}={v}" for k, v in options.items())
    begun = time.monotonic()
    said = subprocess.run([sys.argv[1], "-d", text, "-c", ""], capture_output=True, text=True).stderr
    return said.count("timeout expired"), time.monotonic() - begun

any_, once = tries(connect_timeout=2)
prefer, twice = tries(connect_timeout=2, target_session_attrs="prefer-standby")
_, one = tries(connect_timeout=1)
print(any_, "about 4 s" if 3.5 < once < 7 else once, prefer, "about 8 s" if 7.5 < twice < 14 else twice, "2 s" if one > 3.5 else "1 s")
P
  expected="2 about 4 s 4 about 8 s $([ "${version%%.*}" -lt 17 ] && echo "2 s" || echo "1 s")"
  same "$version: time-outs, any; prefer-standby; what 1 means" "$expected" "$(cat "$work/$version")"
done
