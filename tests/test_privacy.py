"""What `privacy` promises: canaries come through by no door, and what is harmless stays readable."""

import html
import re
import unicodedata
from collections.abc import Callable
from itertools import cycle
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from call_initiation.privacy import KeyedHash, LabelCap, Mask, Secrets, digits, pieces

NUMBER = "33199000123"
TOKEN = "q7Zr1xN0cLw9VbT4-kYeD_2sUjHg8mPf5aQ6oRi3"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

SPELLINGS: dict[str, Callable[[str], str]] = {
    "E.164": lambda number: f"+{number}",
    "bare": lambda number: number,
    "international prefix": lambda number: f"00{number}",
    "national": lambda number: f"0{number[2:]}",
    "blanks": lambda number: "+" + " ".join(number),
    "pairs": lambda number: "+" + " ".join(re.findall("..?", number)),
    "dots": lambda number: ".".join(re.findall("..?", number)),
    "dashes": lambda number: "-".join(re.findall("..?", number)),
    "slashes and underscores": lambda number: "".join(map("".join, zip(number, cycle("/_"), strict=False))),
    "parentheses": lambda number: f"+{number[:2]} (0) {number[2:5]} ({number[5:]})",
    "no-break blanks": "\u00a0".join,
    "thin blanks": "\u2009\u202f".join,
    "line ends": "\r\n\u2028".join,
    "zero width": "\u200b\u2060\ufeff".join,
    "soft hyphens and controls": "\u00ad\x00\u202e".join,
    "variation selectors": "\ufe0f\u20e3".join,
    "Hangul filler": "\u3164".join,
    "lone surrogates": "\ud800".join,
    "tel URI": lambda number: f"tel:+{number};phone-context=example.com",
    "sip URI": lambda number: f"sip:%2B{number}@example.com;user=phone",
    "percent": lambda number: "%2B" + "".join(f"%{ord(char):02x}" for char in number),
    "percent twice": lambda number: quote(quote("+" + "%20".join(number))),
    "percent UTF-8": lambda number: quote("".join(chr(0x660 + int(char)) for char in number)),
    "percent u": lambda number: "".join(f"%u{ord(char):04X}" for char in number),
    "full width": lambda number: "".join(chr(0xFF10 + int(char)) for char in f"{number}"),
    "Arabic-Indic": lambda number: "".join(chr(0x660 + int(char)) for char in number),
    "Devanagari": lambda number: "".join(chr(0x966 + int(char)) for char in number),
    "mathematical": lambda number: "".join(chr(0x1D7CE + int(char)) for char in number),
    "superscript": lambda number: "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(char)] for char in number),
    "dingbats": lambda number: "".join("⓿❶❷❸❹❺❻❼❽❾"[int(char)] for char in number),
    "decimal entities": lambda number: "&plus;" + "".join(f"&#{ord(char)};" for char in number),
    "padded entities": lambda number: "".join(f"&#000{ord(char)}" for char in number),
    "hex entities": lambda number: "".join(f"&#x{ord(char):X};" for char in number),
    "entities of entities": lambda number: "".join(f"&amp;#{ord(char)};" for char in number),
    "named blanks": "&nbsp;".join,
    "JSON escapes": lambda number: "".join(f"\\u{ord(char):04x}" for char in number),
    "braced escapes": lambda number: "".join(f"\\u{{{ord(char):x}}}" for char in number),
    "escapes in percent": lambda number: quote(quote("".join(f"\\u{ord(char):04x}" for char in number))),
    "long escapes": lambda number: "".join(f"\\U{ord(char):08x}" for char in number),
    "byte escapes": lambda number: "".join(f"\\x{ord(char):02x}" for char in number),
    "six layers": lambda number: "".join("%" + "25" * 5 + f"{ord(char):02x}" for char in number),
}
"""Ways to write a number; none is ours."""

each_spelling = pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())


def read(text: str) -> str:
    """Return the digits that a patient reader finds in a text, by other means than the module's own."""
    for _ in range(8):
        text = unquote(html.unescape(text))
        text = re.sub(r"[\\%][ux]\{?([0-9A-Fa-f]{2,6})\}?", lambda match: chr(int(match[1], 16)), text)
    return "".join(str(unicodedata.digit(char)) for char in text if unicodedata.digit(char, None) is not None)


@each_spelling
def test_a_number_that_nobody_told_us_is_masked_in_every_spelling(spell: Callable[[str], str]) -> None:
    """The generic rule finds a number by its digits alone."""
    masked = Mask().text(f"Could not dial {spell(NUMBER)}, try again")
    assert "000123" not in read(masked)
    assert masked.startswith("Could not dial ")
    assert masked.endswith(" try again")


