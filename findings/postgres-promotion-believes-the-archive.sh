#!/usr/bin/env bash
# A standby that streams has received and replayed everything, and the primary is lost in the middle of archiving the last
# segment (idle since pg_switch_wal() or archive_timeout), or the archive's host is, so that the copy in the archive is not
# whole. pg_promote(): the end of recovery reads the last record again, and asks restore_command before it looks into pg_wal.
# A copy that is too short ends the server ("has wrong size", which a standby at work passes over): no promotion, now or
# after a restart, on any standby, until the file is taken away. A copy of full size without its end (zeros, as after the
# crash of the archive's host) is worse: it takes the place of the standby's own, whole segment in pg_wal, then PANIC; after a
# restart the standby is where the copy ends, may be promoted, and commits that it had confirmed are nowhere.
# Guess before: the standby has the segment, so it takes its own.
# Seen with PostgreSQL 15.19 and 18.6 (and, by hand, 14.23, 16.15, 17.11 and 19rc1).
. "$(dirname "$0")/lib.sh"
# lost KIND: n1 is lost when n2 has everything, and the archive a copy of the last segment of that kind; n2 is promoted.
lost() {
  local kind=$1
  n1="n1-$version-$kind" n2="n2-$version-$kind" archive="$work/archive-$version-$kind"
  as_user mkdir "$archive"
  primary "$n1" "archive_mode = on" "archive_command = 'cp %p $archive/%f'"
  sql "$n1" "create table t(i int)"
  standby "$n2" "$n1" "restore_command = 'cp $archive/%f %p'"
  sql "$n1" "alter system set archive_command to 'false'"
  sql "$n1" "select pg_reload_conf()" >/dev/null
  until_true 20 is "$n1" "show archive_command" false
  sql "$n1" "insert into t select generate_series(1, 1000)"
  last=$(sql "$n1" "select pg_walfile_name(pg_current_wal_lsn())")
  sql "$n1" "select pg_switch_wal()" >/dev/null
  caught_up "$n2" "$n1"
  same "$version, $kind, rows on the standby" 1000 "$(sql "$n2" "select count(*) from t")"
  [ "$kind" = short ] && copied=384 || copied=1
  as_user dd if="$work/$n1/pg_wal/$last" of="$archive/$last" bs=8k count=$copied status=none
  [ "$kind" = short ] || as_user truncate -s 16M "$archive/$last"
  stop "$n1" immediate
  sql "$n2" "select pg_promote(true, 20)" >/dev/null 2>&1 || true
  until_true 30 gone "$n2"
}
gone() { ! "$bin/pg_ctl" -D "$work/$1" status; }
says() { grep -c "$1" "$work/$n2.log"; }
for version in 15.19 18.6; do
  postgres "$version"
  lost short
  same "$version, promoted with a copy that is too short, FATAL" 1 "$(says 'FATAL.*archive file "0.*" has wrong size')"
  start "$n2"
  sql "$n2" "select pg_promote(true, 20)" >/dev/null 2>&1 || true
  until_true 30 gone "$n2"
  same "$version, and once more" 2 "$(says 'FATAL.*archive file "0.*" has wrong size')"
  as_user rm "$archive/$last"
  start "$n2"
  same "$version, without that file, promoted" t "$(sql "$n2" "select pg_promote(true, 20)")"
  same "$version, rows" 1000 "$(sql "$n2" "select count(*) from t")"
  stop "$n2"

  lost zeros
  same "$version, promoted with a copy that ends in zeros, PANIC" 1 "$(says 'PANIC.*invalid magic number 0000')"
  as_user rm "$archive/$last"
  start "$n2"
  same "$version, after a restart and without that file, rows on the standby" 0 "$(sql "$n2" "select count(*) from t")"
  same "$version, promoted" t "$(sql "$n2" "select pg_promote(true, 20)")"
  same "$version, rows" 0 "$(sql "$n2" "select count(*) from t")"
  stop "$n2"
done
