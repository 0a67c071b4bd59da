"""The files of smtpmux and GoSMTP-dup, and the variables of both. Defects G3, G10, G11, G13, S5, S17, S21."""

from dataclasses import replace

import pytest
from configuration_texts import SMALL

from waypost.config import load as load_module
from waypost.config.errors import ConfigurationError
from waypost.config.load import native_form, read
from waypost.config.settings import SpoolSettings
from waypost.config.write import yaml_text
from waypost.routing.route import Timeouts
from waypost.smtp.address import Address

DUP = """\
smtp:
  listen: "127.0.0.1:2525"
  domain: "localhost"
relay:
  destination_primary: "old.example.com:25"
  destination_backups: ["new.example.com:25", "archive.example.com:25"]
  timeout_seconds: 10
"""
DUP_VARIABLES = {
    "SMTP_DUP_SMTP_LISTEN": "0.0.0.0:25",
    "SMTP_DUP_SMTP_DOMAIN": "mx.example.com",
    "SMTP_DUP_RELAY_DESTINATION_PRIMARY": "old.example.com:25",
    "SMTP_DUP_RELAY_DESTINATION_BACKUPS": "a:25,b:25",
    "SMTP_DUP_RELAY_TIMEOUT_SECONDS": "30",
}
MUX = """\
users:
  - email: "test@user.com"
    password: "password123"
    selector_algo_path: "./plugins/round_robin/round-robin-plugin"
    downstreams:
      - {addr: "mail1:1025", user: "any", pass: "any"}
      - {addr: "mail2:1025", user: "any", pass: "any"}
"""


@pytest.fixture
def from_variables(folder, monkeypatch):
    """Loads with variables alone."""
    monkeypatch.setattr(load_module, "PLACES", ("./waypost.yaml",))
    return lambda environ: read(None, {"HOME": str(folder), **environ})


def copies_of(settings):
    return [copy.to.members[0].upstream for copy in settings.routes.routes["all"].copies]


def addresses(upstreams):
    return [(upstream.host, upstream.port) for upstream in upstreams]


def test_gosmtp_dup_the_documented_file(load_text):
    settings = load_text(DUP, {"STATE_DIRECTORY": "/state"}).settings
    (listener,) = settings.listeners
    assert (listener.host, listener.port, listener.mode, settings.hostname) == ("127.0.0.1", 2525, "relay", "localhost")
    primary = settings.routes.routes["all"].primary.members[0].upstream
    assert addresses([primary]) == [("old.example.com", 25)]
    assert addresses(copies_of(settings)) == [("new.example.com", 25), ("archive.example.com", 25)]
    assert [upstream.name for upstream in copies_of(settings)] == ["new.example.com", "archive.example.com"]
    assert primary.timeouts == Timeouts(10, 10, 10, 10, 10, 10)
    assert primary.background_timeouts == Timeouts(10, 10, 10, 10, 10, 600)
    assert primary.tls.mode == "opportunistic"
    assert primary.credentials is None  # defect G3
    assert listener.limits.message_size >= 10 * 1024 * 1024
    assert listener.limits.recipients >= 100
    assert settings.spool.path == "/state"
    assert settings.warnings == (
        "c.yaml: is in the format of GoSMTP-dup; `waypost config import` prints the native form, which can do more",
        "c.yaml:3:11: smtp.domain: 'localhost' has no dot, and many servers refuse such a name in EHLO; "
        "write the full name, like mail.example.com",
    )


def test_gosmtp_dup_defaults(load_text):
    settings = load_text("relay: {destination_primary: 'old:25'}").settings
    assert settings.listeners[0].name == "127.0.0.1:2525"
    assert settings.hostname == "localhost"
    assert settings.upstreams["old"].timeouts.greeting == 10
    assert settings.routes.routes["all"].copies == ()
    assert settings.spool is None


def test_gosmtp_dup_variables_alone(from_variables):
    settings = from_variables(DUP_VARIABLES).settings
    assert settings.hostname == "mx.example.com"
    assert addresses(copies_of(settings)) == [("a", 25), ("b", 25)]
    assert settings.upstreams["old.example.com"].timeouts.dot == 30