@each_spelling
def test_a_known_number_comes_through_no_door(spell: Callable[[str], str]) -> None:
    """Text, code and identifier: none gives the number away."""
    mask = Mask(numbers=[f"+{NUMBER}"])
    for text in (spell(NUMBER), f"x{spell(NUMBER)}", f"E_{spell(NUMBER)}.invalid"):
        shown = [mask.text(text), mask.code(text) or "", mask.identifier(text) or ""]
        assert ["", "", ""] == [read(output) if "0123" in read(output) else "" for output in shown]


numbers = st.text("0123456789", min_size=8, max_size=15).filter(lambda number: len(set(number[-7:])) > 1)
any_text = st.text(st.characters(), max_size=60)
tokens = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~+/=", min_size=8, max_size=120)


@given(numbers, st.sampled_from(sorted(SPELLINGS)), any_text, any_text, st.integers(1, 200))
def test_no_text_around_a_number_smuggles_it_out(
    number: str, spelling: str, before: str, after: str, limit: int
) -> None:
    """The law of the module, over any number in any spelling at any place of any text, cut anywhere."""
    mask = Mask(numbers=[number])
    text = before + SPELLINGS[spelling](number) + after
    for shown in (mask.text(text), mask.text(text, limit), mask.code(text), mask.identifier(text)):
        assert number[-7:] not in read(shown or "")


@given(numbers, st.lists(st.text("- .:/,()_\u00a0\u2011\u200b\t", max_size=9), min_size=16, max_size=16), any_text)
def test_no_separators_smuggle_a_number_out(number: str, separators: list[str], after: str) -> None:
    """Between digits anything may stand that is no letter: still unknown numbers are seen."""
    spelled = "".join(map("".join, zip(separators, number, strict=False)))
    assert number not in read(Mask().text(f"to: {spelled} {after}"))


