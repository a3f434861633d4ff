"""What stands in for a client's transport and for streams: like what it stands for, in all but what it notes.

The doors (`client`) are made of these for each library; nothing here knows which one.
"""

from copy import copy, deepcopy
from typing import Any, NamedTuple, Protocol, Self

from call_initiation.calls.observation import Observation, Streams


class Observer(Protocol):
    """What the transports need of an exporter."""

    def observe(self, request: Any, streams: Streams, /) -> Observation | None:
        """Return the observation of a request, or None for one that starts no call; never raises."""
        ...


class Parts(NamedTuple):
    """What a wrapped transport is made of."""

    inner: Any
    exporter: Observer
    streams: Streams


class Wrapper:
    """Behaves like the transport that it wraps wherever it isn't asked to place a call."""

    _parts: Parts

    def __init__(self, inner: Any, exporter: Observer, streams: Streams) -> None:
        parts = Parts(inner, exporter, streams)  # in one, for with a `__getattr__` every look at `self` is dear
        object.__setattr__(self, "_parts", parts)

    # isinstance() asks for it, and the right answer is the class of what the caller put there.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The inner transport's class."""
        inner: object = self._parts.inner
        return type(inner)

    def __getattr__(self, name: str) -> Any:
        """Look up on the inner transport what we don't have."""
        return getattr(self._parts.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set on the inner transport what our class doesn't have: else it would go on with what it had."""
        if hasattr(type(self), name):  # another instrumentation puts a `handle_request` of its own before ours
            object.__setattr__(self, name, value)
        else:
            setattr(self._parts.inner, name, value)

    def __delattr__(self, name: str) -> None:
        """Delete where it would be set."""
        if hasattr(type(self), name):
            object.__delattr__(self, name)
        else:
            delattr(self._parts.inner, name)

    def __copy__(self) -> Self:
        """Wrap a copy of the inner transport."""
        return self._around(copy(self._parts.inner))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Wrap a deep copy of the inner transport, for the same exporter."""
        return self._around(deepcopy(self._parts.inner, memo))

    def _around(self, inner: Any) -> Self:
        twin = object.__new__(type(self))
        Wrapper.__init__(twin, inner, self._parts.exporter, self._parts.streams)
        return twin

    def __repr__(self) -> str:
        """Return it as the inner transport is shown."""
        return repr(self._parts.inner)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be pickled as the inner transport: an exporter stays in its process."""
        return self._parts.inner.__reduce_ex__(protocol)

    def __eq__(self, other: object) -> bool:
        """Tell whether the other one is, or wraps, the same transport."""
        theirs: Any = other
        return bool(self._parts.inner == (theirs._parts.inner if issubclass(type(other), Wrapper) else theirs))

    def __hash__(self) -> int:
        """Return the inner transport's hash, for what is equal must have the same."""
        return hash(self._parts.inner)


class Passing:
    """Stands in for a stream: tells an observation what passes, and is in all else what it stands for.

    Hooks of other instrumentations look for what a stream holds, a body's bytes or a connection.
    """

    def __init__(self, own: Any, observation: Any) -> None:
        self._own, self._observation = own, observation

    def __getattr__(self, name: str) -> Any:
        """Look up on the stream what we don't have."""
        return getattr(self.__dict__.get("_own"), name)
