"""The life of a notification channel's connection as a state machine: no socket, no clock.

One `Channel` is one connection. Whoever owns the socket tells it what was heard and what time it is, and does what it
commands; `notifications` reads the frames. Laws:

* Any text is taken, and nothing is raised. What isn't understood is no sign of life.
* A connection that says nothing is given up within 90 seconds, half-open or not, if `tick` is called every 15 or less.
* A channel that is about to end is replaced before it ends, so that nothing is missed in between.
* One whose token or subscriptions are gone delivers nothing more: it is over at once, successor or not.

The transitions are the table `TRANSITIONS`; `diagram` draws it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from call_initiation.api import notifications
from call_initiation.api.notifications import Ignored, NoLongerSubscribed, Notification, SocketClosing, TokenRevoked

_QUIET_AFTER: Final = 40.0
"""Seconds; a heartbeat comes every 30."""

_SILENT_AFTER: Final = 75.0
"""Seconds; with a tick of 15 or less, silence is noticed within 90."""

_NOTICE: Final = 60.0
"""Seconds; `v2.system.socket_closing` leaves a minute to move."""

_RENEW_BEFORE: Final = 900.0
"""Seconds before the end of a channel's life of 24 hours; a shorter life is renewed at its half at the earliest."""

_PING: Final = '{"message":"ping"}'


class State(StrEnum):
    """Where a connection is in its life."""

    NEW = "new"
    """The socket is being opened."""
    OPEN = "open"
    """The socket is open, and nothing was heard yet."""
    LIVE = "live"
    """Something was heard lately."""
    DRAINING = "draining"
    """It still delivers, and a successor is on its way."""
    CLOSED = "closed"
    """It is over."""


class Input(StrEnum):
    """What can happen to a connection."""

    OPENED = "opened"
    HEARD = "heard"
    QUIET = "quiet"
    SILENT = "silent"
    WARNED = "warned"
    OVERDUE = "overdue"
    LOST = "lost"
    RELEASED = "released"


class Order(StrEnum):
    """What a transition asks for."""

    NOTHING = "nothing"
    PING = "ping"
    RENEW = "renew"
    RECONNECT = "reconnect"


class Reason(StrEnum):
    """Why a connection is replaced; a closed list, fit for a label."""

    CONNECT_FAILED = "connect_failed"
    DROPPED = "dropped"
    SILENT = "silent"
    SOCKET_CLOSING = "socket_closing"
    EXPIRING = "expiring"
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - the name of a reason, no secret
    EVICTED = "evicted"
    """The server no longer keeps our subscriptions: too many channels, or another process took this one."""
    REPLACED = "replaced"
    """By us, in good order: a successor has taken over."""


_OVER: Final = (State.CLOSED, Order.RECONNECT)
_DONE: Final = (State.CLOSED, Order.NOTHING)
_MOVE: Final = (State.DRAINING, Order.RENEW)
_ENDS: Final = {Input.SILENT: _OVER, Input.OVERDUE: _OVER, Input.LOST: _OVER, Input.RELEASED: _DONE}

TRANSITIONS: Final[dict[State, dict[Input, tuple[State, Order]]]] = {
    State.NEW: {
        Input.OPENED: (State.OPEN, Order.PING),
        Input.HEARD: (State.LIVE, Order.NOTHING),
        Input.QUIET: (State.NEW, Order.NOTHING),
        Input.WARNED: _MOVE,
        **_ENDS,
    },
    State.OPEN: {
        Input.OPENED: (State.OPEN, Order.NOTHING),
        Input.HEARD: (State.LIVE, Order.NOTHING),
        Input.QUIET: (State.OPEN, Order.PING),
        Input.WARNED: _MOVE,
        **_ENDS,
    },
    State.LIVE: {
        Input.OPENED: (State.LIVE, Order.NOTHING),
        Input.HEARD: (State.LIVE, Order.NOTHING),
        Input.QUIET: (State.LIVE, Order.PING),
        Input.WARNED: _MOVE,
        **_ENDS,
    },
    State.DRAINING: {
        Input.OPENED: (State.DRAINING, Order.NOTHING),
        Input.HEARD: (State.DRAINING, Order.NOTHING),
        Input.QUIET: (State.DRAINING, Order.PING),
        Input.WARNED: (State.DRAINING, Order.NOTHING),
        **_ENDS,
    },
    State.CLOSED: dict.fromkeys(Input, _DONE),
}
"""For each state and each input: the next state, and what is asked for."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Open another channel and subscribe there, then close this one with `Reason.REPLACED`."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Give this connection up, close its socket if it is open, and make another one after a backoff."""

    reason: Reason


