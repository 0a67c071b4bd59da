"""`waypost healthcheck` against real sockets that are well, ill, silent or absent."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from waypost.cli import main
from waypost.commands import CONFIGURATION, FAILED, FINE, USAGE, healthcheck


@contextmanager
def http_server(status, answer):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # the name that the library wants
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    asked = []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


@contextmanager
def smtp_server(greeting):
    heard = []

    def serve():
        connection, _ = listening.accept()
        with connection:
            connection.sendall(greeting)
            if greeting:
                heard.append(connection.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], heard
        thread.join()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture
def configuration(tmp_path):
    def write(listener, admin=None):
        path = tmp_path / "waypost.yaml"
        path.write_text(
            f"listeners: [{{address: '127.0.0.1:{listener}', mode: relay}}]\n"
            "upstreams: {old: {address: 'old.example.com:25'}}\n"
            "routes: {all: {primary: old}}\n"
            "rules: [{recipient: '*@example.com', route: all}]\n"
            + (f"admin: {{address: '127.0.0.1:{admin}'}}\n" if admin else "")
        )
        return str(path)

    return write


def test_ready_at_the_configured_admin_address(configuration, capsys):
    with http_server(200, b"{}") as (port, asked):
        assert main(["healthcheck", "--config", configuration(free_port(), port)]) == FINE

    assert asked == ["/readyz"]
    assert capsys.readouterr().out == f"ready: http://127.0.0.1:{port}/readyz\n"


def test_not_ready_says_what_is_wrong_in_one_line(capsys):
    answer = json.dumps({"ready": False, "failing": {"spool": "the disk is full", "draining": "stopping"}, "fine": []})
    with http_server(503, answer.encode()) as (port, _):
        assert main(["healthcheck", "--url", f"http://127.0.0.1:{port}/readyz"]) == FAILED

    assert capsys.readouterr().out == "not ready: spool: the disk is full; draining: stopping\n"


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"failing": 1}', b'{"other": {}}'])
def test_somebody_else_answers(capsys, answer):
    with http_server(500, answer) as (port, _):
        assert main(["healthcheck", "--url", f"http://127.0.0.1:{port}"]) == FAILED

    assert capsys.readouterr().out.endswith("/readyz answered 500 Internal Server Error\n")


def test_nobody_answers(capsys):
    assert main(["healthcheck", "--url", f"http://127.0.0.1:{free_port()}/readyz"]) == FAILED
    assert "does not answer" in capsys.readouterr().out


def test_silence_is_no_answer(capsys, monkeypatch):
    monkeypatch.setattr(healthcheck, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert main(["healthcheck", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}/readyz"]) == FAILED

    assert "does not answer: timed out" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["127.0.0.1:8025", "ftp://127.0.0.1/", "http://", "http://a:b:c/", "http://a:99999/"])
def test_an_address_that_is_none(capsys, url):
    assert main(["healthcheck", "--url", url]) == USAGE
    assert "is not an address like" in capsys.readouterr().err


def test_without_an_admin_address_the_first_listener_is_asked(configuration, capsys):
    with smtp_server(b"220 mx.example.com ESMTP\r\n") as (port, heard):
        assert main(["healthcheck", "--config", configuration(port)]) == FINE

    assert heard == [b"QUIT\r\n"]
    assert capsys.readouterr().out == f"ready: 127.0.0.1:{port} greets with 220\n"


@pytest.mark.parametrize(
    ("greeting", "said"), [(b"421 4.3.2 Stopping\r\n", "says '421 4.3.2 Stopping'"), (b"", "closes at once")]
)
def test_a_listener_that_does_not_want_mail(configuration, capsys, greeting, said):
    with smtp_server(greeting) as (port, _):
        assert main(["healthcheck", "--config", configuration(port)]) == FAILED

    assert said in capsys.readouterr().out


def test_a_listener_that_is_not_there(configuration, capsys):
    assert main(["healthcheck", "--config", configuration(free_port())]) == FAILED
    assert "does not answer" in capsys.readouterr().out


def test_a_configuration_that_is_wrong(tmp_path, capsys):
    assert main(["healthcheck", "--config", str(tmp_path / "none.yaml")]) == CONFIGURATION
    assert "none.yaml" in capsys.readouterr().err
