{# about: Consul whose DNS asks hart's DNS for names that are not Consul's #}
{# set address = 127.0.0.1: where hart's DNS responder listens #}
{# set port = 5353: its port #}
# Put this into Consul's configuration directory and `consul reload`. Consul cannot forward one zone: all
# that is not below .consul goes to its recursors, so the responder must be able to pass the rest on
# (`dns.forward`, or `hart dns --forward`).
recursors = ["{{ address }}:{{ port }}"]
# Nothing is kept: Consul does not cache what recursors say.
dns_config {
  recursor_timeout = "1s"
}
