"""Questions for plugins, as the tests put them."""

from dataclasses import replace

from waypost.plugins.header_fields import HeaderFields
from waypost.plugins.port import Question, UpstreamFacts


def facts(name: str, address: str = "", login: str = "") -> UpstreamFacts:
    """One upstream about which there is nothing to say."""
    return UpstreamFacts(
        name=name,
        address=address or f"{name}.example:25",
        login=login,
        weight=1,
        health="healthy",
        reason="",
        in_flight=0,
        latency=None,
        errors=0.0,
        quota_used=0.0,
        quota_left=None,
        cost=0.0,
    )


def question(
    *upstreams: UpstreamFacts, header: HeaderFields | dict[str, str] | None = None, **more: object
) -> Question:
    """A message to Bob that may go through `a`, `b` or `c`, or through `upstreams`."""
    asked = Question(
        message_id="m1",
        listener="submission",
        account="app",
        client_address="192.0.2.1",
        helo="client.example",
        reverse_path="sam@example.org",
        recipients=("bob@example.com",),
        declared_size=None,
        route="all",
        pool="providers",
        background=False,
        upstreams=upstreams or (facts("a"), facts("b"), facts("c")),
        header=HeaderFields(lambda: header.items()) if isinstance(header, dict) else header,
    )
    return replace(asked, **more)  # type: ignore[arg-type]
