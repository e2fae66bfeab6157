#!/usr/bin/env bash
# The postmaster of a primary is killed (out of memory, say) while archive_command runs. All of its processes go when they see
# it, but the archiver waits for the command, and is attached to the shared memory: each start is refused, "pre-existing shared
# memory block … is still in use", until the command has ended; for ever, where it hangs.
# Guess before: the server starts, and the old command goes on beside the new archiver's.
# Seen with PostgreSQL 15.19 and 18.6 (and, by hand, 14.23).
. "$(dirname "$0")/lib.sh"
attempt() { as_user "$bin/pg_ctl" -D "$work/$a" -l "$work/$a.log" -w -t 60 start >/dev/null 2>&1 && echo started || echo refused; }
left() { find /proc/[0-9]*/cmdline -exec grep -al "^postgres: $a: " {} + 2>/dev/null | wc -l; }
one_is_left() { [ "$(left)" = 1 ]; }
gone() { [ "$(left)" = 0 ]; }
for version in 15.19 18.6; do
  postgres "$version"
  a="a-$version"
  primary "$a" "archive_mode = on" "archive_command = 'touch $work/$a.begun; while [ ! -e $work/$a.go ]; do sleep 0.1; done'"
  own "$work"
  sql "$a" "select pg_switch_wal()" >/dev/null
  until_true 20 test -e "$work/$a.begun"
  kill -KILL "$(head -n 1 "$work/$a/postmaster.pid")"
  until_true 20 one_is_left
  sleep 3
  same "$version, of its processes there is left" "postgres: $a: archiver archiving" "$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -a -o "^postgres: $a: archiver archiving")"
  same "$version, while the command runs, a start is" refused "$(attempt)"
  same "$version, its log" "pre-existing shared memory block" "$(grep -m 1 -o 'pre-existing shared memory block' "$work/$a.log")"
  touch "$work/$a.go"
  until_true 20 gone
  same "$version, when it has ended, a start is" started "$(attempt)"
  stop "$a"
done
