"""Strategies from outside: programs, scripts and packages that order the upstreams of a pool for a message.

A plugin in Python imports what it answers with from here:

    from waypost.plugins import refuse

    def choose(question):
        return refuse("Not at night") if ... else ["b", "a"]
"""

from waypost.plugins.port import Deferral, Order, Question, Refusal, UpstreamFacts
from waypost.plugins.port import checked_deferral as defer
from waypost.plugins.port import checked_refusal as refuse

__all__ = ["Deferral", "Order", "Question", "Refusal", "UpstreamFacts", "defer", "refuse"]
