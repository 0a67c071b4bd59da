"""Variables over the file, flags over variables, and variables that mean nothing."""

import pytest
from configuration_texts import SMALL

from waypost.config.environment import variables
from waypost.config.errors import ConfigurationError
from waypost.config.schema import Configuration
from waypost.config.settings import SpoolSettings
from waypost.config.walk import settings_of
from waypost.net.settings import AccountsFile


def test_every_setting_without_a_name_of_the_users_has_a_variable():
    paths = [setting.path for setting in settings_of(Configuration) if setting.shape.container == "one"]
    fixed = [path for path in paths if "NAME" not in path and 0 not in path]
    assert list(variables().values()) == fixed
    assert variables()["WAYPOST_LIMITS_MESSAGE_SIZE"] == ("limits", "message_size")


SAMPLES = {
    "WAYPOST_HOSTNAME": ("mx.example.com", lambda settings: settings.hostname, "mx.example.com"),
    "WAYPOST_SPOOL_PATH": ("/tmp/s", lambda settings: settings.spool.path, "/tmp/s"),
    "WAYPOST_SPOOL_URL": ("postgres://u@h/d", lambda settings: settings.spool.url, "postgres://u@h/d"),
    "WAYPOST_SPOOL_URL_FILE": ("url.txt", lambda settings: settings.spool.url, "postgresql://u:p@h/d"),
    "WAYPOST_SPOOL_ALLOW_TEMPORARY": ("true", lambda settings: settings.spool.allow_temporary, True),
    "WAYPOST_SPOOL_KEEP_DEAD": ("7d", lambda settings: settings.spool.keep_dead, 604800),
    "WAYPOST_JOURNAL_KEEP": ("off", lambda settings: settings.journal.keep, 0),
    "WAYPOST_NOTIFICATIONS_SENDER": ("a@example.com", lambda settings: settings.notices.sender, "a@example.com"),
    "WAYPOST_NOTIFICATIONS_PER_HOUR": ("7", lambda settings: settings.notices.per_hour, 7),
    "WAYPOST_ADMIN_ADDRESS": ("[::1]:8025", lambda settings: settings.admin.host, "::1"),
    "WAYPOST_LOG_FORMAT": ("json", lambda settings: settings.log.format, "json"),
    "WAYPOST_LOG_LEVEL": ("debug", lambda settings: settings.log.level, "debug"),
    "WAYPOST_LIMITS_CONNECTIONS": ("7", lambda settings: settings.listeners[0].limits.connections, 7),
    "WAYPOST_LIMITS_CONNECTIONS_PER_ADDRESS": ("7", lambda s: s.listeners[0].limits.connections_per_address, 7),
    "WAYPOST_LIMITS_RECIPIENTS": ("7", lambda settings: settings.listeners[0].limits.recipients, 7),
    "WAYPOST_LIMITS_MESSAGE_SIZE": ("7MiB", lambda settings: settings.listeners[0].limits.message_size, 7 << 20),
    "WAYPOST_LIMITS_LINE_LENGTH": ("7KB", lambda settings: settings.listeners[0].limits.line_length, 7000),
    "WAYPOST_LIMITS_ERRORS": ("7", lambda settings: settings.listeners[0].limits.errors, 7),
    "WAYPOST_LIMITS_LOGIN_FAILURES": ("7", lambda settings: settings.login.failures, 7),
    "WAYPOST_LIMITS_LOGIN_LONGEST_DELAY": ("7s", lambda settings: settings.login.longest_delay, 7),
    "WAYPOST_LIMITS_LOGIN_FORGET": ("7m", lambda settings: settings.login.forget, 420),
    "WAYPOST_LIMITS_SPILL_SIZE": ("7", lambda settings: settings.spill_size, 7),
    "WAYPOST_LIMITS_MAX_RECEIVED": ("7", lambda settings: settings.max_received, 7),
    "WAYPOST_TIMEOUTS_COMMAND": ("7m", lambda settings: settings.listeners[0].timeouts.command, 420),
    "WAYPOST_TIMEOUTS_CONTENT": ("7", lambda settings: settings.listeners[0].timeouts.content, 7),
    "WAYPOST_TIMEOUTS_HANDSHAKE": ("7", lambda settings: settings.listeners[0].timeouts.handshake, 7),
    "WAYPOST_SHUTDOWN_TIMEOUT": ("7s", lambda settings: settings.shutdown_timeout, 7),
}


