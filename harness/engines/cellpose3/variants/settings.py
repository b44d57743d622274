"""Every variant's name, what it sets, what it may change and where it is unsafe; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import CellbenchError

NOTHING = "nothing: the same operations on the same numbers"
ROUNDING = "rounding of the network's sums (about 1e-6); a pixel on a border may change sides"
PRECISION = "precision of the network (about 1e-3 of a flow); a few border pixels change"
DENSE = "model.cp.net.mkldnn = False"  # before the first call, which cannot be taken back
CHOICE = "the result itself, by as much as the value differs from cellpose's own"


@dataclass(frozen=True)
class Settings:
    """Everything that differs from stock; the defaults are stock."""

    mkldnn: bool = True
    channels_last: bool = False
    folded: bool = False
    compiled: bool = False
    cuda_graphs: bool = False
    winograd: bool = False
    dtype: str | None = None
    tf32: bool | None = None
    fast_flows: bool = False
    fast_seeds: bool = False
    fast_qc: bool = False
    fast_stitch: bool = False
    style_only: bool = False
    reuse_image: bool = False
    skip_unseen: bool = False
    no_flow_image: bool = False
    batch_size: int | None = None
    threads: int | None = None
    tile_overlap: float | None = None
    diameter_px: float | None = None

    @property
    def is_dense(self) -> bool:
        """Whether mkldnn's own tensor layout is in the way."""
        return (
            not self.mkldnn or self.channels_last or self.folded or self.compiled or self.winograd
            or self.dtype is not None
        )  # fmt: skip

    @property
    def changes_network(self) -> bool:
        return self.is_dense or self.cuda_graphs or self.style_only


@dataclass(frozen=True)
class Variant:
    """One named change to how cellpose is executed."""

    name: str
    sets: dict[str, Any]
    what: str
    may_change: str = NOTHING
    unsafe: str = ""
    takes: type | None = None  # the type of the value in NAME=VALUE
    only: tuple[str, ...] = ("cpu", "cuda", "mps")
    limits: tuple[float, float] = field(default=(0, float("inf")))
    by_hand: str = ""  # the same in plain cellpose and torch, where that is possible; {} is the value


VARIANTS = (
    Variant("style-only", {"style_only": True}, "the first pass computes only the style that it is made for"),
    Variant("reuse-image", {"reuse_image": True}, "the image is converted and normalised once, not three times"),
    Variant("skip-unseen", {"skip_unseen": True}, "no coloured flow image in the two passes that nobody sees"),
    Variant("no-flow-image", {"no_flow_image": True}, "no coloured flow image at all: flows[0] is None"),
    Variant("fast-flows", {"fast_flows": True}, "flow following compiled, on all cores, resting pixels left alone"),
    Variant("fast-seeds", {"fast_seeds": True}, "masks from end points compiled, without a loop over the seeds"),
    Variant("fast-qc", {"fast_qc": True}, "quality control compiled, cells in parallel"),
    Variant("fast-stitch", {"fast_stitch": True}, "tiles blended by compiled code, on all cores"),
    Variant("plain", {"mkldnn": False}, "the network without mkldnn's own tensor layout", ROUNDING, by_hand=DENSE),
    Variant(
        "channels-last", {"channels_last": True}, "the network's tensors with channels last", ROUNDING,
        "silently wrong on MPS (pytorch 174339)", only=("cpu", "cuda"),
        by_hand=f"{DENSE}; model.cp.net.to(memory_format=torch.channels_last)",
    ),
    Variant("folded", {"folded": True}, "batch norms folded into convolutions, where their order allows it", ROUNDING),
    Variant(
        "compiled", {"compiled": True}, "torch.compile; one tile shape, the last batch padded", ROUNDING,
        "takes a minute or two in each new process; needs a C++ compiler on a CPU", only=("cpu", "cuda"),
    ),
    Variant("cuda-graphs", {"cuda_graphs": True, "compiled": True}, "torch.compile with CUDA graphs", ROUNDING,
            "memory of its own", only=("cuda",)),
    Variant(
        "winograd",
        {"winograd": True, "channels_last": False, "folded": False, "compiled": False, "dtype": None},
        "3 × 3 convolutions by Winograd's method, with all else of the network in the same pass", ROUNDING,
        "needs a C++ compiler, once", only=("cpu",),
    ),
    Variant("bf16", {"dtype": "bfloat16"}, "autocast to bfloat16", PRECISION, "slow without hardware for it",
            only=("cpu", "cuda")),
    Variant("fp16", {"dtype": "float16"}, "autocast to float16", PRECISION, "overflows at 65504", only=("cuda",)),
    Variant("tf32", {"tf32": True}, "TF32 in convolutions and products", PRECISION, only=("cuda",),
            by_hand="torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True"),
    Variant("no-tf32", {"tf32": False}, "full fp32 in convolutions and products", PRECISION, only=("cuda",),
            by_hand="torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False"),
    Variant("batch", {"batch_size": None}, "tiles per network call", ROUNDING, takes=int, limits=(1, 4096),
            by_hand="model.eval(…, batch_size={})"),
    Variant("threads", {"threads": None}, "threads of torch, OpenCV and numba", ROUNDING, takes=int, limits=(1, 4096),
            by_hand="torch.set_num_threads({}); cv2.setNumThreads({}); numba.set_num_threads({})"),
    Variant("overlap", {"tile_overlap": None}, "overlap of tiles; 0.1 is stock", CHOICE, takes=float,
            limits=(0.05, 0.5), by_hand="model.eval(…, tile_overlap={})"),
    Variant("diameter", {"diameter_px": None}, "the diameter is given, not estimated", CHOICE, takes=float,
            limits=(1, 10_000), by_hand="model.eval(…, diameter={})"),
)  # fmt: skip
BY_NAME = {variant.name: variant for variant in VARIANTS}
# What is safe everywhere and changes no bit, in one word.
LOSSLESS = ("style-only", "reuse-image", "skip-unseen", "fast-flows", "fast-seeds", "fast-qc", "fast-stitch")
GROUPS = {"lossless": LOSSLESS, "fast-dynamics": ("fast-flows", "fast-seeds", "fast-qc")}