def test_gosmtp_dup_variables_over_the_file(load_text):
    loaded = load_text(DUP, DUP_VARIABLES)
    assert loaded.settings.listeners[0].name == "0.0.0.0:25"
    assert addresses(copies_of(loaded.settings)) == [("a", 25), ("b", 25)]
    assert str(loaded.origin(("hostname",))) == "SMTP_DUP_SMTP_DOMAIN"
    assert str(loaded.origin(("upstreams", "old.example.com", "address"))) == "SMTP_DUP_RELAY_DESTINATION_PRIMARY"


@pytest.mark.parametrize(
    "text",
    ["a:25,b:25", "a:25, b:25", "a:25 b:25", " a:25\n,b:25 ", '["a:25", "b:25"]', "a:25,b:25,", "a:25,b:25,a:25"],
)
def test_g10_every_way_to_write_the_backups(from_variables, text):
    settings = from_variables({**DUP_VARIABLES, "SMTP_DUP_RELAY_DESTINATION_BACKUPS": text}).settings
    assert addresses(copies_of(settings)) == [("a", 25), ("b", 25)]


def test_g10_s21_a_list_that_begins_with_an_ipv6_address(from_variables):
    settings = from_variables({**DUP_VARIABLES, "SMTP_DUP_RELAY_DESTINATION_BACKUPS": "[::1]:26,[::1]:27"}).settings
    assert addresses(copies_of(settings)) == [("::1", 26), ("::1", 27)]


def test_g10_no_backups(load_text):
    assert copies_of(load_text(DUP, {"SMTP_DUP_RELAY_DESTINATION_BACKUPS": ""}).settings) == []


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("SMTP_DUP_SMTP_LISTEN", "25", "smtp.listen"),
        ("SMTP_DUP_SMTP_DOMAIN", "a b", "smtp.domain"),
        ("SMTP_DUP_RELAY_DESTINATION_PRIMARY", "old", "relay.destination_primary"),
        ("SMTP_DUP_RELAY_DESTINATION_BACKUPS", "a:25,b", "relay.destination_backups[1]"),
        ("SMTP_DUP_RELAY_DESTINATION_BACKUPS", '["a:25"', "relay.destination_backups"),
        ("SMTP_DUP_RELAY_TIMEOUT_SECONDS", "10s", "relay.timeout_seconds"),
        ("SMTP_DUP_RELAY_TIMEOUT_SECONDS", "0", "relay.timeout_seconds"),
    ],
)
def test_g13_a_wrong_value_in_a_variable(mistakes, variable, value, key):
    (problem,) = mistakes(DUP, {variable: value})
    assert (problem.place, problem.key) == (variable, key)


def test_g13_the_required_setting_is_named_with_file_and_variable(mistakes):
    (problem,) = mistakes("smtp: {listen: ':25'}")
    assert problem.key == "relay.destination_primary"
    assert "c.yaml" in problem.suggestion
    assert "SMTP_DUP_RELAY_DESTINATION_PRIMARY" in problem.suggestion


def test_g13_the_required_setting_without_a_file(from_variables):
    with pytest.raises(
        ConfigurationError, match=r"set relay\.destination_primary with SMTP_DUP_RELAY_DESTINATION_PRIM"
    ):
        from_variables({"SMTP_DUP_SMTP_LISTEN": ":25"})


@pytest.mark.parametrize(
    ("text", "place", "key", "advice"),
    [
        (
            DUP.replace("destination_primary", "destination_primry"),
            "c.yaml:5:3",
            "relay.destination_primry",
            "primary?",
        ),
        (DUP.replace("_seconds", "_second"), "c.yaml:7:3", "relay.timeout_second", "timeout_seconds?"),
        (DUP + "extra: 1\n", "c.yaml:8:1", "extra", "known here: relay, smtp"),
        (DUP.replace("archive.example.com:25", "x"), "c.yaml:6:47", "relay.destination_backups[1]", "x:25"),
    ],
)
def test_g13_mistakes_in_the_file(mistakes, text, place, key, advice):
    problem = next(problem for problem in mistakes(text) if problem.key == key)
    assert problem.place == place
    assert advice in problem.suggestion


