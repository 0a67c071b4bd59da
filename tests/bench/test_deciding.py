"""The benchmark of rules measures what it says: of all rules the last one matches, whatever their kind."""

import itertools
from dataclasses import replace

import pytest

from bench import rules
from waypost.mail.field_values import FieldValues
from waypost.mail.header import Header
from waypost.routing.route import Routes, Rule
from waypost.routing.rules import Router


@pytest.mark.parametrize("kind", rules.KINDS)
def test_the_last_rule_is_the_one(kind: str) -> None:
    made = [rules._rule(rules.KINDS[kind](number)) for number in range(500, 600)]
    router = Router(Routes((*made, Rule("rest")), rules.ROUTES, {}, lists={"list": rules.LIST}))
    waits = 0
    for facts in itertools.islice(rules._facts(), 50):
        decision = router.route(facts)
        if decision.is_open:
            waits += 1
            decision = router.route(replace(facts, size=1000, header=FieldValues(Header(rules.HEAD))))
        assert decision.route is rules.ROUTES["rest"]
    assert (waits == 50) == (kind == "header, a value")
