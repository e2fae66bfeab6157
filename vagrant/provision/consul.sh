#!/bin/bash
# Consul: the one server on meta, an agent on each node: consul.sh NAME ADDRESS ROLE
#
# One server is enough to try things on, and too few for anything else: take three or five.
. "$(dirname "$0")/lib.sh"
name=$1 address=$2 role=$3

# Any Consul from 1.8 on that is there already; else that of HashiCorp's packages.
if ! command -v consul >/dev/null; then
    packages ca-certificates curl
    keys=/usr/share/keyrings/hashicorp.asc
    curl --fail --silent --show-error --output "$keys" https://apt.releases.hashicorp.com/gpg
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    put /etc/apt/sources.list.d/hashicorp.list <<<"deb [signed-by=$keys] https://apt.releases.hashicorp.com $release main" || true
    packages consul
fi
consul=$(command -v consul)

getent passwd consul >/dev/null || useradd --system --home-dir /var/lib/consul --shell /usr/sbin/nologin consul
install -d --owner consul --group consul --mode 0750 /var/lib/consul

server="server = false"
if [[ $role == meta ]]; then
    server=$'server = true\nbootstrap_expect = 1\nui_config { enabled = true }'
    # Consul 1.8 has another word for it.
    case "$(consul version | head -1)" in *v1.8.*) server=$'server = true\nbootstrap_expect = 1\nui = true' ;; esac
fi
put /etc/consul.d/hart.hcl <<CONFIG || true
datacenter = "sandbox"
node_name = "$name"
data_dir = "/var/lib/consul"
bind_addr = "$address"
# The UI and the API are open to this host and its network: this is a sandbox.
client_addr = "127.0.0.1 $address"
retry_join = ["$(addresses meta)"]
$server

# A stopped agent must not leave: that ends the sessions of its node.
leave_on_terminate = false
skip_leave_on_interrupt = true

# The primary may change, and a resolver must not remember it for long.
dns_config {
  service_ttl = { "*" = "1s" }
  only_passing = true
}
CONFIG
put /etc/systemd/system/consul.service <<UNIT || true
[Unit]
Description=Consul
Wants=network-online.target
After=network-online.target

[Service]
User=consul
ExecStart=$consul agent -config-file=/etc/consul.d/hart.hcl
ExecReload=/bin/kill -HUP \$MAINPID
KillSignal=SIGTERM
Restart=always
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --quiet consul
systemctl restart consul
has_leader() { curl --fail --silent --max-time 2 http://127.0.0.1:8500/v1/status/leader | grep -q :; }
until_true 60 has_leader
say "$name: $(consul version | head -1), $role"
