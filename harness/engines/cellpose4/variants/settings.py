"""Every part of a variant of Cellpose 4: its name, what it sets, what it may change and where it is unsafe; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.engines.variants.parts import CHOICE, GPUS, Part, Parts

ROUNDING = "rounding of the network's sums, less than that of stock's bfloat16; a pixel on a border may change sides"


@dataclass(frozen=True)
class Settings:
    """Everything that differs from stock; the defaults are stock.

    attention: stock, fused, joined or flash.
    """

    cached_positions: bool = False
    attention: str = "stock"
    packed: bool = False
    compiled: bool = False
    cuda_graphs: bool = False
    fast_seeds: bool = False
    fast_qc: bool = False
    fast_stitch: bool = False
    no_flow_image: bool = False
    batch_size: int | None = None
    threads: int | None = None
    tile_overlap: float | None = None
    diameter_px: float | None = None

    @property
    def changes_network(self) -> bool:
        """Whether the network is another module than stock's."""
        return self.attention != "stock" or self.packed or self.compiled


PARTS = (
    Part("cached-positions", {"cached_positions": True},
         "the tables of relative positions are interpolated once, not twice a block and call"),
    Part("fast-seeds", {"fast_seeds": True}, "masks from end points compiled, without a batch of windows"),
    Part("fast-qc", {"fast_qc": True}, "quality control compiled, cells in parallel"),
    Part("fast-stitch", {"fast_stitch": True}, "tiles blended by compiled code, on all cores"),
    Part("no-flow-image", {"no_flow_image": True}, "no coloured flow image at all: flows[0] is None"),
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
    Part("batch", {"batch_size": None}, "tiles per network call", ROUNDING, takes=int, limits=(1, 4096),
         by_hand="model.eval(…, batch_size={})"),
    Part("threads", {"threads": None}, "threads of torch, OpenCV and numba", ROUNDING, takes=int, limits=(1, 4096),
         by_hand="torch.set_num_threads({}); cv2.setNumThreads({})"),
    Part("overlap", {"tile_overlap": None}, "overlap of tiles; 0.1 is stock", CHOICE, takes=float,
         limits=(0.01, 0.5)),
    Part("diameter", {"diameter_px": None}, "the image is scaled so that cells of this diameter have 30 px", CHOICE,
         takes=float, limits=(1, 10_000), by_hand="model.eval(…, diameter={})"),
)  # fmt: skip
LOSSLESS = ("cached-positions", "fast-seeds", "fast-qc", "fast-stitch")
GROUPS = {"lossless": LOSSLESS}
# What a search tries, one race a group, on top of the best so far. What changes no bit comes first.
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
    return replace(
        made,
        cached_positions=made.cached_positions or made.attention != "stock",
        batch_size=None if made.batch_size == STOCK_BATCH_SIZE else made.batch_size,
        tile_overlap=None if made.tile_overlap == STOCK_OVERLAP else made.tile_overlap,
        diameter_px=None if made.diameter_px == STOCK_DIAMETER_PX else made.diameter_px,
    )


ALL = Parts(
    Settings(), PARTS, GROUPS, _in_force,
    {"batch_size": "batch_size", "diameter_asked_px": "diameter_px", "torch_threads": "threads"},
)  # fmt: skip
