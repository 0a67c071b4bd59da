"""Which file is read, what there is without one, and where copies wait. Defects G11, G13, G14, S14, S15, S16, S17."""

import os
from pathlib import Path

import pytest
from configuration_texts import SMALL

from waypost.config import load as load_module
from waypost.config import spool as spool_module
from waypost.config.errors import ConfigurationError
from waypost.config.load import PLACES, load, read

COPYING = SMALL.replace("{primary: a}", "{primary: a, copies: [a]}")


def test_the_usual_places():
    assert PLACES == ("./waypost.yaml", "./config.yaml", "/etc/waypost/waypost.yaml", "/etc/smtp-dup/config.yaml")


def test_g14_the_first_file_that_is_there_and_a_named_one_before_all(folder, monkeypatch):
    (folder / "etc").mkdir()
    places = ("./waypost.yaml", "./config.yaml", "./etc/waypost.yaml", "./etc/config.yaml")
    monkeypatch.setattr(load_module, "PLACES", places)
    for number, place in reversed(list(enumerate(places))):
        (folder / place).write_text(SMALL + f"hostname: host{number}\n")
        assert load(None, {}).hostname == f"host{number}"
    (folder / "named.yaml").write_text(SMALL + "hostname: named\n")
    (folder / "flag.yaml").write_text(SMALL + "hostname: flag\n")
    assert load(None, {"WAYPOST_CONFIG": "named.yaml"}).hostname == "named"
    assert load("flag.yaml", {"WAYPOST_CONFIG": "named.yaml"}).hostname == "flag"


@pytest.mark.parametrize(
    ("flag", "environ", "words"),
    [
        ("no.yaml", {}, "no.yaml: cannot be read (--config names it): No such file"),
        (None, {"WAYPOST_CONFIG": "no.yaml"}, "no.yaml: cannot be read (WAYPOST_CONFIG names it): No such file"),
        (".", {}, ".: cannot be read (--config names it): Is a directory"),
        ("a\0b", {}, "cannot be read"),
    ],
)
def test_g13_s17_a_named_file_must_be_readable(folder, flag, environ, words):
    (folder / "waypost.yaml").write_text(SMALL)
    with pytest.raises(ConfigurationError) as caught:
        load(flag, environ)
    assert words in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_g13_a_file_that_may_not_be_read_is_not_passed_over(folder):
    (folder / "waypost.yaml").write_text(SMALL)
    (folder / "waypost.yaml").chmod(0)
    (folder / "config.yaml").write_text(SMALL)
    with pytest.raises(ConfigurationError, match=r"waypost.yaml: cannot be read .*: Permission denied"):
        load(None, {})


def test_g13_a_place_that_cannot_be_looked_into_is_not_passed_over(folder, monkeypatch):
    monkeypatch.setattr(load_module, "PLACES", ("./" + "long" * 100, "./waypost.yaml"))
    (folder / "waypost.yaml").write_text(SMALL)
    with pytest.raises(
        ConfigurationError, match=r"cannot be read \(it is one of the usual places\): File name too long"
    ):
        load(None, {})


def test_s17_no_configuration_at_all_says_what_to_do(monkeypatch):
    monkeypatch.setattr(load_module, "PLACES", ("./waypost.yaml",))
    with pytest.raises(ConfigurationError) as caught:
        load(None, {})
    assert "there is no configuration" in str(caught.value)
    assert "waypost config init" in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "null"])
def test_g13_an_empty_file(mistakes, text):
    (problem,) = mistakes(text)
    assert str(problem).startswith("c.yaml: has no settings in it; `waypost config init`")


def test_a_file_of_no_format(mistakes):
    (problem,) = mistakes("upstream: {}\nfoo: 1\n")
    assert (problem.place, problem.key) == ("c.yaml:1:1", "upstream")
    assert problem.suggestion == "did you mean upstreams?"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (SMALL + "users: []\n", "c.yaml:4:1", "belongs to the smtpmux format, but listeners belongs to the native"),
        ("smtp: {}\nroutes: {}\n", "c.yaml:2:1", "belongs to the native format, but smtp belongs to the GoSMTP-dup"),
        ("users: []\nrelay: {}\n", "c.yaml:2:1", "belongs to the GoSMTP-dup format, but users belongs to the smtpmux"),
    ],
)
def test_a_file_of_two_formats(mistakes, text, place, words):
    (problem,) = mistakes(text)
    assert problem.place == place
    assert words in problem.text


