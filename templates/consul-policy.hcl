{# about: Consul ACL policy: the rules that the agents need #}
{# set nodes = : names of the Consul nodes that the databases run on, with commas, as `consul members` shows them; without it, any #}
{% set names = nodes | string | split(",") if nodes else [] %}
# Rules for hart's token, made by `hart template consul-policy`. Use:
#   consul acl policy create -name hart-{{ service }} -rules @hart-policy.hcl
#   consul acl token create -policy-name hart-{{ service }}

# The cluster's keys: who leads, the lease, members, settings. Whoever may write them can run commands as
# PostgreSQL's user on every node: no other token should have this rule.
key_prefix "{{ (namespace ~ "/" if namespace else "") | hcl }}{{ scope | hcl }}/" {
  policy = "write"
}

# A session holds the lock that says who leads. A token should end no other cluster's.
{% for name in names %}
session "{{ name | trim | hcl }}" {
  policy = "write"
}
{% else %}
# Every node's: with --set nodes=NAME,NAME,… there is a rule for each database node instead.
session_prefix "" {
  policy = "write"
}
{% endfor %}

# The service that clients find (consul.register_service).
service "{{ service | hcl }}" {
  policy = "write"
}

# To see whether Consul's agent still knows the service.
{% for name in names %}
agent "{{ name | trim | hcl }}" {
  policy = "read"
}
{% else %}
agent_prefix "" {
  policy = "read"
}
{% endfor %}
