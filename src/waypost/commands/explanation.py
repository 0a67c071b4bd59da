"""What `waypost explain` finds out, as plain data and as text for people."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from textwrap import wrap
from typing import Any

from waypost.commands.consulting import consult
from waypost.commands.explanation_rewrite import described, sentence
from waypost.config.load import Loaded
from waypost.delivery.advice import Case
from waypost.mail.content import Content
from waypost.mail.field_values import FieldValues
from waypost.mail.message import Client, Envelope, Recipient
from waypost.net.settings import ListenerSettings
from waypost.routing.facts import Facts
from waypost.routing.identity import sends_for
from waypost.routing.reasons import explain as explain_rules
from waypost.routing.route import Copy, Pool, Route
from waypost.routing.rules import NOT_OWNED, Decision, Router
from waypost.routing.standing import Facts as KnownFacts
from waypost.routing.strategies import Place, Turns, sticky_key
from waypost.routing.strategies import explain as explain_order
from waypost.smtp.address import Address

WIDTH = 80
_MEANING = {
    "pass": "the client hears the primary's answer",
    "hybrid": "tried at once; what cannot go out now is kept, and the client hears 250",
    "spool": "kept, the client hears 250, and it goes out afterwards",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One message, as far as routing looks at it."""

    listener: ListenerSettings
    client: str
    account: str | None
    reverse_path: Address
    recipients: tuple[Address, ...]
    helo: str | None = None
    at: float | None = None
    """Seconds since the epoch."""
    size: int | None = None
    header: FieldValues | None = None
    content: Content | None = None

    @property
    def is_rewritten(self) -> bool:
        """Whether routes and upstreams may rewrite it: mail of relay listeners is not ours to change."""
        return self.listener.mode == "submission"


Asked = Callable[[str, Address, Address, str | None], Sequence[Mapping[str, Any]] | None]
"""How the running Waypost would order a pool, by its name, for a reverse-path, a recipient and an account; see
`/api/order`. None when it has no such pool."""


def explain(loaded: Loaded, question: Question, asked: Asked | None = None) -> dict[str, Any]:
    """The answer as JSON shows it. `accepted` says whether every recipient would have a route.

    With `asked` the orders are those of the running Waypost; else of pools whose upstreams are all well.

    `split` says that the client hears 452 4.5.3 for some of them, and sends to them in another transaction.
    """
    router = Router(loaded.settings.routes)
    at = None if question.at is None else datetime.fromtimestamp(question.at, UTC).isoformat(timespec="seconds")
    refusal = _admission(question)
    if refusal is None and not router.may_send_as(question.account, question.reverse_path):
        refusal = str(NOT_OWNED)
    recipients = [_recipient(loaded, router, question, recipient, asked) for recipient in question.recipients]
    routes = [answer["route"] for answer in recipients if answer["route"]]
    is_crowd = len(recipients) > 1 and any(map(_is_alone, recipients))
    return {
        "listener": question.listener.name,
        "client": question.client,
        "account": question.account,
        "helo": question.helo,
        "at": at,
        "size": question.size,
        "reverse_path": str(question.reverse_path),
        "accepted": refusal is None and all(map(_is_accepted, recipients)),
        "refusal": refusal,
        "recipients": recipients,
        "split": is_crowd or any(_is_split(routes[0], route) for route in routes[1:]),
    }


def _admission(question: Question) -> str | None:
    """Why the listener would not let this client send, whatever the rules say."""
    if question.listener.is_unix:
        return None  # whoever may open the file may send
    listener, client = question.listener, ip_address(question.client)
    trusted = any(client in network for network in listener.trusted_networks)
    if trusted or (listener.mode == "submission" and question.account is not None):
        return None
    if listener.mode == "submission":
        return f"AUTH is required: {client} is in no trusted network of this listener, and no account is given"
    return f"a relay listener serves its trusted networks only, and {client} is in none of them"


