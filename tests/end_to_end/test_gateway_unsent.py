"""A call that can't be sent isn't sent later either, and its dialer knows that nobody was called."""

from threading import Event

import pytest

from call_initiation.events import Outcome, TransportFailure
from call_initiation.gateway.relay import Origin
from gateways import ACCEPTED, BODY, CALLS, Client, ask, call, certified, closed, is_error, post, running, stalled
from servers import PATIENCE, Server, always


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", TransportFailure.CONNECTION_REFUSED),
        ("nobody.invalid", TransportFailure.NAME_RESOLUTION),
        ("a" * 70 + ".invalid", TransportFailure.CONNECTION_FAILED),
    ],
)
def test_an_api_that_cannot_be_reached_is_502_at_once(host: str, kind: TransportFailure) -> None:
    """C4: refused, or no such name: nothing was sent, and the dialer is told so."""
    with running(Origin(host, closed())) as gateway:
        said = ask(gateway.port, call())
        assert is_error(said, 502, "unreachable", "not_sent")
        assert {"reason": kind} == said.error["messageParams"]
        (attempt,) = gateway.attempts()
        assert (Outcome.NOT_SENT, kind, None) == (attempt.outcome, attempt.error_type, attempt.sent_at)


def test_a_connect_that_stalls_is_504_and_not_sent() -> None:
    """C4: the time for a connection is short."""
    with stalled() as port, running(Origin("127.0.0.1", port), connect=0.2) as gateway:
        assert is_error(ask(gateway.port, call()), 504, "timeout", "not_sent")
        (attempt,) = gateway.attempts()
        assert (Outcome.NOT_SENT, TransportFailure.CONNECT_TIMEOUT) == (attempt.outcome, attempt.error_type)


def test_a_dialer_that_leaves_before_the_send_has_placed_no_call() -> None:
    """C6: a call whose dialer is gone is given up, and recorded as cancelled."""
    with stalled() as port, running(Origin("127.0.0.1", port), connect=PATIENCE) as gateway:
        with Client(gateway.port) as client:
            client.send(call())
            gateway.until(lambda: bool(gateway.gateway._under_way))
        gateway.until(lambda: not gateway.gateway._under_way)
        assert [Outcome.CANCELLED] == [attempt.outcome for attempt in gateway.attempts()]


@pytest.mark.parametrize(
    ("name", "is_expired", "is_trusted", "kind"),
    [
        ("localhost", True, True, TransportFailure.CERTIFICATE_EXPIRED),
        ("other.test", False, True, TransportFailure.CERTIFICATE_HOSTNAME_MISMATCH),
        ("localhost", False, False, TransportFailure.CERTIFICATE_UNTRUSTED),
        ("localhost", False, True, None),
    ],
)
def test_certificates_are_verified(
    name: str,
    is_expired: bool,  # noqa: FBT001 - a column of the table
    is_trusted: bool,  # noqa: FBT001 - a column of the table
    kind: TransportFailure | None,
) -> None:
    """C5: an API that can't prove who it is gets no call."""
    theirs, ours = certified(name, is_expired=is_expired, is_trusted=is_trusted)
    with Server(always(ACCEPTED), tls=theirs) as api, running(Origin("localhost", api.port, ours)) as gateway:
        said = ask(gateway.port, call())
        (attempt,) = gateway.attempts()
        if kind is None:
            assert (202, 1) == (said.status, api.count("1"))
        else:
            assert is_error(said, 502, "unreachable", "not_sent")
            assert (Outcome.NOT_SENT, kind, 0) == (attempt.outcome, attempt.error_type, api.count("1"))


def test_overload_is_refused_before_anything_is_sent() -> None:
    """C16: ten times what there is room for: what was sent is answered, the rest is told so and never sent."""
    hold = Event()
    room, queue, dialers = 4, 2, 40
    options = {"in_flight": room, "queue": queue, "queue_seconds": PATIENCE}
    with Server(always(hold, ACCEPTED)) as api, running(api, **options) as gateway:
        clients = [Client(gateway.port) for _ in range(dialers)]
        for n, client in enumerate(clients):
            client.send(post(CALLS, BODY, f"X-Request-Id: {n}"))
        api.wait(room, room)
        gateway.until(lambda: len(gateway.gateway._under_way) <= room + queue)
        hold.set()
        answers = [client.answer() for client in clients]
        for client in clients:
            client.socket.close()
        refused = [said for said in answers if said.status == 503]
        assert dialers - room - queue == len(refused)
        assert all(is_error(said, 503, "overloaded", "not_sent") for said in refused)
        assert {"1"} == {said.header("Retry-After") for said in refused}
        assert room + queue == len(api.received) == len({received.id for received in api.received})
        assert {"overloaded": len(refused)} == gateway.refused()


def test_the_queue_is_short_in_time_too() -> None:
    """C16: who waits too long for room is told so, before anything is sent."""
    hold = Event()
    with Server(always(hold, ACCEPTED)) as api, running(api, in_flight=1, queue_seconds=0.1) as gateway:
        with Client(gateway.port) as first:
            first.send(post())
            api.wait()
            assert is_error(ask(gateway.port, call()), 503, "overloaded", "not_sent")
            hold.set()
            assert 202 == first.answer().status
        assert 0 == api.count("1")
