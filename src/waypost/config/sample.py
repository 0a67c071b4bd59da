"""The commented sample that `waypost config init` prints. It passes `check` as it is."""

SAMPLE = """\
# Waypost configuration. `waypost check` reads it and says what is wrong; `waypost run` starts with it.
# Every setting is explained in docs/configuration.md. Durations: 30s, 5m, 1h, 5d. Sizes: 50MiB.

# The name in the greeting, in EHLO and in Received. Default: the name of this machine.
# hostname: mail.example.com

listeners:
  # Applications send here. They authenticate as one of the accounts below.
  # Without TLS (see `tls`), passwords are readable on the way: for this machine only.
  - address: 127.0.0.1:2525
    mode: submission
    allow_plaintext_auth: true
  # Mail servers send here, Postfix for example. Only clients in trusted networks may.
  # - address: 10.0.0.5:25
  #   mode: relay
  #   trusted_networks: [10.0.0.0/8]
  # TLS from the first octet, as mail programs expect it on port 465.
  # - address: 0.0.0.0:465
  #   mode: submission
  #   tls: implicit

# With a certificate every listener offers STARTTLS. Both files are read again when they change.
# tls:
#   certificate: /etc/waypost/cert.pem
#   key: /etc/waypost/key.pem

accounts:
  app:
    # The password itself, or better what `waypost hash-password` prints for it.
    password: change-me
    # may_send_as: ["*@example.com"]
    # limits: {messages: 100/hour}

upstreams:
  # Servers that take mail from us. Of many providers the rest is known: `preset: gmail` and `auth` are enough
  # (docs/presets.md). `waypost upstream test` says whether they can be used as they stand here.
  first:
    address: smtp.example.com:587
    tls: starttls            # or implicit (port 465), opportunistic, off
    auth:
      username: me@example.com
      password: change-me    # or password_file: /run/secrets/first
    # quota: 500/day         # when it is spent, the next one takes over (docs/quotas-and-strategies.md)
    # rewrite: me@example.com    # the sender there, whatever applications call themselves (docs/rewriting.md)
  second:
    address: smtp.example.net:465
    tls: implicit
    auth:
      username: me@example.net
      password: change-me

pools:
  # The first one gets all mail; the second takes over when it fails.
  # Other strategies: round_robin, least_loaded, fastest, cheapest, weighted with `upstreams: {first: 3, second: 1}`
  # and more, or a plugin of yours (docs/plugins.md).
  providers:
    strategy: ordered
    upstreams: [first, second]

routes:
  # Applications hear 250 when the primary has the message, or when it is on disk because the primary cannot take it
  # now (`acceptance: hybrid`, the default for submission). With `pass` they hear the primary's answer, whatever it is;
  # that is the default for relay. Copies follow. What waits is tried again for days.
  everything:
    primary: providers
    # acceptance: pass
    # copies: [archive]

# With several routes, rules say which is whose. The first that matches decides; docs/rules.md has all conditions.
# rules:
#   - {recipient: "*@example.com", time: "mon-fri 08:00-18:00 Europe/Berlin", route: everything}
#   - {header: {Subject: "*invoice*"}, route: everything}
#   - {account: app, route: everything}

# Where mail waits: a folder on a disk, or `url: postgresql://user@host/database`. Without it a folder is found.
# spool:
#   path: /var/lib/waypost

# HTTP for health checks and metrics: /livez, /readyz, /metrics.
admin:
  address: 127.0.0.1:8025
"""
