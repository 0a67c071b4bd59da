"""A server that watches its upstreams: probes at an interval, and the days that certificates have left."""

from collections.abc import Callable
from dataclasses import replace

from rig.certificates import Certificates
from rig.client import RawClient
from rig.faults import say
from rig.ports import free_port
from rig.running import RunningServer, settings, upstream
from rig.sink import StoringSink
from rig.waiting import wait_until
from waypost.net.settings import ServerTls
from waypost.routing.health import State
from waypost.routing.probing import ProbeSettings
from waypost.routing.route import UpstreamTls

CONTENT = b"Subject: hello\r\n\r\nbody\r\n"
YEARS = 1000 * 366 * 86400.0


def test_stages_go_into_the_metrics_and_a_refusal_into_the_health(make_sink: Callable[..., StoringSink]) -> None:
    sink = make_sink(StoringSink())
    port = free_port()
    made = settings(port, upstream("first", sink.port, probe=ProbeSettings(60)))
    with RunningServer(made) as server:
        server.put_forward(31)
        wait_until(
            lambda: 'waypost_upstream_probe_ok{stage="ehlo",upstream="first"} 1.0' in server.metrics(), "a probe"
        )
        assert 'waypost_upstream_probes_total{outcome="ok",upstream="first"} 1.0' in server.metrics()
        sink.on("connect", say("554 5.3.2 not now"), times=None)
        for count in (1, 2, 3):
            server.put_forward(70)
            failed = f'waypost_upstream_probes_total{{outcome="failed",upstream="first"}} {count}.0'
            wait_until(lambda failed=failed: failed in server.metrics(), failed)
        assert 'waypost_upstream_probe_ok{stage="greeting",upstream="first"} 0.0' in server.metrics()
        assert 'stage="ehlo"' not in server.metrics()
        assert server.health("first") is State.OPEN
        told = [r for r in server.operational if r["event"] == "upstream_stage_failed"]
        assert [(r["stage"], r["reason"]) for r in told] == [("greeting", "554 5.3.2 not now")]
    assert "MAIL" not in sink.verbs()


def test_certificates_of_listeners_and_of_upstreams_that_mail_has_seen(
    make_sink: Callable[..., StoringSink], certificates: Certificates
) -> None:
    secured = make_sink(StoringSink(tls=certificates.server_context()))
    port = free_port()
    made = settings(port, upstream("first", secured.port, tls=UpstreamTls()))
    [listener] = made.listeners
    shown = ServerTls(str(certificates.certificate), str(certificates.key))
    made = replace(made, listeners=(replace(listener, tls=shown),))
    with RunningServer(made) as server:
        name = "waypost_certificate_not_after_seconds"
        assert f'{name}{{name="127.0.0.1:{port}",owner="listener"}}' in server.metrics()
        assert f'{name}{{name="first"' not in server.metrics()
        with RawClient(port) as client:
            client.hello()
            assert client.answer_to_message("ann@example.com", "bob@example.org", CONTENT).code == 250
        assert f'{name}{{name="first",owner="upstream"}}' in server.metrics()
        server.put_forward(YEARS)
        told = [record for record in server.operational if record["event"] == "certificate_expired"]
        assert [(record.get("listener"), record.get("upstream")) for record in told] == [
            (None, "first"),
            (f"127.0.0.1:{port}", None),
        ]
