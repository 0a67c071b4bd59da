"""Rewriting and signing in the configuration: every mistake with its place and advice, and what follows from what."""

import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from config.conftest import Load, Mistakes
from waypost.cli import main
from waypost.config import check_dkim
from waypost.config.show import show_json
from waypost.mail.address_map import AddressMap
from waypost.smtp.address import Address

REWRITE = """\
listeners: [{address: "127.0.0.1:2525", mode: submission, trusted_networks: 10.0.0.0/8}]
upstreams:
  a: {address: a.example.com:25}
routes:
  r: {primary: a, acceptance: pass, rewrite: REWRITE}
"""
DKIM = """\
listeners: [{address: "127.0.0.1:2525", mode: submission, trusted_networks: 10.0.0.0/8}]
upstreams: {a: {address: a.example.com:25}}
routes: {r: {primary: a, acceptance: pass}}
dkim:
  - {domain: example.com, selector: s1, key_file: good.pem}
  - DKIM
"""
PAGE = Path(__file__).parents[2] / "docs" / "rewriting.md"
SHOWN = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)

PEM, CLEAR = serialization.Encoding.PEM, serialization.NoEncryption()
GOOD = rsa.generate_private_key(65537, 2048)


@pytest.fixture(autouse=True)
def keys(folder: Path) -> None:
    """Keys of every kind, readable by their owner."""
    for name, key in {
        "good.pem": GOOD,
        "short.pem": rsa.generate_private_key(65537, 1024),
        "ec.pem": ec.generate_private_key(ec.SECP256R1()),
    }.items():
        (folder / name).write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, CLEAR))
        (folder / name).chmod(0o600)


@pytest.mark.parametrize(
    ("rewrite", "key", "text", "advice"),
    [
        ("me", "from.*", "not a mail address", "me@example.com"),
        ("apikey", "from.*", "not a mail address", "me@example.com"),  # defect S5
        ("me@bücher.example", "from.*", "is not ASCII", "xn--"),
        ("bü@x.example", "from.*", "is not ASCII", "cannot be used"),
        ('{from: "a*@x.example"}', "from.*", "`*` stands for all", "*@example.com"),
        ('{from: {"x y": a@b.example}}', "from.x y", "matches no mail address", "*@*.example.com"),
        ('{from: {"a*@b": a@b.example}}', "from.a*@b", "matches no mail address", ""),
        ('{from: {"<>": a@b.example}}', "from.<>", "null reverse-path", "leave it out"),
        ('{from: {"*": a@b.example, c.example: d@e.example}}', "from.c.example", "can never match", "move it up"),
        ("{}", "", "rewrites nothing", "`from`"),
        ("[a@b.example]", "", "must be one value", ""),
        ("{form: a@b.example}", "form", "no such setting", "from?"),
        ("{from: a@b.example, envelope: a@c.example}", "envelope", "another domain than b.example", "one domain"),
        ("{remove: X, reply_to: none}", "reply_to", "means nothing without `from`", ""),
        ("{from: a@b.example, reply_to: all}", "reply_to", "is not one of", ""),
        ("{add: {From: x}}", "add.From", "cannot be added", "`from`"),
        ("{add: {Sender: x}}", "add.Sender", "cannot be added", "`sender`"),
        ("{add: {Date: x}}", "add.Date", "cannot be added", "missing"),
        ("{add: {Content-Type: x}}", "add.Content-Type", "how the message is read", ""),
        ("{add: {DKIM-Signature: x}}", "add.DKIM-Signature", "how the message is read or came here", ""),
        ('{add: {"X: y": x}}', "add.X: y", "not the name of a header field", "X-Application"),
        ("{add: {.X: x}}", "add..X", "not the name of a header field", ""),
        (r'{add: {X: "a\r\nBcc: all"}}', "add.X", "control character", ""),
        (r'{add: {X: "a\u2028b"}}', "add.X", "cannot be printed", "one line"),
        (f"{{add: {{X: {'x' * 901}}}}}", "add.X", "more than 900", "divide"),
        ("{add: {X: a, x: b}}", "add.x", "in other letters", "once"),
        ("{remove: From}", "remove[0]", "every message has one", ""),
        ('{remove: "*"}', "remove[0]", "every message has one", "spares"),
        ('{remove: [X, "Rec*"]}', "remove[1]", "goes in circles", ""),
        ('{remove: "content-*"}', "remove[0]", "nobody could read", ""),
        ('{remove: "a b"}', "remove[0]", "not the name", "X-Internal-*"),
    ],
)
def test_every_mistake_in_rewriting_is_named(
    mistakes: Mistakes, rewrite: str, key: str, text: str, advice: str
) -> None:
    (problem,) = mistakes(REWRITE.replace("REWRITE", rewrite))
    assert problem.place.startswith("c.yaml:5:")
    assert problem.key == f"routes.r.rewrite{'.' if key else ''}{key}"
    assert text in problem.text
    assert advice in problem.suggestion


