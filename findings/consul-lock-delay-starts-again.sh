#!/usr/bin/env bash
# A lock's delay counts again from the start of the server. A session is destroyed, its lock-delay passes, the
# lock is taken by another session and released in good order; nothing delays it. Then the server is restarted:
# it replays its log, with the end of the first session in it, and the free lock is refused for the whole
# lock-delay once more (15 s unless told otherwise).
# Guess before: a delay that is over is over.
# Seen with consul 1.8.7+dfsg1-2+b3 (Debian 11; apt has to know that suite).
. "$(dirname "$0")/lib.sh"
debian consul 1.8.7+dfsg1-2+b3
consul="$work/root/usr/bin/consul"
ports 4
agent=
up() {
  "$consul" agent -server -bootstrap-expect=1 -node=c1 -bind=127.0.0.1 -client=127.0.0.1 -data-dir="$work/consul" \
    -http-port="${port[0]}" -server-port="${port[1]}" -serf-lan-port="${port[2]}" -serf-wan-port="${port[3]}" \
    -dns-port=-1 >>"$work/consul.log" 2>&1 &
  agent=$!
  until_true 60 knows_itself
}
trap 'kill -KILL $agent && wait $agent 2>/dev/null || true; leave' EXIT
api() { curl --silent --fail -X PUT "http://127.0.0.1:${port[0]}/v1/$1" "${@:2}"; }
knows_itself() { curl --silent --fail "http://127.0.0.1:${port[0]}/v1/catalog/node/c1" | grep -q '"c1"'; }
session() { api session/create -d '{"LockDelay": "'"$1"'", "NodeChecks": []}' | grep -o '[0-9a-f-]\{36\}'; }
takes() { [ "$(api "kv/lock?acquire=$1" -d x)" = true ]; }
up
first=$(session 20s)
takes "$first"
api "session/destroy/$first" >/dev/null
second=$(session 0s)
same "after the end of a session the lock is refused" no "$(takes "$second" && echo yes || echo no)"
until_true 60 takes "$second"
same "after its lock-delay it is taken, and released" true "$(api "kv/lock?release=$second")"
same "nothing delays it now" yes "$(takes "$second" && echo yes || echo no)"
same "released" true "$(api "kv/lock?release=$second")"
kill -TERM $agent
wait $agent || true
up
third=$(session 0s)
same "after a restart of the server the free lock is refused" no "$(takes "$third" && echo yes || echo no)"
until_true 60 takes "$third"
echo "and taken in the end"
