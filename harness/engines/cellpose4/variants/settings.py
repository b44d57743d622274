"""Every part of a variant of Cellpose 4: its name, its settings, its effects and its risks; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.engines.cellpose.variants import call_settings
from harness.engines.cellpose.variants.call_settings import FAST_QC, FAST_STITCH, NO_FLOW_IMAGE, CallSettings
from harness.engines.cellpose.variants.parts import CHOICE, GPUS, Part, Parts

ROUNDING = "rounding of the network's sums, less than that of stock's bfloat16; a pixel on a border may change sides"


@dataclass(frozen=True, kw_only=True)
class Settings(CallSettings):
    """Everything that differs from stock; the defaults are stock.

    attention: stock, fused, joined or flash.
    """

    cached_positions: bool = False
    attention: str = "stock"
    packed: bool = False

    @property
    def changes_network(self) -> bool:
        """Whether the network is another module than stock's."""
        return self.attention != "stock" or self.packed or self.compiled


PARTS = (
    Part("cached-positions", {"cached_positions": True},
         "the tables of relative positions are interpolated once, not twice a block and call"),
    Part("fast-seeds", {"fast_seeds": True}, "masks from end points compiled, without a batch of windows"),
    FAST_QC,
    FAST_STITCH,
    NO_FLOW_IMAGE,
    Part("fused", {"attention": "fused"}, "torch's fused attention, with the position terms as its mask", ROUNDING),
    Part("joined", {"attention": "joined"},
         "torch's fused attention without a mask: the position terms are further dimensions of each head", ROUNDING),
    Part("flash", {"attention": "flash", "compiled": False},
         "attention block by block in the cache, position terms added there, in code of our own", ROUNDING,
         "needs a C++ compiler, once", only=("cpu",)),
    Part("packed", {"packed": True, "compiled": False},
         "weights of the linear layers in oneDNN's own layout, with GELU and sums in the same pass", ROUNDING,
         "holds the weights a second time", only=("cpu",)),
    Part("compiled", {"compiled": True}, "torch.compile; one number of tiles a call, the last call padded", ROUNDING,
         "takes minutes in each new process; needs a C++ compiler on a CPU", only=("cpu", *GPUS)),
    Part("cuda-graphs", {"cuda_graphs": True, "compiled": True}, "torch.compile with CUDA graphs", ROUNDING,
         "memory of its own", only=GPUS),
    *call_settings.arguments(
        ROUNDING, "the image is scaled so that cells of this diameter have 30 px",
        Part("overlap", {"tile_overlap": None}, "overlap of tiles; 0.1 is stock", CHOICE, takes=float,
             limits=(0.01, 0.5)),
    ),
)  # fmt: skip
LOSSLESS = ("cached-positions", "fast-seeds", "fast-qc", "fast-stitch")
GROUPS = {"lossless": LOSSLESS}
# The groups of a search, one race each, on top of the best so far. Parts that change no bit come first.
SEARCHED = (
    ("lossless",),
    ("packed", "flash", "flash+packed", "fused", "joined"),
    ("fused+compiled",),
    ("cuda-graphs",),
    ("batch=1", "batch=16", "batch=32"),
)
STOCK_BATCH_SIZE, STOCK_OVERLAP, STOCK_DIAMETER_PX = 8, 0.1, 30.0  # at which eval() does what it does without


def _in_force(made: Settings) -> Settings:
    """Settings with what they imply, and without what is stock's own."""
    stock = {"batch_size": STOCK_BATCH_SIZE, "tile_overlap": STOCK_OVERLAP, "diameter_px": STOCK_DIAMETER_PX}
    made = call_settings.without(made, **stock)
    return replace(made, cached_positions=made.cached_positions or made.attention != "stock")


ALL = Parts(Settings(), PARTS, GROUPS, _in_force, call_settings.STORED)
