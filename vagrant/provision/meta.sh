#!/bin/bash
# The machine beside the cluster: Prometheus with hart's rules, Grafana with its dashboards: meta.sh NAME ADDRESS
. "$(dirname "$0")/lib.sh"
name=$1 address=$2

deb=$here/../hart.deb
packages curl prometheus
# For its rules and dashboards, and for `hart -d consul://127.0.0.1:8500 list` here; no agent runs.
dpkg --install "$deb" >/dev/null || apt-get install --yes --quiet=2 --fix-broken
share=/usr/share/hart

# The agents are scraped at their REST API: static here, by Consul's service `ha` elsewhere (docs/alerts.md).
targets=$(addresses node | sed 's/.*/"&:8008"/' | paste --serial --delimiters=,)
put /etc/prometheus/prometheus.yml <<CONFIG || true
global: {scrape_interval: 5s, evaluation_interval: 5s}
rule_files: [$share/prometheus/hart.rules.yml]
scrape_configs:
  - job_name: hart
    static_configs: [{targets: [$targets]}]
CONFIG
systemctl enable --quiet prometheus
systemctl restart prometheus
scrapes() { curl --fail --silent --output /dev/null --max-time 2 http://127.0.0.1:9090/-/ready; }
until_true 60 scrapes

# Grafana is not in Debian. Where its packages cannot be reached, Prometheus' own page has to do.
if ! dpkg-query --show grafana >/dev/null 2>&1; then
    keys=/usr/share/keyrings/grafana.asc
    packages ca-certificates
    if curl --fail --silent --show-error --max-time 20 --output "$keys" https://apt.grafana.com/gpg.key; then
        put /etc/apt/sources.list.d/grafana.list <<<"deb [signed-by=$keys] https://apt.grafana.com stable main" || true
        packages grafana
    else
        say "no Grafana: its packages cannot be reached; the dashboards are in $share/grafana"
    fi
fi
if dpkg-query --show grafana >/dev/null 2>&1; then
    put /etc/grafana/provisioning/datasources/hart.yaml <<'CONFIG' || true
apiVersion: 1
datasources: [{name: Prometheus, type: prometheus, url: "http://127.0.0.1:9090", isDefault: true}]
CONFIG
    put /etc/grafana/provisioning/dashboards/hart.yaml <<CONFIG || true
apiVersion: 1
providers: [{name: hart, type: file, options: {path: $share/grafana}}]
CONFIG
    # Anybody may look: this is a sandbox.
    put /etc/systemd/system/grafana-server.service.d/hart.conf <<'CONFIG' || true
[Service]
Environment=GF_AUTH_ANONYMOUS_ENABLED=true
CONFIG
    systemctl daemon-reload
    systemctl enable --quiet grafana-server
    systemctl restart grafana-server
fi
say "$name: Prometheus at http://$address:9090, Grafana at http://$address:3000 where it could be had"