TOKEN_FORMS: tuple[Callable[[str], str], ...] = (
    lambda token: token,
    lambda token: f"Bearer {token}",
    lambda token: f"authorization:Bearer%20{quote(token, safe='')}",
    lambda token: f'{{"token":"{token}"}}',
    lambda token: quote(quote(token, safe=""), safe=""),
    lambda token: "".join(f"&#{ord(char)};" for char in token),
    "\u200b".join,
    "\x00".join,
    lambda token: token[: max(8, len(token) // 2)],
    lambda token: token[-max(8, len(token) // 3) :],
    lambda token: f"…{token[3:]}…" if len(token) >= 11 else token,
    lambda token: token.translate({ord(char): ord(char) + 0xFEE0 for char in token}),
)


def parts(token: str) -> set[str]:
    """Return every eight characters in a row."""
    return {token[at : at + 8] for at in range(len(token) - 7)}


@given(tokens, st.sampled_from(TOKEN_FORMS), any_text, any_text, st.integers(1, 200))
def test_no_part_of_a_known_token_comes_through(
    token: str, form: Callable[[str], str], before: str, after: str, limit: int
) -> None:
    """Eight characters in a row are too many, in text, code and identifier."""
    mask = Mask(secrets=[f"Bearer {token}"])
    text = f"{before} {form(token)}{after}"
    for shown in (mask.text(text), mask.text(text, limit), mask.code(text), mask.identifier(text)):
        assert set() == parts(token) & parts(shown or "") - parts("[withheld]")


@pytest.mark.parametrize("form", TOKEN_FORMS)
def test_a_token_alone_comes_through_no_door(form: Callable[[str], str]) -> None:
    """A body that is nothing but the token tells nothing."""
    mask = Mask(secrets=[TOKEN])
    shown = " ".join([mask.text(form(TOKEN)), mask.code(form(TOKEN)) or "", mask.identifier(form(TOKEN)) or ""])
    assert set() == parts(TOKEN) & parts(shown)


@pytest.mark.parametrize("offset", range(9))
def test_eight_characters_of_a_token_are_found_at_any_place(offset: int) -> None:
    """Seven may be a word; eight are a part of the token, whatever they stick to."""
    mask = Mask(secrets=[TOKEN])
    assert "a [secret] b" == mask.text(f"a {'#' * offset}{TOKEN[5:13]}# b")
    assert f"a {'#' * offset}{TOKEN[5:12]}# b" == mask.text(f"a {'#' * offset}{TOKEN[5:12]}# b")


def test_a_short_secret_is_masked_whole() -> None:
    """A password of five characters is no part of a longer one, so it counts itself."""
    assert "client [secret] refused" == Mask(secrets=["hun72"]).text("client hun72 refused")


def test_secrets_too_short_to_tell_are_ignored() -> None:
    """Three characters are in every second sentence."""
    assert "the cat sat" == Mask(secrets=["cat"]).text("the cat sat")


@pytest.mark.parametrize(
    ("masked", "text"),
    [
        ("Bearer [secret] refused", "Bearer abcdefGHIJ refused"),
        ("basic [secret]", "basic dXNlcjpwYXNz"),
        ("BEARER [secret]", "BEARER: s3cr3t"),
        ("jwt [secret] expired", "jwt eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJlMQ expired"),
        ("key [secret]", "key 4bf92f3577b34da6a3ce929d0e0e4736"),
        ("key [secret]", "key abc123-def456-ghi789"),
        ("mail [address] bounced", "mail jo.doe+x@example.com bounced"),
        ("a@ or @b", "a@ or @b"),
        ("flow [address]", "flow agent@localhost"),
        ("[number]", "tel:33199000123"[4:]),
        ("1 of 2, 3 of 4, 5 of 6, 7 of 8", "1 of 2, 3 of 4, 5 of 6, 7 of 8"),
        ("stamp +[number]", "stamp +2026-01-31"),
        ("dial +[number]", "dial +33 2026-01-31"),
        ("dial [number]", "dial 2026-01-31 33"),
        ("dial [number]", "dial 2026-13-31"),
    ],
)
def test_what_looks_like_a_secret_an_address_or_a_number_is_masked(masked: str, text: str) -> None:
    """No knowledge of the request is needed for these."""
    assert masked == Mask().text(text)


@pytest.mark.parametrize(
    "text",
    [
        "A station is required to place a call.",
        "Rate limit exceeded the maximum. Retry the request in [42] seconds",
        "User 9d4b1c2e-0000-4abc-8def-1234567890ab is not a participant in the conversation.",
        "User '00000000-0000-4000-8000-000000000001' at 2026-01-31T09:30:00.000Z, since 2026-01-30 (UTC)",
        "Bearer token is missing; Basic authentication required",
        "conversation.error.no.user.station INVALID_E164_NUMBER_FOR_OUTBOUND_CALL_V2",
        "POST /api/v2/conversations/calls/user/9d4b1c2e-0000-4abc-8def-1234567890ab",
        "50 % of 100% & more: C:\\users",
        "Réseau indisponible",
    ],
)
def test_what_is_harmless_stays_readable(text: str) -> None:
    """Ids, dates, codes, paths and small numbers are what an engineer needs."""
    assert text == Mask(secrets=[TOKEN], numbers=[NUMBER]).text(text)


@pytest.mark.parametrize("text", ["33199000-1230-4abc-8def-aaaaaaaaaaaa", "id 2026-01-31"])
def test_a_safe_shape_that_holds_a_known_number_is_not_safe(text: str) -> None:
    """A number may be dressed as a UUID or a date."""
    assert "[withheld]" == Mask(numbers=["33199000123", "20260131"]).text(text)


def test_a_known_number_strewn_over_words_withholds_the_text() -> None:
    """Where masking one place isn't enough, nothing leaves."""
    assert "[withheld]" == Mask(numbers=[NUMBER]).text("a33 b19 c90 d00 e12 f3")


def test_a_part_of_a_known_number_is_masked() -> None:
    """Five digits of it are enough; of an unknown one they could be anything."""
    assert "ends in [number] or 0124" == Mask(numbers=[NUMBER]).text("ends in 00123 or 0124")
    assert "ends in 00123 or 0124" == Mask().text("ends in 00123 or 0124")


def test_a_short_known_number_is_masked_whole() -> None:
    """An extension is a number too."""
    assert "ext [number], not 4322" == Mask(numbers=["sip:4321@example.com"]).text("ext 4321, not 4322")


def test_numbers_too_short_to_tell_are_ignored() -> None:
    """Two digits dial nobody, and are in every sentence."""
    assert "in 42 s" == Mask(numbers=["42"]).text("in 42 s")


def test_zeros_of_a_known_number_do_not_withhold_ids() -> None:
    """One digit over and over is in every made-up id, and tells nothing."""
    nil = "00000000-0000-4000-8000-000000000001"
    assert nil == Mask(numbers=["+15550000000"]).identifier(nil)
    assert "ext [number] or 33" == Mask(numbers=["333"]).text("ext 333 or 33")


@given(any_text, st.integers(1, 100))
@example("\ud800\u2028\x1b[31m\u202e\x7f\r\n", 100)
@example("x" * 500, 10)
@example("word " * 500, 10)
def test_text_is_one_printable_line_within_the_limit(text: str, limit: int) -> None:
    """Logs, labels and pages can take it as it is."""
    shown = Mask().text(text, limit)
    assert len(shown) <= limit
    assert shown == "" or shown.isprintable()
    assert shown == Mask().text(text, limit)


def test_unseen_characters_vanish_and_unprintable_ones_are_replaced() -> None:
    """A terminal, a log and an XML document can take what is left."""
    assert "one two three\ufffd\ufffd" == Mask().text("one\r\ntwo\u2028\u2029 th\x00r\u202eee\ud800\ue000")


def test_layers_of_escapes_are_read() -> None:
    """What leaves is what a person would read, not what was written."""
    assert "caf\u00e9 & bar" == Mask().text("caf%2525C3%2525A9 &amp;amp;amp; bar")


def test_an_entity_that_stands_for_nothing_stays() -> None:
    """Only what a browser would read is read; code points beyond Unicode are blanks."""
    assert "a &nosuch; b &#; c" == Mask().text("a &nosuch; b &#; &#9999999; c")


@pytest.mark.parametrize("at", range(60, 110, 3))
def test_a_cut_does_not_hide_a_number_or_a_token(at: int) -> None:
    """Neither the cut of a long input nor that of the output leaves the first half of a canary."""
    mask = Mask(secrets=[TOKEN])
    shown = mask.text(f"{'word ' * 16}"[: at - 60] + f"{'x ' * 30} +{NUMBER} {TOKEN} " + "\u200b word" * 500, 16)
    assert "" == read(mask.text(f"{'x' * at} +{NUMBER} " + " " * 900, 16))
    assert set() == parts(TOKEN) & parts(shown)
    assert shown.endswith("…")


def test_a_cut_of_the_input_goes_back_to_a_word() -> None:
    """What the cut may have gone through is left out: here a number of which six digits would be seen."""
    window = "word " * 10 + "+33 19 9" + " " * 22
    assert ("word " * 10).strip() + "…" == Mask().text(window + "0 00 123" * 200, 60).replace("+33 19 9", "LEAK")
    assert "…" == Mask().text("1" * 1000, 10)


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", "1-", "+(", "a.", "a@", "a1", "%25", "&#", "&amp;", "&#0", "\\u0033", "Bearer ", "2026-01-31 "),
        *("\u200b", "\u0663", "\ufdfa", "1" + "-" * 50, "a" * 19 + " ", "9d4b1c2e-", "\ud800", "&" + "a" * 31, "33199"),
    ],
)
def test_hostile_text_costs_no_more_than_its_window(pattern: str) -> None:
    """256 KiB of the worst text is read as far as it can show, and not at all where it can't be a code."""
    hostile = (pattern * 262_144)[:262_144]
    mask = Mask(secrets=[TOKEN], numbers=[NUMBER])
    assert mask.text(hostile[:20_000]) == mask.text(hostile)
    assert mask.code(hostile) in {"other", None}
    assert None is mask.identifier(hostile)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("bad.request", "bad.request"),
        ("bad.request", " bad.request\n"),
        ("INVALID_AGENT_STATE", "INVALID_AGENT_STATE"),
        ("error.ininedgecontrol.connection.webrtc.endpoint.disconnect.iceIdleDetection",) * 2,
        ("E164-v2.1", "E164-v2.1"),
        ("400", 400),
        ("0", 0),
        ("other", -1),
        ("other", 10_000_000),
        pytest.param("other", 10**5000, id="5,001 digits"),
        ("other", "two words"),
        ("other", "x" * 81),
        ("x" * 80, "x" * 80),
        ("other", 'a"b'),
        ("other", "a\u2028b"),
        ("other", "\ud800"),
        ("other", ".leading"),
        ("other", "n33199000123"),
        ("other", "n3.3-1_9.9.0.0"),
        ("other", "a00123b"),
        ("other", 123),
        ("other", TOKEN),
        ("other", TOKEN[5:14]),
        ("other", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("other", "a33b19c90d001"),
        (None, None),
        (None, ""),
        (None, "  "),
        (None, True),
        (None, 1.5),
        (None, ["a"]),
        (None, {}),
        (None, b"code"),
    ],
)
def test_a_code_is_shown_folded_or_absent(code: str | None, text: object) -> None:
    """A code that isn't fit is counted as `other`; what is no code is none."""
    assert code == Mask(secrets=[TOKEN], numbers=[NUMBER, "123"]).code(text)


@given(st.one_of(any_text, st.integers(), st.floats(), st.none(), st.booleans(), st.lists(any_text)))
def test_a_code_always_fits_a_label(text: object) -> None:
    """Whatever the upstream sends, prometheus_client and its readers can take it."""
    code = Mask(secrets=[TOKEN], numbers=[NUMBER]).code(text)
    assert code is None or LABEL.fullmatch(code)


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("9d4b1c2e-0000-4abc-8def-1234567890ab", " 9d4b1c2e-0000-4abc-8def-1234567890ab "),
        ("uuid-123", "uuid-123"),
        (None, "x" * 65),
        (None, ""),
        (None, "a b"),
        (None, 42),
        (None, None),
        (None, "33199000-1230-4abc-8def-aaaaaaaaaaaa"),
        (None, NUMBER),
        (None, "1234-567"),
        (None, TOKEN),
        (None, "4bf92f3577b34da6a3ce929d0e0e4736"),
    ],
)
def test_an_identifier_is_shown_or_absent(identifier: str | None, text: object) -> None:
    """UUIDs and short plain ids pass; what could be a number or a token doesn't."""
    assert identifier == Mask(secrets=[TOKEN], numbers=[NUMBER]).identifier(text)


