"""What disturbs notification channels, without sockets, and what may be wished for."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from call_initiation.agents import users
from call_initiation.api.notifications import (
    Heartbeat,
    Ignored,
    NoLongerSubscribed,
    Notified,
    Pong,
    SocketClosing,
    TokenRevoked,
    combined_topic,
)
from call_initiation.simulator.disturbances import (
    FIELDS,
    STRIKES,
    DisturbanceError,
    Disturbances,
    Strike,
    ordered,
)
from call_initiation.simulator.frames import GARBAGE, huge
from call_initiation.simulator.lines import Ending, Intervals, Item
from call_initiation.simulator.org import CALM
from channels import HALF_HOUR, Rig, said, told
from simulated import client_token, code_of, get


def disturbed(disturbances: Disturbances, wait: float = 0.0) -> tuple[list[Item], list[Item]]:
    """Return what is told undisturbed and disturbed, in the same half hour."""

    def life(disturbances: Disturbances) -> list[Item]:
        rig = Rig(agents=10)
        line = rig.line(*(combined_topic(agent_id) for agent_id in rig.organisation.agent_ids))
        rig.organisation.disturbances = disturbances
        rig.live(HALF_HOUR)
        return line.take(rig.now + wait)

    return life(Disturbances()), life(disturbances)


def bodies(items: Iterable[Item]) -> list[str]:
    """Return the events among items, each as text."""
    return [item for item in items if isinstance(item, str) and item.startswith('{"topicName":"v2.users.')]


def test_duplicates_come_within_150_milliseconds() -> None:
    """Each event twice, the very same text."""
    calm, doubled = disturbed(Disturbances(duplicates=1.0), wait=0.15)
    assert sorted(2 * bodies(calm)) == sorted(bodies(doubled))
    _, early = disturbed(Disturbances(duplicates=1.0))
    assert set(bodies(calm)) == set(bodies(early))
    assert len(bodies(early)) == len(bodies(calm))


def test_reordering_overtakes_within_its_window() -> None:
    """The same events in another order, all of them by the end of the window."""
    calm, mixed = disturbed(Disturbances(reordering=5.0), wait=5.0)
    assert sorted(bodies(calm)) == sorted(bodies(mixed))
    assert bodies(calm) != bodies(mixed)


def test_lag_is_late_and_in_order() -> None:
    """Nothing before its time, then all."""
    calm, early = disturbed(Disturbances(lag=3.0), wait=2.9)
    _, late = disturbed(Disturbances(lag=3.0), wait=3.0)
    assert [] == bodies(early)
    assert bodies(calm) == bodies(late)


def test_a_silent_line_beats_and_answers() -> None:
    """But it tells no event, and never will."""
    calm, silent = disturbed(Disturbances(silent=True))
    assert bodies(calm)
    assert [Heartbeat()] == said(silent)


@pytest.mark.parametrize(
    ("disturbances", "ends"), [(Disturbances(drops=1.0), [Ending.CUT]), (Disturbances(half_opens=1.0), [])]
)
def test_an_event_may_be_the_last(disturbances: Disturbances, ends: list[Item]) -> None:
    """The socket is cut in its stead, or nothing is said any more, not even a beat."""
    _, items = disturbed(disturbances)
    assert ends == items


def test_garbage_and_huge_frames_are_read_as_such() -> None:
    """Before each frame, which is told all the same."""
    calm, littered = disturbed(Disturbances(garbage=1.0))
    rest = [item for item in littered if item not in GARBAGE]
    assert bodies(calm) == bodies(rest)
    assert len(littered) == 2 * len(rest)
    assert {Ignored} == {type(word) for word in said(GARBAGE)}
    assert len(GARBAGE) == len(said(GARBAGE))
    assert 10_000_000 == len(huge())
    assert [Ignored("oversized")] == said([huge()])
    assert "padding" in json.loads(huge())["eventBody"]


def test_huge_frames_come_before_others() -> None:
    """Before a pong, too."""
    rig = Rig()
    line = rig.line()
    rig.organisation.disturbances = Disturbances(huge=1.0)
    rig.organisation.channels.hear(line, '{"message":"ping"}', rig.now)
    assert [Ignored("oversized"), Pong()] == said(line.take(rig.now))


def test_an_unknown_presence_is_read_as_unknown() -> None:
    """And nothing else is."""
    _, items = disturbed(Disturbances(unknown_presence=1.0))
    heard = [word for word in said(items) if isinstance(word, Notified)]
    assert {word.update.is_whole for word in heard if word.topic == "presence"} == {False}
    assert {word.update.is_whole for word in heard if word.topic == "routingStatus"} == {True}


def test_a_skewed_server_stamps_so() -> None:
    """Events, reads, expiries and the Date, all by the same seconds; the ledger keeps the true time."""
    _, items = disturbed(Disturbances(skew=-3600.0))
    calm = [word for word in said(disturbed(Disturbances())[1]) if isinstance(word, Notified)]
    skewed = [word for word in said(items) if isinstance(word, Notified)]
    assert [at and at - 3600.0 for at in (word.update.at for word in calm)] == [word.update.at for word in skewed]
    rig = Rig()

    def shown() -> tuple[list[float | None], str]:
        answer = get(rig.organisation, f"/api/v2/users/{rig.agent}?expand=presence,routingStatus", now=rig.now)
        bulk = get(rig.organisation, f"/api/v2/users/presences/purecloud/bulk?id={rig.agent}", now=rig.now)
        page = get(rig.organisation, "/api/v2/users?expand=presence", now=rig.now)
        channel = json.loads(rig.ask("POST").body)
        user, (presence,), listed = json.loads(answer.body), json.loads(bulk.body), json.loads(page.body)["entities"][0]
        stamps = (
            user["presence"]["modifiedDate"],
            user["routingStatus"]["startTime"],
            presence["modifiedDate"],
            listed["presence"]["modifiedDate"],
            channel["expires"],
        )
        return [users.epoch(stamp) for stamp in stamps], answer.headers["Date"]

    before, date = shown()
    rig.organisation.disturbances = Disturbances(skew=-3600.0)
    after, skewed_date = shown()
    assert [at and at - 3600.0 for at in before] == after
    assert ("Thu, 01 Jan 2026 00:00:01 GMT", "Wed, 31 Dec 2025 23:00:01 GMT") == (date, skewed_date)


def test_a_deleted_user_is_gone_everywhere() -> None:
    """Shown as deleted, in no list, in no topic, in no event, and no call is placed for it."""
    rig = Rig(replace(CALM, refusals={}))
    line = rig.line(combined_topic(rig.agent))
    rig.organisation.disturbances = Disturbances(deleted=(rig.agent,))
    user = json.loads(get(rig.organisation, f"/api/v2/users/{rig.agent}?expand=presence").body)
    assert ("deleted", None) == (user["state"], user.get("presence"))
    listed = json.loads(get(rig.organisation, "/api/v2/users").body)["entities"]
    assert rig.organisation.agent_ids[1:] == [one["id"] for one in listed]
    assert (
        "Rejected" == json.loads(rig.subscribe(rig.channel(), [combined_topic(rig.agent)]).body)["entities"][0]["state"]
    )
    assert (404, "not.found") == code_of(rig.call(rig.agent))
    rig.live(HALF_HOUR)
    assert [] == told(line, rig.now)


@pytest.mark.parametrize(
    ("disturbances", "expected", "wait"),
    [
        (Disturbances(unauthorized=True), (401, "credentials.expired"), None),
        (Disturbances(retry_after=2.5), (429, "too.many.requests.retry.after"), "3"),
    ],
)
def test_reads_are_refused_and_calls_are_not(
    disturbances: Disturbances, expected: tuple[int, str], wait: str | None
) -> None:
    """Reads and channels alike; a token can still be had, and a call be placed."""
    rig = Rig(replace(CALM, refusals={}))
    rig.organisation.disturbances = disturbances
    for answer in (rig.ask("POST"), get(rig.organisation, "/api/v2/users")):
        assert expected == code_of(answer)
        assert wait == answer.headers.get("Retry-After")
    assert 202 == rig.call(rig.agent, token=client_token(rig.organisation)).status


@pytest.mark.parametrize(
    ("strike", "words", "ends"),
    [
        (Strike.DROP, [], [Ending.CUT]),
        (Strike.HALF_OPEN, [], []),
        (Strike.GARBAGE, [Ignored], []),
        (Strike.HUGE, [Ignored], []),
        (Strike.CLOSING, [SocketClosing], []),
        (Strike.EVICT, [NoLongerSubscribed], [Ending.CLOSED]),
        (Strike.REVOKE, [TokenRevoked], []),
    ],
)
def test_a_strike_hits_every_socket_at_once(strike: Strike, words: list[type], ends: list[Item]) -> None:
    """And a channel without a socket not at all."""
    rig = Rig()
    lines = [rig.line(), rig.line()]
    rig.channel()
    rig.organisation.strike(strike, rig.now)
    for line in lines:
        items = line.take(rig.now)
        assert words == [type(word) for word in said(items)]
        assert ends == [item for item in items if isinstance(item, Ending)]


@pytest.mark.parametrize("strike", [Strike.CLOSING, Strike.REVOKE])
def test_a_warned_line_delivers_for_a_minute_and_ends(strike: Strike) -> None:
    """The channel stays, and a socket opened meanwhile lives on."""
    rig = Rig()
    line = rig.line(*rig.everyone())
    rig.organisation.strike(strike, rig.now)
    rig.live(59.9)
    assert bodies(line.take(rig.now))
    rig.live(0.1)
    assert Ending.CLOSED is line.take(rig.now)[-1]
    again = rig.organisation.channels.connect(line.channel_id, rig.now)
    assert again is not None
    rig.live(600.0)
    assert Ending.CLOSED not in again.take(rig.now)


def test_a_notice_never_lengthens_a_life() -> None:
    """A line that is warned shortly before its end still ends then."""
    rig = Rig(intervals=Intervals(life=10.0))
    line = rig.line()
    rig.organisation.strike(Strike.CLOSING, rig.now)
    rig.live(9.9)
    assert [SocketClosing()] == said(line.take(rig.now))
    rig.organisation.strike(Strike.CLOSING, rig.now)
    rig.live(0.1)
    assert Ending.CLOSED is line.take(rig.now)[-1]


def test_a_dead_line_stays_dead() -> None:
    """Whatever is said on it, now or later; a new one lives."""
    rig = Rig()
    line = rig.line(*rig.everyone())
    rig.organisation.strike(Strike.HALF_OPEN, rig.now)
    rig.live(HALF_HOUR)
    rig.organisation.channels.hear(line, '{"message":"ping"}', rig.now)
    assert [] == line.take(rig.now)
    again = rig.organisation.channels.connect(line.channel_id, rig.now)
    assert again is not None
    rig.live(HALF_HOUR)
    assert again.take(rig.now)


def test_a_revoked_token_is_refused_and_a_new_one_is_good() -> None:
    """Clients' tokens only."""
    rig = Rig()
    rig.organisation.strike(Strike.REVOKE, rig.now)
    assert (401, "bad.credentials") == code_of(rig.ask("GET"))
    assert 200 == rig.ask("GET", token=client_token(rig.organisation)).status
    assert 200 == get(rig.organisation, "/api/v2/users/me").status


