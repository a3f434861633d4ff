"""Our own log lines on stderr, as text for people or as JSON for machines.

Only what this package says is shown, at the level that was chosen: libraries beneath us would show requests, and with
them headers, numbers and a collector's URL. Where nobody takes what they say, Python shows their warnings on stderr.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

_TEXT: Final = "%(asctime)s %(levelname)s %(message)s"


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: time (RFC 3339, UTC), level, logger, message and an exception's traceback."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Stderr:
    """The stderr of the moment: a live table puts one of its own there."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def set_up(level: str, log_format: str) -> None:
    """Show what this package logs from `level` on, as `text` or `json`; a second time replaces the first."""
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(_Json() if log_format == "json" else logging.Formatter(_TEXT))
    logger = logging.getLogger("call_initiation")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    logging.basicConfig(handlers=[logging.NullHandler()])  # else Python's last resort shows what others warn of
