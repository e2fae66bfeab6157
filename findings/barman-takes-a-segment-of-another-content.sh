#!/usr/bin/env bash
# Two servers send Barman a WAL segment of one name with different content (twin timelines). `barman put-wal`,
# which archive_command calls by way of barman-wal-archive, says "done" to both, so that PostgreSQL removes the
# segment; only later `barman archive-wal` finds the second one out, and moves it to the directory `errors`.
# A timeline history file goes the same way. failed_count of pg_stat_archiver stays 0.
# Guess before: the second one is refused, as pgBackRest does, and the archiver of that server complains.
# Seen with Barman 3.14.0, PostgreSQL 15.19.
. "$(dirname "$0")/lib.sh"
postgres 15.19
primary a
python barman==3.14.0 psycopg2-binary==2.9.13
barman() { HOME="$work" LANG=C.UTF-8 "$work/venv/bin/barman" -c "$work/barman.conf" "$@"; }
mkdir "$work/barman.d" "$work/store" "$work/one" "$work/other"
cat >"$work/barman.conf" <<C
[barman]
barman_user = $(id -un)
barman_home = $work/store
log_file = $work/barman.log
configuration_files_directory = $work/barman.d
[main]
archiver = on
backup_method = postgres
conninfo = host=$work/a.sock user=postgres dbname=postgres
streaming_conninfo = host=$work/a.sock user=postgres
path_prefix = $bin
C
barman cron >/dev/null 2>&1
barman check main >/dev/null 2>&1 || true # It makes the directories.
segment=000000010000000000000001
sql a "select pg_switch_wal()" >/dev/null
cp "$work/a/pg_wal/$segment" "$work/one/"
printf '1\t0/3000000\tno recovery target specified\n' >"$work/one/00000002.history"
sleep 1.1 # Barman takes files of one size and time for the same.
cp "$work/a/pg_wal/$segment" "$work/other/"
printf x | dd of="$work/other/$segment" bs=1 seek=9000 conv=notrunc status=none
printf '1\t0/5000000\tno recovery target specified\n' >"$work/other/00000002.history"
put() { # What barman-wal-archive sends.
  (cd "$1" && sha256sum "$2" | sed 's/  / */' >SHA256SUMS && tar cf - "$2" SHA256SUMS) >"$work/tar"
  barman put-wal main <"$work/tar" >/dev/null && echo taken || echo refused
}
for name in "$segment" 00000002.history; do
  same "$name" taken "$(put "$work/one" "$name")"
  barman archive-wal main >/dev/null
  same "$name of another content" taken "$(put "$work/other" "$name")"
  barman archive-wal main >/dev/null || true
  same "in the archive" one "$(barman get-wal main "$name" 2>/dev/null | cmp -s - "$work/one/$name" && echo one || echo other)"
  same "in errors" 1 "$(find "$work/store/main/errors" -name "$name*duplicate" | wc -l)"
done
