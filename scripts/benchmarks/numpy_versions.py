"""Whether cellpose 3 gives the same masks with a numpy that is newer than its metadata allow (numpy < 2.1).

    python -m pip install --no-deps --target other-numpy 'numpy==2.4.*'
    python scripts/benchmarks/numpy_versions.py other-numpy [SIDE_PX ...]

Segments crops of both built-in images (224 px unless sides are given) with stand-in weights, in one process with the
installed numpy and in one with the other. Prints the hashes of masks and flows; exit code 5 if they differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEGMENT = """
import hashlib, json, sys
import numpy as np
from cellpose import models
from harness import images
model = models.Cellpose(gpu=False, model_type="cyto3")
found = {"numpy": np.__version__}
for name, side_px in ((name, int(side)) for side in sys.argv[1:] for name in ("sparse", "dense")):
    pixels = images.load(name, None, None).pixels
    top, left = ((n - side_px) // 2 for n in pixels.shape)
    crop = np.ascontiguousarray(pixels[top : top + side_px, left : left + side_px])
    masks, flows, styles, diameter_px = model.eval(crop, diameter=0, channels=[0, 0])
    arrays = (masks.astype("<u4"), flows[1].astype("<f4"), flows[2].astype("<f4"), np.asarray(styles, "<f4"))
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)).hexdigest()[:16]
    found[f"{name} {side_px}"] = [int(masks.max()), float(diameter_px), digest]
print(json.dumps(found))
"""


def segment(sides_px: Sequence[str], *folders: str) -> dict[str, object]:
    """Hashes of the results by image and crop, and the version of numpy; folders come first on the path."""
    models = ROOT / "harness" / "engines" / "cellpose3" / "standin"
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "HOME": home, "CELLPOSE_LOCAL_MODELS_PATH": str(models), "PYTHONPATH":
                   os.pathsep.join([*folders, str(ROOT)])}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", SEGMENT, *sides_px], env=environ, check=True, stdout=subprocess.PIPE, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Compare both; 0 where all results have the same bits, otherwise 5."""
    sides_px = sys.argv[2:] or ["224"]
    here, other = segment(sides_px), segment(sides_px, str(Path(sys.argv[1]).resolve()))
    names = here.pop("numpy"), other.pop("numpy")
    for case, found in here.items():
        print(f"{case}: {found[0]} cells, {'the same bits' if other[case] == found else f'{found} and {other[case]}'}")
    print(f"numpy {names[0]} and {names[1]}: {'identical' if here == other else 'different'}")
    return 0 if here == other and names[0] != names[1] else 5


if __name__ == "__main__":
    sys.exit(main())
