"""Upstreams as smtpmux shows them to its selectors, "downstreams", and found again in what these answer."""

from waypost.plugins.port import NonsenseError, Question, UpstreamFacts


def upstream_at(address: object, user: object, question: Question) -> UpstreamFacts:
    """The upstream that a selector means: the one at this address, and where several are, the one with that user.

    Raises `NonsenseError`. Where several upstreams have both in common the first is meant: smtpmux cannot tell them
    apart either.
    """
    found = [facts for facts in question.upstreams if facts.address == address]
    if not found:
        shown = repr(address)
        raise NonsenseError(f"there is no upstream at {shown[:100]} in the pool {question.pool}")
    return next((facts for facts in found if facts.login == user), found[0])
