"""How the relay misbehaves towards some addresses; the table is in `relay`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

Action: TypeAlias = Literal["reject", "hang", "drop", "bounce", "out of office"]
Stage: TypeAlias = Literal["mail", "rcpt", "data", "end"]
#: Where an absence is answered to: RFC 3834 wants Return-Path, some programs take Reply-To.
Target: TypeAlias = Literal["Return-Path", "Reply-To"]

#: Those that answer by mail: the message is taken first.
ANSWERING = ("bounce", "out of office")
_USUAL: dict[Action, Stage] = {"reject": "rcpt"}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One misbehaviour, as ordered."""

    address: str  #: lower case; "" is part of every address, "<>" is the null sender and nothing else
    action: Action
    stage: Stage
    code: int
    times: int | None  #: how often it still acts; None means until cleared
    seconds: float
    via: str  #: of those that answer by mail: where they post it, "host:port"
    target: Target
    cleared: threading.Event

    def meets(self, address: str) -> bool:
        return address == "" if self.address == "<>" else self.address in address.lower()


class Rules:
    """The rules there are; the first that matches acts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._cleared = threading.Event()

    def add(
        self,
        address: str,
        action: Action,
        *,
        stage: Stage | None,
        code: int,
        times: int | None,
        seconds: float,
        via: str,
        target: Target,
    ) -> None:
        """Raises ValueError for a rule that makes no sense."""
        stage = stage or _USUAL.get(action, "end")
        if action not in get_args(Action) or stage not in get_args(Stage):
            raise ValueError(f"no {action!r} at {stage!r}; there are {get_args(Action)} at {get_args(Stage)}")
        if action in ANSWERING and (stage != "end" or not via):
            raise ValueError(f"{action!r} comes after the end and needs a `via`, host:port")
        with self._lock:
            self._rules.append(
                Rule(
                    address=address.lower(),
                    action=action,
                    stage=stage,
                    code=code,
                    times=times,
                    seconds=seconds,
                    via=via.removeprefix("smtp://"),
                    target=target,
                    cleared=self._cleared,
                )
            )

    def clear(self) -> None:
        """Forget them and let go of whoever hangs."""
        with self._lock:
            self._rules.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def take(self, stage: Stage, addresses: Sequence[str]) -> Rule | None:
        """The rule that acts on these addresses at this stage, counted."""
        with self._lock:
            for place, rule in enumerate(self._rules):
                if rule.stage == stage and any(rule.meets(address) for address in addresses):
                    if rule.times is not None:
                        self._rules[place : place + 1] = [replace(rule, times=rule.times - 1)] * (rule.times > 1)
                    return rule
        return None