def test_a_uuid_that_is_the_secret_is_no_identifier() -> None:
    """Some test systems hand out UUIDs as tokens."""
    token = "9d4b1c2e-0000-4abc-8def-1234567890ab"
    assert None is Mask(secrets=[f"Bearer {token}"]).identifier(token)
    assert "[secret]" == Mask(secrets=[f"Bearer {token}"]).text(token)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("33199000123", "+33 1 99 00 01 23"),
        ("33199000123", "tel:+33-199-000-123;ext=7"),
        ("33199000123", "sip:%2B33199000123@192.0.2.1:5060;user=phone"),
        ("33199000123", "+٣٣١٩٩٠٠٠١٢٣"),
        ("0033199000123", "0033199000123"),
        ("", "agent@localhost"),
    ],
)
def test_digits_are_the_same_in_every_spelling(expected: str, text: str) -> None:
    """Two spellings of a destination are one destination."""
    assert expected == digits(text)


def test_a_cap_keeps_the_first_values() -> None:
    """Those that came first stay themselves; later ones are folded, and `other` takes no place."""
    cap = LabelCap(2)
    assert [("a", False), ("other", True), ("b", False), ("other", True), ("a", False), ("other", True)] == [
        cap.fold(value) for value in ("a", "other", "b", "c", "a", "d")
    ]


