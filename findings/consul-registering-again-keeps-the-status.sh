#!/usr/bin/env bash
# A Consul agent is killed and started again. The services on its disk come back as critical until their
# next check, and Consul's DNS does not name what is critical. Registering the very same service again
# with "Status": "passing" does not help: where the agent knows the check, it keeps the status that the
# check has. The same registration with another CheckID (and replace-existing-checks) is passing at once.
# Guess before: a registration sets the status that it names.
# Seen with consul 1.8.7+dfsg1-2+b3 (Debian 11; apt has to know that suite).
. "$(dirname "$0")/lib.sh"
debian consul 1.8.7+dfsg1-2+b3
consul="$work/root/usr/bin/consul"
ports=($(python3 -c 'import socket
held = [socket.socket() for _ in range(4)]
for one in held: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))'))
agent=
up() {
  "$consul" agent -server -bootstrap-expect=1 -node=c1 -bind=127.0.0.1 -client=127.0.0.1 -data-dir="$work/consul" \
    -http-port="${ports[0]}" -server-port="${ports[1]}" -serf-lan-port="${ports[2]}" -serf-wan-port="${ports[3]}" \
    -dns-port=-1 >"$work/consul.log" 2>&1 &
  agent=$!
  until_true 60 knows_itself
}
trap 'kill -KILL $agent && wait $agent 2>/dev/null || true; leave' EXIT
api() { curl --silent --fail "http://127.0.0.1:${ports[0]}/v1/$1" "${@:2}"; }
knows_itself() { api catalog/node/c1 | grep -q '"c1"'; }
register() {
  api "agent/service/register?replace-existing-checks=true" -X PUT -d '{"ID": "db", "Name": "db", "Checks": [{
    "CheckID": "'"$1"'", "Name": "db", "HTTP": "http://127.0.0.1:1/", "Interval": "600s", "Status": "passing"}]}'
}
status() { api agent/checks | python3 -c 'import json, sys; print(*(c["Status"] for c in json.load(sys.stdin).values()))'; }
up
register service:db
same "registered" passing "$(status)"
kill -KILL $agent && wait $agent 2>/dev/null || true
up
same "after the agent was killed and started again" critical "$(status)"
register service:db
same "registered again, the same check" critical "$(status)"
register service:db:1
same "registered again, another check" passing "$(status)"
