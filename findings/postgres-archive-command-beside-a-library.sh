#!/usr/bin/env bash
# archive_command works; archive_library is set as well, and the configuration is reloaded. From 16 on the server says nothing to
# who reloads, starts again without complaint, and archives nothing: the archiver ends each time it begins, so that
# pg_stat_archiver counts no failure. 15 takes the library, and where that has no directory yet, "archiving is not
# configured" is a warning, and no failure is counted either. WAL is kept meanwhile. Taken back, it goes on.
# Guess before: refused by the reload or the start, as two recovery targets are.
# Seen with PostgreSQL 15.19, 16.15, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 16.15 17.11 18.6; do
  postgres "$version"
  n1="n1-$version"
  as_user mkdir "$work/archive-$version"
  primary "$n1" "archive_mode = on" "archive_command = 'cp %p $work/archive-$version/%f'"
  # segment: its name, when it is full.
  segment() { sql "$n1" "create table if not exists t(); insert into t default values; select pg_walfile_name(pg_switch_wal())" 2>/dev/null | tail -n 1; }
  first=$(segment)
  until_true 30 test -e "$work/archive-$version/$first"
  sql "$n1" "alter system set archive_library = 'basic_archive'"
  same "$version, the reload" t "$(sql "$n1" "select pg_reload_conf()")"
  sleep 2
  second=$(segment)
  sleep 5
  same "$version, archived after it" no "$(test -e "$work/archive-$version/$second" && echo yes || echo no)"
  same "$version, failed_count" 0 "$(sql "$n1" "select failed_count from pg_stat_archiver")"
  stop "$n1"
  start "$n1"
  sleep 3
  same "$version, archived after a restart, and failed_count" "no 0" \
    "$(test -e "$work/archive-$version/$second" && echo yes || echo no) $(sql "$n1" "select failed_count from pg_stat_archiver")"
  said=$(tr -d '"' <"$work/$n1.log" | grep -oE 'both archive_command and archive_library set|archive_mode enabled, yet archiving is not configured' | sort -u)
  [ "$version" = 15.19 ] && expected="archive_mode enabled, yet archiving is not configured" || expected="both archive_command and archive_library set"
  same "$version, the log" "$expected" "$said"
  sql "$n1" "alter system reset archive_library" && sql "$n1" "select pg_reload_conf()" >/dev/null
  until_true 90 test -e "$work/archive-$version/$second"
  echo "$version, after it is taken back: archived"
  stop "$n1"
done