@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/0",
        "'::/0'",
        "'2000::/3'",
        "'2000::/4'",
        "'2000::/5', '2800::/5'",
        "0.0.0.0/1, 128.0.0.0/1",
        "0.0.0.0/2, 64.0.0.0/3, 96.0.0.0/3",
        "128.0.0.0/1",
        "'::ffff:0:0/96'",
        "'::ffff:0.0.0.0/97', '::ffff:128.0.0.0/97'",
        "0.0.0.0/2, '::ffff:64.0.0.0/98'",
    ],
)
@pytest.mark.parametrize("mode", ["relay", "submission"])
def test_g11_s16_an_open_relay_is_refused_unless_told_to_in_so_many_words(load_text, mistakes, network, mode):
    text = SMALL.replace("mode: relay", f"mode: {mode}, trusted_networks: [{network}]")
    (problem,) = mistakes(text)
    assert problem.key == "listeners[0].trusted_networks"
    assert "open relay" in problem.text
    assert "allow_open_relay: true" in problem.suggestion
    allowed = load_text(text.replace("mode:", "allow_open_relay: true, mode:")).settings
    assert allowed.listeners[0].trusted_networks
    assert allowed.warnings
    assert "OPEN RELAY" in allowed.warnings[0]


def test_g11_a_relay_listener_that_names_nobody_trusts_this_machine_only(load_text):
    text = SMALL.replace("127.0.0.1:2525", "0.0.0.0:2525")
    assert [str(n) for n in load_text(text).settings.listeners[0].trusted_networks] == ["127.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("networks", "named"),
    [
        ("4.0.0.0/6", "4.0.0.0/6"),
        ("10.0.0.0/8, 11.0.0.0/8", "10.0.0.0/7"),
        ("0.0.0.0/2", "0.0.0.0/2"),
        ("'::ffff:4.0.0.0/102'", "4.0.0.0/6"),
        ("'2a00::/12', 10.0.0.0/8", "2a00::/12"),
    ],
)
def test_g11_networks_wider_than_ones_own_are_a_warning(load_text, networks, named):
    text = SMALL.replace("mode: relay", f"mode: relay, trusted_networks: [{networks}]")
    (warning,) = load_text(text).settings.warnings
    assert f"trusted_networks: {named}: these are more addresses than one organisation has" in warning


def test_a_network_of_ipv4_in_the_disguise_of_ipv6_is_one_of_ipv4(load_text):
    text = SMALL.replace("mode: relay", "mode: relay, trusted_networks: ['::ffff:10.0.0.0/104', '::ffff:192.0.2.1']")
    trusted = load_text(text).settings.listeners[0].trusted_networks
    assert [str(network) for network in trusted] == ["10.0.0.0/8", "192.0.2.1/32"]


@pytest.mark.parametrize("address", ["':2525'", "'*:2525'"])
def test_a_listener_without_a_host_is_not_open_by_that(load_text, address):
    settings = load_text(SMALL.replace('"127.0.0.1:2525"', address)).settings
    assert [str(n) for n in settings.listeners[0].trusted_networks] == ["127.0.0.0/8", "::1/128"]
    assert "trusts this machine only" in settings.warnings[0]


@pytest.mark.parametrize("networks", ["0.0.0.0/8", "'fc00::/7', 'fe80::/10'", "'::/3'", "'2001::/16'"])
def test_g11_networks_that_are_not_too_wide(load_text, networks):
    text = SMALL.replace("mode: relay", f"mode: relay, trusted_networks: [{networks}]")
    assert load_text(text).settings.warnings == ()


