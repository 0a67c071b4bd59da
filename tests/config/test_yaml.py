"""YAML as text: the traps of version 1.1, duplicate keys, aliases, and what is no YAML at all. Defects G13 and S17."""

import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.config.document import parse
from waypost.config.errors import ConfigurationError
from waypost.config.load import read
from waypost.config.write import yaml_text


def data_of(text):
    tree, problems = parse("c.yaml", text.encode())
    assert problems == []
    return tree.data


def one_problem(content):
    tree, (problem,) = parse("c.yaml", content if isinstance(content, bytes) else content.encode())
    assert tree.get(("anything",)) is None
    return problem


@pytest.mark.parametrize("text", ["25:25", "no", "0755", "1_000", "1e3", "yes", "2026-11-22", ".5", "0x1f", "=", "<<x"])
def test_scalars_stay_what_was_written(text):
    assert data_of(f"key: {text}\n{text}: value") == {"key": text, text: "value"}


@pytest.mark.parametrize(("text", "value"), [("", None), ("~", None), ("null", None), ("'null'", "null"), ('""', "")])
def test_nothing_and_the_word_for_it(text, value):
    assert data_of(f"key: {text}") == {"key": value}


def test_every_node_has_its_place():
    tree, _ = parse("c.yaml", b"a:\n  b: [x, {c: y}]\n\n'd e': z\n")
    places = {path: str(tree.place(path)) for path in [("a",), ("a", "b"), ("a", "b", 0), ("a", "b", 1, "c"), ("d e",)]}
    assert places == {
        ("a",): "c.yaml:2:3",
        ("a", "b"): "c.yaml:2:6",
        ("a", "b", 0): "c.yaml:2:7",
        ("a", "b", 1, "c"): "c.yaml:2:14",
        ("d e",): "c.yaml:4:8",
    }
    assert str(tree.place(("d e",), key=True)) == "c.yaml:4:1"
    assert str(tree.place(("a", "b", 7, "c"))) == "c.yaml:2:6"


def test_anchors_and_merge_keys():
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\nmany: {<<: [*b, {z: 4, x: 5}]}"
    assert data_of(text) == {
        "base": {"x": "1", "y": "2"},
        "one": {"y": "3", "x": "1"},
        "many": {"x": "1", "y": "2", "z": "4"},
    }


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "c.yaml:3:1", "is there twice"),
        ("a: [1, 2\nb: 3\n", "c.yaml:1:4", "the [ here has no ] to it"),
        ("a: {b: 1\nc: 3\n", "c.yaml:1:4", "the { here has no } to it"),
        ("a: {b: 1 c: 3}\n", "c.yaml:1:4", "or a comma is missing"),
        ("a: 'b\nc: d\n", "c.yaml:1:4", "the quote that begins here does not end"),
        ("a: 'b'c\n", "c.yaml:1:7", "something behind the end of a value"),
        ('a: "\\d"\n', "c.yaml:1:6", "unknown escape character"),
        ("a: b: c\n", "c.yaml:1:5", "a value has a colon and a space in it"),
        ("a: @b\n", "c.yaml:1:4", "a value cannot begin with '@'"),
        ("a:\n  b 1\n  c: 2\n", "c.yaml:2:3", "a setting without a colon"),
        ("a:\n  b:1\n\n  # why\n  c: 2\n", "c.yaml:2:3", "a setting without a colon"),
        ("b:1\n# why\nc: 2\n", "c.yaml:1:1", "a setting without a colon"),
        ("a:\n  - b\n c: 1\n", "c.yaml:3:2", "not in line with the block that begins on line 1, column 1"),
        ("a:\n  - b 1\n    c: 2\n", "c.yaml:2:5", "a setting without a colon"),
        ("a:\n  b: 1\n  c\nd: 2\n", "c.yaml:3:3", "a setting without a colon"),
        ("a: b\n  c: 2\n", "c.yaml:2:3", "is indented below line 1, which has a value already"),
        ("a:\n  b: 1\n c: 2\n", "c.yaml:3:2", "not in line with the block that begins on line 1, column 1"),
        ("  a: 1\nb: 2\n", "c.yaml:2:1", "does not stand under the first setting of the file"),
        ("a:\n\t- b\n", "c.yaml:2:1", "a tab stands where"),
        ("a: *hunter2\n", "c.yaml:1:4", "begins with *"),
        ("a: *@hunter2\n", "c.yaml:1:5", "begins with *"),
        ("a: !hunter2 b\n", "c.yaml:1:4", "tag"),
        ("a: !<tag:yaml.org,2002:python/name:os.system> b\n", "c.yaml:1:4", "tag"),
        ("a: 1\n---\nb: 2\n", "c.yaml:2:1", "is not YAML"),
        ("? [a, b]\n: c\n", "c.yaml:1:3", "a key that is not one word"),
        ("- a\n", "c.yaml:1:1", "is a list, but a configuration is a mapping of settings"),
        ("hello\n", "c.yaml:1:1", "is just text, but a configuration is a mapping of settings"),
        ("a: \x01\n", "c.yaml:1:4", "control character"),
        (b"a: b\nc: \xff\n", "c.yaml:2:4", "is not UTF-8"),
        ('a: "\\ud800"\n', "c.yaml:1:4", "not valid Unicode"),
        ('a: "\\UFFFFFFFF"\n', "c.yaml", "impossible"),
        ("a: &x [*x]\n", "c.yaml:1:4", "nested too deeply"),
        ("a: {<<: b}\n", "c.yaml:1:9", "not a mapping"),
    ],
)
def test_what_is_not_yaml_or_not_ours(text, place, words):
    problem = one_problem(text)
    assert problem.place == place
    assert words in problem.text
    assert "hunter2" not in str(problem)


