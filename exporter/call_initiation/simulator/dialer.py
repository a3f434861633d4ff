"""Traffic: a pretend dialer that starts calls at a steady mean rate, some of them faulty.

Theory: what it will do is a pure seeded sequence, `plan()`; `run()` keeps to its times and does nothing else. Gaps are
exponential, as the arrivals of independent calls are.

Laws: each planned call is sent at most once: never again, whatever came of it. It takes any client shaped like httpx's
and knows nothing of who watches it.
"""

import asyncio
import json
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from inspect import iscoroutinefunction
from typing import Any, Final, Protocol

from call_initiation.simulator.exchange import Endpoint, made_up_id, stream, user_token
from call_initiation.simulator.faults import JSON


class Mistake(StrEnum):
    """What is wrong with a faulty call."""

    TWO_DESTINATIONS = "two_destinations"
    NO_DESTINATION = "no_destination"
    NO_FROM_TYPE = "no_from_type"
    WRONG_TYPE = "wrong_type"
    BROKEN_JSON = "broken_json"
    UNKNOWN_USER = "unknown_user"
    BAD_TOKEN = "bad_token"  # noqa: S105 - the name of a mistake, no secret


class Form(StrEnum):
    """How a call is asked for."""

    OWN = "own"
    """`CreateCallRequest` as the token's own user."""
    ON_BEHALF = "on_behalf"
    """`CreateCallRequest` on behalf of the user in the path."""
    FROM_TO = "from_to"
    """The community thread's shape, the agent in its body."""
    CALLBACK = "callback"
    """`CallCommand`: the call of a callback."""


_FORMS: Final = {Form.ON_BEHALF: 45, Form.OWN: 25, Form.FROM_TO: 25, Form.CALLBACK: 5}
_FITTING: Final = {
    Form.OWN: (Mistake.TWO_DESTINATIONS, Mistake.NO_DESTINATION, Mistake.WRONG_TYPE, Mistake.BROKEN_JSON),
    Form.ON_BEHALF: (Mistake.TWO_DESTINATIONS, Mistake.UNKNOWN_USER, Mistake.BAD_TOKEN),
    Form.FROM_TO: (Mistake.NO_FROM_TYPE, Mistake.NO_DESTINATION),
    Form.CALLBACK: (Mistake.NO_DESTINATION, Mistake.BROKEN_JSON),
}
_CALLER: Final = "+33199000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """One call that will be asked for.

    Attributes:
        at: When, seconds from the start.
        agent_id: Who is to place it.
        form: How it is asked for.
        mistake: What is wrong with it; None for nothing.
        path: Where it is sent.
        headers: What goes with it: token, content type and a request id that never repeats.
        body: Its bytes.
        extensions: What the client is told beside the request; the agent, where the request itself can't say it.
    """

    at: float
    agent_id: str
    form: Form
    mistake: Mistake | None
    path: str
    headers: Mapping[str, str]
    body: bytes
    extensions: Mapping[str, Any]

    @property
    def request_id(self) -> str:
        """The `X-Request-Id` under which the organisation's ledger has it."""
        return self.headers["X-Request-Id"]


class Answered(Protocol):
    """What a client's answer must have, as `httpx.Response` does."""

    @property
    def status_code(self) -> int:
        """The answer's status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers."""
        ...

    @property
    def content(self) -> bytes:
        """The answer's body."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What came of one planned call: an answer, or the exception that the client raised."""

    planned: PlannedCall
    answer: Answered | None = None
    error: Exception | None = None


class Client(Protocol):
    """A client with a base URL: `httpx.AsyncClient`, `httpx.Client`, or one shaped like either.

    `post` returns an `Answered`, or is a coroutine function that does; one that isn't runs in a thread.
    """

    @property
    def post(self) -> Callable[..., Any]:
        """Send one POST; called with a path, `content=`, `headers=` and `extensions=`."""
        ...


