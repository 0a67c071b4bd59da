"""Mistakes in what is said of plugins: where, what is wrong, what to do."""

import pytest

BASE = """\
listeners:
  - {address: 127.0.0.1:2525, mode: relay}
upstreams:
  a: {address: a.example.com:25}
  b: {address: b.example.com:25}
plugins:
  mine: {python: ./mine.py}
pools:
  p: {upstreams: [a, b], plugin: mine}
routes:
  r: {primary: p}
"""


@pytest.fixture
def files(folder):
    (folder / "mine.py").write_text("def choose(question):\n    return ['b']\n")
    (folder / "wrong.py").write_text("def choose(question:\n")
    (folder / "empty.py").write_text("def chose(question):\n    return ['b']\n")
    (folder / "text").write_text("no program\n")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("old", "new", "place", "key", "text"),
    [
        ("./mine.py", "./none.py", "7:18", "plugins.mine.python", "none.py cannot be read: No such file"),
        ("./mine.py", "./wrong.py", "7:18", "plugins.mine.python", "wrong.py:1:11: '(' was never closed"),
        ("./mine.py", "empty.py", "7:18", "plugins.mine.python", "there is no function `choose` in empty.py"),
        ("./mine.py", "mine", "7:18", "plugins.mine.python", "no installed package has an entry point 'mine'"),
        ("python: ./mine.py", "exec: ./none", "7:16", "plugins.mine.exec", "there is no file ./none"),
        ("python: ./mine.py", "exec: ./text", "7:16", "plugins.mine.exec", "is not an executable file"),
        ("python: ./mine.py", "exec: no-such-program", "7:16", "plugins.mine.exec", "there is no program"),
        ("python: ./mine.py", "exec: []", "7:16", "plugins.mine.exec", ""),
        ("python: ./mine.py", "timeout: 1s", "7:3", "plugins.mine", "does not say what it is"),
        ("{python:", "{exec: cat, python:", "7:3", "plugins.mine", "cannot be python and exec at once"),
        (".py}", ".py, memory: 1MB}", "7:37", "plugins.mine.memory", "is less than a program needs to start"),
        (".py}", ".py, timeout: soon}", "7:38", "plugins.mine.timeout", "is not a duration"),
        (".py}", ".py, needs: body}", "7:36", "plugins.mine.needs", "is not one of envelope, content"),
        (".py}", ".py, at_once: 0}", "7:38", "plugins.mine.at_once", "at least 1"),
        (".py}", ".py, tiemout: 1s}", "7:29", "plugins.mine.tiemout", "there is no such setting"),
        ("plugin: mine", "plugin: mien", "9:34", "pools.p.plugin", "there is no plugin 'mien'"),
    ],
)
def test_each_mistake_is_said_where_it_is(mistakes, old, new, place, key, text):
    (problem,) = mistakes(BASE.replace(old, new, 1))
    assert (problem.place, problem.key) == (f"c.yaml:{place}", key)
    assert text in problem.text


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("text", ["choose = print\n", "from mine import choose\n", "if True:\n    class choose: ...\n"])
def test_other_ways_to_have_a_function(load_text, folder, text):
    (folder / "other.py").write_text(text)
    assert load_text(BASE.replace("./mine.py", "other.py")).settings.plugins["mine"].command == ("./other.py",)


@pytest.mark.usefixtures("files")
def test_a_plugin_that_nobody_asks(load_text):
    settings = load_text(BASE.replace(", plugin: mine", "")).settings
    assert any("plugins.mine: is not used" in warning for warning in settings.warnings)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("acceptance", ["pass", "hybrid", "spool"])
def test_it_may_need_the_content(load_text, acceptance):
    text = BASE.replace(".py}", ".py, needs: content}").replace("{primary: p", "{primary: p, acceptance: " + acceptance)
    settings = load_text(text + "spool: spool\n").settings
    assert settings.plugins["mine"].needs == "content"
    assert settings.pools["p"].needs_content
