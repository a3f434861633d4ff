"""The table of calls under way: noted before the send, free when nothing more is to be told, and in nobody's way."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from call_initiation.calls.client import doors
from call_initiation.calls.endpoints import match
from call_initiation.calls.failures import Failure
from call_initiation.calls.observation import Observation
from call_initiation.calls.tracing import OpenSpan, Tracing
from call_initiation.events import AgentIdSource, Outcome, SpanIds, TransportFailure
from call_initiation.journal import slots
from call_initiation.journal.in_flight import CALLS, InFlight, Table
from call_initiation.journal.slots import SLOT, Call
from limits import no_file_larger_than
from samples import SPAN
from twins import TRUST

AGENT = "9d4b4c1e-0000-4000-8000-000000000001"
PLAIN = "https://api.example.com/api/v2/conversations/calls"
OF_AGENT = f"{PLAIN}/user/{AGENT}"
TOKEN = "canary-7f3a91-secret"
STREAMS = doors("httpx").sync(httpx.HTTPTransport(verify=TRUST), None)._parts.streams
FROM_TO = {
    "from": {"agentId": "7f3a91aa-0000-4000-8000-000000000002"},
    "to": [{"address": {"phoneNumber": "+33199000000"}}],
}


class Desk:
    """A recorder that takes what it is given, or doesn't."""

    def __init__(self) -> None:
        self.submitted: list[Observation] = []
        self.faults: list[str] = []
        self.takes = True

    def submit(self, observation: Observation) -> bool:
        """Take an observation."""
        self.submitted.append(observation)
        return self.takes

    def fault(self, stage: str) -> None:
        """Keep a fault."""
        self.faults.append(stage)


@pytest.fixture
def desk() -> Desk:
    """Return a recorder."""
    return Desk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the table is."""
    return tmp_path / "1.5.table"


@pytest.fixture
def calls(desk: Desk, path: Path) -> Iterator[InFlight]:
    """Yield the calls under way, with a table."""
    calls = InFlight(desk, lambda _: None)
    calls.open(path)
    yield calls
    calls.reset()


def call(url: str = OF_AGENT, body: Any = None, span: SpanIds | None = SPAN, **options: Any) -> Observation:
    """Return a call that is about to be sent."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = httpx.Request("POST", url, json=body or {"phoneNumber": "+33199000000"}, headers=headers, **options)
    endpoint = match("POST", request.url.raw_path)
    assert endpoint is not None
    observation = Observation(endpoint, request, STREAMS, Tracing(), Desk())
    observation.span = None if span is None else OpenSpan(span)
    return observation


def ended(observation: Observation, status: int | None = None, failure: Failure | None = None) -> Observation:
    """Let a call end."""
    observation.status_code, observation.failure = status, failure
    observation.ended_ns = observation.started_ns + 250_000_000
    return observation


def told(path: Path) -> list[Call]:
    """Return what another process would be told."""
    return list(slots.calls(path.read_bytes()))


def test_a_call_is_noted_before_it_is_sent(calls: InFlight, path: Path, desk: Desk) -> None:
    """With all that is known by then."""
    observation = call()
    calls.begin(observation)
    (noted,) = told(path)
    place = calls.place(observation)
    assert place is not None
    assert (place.key, observation.started_at, SPAN) == (noted.begun.key, noted.begun.started_at, noted.begun.span)
    assert ("api.example.com", 443, "/api/v2/conversations/calls/user/{userId}") == (
        noted.begun.server_address,
        noted.begun.server_port,
        noted.begun.endpoint,
    )
    assert (AGENT, AgentIdSource.PATH, None) == (noted.begun.agent_id, noted.begun.id_source, noted.end)
    assert [] == desk.faults


def test_each_call_has_a_key_of_its_own(calls: InFlight, path: Path) -> None:
    """And a slot of its own; a call without a span is noted, too."""
    for span in (SPAN, None, None):
        calls.begin(call(span=span))
    noted = told(path)
    assert 3 == len({one.begun.key for one in noted}) == len({one.slot for one in noted})
    assert [None, None, SPAN] == sorted((one.begun.span for one in noted), key=lambda span: span is not None)
    assert all(one.begun.key for one in noted)


