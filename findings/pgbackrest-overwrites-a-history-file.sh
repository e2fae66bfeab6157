#!/usr/bin/env bash
# Two servers archive a file of one name with different content (two promotions to one timeline; a restore
# test with the production's settings). pgBackRest refuses a segment and a .partial of another content with an
# error, but takes a timeline history file every time, says nothing, and the last one counts.
# Guess before: a history file is refused as a segment is.
# Seen with pgBackRest 2.45-1 (Debian 12), and by hand with 2.55.1; PostgreSQL 15.19.
. "$(dirname "$0")/lib.sh"
debian pgbackrest 2.45-1
postgres 15.19
primary a
sql a "select pg_switch_wal()" >/dev/null
mkdir "$work/repo" "$work/one" "$work/other"
segment=000000010000000000000001
for place in one other; do
  cp "$work/a/pg_wal/$segment" "$work/$place/$segment"
  cp "$work/a/pg_wal/$segment" "$work/$place/$segment.partial"
  printf '1\t0/%s000000\tno recovery target specified\n' "${#place}" >"$work/$place/00000002.history"
done
for name in "$segment" "$segment.partial"; do printf x | dd of="$work/other/$name" bs=1 seek=9000 conv=notrunc status=none; done
own "$work/repo" "$work/one" "$work/other"
rest() {
  (cd "$work/repo" && as_user env PGBACKREST_PG1_SOCKET_PATH="$work/a.sock" PGBACKREST_PG1_USER=postgres \
    "$work/root/usr/bin/pgbackrest" --config=/dev/null --stanza=main --repo1-path="$work/repo" --pg1-path="$work/a" \
    --lock-path="$work/repo" --log-level-file=off --log-level-console=off --log-level-stderr=off "$@") && echo taken || echo refused
}
same "the stanza" taken "$(rest stanza-create)"
for name in "$segment" "$segment.partial" 00000002.history; do
  same "$name" taken "$(rest archive-push "$work/one/$name")"
  same "$name of another content" "$([ "$name" = 00000002.history ] && echo taken || echo refused)" "$(rest archive-push "$work/other/$name")"
done
same "the history file in the archive" taken "$(rest archive-get 00000002.history "$work/repo/got")"
same "is" other "$(cmp -s "$work/repo/got" "$work/other/00000002.history" && echo other || echo one)"
