"""The engine's own errors. No input from a peer raises anything else."""


class ProtocolError(Exception):
    """Something is not SMTP."""


class LocalProtocolError(ProtocolError):
    """We were about to break the protocol: a defect of ours, never the peer's doing."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol in a way after which the two sides may no longer agree on anything."""
