"""`waypost queue` and `waypost trace` as they are installed, with the Waypost that they ask."""

import json
import smtplib
import stat
from pathlib import Path

from rig.ports import free_port
from rig.settings import relaying
from rig.sink import StoringSink
from rig.waiting import wait_until
from rig.waypost import WaypostProcess, waypost

CONTENT = b"Subject: Hello\r\nMessage-ID: <1@app.example.com>\r\n\r\n.dot\r\n"


def said(folder: Path, *words: str, code: int = 0) -> str:
    """What a command prints when it ends with this code."""
    done = waypost(*words, "--config", str(folder / "waypost.yaml"))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def listed(folder: Path, *words: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in said(folder, "queue", "list", "--json", *words).split("\n")[:-1]]


def test_a_message_that_waits_is_seen_exported_held_and_sent(tmp_path: Path, sink: StoringSink) -> None:
    port, nobody = free_port(), free_port()
    settings = relaying(port, f"127.0.0.1:{nobody}", sink.address, spool=tmp_path / "spool", acceptance="hybrid")
    settings["routes"]["all"]["backoff"] = ["1h"]
    settings["spool"]["allow_temporary"] = True
    with WaypostProcess(tmp_path, settings, ports=[port]) as running:
        control = tmp_path / "spool" / "control.sock"
        assert stat.S_IMODE(control.stat().st_mode) == 0o600
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("app@example.com", ["bob@example.net"], CONTENT)
            [waiting] = wait_until(lambda: listed(tmp_path, "--state", "queued"), "a queued delivery")
            number = str(waiting["number"])

            assert waiting["lane"] == "primary:all"
            assert listed(tmp_path, "--upstream", "primary") == [waiting]
            assert listed(tmp_path, "--upstream", "copy1") == []
            assert "primary:all" in said(tmp_path, "queue", "summary")
            assert "\nMessage-ID: <1@app.example.com>\n" in said(tmp_path, "queue", "show", number)
            said(tmp_path, "queue", "export", number, "--to", str(tmp_path / "out"))
            [exported] = (tmp_path / "out").glob("*.eml")
            assert exported.read_bytes().endswith(CONTENT)

            assert said(tmp_path, "queue", "hold", "--sender", "app@*") == "1 delivery held\n"
            assert [each["number"] for each in listed(tmp_path, "--state", "held")] == [waiting["number"]]
            running.wait_for_record("altered", id=waiting["id"], action="hold", delivery=waiting["number"])
            records = [
                json.loads(line) for line in said(tmp_path, "trace", "bob@example.net", "--json").split("\n")[:-1]
            ]
            assert {"received", "altered"} <= {record["event"] for record in records}
            assert "nothing is known" in said(tmp_path, "trace", "<2@app.example.com>", code=1)

            with StoringSink(port=nobody) as back:
                assert said(tmp_path, "queue", "retry", "--all") == "1 delivery due now\n"
                assert wait_until(lambda: back.messages, "the message at its primary")
            wait_until(lambda: listed(tmp_path) == [], "an empty queue")
        assert "relayed" in said(tmp_path, "trace", str(waiting["id"]), "--json")

    assert not control.exists()
    assert "cannot be reached" in said(tmp_path, "queue", "list", code=69)