def test_g11_private_networks_are_no_open_relay(load_text):
    text = SMALL.replace("mode: relay", "mode: relay, trusted_networks: [10.0.0.0/8, 'fd00::/8']")
    assert load_text(text).settings.warnings == ()


def test_s14_s15_tls_and_hashes(load_text, certificates):
    text = f"""\
listeners:
  - {{address: "127.0.0.1:465", mode: submission, tls: implicit}}
  - {{address: "127.0.0.1:587", mode: submission}}
tls: {{certificate: {certificates.certificate}, key: {certificates.key}}}
accounts: {{app: {{password: $argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$SqlVijFGiPG+935vDSGEsA}}}}
upstreams: {{a: {{address: "a.example.com:25"}}}}
routes: {{all: {{primary: a}}}}
"""
    text = text.replace("$argon2id", "'$argon2id").replace("GEsA}", "GEsA'}")
    implicit, starttls = load_text(text).settings.listeners
    assert (implicit.implicit_tls, starttls.implicit_tls) == (True, False)
    assert implicit.tls == starttls.tls != None  # noqa: E711
    assert not starttls.allow_plaintext_auth


def test_a_certificate_with_the_key_of_another(mistakes, certificates, tmp_path_factory):
    from rig.certificates import make_certificates

    other = make_certificates(tmp_path_factory.mktemp("other"))
    (problem,) = mistakes(SMALL + f"tls: {{certificate: {certificates.certificate}, key: {other.key}}}")
    assert problem.key == "tls.key"
    assert "is not the key of" in problem.text
    (problem,) = mistakes(SMALL + f"tls: {{certificate: {certificates.certificate}, key: c.yaml}}")
    assert (problem.key, problem.place) == ("tls", "c.yaml:4:6")
    assert "cannot use" in problem.text


def test_secrets_are_in_no_representation(load_text):
    text = SMALL.replace('25"}', '25", tls: starttls, auth: {username: u, password: hunter2}}')
    loaded = load_text(text + "accounts: {app: {password: hunter3}}\n")
    assert "hunter" not in repr(loaded.settings) + repr(loaded.model)


def test_the_spool_that_is_set(load_text):
    loaded = load_text(COPYING + "spool: {path: here}\n", {"STATE_DIRECTORY": "/var/lib/other"})
    assert loaded.settings.spool.path == "here"
    assert load_text(SMALL).settings.spool is None


SUBMITTING = SMALL.replace("mode: relay", "mode: submission, trusted_networks: 10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "what", "otherwise"),
    [
        (SMALL, "", ""),
        (COPYING, "the copies of the route all", ""),
        (
            SMALL.replace("primary: a", "primary: a, acceptance: spool"),
            "the route all with `acceptance: spool`",
            "pass",
        ),
        (SUBMITTING, "mail from 127.0.0.1:2525 on the route all, which is `hybrid` for submission listeners", "pass"),
        (SUBMITTING.replace("primary: a", "primary: a, acceptance: pass"), "", ""),
    ],
)
def test_what_needs_a_spool(load_text, mistakes, var_lib, text, what, otherwise):
    var_lib()
    if not what:
        assert load_text(text).settings.spool is None
        return
    (problem,) = mistakes(text)
    assert (problem.place, problem.key) == ("c.yaml", "spool")
    assert problem.text.startswith(f"is needed for {what}; neither /var/lib/waypost nor ")
    assert "set `spool` or WAYPOST_SPOOL_PATH to a folder" in problem.suggestion
    assert ("acceptance: pass" in problem.suggestion) is bool(otherwise)


def test_a_mistake_in_the_spool_is_not_its_absence(mistakes, var_lib):
    var_lib()
    for spool in ("{pth: spool}", "{path: 'a://b'}", "redis://h", "{url_file: nowhere}"):
        (problem,) = mistakes(COPYING + f"spool: {spool}\n")
        assert problem.key != "spool"


@pytest.fixture
def in_memory(folder, monkeypatch):
    """Makes the folder of the test one in memory, in the eyes of the program."""
    table = folder / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 disk rw\n2 1 0:2 / {folder} rw - tmpfs tmpfs rw\n")
    monkeypatch.setattr("waypost.store.file_system._MOUNTS", table)


