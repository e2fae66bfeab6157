#!/usr/bin/env bash
# The leader of three Consul servers is frozen. Another one leads after some seconds and takes writes. What a
# follower had passed on to the frozen one waits on: blocking queries, also for a key that is changed
# meanwhile, and a write, up to half a minute, and end in an error (500, "EOF"), although a new question to
# the same follower is answered at once. A blocking query with ?stale sees the change.
# Guess before: what waits ends with an error, or sees the change, soon after there is a new leader.
# Seen with consul 1.8.7+dfsg1-2+b3 (Debian 11; apt has to know that suite).
. "$(dirname "$0")/lib.sh"
debian consul 1.8.7+dfsg1-2+b3
consul="$work/root/usr/bin/consul"
ports 9
agents=()
trap 'kill -KILL "${agents[@]}"; wait "${agents[@]}" 2>/dev/null || true; leave' EXIT
for n in 0 1 2; do
  "$consul" agent -server -bootstrap-expect=3 -node="c$n" -bind=127.0.0.1 -client=127.0.0.1 -data-dir="$work/c$n" \
    -http-port="${port[n]}" -server-port="${port[n + 3]}" -serf-lan-port="${port[n + 6]}" -serf-wan-port=-1 -dns-port=-1 \
    -retry-join="127.0.0.1:${port[6]}" -retry-interval=1s >"$work/c$n.log" 2>&1 &
  agents+=($!)
done
api() { curl --silent --max-time 90 "http://127.0.0.1:${port[$1]}/v1/$2" "${@:3}"; }
leader() {
  local told n
  told=$(api "$1" status/leader | tr -d '"')
  for n in 0 1 2; do if [ "$told" = "127.0.0.1:${port[n + 3]}" ]; then echo "$n"; fi; done
}
all() { [ "$(api 0 status/peers | tr , '\n' | grep -c 127)" = 3 ] && [ -n "$(leader 0)" ]; }
until_true 60 all
old=$(leader 0) near=$(((old + 1) % 3))
until_true 60 api "$near" kv/key -f -X PUT -d 1
sleep 3
index=$(api "$near" kv/key -i | tr -d '\r' | sed -n 's/^X-Consul-Index: //Ip')
wait_for() { api "$near" "kv/key?index=$index&wait=80s$1" -w ' %{http_code}' >"$work/$2" 2>&1; touch "$work/$2.done"; }
wait_for '' plain &
wait_for '&stale' stale &
sleep 2
kill -STOP "${agents[old]}"
(api "$near" kv/other -X PUT -d 1 -w ' %{http_code}' >"$work/write" 2>&1; touch "$work/write.done") &
other() { [ -n "$(leader "$near")" ] && [ "$(leader "$near")" != "$old" ]; }
until_true 60 other
changed() { [ "$(api "$near" kv/key -X PUT -d 2)" = true ]; }
until_true 60 changed
sleep 2
same "the key at the same follower, asked anew" 2 "$(api "$near" 'kv/key?raw')"
same "the blocking query with ?stale" 200 "$(grep -o '...$' "$work/stale")"
same "the blocking query and the write have an answer" "no no" \
  "$([ -e "$work/plain.done" ] && echo yes || echo no) $([ -e "$work/write.done" ] && echo yes || echo no)"
until_true 90 test -e "$work/plain.done"
until_true 90 test -e "$work/write.done"
same "the blocking query in the end" "rpc error making call: EOF 500" "$(cat "$work/plain")"
same "the write in the end" "rpc error making call: EOF 500" "$(cat "$work/write")"
