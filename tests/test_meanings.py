"""What can be known of a refusal: each category is somebody's concern, and each culprit has words."""

from call_initiation.calls.meanings import CONCERNS, Culprit, Meaning, Source
from call_initiation.events import Category


def test_each_category_is_a_concern() -> None:
    """Whatever a refusal is about, there is somewhere to look and something to do."""
    assert set(Category) == set(CONCERNS)
    assert all(concern.advice.endswith(".") for concern in CONCERNS.values())


def test_each_culprit_has_words() -> None:
    """No two the same."""
    assert len(Culprit) == len({culprit.phrase for culprit in Culprit})
    assert "our payload" == CONCERNS[Category.SCHEMA].culprit.phrase
    assert "the agent's state" == CONCERNS[Category.AGENT_STATE].culprit.phrase


def test_only_what_is_documented_may_be_shown_as_documentation() -> None:
    """Every other source has to be told with it."""
    documented = [source for source in Source if Meaning(Category.UNKNOWN, source=source).documented]
    assert [Source.DOCUMENTED] == documented
