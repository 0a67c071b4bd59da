"""Probes of upstreams: every stage that goes wrong, what is told of it, and what to do about it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from rig.certificates import Certificates, make_certificates
from rig.faults import Fault, close, garbage, hang, say
from rig.ports import free_port
from rig.running import HASTY, PATIENT, upstream
from rig.sasl import Accounts
from rig.sink import EXTENSIONS, StoringSink
from rig.token_endpoint import TokenEndpoint
from waypost.mail.outcome import Phase
from waypost.net import connect as connecting
from waypost.net.login import Logins
from waypost.net.pool import NOBODY, Begun, Upstreams
from waypost.net.probe import Prober
from waypost.net.x509 import read_certificate
from waypost.routing.advice import advice
from waypost.routing.login import Login, OAuth2
from waypost.routing.probing import NOT_REACHED, Finding, ProbeSettings, Stage, StageState, stages_of
from waypost.routing.route import Upstream, UpstreamTls
from waypost.smtp import commands as c
from waypost.smtp.address import Address
from waypost.smtp.sasl import Secret

MakeSink = Callable[[StoringSink], StoringSink]
CANARY = ProbeSettings(canary=Address("canary", "example.com"), sender=Address("probe", "example.com"))
LOGIN = Login("me", Secret("s3cret"))
NOW = 1_700_000_000.0


async def probe(one: Upstream, upstreams: Upstreams | None = None) -> Finding:
    """What is found; what is told on the way is the same."""
    told: list[Stage] = []
    logins = Logins()
    finding = await Prober("waypost.example", logins, lambda: NOW, upstreams).probe(one, told.append)
    logins.close()
    assert finding is not None
    assert tuple(told) == finding.stages
    assert [stage.phase for stage in told] == list(stages_of(one))
    return finding


def went_well(finding: Finding) -> list[str]:
    return [stage.phase for stage in finding.stages if stage.state is StageState.OK]


def texts(finding: Finding) -> dict[str, str]:
    return {stage.phase: stage.text for stage in finding.stages}


async def test_all_is_well_and_nothing_is_sent(make_sink: MakeSink, certificates: Certificates) -> None:
    sink = make_sink(StoringSink(tls=certificates.server_context(), accounts={"me": "s3cret"}))
    tls = UpstreamTls("starttls", ca_file=str(certificates.ca_file))
    finding = await probe(upstream("a", sink.port, host="localhost", tls=tls, credentials=LOGIN, probe=CANARY))
    assert finding.failed is None
    assert went_well(finding) == ["resolve", "connect", "greeting", "ehlo", "tls", "auth", "mail", "rcpt"]
    assert finding.at == NOW
    said = texts(finding)
    assert said["connect"].endswith("127.0.0.1: connected")
    assert said["greeting"].startswith("220 sink.example")
    assert said["tls"].startswith("TLSv1.3 TLS_")
    assert said["auth"] == "PLAIN as me"
    assert said["rcpt"].startswith("250 ")
    assert finding.certificate is not None
    assert "localhost" in finding.certificate.names
    assert sink.verbs() == ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "RSET", "QUIT"]
    assert advice(upstream("a", 1), finding) == ""


async def test_what_is_not_configured_is_skipped(sink: StoringSink) -> None:
    finding = await probe(upstream("a", sink.port, tls=UpstreamTls()))
    assert went_well(finding) == ["resolve", "connect", "greeting", "ehlo"]
    assert [texts(finding)[phase] for phase in ("tls", "auth", "mail")] == [
        "not offered, and not required",
        "no credentials",
        "no recipient to ask about: `--to`, or `probe.canary`",
    ]
    assert sink.verbs() == ["EHLO", "QUIT"]


async def test_without_the_login(make_sink: MakeSink) -> None:
    sink = make_sink(StoringSink(accounts={"me": "s3cret"}))
    one = upstream("a", sink.port, credentials=LOGIN, allow_plaintext_auth=True, probe=ProbeSettings(login=False))
    finding = await probe(one)
    assert texts(finding)["auth"] == "off by `probe.login`"
    assert sink.verbs() == ["EHLO", "QUIT"]


FAULTS: list[tuple[str, Fault, str, str, str]] = [
    ("connect", say("554 5.7.1 you are listed"), "greeting", "554 5.7.1 you are listed", "block list"),
    ("connect", hang(), "greeting", "no answer within", "tls: implicit"),
    ("connect", close(), "greeting", "closed the connection", "tls: implicit"),
    ("connect", garbage(b"SSH-2.0-OpenSSH\r\n"), "greeting", "", ""),
    ("ehlo", say("550 5.5.0 who?"), "ehlo", "550 5.5.0 who?", "hostname"),
    ("ehlo", hang(), "ehlo", "no answer within", "port right"),
    ("auth", say("535 5.7.8 no"), "auth", "535 5.7.8 no", "app password"),
    ("auth", hang(), "auth", "no answer within", ""),
    ("auth", close(), "auth", "closed the connection", ""),
    ("mail", say("550 5.7.1 not you"), "mail", "550 5.7.1 not you", "probe.sender"),
    ("mail", hang(), "mail", "no answer within", "probe.sender"),
    ("rcpt", say("550 5.1.1 nobody"), "rcpt", "550 5.1.1 nobody", "probe.canary"),
    ("rcpt", say("421 4.3.2 bye"), "rcpt", "421 4.3.2 bye", "probe.canary"),
    ("rcpt", close(), "rcpt", "closed the connection", "probe.canary"),
]


@pytest.mark.parametrize(("phase", "fault", "stage", "text", "hint"), FAULTS, ids=lambda value: str(value)[:20])
async def test_each_stage_that_fails(
    phase: Any, fault: Fault, stage: str, text: str, hint: str, make_sink: MakeSink
) -> None:
    sink = make_sink(StoringSink(accounts={"me": "s3cret"}, mechanisms=("PLAIN",)))
    sink.on(phase, fault, times=None)
    one = upstream("a", sink.port, credentials=LOGIN, allow_plaintext_auth=True, probe=CANARY, timeouts=HASTY)
    finding = await probe(one)
    failed = finding.failed
    assert failed is not None
    assert failed.phase == stage
    assert text in failed.text
    assert hint in advice(one, finding)
    behind = finding.stages[finding.stages.index(failed) + 1 :]
    assert all(each == Stage(each.phase, StageState.SKIPPED, NOT_REACHED) for each in behind)
    assert not [each for each in finding.stages[: finding.stages.index(failed)] if each.state is StageState.FAILED]
    assert "DATA" not in sink.verbs()


async def test_nobody_there_and_no_such_host() -> None:
    finding = await probe(upstream("a", free_port()))
    assert texts(finding)["connect"] == "the upstream cannot be reached: Connection refused"
    one = upstream("a", 25, host="nobody.invalid")
    finding = await probe(one)
    assert finding.failed is not None
    assert finding.failed.phase is Phase.RESOLVE
    assert "spelt" in advice(one, finding)


async def test_each_address_is_told_of(monkeypatch: pytest.MonkeyPatch, sink: StoringSink) -> None:
    async def resolve(host: str, port: int) -> list[tuple[str, int]]:
        return [("127.0.0.2", port), ("127.0.0.1", port)]

    monkeypatch.setattr("waypost.net.opening.resolve", resolve)
    finding = await probe(upstream("a", sink.port, host="many.example"))
    assert texts(finding)["resolve"] == "127.0.0.2, 127.0.0.1"
    assert texts(finding)["connect"] == "127.0.0.2: Connection refused; 127.0.0.1: connected"
    assert connecting.reason(OSError("why")) == "why"


# -- TLS


def sink_with(folder: Path, make_sink: MakeSink, *names: str, implicit: bool = False, days: float = 90) -> StoringSink:
    """A sink whose certificate is for these names, and ends in so many days; the authority is in `ca.pem`."""
    authority = trustme.CA()
    now = datetime.now(UTC)
    ends = now + timedelta(days=days)
    issued = authority.issue_cert(*names, not_before=min(now, ends) - timedelta(days=30), not_after=ends)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    shown = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    return make_sink(StoringSink(tls=shown.server_context(), implicit_tls=implicit, accounts={"me": "s3cret"}))


def trusting(folder: Path, sink: StoringSink, **more: Any) -> Upstream:
    tls = UpstreamTls(**({"mode": "starttls", "ca_file": str(folder / "ca.pem")} | more))
    return upstream("a", sink.port, host="localhost", tls=tls, credentials=LOGIN)


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
async def test_a_certificate_that_has_expired(mode: str, tmp_path: Path, make_sink: MakeSink) -> None:
    sink = sink_with(tmp_path, make_sink, "localhost", days=-3, implicit=mode == "implicit")
    one = trusting(tmp_path, sink, mode=mode)
    finding = await probe(one)
    assert finding.failed is not None
    assert (finding.failed.phase, finding.failed.text) == (Phase.TLS, "certificate has expired")
    assert finding.certificate is not None
    assert finding.certificate.days_left(datetime.now(UTC).timestamp()) == -4  # three days and some seconds
    assert "ended on 2" in advice(one, finding)
    assert "AUTH" not in sink.verbs()  # not when looking at the certificate either


async def test_a_certificate_for_other_names(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = sink_with(tmp_path, make_sink, "mail.example.com", "smtp.example.com")
    one = trusting(tmp_path, sink)
    finding = await probe(one)
    said = advice(one, finding)
    assert "mail.example.com, smtp.example.com, not for localhost" in said
    assert "tls.server_name" in said
    finding = await probe(trusting(tmp_path, sink, server_name="smtp.example.com"))
    assert finding.failed is None


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = sink_with(tmp_path, make_sink, "localhost")
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    other = make_certificates(elsewhere)
    one = trusting(tmp_path, sink, ca_file=str(other.ca_file))
    finding = await probe(one)
    assert finding.certificate is not None
    pinned = finding.certificate.fingerprint
    assert f"tls.fingerprint: {pinned}" in advice(one, finding)
    assert (await probe(trusting(tmp_path, sink, ca_file=None, fingerprints=(pinned,)))).failed is None
    one = trusting(tmp_path, sink, ca_file=None, fingerprints=("00" * 32,))
    finding = await probe(one)
    assert finding.failed is not None
    assert f"fingerprint is {pinned}" in finding.failed.text
    assert "pinned" in advice(one, finding)


async def test_without_verification_the_certificate_is_read_all_the_same(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = sink_with(tmp_path, make_sink, "elsewhere.example", days=5.5)
    finding = await probe(replace(trusting(tmp_path, sink, mode="opportunistic", ca_file=None)))
    assert finding.failed is None
    assert finding.certificate is not None
    assert finding.certificate.names == ("elsewhere.example",)
    assert finding.certificate.days_left(datetime.now(UTC).timestamp()) == 5


async def test_tls_of_the_other_kind(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = sink_with(tmp_path, make_sink, "localhost")
    one = trusting(tmp_path, sink, mode="implicit")
    finding = await probe(one)
    assert finding.failed is not None
    assert finding.failed.phase is Phase.TLS
    assert "set `tls: starttls`" in advice(one, finding)
    implicit = sink_with(tmp_path, make_sink, "localhost", implicit=True)
    one = replace(trusting(tmp_path, implicit), timeouts=HASTY)
    finding = await probe(one)
    assert finding.failed is not None
    assert finding.failed.phase is Phase.GREETING
    assert "tls: implicit" in advice(one, finding)


async def test_starttls_that_is_not_offered_and_one_that_is_refused(make_sink: MakeSink, sink: StoringSink) -> None:
    one = upstream("a", sink.port, tls=UpstreamTls("starttls"))
    finding = await probe(one)
    assert texts(finding)["tls"] == "STARTTLS is required and not offered"
    assert "tls: implicit" in advice(one, finding)
    refusing = make_sink(StoringSink(extensions=(*EXTENSIONS, "STARTTLS")))
    refusing.on("starttls", say("454 4.7.0 not now"), times=None)
    finding = await probe(upstream("a", refusing.port, tls=UpstreamTls()))
    assert texts(finding)["tls"] == "STARTTLS was refused, and is not required"
    assert finding.failed is None


# -- AUTH


async def test_auth_that_is_not_offered_or_would_go_in_the_clear(sink: StoringSink) -> None:
    one = upstream("a", sink.port, credentials=LOGIN, allow_plaintext_auth=True)
    finding = await probe(one)
    assert finding.failed is not None
    assert finding.failed.phase is Phase.AUTH
    assert "another port" in advice(one, finding)
    one = upstream("a", sink.port, credentials=LOGIN)
    finding = await probe(one)
    assert "Set `tls: starttls`" in advice(one, finding)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("smtp.gmail.com", "app password"),
        ("smtp.office365.com", "oauth2"),
        ("email-smtp.eu-west-1.amazonaws.com", "SES"),
        ("mail.example.com", "whole address"),
    ],
)
async def test_what_a_provider_wants_of_a_login(host: str, words: str, make_sink: MakeSink) -> None:
    sink = make_sink(StoringSink(accounts={"me": "other"}))
    one = upstream("a", sink.port, credentials=LOGIN, allow_plaintext_auth=True)
    finding = await probe(one)
    assert finding.failed is not None
    assert finding.failed.text.startswith("535 ")
    assert words in advice(replace(one, host=host), finding)


async def test_an_access_token_is_fetched_and_a_revoked_login_is_said(
    make_sink: MakeSink, certificates: Certificates
) -> None:
    with TokenEndpoint(certificates) as endpoint:
        endpoint.refresh_tokens["r1"] = "me"
        oauth2 = OAuth2(
            f"{endpoint.url}/token", "waypost", refresh_token=Secret("r1"), ca_file=str(certificates.ca_file)
        )
        login = Login("me", oauth2=oauth2)
        known = Accounts({}, tokens=endpoint.issued)
        sink = make_sink(StoringSink(logins=known, mechanisms=("XOAUTH2",)))
        one = upstream("a", sink.port, credentials=login, allow_plaintext_auth=True)
        finding = await probe(one)
        assert texts(finding)["auth"] == "XOAUTH2 as me"
        endpoint.plan({"error": "invalid_grant"})
        finding = await probe(one)
        assert finding.failed is not None
        assert finding.failed.phase is Phase.AUTH
        assert "waypost oauth login a" in advice(one, finding)


@pytest.mark.parametrize("grant", ["refresh_token", "client_credentials"])
async def test_without_an_access_token_nothing_is_reached(grant: Any, certificates: Certificates) -> None:
    with TokenEndpoint(certificates) as endpoint:
        url, ca_file = f"{endpoint.url}/token", str(certificates.ca_file)
        oauth2 = OAuth2(url, "waypost", grant, Secret("s"), Secret("r1"), ca_file=ca_file, timeout=0.4)
        tls = UpstreamTls("starttls")
        one = upstream("a", free_port(), credentials=Login("me", oauth2=oauth2), tls=tls)
        endpoint.plan({"error": "invalid_client"})
        finding = await probe(one)
        wanted = "waypost oauth login a" if grant == "refresh_token" else "client_secret"
        assert wanted in advice(one, finding)
    finding = await probe(one)
    assert finding.failed is not None
    assert finding.failed.phase is Phase.AUTH
    assert {text for phase, text in texts(finding).items() if phase != "auth"} == {NOT_REACHED}
    assert "token_url" in advice(one, finding)


# -- connections


async def test_a_probe_takes_no_connection_from_mail(sink: StoringSink) -> None:
    pools = Upstreams("waypost.example")
    one = upstream("a", sink.port, max_connections=1)
    place = pools.place(one)
    assert place is not None
    assert await Prober("waypost.example", Logins(), lambda: NOW, pools).probe(one) is None
    place.leave()
    assert (await probe(one, pools)).failed is None
    assert pools.counts() == {"a": (0, 0)}
    pools.close()
    assert pools.place(one) is None
    await asyncio.sleep(0)


async def test_a_probe_that_takes_long_makes_room_for_mail(make_sink: MakeSink) -> None:
    sink = make_sink(StoringSink())
    sink.on("ehlo", hang(), times=1)
    one = upstream("a", sink.port, max_connections=1)
    pools = Upstreams("waypost.example")
    probing = asyncio.create_task(Prober("waypost.example", Logins(), lambda: NOW, pools).probe(one))
    while "EHLO" not in sink.verbs():
        await asyncio.sleep(0.01)
    mail = c.Mail(Address("ann", "example.com"))
    rcpt = c.Rcpt(Address("bob", "example.org"))
    async with asyncio.timeout(PATIENT.connect / 2):
        begun = await pools.begin(one, lambda _: (mail, [rcpt]), client=NOBODY, background=False)
    assert isinstance(begun, Begun)
    assert await probing is None
    begun.lent.release()
    assert pools.counts() == {"a": (0, 1)}
    pools.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("days", [90, -1])
async def test_what_a_probe_was_shown_counts_like_what_mail_was_shown(
    days: float, tmp_path: Path, make_sink: MakeSink
) -> None:
    one = trusting(tmp_path, sink_with(tmp_path, make_sink, "localhost", days=days))
    pools = Upstreams("waypost.example")
    pool = pools.place(one)
    assert pool is not None
    pool.leave()
    pool.certificate = b"what mail was shown last, weeks ago"
    finding = await probe(one, pools)
    assert finding.certificate is not None
    assert (finding.failed is None) == (days > 0)
    assert read_certificate(pools.certificates()["a"]) == finding.certificate
    pools.close()


async def test_a_certificate_for_hundreds_of_names_is_told_in_a_few_words(tmp_path: Path, make_sink: MakeSink) -> None:
    one = trusting(tmp_path, sink_with(tmp_path, make_sink, *(f"customer{number}.example" for number in range(90))))
    finding = await probe(one)
    hint = advice(one, finding)
    assert hint.startswith("The certificate is for customer")
    assert "and 85 more, not for localhost" in hint


async def test_a_socket_on_this_machine(tmp_path: Path) -> None:
    one = Upstream("a", str(tmp_path / "lmtp"), 0, UpstreamTls("off"), lmtp=True)
    finding = await probe(one)
    assert finding.failed is not None
    assert finding.failed.phase is Phase.CONNECT
    assert advice(one, finding).startswith("Does its server run")

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        while line := await reader.readline():
            said.append(line)
            writer.write(b"250 x\r\n")
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])
        ended.set()

    said: list[bytes] = []
    ended = asyncio.Event()
    async with await asyncio.start_unix_server(speak, tmp_path / "lmtp"):
        finding = await probe(one)
        await ended.wait()
    assert finding.failed is None
    assert texts(finding)["resolve"] == "a socket on this machine"
    assert said == [b"LHLO waypost.example\r\n", b"QUIT\r\n"]
