"""Access tokens: kept, renewed, shared; and every way in which an endpoint can fail, over TLS on loopback."""

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from rig.certificates import Certificates
from rig.token_endpoint import TokenEndpoint
from waypost.net.oauth import TokenError, granted
from waypost.net.tokens import TokenSource, read_refresh_token, write_refresh_token
from waypost.routing.login import OAuth2
from waypost.smtp.sasl import Secret

SECRETS = ("refresh-secret", "client-secret", "access-")


@pytest.fixture
def endpoint(certificates: Certificates) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(certificates) as started:
        started.refresh_tokens["refresh-secret"] = "me@example.com"
        yield started


class Stage:
    """A source in front of an endpoint, with a clock that stands still."""

    def __init__(self, endpoint: TokenEndpoint, **more: Any) -> None:
        self.time = 1000.0
        self.told: list[str] = []
        fields: dict[str, Any] = {
            "token_url": f"{endpoint.url}/token",
            "client_id": "waypost",
            "client_secret": Secret("client-secret"),
            "refresh_token": Secret("refresh-secret"),
            "ca_file": str(endpoint.certificates.ca_file),
        }
        self.source = TokenSource(
            "office", OAuth2(**(fields | more)), lambda: self.time, lambda: 0.5, lambda _, how: self.told.append(how)
        )

    async def token(self, refused: str | None = None) -> str:
        return (await self.source.token(None if refused is None else Secret(refused))).reveal()

    async def failure(self) -> TokenError:
        with pytest.raises(TokenError) as caught:
            await self.source.token()
        assert not any(secret in str(caught.value) for secret in SECRETS)
        return caught.value


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_token_is_kept_while_it_lives(endpoint: TokenEndpoint) -> None:
    stage = Stage(endpoint)
    assert await stage.token() == "access-1"
    stage.time += 3000
    assert await stage.token() == "access-1"
    assert endpoint.asked == [
        {
            "grant_type": "refresh_token",
            "client_id": "waypost",
            "client_secret": "client-secret",
            "refresh_token": "refresh-secret",
        }
    ]


async def test_everybody_waits_for_one_request(endpoint: TokenEndpoint) -> None:
    endpoint.silent = threading.Event()
    stage = Stage(endpoint)
    waiting = [asyncio.create_task(stage.token()) for _ in range(20)]
    gone = asyncio.create_task(stage.token())
    await asyncio.sleep(0)
    gone.cancel()  # who goes away takes nothing with him
    endpoint.silent.set()
    assert set(await asyncio.gather(*waiting)) == {"access-1"}
    assert len(endpoint.asked) == 1
    assert stage.told == ["fetched"]


async def test_it_is_renewed_before_its_end_and_nobody_waits(endpoint: TokenEndpoint) -> None:
    stage = Stage(endpoint)
    await stage.token()
    stage.time += 3600 - 300 * 1.5 + 1  # a margin of five minutes and half as much by chance
    endpoint.silent = threading.Event()
    assert await stage.token() == "access-1"
    assert await stage.token() == "access-1"
    endpoint.silent.set()
    await until(lambda: stage.told == ["fetched", "fetched"])
    assert await stage.token() == "access-2"
    assert len(endpoint.asked) == 2


async def test_while_it_lives_a_failure_to_renew_it_harms_nobody(endpoint: TokenEndpoint) -> None:
    stage = Stage(endpoint)
    await stage.token()
    stage.time += 3300
    endpoint.plan({"error": "temporarily_unavailable"}, {"error": "temporarily_unavailable"})
    assert await stage.token() == "access-1"
    await until(lambda: stage.told == ["fetched", "failed"])
    assert await stage.token() == "access-1"
    assert len(endpoint.asked) == 2, "asked again at once"
    stage.time += 31
    assert await stage.token() == "access-1"
    await until(lambda: stage.told == ["fetched", "failed", "failed"])
    assert len(endpoint.asked) == 3
    stage.time += 300
    assert await stage.token() == "access-2", "its end has come, so this one waits"


async def test_a_refused_token_is_replaced_once_for_all_who_had_it(endpoint: TokenEndpoint) -> None:
    stage = Stage(endpoint)
    first = await stage.token()
    assert await stage.token(refused=first) == "access-2"
    assert await stage.token(refused=first) == "access-2", "another had seen to it"
    assert len(endpoint.asked) == 2


async def test_client_credentials(endpoint: TokenEndpoint) -> None:
    stage = Stage(endpoint, grant="client_credentials", refresh_token=None, scope="https://mail.example/.default")
    assert await stage.token() == "access-1"
    [asked] = endpoint.asked
    assert asked == {
        "grant_type": "client_credentials",
        "client_id": "waypost",
        "client_secret": "client-secret",
        "scope": "https://mail.example/.default",
    }


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": "invalid_grant", "error_description": "Token has been revoked."}, "invalid_grant: Token has been"),
        (
            {"error": "invalid_client", "error_description": "for client-secret\r\n250 OK"},
            "invalid_client: for (secret) 250",
        ),
        ({"error": "x" * 5000}, "xxx"),
        (b"<html>Service unavailable</html>", "nothing that makes sense"),
        (b"[]", "nothing that makes sense"),
        (b"", "nothing that makes sense"),
        ({}, "no access token"),
        ({"access_token": 5}, "no access token"),
        ({"access_token": "two\r\nlines"}, "no access token"),
        ({"access_token": "t", "token_type": "mac"}, "type mac"),
        (b"x" * 300_000, "endless"),
    ],
)
async def test_what_the_endpoint_says_is_told_in_its_words(endpoint: TokenEndpoint, answer: Any, words: str) -> None:
    stage = Stage(endpoint)
    endpoint.plan(answer)
    with capture_logs() as logs:
        error = await stage.failure()
    assert words in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 500
    [record] = logs
    assert (record["event"], record["log_level"], record["upstream"]) == ("token_not_fetched", "error", "office")
    assert record["reason"] == str(error)
    assert stage.told == ["revoked" if error.code == "invalid_grant" else "failed"]


