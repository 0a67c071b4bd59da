"""Which TLS, with which certificate: versions on both sides, names asked for, certificates of ours at upstreams."""

import asyncio
import itertools
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from rig.certificates import Certificates
from rig.client import RawClient
from rig.ports import free_port
from rig.running import RunningServer, settings, upstream
from rig.sink import StoringSink
from waypost.net.certificates import CertificateError, ServerCertificate, upstream_context
from waypost.net.settings import ServerTls
from waypost.net.tls import TlsLayer
from waypost.routing.route import UpstreamTls

MakePlace = Callable[..., Any]
MakeSink = Callable[[StoringSink], StoringSink]
CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
SPOKEN = {"1.0": "TLSv1", "1.1": "TLSv1.1", "1.2": "TLSv1.2", "1.3": "TLSv1.3"}


def only(context: ssl.SSLContext, *versions: str) -> ssl.SSLContext:
    """The context for nothing but these versions, the old ones included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = VERSIONS[min(versions)], VERSIONS[max(versions)]
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def shown_to(port: int, ca_file: Path, name: str) -> list[str]:
    """The names of the certificate that a client is shown which asks for `name`, and has it verified."""
    with RawClient(port) as client:
        client.start_tls(ssl.create_default_context(cafile=str(ca_file)), name)
        client.hello()
        certificate = client._socket.getpeercert()  # type: ignore[attr-defined]
        return [value for _, value in certificate["subjectAltName"]]


# -- clients


@pytest.mark.parametrize("minimum", VERSIONS)
def test_a_listener_speaks_its_minimum_and_everything_newer(
    minimum: Any, place: MakePlace, certificates: Certificates
) -> None:
    it = place(tls=ServerTls(str(certificates.certificate), str(certificates.key), minimum=minimum), implicit_tls=True)
    for version in VERSIONS:
        client = it.client()
        context = only(certificates.client_context(), version)
        if version < minimum:
            with pytest.raises(ssl.SSLError):
                client.start_tls(context)
            continue
        client.start_tls(context)
        client.hello()
        assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
        assert it.server.told("received")[-1]["client_tls"].split(" ")[0] == SPOKEN[version]


def test_who_can_speak_better_does(place: MakePlace, certificates: Certificates) -> None:
    it = place(tls=ServerTls(str(certificates.certificate), str(certificates.key), minimum="1.0"))
    for context in (certificates.client_context(), only(certificates.client_context(), "1.0", "1.3")):
        client = it.client()
        client.hello()
        client.command("STARTTLS", 220)
        client.start_tls(context)
        client.command("EHLO again.example", 250)
        assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
        assert it.server.told("received")[-1]["client_tls"].startswith("TLSv1.3 ")


def test_where_nothing_old_is_asked_for_the_ciphers_are_pythons(certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    ours = ServerCertificate(ServerTls(str(certificates.certificate), str(certificates.key)))
    assert ours.context().minimum_version is ssl.TLSVersion.TLSv1_2
    assert {each["name"] for each in ours.context().get_ciphers()} == {each["name"] for each in context.get_ciphers()}


@pytest.fixture
def named(tmp_path: Path) -> tuple[Path, tuple[tuple[str, str], ...]]:
    """An authority, and certificates of it for several names: everybody else's first."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pairs = []
    for number, names in enumerate((["mail.example.com"], ["one.example.org", "ONE.example.net"], ["*.two.example"])):
        write(authority.issue_cert(*names), tmp_path, f"{number}")
        pairs.append((str(tmp_path / f"{number}.pem"), str(tmp_path / f"{number}.key")))
    return tmp_path / "ca.pem", tuple(pairs)


def write(issued: trustme.LeafCert, folder: Path, name: str) -> tuple[str, str]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return str(certificate), str(key)


