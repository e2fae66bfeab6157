#!/bin/bash
# Waits until all nodes are in their places, and says what there is to try: ready.sh NAME ADDRESS
. "$(dirname "$0")/lib.sh"
name=$1 address=$2

nodes=$(addresses node | wc -l)
count() { curl --fail --silent --max-time 2 "http://$address:8008/cluster" | grep -o "\"state\": *\"$1\"" | wc -l; }
in_place() {
    local streaming
    streaming=$(count streaming) || return 1
    (( streaming == nodes - 1 )) && curl --fail --silent --output /dev/null --max-time 2 "http://$address:8008/cluster"
}
until_true 120 in_place
answers() { dig +short +time=1 +tries=1 "@$address" "primary.$scope.$zone" | grep -q .; }
until_true 30 answers

primary=$(dig +short "@$address" "primary.$scope.$zone")
dsn=$(hart dsn)
cat <<TEXT

The cluster is up:

$(hart list)

  Consul's UI   http://$(addresses meta):8500/ui
  Prometheus    http://$(addresses meta):9090/alerts
  DNS           primary.$scope.$zone is $primary: dig @$address primary.$scope.$zone
                (each node answers on port 53; replica.$scope.$zone and $name.$scope.$zone, too)
  Connection    $dsn
                user postgres, password sandbox

Three things to try:

  1. Hand the primary's role over:    vagrant ssh $name -c 'sudo hart switchover --force'
  2. Lose the primary's machine:      vagrant halt --force NODE; vagrant ssh ANOTHER -c 'sudo hart list'
                                      and have it back: vagrant up NODE
  3. Ask what happened, and why:      vagrant ssh $name -c 'sudo hart events --last 2; sudo hart why'

TEXT
