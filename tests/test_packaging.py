"""What is shipped: the wheel holds the package and no more, the locks hold, and the Dockerfile's steps would do.

No container engine is needed: the image's instructions are read, and its build is done again in a folder that
holds only what the build context would.
"""

import json
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import call_initiation

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("build", "dev", "runtime")
JOURNAL = "/var/lib/call-initiation"

each_lock = pytest.mark.parametrize("lock", LOCKS)


def _lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def _pins(name: str) -> dict[str, Version]:
    """Return the locked version of every package."""
    return {
        package: Version(version) for package, version in re.findall(r"^([\w.-]+)==([^ ]+)", _lock(name), re.MULTILINE)
    }


def _instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, each with its arguments on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


def _arguments(word: str) -> list[str]:
    return [arguments for found, arguments in _instructions() if found == word]


def _copied_from_context() -> Iterator[str]:
    """Yield every path that the image's build takes from the checkout."""
    for arguments in _arguments("COPY"):
        if not arguments.startswith("--from="):
            yield from (source.rstrip("/") for source in arguments.split()[:-1])


def _requirements(key: str) -> list[Requirement]:
    """Return what pyproject.toml asks for itself, in the words that a lock must satisfy."""
    asked: dict[str, list[str]] = {
        "build": PROJECT["dependency-groups"]["build"],
        "dev": [line for line in PROJECT["dependency-groups"]["dev"] if isinstance(line, str)],
        "runtime": [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["service"]],
    }
    return [Requirement(line) for line in asked[key]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel as the Dockerfile does, from what it copies alone; return the names inside."""
    context, dist = tmp_path_factory.mktemp("context"), tmp_path_factory.mktemp("dist")
    for source in _copied_from_context():
        (context / source).parent.mkdir(parents=True, exist_ok=True)
        (context / source).symlink_to(ROOT / source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(dist), str(context)], check=True)  # noqa: S603 - our own build
    (built,) = dist.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_the_package_under_test_is_the_installed_one() -> None:
    """An editable install is tested from the checkout, any other from site-packages: never one for the other."""
    origin = json.loads(metadata.distribution("call-initiation-exporter").read_text("direct_url.json") or "{}")
    is_editable = origin.get("dir_info", {}).get("editable", False)
    home = ROOT / "exporter" if is_editable else Path(sysconfig.get_path("purelib"))
    assert home == Path(call_initiation.__file__).parents[1]


def test_the_wheel_holds_the_package_and_no_more(wheel: list[str]) -> None:
    """Every file of the package, its metadata and its licence; no tests, no caches."""
    source = ROOT / "exporter"
    files = (path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    info = f"call_initiation_exporter-{PROJECT['project']['version']}.dist-info"
    described = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert {path.relative_to(source).as_posix() for path in files} | described == set(wheel)
    assert "call_initiation/py.typed" in wheel


@each_lock
def test_every_pin_has_a_hash(lock: str) -> None:
    """One release each, with the digests of its files."""
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", _lock(lock), flags=re.MULTILINE).strip())
    assert [] == [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]


@each_lock
def test_locks_name_no_place(lock: str) -> None:
    """No index, no folder and no address: where packages come from is the installing machine's business."""
    assert [] == re.findall(r"^.*(?:://|--index|--extra-index|--find-links| /).*$", _lock(lock), re.MULTILINE)


@each_lock
def test_locks_satisfy_the_project(lock: str) -> None:
    """Whatever pyproject.toml asks for is pinned within the range that it gives; else run `make lock`."""
    pins = _pins(lock)
    missing = [
        str(asked)
        for asked in _requirements(lock)
        if asked.name not in pins or not asked.specifier.contains(pins[asked.name], prereleases=True)
    ]
    assert [] == missing


def test_locks_agree() -> None:
    """What is tested is what runs: the three locks never differ on a version."""
    tested = _pins("dev")
    assert {} == {name: pin for lock in LOCKS for name, pin in _pins(lock).items() if tested.get(name) != pin}


def test_base_images_are_one_release_pinned_by_digest() -> None:
    """Every stage starts from the same digest: what was built is what runs."""
    images = {arguments.split()[0] for arguments in _arguments("FROM")}
    assert 1 == len(images)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", images.pop())


def test_the_build_context_holds_what_is_copied() -> None:
    """Every file that the Dockerfile copies is in the checkout, and .dockerignore lets it through."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    sources = list(_copied_from_context())
    assert [] == [source for source in sources if not (ROOT / source).exists()]
    assert allowed == {source.split("/")[0] for source in sources}


def test_the_image_runs_as_a_numeric_user_other_than_root() -> None:
    """A number, so that Kubernetes can verify `runAsNonRoot` without reading the image's user list."""
    (user,) = _arguments("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_the_journal_is_the_image_s_one_volume_and_belongs_to_its_user() -> None:
    """The root can be read-only: all that is written goes to one folder, which the user owns."""
    (user,) = _arguments("USER")
    assert [json.dumps([JOURNAL])] == _arguments("VOLUME")
    assert f"--from=build --chown={user} {JOURNAL} {JOURNAL}" in _arguments("COPY")


def test_the_image_starts_without_a_shell() -> None:
    """Exec form throughout: the program itself gets SIGTERM, and the image would do without a shell."""
    (script,) = PROJECT["project"]["scripts"]
    (health,) = _arguments("HEALTHCHECK")
    assert [[script]] == [json.loads(arguments) for arguments in _arguments("ENTRYPOINT")]
    assert [["serve"]] == [json.loads(arguments) for arguments in _arguments("CMD")]
    assert [script, "health"] == json.loads(health.partition(" CMD ")[2])


def test_nothing_is_run_in_the_image_s_last_stage() -> None:
    """The last stage only copies: no package manager's traces, and no layer that a rebuild would change."""
    words = [word for word, _ in _instructions()]
    last = len(words) - words[::-1].index("FROM")
    assert "RUN" not in words[last:]
