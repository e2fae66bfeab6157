#!/usr/bin/env bash
# With unix_socket_directories inside the data directory ('.', or the directory itself) pg_basebackup
# skips the socket with a warning, but copies its lock file, .s.PGSQL.5432.lock, with the primary's
# process number in it. (postmaster.pid is left out on both sides.) The copy does not start for as long
# as any process of that number lives on its host, whatever it is.
# Guess before: lock files are left out of a base backup.
# Seen with PostgreSQL 15.19 and 18.6.
. "$(dirname "$0")/lib.sh"
for version in 15.19 18.6; do
  postgres "$version"
  primary "a-$version" "unix_socket_directories = '$work/a-$version.sock, $work/a-$version'"
  as_user "$bin/pg_basebackup" -D "$work/b-$version" -h "$work/a-$version.sock" -U postgres -c fast 2>/dev/null
  same "$version, in the copy" ".s.PGSQL.5432.lock" "$(cd "$work/b-$version" && ls -d .s.* postmaster.pid 2>/dev/null)"
  same "$version, the process number in it is the primary's" "$(head -n 1 "$work/a-$version/postmaster.pid")" \
    "$(head -n 1 "$work/b-$version/.s.PGSQL.5432.lock")"
  echo "unix_socket_directories = '$work/b-$version'" >>"$work/b-$version/postgresql.conf"
  same "$version, the copy beside it starts" no "$(start "b-$version" 2>/dev/null && echo yes || echo no)"
  same "$version, because of" 1 "$(grep -c 'socket.*lock.*already exists\|lock file.*already exists' "$work/b-$version.log")"
  rm "$work/b-$version/.s.PGSQL.5432.lock"
  same "$version, without the file" yes "$(start "b-$version" && echo yes || echo no)"
done
