"""`Agents` against its naive twin: over seeded days, and over whatever hypothesis thinks of."""

from collections import Counter
from collections.abc import Callable
from itertools import count
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents_oracle import Ask, Confirm, Day, Oracle, Suspend, Tell, parts
from call_initiation.agents.agents import Agents, label
from call_initiation.events import UNKNOWN_STATE, AgentState, Certainty, Presence, StateSource

pytestmark = pytest.mark.untraced

ANNA = "agent-anna"
BORIS = "agent-boris"


def compared(agents: Agents, oracle: Oracle, agent_id: str, sent: float) -> tuple[AgentState, bool]:
    """Return what the directory answers, and whether the twin does, too; it never knows more than the twin."""
    state, age = agents.as_of(agent_id, sent)
    expected = oracle.as_of(agent_id, sent)
    if state.certainty is Certainty.KNOWN:
        assert (parts(expected), expected.certainty) == (parts(state), state.certainty)
    if not oracle.is_muddled(agent_id):
        assert expected == state
    assert age == (None if state.since is None else sent - state.since)
    return state, expected == state


def test_days_of_reordered_doubled_delayed_and_lost_news() -> None:
    """In 50,000 lookups no `known` is wrong, neither by the laws nor by what really was; and many are known."""
    tally: Counter[str] = Counter()
    for seed in count():
        agents, oracle = Agents(), Oracle()
        for step in Day(seed, changes=20 + seed % 4 * 30).steps():
            match step:
                case Tell(agent_id, update, at):
                    agents.apply(agent_id, update, at=at)
                    oracle.apply(agent_id, update, at)
                case Confirm(agent_id, at):
                    agents.confirm(agent_id, at)
                    oracle.confirm(agent_id, at)
                case Suspend(since):
                    agents.suspend(since)
                    oracle.suspend(since)
                case Ask(agent_id, sent, truth):
                    state, is_exact = compared(agents, oracle, agent_id, sent)
                    tally["asked"] += 1
                    tally["exact"] += is_exact
                    tally[state.certainty] += 1
                    if truth is not None and state.certainty is Certainty.KNOWN:
                        tally["true"] += 1
                        assert truth == parts(state)
        if tally["asked"] >= 50_000:
            break
    assert 45_000 <= tally["exact"]
    assert 20_000 <= tally["true"]
    assert 1_000 <= min(tally[certainty] for certainty in Certainty)


UPDATES = st.builds(
    AgentState,
    presence=st.sampled_from([None, Presence.BUSY, Presence.AVAILABLE]),
    on_call=st.sampled_from([None, 0, 1]),
    station=st.sampled_from([None, "", "s-1"]),
    source=st.sampled_from([StateSource.NOTIFICATION, StateSource.CALLER]),
)
TIMES = st.integers(0, 30)
WHO = st.sampled_from([ANNA, BORIS])
Step = Callable[[Agents, Oracle], None]


def tell(agent_id: str, update: AgentState, at: float) -> Step:
    """Tell both; while nothing is muddled, what is late must be what changes the twin's latest answers."""

    def step(agents: Agents, oracle: Oracle) -> None:
        history = agents._histories.get(agent_id)
        sends = [sent for sent in history.sends if at < sent] if history else []
        before = [oracle.as_of(agent_id, sent) for sent in sends]
        applied = agents.apply(agent_id, update, at=at)
        if any(part is not None for part in parts(update)):
            oracle.apply(agent_id, update, at)
        after = [oracle.as_of(agent_id, sent) for sent in sends]
        late = sum(new != UNKNOWN_STATE and parts(old) != parts(new) for old, new in zip(before, after, strict=True))
        assert oracle.is_muddled(agent_id) or late == applied.late

    return step


def ask(agent_id: str, sent: float) -> Step:
    """Ask both."""

    def step(agents: Agents, oracle: Oracle) -> None:
        compared(agents, oracle, agent_id, sent)

    return step


def confirm(agent_id: str, at: float) -> Step:
    """Confirm to both."""

    def step(agents: Agents, oracle: Oracle) -> None:
        agents.confirm(agent_id, at)
        oracle.confirm(agent_id, at)

    return step


def suspend(since: float, agent_ids: list[str] | None) -> Step:
    """Suspend in both."""

    def step(agents: Agents, oracle: Oracle) -> None:
        agents.suspend(since, agent_ids)
        oracle.suspend(since, agent_ids)

    return step


STEPS = st.one_of(
    st.builds(tell, WHO, UPDATES, TIMES),
    st.builds(tell, WHO, UPDATES, TIMES),
    st.builds(ask, WHO, TIMES),
    st.builds(confirm, WHO, TIMES),
    st.builds(suspend, TIMES, st.none() | st.lists(WHO, max_size=1)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=80))
def test_the_directory_answers_as_its_naive_twin(steps: list[Step]) -> None:
    """Whatever is told in whatever order, both answer the same; and the count by word is a scan's."""
    agents, oracle = Agents(), Oracle()
    for step in steps:
        step(agents, oracle)
        if not any(map(oracle.is_muddled, oracle.agents)):
            words = Counter(label(oracle.as_of(agent_id, inf)) for agent_id in oracle.agents)
            assert words == agents.current()
