#!/usr/bin/env bash
# A blocking query on a prefix under which there is no key yet (a program that waits for a cluster to appear) ends with each
# write of any key in the whole Consul, and so it asks as often as all others write. On a key that does not exist it ends with
# each write under the same parent. On what exists both end with their own changes only.
# Guess before: it ends when something appears there, as on what exists.
# Seen with consul 1.8.7+dfsg1-2+b3 (Debian 11; apt has to know that suite).
. "$(dirname "$0")/lib.sh"
debian consul 1.8.7+dfsg1-2+b3
consul="$work/root/usr/bin/consul"
ports 4
"$consul" agent -server -bootstrap-expect=1 -node=c1 -bind=127.0.0.1 -client=127.0.0.1 -data-dir="$work/consul" \
  -http-port="${port[0]}" -server-port="${port[1]}" -serf-lan-port="${port[2]}" -serf-wan-port="${port[3]}" \
  -dns-port=-1 >"$work/consul.log" 2>&1 &
agent=$!
trap 'kill -KILL $agent && wait $agent 2>/dev/null || true; leave' EXIT
kv="http://127.0.0.1:${port[0]}/v1/kv"
put() { curl --silent --fail -X PUT -d x "$kv/$1" | grep -q true; }
until_true 60 put ours/a
put others/a
index() { curl --silent --output /dev/null --dump-header - "$1" | tr -d '\r' | awk 'tolower($1) == "x-consul-index:" { print $2 }'; }
# woken QUERY WRITTEN: whether a blocking query ends by a write to another key within eight seconds.
woken() {
  local before
  before=$(index "$kv/$1")
  (curl --silent --output /dev/null --max-time 8 "$kv/$1&wait=60s&index=$before" && echo yes || echo no) >"$work/woken" &
  sleep 1
  put "$2"
  wait $!
  cat "$work/woken"
}
same "a prefix with keys, and a write elsewhere, woken" no "$(woken 'ours/?recurse' others/b)"
same "a prefix without keys, and a write elsewhere, woken" yes "$(woken 'nobodys/?recurse' others/c)"
same "a key, and a write of its neighbour, woken" no "$(woken 'ours/a?x' ours/b)"
same "a key that does not exist, and a write of its neighbour, woken" yes "$(woken 'ours/missing?x' ours/c)"