def test_endless_hostile_values_stay_forty() -> None:
    """Series stay bounded whatever the upstream invents."""
    cap = LabelCap()
    assert 41 == len({cap.fold(f"code-{number}")[0] for number in range(100_000)})


def test_a_keyed_hash_names_without_telling() -> None:
    """Equal texts have equal names under one key; another key gives others; the text isn't in it."""
    one, two = KeyedHash(b"one"), KeyedHash(b"two")
    assert one.digest(TOKEN) == one.digest(TOKEN)
    assert 3 == len({one.digest(TOKEN), two.digest(TOKEN), one.digest("\ud800")})
    assert re.fullmatch("[0-9a-f]{32}", one.digest(TOKEN))


@given(st.text("abcXYZ-_ .", max_size=60), st.text("abcXYZ-_.0", min_size=8, max_size=60), st.integers(0, 60))
@example("The agent is not available.", "agent-is-0-secret-is not", 0)
def test_a_mask_that_knows_no_piece_changes_nothing_more(text: str, token: str, at: int) -> None:
    """Than one that knows nothing: so what comes again and again needs to be masked only once."""
    said, mask = text[:at] + token + text[at:] if at % 3 == 0 else text, Mask(secrets=[token], numbers=["33199000123"])
    found = pieces(said)
    if found is not None and not mask.may_change(found):
        assert (Mask().text(said), Mask().code(said)) == (mask.text(said), mask.code(said))


def test_a_mask_that_knows_a_piece_says_so() -> None:
    """Or a secret that is shorter than two pieces; and a text with digits, escaped ones too, has no pieces."""
    found = pieces("token made-up-words refused") or ()
    assert not Mask(secrets=["quite-another-one"]).may_change(found)
    assert Mask(Secrets.read(["Bearer made-up-words"])).may_change(found)
    assert Mask(secrets=["short"]).may_change(found)
    assert [None, None] == [pieces("code 7"), pieces("code \\u0037")]
