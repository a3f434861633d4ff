"""What settings promise: one name everywhere, flags before environment before file, and errors of one sentence."""

from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_initiation.errors import SettingsError
from call_initiation.program.settings import Address, Settings, address, duration, load, size
from call_initiation.telemetry.presets import HOSTS

MISTAKES = Path(__file__).parent / "data" / "settings"
SECRET = "canary-7f3a91"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take from the environment what could be a setting of ours."""
    for key in ("GENESYS_CLIENT_ID", "GENESYS_CLIENT_SECRET"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a file that sets everything."""
    path = tmp_path / "exporter.toml"
    path.write_text(
        f"""
        metrics_listen = "[::1]:9000"
        settle = 1
        log_level = "Info"
        log_format = "JSON"
        genesys_client_id = "an-id"
        genesys_client_secret = "{SECRET}"
        """
    )
    return path


def test_defaults_are_for_loopback_and_calm() -> None:
    """Nothing needs to be set."""
    assert Settings() == load()
    found = load()
    assert (Address("127.0.0.1", 9464), 2.0, "warning", "text") == (
        found.metrics_listen,
        found.settle,
        found.log_level,
        found.log_format,
    )
    assert (None, None) == (found.genesys_client_id, found.genesys_client_secret)


def test_a_file_sets_everything(config: Path) -> None:
    """By each setting's own name; words in any case."""
    found = load(config)
    assert (Address("::1", 9000), 1.0, "info", "json") == (
        found.metrics_listen,
        found.settle,
        found.log_level,
        found.log_format,
    )
    assert found.genesys_client_secret is not None
    assert ("an-id", SECRET) == (found.genesys_client_id, found.genesys_client_secret.get_secret_value())


def test_a_preset_is_named_by_any_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any case; those that the program knows."""
    path = tmp_path / "exporter.toml"
    path.write_text('preset = "newrelic-us"')
    assert "newrelic-us" == load(path).preset
    monkeypatch.setenv("CALL_INITIATION_PRESET", "NewRelic-EU")
    assert ("newrelic-eu", "newrelic-fedramp") == (load(path).preset, load(path, {"preset": "newrelic-fedramp"}).preset)
    assert set(HOSTS) == set(get_args(get_args(Settings.model_fields["preset"].annotation)[0]))


def test_flags_win_then_the_environment_then_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that wasn't given, and a variable that is empty, say nothing."""
    monkeypatch.setenv("CALL_INITIATION_SETTLE", "2s")
    monkeypatch.setenv("call_initiation_log_level", "error")
    monkeypatch.setenv("CALL_INITIATION_LOG_FORMAT", "")
    monkeypatch.setenv("GENESYS_CLIENT_ID", "another-id")
    found = load(config, {"settle": "3s", "log_level": None})
    assert (3.0, "error", "json", "another-id") == (
        found.settle,
        found.log_level,
        found.log_format,
        found.genesys_client_id,
    )


def test_it_shows_what_was_chosen_and_what_is_a_default() -> None:
    """So that a default may give way where a choice may not."""
    assert set() == load().model_fields_set
    assert {"metrics_listen"} == load(flags={"metrics_listen": "127.0.0.1:9464"}).model_fields_set


