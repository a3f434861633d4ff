"""Whom to follow: who is named, who belongs to a queue or a group, and who places calls.

A call's agent is known by an id, or by the token that the call was sent with. Laws of the latter:

* A token is shown to one host only: the API that its call went to, if that is the one that we read from.
* It is shown at most once, however many calls it pays for; it is kept under a keyed hash, and never as itself.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from call_initiation.agents.users import user_id
from call_initiation.calls import endpoints
from call_initiation.calls.observation import Observation
from call_initiation.errors import SettingsError
from call_initiation.privacy import KeyedHash

_TOKENS: Final = 10_000
_AGENT_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
"""What can stand in a topic; the API's ids are UUIDs."""


@dataclass(frozen=True, slots=True)
class Following:
    """Whom to follow.

    Attributes:
        agent_ids: These users.
        queue_ids: The members of these queues.
        group_ids: The members of these groups.
        as_seen: Whoever places a call, from the first one on.

    Raises:
        SettingsError: It is nobody, or an id isn't one.
    """

    agent_ids: Sequence[str] = ()
    queue_ids: Sequence[str] = ()
    group_ids: Sequence[str] = ()
    as_seen: bool = False

    def __post_init__(self) -> None:
        """Refuse what can't be followed."""
        given = {name: getattr(self, name) for name in ("agent_ids", "queue_ids", "group_ids")}
        for name in (name for name, ids in given.items() if isinstance(ids, str)):  # it would be taken by the letter
            raise SettingsError(name, "one text", "a list of ids, of one too")
        if not self.as_seen and not any(given.values()):
            raise SettingsError("follow_agents", "nobody", "agent_ids, queue_ids, group_ids or as_seen=True")
        for name, ids in given.items():
            for strange in (one for one in ids if followed_as(one) is None):
                raise SettingsError(name, repr(strange), "ids of letters, digits and hyphens, such as UUIDs")
            object.__setattr__(self, name, tuple(filter(None, map(followed_as, ids))))


def followed_as(agent_id: object) -> str | None:
    """Return an id as it stands in a topic, or None if it can't."""
    return user_id(agent_id) if isinstance(agent_id, str) and _AGENT_ID.fullmatch(agent_id) else None


class TokenUsers:
    """Whose the tokens of calls are. Asked on the recorder's thread, told on the feed's.

    Args:
        hashes: Under which the tokens are kept.
        base_url: The API that may be asked.
        ask: Has somebody find out whose a token is; given the token and what to tell the user's id to.
    """

    def __init__(self, hashes: KeyedHash, base_url: str, ask: Callable[[str, Callable[[str], None]], None]) -> None:
        self._hashes = hashes
        self._origin = _origin(urlsplit(base_url))
        self._ask = ask
        self._users: OrderedDict[str, str | None] = OrderedDict()

    def of(self, observation: Observation) -> str | None:
        """Return the user of a call's token, if it is known."""
        token = _token(observation)
        return None if token is None else self._users.get(self._hashes.digest(token))

    def notice(self, observation: Observation) -> None:
        """See to it that the user of a call's token is known soon; a token is asked about once."""
        token = _token(observation)
        if token is None or _origin(observation.url) != self._origin:
            return
        digest = self._hashes.digest(token)
        if digest in self._users:
            return
        self._users[digest] = None
        if len(self._users) > _TOKENS:
            self._users.popitem(last=False)
        self._ask(token, lambda user_id: self._users.update({digest: user_id}))


class Callers:
    """Who places calls: tells the feed of each agent once. Used on the recorder's thread.

    Args:
        tokens: Whose the tokens are; None where they aren't to be shown to anybody.
        seen: Told of each agent; None where nobody is followed for that.
    """

    def __init__(self, tokens: TokenUsers | None, seen: Callable[[str], None] | None) -> None:
        self._tokens = tokens
        self._seen = seen

    def of_token(self, observation: Observation) -> str | None:
        """Return the user of a call's token, if it is known."""
        return None if self._tokens is None else self._tokens.of(observation)

    def notice(self, observation: Observation) -> None:
        """Note who places a call."""
        said, _ = endpoints.told(observation.extension)
        if observation.endpoint.user_id is None and said is None and self._tokens is not None:
            self._tokens.notice(observation)
        if self._seen is not None:
            agent_id = observation.endpoint.user_id or said or self.of_token(observation) or _in_body(observation)
            if (known := followed_as(agent_id)) is not None:
                self._seen(known)


def _in_body(observation: Observation) -> str | None:
    return endpoints.payload(observation.content()).agent_id


def _token(observation: Observation) -> str | None:
    headers: list[tuple[bytes, bytes]] = observation.headers.raw
    for name, value in headers:
        scheme, _, token = value.decode("latin-1").partition(" ")
        if name.lower() == b"authorization" and scheme.lower() == "bearer" and token.strip():
            return token.strip()
    return None


def _origin(url: Any) -> tuple[str, str, int]:
    """Return a URL's scheme, host and port; the standard library's objects and httpx's have the same names for them."""
    host = getattr(url, "hostname", None) or getattr(url, "host", "")
    return str(url.scheme), str(host), endpoints.port(url.scheme, url.port)
