{# about: Consul ACL policy: the rules that the agents need #}
# Rules for hart's token, made by `hart template consul-policy`. Use:
#   consul acl policy create -name hart-{{ service }} -rules @hart-policy.hcl
#   consul acl token create -policy-name hart-{{ service }}

# The cluster's keys: who leads, the lease, members, settings.
key_prefix "{{ (namespace ~ "/" if namespace else "") | hcl }}{{ scope | hcl }}/" {
  policy = "write"
}

# A session holds the lock that says who leads. Consul's rule is by node; to be stricter give
# session "<node>" for each database node instead.
session_prefix "" {
  policy = "write"
}

# The service that clients find (consul.register_service).
service "{{ service | hcl }}" {
  policy = "write"
}

# To see whether Consul's agent still knows the service.
agent_prefix "" {
  policy = "read"
}
