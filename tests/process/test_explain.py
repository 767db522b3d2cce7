"""`panicmail explain`: the contract's document, and a card that shows a stranger's mail without obeying it."""

from __future__ import annotations

import base64
import csv
import inspect
import json
import subprocess
from pathlib import Path

import pytest

from panicmail.cli import explain_command
from panicmail.mail.parse.pool import ParserPool
from tests import forked
from tests.policy_files import MINIMAL
from tests.program import SOON, plain_environ

MAILS = Path(__file__).parents[1] / "mails"

PLAIN = (
    b"From: Rita Lopez <rita@example.com>\r\nSubject: Ransom note\r\nMessage-ID: <a@example.com>\r\n\r\nMy files\r\n"
)


def explain(*arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    where = cwd or Path.cwd()
    return forked.run("panicmail", "explain", *arguments, cwd=where, env=plain_environ({}), within=SOON, stdin=stdin)


def card(raw: bytes) -> str:
    said = explain("-", stdin=raw)
    assert said.returncode == 0, said.stderr
    return said.stdout.decode()


def test_json_has_exactly_the_keys_of_the_contract() -> None:
    said = explain("--json", str(MAILS / "attachments.eml"))
    document = json.loads(said.stdout)
    assert list(document) == [
        "subject", "from", "reply_to", "date", "message_id", "text", "reply_text", "kind", "why", "attachments",
        "defects", "severity", "links", "phones", "authentication", "command", "command_why", "may_act",
    ]  # fmt: skip
    assert document["severity"] is None
    assert document["authentication"] == {"method": "none"}
    assert set(document["attachments"][0]) == {"name", "type", "size", "sha256"}
    assert said.stderr == b""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("out_of_office.eml", "ooo"),
        ("bounce_failed.eml", "bounce"),
        ("list_copy.eml", "list"),
        ("read_receipt.eml", "mdn"),
        ("calendar_reply.eml", "calendar"),
        ("reply_gmail.eml", "human"),
    ],
)
def test_the_kind_is_the_reader_s(file: str, kind: str) -> None:
    assert json.loads(explain("--json", "-", stdin=(MAILS / file).read_bytes()).stdout)["kind"] == kind


def test_the_card_tells_what_an_answer_means() -> None:
    told = card((MAILS / "reply_gmail.eml").read_bytes())
    assert "a person wrote it" in told
    assert "| on it" in told
    assert "yes: acknowledges" in told


@pytest.mark.parametrize(
    ("keyword", "said"), [("auto-generated", "an automatic report"), ("auto-replied", "an automatic reply")]
)
def test_an_alert_is_told_from_an_automatic_reply_and_both_are_of_one_kind(keyword: str, said: str) -> None:
    raw = f"From: a@example.com\r\nAuto-Submitted: {keyword}\r\n\r\ndisk full\r\n".encode()
    assert said in card(raw)
    assert json.loads(explain("--json", "-", stdin=raw).stdout)["kind"] == "auto_reply"


def test_a_yes_that_would_not_count_says_why() -> None:
    told = card((MAILS / "out_of_office.eml").read_bytes().replace(b"ok - I am away", b"ack\r\n\r\n-- \r\nI am away"))
    assert "yes: acknowledges" in told
    assert "it would not count: it is an out-of-office reply" in told


def test_the_card_holds_no_live_link_and_nothing_a_terminal_obeys() -> None:
    raw = PLAIN.replace(b"My files", b"\x1b]0;owned\x07 https://evil.example.com/x").replace(
        b"Ransom", b"\x1b[31mRansom"
    )
    told = card(raw)
    assert not set(told) & {"\x1b", "\x07"}
    assert "https://evil" not in told
    assert "hxxps://evil[.]example[.]com/x" in told


def test_nobody_in_particular_is_said_where_from_is_unclear() -> None:
    told = card(PLAIN.replace(b"Subject", b"From: max@example.com\r\nSubject"))
    assert "nobody in particular" in told


def test_an_empty_mail_is_read_too() -> None:
    assert "Newly written: nothing" in card(b"")


def test_a_missing_file_is_a_sentence_and_exit_status_1(tmp_path: Path) -> None:
    said = explain("nothing.eml", cwd=tmp_path)
    assert said.returncode == 1
    assert said.stderr == b"panicmail: nothing.eml cannot be read: No such file or directory\n"
    assert explain(str(tmp_path)).returncode == 1


