#!/usr/bin/env bash
# A full backup of the primary begins, a standby that is behind is promoted, and the backup ends on the old
# primary: its last WAL is on the part of timeline 1 that was abandoned. (In life: an asynchronous standby that
# lagged takes over soon after a backup has ended.) The new primary has WAL summaries back to the start of
# that backup. It takes an incremental backup upon that manifest without a word, for it compares the manifest's
# end with its own position, and not with where its timeline forked; pg_combinebackup combines, pg_verifybackup
# verifies, the result starts, and rows that the new primary has are not there: blocks of the abandoned part,
# which nothing on the new one has changed, came with the full backup. (One that began after the fork is refused,
# and so is one whose end the new primary has not reached yet; one that ended before the fork is as good as ever.)
# Guess before: refused, since the manifest's timeline ended before.
# Seen with PostgreSQL 17.11 and 18.6.
. "$(dirname "$0")/lib.sh"
tables="1 2 3 4 5 6 7 8"
every() { for n in $tables; do printf "$1;" "$n"; done; }
rows() { sql "$1" "select sum(n) from ($(for n in $tables; do echo "select count(*) n from t$n union all"; done) select 0) all_of_them"; }
for version in 17.11 18.6; do
  postgres "$version"
  a="a-$version" b="b-$version" kept="$work/kept-$version"
  primary "$a" "summarize_wal = on" "wal_keep_size = 1GB" "autovacuum = off"
  standby "$b" "$a"
  sql "$a" "$(every "create table t%d(i int primary key, p text)")"
  sql "$a" "$(every "insert into t%d select g, 'old' from generate_series(1, 5000) g")"
  caught_up "$b" "$a"
  as_user mkdir "$kept"
  # Slowly, so that the fork comes before most of the files.
  as_user "$bin/pg_basebackup" -D "$kept/full" -h "$work/$a.sock" -U postgres -c fast --max-rate=2M &
  backup=$!
  until_true 60 is "$a" "select phase from pg_stat_progress_basebackup" "streaming database files"
  caught_up "$b" "$a"
  as_user "$bin/pg_ctl" -D "$work/$b" promote -w >/dev/null
  sql "$a" "$(every "update t%d set p = 'lost' where i <= 1000")"
  sql "$a" checkpoint
  wait $backup
  stop "$a"
  sql "$b" "create table big as select g, repeat('x', 100) from generate_series(1, 300000) g"
  sql "$b" "$(every "update t%d set p = 'new' where i > 4900")"
  sql "$b" checkpoint
  until_true 90 is "$b" "select max(tli) from pg_available_wal_summaries()" 2
  as_user "$bin/pg_basebackup" -D "$kept/incremental" -h "$work/$b.sock" -U postgres -c fast --incremental "$kept/full/backup_manifest" &&
    seen=taken || seen=refused
  same "$version, incremental backup" taken "$seen"
  as_user "$bin/pg_combinebackup" "$kept/full" "$kept/incremental" -o "$work/c-$version"
  same "$version, pg_verifybackup" "backup successfully verified" "$(as_user "$bin/pg_verifybackup" "$work/c-$version")"
  as_user mkdir "$work/c-$version.sock"
  echo "unix_socket_directories = '$work/c-$version.sock'" >>"$work/c-$version/postgresql.conf"
  start "c-$version"
  same "$version, rows at the new primary" 40000 "$(rows "$b")"
  restored=$(rows "c-$version")
  same "$version, rows in what was restored: $restored, which is all of them" no "$([ "$restored" = 40000 ] && echo yes || echo no)"
  stop "c-$version"
  stop "$b"
done