def split(variant: str | Iterable[str]) -> tuple[str, ...]:
    """'channels-last+lossless' or a list of names → the single variants, groups taken apart; 'stock' is none."""
    words = variant.split("+") if isinstance(variant, str) else list(variant)
    flat = [name for word in words for name in GROUPS.get(word.strip(), (word.strip(),))]
    return tuple(dict.fromkeys(name for name in flat if name != "stock"))


def settings(variant: str | Iterable[str], backend: str | None = None) -> Settings:
    """What the variants set together; CellbenchError for an unknown, impossible or contradictory one."""
    made, origin = Settings(), {}
    for name in split(variant):
        chosen, values = _one(name)
        if backend is not None and backend not in chosen.only:
            why = f"; {chosen.unsafe}" if chosen.unsafe else ""
            raise CellbenchError(
                f"{name} is not for {backend}{why}", "--variant", f"it is for {', '.join(chosen.only)}"
            )
        for key, value in values.items():
            if key in origin and getattr(made, key) != value:
                raise CellbenchError(f"{origin[key]} and {name} contradict each other", "--variant", "choose one")
            made, origin[key] = replace(made, **{key: value}), name
    return made


def agree(one: str, other: str) -> bool:
    """Whether two variants can be used together."""
    try:
        settings([*split(one), *split(other)])
    except CellbenchError:
        return False
    return True


def _one(word: str) -> tuple[Variant, dict[str, Any]]:
    name, _, text = word.partition("=")
    chosen = BY_NAME.get(name)
    if chosen is None:
        known = ", ".join(v.name + ("=…" if v.takes else "") for v in VARIANTS)
        raise CellbenchError(f"there is no variant {word!r}", "--variant", f"known are {known}; {', '.join(GROUPS)}")
    if chosen.takes is None:
        if text:
            raise CellbenchError(f"{name} takes no value", f"--variant {word}", f"write {name}")
        return chosen, chosen.sets
    low, high = chosen.limits
    try:
        value = chosen.takes(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        kind = "a whole number" if chosen.takes is int else "a number"
        raise CellbenchError(f"{name} needs {kind} from {low:g} to {high:g}", f"--variant {word}", f"write {name}=…")
    return chosen, dict.fromkeys(chosen.sets, value)
