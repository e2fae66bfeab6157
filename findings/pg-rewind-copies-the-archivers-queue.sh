#!/usr/bin/env bash
# The archive is away when a standby is promoted, so the new primary's archiver has files before it
# (".ready"). The old primary is rewound to it, and gets these marks with the rest of pg_wal. Later the
# archive is back, and the new primary archives its files. When the rewound server is promoted in its turn,
# its archiver begins with the marks that it was given: an archive_command as in PostgreSQL's documentation
# ("test ! -f … && cp …") fails for a file that is there, again and again, and nothing after it is archived.
# Guess before: archive_status of a rewound server is its own, or empty.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  a="a-$version" b="b-$version"
  as_user mkdir "$work/archive-$version"
  primary "$a" "archive_mode = on" "wal_log_hints = on" "wal_keep_size = 256MB" \
    "archive_command = 'test ! -e $work/away && test ! -f $work/archive-$version/%f && cp %p $work/archive-$version/%f'"
  standby "$b" "$a"
  sql "$a" "create table t(i int)"
  caught_up "$b" "$a"
  as_user touch "$work/away"
  stop "$a" immediate
  sql "$b" "select pg_promote()" >/dev/null
  sql "$b" checkpoint
  as_user "$bin/pg_rewind" --target-pgdata "$work/$a" --source-server "host=$work/$b.sock user=postgres" \
    --no-sync >/dev/null 2>&1
  same "$version, waiting for the archiver on the server that was rewound" "00000002.history.ready" \
    "$(cd "$work/$a/pg_wal/archive_status" && ls ./*.history.ready | sed 's,./,,')"
  as_user touch "$work/$a/standby.signal"
  printf '%s\n' "unix_socket_directories = '$work/$a.sock'" "cluster_name = '$a'" \
    "primary_conninfo = 'host=$work/$b.sock user=postgres application_name=$a'" >>"$work/$a/postgresql.conf"
  start "$a"
  rm "$work/away"
  until_true 90 test -e "$work/archive-$version/00000002.history"
  sql "$b" "insert into t values (1)"
  sql "$b" "select pg_switch_wal()" >/dev/null
  caught_up "$a" "$b"
  stop "$b" immediate
  sql "$a" "select pg_promote()" >/dev/null
  until_true 60 is "$a" "select failed_count > 2 from pg_stat_archiver" t
  same "$version, what the archiver of the rewound server fails at" "00000002.history" \
    "$(sql "$a" "select last_failed_wal from pg_stat_archiver")"
  stop "$a"
done
