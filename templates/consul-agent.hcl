{# about: Consul agent on each database node: what hart wants of it #}
{# set datacenter = dc1: Consul's name for the place #}
{# set servers = 10.0.0.1 10.0.0.2 10.0.0.3: Consul's servers, separated by blanks #}
# Consul's client agent beside PostgreSQL, made by `hart template consul-agent`.
datacenter = "{{ datacenter | hcl }}"
retry_join = [{% for server in servers | split %}"{{ server | hcl }}"{{ ", " if not loop.last else "" }}{% endfor %}]

# A stopped or restarted agent must not leave the cluster: leaving ends the sessions of this node, and
# with them the lock that says who leads. hart mends that, but why cause it.
leave_on_terminate = false
skip_leave_on_interrupt = true

# hart talks to this agent only.
client_addr = "127.0.0.1"

# What a check says, such as a replica's lag, is passed on to the servers after this time where only the
# words changed; 5 minutes otherwise. A check that begins to fail is passed on at once.
check_update_interval = "10s"

# Consul's own DNS: primary.{{ scope | label }}.service.consul and so on.
dns_config {
  # Not to be remembered for longer than a second: the primary may change.
  service_ttl = { "*" = "1s" }
  node_ttl = "1s"
  # Any server may answer, but not with what it knew an hour ago.
  allow_stale = true
  max_stale = "5s"
  # Only what is healthy: a primary whose check fails is none.
  only_passing = true
}

# Many blocking queries of one host: the agent, templates, people.
limits {
  http_max_conns_per_client = 1000
}