def _is_accepted(answer: dict[str, Any]) -> bool:
    """Whether a recipient has a route, or may have one, and no plugin stops the message there."""
    if answer["open"]:
        return True
    plugin = answer["route"] and answer["route"]["primary"]["plugin"]
    return bool(answer["route"]) and (plugin is None or plugin["reply"] is None)


def _is_alone(answer: dict[str, Any]) -> bool:
    """Whether a recipient has to be the only one of its message, for its answer is the answer to the content."""
    route = answer["route"]
    return answer["open"]["alone"] if answer["open"] else bool(route) and route["late"] and _is_passed(route)


def _is_passed(route: dict[str, Any]) -> bool:
    return bool(route["acceptance"]["mode"] == "pass")


def _is_late(question: Question, route: Route) -> bool:
    """Whether a plugin needs the content while the client waits, so that nobody is asked for the recipient before."""
    return route.primary.needs_content and route.acceptance_for(question.listener.mode == "submission") != "spool"


def _is_split(first: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a recipient with another route than the first needs a message of its own."""
    modes = first["acceptance"]["mode"], other["acceptance"]["mode"]
    return first["name"] != other["name"] and ("pass" in modes or first["rewrite"] != other["rewrite"])


def _recipient(
    loaded: Loaded, router: Router, question: Question, recipient: Address, running: Asked | None
) -> dict[str, Any]:
    facts = Facts(
        question.listener.name,
        question.account,
        question.client,
        question.reverse_path,
        recipient,
        question.helo,
        None,
        question.at,
        question.size,
        question.header,
    )
    decision = router.route(facts)
    answer: dict[str, Any] = {
        "recipient": str(recipient),
        "rules": [
            {
                "name": judged.rule.name or None,
                "origin": judged.rule.origin,
                "route": judged.rule.route,
                "matched": judged.matched,
                "decided": judged.rule is decision.rule,
                "why": judged.why,
            }
            for judged in explain_rules(router, facts)
        ],
        "because": decision.because,
        "reply": None if decision.reply is None else str(decision.reply),
        "route": None,
        "open": _open(question, decision) if decision.is_open else None,
    }
    if decision.route is not None:
        route = decision.route
        rewriting = route.rewrite if question.is_rewritten else None
        asked = question
        if rewriting is not None:
            asked = replace(question, reverse_path=rewriting.reverse_path(question.reverse_path))
        answer["route"] = {
            "name": route.name,
            "late": _is_late(question, route),
            "acceptance": _acceptance(loaded, question, route),
            "rewrite": described(rewriting, question.reverse_path),
            "primary": _pool(loaded, route.primary, asked, recipient, route.name, running),
            "copies": [_copy(loaded, copy, asked, recipient, route.name, running) for copy in route.copies],
        }
    return answer


def _open(question: Question, decision: Decision) -> dict[str, Any]:
    """What may become of a recipient whose rules wait for facts. `alone`: it has to be the only one of its message."""
    modes = {route.name: route.acceptance_for(question.listener.mode == "submission") for route in decision.possible}
    first = decision.possible[0].rewrite
    differ = question.is_rewritten and any(route.rewrite != first for route in decision.possible)
    return {
        "routes": list(modes),
        "may_be_refused": decision.may_refuse,
        "alone": decision.may_refuse or differ or "pass" in modes.values(),
    }


def _acceptance(loaded: Loaded, question: Question, route: Route) -> dict[str, str]:
    """The mode, and where it was said or why it is that one."""
    mode = question.listener.mode
    default = f"the default for {mode} listeners"
    said = str(loaded.origin(("routes", route.name, "acceptance")))
    return {"mode": route.acceptance_for(mode == "submission"), "because": said if route.acceptance else default}


def _pool(
    loaded: Loaded, pool: Pool, question: Question, recipient: Address, route: str, running: Asked | None
) -> dict[str, Any]:
    upstreams = [member.upstream for member in pool.members]
    strange = frozenset(each.name for each in upstreams if not sends_for(each, question.reverse_path))
    facts = KnownFacts(strange=strange, key=sticky_key(pool, question.reverse_path, recipient, question.account))
    # Chance here picks an example; the messages themselves will fall otherwise.
    places = list(explain_order(pool, Turns(), {}, time.time(), random.random, facts).places)
    quotas = {each.name: [str(quota) for quota in each.quotas] for each in upstreams}
    known = None if running is None else running(pool.name, question.reverse_path, recipient, question.account)
    by_name = {each.upstream.name: each for each in pool.members}
    untried = []
    if known is not None:
        places = [
            Place(by_name[row["upstream"]], row["reason"])
            for row in known
            if row["tried"] and row["upstream"] in by_name
        ]
        quotas |= {row["upstream"]: list(row["quotas"]) for row in known}
        untried = [{"name": row["upstream"], "why": row["reason"]} for row in known if not row["tried"]]
    listener = question.listener
    client = Client(listener.name, question.client, 0, account=question.account, submission=listener.mode != "relay")
    plugin = None
    if pool.plugin is not None:
        envelope = Envelope(question.reverse_path, (Recipient(recipient),))
        content = question.content if pool.needs_content else None
        case = Case("explain", client, envelope, route, background=False, content=content)
        members = {place.member.upstream.name: place.member for place in places}
        plugin = consult(loaded.settings.plugins[pool.plugin], pool, list(members.values()), case)
        if plugin["order"] is not None:
            order = enumerate(plugin["order"], 1)
            places = [Place(members[name], f"number {number} in the plugin's order") for number, name in order]
    return {
        "pool": pool.name,
        "strategy": pool.strategy,
        "plugin": plugin,
        "upstreams": [
            {
                "name": place.member.upstream.name,
                "address": _host_port(place.member.upstream.host, place.member.upstream.port),
                "protocol": "lmtp" if place.member.upstream.lmtp else "smtp",
                "reason": place.reason,
                "rewrite": described(
                    place.member.upstream.rewrite if question.is_rewritten else None, question.reverse_path
                ),
                "quotas": quotas[place.member.upstream.name],
            }
            for place in places
        ],
        "not_for_sender": sorted(strange),
        "untried": untried,
        "running": known is not None,
    }


def _copy(
    loaded: Loaded, copy: Copy, question: Question, recipient: Address, route: str, running: Asked | None
) -> dict[str, Any]:
    pool = _pool(loaded, copy.to, question, recipient, route, running)
    return {"required": copy.required, "sample": copy.sample, **pool}


def _host_port(host: str, port: int) -> str:
    if host.startswith("/"):
        return f"unix:{host}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def write(explanation: dict[str, Any]) -> str:
    """The answer for people, 80 columns wide."""
    account = f"account {explanation['account']}" if explanation["account"] else "no account"
    lines = [
        *_wrapped(f"<{explanation['reverse_path']}>, from {explanation['client']}, {account}", ""),
        *_wrapped(f"on listener {explanation['listener']}", ""),
    ]
    if explanation["refusal"]:
        lines += _wrapped(f"REFUSED for every recipient: {explanation['refusal']}", "")
    for answer in explanation["recipients"]:
        lines += ["", f"to <{answer['recipient']}>"]
        lines += _rules(answer)
        if answer["open"]:
            lines += _wrapped(_undecided(answer["open"]), "  ")
        else:
            lines += _route(answer["route"]) if answer["route"] else _wrapped(f"refused: {answer['reply']}", "  ")
    if explanation["split"]:
        lines += [
            "",
            *_wrapped(
                "The recipients take different routes, or wait for the content. One with `acceptance: pass`, or with a"
                " `rewrite` of its own, then shares no message with others: who cannot go with the first recipient is"
                " answered 452 4.5.3, and the client sends to them in another transaction.",
                "",
            ),
        ]
    return "\n".join(lines)


def _undecided(known: dict[str, Any]) -> str:
    ends = [f"route {name}" for name in known["routes"]] + (["a refusal"] if known["may_be_refused"] else [])
    alone = ", as the only one of its transaction" if known["alone"] else ""
    return (
        f"undecided: it may come to {' or '.join(ends)}. While a client waits, what the content tells is decided at its"
        f" end: the recipient is accepted at RCPT{alone}."
    )


def _rules(answer: dict[str, Any]) -> list[str]:
    lines = []
    for number, rule in enumerate(answer["rules"], 1):
        verdict = "matches: this is the one" if rule["decided"] else rule["why"]
        mark = "*" if rule["decided"] else "?" if rule["matched"] is None else " "
        called = " ".join(filter(None, (rule["name"], rule["origin"]))) or f"rule {number}"
        lines += _wrapped(f"{mark} {called}, route {rule['route']}: {verdict}", "  ", 4)
    if not any(rule["decided"] for rule in answer["rules"]):
        lines += _wrapped(f"* decided by: {answer['because']}", "  ", 4)
    return lines


def _route(route: dict[str, Any]) -> list[str]:
    acceptance = route["acceptance"]
    lines = [
        f"  route {route['name']}",
        *_wrapped(
            f"acceptance: {acceptance['mode']} ({acceptance['because']}): {_MEANING[acceptance['mode']]}", "    "
        ),
        *(_wrapped(sentence(route["rewrite"]), "    ") if route["rewrite"] else ()),
        *(_wrapped(_waiting(route), "    ") if route["late"] else ()),
        *_upstreams("primary", route["primary"]),
    ]
    for copy in route["copies"]:
        lines += _upstreams("copy", copy)
        wanted = "required: no 250 without it" if copy["required"] else "not required"
        share = "" if copy["sample"] == 1 else f"; {100 * copy['sample']:.4g}% of the messages"
        lines.append(f"      {wanted}{share}")
    return lines


def _waiting(route: dict[str, Any]) -> str:
    alone = ", as the only one of its transaction," if _is_passed(route) else ""
    return f"its plugin needs the content: the recipient is accepted{alone} and the upstream is asked at the end"


def _upstreams(role: str, pool: dict[str, Any]) -> list[str]:
    lines = [f"    {role}: pool {pool['pool']}, {pool['strategy']}", *_plugin(pool["plugin"])]
    if pool["plugin"] is not None and pool["plugin"]["reply"] is not None:
        return lines
    for number, upstream in enumerate(pool["upstreams"], 1):
        where = f"{upstream['address']}{' (LMTP)' if upstream['protocol'] == 'lmtp' else ''}"
        lines += _wrapped(f"{number}. {upstream['name']} at {where}: {upstream['reason']}", "      ", 3)
        if upstream["rewrite"]:
            lines += _wrapped(sentence(upstream["rewrite"]), "         ")
        for quota in upstream["quotas"]:
            unknown = "" if pool["running"] else "; what is used of it only the running Waypost knows"
            lines += _wrapped(f"quota: {quota}{unknown}", "         ")
    for each in pool["untried"]:
        lines += _wrapped(f"-  {each['name']}: {each['why']}", "      ", 3)
    placed = {upstream["name"] for upstream in pool["upstreams"]}
    for name in pool["not_for_sender"]:
        whom = "and none other does: it is refused" if name in placed else "so it is not tried"
        lines += _wrapped(f"-  {name} does not send for this reverse-path, {whom}", "      ", 3)
    return lines


def _plugin(said: dict[str, Any] | None) -> list[str]:
    if said is None:
        return []
    if said["reply"] is not None:
        what = f"stops the message: {said['reply']}"
    elif said["order"] is not None:
        what = f"chooses {', '.join(said['order'])}; whom it leaves out is not tried"
    else:
        what = said["why"]
    return _wrapped(f"plugin {said['name']}: {what}", "      ")


def _wrapped(text: str, indent: str, hang: int = 2) -> list[str]:
    return wrap(
        text,
        WIDTH - 1,
        initial_indent=indent,
        subsequent_indent=indent + " " * hang,
        break_on_hyphens=False,
    )