def test_an_unknown_variable_of_gosmtp_dup(mistakes):
    (problem,) = mistakes(DUP, {"SMTP_DUP_RELAY_TIMEOUT_SECOND": "1"})
    assert problem.suggestion == "did you mean SMTP_DUP_RELAY_TIMEOUT_SECONDS?"


def test_a_misspelt_variable_of_gosmtp_dup_and_nothing_else(from_variables):
    with pytest.raises(ConfigurationError) as caught:
        from_variables({"SMTP_DUP_RELAY_DESTINATION_PRIMAR": "old:25"})
    unknown = next(problem for problem in caught.value.problems if problem.place)
    assert unknown.suggestion == "did you mean SMTP_DUP_RELAY_DESTINATION_PRIMARY?"


@pytest.mark.parametrize("text", [SMALL, MUX])
def test_variables_of_gosmtp_dup_beside_another_format(mistakes, text):
    (problem,) = mistakes(text, {"SMTP_DUP_SMTP_LISTEN": ":25"})
    assert problem.place == "SMTP_DUP_SMTP_LISTEN"
    assert "belongs to GoSMTP-dup, but c.yaml is in the" in problem.text


@pytest.mark.parametrize("listen", [":25", "0.0.0.0:25", "[::]:25", "10.0.0.5:25"])
def test_g11_gosmtp_dup_open_to_everybody_says_so_loudly(load_text, listen):
    settings = load_text(DUP, {"SMTP_DUP_SMTP_LISTEN": listen}).settings
    assert [str(network) for network in settings.listeners[0].trusted_networks] == ["0.0.0.0/0", "::/0"]
    loud = [warning for warning in settings.warnings if "OPEN RELAY" in warning]
    assert len(loud) == 1
    assert loud[0].startswith(f"SMTP_DUP_SMTP_LISTEN: smtp.listen: OPEN RELAY: {listen} takes mail from everybody")


@pytest.mark.parametrize("listen", ["127.0.0.1:25", "[::1]:25", "localhost:25"])
def test_g11_gosmtp_dup_for_this_machine_trusts_this_machine(load_text, listen):
    settings = load_text(DUP, {"SMTP_DUP_SMTP_LISTEN": listen}).settings
    assert [str(network) for network in settings.listeners[0].trusted_networks] == ["127.0.0.0/8", "::1/128"]


def test_our_variables_apply_to_the_old_formats(load_text):
    assert load_text(DUP, {"WAYPOST_SPOOL_PATH": "/s"}).settings.spool.path == "/s"
    assert load_text(MUX, {"WAYPOST_ADMIN_ADDRESS": ":8025"}).settings.admin.port == 8025


def test_smtpmux_the_documented_file(load_text):
    settings = load_text(MUX).settings
    (listener,) = settings.listeners
    assert (listener.name, listener.mode, listener.allow_plaintext_auth) == (":1020", "submission", True)
    account = settings.routes.accounts["test@user.com"]
    assert (account.password, account.may_send_as) == ("password123", ())
    pool = settings.routes.routes[account.route].primary
    assert pool.strategy == "round_robin"
    assert [member.upstream.name for member in pool.members] == ["mail1", "mail2"]
    upstream = settings.upstreams["mail1"]
    assert (upstream.credentials.username, upstream.credentials.password.reveal()) == ("any", "any")
    assert (upstream.tls.mode, upstream.allow_plaintext_auth, upstream.rewrite) == ("opportunistic", False, None)
    assert [warning.partition(";")[0] for warning in settings.warnings] == [
        "c.yaml: is in the format of smtpmux",
        "c.yaml: :1020 takes passwords without TLS from every network, as smtpmux did",
        "c.yaml: unverified TLS: passwords go to providers whose certificate nobody checks, as with smtpmux",
        "c.yaml: acceptance: mail that no provider can take at once is kept and tried again for five days, "
        "as smtpmux's diagram has it",
    ]
    assert "acceptance: pass" in settings.warnings[-1]
    assert settings.routes.routes[account.route].acceptance == "hybrid"
    assert settings.spool is not None