def test_an_accepted_call_is_noted_no_more(calls: InFlight, path: Path, desk: Desk) -> None:
    """From its answer on."""
    observation = call()
    calls.begin(observation)
    assert calls.submit(ended(observation, 202))
    assert ([], [observation], None) == (told(path), desk.submitted, calls.place(observation))


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (400, None),
        (302, None),
        (None, Failure(Outcome.AMBIGUOUS, TransportFailure.READ_TIMEOUT)),
    ],
)
def test_a_failed_call_is_noted_until_it_is_kept(
    status: int | None, failure: Failure | None, calls: InFlight, path: Path
) -> None:
    """With how it ended."""
    observation = call()
    calls.begin(observation)
    assert calls.submit(ended(observation, status, failure))
    (noted,) = told(path)
    assert noted.end is not None
    assert (status, failure, 0.25) == (noted.end.status_code, noted.end.failure, noted.end.duration)
    place = calls.place(observation)
    assert place is not None
    place.free()
    place.free()
    assert [] == told(path)


def test_a_call_that_the_recorder_does_not_take_is_noted_no_more(calls: InFlight, path: Path, desk: Desk) -> None:
    """It is counted there, as dropped."""
    desk.takes = False
    observation = call()
    calls.begin(observation)
    assert not calls.submit(ended(observation, 400))
    assert [] == told(path)


def test_a_call_that_was_never_noted_passes(calls: InFlight, path: Path, desk: Desk) -> None:
    """As one that began before a fork, or when there was no room."""
    assert calls.submit(ended(call(), 400))
    calls.fault("observe")
    assert ([], ["observe"]) == (told(path), desk.faults)


def test_slots_are_used_again(calls: InFlight, path: Path) -> None:
    """More calls than slots, one after another; nothing of an old call shows through."""
    for _ in range(CALLS + 10):
        observation = call(span=None)
        calls.begin(observation)
        calls.submit(ended(observation, 202))
    calls.begin(call())
    (noted,) = told(path)
    assert None is noted.end


def test_where_there_is_no_room_calls_go_on_and_are_counted(calls: InFlight, path: Path, desk: Desk) -> None:
    """One more than there are slots; with the first that ends there is room again."""
    first = call()
    calls.begin(first)
    for _ in range(CALLS - 1):
        calls.begin(call())
    assert [] == desk.faults
    calls.begin(extra := call())
    assert (["in_flight"], CALLS, None) == (desk.faults, len(told(path)), calls.place(extra))
    assert calls.submit(ended(extra, 400))
    calls.submit(ended(first, 202))
    calls.begin(extra)
    assert (["in_flight"], CALLS) == (desk.faults, len(told(path)))


def test_without_a_table_calls_go_on_and_are_counted(desk: Desk) -> None:
    """There may be one later."""
    calls = InFlight(desk, lambda _: None)
    calls.begin(call())
    calls.beat(1)
    calls.close()
    assert (False, ["in_flight"]) == (calls.is_open, desk.faults)


def test_a_fault_of_ours_is_counted_and_costs_no_slot(desk: Desk, path: Path) -> None:
    """Here, of what says whose a token is."""
    calls = InFlight(desk, broken)
    calls.open(path)
    for _ in range(CALLS + 1):
        calls.begin(call(PLAIN))
    assert (["in_flight"] * (CALLS + 1), []) == (desk.faults, told(path))
    calls.begin(call())
    assert (CALLS + 1, 1) == (len(desk.faults), len(told(path)))
    calls.reset()


def broken(_: Observation) -> str | None:
    """Fail as a fault of ours would."""
    raise ZeroDivisionError


def test_an_end_that_cannot_be_noted_is_counted(calls: InFlight, path: Path, desk: Desk) -> None:
    """The call is handed on; for a later process it is one under way."""
    observation = call()
    calls.begin(observation)
    assert calls.submit(ended(observation, 100_000))
    assert (["in_flight"], [observation]) == (desk.faults, desk.submitted)
    assert None is told(path)[0].end


@pytest.mark.parametrize(
    ("url", "body", "extension", "expected"),
    [
        (OF_AGENT, FROM_TO, {"agent_id": "said"}, (AGENT, AgentIdSource.PATH)),
        (PLAIN, FROM_TO, {"agent_id": "said"}, ("said", AgentIdSource.CALLER)),
        (PLAIN, FROM_TO, {}, (FROM_TO["from"]["agentId"], AgentIdSource.BODY)),  # type: ignore[index, call-overload]
        (PLAIN, {"phoneNumber": "from"}, {}, (None, AgentIdSource.NONE)),
        (PLAIN, {"from": "+33199000000"}, {}, (None, AgentIdSource.NONE)),
    ],
)
def test_who_places_the_call_is_noted(  # noqa: PLR0917 - what varies, and the table
    url: str, body: Any, extension: Any, expected: tuple[str | None, AgentIdSource], calls: InFlight, path: Path
) -> None:
    """By whoever says so first, as in the record."""
    calls.begin(call(url, body, extensions={"call_initiation": extension}))
    (noted,) = told(path)
    assert expected == (noted.begun.agent_id, noted.begun.id_source)


