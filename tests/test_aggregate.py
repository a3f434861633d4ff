"""What `aggregate` promises: every event counted once in every metric it touches, exact sums, bounded series."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle, permutations, product
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation import catalogue
from call_initiation.calls.endpoints import CALLS, CALLS_OF_USER, TEMPLATES
from call_initiation.catalogue import METRICS, Kind, Metric
from call_initiation.events import (
    NO_AGENT,
    AgentState,
    Attempt,
    Category,
    Certainty,
    Event,
    FeedChange,
    FeedState,
    LateChange,
    LegFailure,
    NotificationTaken,
    Outcome,
    Refusal,
    SkewChange,
    StateChange,
    StateLabel,
    StateSource,
)
from call_initiation.recording.aggregate import Aggregate, Distribution, Exemplar, Family, Labels
from samples import ACCEPTED, AGENT, REFUSED, SPAN, STARTED_AT, UNANSWERED

HOSTILE = 50_000
STATION = Refusal(codes=("conversation.error.no.user.station", "bad.request"), category=Category.STATION)


def families(aggregate: Aggregate) -> dict[Metric, Family]:
    """Return a snapshot by metric."""
    return {family.metric: family for family in aggregate.snapshot()}


def numbers(aggregate: Aggregate, metric: Metric) -> dict[Labels, float]:
    """Return the values of a counter or a gauge."""
    return {labels: number.value for labels, number in families(aggregate)[metric].numbers.items()}


def distributions(aggregate: Aggregate, metric: Metric) -> dict[Labels, Distribution]:
    """Return the series of a histogram."""
    return families(aggregate)[metric].distributions


def recorded(*events: Event) -> Aggregate:
    """Return an aggregate of these events."""
    aggregate = Aggregate()
    for event in events:
        aggregate.record(event)
    return aggregate


def refusal_with(*codes: str) -> Attempt:
    """Return a refused call with these codes."""
    return replace(REFUSED, refusal=Refusal(codes=codes, category=Category.SCHEMA))


def counted(aggregate: Aggregate) -> Counter[tuple[str, Labels]]:
    """Return how much was counted in each series."""
    found = Counter[tuple[str, Labels]]()
    for family in aggregate.snapshot():
        found.update({(family.metric.name, labels): int(one.value) for labels, one in family.numbers.items()})
        found.update({(family.metric.name, labels): sum(one.counts) for labels, one in family.distributions.items()})
    return found


def test_nothing_is_shown_before_anything_happened() -> None:
    """An aggregate without events has no families."""
    assert () == Aggregate().snapshot()


def test_an_accepted_call_is_counted_in_every_metric_that_it_touches() -> None:
    """Its attempt, its duration, its join and the age of its agent's state; no code, no finding, no duplicate."""
    aggregate = recorded(ACCEPTED)
    assert {(CALLS_OF_USER, "accepted", "202", "none", "on_call"): 1} == numbers(aggregate, catalogue.ATTEMPTS)
    assert {("known", "notification"): 1} == numbers(aggregate, catalogue.STATE_JOINS)
    duration = distributions(aggregate, catalogue.DURATION)[CALLS_OF_USER, "accepted"]
    assert ([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 0.2) == (duration.counts, duration.total)
    age = distributions(aggregate, catalogue.AGENT_STATE_AGE)["accepted", "on_call"]
    assert ([0, 1, 0, 0, 0, 0], 12.5) == (age.counts, age.total)
    assert 4 == len(aggregate.snapshot())


def test_each_code_of_a_refusal_is_counted_and_the_first_names_the_attempt() -> None:
    """Two codes: one attempt under the more specific one, two counts of codes."""
    aggregate = recorded(REFUSED, REFUSED)
    first, second = "conversation.error.no.user.station", "bad.request"
    assert {(CALLS_OF_USER, "rejected", "400", first, "on_call"): 2} == numbers(aggregate, catalogue.ATTEMPTS)
    expected = {(first, "station", "on_call"): 2, (second, "station", "on_call"): 2}
    assert expected == numbers(aggregate, catalogue.ERROR_CODES)


def test_a_call_without_an_answer_has_no_status_and_no_code() -> None:
    """Nothing to read is `unparsed`, no status is `none`, and an unknown age isn't zero."""
    aggregate = recorded(replace(UNANSWERED, agent=NO_AGENT))
    expected = {(CALLS_OF_USER, "ambiguous", "none", "unparsed", "unknown"): 1}
    assert expected == numbers(aggregate, catalogue.ATTEMPTS)
    assert {("unknown", "none"): 1} == numbers(aggregate, catalogue.STATE_JOINS)
    assert families(aggregate).keys().isdisjoint({catalogue.ERROR_CODES, catalogue.AGENT_STATE_AGE})


def test_findings_and_suspected_duplicates_are_counted() -> None:
    """One count for each finding, by outcome; one for the duplicate, by endpoint."""
    aggregate = recorded(replace(REFUSED, findings=("no-destination", "two-shapes"), suspected_duplicate=True))
    expected = {("no-destination", "rejected"): 1, ("two-shapes", "rejected"): 1}
    assert expected == numbers(aggregate, catalogue.PAYLOAD_FINDINGS)
    assert {(CALLS_OF_USER,): 1} == numbers(aggregate, catalogue.SUSPECTED_DUPLICATES)


def test_changes_of_agents_and_late_ones_are_counted() -> None:
    """By the words before and after; what came late has a counter of its own."""
    change = StateChange(
        agent_id="a", before=StateLabel.AVAILABLE, after=StateLabel.BUSY, state=AgentState(presence="BUSY"), at=1.0
    )
    aggregate = recorded(change, change, LateChange(agent_id="a", at=1.0))
    assert {("available", "busy"): 2} == numbers(aggregate, catalogue.AGENT_STATE_CHANGES)
    assert {(): 1} == numbers(aggregate, catalogue.STATE_JOINS_LATE)


def test_the_feed_is_a_gauge_and_its_returns_are_counted() -> None:
    """Coming up for the first time has no reason and is no reconnect; going down isn't one either."""
    first = FeedChange(state=FeedState.UP, at=1.0)
    down = FeedChange(state=FeedState.DOWN, reason="silence", at=2.0)
    again = FeedChange(state=FeedState.UP, reason="silence", at=3.0)
    aggregate = recorded(first)
    assert {(): 1} == numbers(aggregate, catalogue.FEED_UP)
    aggregate.record(down)
    assert {(): 0} == numbers(aggregate, catalogue.FEED_UP)
    assert catalogue.FEED_RECONNECTS not in families(aggregate)
    aggregate.record(again)
    assert {("silence",): 1} == numbers(aggregate, catalogue.FEED_RECONNECTS)


def test_what_the_feed_tells_is_counted() -> None:
    """Notifications by topic, with their lag if they have one; legs that failed; the clocks' difference."""
    aggregate = recorded(
        NotificationTaken(topic="presence", lag=0.07),
        NotificationTaken(topic="presence"),
        LegFailure(agent_id="a", error_code="error.ininedgecontrol.connection.timeout", label=StateLabel.ON_QUEUE),
        SkewChange(seconds=1.5),
        SkewChange(seconds=-0.5),
    )
    assert {("presence",): 2} == numbers(aggregate, catalogue.FEED_EVENTS)
    assert 1 == sum(distributions(aggregate, catalogue.FEED_EVENT_LAG)[()].counts)
    expected = {("error.ininedgecontrol.connection.timeout", "on_queue"): 1}
    assert expected == numbers(aggregate, catalogue.ASYNC_FAILURES)
    assert {(): -0.5} == numbers(aggregate, catalogue.FEED_CLOCK_SKEW)


def test_rooms_may_count_observe_and_set_gauges_themselves() -> None:
    """The three ways in besides events."""
    aggregate = Aggregate()
    aggregate.count(catalogue.INTERNAL_ERRORS, ("parse",))
    aggregate.count(catalogue.INTERNAL_ERRORS, ("parse",), 2.0)
    aggregate.gauge(catalogue.AGENTS, ("busy",), 7)
    aggregate.gauge(catalogue.AGENTS, ("busy",), 3)
    aggregate.observe(catalogue.FEED_EVENT_LAG, (), 0.07)
    assert {("parse",): 3} == numbers(aggregate, catalogue.INTERNAL_ERRORS)
    assert {("busy",): 3} == numbers(aggregate, catalogue.AGENTS)
    assert [0, 1, 0, 0, 0, 0, 0, 0, 0, 0] == distributions(aggregate, catalogue.FEED_EVENT_LAG)[()].counts


def test_sources_are_asked_at_each_snapshot() -> None:
    """Numbers that live elsewhere are shown as they are now, beside those that live here."""
    held = [1.0]

    def source() -> Iterable[tuple[Metric, Labels, float]]:
        yield catalogue.RECORDER_PENDING, ("attempts",), held[0]

    aggregate = recorded(ACCEPTED)
    aggregate.add_source(source)
    assert {("attempts",): 1} == numbers(aggregate, catalogue.RECORDER_PENDING)
    held[0] = 5.0
    assert {("attempts",): 5} == numbers(aggregate, catalogue.RECORDER_PENDING)


def test_families_stand_in_the_catalogues_order() -> None:
    """Whatever happened first."""
    aggregate = recorded(LateChange(agent_id="a", at=1.0), REFUSED, FeedChange(state=FeedState.UP, at=1.0))
    shown = [family.metric for family in aggregate.snapshot()]
    assert [metric for metric in METRICS if metric in shown] == shown


def test_a_snapshot_is_not_changed_by_later_events() -> None:
    """A reader sees one moment."""
    aggregate = recorded(ACCEPTED)
    before = aggregate.snapshot()
    aggregate.record(ACCEPTED)
    attempts, duration = before[0], before[1]
    assert [1.0] == [number.value for number in attempts.numbers.values()]
    assert [1] == [sum(distribution.counts) for distribution in duration.distributions.values()]


def test_reset_begins_at_zero_and_keeps_the_sources() -> None:
    """As a forked child must: its numbers are its own, its sources are the same objects."""
    aggregate = recorded(*(refusal_with(f"code{index}") for index in range(100)))
    aggregate.add_source(lambda: [(catalogue.RECORDER_PENDING, ("attempts",), 0.0)])
    aggregate.reset()
    assert [catalogue.RECORDER_PENDING] == [family.metric for family in aggregate.snapshot()]
    aggregate.record(refusal_with("code99"))
    assert {("code99", "schema", "on_call"): 1} == numbers(aggregate, catalogue.ERROR_CODES)


# -- exemplars ----------------------------------------------------------------------------------------------------


def test_an_exemplar_names_the_calls_span_its_value_and_its_time() -> None:
    """On the counter its value is 1, in the histogram the duration."""
    shown = families(recorded(ACCEPTED))
    at = STARTED_AT / 1e9
    assert [Exemplar(1.0, SPAN.trace_id, SPAN.span_id, at)] == [
        number.exemplar for number in shown[catalogue.ATTEMPTS].numbers.values()
    ]
    duration = shown[catalogue.DURATION].distributions[CALLS_OF_USER, "accepted"]
    assert {3: Exemplar(0.2, SPAN.trace_id, SPAN.span_id, at)} == duration.exemplars


def test_each_bucket_keeps_its_last_exemplar() -> None:
    """A slow call stays findable however many fast ones follow."""
    slow = replace(ACCEPTED, duration=20.0, span=replace(SPAN, span_id=1))
    fast = [replace(ACCEPTED, span=replace(SPAN, span_id=index)) for index in (2, 3)]
    duration = distributions(recorded(slow, *fast), catalogue.DURATION)[CALLS_OF_USER, "accepted"]
    assert {3: 3, 9: 1} == {bucket: exemplar.span_id for bucket, exemplar in duration.exemplars.items()}


@pytest.mark.parametrize(
    ("attempt", "is_shown"),
    [
        (ACCEPTED, True),
        (replace(ACCEPTED, span=replace(SPAN, sampled=False)), False),
        (replace(REFUSED, span=replace(SPAN, sampled=False)), True),
        (replace(REFUSED, span=replace(SPAN, sampled=False, adopted=True)), False),
        (replace(REFUSED, span=replace(SPAN, adopted=True)), True),
        (replace(REFUSED, span=None), False),
    ],
    ids=["sampled", "unsampled success", "unsampled failure", "adopted unsampled", "adopted", "no span"],
)
def test_an_exemplar_stands_only_for_a_span_that_is_exported(attempt: Attempt, *, is_shown: bool) -> None:
    """A link to a trace that nobody has is worse than none."""
    [number] = families(recorded(attempt))[catalogue.ATTEMPTS].numbers.values()
    assert is_shown == (number.exemplar is not None)


def test_an_exemplar_stays_until_another_comes() -> None:
    """A call without a span doesn't take it away."""
    shown = families(recorded(ACCEPTED, replace(ACCEPTED, span=None)))
    [number] = shown[catalogue.ATTEMPTS].numbers.values()
    assert (2.0, SPAN.span_id) == (number.value, number.exemplar and number.exemplar.span_id)


# -- laws ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100) | st.sampled_from(catalogue.DURATION.buckets), max_size=30))
def test_buckets_hold_what_is_at_most_their_bound(values: list[float]) -> None:
    """Prometheus's `le`: a value on a bound belongs to it; the last bucket holds the rest; the sum is the sum."""
    aggregate = Aggregate()
    for value in [0.0, *values]:
        aggregate.observe(catalogue.DURATION, ("e", "o"), value)
    found = distributions(aggregate, catalogue.DURATION)["e", "o"]
    for index, bound in enumerate(catalogue.DURATION.buckets):
        assert sum(value <= bound for value in [0.0, *values]) == sum(found.counts[: index + 1])
    assert len(values) + 1 == sum(found.counts)
    assert pytest.approx(sum(values)) == found.total


def refused(codes: tuple[str, ...], label: StateLabel) -> Attempt:
    """Return a refusal with these codes."""
    return replace(REFUSED, refusal=Refusal(codes=codes), agent=replace(AGENT, label=label), suspected_duplicate=False)


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([f"code.{n}" for n in range(45)]), max_size=3, unique=True).map(tuple),
            st.sampled_from(list(StateLabel)),
        )
    )
)
def test_whatever_came_before_each_attempt_is_counted_where_it_belongs(
    kinds: list[tuple[tuple[str, ...], StateLabel]],
) -> None:
    """Series are looked up once for each kind of attempt, which must not show; what is folded is counted each time."""
    aggregate, seen = Aggregate(), dict[str, None]()
    attempts, codes, folded = Counter[tuple[str, str]](), Counter[tuple[str, str]](), 0
    for told, label in kinds * 2:
        aggregate.record(refused(told, label))
        first, *others = [*(told or ("unparsed",))[:1], *told]
        shown = []
        for code in (first, *others):
            if len(seen) < 40:
                seen.setdefault(code)
            shown.append(code if code in seen else "other")
        folded += shown.count("other")
        attempts[shown[0], label] += 1
        codes.update((code, label) for code in shown[1:])
    if kinds:
        assert attempts == {labels[3:]: value for labels, value in numbers(aggregate, catalogue.ATTEMPTS).items()}
    if codes:
        found = numbers(aggregate, catalogue.ERROR_CODES).items()
        assert codes == {(code, label): value for (code, _, label), value in found}
    if folded:
        assert {("error_code",): folded} == numbers(aggregate, catalogue.LABEL_OVERFLOW)


