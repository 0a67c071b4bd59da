"""The command line: what people type, what they read, and the code that scripts get."""

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys

import pytest

from waypost import __version__
from waypost.cli import COMMANDS, main
from waypost.commands import CONFIGURATION, FAILED, FINE, INTERRUPTED, USAGE
from waypost.config.errors import ConfigurationError, Problem

HEAVY = {"pydantic", "starlette", "uvicorn", "structlog", "prometheus_client", "yaml", "asyncio", "argon2"}


def waypost(*words, **options):
    return subprocess.run([sys.executable, "-m", "waypost", *words], capture_output=True, timeout=60, **options)


def command_that(monkeypatch, action):
    """Makes `waypost version` do this instead."""
    monkeypatch.setattr("waypost.commands.version._version", action)
    return ["version"]


@pytest.mark.parametrize("words", [["version"], ["--version"], ["--help"], ["nonsense"]])
def test_what_needs_no_server_loads_no_server(words):
    program = (
        "import sys\nfrom waypost.cli import main\n"
        f"main({words!r})\nprint(*sys.modules, file=sys.stderr)\nsys.stderr.flush()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)

    loaded = {name.partition(".")[0] for name in done.stderr.decode().split()}
    assert "waypost" in loaded
    assert not loaded & HEAVY


def test_the_console_script_and_the_module_are_the_same_program():
    script = os.path.join(os.path.dirname(sys.executable), "waypost")
    done = subprocess.run([script, "--version"], capture_output=True, timeout=60)

    assert (done.returncode, done.stdout) == (0, f"waypost {__version__}\n".encode())
    assert waypost("--version").stdout == done.stdout


def test_without_a_command_the_help_is_an_error(capsys):
    assert main([]) == USAGE
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_and_the_exit_codes(capsys, words):
    assert main(words) == FINE

    shown = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"\n  {name} " in shown
        assert entry.summary in shown
    for code in (0, 1, 2, 69, 75, 78):
        assert f"\n  {code:>2}  " in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_fits_80_columns_and_has_examples(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "200")
    asked = [name]
    while asked:
        words = asked.pop()

        assert main([*words.split(), "--help"]) == FINE

        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: waypost {words} ")
        assert "\nexamples:\n" in shown
        assert [line for line in shown.split("\n") if len(line) > 80] == []
        _, is_there, listed = shown.partition("  SUBCOMMAND\n")
        asked += [f"{words} {below}" for below in re.findall(r"^    ([a-z]+)\b", listed, re.M) if is_there]


def test_help_of_the_program_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    main(["--help"])

    assert [line for line in capsys.readouterr().out.split("\n") if len(line) > 80] == []


def test_help_command_is_the_help_of_that_command(capsys):
    main(["help", "version"])
    first = capsys.readouterr().out
    main(["version", "--help"])

    assert capsys.readouterr().out == first


@pytest.mark.parametrize("name", COMMANDS)
def test_every_module_in_the_table_offers_its_commands(name):
    module = importlib.import_module(f"waypost.commands.{COMMANDS[name].module}")

    assert callable(module.register)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rnu", "there is no command 'rnu'. Did you mean 'run'?"),
        ("helthcheck", "Did you mean 'healthcheck'?"),
        ("xyzzy", "See waypost --help for the list."),
        ("--config", "Options come after the command"),
    ],
)
def test_a_command_that_does_not_exist(capsys, word, said):
    assert main([word]) == USAGE

    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_an_option_that_does_not_exist(capsys):
    assert main(["version", "--yaml"]) == USAGE
    assert "--yaml" in capsys.readouterr().err


def test_an_option_is_not_guessed_from_its_beginning(capsys):
    assert main(["version", "--js"]) == USAGE


def test_version(capsys):
    assert main(["version"]) == FINE
    assert capsys.readouterr().out.startswith(f"waypost  {__version__}\npython   ")

    assert main(["version", "--json"]) == FINE
    found = json.loads(capsys.readouterr().out)
    assert found["waypost"] == __version__
    assert set(found) == {"waypost", "python", "sqlite", "openssl", "uvloop", "system"}


def test_every_mistake_of_a_configuration_is_told_of_and_the_code_is_78(capsys, monkeypatch):
    def fail(_):
        raise ConfigurationError([Problem("a.yaml:1:2", "x", "is unknown", "did you mean y?"), Problem("", "", "two")])

    assert main(command_that(monkeypatch, fail)) == CONFIGURATION

    shown = capsys.readouterr()
    assert shown.err == "a.yaml:1:2: x: is unknown; did you mean y?\ntwo\n"
    assert shown.out == ""


def test_an_interrupt_ends_without_a_traceback(capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    assert main(command_that(monkeypatch, interrupt)) == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_a_defect_is_not_hidden(monkeypatch):
    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main(command_that(monkeypatch, fail))


def test_a_reader_that_has_gone_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "waypost", "version"], stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)

    assert (done.returncode, done.stderr) == (FAILED, b"")


def test_a_real_interrupt_is_code_130():
    # `send` waits for a greeting that does not come.
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-m", "waypost", "send", "--server", server, "--to", "bob@example.org"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as child:
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                child.send_signal(signal.SIGINT)
                assert child.wait(20) == INTERRUPTED
            assert child.stderr is not None
            assert child.stderr.read() == b""
            connection.close()


def test_start_takes_no_time():
    def spent():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    best = 10.0
    for _ in range(5):
        before = spent()
        waypost("version")
        best = min(best, spent() - before)

    assert best < 0.2  # CPU seconds, which other load does not change; 0.06 as written, the server takes 0.5