def test_a_tokens_user_is_asked_for(desk: Desk, path: Path) -> None:
    """Where nothing that is more trusted says who it is."""
    calls = InFlight(desk, lambda _: AGENT)
    calls.open(path)
    calls.begin(call(PLAIN, FROM_TO))
    (noted,) = told(path)
    assert (AGENT, AgentIdSource.TOKEN) == (noted.begun.agent_id, noted.begun.id_source)
    calls.reset()


def test_a_body_that_only_the_transport_may_read_says_nothing(calls: InFlight, path: Path) -> None:
    """It is left alone."""
    observation = call(PLAIN)
    observation.request = httpx.Request("POST", PLAIN, content=iter([b"{}"]))
    calls.begin(observation)
    assert AgentIdSource.NONE is told(path)[0].begun.id_source


def test_nothing_secret_is_noted(calls: InFlight, path: Path) -> None:
    """No token, no number, no payload; and no id of an agent that looks like one of them."""
    for said in ("+33199000000", "33199000000", TOKEN * 2, "a" * 65):
        calls.begin(call(PLAIN, {"phoneNumber": "+33199000000"}, extensions={"call_initiation": {"agent_id": said}}))
    data = path.read_bytes()
    assert [] == [found for found in (b"33199000000", TOKEN.encode(), b"phoneNumber", b"aaaaaaaa") if found in data]
    assert [None] * 4 == [noted.begun.agent_id for noted in told(path)]


@pytest.mark.parametrize(("url", "port"), [("http://a.example.com", 80), ("https://a:8443", 8443), ("https://a", 443)])
def test_the_port_is_always_known(url: str, port: int, calls: InFlight, path: Path) -> None:
    """The scheme's own where the URL names none."""
    calls.begin(call(url + "/api/v2/conversations/calls"))
    assert port == told(path)[0].begun.server_port


def test_the_table_says_until_when_the_process_lived(calls: InFlight, path: Path) -> None:
    """As often as it is told to."""
    observation = call()
    calls.begin(observation)
    calls.beat(observation.started_at + 3_000_000_000)
    assert 3.0 == told(path)[0].lasted


# -- the file -------------------------------------------------------------------------------------------------------


def is_locked(path: Path) -> bool:
    """Tell whether another process sees a lock."""
    script = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0  # noqa: S603 - our own script


def test_its_file_is_locked_and_has_its_room(calls: InFlight, path: Path) -> None:
    """For its owner alone; there is nothing else in the folder."""
    assert calls.is_open
    found = path.stat()
    assert (0o600, SLOT * (CALLS + 1)) == (found.st_mode & 0o777, found.st_size)
    assert found.st_blocks * 512 >= found.st_size
    assert is_locked(path)
    assert [path] == list(path.parent.iterdir())


def test_a_table_without_calls_goes_with_its_process(calls: InFlight, path: Path) -> None:
    """Nothing more is noted."""
    calls.begin(call())
    observation = call()
    calls.begin(observation)
    calls.close()
    assert 2 == len(told(path))
    assert is_locked(path)
    calls.reset()
    assert not is_locked(path)


def test_calls_that_end_after_the_end_are_noted(calls: InFlight, path: Path) -> None:
    """The table stays for them, and others wait for it to be free."""
    observation = call()
    calls.begin(observation)
    calls.close()
    calls.submit(ended(observation, 202))
    assert [] == told(path)
    calls.close()
    assert not path.exists()


def test_a_table_that_is_gone_is_no_hindrance(calls: InFlight, path: Path) -> None:
    """Somebody has emptied the folder."""
    path.unlink()
    calls.begin(call())
    calls.reset()
    calls.open(path)
    path.unlink()
    calls.close()
    assert not calls.is_open