async def test_a_slow_endpoint(endpoint: TokenEndpoint) -> None:
    endpoint.silent = threading.Event()
    error = await Stage(endpoint, timeout=0.3).failure()
    assert "no answer within 0.3 s" in str(error)


async def test_an_endpoint_that_is_down(endpoint: TokenEndpoint) -> None:
    assert "cannot be reached" in str(await Stage(endpoint, token_url="https://127.0.0.1:9/token").failure())
    assert "no address" in str(await Stage(endpoint, token_url="https://nowhere.invalid/token").failure())


async def test_its_certificate_is_verified(endpoint: TokenEndpoint) -> None:
    error = await Stage(endpoint, ca_file=None).failure()
    assert "certificate is not valid" in str(error)
    assert not endpoint.asked


async def test_failures_are_remembered_for_a_while_and_longer_each_time(endpoint: TokenEndpoint) -> None:
    stage = Stage(endpoint)
    endpoint.plan(*[{"error": "server_error"}] * 20)
    asked = []
    for _ in range(120):
        await stage.failure()
        asked.append(len(endpoint.asked))
        stage.time += 1
    assert asked[:8] == [1, 1, 2, 2, 2, 2, 3, 3]
    assert asked[-1] < 8
    endpoint._plans.clear()
    stage.time += 60
    assert await stage.token() == "access-1"


async def test_a_rotated_token_is_kept_in_its_file(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("refresh-secret\n")
    link = tmp_path / "link"
    link.symlink_to(file)
    endpoint.rotates = True
    stage = Stage(endpoint, refresh_token=None, refresh_token_file=str(link))
    first = await stage.token()
    assert file.read_text() == "refresh-2\n"
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "token"]
    await stage.token(refused=first)
    assert endpoint.asked[-1]["refresh_token"] == "refresh-2"


async def test_who_logs_in_anew_meanwhile_is_not_overruled(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("refresh-secret\n")
    endpoint.rotates = True
    endpoint.refresh_tokens["by-hand"] = "me@example.com"
    endpoint.silent = threading.Event()
    stage = Stage(endpoint, refresh_token=None, refresh_token_file=str(file))
    asking = asyncio.create_task(stage.token())
    await until(lambda: endpoint.heard)
    file.write_text("by-hand\n")
    endpoint.silent.set()
    first = await asking
    assert file.read_text() == "by-hand\n"
    await stage.token(refused=first)
    assert endpoint.asked[-1]["refresh_token"] == "by-hand"


@pytest.mark.parametrize("in_a_file", [True, False])
async def test_a_rotated_token_that_cannot_be_written_is_kept_in_memory(
    endpoint: TokenEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_a_file: bool
) -> None:
    file = tmp_path / "token"
    file.write_text("refresh-secret\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)  # tests run as root, whom no mode stops
    endpoint.rotates = True
    stage = Stage(endpoint, **({"refresh_token": None, "refresh_token_file": str(file)} if in_a_file else {}))
    with capture_logs() as logs:
        first = await stage.token()
        await stage.token(refused=first)
    assert [fields["refresh_token"] for fields in endpoint.asked] == ["refresh-secret", "refresh-2"]
    warned = [record for record in logs if record["event"] == "refresh_token_not_kept"]
    assert "cannot be written" in warned[0]["reason"] if in_a_file else "refresh_token_file" in warned[0]["reason"]
    if in_a_file:  # somebody logs in again: what he writes counts
        endpoint.refresh_tokens["by-hand"] = "me@example.com"
        file.write_text("by-hand\n")
        await stage.token(refused="access-2")
        assert endpoint.asked[-1]["refresh_token"] == "by-hand"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two\nlines", b"\xff"])
def test_a_file_without_a_refresh_token(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TokenError, match="token"):
        read_refresh_token(str(file))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    write_refresh_token(str(file), Secret("abc"))
    assert read_refresh_token(str(file)) == Secret("abc")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("exists", [True, False])
def test_what_root_writes_belongs_to_whom_it_is_for(tmp_path: Path, exists: bool) -> None:
    file = tmp_path / "token"
    if exists:
        file.write_text("old\n")
    os.chown(file if exists else tmp_path, 1234, 4321)
    write_refresh_token(str(file), Secret("abc"))
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 4321)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_lifetime_that_no_float_can_be() -> None:
    assert granted({"access_token": "a", "expires_in": 10**400}).lifetime == 86400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["access_token", "token_type", "expires_in", "refresh_token"]), json_values))
def test_no_answer_raises_anything_but_a_token_error(said: dict[str, Any]) -> None:
    try:
        made = granted(said)
    except TokenError:
        return
    assert 0 < made.lifetime <= 86400
    for token in (made.access, made.refresh):
        assert token is None or (token.reveal().isprintable() and token.reveal().isascii())