def test_more_kinds_of_attempts_than_are_kept_are_counted_all_the_same() -> None:
    """However the codes of a body are put together."""
    kinds = list(permutations([f"code.{n}" for n in range(38)], 2))
    aggregate = recorded(*(refused(kind, StateLabel.BUSY) for kind in kinds * 2))
    assert 2 * len(kinds) == sum(numbers(aggregate, catalogue.ATTEMPTS).values()) == 2812
    assert 4 * len(kinds) == sum(numbers(aggregate, catalogue.ERROR_CODES).values())
    assert 1_024 >= len(aggregate._series)


@pytest.mark.parametrize(
    "other",
    [
        replace(REFUSED, endpoint=CALLS),
        replace(REFUSED, outcome=Outcome.FAILED),
        replace(REFUSED, status_code=409),
        replace(REFUSED, refusal=None),
        replace(REFUSED, refusal=replace(STATION, codes=("bad.request",))),
        replace(REFUSED, refusal=replace(STATION, category=Category.SCHEMA)),
        replace(REFUSED, agent=replace(AGENT, label=StateLabel.BUSY)),
        replace(REFUSED, agent=replace(AGENT, state=replace(AGENT.state, certainty=Certainty.STALE))),
        replace(REFUSED, agent=replace(AGENT, state=replace(AGENT.state, source=StateSource.REST))),
        replace(REFUSED, agent=replace(AGENT, age=None)),
        replace(REFUSED, findings=("no-destination",)),
        replace(REFUSED, suspected_duplicate=True),
    ],
)
def test_attempts_that_differ_in_one_thing_are_counted_apart(other: Attempt) -> None:
    """Though the series of the one have been looked up before: both are counted as each would be alone."""
    both = counted(recorded(REFUSED)) + counted(recorded(other))
    assert both == counted(recorded(REFUSED, other)) == counted(recorded(other, REFUSED))