class Dialer:
    """A pretend dialer.

    Args:
        client: Through which to send; the base URL is its own.
        agent_ids: For whom to place calls; at least one.
        seed: Where the plan comes from.
        rate: Calls a second on average.
        faulty: The share of calls with a mistake in them.
        token: The bearer token of calls on behalf of a user; else the agent's own one, as all other calls use.
        on_result: Told what came of each call, on the event loop.
    """

    def __init__(  # noqa: PLR0913 - independent settings, all but two with a default
        self,
        client: Client,
        agent_ids: Sequence[str],
        seed: int = 1,
        rate: float = 20.0,
        *,
        faulty: float = 0.08,
        token: str | None = None,
        on_result: Callable[[CallResult], None] | None = None,
    ) -> None:
        self._client = client
        self._agent_ids = tuple(agent_ids)
        self._seed = seed
        self._rate = rate
        self._faulty = faulty
        self._token = token
        self._on_result = on_result

    def plan(self) -> Iterator[PlannedCall]:
        """Yield the calls, without end, each time the same ones."""
        source = stream(self._seed, "dialer")
        at = 0.0
        while True:
            at += source.expovariate(self._rate)
            yield self._planned(source, at)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep to the plan until `stop` is set; then wait for the calls under way."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        plan = self.plan()
        planned = next(plan)
        async with asyncio.TaskGroup() as calls:
            stopped = calls.create_task(stop.wait())
            while not await _is_done(stopped, within=started + planned.at - loop.time()):
                calls.create_task(self.place(planned))
                planned = next(plan)

    async def place(self, planned: PlannedCall) -> CallResult:
        """Send one planned call, once; the client's exceptions are results."""
        try:
            result = CallResult(planned=planned, answer=await self._send(planned))
        except Exception as error:  # noqa: BLE001 - the client is anybody's, and so are its exceptions
            result = CallResult(planned=planned, error=error)
        if self._on_result is not None:
            self._on_result(result)
        return result

    async def _send(self, planned: PlannedCall) -> Answered:
        post = self._client.post
        named = {"content": planned.body, "headers": dict(planned.headers), "extensions": dict(planned.extensions)}
        if iscoroutinefunction(post):
            answer: Answered = await post(planned.path, **named)
            return answer
        return await asyncio.to_thread(post, planned.path, **named)

    def _planned(self, source: random.Random, at: float) -> PlannedCall:
        agent_id = source.choice(self._agent_ids)
        form = source.choices(list(_FORMS), list(_FORMS.values()))[0]
        mistake = source.choice(_FITTING[form]) if source.random() < self._faulty else None
        says_agent = form in {Form.ON_BEHALF, Form.FROM_TO}
        return PlannedCall(
            at=at,
            agent_id=agent_id,
            form=form,
            mistake=mistake,
            path=_path(form, agent_id if mistake is not Mistake.UNKNOWN_USER else made_up_id(source), source),
            headers={
                "Authorization": f"Bearer {self._bearer(form, agent_id, mistake)}",
                "Content-Type": JSON,
                "X-Request-Id": made_up_id(source),
            },
            body=_body(form, agent_id, mistake, source),
            extensions={} if says_agent else {"call_initiation": {"agent_id": agent_id}},
        )

    def _bearer(self, form: Form, agent_id: str, mistake: Mistake | None) -> str:
        if mistake is Mistake.BAD_TOKEN:
            return "no-such-token"
        return self._token if self._token and form is Form.ON_BEHALF else user_token(agent_id)


async def _is_done(task: asyncio.Task[bool], within: float) -> bool:
    """Wait for the task for at most so many seconds, and let others run even for none."""
    done, _ = await asyncio.wait({task}, timeout=max(0.0, within))
    return bool(done)


def _path(form: Form, user_id: str, source: random.Random) -> str:
    if form is Form.ON_BEHALF:
        return f"{Endpoint.OWN}/user/{user_id}"
    return f"{Endpoint.OWN}/{made_up_id(source)}" if form is Form.CALLBACK else Endpoint.OWN.value


def _body(form: Form, agent_id: str, mistake: Mistake | None, source: random.Random) -> bytes:
    number = _number(source)
    payload: dict[str, Any] = _from_to(agent_id, number) if form is Form.FROM_TO else {_field(form): number}
    match mistake:
        case Mistake.TWO_DESTINATIONS:
            payload["callUserId"] = str(uuid.UUID(int=0))
        case Mistake.NO_DESTINATION:
            payload["to" if form is Form.FROM_TO else _field(form)] = None
        case Mistake.NO_FROM_TYPE:
            del payload["from"]["type"]
        case Mistake.WRONG_TYPE:
            payload["phoneNumber"] = int(number)
        case Mistake.BROKEN_JSON:
            return json.dumps(payload).encode()[:-1]
        case _:  # no mistake, or none of the body's
            pass
    return json.dumps(payload).encode()


def _number(source: random.Random) -> str:
    """Make up a number in a range that the French numbering plan keeps for fiction (01 99 00)."""
    return f"+3319900{source.randrange(10_000):04d}"


def _field(form: Form) -> str:
    return "callNumber" if form is Form.CALLBACK else "phoneNumber"


def _from_to(agent_id: str, number: str) -> dict[str, Any]:
    return {
        "type": "CALL",
        "from": {"type": "PERSON", "agentId": agent_id, "address": {"phoneNumber": _CALLER, "type": "PERSON"}},
        "to": [{"address": {"phoneNumber": number, "type": "PERSON"}}],
    }
