#!/bin/bash
# A node: PostgreSQL's programs, hart's package, its configuration, its agent: node.sh NAME ADDRESS
. "$(dirname "$0")/lib.sh"
name=$1 address=$2

# hart makes the cluster; the distribution's own would take the port.
put /etc/postgresql-common/createcluster.conf <<<"create_main_cluster = false" || true
packages postgresql curl bind9-dnsutils
bin=$(ls -d /usr/lib/postgresql/*/bin | sort --version-sort | tail -1)
deb=$here/../hart.deb
dpkg --install "$deb" >/dev/null || apt-get install --yes --quiet=2 --fix-broken

network=${address%.*}.0/24
put "/etc/hart/$name.yml" 0640 <<CONFIG || true
scope: $scope
name: $name
restapi:
  listen: "$address:8008"
  connect_address: "$address:8008"
  authentication: {username: hart}
consul: {host: "127.0.0.1:8500", register_service: true}
dns: {listen: "$address:53", zone: $zone}
bootstrap:
  dcs:
    ttl: 5
    loop_wait: 1
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters: {max_connections: 50, wal_keep_size: 128MB}
  initdb: [{encoding: UTF8}, data-checksums]
postgresql:
  listen: "$address,127.0.0.1:5432"
  connect_address: "$address:5432"
  data_dir: /var/lib/hart/$name/data
  bin_dir: $bin
  pgpass: /var/lib/hart/$name/pgpass
  authentication:
    superuser: {username: postgres}
    replication: {username: replicator}
    rewind: {username: rewinder}
  parameters: {unix_socket_directories: /var/run/postgresql}
  pg_hba:
    - local all postgres peer
    - host all all 127.0.0.1/32 scram-sha-256
    - host all all $network scram-sha-256
    - host replication replicator $network scram-sha-256
CONFIG
chgrp postgres "/etc/hart/$name.yml"
# The same on all nodes, and no secrets here: this is a sandbox.
put "/etc/hart/$name.env" 0600 <<'CONFIG' || true
HART_RESTAPI_PASSWORD=sandbox
HART_SUPERUSER_PASSWORD=sandbox
HART_REPLICATION_PASSWORD=sandbox
HART_REWIND_PASSWORD=sandbox
CONFIG
# For `hart list` and the like, by root on this node: what hart's commands read where no file is named.
put /etc/hart/hart.yml 0600 <<'CONFIG' || true
scope: ha
consul: {host: "127.0.0.1:8500"}
restapi: {authentication: {username: hart, password: sandbox}}
CONFIG

if ! systemctl is-active --quiet "hart@$name"; then
    (set -a && . "/etc/hart/$name.env" && hart check "/etc/hart/$name.yml") || {
        echo "hart check says that $name is not fit: see above" >&2
        exit 1
    }
fi
systemctl enable --quiet --now "hart@$name"
works() { curl --fail --silent --output /dev/null --max-time 2 "http://$address:8008/health"; }
until_true 120 works
say "$name: hart and PostgreSQL run"