def test_what_is_folded_is_counted_as_such_each_time() -> None:
    """The last of 41 codes comes three times: once for the attempt and once among the codes."""
    aggregate = recorded(*(refusal_with(f"code.{index}") for index in (*range(40), 40, 40, 40)))
    assert {("error_code",): 6} == numbers(aggregate, catalogue.LABEL_OVERFLOW)


def test_hostile_codes_fold_and_every_sum_stays_exact() -> None:
    """Fifty thousand distinct codes: 40 are shown, the rest is `other`, counted as overflow in both metrics."""
    aggregate = recorded(*(refusal_with(f"code.{index}") for index in range(HOSTILE)))
    attempts, codes = (numbers(aggregate, metric) for metric in (catalogue.ATTEMPTS, catalogue.ERROR_CODES))
    assert (41, 41) == (len(attempts), len(codes))
    assert (HOSTILE, HOSTILE) == (sum(attempts.values()), sum(codes.values()))
    assert HOSTILE - 40 == codes["other", "schema", "on_call"]
    assert {("error_code",): 2 * (HOSTILE - 40)} == numbers(aggregate, catalogue.LABEL_OVERFLOW)


def test_the_worst_of_everything_stays_below_two_thousand_samples() -> None:
    """Every code with every state, status, outcome and endpoint: caps hold but for what fits nowhere; sums are true."""
    aggregate = Aggregate()
    states, codes = list(StateLabel), [f"code.{index}" for index in range(12)]
    given_calls = 0
    for endpoint, outcome, state in product(TEMPLATES, Outcome, states):
        for code in codes:
            attempt = replace(
                REFUSED,
                endpoint=endpoint,
                outcome=outcome,
                status_code=400 + given_calls % 150,
                refusal=Refusal(codes=(code,), category=list(Category)[given_calls % len(Category)]),
                agent=replace(AGENT, label=state),
                findings=(code,),
            )
            aggregate.record(attempt)
            given_calls += 1
    for before, after in product(states, states):
        aggregate.record(StateChange(agent_id="a", before=before, after=after, state=AgentState(), at=1.0))
    shown = families(aggregate)
    for metric in (catalogue.ATTEMPTS, catalogue.ERROR_CODES, catalogue.PAYLOAD_FINDINGS):
        assert given_calls == sum(numbers(aggregate, metric).values())
        assert metric.max_series + (3 if metric is catalogue.ATTEMPTS else 1) >= len(shown[metric].numbers)
    for metric in (catalogue.DURATION, catalogue.AGENT_STATE_AGE):
        assert given_calls == sum(sum(found.counts) for found in shown[metric].distributions.values())
        assert metric.max_series + 1 >= len(shown[metric].distributions)
    assert len(states) ** 2 == sum(numbers(aggregate, catalogue.AGENT_STATE_CHANGES).values())
    assert catalogue.AGENT_STATE_CHANGES.max_series + 1 >= len(shown[catalogue.AGENT_STATE_CHANGES].numbers)
    assert {label for (label,) in shown[catalogue.LABEL_OVERFLOW].numbers} >= {"error_code", "agent_state"}
    samples = sum(
        len(family.numbers) + len(family.distributions) * (len(family.metric.buckets) + 3) for family in shown.values()
    )
    assert samples <= 2_000