@pytest.mark.parametrize(
    ("dkim", "key", "text", "advice"),
    [
        ("{domain: com, selector: s, key_file: good.pem}", "domain", "is not a domain", "example.com"),
        ("{domain: ä.example, selector: s, key_file: good.pem}", "domain", "is not a domain", "xn--"),
        ("{domain: a.example, selector: s 1, key_file: good.pem}", "selector", "is not a selector", "_domainkey"),
        ("{domain: a.example, selector: s}", "key_file", "is required", ""),
        ("{domain: a.example, selector: s, key_file: no.pem}", "key_file", "cannot read no.pem", ""),
        ("{domain: a.example, selector: s, key_file: ec.pem}", "key_file", "neither RSA nor Ed25519", "openssl"),
        ("{domain: a.example, selector: s, key_file: c.yaml}", "key_file", "no private key in PEM", "openssl"),
        ("{domain: a.example, selector: s, key_file: .}", "key_file", "Is a directory", ""),
        ("{domain: Example.com, selector: S1, key_file: good.pem}", "selector", "already", "of its own"),
        ("{domain: a.example, selector: s, key_file: good.pem, headers: To}", "headers", "lacks From", "add it"),
        ("{domain: a.example, selector: s, key_file: good.pem, headers: [From, Bcc]}", "headers[1]", "changes", ""),
        ("{domain: a.example, selector: s, key_file: good.pem, headers: [From, X*]}", "headers[1]", "a pattern", ""),
        (
            "{domain: a.example, selector: s, key_file: good.pem, canonicalization: strict}",
            *("canonicalization", "is not one of", ""),
        ),
    ],
)
def test_every_mistake_in_signing_is_named(mistakes: Mistakes, dkim: str, key: str, text: str, advice: str) -> None:
    (problem,) = mistakes(DKIM.replace("DKIM", dkim))
    assert problem.place.startswith("c.yaml:6:")
    assert problem.key == f"dkim[1].{key}"
    assert text in problem.text
    assert advice in problem.suggestion


def test_without_the_library_there_is_no_signing(mistakes: Mistakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_dkim, "LIBRARY", "no_such_library")
    (problem,) = mistakes(DKIM.replace("  - DKIM\n", ""))
    assert (problem.place, problem.key, problem.suggestion) == ("c.yaml:4:1", "dkim", "install waypost[dkim]")
    assert "no_such_library" in problem.text


@pytest.mark.parametrize(
    ("dkim", "mode", "words"),
    [
        ("{domain: a.example, selector: s, key_file: short.pem}", 0o600, "1024 bits"),
        ("{domain: a.example, selector: s, key_file: good.pem}", 0o644, "everybody on this machine"),
    ],
)
def test_weak_keys_are_warned_of(load_text: Load, folder: Path, dkim: str, mode: int, words: str) -> None:
    text = DKIM.replace("  - {domain: example.com, selector: s1, key_file: good.pem}\n", "").replace("DKIM", dkim)
    (folder / "good.pem").chmod(mode)
    (warning,) = load_text(text).settings.warnings
    assert words in warning


def test_keys_for_relay_listeners_have_no_effect(load_text: Load) -> None:
    (warning,) = load_text(DKIM.replace("submission", "relay").replace("  - DKIM\n", "")).settings.warnings
    assert "only mail from submission listeners" in warning


def test_no_key_is_ever_shown(load_text: Load, folder: Path) -> None:
    loaded = load_text(DKIM.replace("  - DKIM\n", ""))
    line = (folder / "good.pem").read_text().splitlines()[1]
    assert line not in repr(loaded.settings)
    assert line not in json.dumps(show_json(loaded))


@pytest.mark.parametrize("where", ["routes:\n  r: {primary: a, copies: a2", "upstreams:\n  b: {address: a:25"])
def test_rewriting_is_for_submission_only(mistakes: Mistakes, where: str) -> None:
    section, _, rest = where.partition("\n")
    others = {
        "upstreams:": "  a: {address: a.example.com:25}\n  a2: {address: b.example.com:25}\n",
        "routes:": "  r: {primary: a, copies: b, acceptance: pass}\n",
    }
    others[section] = rest + ", rewrite: me@example.com}\n" + (others["upstreams:"] if section == "upstreams:" else "")
    text = 'listeners: [{address: "127.0.0.1:2525", mode: relay}]\nspool: {path: spool}\n'
    text += "".join(f"{name}\n{body}" for name, body in others.items())
    (problem,) = mistakes(text)
    assert problem.key.endswith(".rewrite")
    assert "relay listener (127.0.0.1:2525)" in problem.text


