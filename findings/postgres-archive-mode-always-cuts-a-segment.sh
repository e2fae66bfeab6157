#!/usr/bin/env bash
# Three servers in a row, each with archive_mode = always and an archive of its own. The middle one is promoted. It archives
# the segment in which its timeline forks as .partial, as it should. The one that follows it archives the very same half
# segment under the segment's full name: whoever restores from that archive along timeline 1 has a segment that ends in
# zeros in its place, and in a common archive it stands where the former primary's whole one (here archived as well) belongs.
# Guess before: it has the end of that segment from nobody, so it archives it as .partial, too, or not at all.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  for name in n1 n2 n3; do as_user mkdir "$work/$name-$version.archive"; done
  always() { echo "archive_command = 'cp %p $work/$1-$version.archive/%f'"; }
  archived() { [ -e "$work/$1-$version.archive/$2" ] && echo yes || echo no; }
  primary "n1-$version" "archive_mode = always" "$(always n1)"
  standby "n2-$version" "n1-$version" "$(always n2)"
  standby "n3-$version" "n2-$version" "$(always n3)"
  sql "n1-$version" "create table t(i int); insert into t values (1)"
  caught_up "n3-$version" "n1-$version"
  last=$(sql "n1-$version" "select pg_walfile_name(pg_current_wal_lsn())")
  sql "n2-$version" "select pg_promote()" >/dev/null
  sql "n2-$version" "insert into t values (2)"
  sql "n2-$version" "select pg_switch_wal()" >/dev/null
  sql "n1-$version" "insert into t select generate_series(1, 1000)"
  sql "n1-$version" "select pg_switch_wal()" >/dev/null
  caught_up "n3-$version" "n2-$version"
  until_true 30 test -e "$work/n1-$version.archive/$last"
  until_true 30 test -e "$work/n2-$version.archive/$last.partial"
  until_true 30 test -e "$work/n3-$version.archive/00000002${last:8}"
  same "$version, the promoted one archives the full name" no "$(archived n2 "$last")"
  same "$version, the one that follows archives the full name, .partial" "yes no" "$(archived n3 "$last") $(archived n3 "$last.partial")"
  end() { "$bin/pg_waldump" "$work/$1-$version.archive/$last" 2>/dev/null | tail -1 | grep -c SWITCH || true; }
  same "$version, whole in the former primary's archive" 1 "$(end n1)"
  same "$version, whole in the archive of the one that follows" 0 "$(end n3)"
  for name in n3 n2 n1; do stop "$name-$version"; done
done