@pytest.mark.parametrize("variable", SAMPLES)
def test_a_variable_sets_its_setting(load_text, folder, variable):
    (folder / "url.txt").write_text("postgresql://u:p@h/d\n")
    text, read, value = SAMPLES[variable]
    loaded = load_text(SMALL.replace("{primary: a}", "{primary: a, copies: [a]}"), {variable: text})
    assert read(loaded.settings) == value
    assert str(loaded.origin(variables()[variable])) == variable


def test_the_two_variables_of_the_certificate(load_text, certificates):
    pair = {"WAYPOST_TLS_CERTIFICATE": str(certificates.certificate), "WAYPOST_TLS_KEY": str(certificates.key)}
    assert load_text(SMALL, pair).settings.listeners[0].tls.key == str(certificates.key)
    others = ("WAYPOST_ACCOUNTS_FILE_PATH", "WAYPOST_ACCOUNTS_FILE_FORMAT", "WAYPOST_ACCOUNTS_FILE_ROUTE")
    assert {*SAMPLES, *pair, *others} == set(variables())


def test_the_variables_of_the_accounts_file(load_text, folder):
    (folder / "users").write_text("ann:{PLAIN}x\n")
    variables = {
        "WAYPOST_ACCOUNTS_FILE_PATH": "users",
        "WAYPOST_ACCOUNTS_FILE_FORMAT": "dovecot",
        "WAYPOST_ACCOUNTS_FILE_ROUTE": "all",
    }
    settings = load_text(SMALL, variables).settings
    assert settings.accounts_file == AccountsFile("users", "dovecot")
    assert settings.routes.others.route == "all"


def test_flag_over_variable_over_file_over_default(load_text):
    text = SMALL + "log: {level: warning}\n"
    variable = {"WAYPOST_LOG_LEVEL": "error"}
    loaded = [
        load_text(SMALL),
        load_text(text),
        load_text(text, variable),
        load_text(text, variable, log__level="debug"),
    ]
    assert [each.settings.log.level for each in loaded] == ["info", "warning", "error", "debug"]
    origins = [str(each.origin(("log", "level"))) for each in loaded]
    assert origins == ["default", "c.yaml:4:14", "WAYPOST_LOG_LEVEL", "command line"]


def test_a_flag_that_does_not_fit_the_file(load_text):
    with pytest.raises(ConfigurationError) as caught:
        load_text(SMALL.replace("routes:", "log: json\nroutes:"), log__level="debug")
    assert [(problem.place, problem.key) for problem in caught.value.problems] == [
        ("c.yaml:3:6", "log"),
        ("command line", "log.level"),
    ]


@pytest.mark.parametrize("spool", ["there", "{path: there}", "postgresql://u:hunter2@h/d", "{url_file: nowhere}"])
@pytest.mark.parametrize("place", ["PATH", "URL", "URL_FILE"])
def test_a_variable_takes_the_place_of_the_spool_in_the_file(load_text, folder, spool, place):
    (folder / "url.txt").write_text("postgresql://u@h/other")
    text = {"PATH": "here", "URL": "postgresql://u@h/other", "URL_FILE": "url.txt"}[place]
    loaded = load_text(SMALL + f"spool: {spool}", {f"WAYPOST_SPOOL_{place}": text})
    other = SpoolSettings("here") if place == "PATH" else SpoolSettings(url="postgresql://u@h/other")
    assert loaded.settings.spool == other
    assert str(loaded.origin(("spool", place.lower()))) == f"WAYPOST_SPOOL_{place}"


def test_two_variables_for_the_spool(mistakes):
    (problem,) = mistakes(SMALL, {"WAYPOST_SPOOL_PATH": "here", "WAYPOST_SPOOL_URL": "postgresql://u:hunter2@h/d"})
    assert str(problem) == "WAYPOST_SPOOL_URL: spool.url: is set, and so is spool.path; set one of them"