@pytest.mark.usefixtures("in_memory")
def test_a_spool_in_memory_is_refused_unless_told_to_in_so_many_words(load_text, mistakes):
    for text, environ, place in (
        (COPYING + "spool: here", {}, "c.yaml:4:8"),
        (COPYING + "spool: {path: here/below}", {}, "c.yaml:4:15"),
        (COPYING, {"WAYPOST_SPOOL_PATH": "here"}, "WAYPOST_SPOOL_PATH"),
        (COPYING, {"STATE_DIRECTORY": str(Path.cwd())}, "default, $STATE_DIRECTORY"),
    ):
        (problem,) = mistakes(text, environ)
        assert (problem.place, problem.key) == (place, "spool.path")
        assert "is on a temporary file system (tmpfs)" in problem.text
        assert "`spool.allow_temporary: true`" in problem.suggestion
        allowed = load_text(text, {**environ, "WAYPOST_SPOOL_ALLOW_TEMPORARY": "true"}).settings
        assert allowed.spool.allow_temporary


def test_a_spool_on_a_disk_is_not_in_memory(load_text, in_memory):
    assert load_text(COPYING + "spool: /elsewhere/on/disk").settings.spool.path == "/elsewhere/on/disk"


@pytest.fixture
def var_lib(monkeypatch):
    """Makes one folder writable, in the eyes of the program, and no other."""

    def var_lib(*writable: Path | str):
        chosen = {str(path) for path in writable}
        monkeypatch.setattr(spool_module.os, "access", lambda path, mode: str(path) in chosen)

    return var_lib


def test_the_spool_that_is_not_set(load_text, folder, var_lib):
    (folder / "xdg").mkdir()
    in_home = {"HOME": str(folder)}
    in_xdg = {"XDG_STATE_HOME": str(folder / "xdg")}
    by_systemd = {"STATE_DIRECTORY": "/var/lib/waypost:/var/lib/other"}

    def spool(environ):
        loaded = load_text(COPYING, environ)
        return loaded.settings.spool.path, str(loaded.origin(("spool", "path")))

    var_lib("/var/lib", "/var/lib/waypost", folder)  # which is asked depends on whether a Waypost lives here
    assert spool(by_systemd) == ("/var/lib/waypost", "default, $STATE_DIRECTORY")
    assert spool(in_home) == ("/var/lib/waypost", "default, the usual place")
    var_lib(folder, folder / "xdg")
    assert spool(in_xdg) == (str(folder / "xdg/waypost"), "default, the state folder of the user")
    assert spool(in_home) == (str(folder / ".local/state/waypost"), "default, the state folder of the user")


def test_no_place_for_the_spool(mistakes, var_lib):
    var_lib()
    (problem,) = mistakes(COPYING)
    assert problem.key == "spool"
    assert "WAYPOST_SPOOL_PATH" in problem.suggestion


def test_the_host_name_of_this_machine(load_text, monkeypatch):
    monkeypatch.setattr(load_module.socket, "gethostname", lambda: "this-machine")
    loaded = load_text(SMALL)
    assert loaded.settings.hostname == "this-machine"
    assert str(loaded.origin(("hostname",))) == "default, the name of this machine"
    monkeypatch.setattr(load_module.socket, "gethostname", lambda: "not a name")
    assert load_text(SMALL).settings.hostname == "localhost"


def test_a_rule_remembers_where_it_stands(load_text):
    loaded = load_text(SMALL + "rules:\n  - {route: all}\n")
    assert loaded.settings.routes.rules[0].origin == "c.yaml:5:5"


def test_what_rig_and_bench_write_is_fine(folder):
    import yaml

    from rig.settings import relaying

    settings = relaying(2525, "127.0.0.1:2526", "127.0.0.1:2527", spool=folder / "spool")
    (folder / "rig.yaml").write_text(yaml.safe_dump(settings))
    loaded = read("rig.yaml", {})
    assert loaded.settings.routes.routes["all"].backoff.intervals == (0.2,)
