"""What passes the gateway, on heads that no parser has seen: the rules hold by themselves."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from call_initiation.gateway.admission import Head, Header, Host, Passage, Refusal, Rules, admit, named_by_connection

CALLS = b"/api/v2/conversations/calls"
HOST: list[Header] = [(b"Host", b"gateway.test")]

texts = st.binary(max_size=12)
names = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X", b"Expect", b"Upgrade", b"traceparent"]
)
values = st.sampled_from([b"3", b"+3", b"chunked", b"close, x", b"gateway.test", b"a@b", b"100-continue", b"\0", b""])
pieces = st.sampled_from([CALLS, b"/user/", b"a", b"..", b"%2e", b"?", b"//", b"\\", b"/login", b"/oauth/token"])
heads = st.builds(
    Head,
    method=st.sampled_from([b"POST", b"GET", b"TRACE", b"CONNECT"]),
    target=st.binary(max_size=60) | st.lists(pieces).map(b"".join),
    version=st.sampled_from(["1.1", "1.0", "0.9", "2.0"]),
    headers=st.lists(st.tuples(names | texts, values | texts), max_size=6).map(lambda more: HOST + more),
)


@given(heads, st.builds(Rules, forward_all=st.booleans()))
@example(Head(b"POST", CALLS, "1.1", [*HOST, (b"X-Call-Initiation-Agent-State", b"[" * 100_000)]), Rules())
@example(Head(b"POST", CALLS, "1.1", [*HOST, (b"X-Call-Initiation-Agent-State", b'{"a":' * 100_000)]), Rules())
def test_every_head_is_judged_and_what_passes_is_clean(head: Head, rules: Rules) -> None:
    """No head raises; no passage has framing, a Host, hop-by-hop fields, controls, or a path that isn't plain."""
    judged = admit(head, rules)
    if isinstance(judged, Refusal):
        assert 400 <= judged.status < 600
        return
    dropped = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
    assert not dropped & {name.lower() for name, _ in judged.headers}
    assert all(header in head.headers for header in judged.headers)
    assert not any(set(value) & {0, 10, 13} for _, value in judged.headers)
    path = judged.target.partition(b"?")[0]
    assert path.startswith(b"/")
    assert not any(part in path for part in (b"//", b"/../", b"/./", b"\\", b"#", b"@@", b"%2e", b"%2f"))
    assert judged.target == head.target or (judged.host is Host.LOGIN and head.target == b"/login" + judged.target)


@pytest.mark.parametrize("header", [(b"X", b"a\0"), (b"X", b"a\nb"), (b"", b"a"), (b"X y", b"a")])
def test_a_header_with_a_character_that_it_may_not_have_is_refused(header: Header) -> None:
    """RFC 9110, 5.1 and 5.5; by its name or by its value."""
    judged = admit(Head(b"POST", CALLS, "1.1", [*HOST, header]), Rules())
    assert isinstance(judged, Refusal)
    assert 400 == judged.status


def test_a_length_is_digits_and_no_more() -> None:
    """RFC 9110, 8.6; whatever a parser let through."""
    for length, status in ((b"+3", 400), (b"0x3", 400), (b"3 ", 400), (b"", 400), (b"9" * 19, 400), (b"512001", 413)):
        judged = admit(Head(b"POST", CALLS, "1.1", [*HOST, (b"Content-Length", length)]), Rules())
        assert isinstance(judged, Refusal)
        assert status == judged.status


def test_a_passage_says_what_the_dialer_awaits() -> None:
    """`Expect` is met on HTTP/1.1 only, as RFC 9110, 10.1.1, has it."""
    for version, is_awaiting in (("1.1", True), ("1.0", False)):
        judged = admit(Head(b"POST", CALLS, version, [*HOST, (b"Expect", b"100-Continue")]), Rules())
        assert isinstance(judged, Passage)
        assert is_awaiting is judged.is_awaiting


@pytest.mark.parametrize(
    ("line", "starts_call"),
    [
        (b"POST " + CALLS, True),
        (b"POST " + CALLS + b"/user/u-1?a=b", True),
        (b"POST " + CALLS + b"/c-1", True),
        (b"GET " + CALLS, False),
        (b"POST " + CALLS + b"/c-1/more", False),
        (b"POST /api/v2/users/me", False),
        (b"POST /oauth/token", False),
    ],
)
def test_only_call_starts_go_without_the_advice_to_call_again(line: bytes, starts_call: bool) -> None:  # noqa: FBT001 - a column of the table
    """And they do so only where the rules say it."""
    method, target = line.split(b" ")
    for is_set in (False, True):
        judged = admit(Head(method, target, "1.1", HOST), Rules(forward_all=True, prevent_repeats=is_set))
        assert isinstance(judged, Passage)
        assert (is_set and starts_call) is judged.prevents_repeats


def test_connection_names_fields_in_any_case_and_number() -> None:
    """But never those without which a call isn't itself."""
    headers = [(b"Connection", b"X, authorization"), (b"connection", b" Y ,content-length"), (b"Z", b"a")]
    assert {b"x", b"y"} == named_by_connection(headers)


@pytest.mark.parametrize("told", ["Agent-Id", "Agent-State", "Secret"])
def test_what_is_told_twice_is_not_told(told: str) -> None:
    """Which of the two would count, no dialer could know: not even where both say the same."""
    header = (f"X-Call-Initiation-{told}".encode(), b"a")
    heads = [Head(b"POST", CALLS, "1.1", [*HOST, *[header] * times]) for times in (1, 2)]
    once, twice = (admit(head, Rules()) for head in heads)
    assert isinstance(once, Passage)
    assert isinstance(twice, Refusal)
    assert (400, "malformed") == (twice.status, twice.code)
