"""The settings of Ray on every machine that measures or drives: Ray reads them when it starts."""

from __future__ import annotations

OBJECT_STORE_BYTES = 100_000_000  # samples travel inline; the default of 30 % of memory is never needed

# For every process of Ray, daemons and drivers alike.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    # No idle workers at the start of a machine that is about to be timed, no environments made by Ray, no usage
    # statistics.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # By default Ray runs its workers at niceness 15, and what they start: everything else, Ray's own daemons
    # included, would go before the measuring process.
    "RAY_worker_niceness": "0",
    # Machines with different patch releases of Python may work together.
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
}
