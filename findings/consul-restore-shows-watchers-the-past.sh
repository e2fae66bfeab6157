#!/usr/bin/env bash
# A snapshot is restored. Blocking queries that wait are woken, and answered with the value of *before* the
# restore, with its index. The next one with that index, which is greater than that of the restored value,
# waits its whole time, though the value is another one than the client has. (The sessions of the snapshot are
# back as well, and hold their locks for twice their TTL, while those made since are gone.)
# Guess before: who waits is woken with what was restored.
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
api() { curl --silent --fail "http://127.0.0.1:${port[0]}/v1/$1" "${@:2}"; }
until_true 60 api kv/key -X PUT -d old
session=$(api session/create -X PUT -d '{"TTL": "10s", "NodeChecks": []}' | grep -o '[0-9a-f-]\{36\}')
same "a session takes the lock" true "$(api "kv/lock?acquire=$session" -X PUT)"
api snapshot >"$work/snapshot"
same "it releases it, and ends" true "$(api "kv/lock?release=$session" -X PUT >/dev/null && api "session/destroy/$session" -X PUT)"
for _ in 1 2 3 4 5 6 7 8; do api kv/key -X PUT -d new >/dev/null; done
index() { api kv/key -i | tr -d '\r' | sed -n 's/^X-Consul-Index: //Ip'; }
before=$(index)
api "kv/key?raw&index=$before&wait=60s" -i | tr -d '\r' >"$work/woken" &
sleep 1
api snapshot -X PUT --data-binary "@$work/snapshot" >/dev/null
wait $!
same "who waited is told" new "$(tail -n 1 "$work/woken")"
same "with the index of" before "$([ "$(sed -n 's/^X-Consul-Index: //Ip' "$work/woken")" = "$before" ] && echo before || echo after)"
same "the value is" old "$(api 'kv/key?raw')"
same "its index is" less "$([ "$(index)" -lt "$before" ] && echo less || echo greater)"
same "who waits with the index that was told, for eight seconds, gets an answer within five" no \
  "$(api "kv/key?index=$before&wait=8s" --max-time 5 >/dev/null && echo yes || echo no)"
same "the lock is held by" "the session that had ended" \
  "$(api kv/lock | grep -q "$session" && echo "the session that had ended" || echo nobody)"