def test_it_needs_no_configuration_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "panicmail.toml").write_text("this is no configuration")
    (tmp_path / "rita.eml").write_bytes(PLAIN)
    assert explain("rita.eml", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["panicmail.toml", "rita.eml"]


def test_fifty_megabytes_are_read(tmp_path: Path) -> None:
    body = base64.encodebytes(bytes(37 * 2**20)).replace(b"\n", b"\r\n")
    attached = (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nMy files\r\n--b\r\n'
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename=disk.img\r\n\r\n"
    )
    raw = PLAIN.partition(b"\r\n\r\n")[0] + b"\r\n" + attached + body + b"--b--\r\n"
    assert len(raw) > 50 * 10**6
    (tmp_path / "large.eml").write_bytes(raw)
    document = json.loads(explain("--json", str(tmp_path / "large.eml")).stdout)
    assert [each["size"] for each in document["attachments"]] == [37 * 2**20]
    assert document["defects"] == []


def test_the_daemon_s_patience_is_told_as_it_is() -> None:
    assert inspect.signature(ParserPool).parameters["deadline"].default == explain_command.DAEMONS_PATIENCE


def test_with_a_configuration_it_says_whether_the_sender_is_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "panicmail.toml").write_text(MINIMAL)
    named = ("-c", str(tmp_path / "panicmail.toml"))
    ours, strange = (b"From: %s@example.com\r\nSubject: x\r\n\r\nack\r\n" % name for name in (b"ana", b"rita"))
    assert "Sender: ana (Ana), one of [people]" in explain(*named, "-", stdin=ours).stdout.decode()
    assert "Sender: none of [people]" in explain(*named, "-", stdin=strange).stdout.decode()
    assert json.loads(explain(*named, "--json", "-", stdin=ours).stdout)["from"].endswith("ana@example.com")
    assert explain("-c", "nowhere.toml", "-", stdin=ours, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("text", "command", "why", "may_act"),
    [
        ("bin dran", "yes", "", True),
        ("ack both", "yes_all", "", True),
        ("nie mogę", "no", "", True),
        ("to bo", "hand_over", "", True),
        ("status?", "status", "", True),
        ("akc", "question", "its first line is one letter off a command", True),
        ("ack?", "question", "it asked a question", True),
        ("the server is gone", "nothing", "its first line is no answer panicmail knows", True),
    ],
)
def test_its_json_says_what_the_first_line_would_mean(text: str, command: str, why: str, may_act: bool) -> None:
    raw = (
        f"From: ana@example.com\r\nSubject: Re: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n".encode()
    )
    document = json.loads(explain("--json", "-", stdin=raw).stdout)
    assert (document["command"], document["command_why"], document["may_act"]) == (command, why, may_act)


def test_an_answer_of_a_machine_may_not_act_and_its_json_says_why() -> None:
    raw = b"From: ana@example.com\r\nAuto-Submitted: auto-replied\r\nSubject: Re: x\r\n\r\nack\r\n"
    document = json.loads(explain("--json", "-", stdin=raw).stdout)
    assert (document["command"], document["may_act"]) == ("yes", False)
    assert "never acknowledge" in document["command_why"]


# -- many


def test_a_folder_is_a_line_a_mail_and_a_summary_and_goes_on_past_what_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    (folder / "below").mkdir(parents=True)
    for name in ("reply_gmail", "out_of_office", "bounce_failed"):
        (folder / f"{name}.eml").write_bytes((MAILS / f"{name}.eml").read_bytes())
    (folder / "below" / "list_copy.eml").write_bytes((MAILS / "list_copy.eml").read_bytes())
    (folder / "gone.eml").symlink_to(folder / "nowhere")
    said = explain("--jsonl", str(folder))
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert [line["file"] for line in lines] == [
        "below/list_copy.eml", "bounce_failed.eml", "out_of_office.eml", "reply_gmail.eml",
    ]  # fmt: skip
    assert [line["kind"] for line in lines] == ["list", "bounce", "ooo", "human"]
    alone = json.loads(explain("--json", str(MAILS / "reply_gmail.eml")).stdout)
    assert lines[-1] == {"file": "reply_gmail.eml", **alone}
    assert b"4 mails: " in said.stderr


def test_an_mbox_is_numbered(tmp_path: Path) -> None:
    box = tmp_path / "box"
    mails = [(MAILS / f"{name}.eml").read_bytes().replace(b"\r\n", b"\n") for name in ("reply_gmail", "out_of_office")]
    box.write_bytes(b"".join(b"From someone Mon Nov 30 03:07:00 2026\n" + mail + b"\n" for mail in mails))
    said = explain("--jsonl", str(box))
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert [(line["file"], line["kind"]) for line in lines] == [("box:1", "human"), ("box:2", "ooo")]


def test_the_table_of_a_folder_holds_no_formula(tmp_path: Path) -> None:
    (tmp_path / "one.eml").write_bytes(b"From: a@example.com\r\nSubject: =1+1\r\n\r\nack\r\n")
    head, line = csv.reader(explain("--csv", str(tmp_path)).stdout.decode().splitlines())
    assert head[:4] == ["file", "kind", "from", "subject"]
    assert line[:5] == ["one.eml", "human", "a@example.com", "'=1+1", "yes"]


def test_a_folder_without_mail_is_named(tmp_path: Path) -> None:
    said = explain("--jsonl", str(tmp_path))
    assert said.returncode == 1
    assert b"holds no mail" in said.stderr