# What may be wished for


def test_a_wish_changes_what_it_names() -> None:
    """The rest stays; a list becomes a tuple; a strike is given apart."""
    current = Disturbances(lag=2.0)
    wish = {"deleted": ["a"], "duplicates": 0.5, "silent": True, "strike": "drop"}
    expected = Disturbances(lag=2.0, deleted=("a",), duplicates=0.5, silent=True)
    assert (expected, Strike.DROP) == ordered(current, wish)
    assert (current, None) == ordered(current, {})


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ([], "body: found [], expected a JSON object"),
        ({"skewed": 1}, f"body: found 'skewed', expected one of {', '.join(FIELDS)}, strike"),
        ({"strike": "x"}, f"strike: found 'x', expected one of {', '.join(STRIKES)}"),
        ({"strike": ["drop"]}, f"strike: found ['drop'], expected one of {', '.join(STRIKES)}"),
        ({"duplicates": 1.1}, "duplicates: found 1.1, expected a number from 0 to 1"),
        ({"duplicates": True}, "duplicates: found True, expected a number from 0 to 1"),
        ({"lag": -1}, "lag: found -1, expected a number of seconds, from 0 to a year"),
        ({"lag": float("nan")}, "lag: found nan, expected a number of seconds, from 0 to a year"),
        ({"lag": 10**400}, f"lag: found 1{'0' * 79}, expected a number of seconds, from 0 to a year"),
        ({"skew": "1"}, "skew: found '1', expected a number of seconds, a year at most"),
        ({"skew": 1e300}, "skew: found 1e+300, expected a number of seconds, a year at most"),
        ({"skew": -31_536_001}, "skew: found -31536001, expected a number of seconds, a year at most"),
        ({"silent": 1}, "silent: found 1, expected true or false"),
        ({"deleted": "a"}, "deleted: found 'a', expected a list of user ids"),
        ({"deleted": [1]}, "deleted: found [1], expected a list of user ids"),
    ],
)
def test_a_wish_that_cannot_be_had_is_said_to_be(wish: object, sentence: str) -> None:
    """Where, what was found, what was expected."""
    with pytest.raises(DisturbanceError) as raised:
        ordered(Disturbances(), wish)
    assert sentence == str(raised.value)


def test_every_default_fits_its_kind() -> None:
    """And every strike is explained."""
    for name, field in FIELDS.items():
        default = getattr(Disturbances(), name)
        default = list(default) if isinstance(default, tuple) else default
        fits: Callable[[object], bool] = field.metadata["kind"].fits
        assert fits(default)
        assert field.metadata["effect"]
    assert set(Strike) == set(STRIKES)
