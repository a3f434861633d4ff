"""Runs every benchmark beside this file, or those that are named: `make bench`, `make bench ARGS="overhead agents"`."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run" and not path.stem.startswith("_"))


def main(named: list[str]) -> int:
    """Run the benchmarks; return the exit status."""
    if unknown := sorted(set(named) - set(NAMES)):
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(HERE))
    for name in named or NAMES:
        print(f"\n== {name}: benchmarks/{name}.py", flush=True)
        sys.argv = [name]
        runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
