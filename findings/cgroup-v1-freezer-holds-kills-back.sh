#!/usr/bin/env bash
# A process in a frozen cgroup is sent SIGKILL. Version 2 of cgroups: it ends at once. Version 1 (hosts that
# still have it, or a hybrid; `docker pause` uses what there is): it stays until the cgroup is thawed. So one
# who kills and waits for the end must not wait there for ever, and memory, locks and sockets stay taken.
# Guess before: SIGKILL ends it at once, as it does one that SIGSTOP holds.
# Seen with Linux 6.18. Needs root and both hierarchies.
. "$(dirname "$0")/lib.sh"
v1=$(awk '$3 == "cgroup" && $4 ~ /freezer/ { print $2; exit }' /proc/mounts)/find-$$
v2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/find-$$
mkdir "$v1" "$v2"
one= two=
trap 'echo THAWED >"$v1/freezer.state"; kill -KILL $one $two 2>/dev/null || true; wait 2>/dev/null || true; rmdir "$v1" "$v2"; leave' EXIT
sleep 1000 &
one=$!
echo $one >"$v1/cgroup.procs"
echo FROZEN >"$v1/freezer.state"
until_true 10 grep -q FROZEN "$v1/freezer.state"
sleep 1000 &
two=$!
echo $two >"$v2/cgroup.procs"
echo 1 >"$v2/cgroup.freeze"
until_true 10 grep -q 'frozen 1' "$v2/cgroup.events"
kill -KILL $one $two
there() { grep -q . "$1/cgroup.procs"; }
gone() { ! there "$1"; }
until_true 10 gone "$v2"
echo "version 2: ended"
sleep 5
same "version 1, five seconds later" there "$(there "$v1" && echo there || echo ended)"
echo THAWED >"$v1/freezer.state"
until_true 10 gone "$v1"
echo "version 1, thawed: ended"