@pytest.fixture
def no_folder(monkeypatch):
    """A machine where nothing can be written."""
    monkeypatch.setattr("waypost.config.spool.os.access", lambda path, mode: False)


@pytest.mark.usefixtures("no_folder")
def test_smtpmux_without_a_folder_for_its_queue_starts_without_one(load_text):
    loaded = load_text(MANY)
    assert loaded.settings.spool is None
    assert {route.acceptance for route in loaded.settings.routes.routes.values()} == {"pass"}
    (warning,) = (warning for warning in loaded.settings.warnings if "acceptance" in warning)
    assert warning.startswith("c.yaml: acceptance: no queue: neither /var/lib/waypost nor ")
    assert "refused for now" in warning
    assert "WAYPOST_SPOOL_PATH" in warning
    assert "can be written" in str(loaded.origin(("routes", "one@example.com", "acceptance")))


def test_smtpmux_with_a_folder_in_memory_starts_without_a_queue(load_text, folder, monkeypatch):
    table = folder / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 disk rw\n2 1 0:2 / {folder} rw - tmpfs tmpfs rw\n")
    monkeypatch.setattr("waypost.store.file_system._MOUNTS", table)
    settings = load_text(MUX, {"STATE_DIRECTORY": str(folder)}).settings
    assert settings.spool is None
    assert f"no queue: {folder} is on a temporary file system (tmpfs), so mail" in settings.warnings[-1]
    allowed = {"STATE_DIRECTORY": str(folder), "WAYPOST_SPOOL_ALLOW_TEMPORARY": "true"}
    assert load_text(MUX, allowed).settings.spool == SpoolSettings(str(folder), allow_temporary=True)


@pytest.mark.usefixtures("no_folder")
@pytest.mark.parametrize(
    ("variable", "value"), [("WAYPOST_SPOOL_PATH", "/s"), ("WAYPOST_SPOOL_URL", "postgresql://u@h/d")]
)
def test_smtpmux_with_a_spool_that_is_named(load_text, variable, value):
    settings = load_text(MUX, {variable: value}).settings
    assert settings.spool in (SpoolSettings("/s"), SpoolSettings(url=value))
    assert {route.acceptance for route in settings.routes.routes.values()} == {"hybrid"}


@pytest.mark.usefixtures("no_folder")
def test_g7_gosmtp_dup_without_a_folder_for_its_copies_is_refused(mistakes):
    (problem,) = mistakes(DUP)
    assert "is needed for the copies of the route all; neither /var/lib/waypost nor" in problem.text
    assert problem.suggestion == "set `spool` or WAYPOST_SPOOL_PATH to a folder that can be written"


def test_gosmtp_dup_stays_pass(load_text):
    settings = load_text(DUP).settings
    assert settings.routes.routes["all"].acceptance_for(settings.listeners[0].mode == "submission") == "pass"


@pytest.mark.parametrize(("value", "allowed"), [("true", True), ("false", False), ("", False), ("1", True)])
def test_use_insecure_auth(load_text, value, allowed):
    settings = load_text(MUX, {"USE_INSECURE_AUTH": value}).settings
    assert [upstream.allow_plaintext_auth for upstream in settings.upstreams.values()] == [allowed, allowed]
    assert any("USE_INSECURE_AUTH" in warning for warning in settings.warnings) == allowed


def test_use_insecure_auth_with_another_word(mistakes):
    (problem,) = mistakes(MUX, {"USE_INSECURE_AUTH": "perhaps"})
    assert str(problem) == "USE_INSECURE_AUTH: must be true or false"


