"""The face of the library: its names and their signatures, pinned, so that no user's code breaks in passing."""

import importlib.metadata
import inspect
from typing import Any

import pytest

import call_initiation

NAMES = [
    "AgentState", "AsyncObservedTransport", "CallInitiationError", "Certainty", "Exporter", "InstrumentError", "Ledger",
    "ListenError", "ObservedTransport", "Outcome", "Presence", "RoutingStatus", "SettingsError", "StateSource",
    "UpstreamError", "__version__",
]  # fmt: skip


def test_the_names() -> None:
    """These and no others are promised, and each is there."""
    assert NAMES == call_initiation.__all__
    assert set(NAMES) <= set(dir(call_initiation))


@pytest.mark.parametrize(
    ("thing", "parameters"),
    [
        (
            call_initiation.Exporter,
            (
                "*registry *prometheus_port *prometheus_address *settle *capacity *tracer_provider *meter_provider "
                "*logger_provider *span_exporter *metric_exporter *log_record_exporter *event_attributes "
                "*preset *journal *journal_size"
            ),
        ),
        (call_initiation.Exporter.instrument, "self http_client"),
        (
            call_initiation.Exporter.agent_state,
            "self agent_id *presence *routing_status *on_call *wrap_up *station *out_of_office *since",
        ),
        (call_initiation.Exporter.flush, "self timeout"),
        (call_initiation.Exporter.close, "self timeout"),
        (call_initiation.Exporter.ledgers, "self"),
        (call_initiation.Exporter.now, "self"),
        (call_initiation.ObservedTransport, "inner exporter"),
        (call_initiation.AsyncObservedTransport, "inner exporter"),
        (
            call_initiation.AgentState,
            "*presence *routing_status *on_call *wrap_up *station *out_of_office *since *source *certainty",
        ),
        (call_initiation.Ledger, "*recorded *exported *pending *dropped *recovered"),
    ],
)
def test_the_signatures(thing: Any, parameters: str) -> None:
    """What callers may pass: in this order, or by name where a star stands. More may come by name."""
    promised = parameters.split()
    given = [_shown(parameter) for parameter in inspect.signature(thing).parameters.values()]
    assert [name for name in promised if name[0] != "*"] == [name for name in given if name[0] != "*"]
    assert set(promised) <= set(given)


def _shown(parameter: inspect.Parameter) -> str:
    return ("*" if parameter.kind is parameter.KEYWORD_ONLY else "") + parameter.name


def test_everything_has_its_default() -> None:
    """An exporter is made without arguments."""
    parameters = inspect.signature(call_initiation.Exporter).parameters.values()
    assert all(parameter.default is not parameter.empty for parameter in parameters)


@pytest.mark.parametrize("name", ["SettingsError", "ListenError", "InstrumentError", "UpstreamError"])
def test_the_errors(name: str) -> None:
    """Each error is one of ours, and none is a part of another."""
    assert (call_initiation.CallInitiationError,) == getattr(call_initiation, name).__bases__


def test_what_is_public_has_a_word_said_about_it() -> None:
    """Every name and every public method is explained."""
    things = [getattr(call_initiation, name) for name in NAMES if name != "__version__"]
    methods = [m for thing in things for n, m in inspect.getmembers(thing, inspect.isroutine) if not n.startswith("_")]
    ours = [thing for thing in [*things, *methods] if (getattr(thing, "__module__", "") or "").startswith("call_init")]
    assert len(things) <= len(ours)
    assert [] == [thing for thing in ours if not inspect.getdoc(thing)]


def test_the_version_is_the_distributions() -> None:
    """One place says it: the package's metadata."""
    assert importlib.metadata.version("call-initiation-exporter") == call_initiation.__version__
