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
    # The password itself, or better an argon2 hash of it in its place.
    password: change-me
    # may_send_as: ["*@example.com"]

upstreams:
  # Servers that take mail from us. Of many providers the rest is known: `preset: gmail` and `auth` are enough
  # (docs/presets.md).
  first:
    address: smtp.example.com:587
    tls: starttls            # or implicit (port 465), opportunistic, off
    auth:
      username: me@example.com
      password: change-me    # or password_file: /run/secrets/first
  second:
    address: smtp.example.net:465
    tls: implicit
    auth:
      username: me@example.net
      password: change-me

pools:
  # The first one gets all mail; the second takes over when it fails.
  # Other strategies: round_robin, random, and weighted with `upstreams: {first: 3, second: 1}`.
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

# With several routes, rules say which is whose. The first that matches decides.
# rules:
#   - recipient: "*@example.com"
#     route: everything

# Where that waits: a folder on a disk, or `url: postgresql://user@host/database`. Without it a folder is found.
# spool:
#   path: /var/lib/waypost

# HTTP for health checks and metrics: /livez, /readyz, /metrics.
admin:
  address: 127.0.0.1:8025
"""
