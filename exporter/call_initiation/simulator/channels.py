"""Notification channels without sockets: who may listen, to what, and which change is told on which line.

Facts are of the official SDK and its documentation: 1,000 topics a channel; 20 channels per user and application, the
21st evicting the oldest; one socket a channel, a second one displacing the first; a life of 24 hours; a combined topic
`v2.users.{id}?a&b` of at most 200 characters counts as one, and its events come under the single names. The live API
fails a whole request for one topic that it rejects unless `ignoreErrors=true`; here that is taken for granted.

Laws:
1. A change is told once on each line that is subscribed to it, however many of its topics name it.
2. What happens while a channel has no socket is told to nobody, then or later.
3. A request is done whole or not at all.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

from call_initiation import nesting
from call_initiation.simulator.disturbances import CALM_LINES, Strike
from call_initiation.simulator.exchange import Request, made_up_id, stream
from call_initiation.simulator.faults import BAD_REQUEST, Finding
from call_initiation.simulator.frames import PONG, TOLD, Voice, huge, notice
from call_initiation.simulator.lines import Ending, Intervals, Line
from call_initiation.simulator.staff import OrgChange
from call_initiation.simulator.views import timestamp

MOST_TOPICS: Final = 1000
MOST_CHANNELS: Final = 20
LONGEST_TOPIC: Final = 200

_PATH: Final = "/api/v2/notifications/channels"
_TOPIC: Final = re.compile(r"v2\.users\.([^.?]+)(?:\.([^?&]+)|\?([^?]+))")
_NAMES: Final = frozenset({name for names in TOLD.values() for name in names} | {"outofoffice"})

Json = dict[str, Any]
Topics = dict[str, tuple[str, frozenset[str]]]


@dataclass(slots=True)
class Channel:
    """One channel.

    Attributes:
        id: Its id, with which its socket is opened.
        owner: The user and application that made it.
        expires_at: When its life ends, seconds since the epoch.
        topics: Which names of which user each subscribed topic stands for.
        line: Its open socket, if there is one.
    """

    id: str
    owner: str
    expires_at: float
    topics: Topics = field(default_factory=Topics)
    line: Line | None = None
    _heard: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def subscribe(self, topics: Topics) -> None:
        """Replace the subscriptions."""
        self.topics, self._heard = topics, {}
        for user_id, names in topics.values():
            self._heard.setdefault(user_id, set()).update(names)

    def hears(self, user_id: str, name: str) -> bool:
        """Say whether it is subscribed to what is told of a user under that name."""
        return name in self._heard.get(user_id, ())


class Channels:
    """All channels of an organisation.

    Args:
        seed: Where all chance comes from.
        user_ids: Whose topics exist.
        intervals: The protocol's times.
    """

    def __init__(self, seed: int, user_ids: Collection[str], intervals: Intervals) -> None:
        self.disturbances = CALM_LINES
        self._user_ids = frozenset(user_ids)
        self._intervals = intervals
        self._random = stream(seed, "channels")
        self._voice = Voice(seed)
        self._channels: dict[str, Channel] = {}

    def answer(self, request: Request, owner: str, now: float) -> object | Finding:
        """Answer a request about channels: the body's value (None for no body), or what is wrong with it."""
        match request.method, request.path.removeprefix(_PATH).split("/")[1:]:
            case "POST", []:
                return self._shown(self._create(owner, now), request)
            case "GET", []:
                return {"entities": [self._shown(channel, request) for channel in self._of(owner)]}
            case method, [channel_id, "subscriptions"] if self._is_owned(channel_id, owner):
                return self._subscriptions(method, self._channels[channel_id], request.body)
            case _:
                return Finding("not.found")

    def connect(self, channel_id: str, now: float) -> Line | None:
        """Open a channel's socket, displacing an earlier one; None where there is no such channel."""
        channel = self._channels.get(channel_id)
        if channel is None:
            return None
        self._dismiss(channel, "Another socket took this channel.", now)
        channel.line = Line(channel_id, channel.expires_at, self._intervals, self._random, now)
        return channel.line

    def disconnect(self, line: Line) -> None:
        """Note that a socket is gone; the channel stays."""
        channel = self._channels.get(line.channel_id)
        if channel is not None and channel.line is line:
            channel.line = None

    def hear(self, line: Line, text: str, now: float) -> None:
        """Take what a client says: a ping is answered, all else is passed over."""
        try:
            said: object = nesting.loads(text)
        except ValueError:
            return
        if said == {"message": "ping"}:
            line.say(PONG, now, self.disturbances)

    def advance(self, changes: Iterable[OrgChange], now: float) -> None:
        """Tell changes to those who listen, and do what the time asks for."""
        for change in changes:
            self._tell(change, now)
        for channel in [one for one in self._channels.values() if one.expires_at <= now]:
            del self._channels[channel.id]
            if channel.line is not None:
                channel.line.tick(now, self.disturbances)
        for line in self._lines():
            line.tick(now, self.disturbances)

    def strike(self, strike: Strike, now: float) -> None:
        """Do something to every open socket."""
        for channel in [one for one in self._channels.values() if one.line is not None]:
            self._strike(strike, channel, cast("Line", channel.line), now)

    def _strike(self, strike: Strike, channel: Channel, line: Line, now: float) -> None:
        match strike:
            case Strike.DROP:
                line.end(Ending.CUT, now)
            case Strike.HALF_OPEN:
                line.is_dead = True
            case Strike.GARBAGE:
                line.litter(now)
            case Strike.HUGE:
                line.say(huge(), now, CALM_LINES)
            case Strike.CLOSING:
                line.warn(notice("v2.system.socket_closing", "Maintenance."), now, self.disturbances)
            case Strike.EVICT:
                self._evict(channel, now)
            case _:  # Strike.REVOKE
                topic = f"v2.system.token_revoked.{made_up_id(self._random)}"
                line.warn(notice(topic, "The token was revoked."), now, self.disturbances)

    def _create(self, owner: str, now: float) -> Channel:
        while len(owned := list(self._of(owner))) >= MOST_CHANNELS:
            self._evict(owned[0], now)
        channel = Channel(made_up_id(self._random), owner, now + self._intervals.life)
        self._channels[channel.id] = channel
        return channel

    def _evict(self, channel: Channel, now: float) -> None:
        del self._channels[channel.id]
        self._dismiss(channel, "The channel is no longer kept.", now)

    def _dismiss(self, channel: Channel, message: str, now: float) -> None:
        if channel.line is not None:
            topic = f"v2.system.no_longer_subscribed.{channel.id}"
            channel.line.say(notice(topic, message), now, self.disturbances)
            channel.line.end(Ending.CLOSED, now)

    def _of(self, owner: str) -> Iterator[Channel]:
        return (channel for channel in self._channels.values() if channel.owner == owner)

    def _is_owned(self, channel_id: str, owner: str) -> bool:
        channel = self._channels.get(channel_id)
        return channel is not None and channel.owner == owner

    def _lines(self) -> list[Line]:
        return [channel.line for channel in self._channels.values() if channel.line is not None]

    def _shown(self, channel: Channel, request: Request) -> Json:
        host = request.headers.get("host", "localhost")
        return {
            "id": channel.id,
            "connectUri": f"ws://{host}/notifications/{channel.id}",
            "expires": timestamp(channel.expires_at + self.disturbances.skew),
        }

    def _subscriptions(self, method: str, channel: Channel, body: bytes) -> object | Finding:
        if method == "GET":
            return {"entities": [_permitted(topic) for topic in channel.topics]}
        if method == "DELETE":
            channel.subscribe({})
            return None
        if method not in {"PUT", "POST"}:
            return Finding("not.found")
        topics = _topics(body)
        kept = channel.topics if method == "POST" else {}
        return Finding(BAD_REQUEST) if topics is None else self._subscribe(channel, kept, topics)

    def _subscribe(self, channel: Channel, kept: Topics, topics: Iterable[str]) -> object | Finding:
        reasons = {topic: self._reason(topic) for topic in topics}
        wanted = kept | {topic: _parsed(topic) for topic, reason in reasons.items() if not reason}
        if len(wanted) > MOST_TOPICS:
            return Finding(BAD_REQUEST)
        channel.subscribe(wanted)
        return {"entities": [_rejected(topic, why) if why else _permitted(topic) for topic, why in reasons.items()]}

    def _reason(self, topic: str) -> str:
        """Say why a topic is rejected; an empty text says that it isn't."""
        user_id, names = _parsed(topic)
        if not names or not names <= _NAMES or len(topic) > LONGEST_TOPIC:
            return "There is no such topic."
        return "" if self._is_user(user_id) else "There is no such user."

    def _is_user(self, user_id: str) -> bool:
        return user_id in self._user_ids and user_id not in self.disturbances.deleted

    def _tell(self, change: OrgChange, now: float) -> None:
        if not self._is_user(change.agent_id):
            return
        listening = [channel for channel in self._channels.values() if channel.line is not None]
        for name in TOLD[change.part]:
            lines = [cast("Line", one.line) for one in listening if one.hears(change.agent_id, name)]
            for frame in self._voice.frames(change, name, self.disturbances) if lines else ():
                for line in lines:
                    line.deliver(frame, now, self.disturbances)


def _topics(body: bytes) -> dict[str, None] | None:
    """Return the topics that a body of `[{"id": topic}]` names, each once, or None for another body."""
    try:
        listed: object = nesting.loads(body)
    except ValueError:
        return None
    if not isinstance(listed, list):
        return None
    ids = [cast("Json", one).get("id") if isinstance(one, dict) else None for one in cast("list[object]", listed)]
    return dict.fromkeys(cast("list[str]", ids)) if all(isinstance(one, str) for one in ids) else None


def _parsed(topic: str) -> tuple[str, frozenset[str]]:
    """Return the user and the names that a topic stands for; no names for one that can't be read."""
    read = _TOPIC.fullmatch(topic)
    if read is None:
        return "", frozenset()
    user_id, one, many = read.groups()
    return user_id, frozenset(many.split("&") if many else [one])


def _permitted(topic: str) -> Json:
    return {"id": topic, "state": "Permitted"}


def _rejected(topic: str, reason: str) -> Json:
    return {"id": topic, "state": "Rejected", "rejectionReason": reason}