@pytest.mark.parametrize("mistake", sorted(path.stem for path in MISTAKES.glob("*.toml")))
def test_each_mistake_in_a_file_has_its_sentence(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key, what was found, what was expected."""
    monkeypatch.chdir(MISTAKES)
    with pytest.raises(SettingsError) as caught:
        load(Path(f"{mistake}.toml"))
    assert Path(f"{mistake}.txt").read_text().rstrip("\n") == str(caught.value)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Some editors put one before what is else UTF-8."""
    path = tmp_path / "exporter.toml"
    path.write_text("settle = 1", encoding="utf-8-sig")
    assert 1.0 == load(path).settle


def test_a_file_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    """As one that is no TOML."""
    path = tmp_path / "exporter.toml"
    path.write_text(f"settle = {'[' * 10_000}")
    with pytest.raises(SettingsError, match="found what is no TOML"):
        load(path)


@pytest.mark.parametrize(("path", "reason"), [("none.toml", "no such file or directory"), (".", "is a directory")])
def test_a_file_that_cannot_be_read_is_named(path: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's reason."""
    monkeypatch.chdir(MISTAKES)
    with pytest.raises(SettingsError) as caught:
        load(Path(path))
    assert f"--config {path}: found what can't be read ({reason}), expected a TOML file" == str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("CALL_INITIATION_SETTLE", "soon", "found 'soon', expected a duration up to 60s"),
        (
            "CALL_INITIATION_SETTEL",
            "2",
            "found a key that isn't known, expected another one, perhaps CALL_INITIATION_SETTLE",
        ),
        (
            "CALL_INITIATION_METRICS_LISTEN",
            "9464",
            "found '9464', expected an address to listen on, like 127.0.0.1:9464",
        ),
    ],
)
def test_a_mistake_in_the_environment_is_named_as_there(
    key: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable's name."""
    monkeypatch.setenv(key, value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert f"{key}: {expected}" == str(caught.value)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("DIALER_SECRET", "a secret that dialers know: printable ASCII, no blank at either end"),
        ("CLIENT_CA", "the path of a PEM file, and tls_cert beside it"),
        ("WEB_CONFIG", "the path of a file in Prometheus's web-config format"),
    ],
)
def test_a_guard_that_is_empty_is_a_mistake(key: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the value got lost on its way here, the door isn't to stand open."""
    monkeypatch.setenv("CALL_INITIATION_TLS_CERT", "gateway.pem")
    monkeypatch.setenv(f"CALL_INITIATION_{key}", "")
    with pytest.raises(SettingsError) as caught:
        load()
    assert f"CALL_INITIATION_{key}: found '', expected {expected}" == str(caught.value)


@pytest.mark.parametrize("key", ["client_ca", "tls_key"])
def test_what_only_tls_needs_needs_a_certificate(key: str) -> None:
    """Without one, no TLS would be spoken, and nobody asked who they are; the certificate may come from elsewhere."""
    flag = f"--{key.replace('_', '-')}"
    with pytest.raises(SettingsError) as caught:
        load(flags={key: Path("some.pem")})
    assert f"{flag}: found 'some.pem', expected the path of a PEM file, and tls_cert beside it" == str(caught.value)
    found = load(flags={key: Path("some.pem"), "tls_cert": Path("gateway.pem")})
    assert Path("some.pem") == getattr(found, key)


@pytest.mark.parametrize("key", ["journal", "web_config", "tls_cert", "upstream_ca"])
def test_an_empty_flag_names_no_path(key: str) -> None:
    """As the command line hands it on: to `Path`, an empty text is the current folder."""
    with pytest.raises(SettingsError, match=rf"--{key.replace('_', '-')}: found '\.', expected the path of a "):
        load(flags={key: Path()})


@pytest.mark.parametrize("secret", ["a", "open sesame", "~!"])
def test_a_dialers_secret_is_what_a_header_carries(secret: str) -> None:
    """Whole: a blank within stays, too."""
    found = load(flags={"dialer_secret": secret}).dialer_secret
    assert found is not None
    assert secret == found.get_secret_value()


def test_the_source_at_fault_is_the_one_that_won(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag is at fault where the file and the environment are fine."""
    monkeypatch.setenv("CALL_INITIATION_SETTLE", "2s")
    with pytest.raises(SettingsError) as caught:
        load(config, {"settle": "2m"})
    assert "--settle: found '2m', expected a duration up to 60s" == str(caught.value)


def test_a_key_with_underscores_is_a_flag_with_hyphens() -> None:
    """As the command line has it."""
    with pytest.raises(SettingsError) as caught:
        load(flags={"metrics_listen": "here"})
    assert str(caught.value).startswith("--metrics-listen: found 'here'")


@pytest.mark.parametrize(
    "key",
    [
        "CALL_INITIATION_EXPORTER_SERVICE_HOST",
        "CALL_INITIATION_EXPORTER_SERVICE_PORT",
        "CALL_INITIATION_EXPORTER_SERVICE_PORT_METRICS",
        "CALL_INITIATION_EXPORTER_PORT",
        "CALL_INITIATION_EXPORTER_PORT_9464_TCP",
        "CALL_INITIATION_EXPORTER_PORT_9464_TCP_ADDR",
    ],
)
def test_what_kubernetes_puts_there_is_no_mistake(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called `call-initiation-exporter` gives each pod of its namespace such variables."""
    monkeypatch.setenv(key, "tcp://10.0.0.1:9464")
    assert Settings() == load()


def test_secrets_are_shown_nowhere(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the settings nor by the error about another key, its cause and its context included."""
    found = load(config)
    assert SECRET not in f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"
    monkeypatch.setenv("GENESYS_CLIENT_SECRET", SECRET)
    with pytest.raises(SettingsError) as caught:
        load(config, {"settle": "x"})
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("expected", "text"),
    [(60.0, "60s"), (300.0, "5m"), (3600.0, "1h"), (90.0, "90"), (90.0, 90), (0.5, "0.5s"), (5400.0, "1.5h"), (0.0, 0)],
)
def test_durations(expected: float, text: object) -> None:
    """Seconds, minutes, hours, or plain seconds."""
    assert expected == duration(text)


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1d", "1 s", "1e3", "inf", "nan", "1m30s", "٣s", "9" * 20, True, None, []]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r".*"):
        duration(text)


@pytest.mark.parametrize(("expected", "text"), [(2**20, "1MiB"), (64 * 2**20, "64 MiB"), (2 * 2**30, "2GiB")])
def test_sizes(expected: int, text: str) -> None:
    """In units that say what they mean."""
    assert expected == size(text)


@pytest.mark.parametrize("text", ["", "1", "MiB", "-1MiB", "1.5MiB", "1MB", "1mib", "1  MiB", "٣MiB", 64, None])
def test_what_is_no_size_is_refused(text: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r".*"):
        size(text)


def test_a_journal_is_off_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any source."""
    assert (None, 64 * 2**20) == (load().journal, load().journal_size)
    monkeypatch.setenv("CALL_INITIATION_JOURNAL", str(tmp_path))
    monkeypatch.setenv("CALL_INITIATION_JOURNAL_SIZE", "1GiB")
    found = load(flags={"journal_size": "2MiB"})
    assert (tmp_path, 2 * 2**20) == (found.journal, found.journal_size)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (Address("127.0.0.1", 80), "127.0.0.1:80"),
        (Address("::1", 0), "[::1]:0"),
        (Address("localhost", 65535), "localhost:65535"),
        (Address("fe80::1%eth0", 80), "[fe80::1%eth0]:80"),
    ],
)
def test_addresses(expected: Address, text: str) -> None:
    """A host and a port; IPv6 in brackets, as in URLs."""
    assert expected == address(text)


@pytest.mark.parametrize("text", [".a:80", "a..b:80", f"{'a' * 64}:80", "a:65536", "a", ":80", "[x]:80", "a b:80"])
def test_what_no_address_can_be_is_refused(text: str) -> None:
    """A name with an empty or a long label, too: only listening would find out, and not in good order."""
    with pytest.raises(SettingsError, match=r"--listen: found .*, expected an address to listen on"):
        load(flags={"listen": text})


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text())))
def test_addresses_and_durations_are_read_or_refused(anything: object) -> None:
    """By a ValueError, whatever it is; what is read is in range."""
    with suppress(ValueError):
        assert 0 <= address(anything).port <= 65_535
    with suppress(ValueError):
        assert 0 <= duration(anything)
    with suppress(ValueError):
        assert 0 <= size(anything)