def test_the_certificate_is_the_one_for_the_name_that_is_asked_for(
    place: MakePlace, named: tuple[Path, tuple[tuple[str, str], ...]]
) -> None:
    ca_file, ((certificate, key), *further) = named
    it = place(tls=ServerTls(certificate, key, by_name=tuple(further)), implicit_tls=True)
    for name, first in (
        ("mail.example.com", "mail.example.com"),
        ("one.example.org", "one.example.org"),
        ("one.example.net", "one.example.org"),
        ("a.two.example", "*.two.example"),
    ):
        assert shown_to(it.port, ca_file, name)[0] == first
    for name in ("a.b.two.example", "two.example", "other.example.com"):
        with pytest.raises(ssl.SSLCertVerificationError):  # it is shown everybody else's, which is not for it
            shown_to(it.port, ca_file, name)
    anybody = ssl.create_default_context(cafile=str(ca_file))
    anybody.check_hostname = False
    with RawClient(it.port) as client:
        client.start_tls(anybody, None)  # type: ignore[arg-type]
        client.hello()


def test_further_certificates_are_renewed_too(
    place: MakePlace, named: tuple[Path, tuple[tuple[str, str], ...]], tmp_path: Path
) -> None:
    _, ((certificate, key), further, *_) = named
    it = place(tls=ServerTls(certificate, key, by_name=(further,)), implicit_tls=True)
    renewed = trustme.CA()
    renewed.cert_pem.write_to_path(tmp_path / "new.pem")
    (tmp_path / "1.key").write_bytes(b"half a k")
    with RawClient(it.port) as client:
        client.start_tls(ssl.create_default_context(cafile=str(named[0])), "one.example.org")
        client.hello()
    write(renewed.issue_cert("three.example.org"), tmp_path, "1")
    assert shown_to(it.port, tmp_path / "new.pem", "three.example.org") == ["three.example.org"]


def test_the_same_minimum_holds_for_every_name(
    place: MakePlace, named: tuple[Path, tuple[tuple[str, str], ...]]
) -> None:
    ca_file, ((certificate, key), *further) = named
    for minimum, version in itertools.product(("1.0", "1.2"), ("1.0", "1.2")):
        it = place(tls=ServerTls(certificate, key, minimum=minimum, by_name=tuple(further)), implicit_tls=True)
        context = only(ssl.create_default_context(cafile=str(ca_file)), version)
        client = it.client()
        if version < minimum:
            with pytest.raises(ssl.SSLError):
                client.start_tls(context, "one.example.org")
        else:
            client.start_tls(context, "one.example.org")
            client.hello()


# -- upstreams


def code_through(*upstreams: Any) -> tuple[int, RunningServer]:
    port = free_port()
    with RunningServer(settings(port, *upstreams)) as server, RawClient(port) as client:
        client.hello()
        return client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code, server


@pytest.mark.parametrize("mode", ["opportunistic", "starttls", "implicit"])
@pytest.mark.parametrize(("theirs", "minimum"), list(itertools.product(VERSIONS, VERSIONS)))
def test_an_upstream_below_the_minimum_gets_nothing(
    mode: Any, theirs: str, minimum: Any, certificates: Certificates, make_sink: MakeSink
) -> None:
    context = only(certificates.server_context(), theirs)
    sink = make_sink(StoringSink(tls=context, implicit_tls=mode == "implicit"))
    tls = UpstreamTls(mode, ca_file=str(certificates.ca_file), minimum=minimum)
    code, server = code_through(upstream("first", sink.port, host="localhost", tls=tls))
    if theirs < minimum:
        assert code == 451
        assert server.told("attempted")[0]["classification"] == "tls"
        assert "MAIL" not in sink.verbs(), "neither with the older TLS, nor without any"
    else:
        assert code == 250
        assert server.told("relayed")[0]["tls"].split(" ")[0] == SPOKEN[theirs]


@pytest.mark.parametrize("mode", ["opportunistic", "starttls", "implicit"])
@pytest.mark.parametrize(
    ("host", "server_name", "asked"),
    [
        ("localhost", None, "localhost"),
        ("localhost", "mail.example.com", "mail.example.com"),
        ("127.0.0.1", "mail.example.com", "mail.example.com"),
        ("127.0.0.1", None, None),
    ],
)
def test_the_name_that_is_asked_for(
    mode: Any,
    host: str,
    server_name: str | None,
    asked: str | None,
    certificates: Certificates,
    make_sink: MakeSink,
) -> None:
    heard: list[str | None] = []
    context = certificates.server_context()
    context.sni_callback = lambda _, name, __: heard.append(name)
    sink = make_sink(StoringSink(tls=context, implicit_tls=mode == "implicit"))
    tls = UpstreamTls(mode, verify=False, server_name=server_name)
    assert code_through(upstream("first", sink.port, host=host, tls=tls))[0] == 250
    assert heard == [asked], "an address is no name (RFC 6066 section 3)"