def test_a_full_metric_still_tells_what_it_knew_apart() -> None:
    """A series that is open stays its own; a new one falls to the tuple with as few `other`s as there is room for."""
    metric = Metric("m", Kind.COUNTER, "", "", ("a", "b"), max_series=5, folds=("a", "b"))
    aggregate = Aggregate()
    for index in range(4):
        aggregate.count(metric, (f"a{index}", "b"))
    for labels in [("a0", "b"), ("new", "b"), ("new", "b"), ("new", "c"), ("new", "d")]:
        aggregate.count(metric, labels)
    held = {labels: number.value for labels, number in aggregate._numbers["m"].items()}
    expected = {
        ("a0", "b"): 2,
        ("a1", "b"): 1,
        ("a2", "b"): 1,
        ("a3", "b"): 1,
        ("other", "b"): 2,
        ("other", "other"): 2,
    }
    assert expected == held
    assert {("a",): 4, ("b",): 2} == numbers(aggregate, catalogue.LABEL_OVERFLOW)


def test_an_accepted_call_never_has_a_code() -> None:
    """Not where so many codes came first that none is taken any more, and not where there is no room for its series."""
    codes = (f"code.{index}" for index in range(400))
    refused = [
        replace(refusal_with(code), agent=replace(AGENT, label=state), endpoint=endpoint)
        for code, (endpoint, state) in zip(codes, cycle(product(TEMPLATES, StateLabel)), strict=False)
    ]
    accepted = [
        replace(ACCEPTED, endpoint=endpoint, status_code=status, agent=replace(AGENT, label=state))
        for endpoint, status, state in product(TEMPLATES, range(200, 210), StateLabel)
    ]
    held = numbers(recorded(*refused, *accepted), catalogue.ATTEMPTS)
    without_code = {labels: value for labels, value in held.items() if labels[3] == "none"}
    assert len(accepted) == sum(without_code.values())
    assert {"accepted", "other"} >= {outcome for _, outcome, *_ in without_code}
    assert len(refused) == sum(held.values()) - sum(without_code.values())
    assert catalogue.ATTEMPTS.max_series + 3 >= len(held)


def test_a_metric_whose_labels_are_closed_sets_has_no_folds() -> None:
    """Nothing of it is ever folded."""
    aggregate = Aggregate()
    for index in range(30):
        aggregate.count(catalogue.FEED_EVENTS, (str(index),))
    assert 30 == len(numbers(aggregate, catalogue.FEED_EVENTS))
    assert catalogue.LABEL_OVERFLOW not in families(aggregate)


def test_the_word_other_is_counted_wherever_it_comes_from() -> None:
    """A code that wasn't fit to be shown arrives as `other`, and counts as folded too."""
    aggregate = recorded(refusal_with("other"))
    assert {("error_code",): 2} == numbers(aggregate, catalogue.LABEL_OVERFLOW)


def test_threads_lose_nothing() -> None:
    """Eight threads count at once, and a reader reads."""
    aggregate = Aggregate()

    def work() -> None:
        for _ in range(1_000):
            aggregate.record(ACCEPTED)
            aggregate.count(catalogue.INTERNAL_ERRORS, ("x",))

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        aggregate.snapshot()
    assert 8_000 == sum(numbers(aggregate, catalogue.ATTEMPTS).values())
    assert {("x",): 8_000} == numbers(aggregate, catalogue.INTERNAL_ERRORS)
