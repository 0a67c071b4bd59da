"""Mistakes about LMTP and unix sockets: the place, the key, and words of what is said and advised."""

import pytest

from waypost.cli import main

BASE = """\
hostname: waypost.example.com
listeners:
  - {address: "unix:/run/in", mode: relay, protocol: lmtp}
upstreams:
  a: {address: "unix:/run/out", protocol: lmtp, tls: off}
routes: {r: {primary: a}}
"""
LMTP_TCP = ("unix:/run/in", "127.0.0.1:2424")

# What is replaced in BASE, by what; the place and the key; words of the text, and of the advice.
MISTAKES = [
    ("unix:/run/in", "unix:in", "3:15", "listeners[0].address", "'in' is not the whole path", "unix:/run/"),
    ("unix:/run/in", "unix:/run/in/", "3:15", "listeners[0].address", "is not the whole path of a socket", ""),
    ("unix:/run/out", "unix:", "5:16", "upstreams.a.address", "'' is not the whole path of a socket", "unix:/run/"),
    ("unix:/run/out", "unix:/run/in", "5:16", "upstreams.a.address", "is our own listener", "name the server"),
    ("relay, protocol: lmtp", "relay, protocol: lmpt", "3:54", "listeners[0].protocol", "is not one of", "lmtp?"),
    ("protocol: lmtp, tls", "protocol: 24, tls", "5:43", "upstreams.a.protocol", "is not one of smtp, lmtp", ""),
    ("lmtp}", "lmtp, socket_mode: 9}", "3:73", "listeners[0].socket_mode", "are not permissions", "0660"),
    ("lmtp}", "lmtp, socket_mode: 01660}", "3:73", "listeners[0].socket_mode", "are not permissions", "0660"),
    ("lmtp}", "lmtp, trusted_networks: 10.0.0.0/8}", "3:78", "listeners[0].trusted_networks", "unix socket", "leave"),
    ("lmtp}", "lmtp, proxy_protocol: 10.0.0.1}", "3:76", "listeners[0].proxy_protocol", "unix socket", "leave it out"),
    ("lmtp}", "lmtp, xclient: 10.0.0.1}", "3:69", "listeners[0].xclient", "unix socket", "leave it out"),
    ("tls: off", "tls: starttls", "5:54", "upstreams.a.tls", "no host whose name", "server_name"),
    ("off}", "off, client_address: proxy-v2}", "5:75", "upstreams.a.client_address", "unix socket", "xclient"),
]  # fmt: skip


def check(folder, text: str) -> int:
    (folder / "waypost.yaml").write_text(text)
    return main(["check", "--config", str(folder / "waypost.yaml")])


@pytest.mark.parametrize(("old", "new", "place", "key", "said", "advised"), MISTAKES)
def test_a_mistake_has_its_place(tmp_path, capsys, old, new, place, key, said, advised):
    assert BASE.count(old) == 1
    assert check(tmp_path, BASE.replace(old, new)) == 78
    [line, *_] = [line for line in capsys.readouterr().err.split("\n") if f":{place}: {key}: " in line] or [""]
    assert said in line, line
    assert advised in line


def test_what_is_right_is_fine(tmp_path, capsys):
    assert check(tmp_path, BASE) == 0
    said = capsys.readouterr().out
    assert "listens on unix:/run/in: LMTP, relay, no TLS; for those who may open the socket" in said


def test_permissions_belong_to_a_socket(tmp_path, capsys):
    text = BASE.replace(*LMTP_TCP).replace("lmtp}", "lmtp, socket_mode: '0600'}")
    assert check(tmp_path, text) == 78
    assert "socket_mode: means nothing to 127.0.0.1:2424, which is not a unix socket" in capsys.readouterr().err


def test_lmtp_on_port_25_is_warned_of(tmp_path, capsys):
    assert check(tmp_path, BASE.replace("unix:/run/in", "127.0.0.1:25")) == 0
    assert "LMTP must not be on port 25" in capsys.readouterr().err


def test_a_path_is_taken_once(tmp_path, capsys):
    text = BASE.replace("upstreams:", "  - {address: 'unix:/run/in', mode: relay}\nupstreams:")
    assert check(tmp_path, text) == 78
    assert "is taken by another listener, unix:/run/in; give one of them another path" in capsys.readouterr().err


def test_a_submission_listener_on_a_socket_needs_no_accounts(tmp_path):
    assert check(tmp_path, BASE.replace("mode: relay", "mode: submission") + "spool: {path: spool}\n") == 0
