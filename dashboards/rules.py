"""What Prometheus records, for the dashboards and for the alerts.

Theory. The objective is that of 100 call starts 99 get an answer that isn't the provider's, the network's or our own
failure; what validation refuses is an answer. Its budget is watched in four pairs of windows (a long one that says
that it matters, a short one that says that it still goes on), as in Google's Site Reliability Workbook, chapter 5.
The long windows are sums of one recorded rate, for raw series over days would cost seconds at each evaluation.

Lift and φ are computed per job, over the last hour, accepted calls included: a code's refusals are compared with the
attempts of each state, and a state with few attempts isn't shown.

Laws: every series keeps `job`; nothing here divides by nothing.
"""

from dataclasses import dataclass
from typing import Final

from queries import among, equal, grown, other_than, selector

from call_initiation.catalogue import ATTEMPTS, Metric
from call_initiation.events import Outcome
from call_initiation.pages.correlation import FIRM

OBJECTIVE: Final = 0.99
BUDGET: Final = round(1 - OBJECTIVE, 6)
FIRING: Final = 'ALERTS{alertname=~"CallInitiation.+",alertstate="firing",job=~"$job|"}'
"""Alerts of ours that fire for the chosen jobs, or for none: a job that is gone has no name."""


@dataclass(frozen=True)
class Recording:
    """One recorded series."""

    record: str
    expr: str


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other."""

    name: str
    rules: tuple[Recording, ...]


# -- the objective ----------------------------------------------------------------------------------------------------

WINDOWS: Final = ("30m", "1h", "2h", "6h", "1d", "3d")
SENT_RATE: Final = "job:call_initiation_attempts:rate5m"
FAILED_RATE: Final = "job:call_initiation_failures:rate5m"
BUDGET_LEFT: Final = "job:call_initiation_budget_left:ratio30d"
FAILURES: Final = among(Outcome.FAILED, Outcome.AMBIGUOUS, Outcome.NOT_SENT)


def failed_share(window: str) -> str:
    """Return the name of the share of call starts that failed within a window."""
    return f"job:call_initiation_failures:ratio_rate{window}"


def failed(window: str) -> str:
    """Return about how many call starts failed within a window: the five minutes' rate, asked for once a minute."""
    return f"sum_over_time({FAILED_RATE}[{window}:1m]) * 60"


def counted(metric: Metric, window: str, *by: str, **tests: str) -> str:
    """Return how often within a window, by job, the first time included."""
    return f"sum by ({', '.join(('job', *by))}) ({grown(selector(metric, tests), window)})"


def _rate(**tests: str) -> str:
    """Return how many call starts a second within five minutes, by job."""
    return f"{counted(ATTEMPTS, '5m', **tests)} / 300"


def _share(part: str, whole: str) -> str:
    """Return a share that is 0 where nothing is in the part, and absent where nothing is in the whole."""
    return f"({part}\nor {whole} * 0)\n/ ({whole} > 0)"


def _summed_share(window: str) -> str:
    return f"sum_over_time({FAILED_RATE}[{window}])\n/ (sum_over_time({SENT_RATE}[{window}]) > 0)"


OBJECTIVES: Final = Group(
    "call_initiation_objective",
    (
        Recording(SENT_RATE, _rate(outcome=other_than(Outcome.CANCELLED))),
        Recording(FAILED_RATE, f"{_rate(outcome=FAILURES)}\nor {SENT_RATE} * 0"),
        Recording(failed_share("5m"), f"{FAILED_RATE}\n/ ({SENT_RATE} > 0)"),
        *(Recording(failed_share(window), _summed_share(window)) for window in WINDOWS),
        Recording(BUDGET_LEFT, f"1 - (\n{_summed_share('30d')}\n) / {BUDGET}"),
    ),
)

# -- correlation ------------------------------------------------------------------------------------------------------

CELLS: Final = "job_error_code_agent_state:call_initiation_attempts:increase1h"
BY_STATE: Final = "job_agent_state:call_initiation_attempts:increase1h"
BY_CODE: Final = "job_error_code:call_initiation_attempts:increase1h"
ALL: Final = "job:call_initiation_attempts:increase1h"
LIFT: Final = "job_error_code_agent_state:call_initiation_attempts:lift1h"
PHI: Final = "job_error_code_agent_state:call_initiation_attempts:phi1h"

OF_CODE, OF_STATE, OF_ALL = (
    f"job_error_code_agent_state:call_initiation_attempts_of_{whole}:increase1h" for whole in ("code", "state", "job")
)
"""Beside each cell's refusals: all that met the code, all call starts of the state, and all of the job."""

_REFUSED: Final = f'{CELLS}{{error_code!="none"}}'


def _beside(labels: str, series: str) -> str:
    return f"{_REFUSED} * 0\n+ on ({labels}) group_left () ({series})"


CORRELATIONS: Final = Group(
    "call_initiation_correlation",
    (
        Recording(CELLS, counted(ATTEMPTS, "1h", "error_code", "agent_state")),
        Recording(BY_STATE, f"sum by (job, agent_state) ({CELLS})"),
        Recording(BY_CODE, f"sum by (job, error_code) ({CELLS})"),
        Recording(ALL, f"sum by (job) ({CELLS})"),
        Recording(OF_CODE, _beside("job, error_code", f"{BY_CODE} > 0")),
        Recording(OF_STATE, _beside("job, agent_state", f"{BY_STATE} >= {FIRM}")),
        Recording(OF_ALL, _beside("job", ALL)),
        Recording(LIFT, f"({_REFUSED} / {OF_STATE})\n/ ({OF_CODE} / {OF_ALL})"),
        Recording(
            PHI,
            f"({OF_ALL} * {_REFUSED}\n- {OF_CODE} * {OF_STATE})\n"
            f"/ (sqrt(\n{OF_CODE} * ({OF_ALL} - {OF_CODE})\n* {OF_STATE} * ({OF_ALL} - {OF_STATE})\n) > 0)",
        ),
    ),
)

# -- what is refused --------------------------------------------------------------------------------------------------

REJECTED_SHARE: Final = "job:call_initiation_rejected:ratio_rate10m"
CODE_SHARE: Final = "job_error_code:call_initiation_attempts:ratio_increase1h"

REFUSALS: Final = Group(
    "call_initiation_refusals",
    (
        Recording(
            REJECTED_SHARE,
            _share(counted(ATTEMPTS, "10m", outcome=equal(Outcome.REJECTED)), counted(ATTEMPTS, "10m")),
        ),
        Recording(CODE_SHARE, f'{BY_CODE}{{error_code!="none"}}\n/ on (job) group_left () ({ALL} > 0)'),
    ),
)

RECORDINGS: Final = (OBJECTIVES, CORRELATIONS, REFUSALS)
