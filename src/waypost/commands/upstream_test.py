"""`waypost upstream test` and `waypost check --online`: probes of our own, shown stage by stage."""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import structlog

from waypost.admin.upstreams import written_certificate, written_finding
from waypost.clock import SystemClock
from waypost.commands import FAILED, FINE, USAGE
from waypost.commands.queue_view import say, terminal_width
from waypost.commands.upstream_view import certificate_text, stage_lines
from waypost.config.load import load
from waypost.config.settings import Settings
from waypost.config.values import mailbox
from waypost.net.login import Logins
from waypost.net.probe import Prober
from waypost.routing.advice import advice
from waypost.routing.probing import Finding, Stage, StageState
from waypost.routing.route import Upstream
from waypost.smtp.address import Address

_AT_ONCE = 16  # probes of `check --online`


def run(arguments: argparse.Namespace) -> int:
    """Tests the upstreams that are named, one after the other; the exit code."""
    settings = load(arguments.config, os.environ)
    unknown = [name for name in arguments.names if name not in settings.upstreams]
    if unknown:
        known = ", ".join(settings.upstreams)
        print(f"waypost upstream test: there is no upstream {unknown[0]!r}; there are: {known}", file=sys.stderr)
        return USAGE
    chosen = [settings.upstreams[name] for name in dict.fromkeys(arguments.names)] or list(settings.upstreams.values())
    addresses: dict[str, Address] = {}
    for option, text in (("--to", arguments.to), ("--from", arguments.sender)):
        if text is not None:
            try:
                addresses[option] = mailbox(text)
            except ValueError as error:
                print(f"waypost upstream test: {option}: {text!r} {error}", file=sys.stderr)
                return USAGE
    asked = [_asked(upstream, addresses) for upstream in chosen]
    with _log_on_stderr():
        return asyncio.run(_test(settings, asked, as_json=arguments.json))


def _asked(upstream: Upstream, addresses: Mapping[str, Address]) -> Upstream:
    """The upstream, to be probed as somebody asks for: with its login, whatever is right at an interval."""
    probe = upstream.probe
    canary, sender = addresses.get("--to", probe.canary), addresses.get("--from", probe.sender)
    return replace(upstream, probe=replace(probe, login=True, canary=canary, sender=sender))


async def _test(settings: Settings, upstreams: Sequence[Upstream], *, as_json: bool) -> int:
    width, is_fine = terminal_width(), True
    prober = _prober(settings)
    for number, upstream in enumerate(upstreams):
        if not as_json:
            if number:
                print()
            say(f"{upstream.name}: {upstream.address}, tls {upstream.tls.mode}")

        def tell(stage: Stage) -> None:
            if not as_json:
                for line in stage_lines(stage, width):
                    say(line)
                sys.stdout.flush()

        finding = await prober.probe(upstream, tell)
        if finding is None:  # only where there is mail
            continue
        is_fine = is_fine and finding.failed is None
        if as_json:
            print(json.dumps(as_row(upstream, finding)), flush=True)
        else:
            for line in _conclusion(upstream, finding, width):
                say(line)
    prober.logins.close()
    return FINE if is_fine else FAILED


def probe_all(settings: Settings) -> list[tuple[Upstream, Finding]]:
    """Probes every upstream of a configuration, several at once; what was found there, in its order."""
    with _log_on_stderr():
        return asyncio.run(_probe_all(settings))


async def _probe_all(settings: Settings) -> list[tuple[Upstream, Finding]]:
    prober, places = _prober(settings), asyncio.Semaphore(_AT_ONCE)

    async def probe(upstream: Upstream) -> Finding | None:
        async with places:
            return await prober.probe(upstream)

    upstreams = list(settings.upstreams.values())
    found = await asyncio.gather(*map(probe, upstreams))
    prober.logins.close()
    return [(upstream, finding) for upstream, finding in zip(upstreams, found, strict=True) if finding is not None]


def summary_line(upstream: Upstream, finding: Finding) -> str:
    """One probe in one line."""
    failed = finding.failed
    start = f"{'fine' if failed is None else 'FAILED'}  {upstream.name} ({upstream.address}): "
    if failed is not None:
        hint = advice(upstream, finding)
        return f"{start}{failed.phase}: {failed.text}" + (f". {hint}" if hint else "")
    done = ", ".join(stage.phase for stage in finding.stages if stage.state is StageState.OK)
    certificate = finding.certificate
    about = "" if certificate is None else f"; {certificate_text(certificate, time.time())}"
    return f"{start}{done}{about}"


def as_row(upstream: Upstream, finding: Finding) -> dict[str, object]:
    """One probe as JSON."""
    certificate = finding.certificate
    written = None if certificate is None else written_certificate(certificate, time.time())
    hint = advice(upstream, finding)
    return {"upstream": upstream.name, **(written_finding(finding) or {}), "certificate": written, "advice": hint}


def _conclusion(upstream: Upstream, finding: Finding, width: int | None) -> Sequence[str]:
    from waypost.commands.upstream_view import indented

    lines: list[str] = []
    if finding.certificate is not None:
        checked = upstream.tls.mode in ("starttls", "implicit") and upstream.tls.verify
        how = "pinned" if upstream.tls.fingerprints else "verified" if checked else "not verified"
        text = certificate_text(finding.certificate, time.time())
        was_refused = finding.failed is not None and finding.tls is None
        lines += indented("certificate", text if was_refused else f"{text}; {how}", width)
    hint = advice(upstream, finding)
    if hint:
        lines += indented("what to do", hint, width)
    failed = finding.failed
    return [*lines, f"{upstream.name}: {'fine' if failed is None else f'FAILED at {failed.phase}'}"]


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Standard output is for what was found; what the parts of the mail server warn of goes beside it."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _prober(settings: Settings) -> Prober:
    clock = SystemClock()
    return Prober(settings.hostname, Logins(), clock.time)