def test_a_table_that_cannot_be_made_leaves_nothing(path: Path) -> None:
    """No file, and no open one."""
    before = files()
    path.with_suffix(".new").mkdir()
    with pytest.raises(IsADirectoryError):
        Table(path)
    path.with_suffix(".new").rmdir()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        Table(path)
    assert (before, [path]) == (files(), list(path.parent.iterdir()))


def test_what_a_failed_try_has_left_is_no_hindrance(path: Path) -> None:
    """Its disk let it neither be named nor be removed; the name is this life's own."""
    path.with_suffix(".new").touch()
    assert Table(path).is_there
    assert [path] == list(path.parent.iterdir())


def test_a_table_for_which_there_is_no_room_notes_what_it_can(path: Path, desk: Desk) -> None:
    """The rest is counted; when there is room again, it is used."""
    calls = InFlight(desk, lambda _: None)
    with no_file_larger_than(SLOT * 2 + 100):
        calls.open(path)
        calls.begin(call())
        for _ in range(3):
            calls.begin(call())
    assert (["in_flight"] * 3, 1) == (desk.faults, len(told(path)))
    calls.begin(call())
    assert (3, 2) == (len(desk.faults), len(told(path)))
    calls.reset()


def test_a_table_that_was_cut_short_costs_no_more_than_what_it_held(calls: InFlight, path: Path, desk: Desk) -> None:
    """A mapped file would cost the process's life."""
    calls.begin(before := call())
    os.truncate(path, 0)
    calls.begin(call())
    calls.beat(1)
    assert calls.submit(ended(before, 400))
    assert (1, []) == (len(told(path)), desk.faults)


def test_a_place_that_cannot_be_freed_is_not_used_until_it_can(calls: InFlight, path: Path, desk: Desk) -> None:
    """Else the table would tell of an accepted call as one under way."""
    calls.begin(accepted := call())
    calls.begin(refused := call())
    with no_file_larger_than(SLOT):
        calls.submit(ended(accepted, 202))
        calls.submit(ended(refused, 400))
        calls.beat(1)
        place = calls.place(refused)
        assert place is not None
        place.free()
    assert (["in_flight"] * 3, 2) == (desk.faults, len(told(path)))
    calls.begin(call())
    assert 3 == len(told(path))
    calls.beat(1)
    assert 1 == len(told(path))
    for _ in range(CALLS):
        calls.begin(call())
    assert (4, CALLS) == (len(desk.faults), len(told(path)))


def test_a_disk_that_takes_not_even_a_sign_of_life_is_borne(calls: InFlight, desk: Desk) -> None:
    """What can't be noted of calls is counted."""
    with no_file_larger_than(0):
        calls.beat(1)
    assert [] == desk.faults


def test_a_table_that_is_elsewhere_keeps_its_calls_and_no_others(calls: InFlight, path: Path, desk: Desk) -> None:
    """It stays locked until they have ended; meanwhile, and after, the new one is used."""
    calls.begin(before := call())
    assert not calls.is_lost()
    elsewhere = path.rename(path.with_name("elsewhere"))
    assert (True, False, False) == (calls.is_lost(), calls.is_open, calls.is_lost())
    calls.begin(call())
    assert ["in_flight"] == desk.faults
    calls.open(path)
    calls.begin(call())
    assert (1, 1, True) == (len(told(path)), len(told(elsewhere)), is_locked(elsewhere))
    calls.submit(ended(before, 202))
    assert (1, [], False) == (len(told(path)), told(elsewhere), is_locked(elsewhere))


def test_a_table_is_lost_with_its_folder_and_not_by_what_cannot_be_told(calls: InFlight, path: Path) -> None:
    """A link that leads nowhere says nothing; a file says that there is no folder."""
    aside = path.parent.rename(path.parent.with_name("aside"))
    path.parent.symlink_to(path.parent)
    assert not calls.is_lost()
    path.parent.unlink()
    path.parent.touch()
    assert calls.is_lost()
    assert [path.name] == [left.name for left in aside.iterdir()]


def files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_after_a_reset_nothing_is_shared(calls: InFlight, path: Path) -> None:
    """As in a forked child, which lets go of its parent's table: what began before isn't its own, and stays."""
    observation = call()
    calls.begin(observation)
    calls.reset()
    assert (False, None, 1) == (is_locked(path), calls.place(observation), len(told(path)))
    calls.open(path.with_name("2.6.table"))
    assert calls.submit(ended(observation, 202))
    assert (1, []) == (len(told(path)), told(path.with_name("2.6.table")))