def test_an_upstream_that_maps_domains_may_say_whom_it_sends_for(mistakes: Mistakes, load_text: Load) -> None:
    fixed = REWRITE.replace(", rewrite: REWRITE", "").replace(":25}", ":25, senders: x.example, rewrite: a@x.example}")
    (problem,) = mistakes(fixed)
    assert problem.key == "upstreams.a.senders"
    load_text(fixed.replace("rewrite: a@x.example", 'rewrite: {from: {o.example: "*@x.example"}}'))


def test_the_short_forms_and_what_follows_from_what(load_text: Load) -> None:
    def rewrite(text: str) -> object:
        return load_text(REWRITE.replace("REWRITE", text)).settings.routes.routes["r"].rewrite

    everybody = AddressMap((("*", Address("me", "x.example")),))
    short = rewrite("me@x.example")
    assert short == rewrite("{from: me@x.example}") == rewrite('{from: {"*": me@x.example}}')
    assert (short.envelope, short.author, short.sender) == (everybody, everybody, None)  # type: ignore[attr-defined]
    alone = rewrite("{envelope: me@x.example}")
    assert (alone.envelope, alone.author) == (everybody, AddressMap())  # type: ignore[attr-defined]
    fields = rewrite('{add: {X-App: "größer"}, remove: [X-Int*]}')
    assert (fields.add, fields.remove) == (  # type: ignore[attr-defined]
        (b"X-App: =?utf-8?b?Z3LDtsOfZXI=?=\r\n",),
        ("x-int*",),
    )


@pytest.mark.parametrize("shown", SHOWN)
def test_what_the_page_shows_passes_the_check(load_text: Load, folder: Path, shown: str) -> None:
    for name in re.findall(r"key_file: (\S+?)[,}\n]", shown):
        shown = shown.replace(name, str(folder / "good.pem"))
    rest = {
        "listeners:": 'listeners: [{address: "127.0.0.1:2525", mode: submission, trusted_networks: 10.0.0.0/8}]\n',
        "upstreams:": "upstreams: {provider: {address: a.example.com:25}}\n",
        "routes:": "routes: {all: {primary: provider, acceptance: pass}}\n",
    }
    loaded = load_text(shown + "".join(text for key, text in rest.items() if key not in shown))
    assert loaded.settings.warnings == ()


def test_the_records_for_dns(folder: Path, load_text: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load_text(DKIM.replace("  - DKIM\n", ""))
    assert main(["dkim", "record", "--config", "c.yaml"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("; rsa-sha256, 2048 bits\ns1._domainkey.example.com. IN TXT (\n")
    strings = re.findall(r'"(.*?)"', shown)
    assert max(map(len, strings)) <= 255
    assert main(["dkim", "record", "EXAMPLE.com.", "--config", "c.yaml", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["text"] == "".join(strings)
    assert main(["dkim", "record", "other.example", "--config", "c.yaml"]) == 2
    assert "there is one for example.com" in capsys.readouterr().err
    load_text(REWRITE.replace("REWRITE", "me@x.example"))
    assert main(["dkim", "record", "--config", "c.yaml"]) == 1
    assert "nothing is signed" in capsys.readouterr().err


def test_explain_says_what_is_rewritten(load_text: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load_text(
        REWRITE.replace(
            "REWRITE", '{from: {o.example: "*@n.example"}, reply_to: none, add: {X-A: b}, remove: X-B}'
        ).replace("a.example.com:25", "a.example.com:25, rewrite: me@x.example, senders: []")
    )
    words = ["explain", "--config", "c.yaml", "--to", "bob@x.example", "--client", "10.0.0.1", "--from"]
    assert main([*words, "app@o.example"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "rewritten: reverse-path <app@n.example>; From: o.example becomes *@n.example; the original From is" in shown
    assert "adds X-A; removes x-b" in shown
    assert "rewritten: reverse-path <me@x.example>; From: * becomes me@x.example" in shown
    assert main([*words, "<>", "--json"]) == 0
    route = json.loads(capsys.readouterr().out)["recipients"][0]["route"]
    assert (route["rewrite"]["reverse_path"], route["rewrite"]["add"]) == ("", {"X-A": "b"})
    assert route["primary"]["upstreams"][0]["rewrite"]["reverse_path"] == ""