def test_a_variable_beside_a_short_form_leaves_what_that_says(load_text):
    loaded = load_text(SMALL + "spool: there", {"WAYPOST_SPOOL_KEEP_DEAD": "1d"})
    assert loaded.settings.spool == SpoolSettings("there", keep_dead=86400)
    assert str(loaded.origin(("spool", "path"))) == "c.yaml:4:8"
    assert str(loaded.origin(("spool", "keep_dead"))) == "WAYPOST_SPOOL_KEEP_DEAD"


def test_an_empty_variable_is_not_set(load_text):
    assert load_text(SMALL, {"WAYPOST_LOG_LEVEL": ""}).settings.log.level == "info"


def test_a_wrong_value_in_a_variable(mistakes):
    (problem,) = mistakes(SMALL, {"WAYPOST_LOG_LEVEL": "debgu"})
    assert str(problem).startswith("WAYPOST_LOG_LEVEL: log.level: 'debgu' is not one of")
    assert problem.suggestion == "did you mean debug?"


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        ("WAYPOST_LOG_LEVL", "WAYPOST_LOG_LEVEL?"),
        ("WAYPOST_CONFG", "WAYPOST_CONFIG?"),
        ("WAYPOST_ACCOUNT_AP_PASSWORD", "WAYPOST_ACCOUNT_APP_PASSWORD?"),
    ],
)
def test_an_unknown_variable(mistakes, variable, advice):
    text = SMALL + "accounts: {app: {password: x}}"
    (problem,) = mistakes(text, {variable: "hunter2"})
    assert (problem.place, problem.text) == (variable, "there is no such variable")
    assert problem.suggestion == f"did you mean {advice}"
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    "variable",
    [
        "WAYPOST_CONFIG",
        "WAYPOST_TEST_ANYTHING",
        "WAYPOST_SERVICE_HOST",
        "WAYPOST_SERVICE_PORT_SMTP",
        "WAYPOST_PORT",
        "WAYPOST_PORT_25_TCP_ADDR",
        "WAYPOST_METRICS_SERVICE_HOST",
        "SMTP_DUP_PORT_25_TCP",
        "WAYPOSTER",
        "USE_INSECURE_AUTH",
    ],
)
def test_variables_that_are_somebody_elses(load_text, variable):
    assert load_text(SMALL, {variable: "x"}).settings.warnings == ()


NAMED = """\
listeners: [{address: "127.0.0.1:2525", mode: submission, allow_plaintext_auth: true}]
accounts: {my-app: {password: in-file}}
upstreams: {ses.eu: {address: "a.example.com:25", tls: starttls, auth: {username: u, password: in-file}}}
routes: {all: {primary: ses.eu}}
"""


def test_passwords_by_the_name_of_their_account_or_upstream(load_text, folder):
    (folder / "secret").write_text("from-file\n")
    variables = {"WAYPOST_ACCOUNT_MY_APP_PASSWORD": "from-variable", "WAYPOST_UPSTREAM_SES_EU_PASSWORD_FILE": "secret"}
    settings = load_text(NAMED, variables).settings
    assert settings.routes.accounts["my-app"].password == "from-variable"
    assert settings.upstreams["ses.eu"].credentials.password.reveal() == "from-file"


def test_a_password_variable_and_its_file_variable(mistakes):
    both = {"WAYPOST_ACCOUNT_MY_APP_PASSWORD": "hunter2", "WAYPOST_ACCOUNT_MY_APP_PASSWORD_FILE": "secret"}
    problems = mistakes(NAMED, both)
    assert problems[0].place == "WAYPOST_ACCOUNT_MY_APP_PASSWORD"
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"", "is empty"), (b"\xff", "not UTF-8"), (b"a\nb", "one line")]
)
def test_a_password_file_that_cannot_be_used(mistakes, folder, content, words):
    if content is not None:
        (folder / "secret").write_bytes(content)
    (problem,) = mistakes(NAMED, {"WAYPOST_ACCOUNT_MY_APP_PASSWORD_FILE": "secret"})
    assert (problem.place, problem.key) == ("WAYPOST_ACCOUNT_MY_APP_PASSWORD_FILE", "accounts.my-app.password_file")
    assert words in problem.text