@pytest.fixture
def asking(certificates: Certificates, tmp_path: Path) -> tuple[ssl.SSLContext, trustme.CA]:
    """A server that serves nobody without a certificate of this authority."""
    authority = trustme.CA()
    context = certificates.server_context()
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context, authority


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_an_upstream_that_wants_a_certificate(
    version: str,
    asking: tuple[ssl.SSLContext, trustme.CA],
    certificates: Certificates,
    tmp_path: Path,
    make_sink: MakeSink,
    sink: StoringSink,
) -> None:
    context, authority = asking
    strict = make_sink(StoringSink(tls=only(context, version)))
    certificate, key = write(authority.issue_cert("waypost.example"), tmp_path, "ours")
    shown = UpstreamTls("starttls", ca_file=str(certificates.ca_file), certificate=certificate, key=key)
    assert code_through(upstream("first", strict.port, host="localhost", tls=shown))[0] == 250
    assert len(strict.messages) == 1
    none = UpstreamTls("starttls", ca_file=str(certificates.ca_file))
    both = upstream("first", strict.port, host="localhost", tls=none), upstream("second", sink.port)
    code, server = code_through(*both)
    assert (code, len(sink.messages), len(strict.messages)) == (250, 1, 1)
    [attempt] = server.told("attempted")
    assert attempt["upstream"] == "first"
    assert {"1.2": "HANDSHAKE_FAILURE", "1.3": "closed the connection"}[version] in attempt["text"]


async def test_what_the_other_side_complains_of_after_the_handshake_is_kept(
    asking: tuple[ssl.SSLContext, trustme.CA], certificates: Certificates
) -> None:
    """With TLS 1.3 a client has finished before the server looks for its certificate."""

    class Written(asyncio.Transport):
        def __init__(self) -> None:
            self.octets = b""

        def write(self, data: Any) -> None:
            self.octets += data

        def is_closing(self) -> bool:
            return False

        def take(self) -> bytes:
            octets, self.octets = self.octets, b""
            return octets

    wire, done = Written(), asyncio.get_running_loop().create_future()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = asking[0].wrap_bio(incoming, outgoing, server_side=True)
    client = TlsLayer(wire, certificates.client_context(), False, "localhost", done)
    client.handshake()
    incoming.write(wire.take())
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    assert client.received(outgoing.read()) == b""
    assert done.done()
    assert client.complaint is None
    incoming.write(wire.take())
    with pytest.raises(ssl.SSLError, match="certificate"):
        server.do_handshake()
    assert client.received(outgoing.read()) == b""
    assert client.closed
    assert client.complaint == "tlsv13 alert certificate required"


def test_our_certificate_is_read_again_and_an_unreadable_one_is_not_used(
    asking: tuple[ssl.SSLContext, trustme.CA], certificates: Certificates, tmp_path: Path
) -> None:
    certificate, key = write(asking[1].issue_cert("waypost.example"), tmp_path, "ours")
    tls = UpstreamTls("starttls", ca_file=str(certificates.ca_file), certificate=certificate, key=key)
    first = upstream_context(tls)
    assert upstream_context(tls) is first
    Path(certificate).write_bytes(b"half a certif")
    assert upstream_context(tls) is first, "half of a renewal changes nothing"
    assert upstream_context(tls) is first
    write(asking[1].issue_cert("waypost.example"), tmp_path, "ours")
    assert upstream_context(tls) is not first
    other = write(asking[1].issue_cert("waypost.example"), tmp_path, "other")
    with pytest.raises(CertificateError, match=r"other\.key"):
        upstream_context(UpstreamTls("starttls", certificate=certificate, key=other[1]))
