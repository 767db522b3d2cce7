"""`python -m panicmail.sandbox`: a GitLab and a mail relay to try panicmail against, until Ctrl-C.

Says where they are and what a configuration needs, then tells of each mail and each issue as it comes. Issues and
mails can be looked at in a browser too.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import Received, SandboxRelay


def main(arguments: Sequence[str] | None = None) -> int:
    wanted = _parse(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with (
        SandboxGitLab(wanted.gitlab_port) as gitlab,
        SandboxRelay(wanted.relay_port, web_port=wanted.mail_port) as relay,
    ):
        _say(f"gitlab   {gitlab.url}")
        _say(f"project  {gitlab.project}")
        _say(f"token    {gitlab.token}")
        _say(f"relay    {relay.url}")
        _say(f"mails    {relay.web_url}/")
        _tell(gitlab, relay, ended)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m panicmail.sandbox", description=__doc__)
    parser.add_argument("--gitlab-port", type=int, default=0, metavar="N", help="0, the default, takes a free one")
    parser.add_argument("--relay-port", type=int, default=0, metavar="N", help="0, the default, takes a free one")
    parser.add_argument(
        "--mail-port", type=int, default=0, metavar="N", help="of the page that shows the mails; the same"
    )
    return parser.parse_args(arguments)


def _tell(gitlab: SandboxGitLab, relay: SandboxRelay, ended: threading.Event) -> None:
    """Tell what comes, until `ended`."""
    issues = mails = 0
    while not ended.wait(0.1):
        for issue in gitlab.issues[issues:]:
            _say(f"issue    #{issue['iid']} {issue['title']}  {issue['web_url']}")
            issues += 1
        for mail in relay.mails[mails:]:
            _say(_about(mail))
            mails += 1


def _about(mail: Received) -> str:
    text = "".join(f"\n    | {line}" for line in mail.text.splitlines())
    return f"mail     to {', '.join(mail.recipients)}: {mail.subject}{text}"


def _say(text: str) -> None:
    """A line for a terminal; whatever a mail holds, it cannot steer it."""
    shown = "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
    sys.stdout.write(shown + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
