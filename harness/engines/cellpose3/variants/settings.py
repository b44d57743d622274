"""Every part of a variant: its name, what it sets, what it may change and where it is unsafe; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.engines.cellpose.variants import call_settings
from harness.engines.cellpose.variants.call_settings import FAST_QC, FAST_STITCH, NO_FLOW_IMAGE, CallSettings
from harness.engines.cellpose.variants.parts import CHOICE, GPUS, Part, Parts

ROUNDING = "rounding of the network's sums (about 1e-6); a pixel on a border may change sides"
PRECISION = "precision of the network (about 1e-3 of a flow); a few border pixels change"
DENSE = "model.cp.net.mkldnn = False"  # before the first call, which cannot be taken back


@dataclass(frozen=True, kw_only=True)
class Settings(CallSettings):
    """Everything that differs from stock; the defaults are stock."""

    mkldnn: bool = True
    channels_last: bool = False
    folded: bool = False
    winograd: bool = False
    dtype: str | None = None
    tf32: bool | None = None
    fast_images: bool = False
    fast_flows: bool = False
    style_only: bool = False
    reuse_image: bool = False
    skip_unseen: bool = False

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


PARTS = (
    Part("style-only", {"style_only": True}, "the first pass computes only the style that it is made for"),
    Part("reuse-image", {"reuse_image": True}, "the image is converted and normalised once, not three times"),
    Part("skip-unseen", {"skip_unseen": True}, "no coloured flow image in the two passes that do not show it"),
    NO_FLOW_IMAGE,
    Part("fast-images", {"fast_images": True},
         "percentiles, tiles and the coloured flow image on all cores, without copies between"),
    Part("fast-flows", {"fast_flows": True}, "flow following compiled, on all cores, resting pixels left alone"),
    Part("fast-seeds", {"fast_seeds": True}, "masks from end points compiled, without a loop over the seeds"),
    FAST_QC,
    FAST_STITCH,
    Part("plain", {"mkldnn": False}, "the network without mkldnn's own tensor layout", ROUNDING, by_hand=DENSE),
    Part(
        "channels-last", {"channels_last": True}, "the network's tensors with channels last", ROUNDING,
        "silently wrong on MPS (pytorch 174339)", only=("cpu", *GPUS),
        by_hand=f"{DENSE}; model.cp.net.to(memory_format=torch.channels_last)",
    ),
    Part("folded", {"folded": True}, "batch norms folded into convolutions, where their order allows it", ROUNDING),
    Part(
        "compiled", {"compiled": True}, "torch.compile; one tile shape, the last batch padded", ROUNDING,
        "takes a minute or two in each new process; needs a C++ compiler on a CPU", only=("cpu", *GPUS),
    ),
    Part("cuda-graphs", {"cuda_graphs": True, "compiled": True}, "torch.compile with CUDA graphs", ROUNDING,
            "memory of its own", only=GPUS),
    Part(
        "winograd",
        {"winograd": True, "channels_last": False, "folded": False, "compiled": False, "dtype": None},
        "3 × 3 convolutions by Winograd's method, with all else of the network in the same pass", ROUNDING,
        "needs a C++ compiler, once", only=("cpu",),
    ),
    Part("bf16", {"dtype": "bfloat16"}, "autocast to bfloat16", PRECISION, "slow without hardware for it",
            only=("cpu", *GPUS)),
    Part("fp16", {"dtype": "float16"}, "autocast to float16", PRECISION, "overflows at 65504", only=GPUS),
    Part("tf32", {"tf32": True}, "TF32 in convolutions and products", PRECISION, only=GPUS,
            by_hand="torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True"),
    Part("no-tf32", {"tf32": False}, "full fp32 in convolutions and products", PRECISION, only=GPUS,
            by_hand="torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False"),
    *call_settings.arguments(
        ROUNDING, "the diameter is given, not estimated",
        Part("overlap", {"tile_overlap": None}, "overlap of tiles; 0.1 is stock", CHOICE, takes=float,
             limits=(0.05, 0.5), by_hand="model.eval(…, tile_overlap={})"),
    ),
)  # fmt: skip
# The parts that are safe everywhere and change no bit, in one word.
LOSSLESS = (
    "style-only", "reuse-image", "skip-unseen", "fast-images", "fast-flows", "fast-seeds", "fast-qc", "fast-stitch",
)  # fmt: skip
GROUPS = {"lossless": LOSSLESS, "fast-dynamics": ("fast-flows", "fast-seeds", "fast-qc")}


# The groups of a search, one race each, on top of the best so far. Parts that change no bit come first.
SEARCHED = (
    ("lossless",),
    ("plain", "channels-last", "channels-last+folded", "winograd"),
    ("channels-last+compiled",),
    ("cuda-graphs",),
    ("bf16", "channels-last+compiled+bf16", "fp16"),
    ("batch=16", "batch=32"),
)
STOCK_BATCH_SIZE, STOCK_OVERLAP = 8, 0.1  # eval()'s own defaults


def _in_force(made: Settings) -> Settings:
    """Settings with what they imply, and without what is stock's own."""
    return replace(
        call_settings.without(made, batch_size=STOCK_BATCH_SIZE, tile_overlap=STOCK_OVERLAP),
        mkldnn=not made.is_dense,
        skip_unseen=made.skip_unseen or made.no_flow_image,
    )


ALL = Parts(Settings(), PARTS, GROUPS, _in_force, {**call_settings.STORED, "dtype": "dtype"})