MANY = """\
users:
  - email: one@example.com
    password: p1
    downstreams:
      - {addr: "smtp.example.com:587", user: me@example.com, pass: 0755}
      - {addr: "smtp.example.com:587", user: other@example.com, pass: x}
      - {addr: "smtp.example.com:465", user: me@example.com, pass: 0755}
      - {addr: "[::1]:25"}
      - {addr: "smtp.example.com:587", user: me@example.com, pass: 0755}
  - email: two@example.com
    password: p2
    downstreams:
      - {addr: "smtp.example.com:587", user: me@example.com, pass: 0755}
      - {addr: "smtp.example.com:587", user: apikey, pass: y}
"""


def test_smtpmux_names_pools_and_rewriting(load_text):
    settings = load_text(MANY).settings
    one, two = (settings.routes.routes[settings.routes.accounts[name].route] for name in settings.routes.accounts)
    me, other, apikey, implicit = (
        "smtp.example.com-587-me-at-example.com",
        "smtp.example.com-587-other-at-example.com",
        "smtp.example.com-587-apikey",
        "smtp.example.com-465",
    )
    assert [member.upstream.name for member in one.primary.members] == [me, other, implicit, "ipv6-1"]
    assert [member.upstream.name for member in two.primary.members] == [me, apikey]
    upstreams = settings.upstreams
    assert upstreams[me].credentials.password.reveal() == "0755"
    assert upstreams[implicit].tls.mode == "implicit"
    assert upstreams["ipv6-1"].credentials is None
    assert upstreams["ipv6-1"].host == "::1"  # defect S21
    assert upstreams[me].rewrite.author.fixed == Address("me", "example.com")
    assert upstreams[apikey].rewrite is None  # defect S5
    assert one.primary.strategy == two.primary.strategy == "ordered"
    assert settings.routes.rules == ()


@pytest.mark.parametrize("path", ["my_selector.py", "./my_selector.py"])
def test_smtpmux_a_python_selector_becomes_a_plugin_of_its_pools(load_text, folder, path):
    (folder / "my_selector.py").write_text("def choose(question):\n    return ['mail2']\n")
    text = MUX.replace("./plugins/round_robin/round-robin-plugin", path)
    loaded = load_text(text + text.replace("users:\n", "").replace("test@user.com", "other@user.com"))
    settings = loaded.settings
    assert [pool.plugin for pool in settings.pools.values() if len(pool.members) > 1] == ["my_selector.py"] * 2
    assert settings.plugins["my_selector.py"].command == ("./my_selector.py",)
    assert settings.pools["test@user.com"].strategy == "ordered"


def test_smtpmux_a_python_selector_that_is_not_there(mistakes):
    (problem,) = mistakes(MUX.replace("./plugins/round_robin/round-robin-plugin", "./my_selector.py"))
    assert (problem.place, problem.key) == ("c.yaml:4:25", "users[0].selector_algo_path")
    assert "cannot be read: No such file" in problem.text


def test_smtpmux_a_starlark_selector_becomes_a_plugin(load_text, folder):
    (folder / "selector.star").write_text("def selector(downstreams):\n    return None\n")
    settings = load_text(MUX.replace("./plugins/round_robin/round-robin-plugin", "selector.star")).settings
    (plugin,) = settings.plugins.values()
    assert (plugin.kind, plugin.command) == ("starlark", ("./selector.star",))
    assert settings.pools["test@user.com"].plugin == "selector.star"


def test_smtpmux_any_other_selector_is_a_go_program(load_text, folder):
    program = folder / "my-selector"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    settings = load_text(MUX.replace("./plugins/round_robin/round-robin-plugin", str(program))).settings
    (plugin,) = settings.plugins.values()
    assert (plugin.kind, plugin.command) == ("go", (str(program),))


