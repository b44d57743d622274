"""The variables of a job, copied at its installation: a service manager sets next to none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# A token is not among them: any user can read a unit.
KEPT = (
    "HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV", "XDG_CONFIG_HOME",
    "CELLBENCH_HOME", "CELLBENCH_OUT", "CELLBENCH_WEIGHTS_URL", "CELLPOSE_LOCAL_MODELS_PATH",
    "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "RAY_AUTH_TOKEN_PATH", "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_DIR", "SSL_CERT_FILE",
)  # fmt: skip
PASSWORD = re.compile(r"//[^/@\s]*:[^/@\s]+@")


@dataclass(frozen=True)
class Environment:
    """The variables of a job; secret: names of those that hold a password and are left out."""

    variables: Mapping[str, str]
    secret: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people: a variable a line."""
        left_out = [f"{name} is not kept: it holds a password, and any user can read a unit" for name in self.secret]
        return [*(f"keeps {name}={value}" for name, value in sorted(self.variables.items())), *left_out]


def job_environment(environ: Mapping[str, str], **more: str) -> Environment:
    """The variables that a job keeps of these, and the additional ones."""
    given = {name: environ[name] for name in KEPT if environ.get(name)}
    secret = tuple(name for name, value in given.items() if PASSWORD.search(value))
    return Environment({name: value for name, value in given.items() if name not in secret} | more, secret)
