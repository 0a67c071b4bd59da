"""Servers and clients for the tests of sessions."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from rig.certificates import Certificates
from rig.client import RawClient
from rig.ports import free_port
from rig.running import RunningServer, relay_listener, settings, upstream
from rig.sink import StoringSink
from waypost.net.settings import ServerTls
from waypost.routing.route import Account, Routes


@dataclass
class Place:
    """A server with one listener, in front of one sink."""

    server: RunningServer
    port: int
    sink: StoringSink
    stack: ExitStack

    def client(self, **more: Any) -> RawClient:
        """A new connection, closed at the end of the test."""
        return self.stack.enter_context(RawClient(self.port, **more))


@pytest.fixture
def place(sink: StoringSink, certificates: Certificates) -> Iterator[Callable[..., Place]]:
    """Makes a server whose listener has these fields; `accounts` are names and passwords, `tls` turns TLS on."""
    with ExitStack() as stack:

        def made(
            *,
            accounts: dict[str, str | Account] | None = None,
            tls: bool | ServerTls = False,
            settings_too: dict[str, Any] | None = None,
            primary: dict[str, Any] | None = None,
            shutdown_timeout: float = 5,
            **listener: Any,
        ) -> Place:
            port = free_port()
            if isinstance(tls, ServerTls):
                listener["tls"] = tls
            elif tls:
                listener["tls"] = ServerTls(str(certificates.certificate), str(certificates.key))
            known = {
                name: account if isinstance(account, Account) else Account(name, account)
                for name, account in (accounts or {}).items()
            }
            one = settings(
                port, upstream("first", sink.port, **(primary or {})), listener=relay_listener(port, **listener)
            )
            routes = Routes((), one.routes.routes, known)
            one = replace(one, routes=routes, shutdown_timeout=shutdown_timeout, **(settings_too or {}))
            clients = ExitStack()
            server = stack.enter_context(RunningServer(one))
            stack.enter_context(clients)
            return Place(server, port, sink, clients)

        yield made