@pytest.mark.parametrize(
    ("path", "fault"),
    [("selector.star", "selector.star cannot be read"), ("/opt/plugins/mine", "there is no file /opt/plugins/mine")],
)
def test_smtpmux_selectors_that_are_not_there(mistakes, path, fault):
    (problem,) = mistakes(MUX.replace("./plugins/round_robin/round-robin-plugin", path))
    assert (problem.place, problem.key) == ("c.yaml:4:25", "users[0].selector_algo_path")
    assert fault in problem.text


@pytest.mark.parametrize("selector", ["", "    selector_algo_path: ''\n", "    selector_algo_path:\n"])
def test_smtpmux_without_a_selector_the_order_of_the_file_holds(load_text, selector):
    line = '    selector_algo_path: "./plugins/round_robin/round-robin-plugin"\n'
    assert load_text(MUX.replace(line, selector)).settings.pools["test@user.com"].strategy == "ordered"


@pytest.mark.parametrize(
    ("old", "new", "place", "key"),
    [
        ("email: ", "mail: ", "3:5", "users[0].mail"),
        ('addr: "mail1:1025"', "addr: mail1", "6:16", "users[0].downstreams[0].addr"),
        ('pass: "any"}', "}", "6:9", "users[0].downstreams[0].pass"),
        ("user: ", "usr: ", "6:30", "users[0].downstreams[0].usr"),
        ("    downstreams:", "    downstream:", "5:5", "users[0].downstream"),
        ('password: "password123"', "password: ''", "3:15", "users[0].password"),
    ],
)
def test_s17_mistakes_in_the_file_of_smtpmux(mistakes, old, new, place, key):
    problems = mistakes(MUX.replace(old, new, 1))
    assert [problem for problem in problems if problem.key == key]
    assert "password123" not in str(problems)


def test_smtpmux_the_same_user_twice(mistakes):
    (problem,) = mistakes(MUX + MUX.removeprefix("users:\n"))
    assert (problem.place, problem.key) == ("c.yaml:8:12", "users[1].email")


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (DUP, {}),
        (DUP, DUP_VARIABLES),
        (DUP, {"SMTP_DUP_SMTP_LISTEN": "[::1]:2525", "SMTP_DUP_RELAY_TIMEOUT_SECONDS": "900"}),
        (MUX, {}),
        (MUX, {"USE_INSECURE_AUTH": "true"}),
        (MANY, {}),
    ],
)
def test_what_is_imported_loads_and_is_the_same(load_text, folder, text, environ):
    old = load_text(text, environ).settings
    tree, _, warnings = native_form("c.yaml", environ)
    assert warnings
    (folder / "native.yaml").write_text(yaml_text(tree.data))
    loaded = read("native.yaml", {"HOME": str(folder)})
    assert loaded.format == "native"
    assert replace(loaded.settings, warnings=()) == replace(old, warnings=())


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("relay:", "rely:", "rely"),
        ("destination_primary", "destination_primry", "relay.destination_primry"),
        ("destination_backups", "destination_backup", "relay.destination_backup"),
    ],
)
def test_a_misspelt_name_in_the_file_of_gosmtp_dup_is_one_mistake(mistakes, old, new, key):
    (problem,) = mistakes(DUP.replace(old, new))
    assert problem.key == key
    assert problem.suggestion == f"did you mean {old.rstrip(':')}?"


def test_smtpmux_mistakes_do_not_hide_others(mistakes):
    text = MUX.replace("mail1:1025", "mail1").replace('pass: "any"}\n      - {addr: "mail2', '}\n      - {addr: "mail2')
    text = text.replace("./plugins/round_robin/round-robin-plugin", "mine.py").replace("password123", "")
    assert [problem.key for problem in mistakes(text)] == [
        "users[0].password",
        "users[0].selector_algo_path",
        "users[0].downstreams[0].pass",
        "users[0].downstreams[0].addr",
    ]


def test_smtpmux_names_have_the_port_where_it_tells_them_apart(load_text):
    text = MUX.replace("mail1:1025", "127.0.0.1:1025").replace("mail2:1025", "127.0.0.1:2025")
    assert list(load_text(text).settings.upstreams) == ["127.0.0.1-1025", "127.0.0.1-2025"]
