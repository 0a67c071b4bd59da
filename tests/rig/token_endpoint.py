"""A token endpoint of OAuth 2.0 on loopback, over TLS, that does what it is told: RFC 6749 and RFC 8628.

with TokenEndpoint(certificates) as endpoint:
    endpoint.refresh_tokens["r1"] = "me@example.com"
    endpoint.plan({"error": "invalid_grant", "error_description": "Token has been revoked"})
"""

import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from rig.certificates import Certificates

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(slots=True, eq=False)
class TokenEndpoint:
    """Hands out access tokens `access-1`, `access-2` ... and remembers what it was asked."""

    certificates: Certificates
    lifetime: int = 3600
    rotates: bool = False
    """Whether every answer has a new refresh token, which makes the old one worthless."""
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    """With the mailbox that each is good for."""
    issued: dict[str, str] = field(default_factory=dict)
    """Access tokens with the mailbox that each is good for: the `tokens` of a sink."""
    asked: list[dict[str, str]] = field(default_factory=list)
    heard: int = 0
    """Requests that have come, answered or not."""
    silent: threading.Event | None = None
    """While it is set to an event, every answer waits for that."""
    _plans: list[Any] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"https://localhost:{self._server.server_address[1]}"

    def plan(self, *answers: Any) -> None:
        """The next answers: objects with `error` (status 400) or without (200), or octets (200)."""
        self._plans += answers

    def asked_for(self, grant: str) -> list[dict[str, str]]:
        """The requests with this grant."""
        return [fields for fields in self.asked if fields.get("grant_type") == grant]

    def answer(self, path: str, fields: dict[str, str]) -> tuple[int, bytes]:
        """Status and body for one request."""
        self.heard += 1
        if self.silent is not None:
            self.silent.wait(30)
        with self._lock:
            self.asked.append(fields)
            said = self._plans.pop(0) if self._plans else self._proper(path, fields)
        if isinstance(said, bytes):
            return 200, said
        return (400 if "error" in said else 200), json.dumps(said).encode()

    def _proper(self, path: str, fields: dict[str, str]) -> dict[str, Any]:
        if path == "/device":
            return {
                "device_code": "the-device-code",
                "user_code": "WDJB-MJHT",
                "verification_uri": "https://login.example/device",
                "expires_in": 600,
                "interval": 0.01,
            }
        if fields["grant_type"] == "refresh_token":
            mailbox = self.refresh_tokens.get(fields["refresh_token"])
            if mailbox is None:
                return {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
        else:
            mailbox = "me"
        token = f"access-{len(self.issued) + 1}"
        self.issued[token] = mailbox
        said = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        if fields["grant_type"] == DEVICE or self.rotates:
            fresh = f"refresh-{len(self.issued) + 1}"
            self.refresh_tokens.pop(fields.get("refresh_token", ""), None)
            self.refresh_tokens[fresh] = mailbox
            said["refresh_token"] = fresh
        return said

    def __enter__(self) -> Self:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                fields = {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}
                status, answer = endpoint.answer(self.path, fields)
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Transfer-Encoding", "chunked")  # as Google does
                    self.end_headers()
                    self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer))
                except OSError:
                    pass  # the client did not want to wait any longer

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # handshakes that clients break off

            def get_request(self) -> Any:
                connection, address = super().get_request()
                context: ssl.SSLContext = endpoint.certificates.server_context()
                wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                return wrapped, address

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._thread is not None
        if self.silent is not None:
            self.silent.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
