#!/usr/bin/env bash
# A "%s" (as in `date +%s`) in archive_command: PostgreSQL 15 passes it to the shell. From 16 on it is an
# error, which neither the start nor a reload reports: the setting is accepted and shown, nothing is
# archived any more. In 16 the archiver ends each time before it counts, so
# pg_stat_archiver.failed_count stays 0: a monitor that looks for failures sees none. From 17 on failures
# count. A minor upgrade changes nothing; a major one stops the archive.
# Guess before: refused at start, or counted as a failure in every version.
# Seen with PostgreSQL 15.19, 16.15, 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
declare -A archived=([15.19]=t [16.15]=f [17.11]=f [18.6]=f)
declare -A failed=([15.19]=f [16.15]=f [17.11]=t [18.6]=t)
for version in 15.19 16.15 17.11 18.6; do
  postgres "$version"
  as_user mkdir "$work/archive-$version"
  primary "a-$version" "archive_mode = on" \
    "archive_command = 'date +%s >$work/archive-$version/%f.time && cp %p $work/archive-$version/%f'"
  sql "a-$version" "create table t(i int)"
  sql "a-$version" "select pg_switch_wal()" >/dev/null
  # Far longer than the archiver needs for its three attempts.
  sleep 6
  same "$version, something archived" "${archived[$version]}" \
    "$(sql "a-$version" "select archived_count > 0 from pg_stat_archiver")"
  same "$version, failures counted" "${failed[$version]}" \
    "$(sql "a-$version" "select failed_count > 0 from pg_stat_archiver")"
  stop "a-$version"
done
