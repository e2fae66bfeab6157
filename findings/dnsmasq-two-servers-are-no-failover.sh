#!/usr/bin/env bash
# dnsmasq with two "server=" lines for one zone, and the server that it uses falls silent (its host is
# lost; nothing refuses). It keeps on asking that one alone: look-up after look-up from new sockets, as
# resolver libraries make them, goes unanswered although the second server answers, until dnsmasq
# compares its servers the next time (every 50 queries or 20 s) or a client repeats the very same query
# from the same socket. With "all-servers" every look-up is answered.
# Guess before: the second line is a fail-over; a look-up or two are slow, then the other one is used.
# Seen with dnsmasq 2.90-4~deb12u2 (Debian 12).
. "$(dirname "$0")/lib.sh"
debian dnsmasq-base 2.90-4~deb12u2
python dnslib==0.9.26
cat >"$work/responder.py" <<'PY'
"""Answers every A query on port argv[1] with 192.0.2.1."""
import sys
from dnslib import RR, A
from dnslib.server import BaseResolver, DNSServer


class Always(BaseResolver):
    def resolve(self, request, handler):
        reply = request.reply()
        reply.add_answer(RR(request.q.qname, rdata=A("192.0.2.1"), ttl=1))
        return reply


DNSServer(Always(), address="127.0.0.1", port=int(sys.argv[1])).start()
PY
cat >"$work/ask.py" <<'PY'
"""Asks port argv[1] for argv[2] names, each from a new socket; prints the most in a row without an answer."""
import socket, sys
from dnslib import DNSRecord

row = most = 0
for number in range(int(sys.argv[2])):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.5)
        asker.sendto(DNSRecord.question(f"n{sys.argv[3]}{number}.ha.test").pack(), ("127.0.0.1", int(sys.argv[1])))
        try:
            asker.recv(512)
            row = 0
        except TimeoutError:
            row += 1
            most = max(most, row)
print(most)
PY
free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
first=$(free_port) second=$(free_port)
"$python" "$work/responder.py" "$first" >/dev/null 2>&1 & one=$!
"$python" "$work/responder.py" "$second" >/dev/null 2>&1 & two=$!
ended="$one $two"
trap 'kill -KILL $ended && wait $ended 2>/dev/null || true; leave' EXIT
answers() { [ "$(ask "$1" 1 ready)" = 0 ]; }
ask() { "$python" "$work/ask.py" "$@"; }
for mode in "" all-servers; do
  port=$(free_port)
  "$work/root/usr/sbin/dnsmasq" --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --cache-size=0 \
    --port="$port" --listen-address=127.0.0.1 --bind-interfaces --pid-file= --user= --group= \
    --server="/ha.test/127.0.0.1#$first" --server="/ha.test/127.0.0.1#$second" ${mode:+--$mode} 2>/dev/null &
  ended="$ended $!"
  until_true 20 answers "$port"
  ask "$port" 20 warm >/dev/null
  # One and then the other falls silent: one of the two is the one that dnsmasq uses.
  worst=0
  for silent in $one $two; do
    kill -STOP "$silent"
    got=$(ask "$port" 15 "x$silent")
    kill -CONT "$silent"
    sleep 1
    [ "$got" -gt "$worst" ] && worst=$got
  done
  case $mode in
    "") same "two server= lines, ten and more in a row unanswered (here $worst)" yes "$([ "$worst" -ge 10 ] && echo yes || echo no)" ;;
    *) same "with $mode, unanswered in a row" 0 "$worst" ;;
  esac
done