Command = Send | Renew | Reconnect


class Channel:
    """One connection's life.

    Call `tick` after every other call and at least every 15 seconds, and do what it returns.

    Args:
        expires_at: When the channel's life ends, on the clock that `now` is read from.
        now: Seconds on a clock that never steps, best a monotonic one; the same for all methods.
    """

    def __init__(self, expires_at: float, now: float) -> None:
        self.state = State.NEW
        self._heard_at = now
        self._renew_at = expires_at - min(_RENEW_BEFORE, (expires_at - now) / 2)
        self._ends_at = expires_at
        self._ends_for = Reason.EXPIRING
        self._is_pinged = False
        self._commands: list[Command] = []

    def opened(self, now: float) -> None:
        """Note that the socket is open."""
        self._heard_at = now
        self._take(Input.OPENED)

    def received(self, text: str | bytes, now: float) -> tuple[Notification, ...]:
        """Return what a frame says; empty for one that is well and says nothing of concern."""
        said = notifications.read(text)
        if any(isinstance(one, Ignored) for one in said):
            return said
        self._heard_at = now
        self._is_pinged = False
        self._take(Input.HEARD)
        for one in said:
            self._heed(one, now)
        return said

    def tick(self, now: float) -> list[Command]:
        """Return what there is to do, once."""
        quiet_for = now - self._heard_at
        if quiet_for >= _SILENT_AFTER:
            self._take(Input.SILENT, Reason.CONNECT_FAILED if self.state is State.NEW else Reason.SILENT)
        elif quiet_for >= _QUIET_AFTER and not self._is_pinged:
            self._take(Input.QUIET)
        if now >= self._ends_at:
            self._take(Input.OVERDUE, self._ends_for)
        elif now >= self._renew_at:
            self._take(Input.WARNED, Reason.EXPIRING)
        commands, self._commands = self._commands, []
        return commands

    def closed(self, reason: Reason) -> None:
        """Note that the socket is closed or was never opened; `Reason.REPLACED` asks for no other one."""
        if reason is Reason.REPLACED:
            self._commands.clear()
            self._take(Input.RELEASED)
        else:
            self._take(Input.LOST, reason)

    def _heed(self, said: Notification, now: float) -> None:
        match said:
            case SocketClosing():
                self._ends_at = min(self._ends_at, now + _NOTICE)
                self._ends_for = Reason.SOCKET_CLOSING
                self._take(Input.WARNED, Reason.SOCKET_CLOSING)
            case TokenRevoked():
                self._take(Input.LOST, Reason.TOKEN_REVOKED)
            case NoLongerSubscribed():
                self._take(Input.LOST, Reason.EVICTED)
            case _:
                pass

    def _take(self, what: Input, reason: Reason = Reason.DROPPED) -> None:
        self.state, order = TRANSITIONS[self.state][what]
        if order is Order.PING:
            self._is_pinged = True
            self._commands.append(Send(_PING))
        elif order is Order.RENEW:
            self._commands.append(Renew(reason))
        elif order is Order.RECONNECT:
            self._commands = [Reconnect(reason)]


def diagram() -> str:
    """Return the transitions as a Mermaid state diagram; what changes nothing and asks for nothing is left out."""
    arrows = [
        f"    {before} --> {after}: {what}" + ("" if order is Order.NOTHING else f" / {order}")
        for before, row in TRANSITIONS.items()
        for what, (after, order) in row.items()
        if (after, order) != (before, Order.NOTHING)
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.NEW}", *arrows, f"    {State.CLOSED} --> [*]", ""])