def test_a_billion_laughs_is_refused_at_once():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join(['*' + old] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "too many nodes" in one_problem("\n".join(lines)).text


def test_deep_nesting_is_refused():
    assert "nested too deeply" in one_problem("a: " + "[" * 5000 + "]" * 5000).text


def test_s17_g13_a_broken_file_is_an_error_with_its_place(load_text):
    with pytest.raises(ConfigurationError, match=re.escape("c.yaml:2:1: is not YAML")):
        load_text("users: [\n}")


scalars = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
trees = st.recursive(
    st.none() | scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(scalars, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(scalars, trees, min_size=1, max_size=4))
def test_what_is_written_is_read_back(data):
    tree, problems = parse("c.yaml", yaml_text(data).encode())
    assert problems == []
    assert tree.data == data


WORDS = """
listeners upstreams pools routes rules accounts tls spool admin log limits timeouts hostname users email password
downstreams addr user pass selector_algo_path smtp relay listen domain destination_primary destination_backups
timeout_seconds address mode relay submission primary copies to sample a b a:25 127.0.0.1:25 [::1]:25 10% 5m off
starttls implicit strategy weighted weight auth username fingerprint $argon2id$x * <> a@b 10.0.0.0/8 0.0.0.0/0 true
trusted_networks allow_open_relay recipient route account listener backoff intervals acceptance pass null
"""
words = st.sampled_from(WORDS.split())
near_trees = st.recursive(
    st.none() | words | scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=20,
)


def outcome(folder, content):
    path = folder / "fuzz.yaml"
    path.write_bytes(content)
    try:
        return read(str(path), {"HOME": str(folder)}).settings
    except ConfigurationError as error:
        return error.problems


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(words, near_trees, min_size=1, max_size=5))
def test_any_data_gives_settings_or_a_configuration_error(tmp_path_factory, data):
    assert outcome(tmp_path_factory.getbasetemp(), yaml_text(data).encode())


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80) | st.text("abc:,-[]{}&*!|>'\"%@`#? \n\t\\uUx0", max_size=60).map(lambda t: t.encode()))
def test_any_text_gives_settings_or_a_configuration_error(tmp_path_factory, content):
    assert outcome(tmp_path_factory.getbasetemp(), content)


WITH_SECRETS = {
    "listeners": [{"address": "127.0.0.1:2525", "mode": "submission", "allow_plaintext_auth": "true"}],
    "accounts": {"app": {"password": "$argon2id$hunter2"}, "second": {"password": "hunter3\t"}},
    "upstreams": {"a": {"address": "a:25", "tls": "off", "auth": {"username": "u", "password": "hunter4"}}},
    "routes": {"all": {"primary": "b"}},
}
PLACES = [
    ("listeners",),
    ("upstreams", "a", "tls"),
    ("accounts", "app", "route"),
    ("upstreams", "a", "auth", "username"),
]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PLACES), near_trees, st.sampled_from(["", "key: {", "\n- x"]))
def test_whatever_is_wrong_no_error_shows_a_secret(tmp_path_factory, place, value, end):
    data = copy.deepcopy(WITH_SECRETS)
    node = data
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    problems = outcome(tmp_path_factory.getbasetemp(), (yaml_text(data) + end).encode())
    assert "hunter" not in str(problems)
    assert problems
