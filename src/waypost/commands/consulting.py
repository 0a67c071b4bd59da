"""Asks a pool's plugin for `waypost explain`: about a message that is made up, of upstreams that are all well."""

import asyncio
from collections.abc import Sequence
from typing import Any

from waypost.clock import SystemClock
from waypost.delivery.advice import Case, Known, in_order, question_of
from waypost.plugins.asking import START_TIMEOUT, Plugins
from waypost.plugins.port import Answer, Definition, Order, PluginError, Question
from waypost.routing.route import Member, Pool

_NOTHING_KNOWN = Known({}, {}, {}, 0.0)


def consult(definition: Definition, pool: Pool, members: Sequence[Member], case: Case) -> dict[str, Any]:
    """What the plugin says: its `order`, or the `reply` that stops the message, or in `why` what there is instead.

    `members` are those of the pool in the order of its strategy. The plugin is started for this, and ended.
    """
    said: dict[str, Any] = {"name": definition.name, "order": None, "reply": None, "why": ""}
    if pool.needs_content and case.content is None:
        said["why"] = "not asked, for it needs the content: name a file with --message"
        return said
    try:
        answer = asyncio.run(_ask(definition, question_of(pool, members, case, _NOTHING_KNOWN)))
    except PluginError as error:
        said["why"] = f"no usable answer, so the order is that of the strategy: {error}"
        return said
    if isinstance(answer, Order):
        by_name = {member.upstream.name: member for member in members}
        said["order"] = [member.upstream.name for member in in_order(answer, by_name, set())]
    else:
        said["reply"] = str(answer.reply)
    return said


async def _ask(definition: Definition, question: Question) -> Answer:
    plugins = Plugins({definition.name: definition}, SystemClock())
    try:
        await plugins.start(START_TIMEOUT)
        return await plugins.ask(definition.name, question)
    finally:
        await plugins.close()
