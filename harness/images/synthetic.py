"""Seeded drawn images of cells, with their ground truth.

They give a machine without a network a realistic workload, and they are the only training images of the stand-in
weights. One geometry serves every style: each pixel has the signed distance to the nearest cell edge and the number
of that cell; a style turns this into light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

STYLES = ("ring", "blob", "nuclei", "membrane")


@dataclass(frozen=True)
class Scene:
    """A drawn image and its cells.

    image: (height, width) uint8. labels: (height, width) int32, 0 is background, 1..n are cells.
    """

    image: np.ndarray
    labels: np.ndarray

    @property
    def n_cells(self) -> int:
        return int(self.labels.max())


@dataclass(frozen=True)
class Geometry:
    """The places of the cells: per pixel, the owner (0-based) and the distance in px to its edge.

    edge_px is negative inside a cell; where two cells touch it rises to 0 along their contact.
    """

    owner: np.ndarray
    edge_px: np.ndarray
    n_cells: int


def sparse(seed: int = 0, height_px: int = 2160, width_px: int = 2560, n_cells: int = 160) -> Scene:
    """About 160 ring-like cells of 68 px on a dark field, alone and in short chains."""
    rng = np.random.default_rng([seed, 1])
    radii_px = 34.0 * rng.lognormal(0.0, 0.14, n_cells)
    centres = scatter(rng, height_px, width_px, radii_px, clump=0.35)
    return render(rng, "ring", geometry(rng, height_px, width_px, centres, radii_px), 68.0)


def dense(seed: int = 0, height_px: int = 2160, width_px: int = 2560) -> Scene:
    """A confluent field of more than 2,500 cells of about 30 px, with membranes between them."""
    rng = np.random.default_rng([seed, 2])
    centres = lattice(rng, height_px, width_px, spacing_px=33.0)
    radii_px = 16.0 * rng.lognormal(0.0, 0.10, len(centres))
    return render(rng, "membrane", geometry(rng, height_px, width_px, centres, radii_px), 30.0)


BUILT_IN = {"sparse": sparse, "dense": dense}


def truth(pixels: np.ndarray) -> np.ndarray | None:
    """The cells of a built-in image, or of a centred square of one, (height, width) int32; None for other pixels."""
    for draw in BUILT_IN.values():
        scene, shape = draw(), pixels.shape
        if len(shape) != 2 or shape[0] > scene.image.shape[0] or shape[1] > scene.image.shape[1]:
            continue
        top, left = ((whole - part) // 2 for whole, part in zip(scene.image.shape, shape, strict=True))
        inside = np.s_[top : top + shape[0], left : left + shape[1]]
        if np.array_equal(scene.image[inside], pixels):
            return scene.labels[inside].astype(np.int32)
    return None


@cache
def control() -> np.ndarray:
    """The small image, 224 × 224 px with cells, that every node segments to show whether its speed changed."""
    return sparse(height_px=224, width_px=224, n_cells=4).image


def scatter(
    rng: np.random.Generator,
    height_px: int,
    width_px: int,
    radii_px: np.ndarray,
    clump: float,
    margin_px: float = 0.0,
) -> np.ndarray:
    """Place discs so that none overlaps by more than a tenth; a share `clump` touches a neighbour.

    Centres lie inside the image or up to margin_px outside, so that the border cuts cells anywhere.
    Returns (n, 2) centres as (y, x). A disc that finds no room in 200 tries is put outside the image.
    """
    centres = np.full((len(radii_px), 2), -1e6)
    for i, radius in enumerate(radii_px):
        for _ in range(200):
            if i and rng.random() < clump:
                j, angle = rng.integers(i), rng.uniform(0, 2 * np.pi)
                reach = 0.97 * (radius + radii_px[j])
                here = centres[j] + reach * np.array([np.sin(angle), np.cos(angle)])
            else:
                here = rng.uniform(-margin_px, np.array((height_px, width_px)) + margin_px)
            gap = np.hypot(*(centres[:i] - here).T) - 0.95 * (radius + radii_px[:i])
            inside = (here > -margin_px).all() and (here < np.array((height_px, width_px)) + margin_px).all()
            if inside and (gap > 0).all():
                centres[i] = here
                break
    return centres


def lattice(rng: np.random.Generator, height_px: int, width_px: int, spacing_px: float) -> np.ndarray:
    """Place cells on a jittered hexagonal lattice with a few holes; (n, 2) centres as (y, x)."""
    rows = np.arange(0, height_px + spacing_px, spacing_px * 0.87)
    columns = np.arange(0, width_px + spacing_px, spacing_px)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing_px / 2
    centres = np.stack([y.ravel(), x.ravel()], axis=1)
    centres += rng.normal(0, 0.13 * spacing_px, centres.shape)
    return centres[rng.random(len(centres)) > 0.04]


def geometry(
    rng: np.random.Generator,
    height_px: int,
    width_px: int,
    centres: np.ndarray,
    radii_px: np.ndarray,
    irregularity: float = 0.05,
    elongation: float = 1.12,
) -> Geometry:
    """Give each disc an irregular outline and find, per pixel, the nearest edge and its owner."""
    nearest = np.full((height_px, width_px), np.inf)
    second = np.full((height_px, width_px), np.inf)
    owner = np.zeros((height_px, width_px), np.int32)
    harmonics = np.arange(2, 6)
    for i, ((cy, cx), radius) in enumerate(zip(centres, radii_px, strict=True)):
        amplitude = irregularity * rng.normal(size=4) / harmonics * 2
        phase = rng.uniform(0, 2 * np.pi, 4)
        stretch, tilt = np.sqrt(rng.uniform(1, elongation)), rng.uniform(0, np.pi)
        reach = int(2.2 * radius) + 6
        y0, y1 = max(0, int(cy) - reach), min(height_px, int(cy) + reach)
        x0, x1 = max(0, int(cx) - reach), min(width_px, int(cx) + reach)
        if y0 >= y1 or x0 >= x1:
            continue
        dy = np.arange(y0, y1)[:, None] - cy
        dx = np.arange(x0, x1)[None, :] - cx
        u = (dx * np.cos(tilt) + dy * np.sin(tilt)) / stretch
        v = (dy * np.cos(tilt) - dx * np.sin(tilt)) * stretch
        angle = np.arctan2(v, u)
        outline = radius * (
            1 + sum(a * np.cos(k * angle + p) for a, k, p in zip(amplitude, harmonics, phase, strict=True))
        )
        distance = np.hypot(u, v) - outline
        near, far = nearest[y0:y1, x0:x1], second[y0:y1, x0:x1]
        mine = distance < near
        far[...] = np.minimum(far, np.maximum(distance, near))
        near[mine] = distance[mine]
        owner[y0:y1, x0:x1][mine] = i
    with np.errstate(invalid="ignore"):
        contact = np.where(np.isfinite(second), (nearest - second) / 2, -np.inf)
    edge_px = np.where(nearest < 0, np.maximum(nearest, contact), nearest)
    return Geometry(owner, edge_px, len(centres))


def render(
    rng: np.random.Generator,
    style: str,
    shape: Geometry,
    diameter_px: float,
    noise: float = 1.5,
    clutter: float = 0.0,
    vary: float = 0.0,
) -> Scene:
    """Turn a geometry into light in one of STYLES.

    diameter_px sets the scale of textures and rims; noise is the camera's, in grey levels;
    clutter is the amount of unlabelled fibres, specks and diffraction rings;
    vary (0..1) spreads every optical parameter, for training.
    """

    def around(value: float, spread: float = 0.7) -> float:
        return value * float(np.exp(vary * rng.uniform(-spread, spread)))

    height_px, width_px = shape.owner.shape
    edge = shape.edge_px / diameter_px
    inside = edge < 0
    fine = _texture(rng, (height_px, width_px), 0.035 * diameter_px)
    coarse = _texture(rng, (height_px, width_px), 0.12 * diameter_px)
    brightness = rng.lognormal(0, 0.15 + 0.25 * vary, max(1, shape.n_cells))[shape.owner]
    background = around(11.0)

    if style == "ring":
        rim = np.exp(-0.5 * (edge / around(0.035, 0.5)) ** 2) * (1 + 0.35 * coarse)
        halo = np.where(inside, 0, np.exp(-np.maximum(edge, 0) / around(0.10, 0.5)))
        fold = np.exp(-0.5 * ((edge + 0.09) / 0.03) ** 2) * np.maximum(coarse, 0)
        body = np.where(inside, around(9.0, 0.9) * (1 + 0.9 * fine + 0.9 * coarse + 2.0 * fold), 0)
        specks = np.where(edge < -0.12, np.maximum(fine - 2.3, 0) * around(60.0), 0)
        light = background + brightness * (around(110.0, 0.5) * rim + around(16.0) * halo) + body + specks
    elif style == "membrane":
        rim = np.exp(-0.5 * (edge / around(0.06, 0.5)) ** 2) * (1 + 0.3 * coarse)
        body = np.where(inside, around(45.0) * brightness * (1 + 0.25 * fine + 0.3 * coarse), 0)
        light = background + body + around(90.0, 0.8) * rim * brightness
    else:
        softness = around(0.03 if style == "nuclei" else 0.08, 0.6)
        filled = 1 / (1 + np.exp(np.clip(edge / softness, -40, 40)))
        rough = (0.3, 0.25) if style == "nuclei" else (0.15, 0.35)
        light = background + around(120.0) * brightness * filled * (1 + rough[0] * fine + rough[1] * coarse)

    light = np.maximum(light, 0)
    if clutter:
        light = light + clutter * _clutter(rng, height_px, width_px, diameter_px)
    light = gaussian_filter(light, around(0.8, 0.8))
    light = light * (1 + 0.08 * _texture(rng, (height_px, width_px), max(height_px, width_px) / 4))
    light = light * min(1.0, 250.0 / np.percentile(light, 99.9))  # exposed so that hardly a pixel saturates
    light = light + rng.normal(0, 1, light.shape) * np.sqrt(noise**2 + 0.02 * noise * np.maximum(light, 0))
    image = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    return Scene(image, _consecutive(np.where(inside, shape.owner + 1, 0)))


def training_scene(rng: np.random.Generator, side_px: int, diameter_px: float, style: str) -> Scene:
    """Draw one training image: any style, density, contrast and noise, cells of about diameter_px."""
    margin_px = 0.6 * diameter_px
    span_px = int(side_px + 2 * margin_px)
    if style == "membrane" or (style != "ring" and rng.random() < 0.3):
        centres = lattice(rng, span_px, span_px, diameter_px * rng.uniform(0.98, 1.25)) - margin_px
        radii_px = diameter_px / 2 * rng.lognormal(0, rng.uniform(0.05, 0.2), len(centres))
    else:
        n_cells = max(1, int((span_px / diameter_px) ** 2 * rng.uniform(0.05, 0.7)))
        radii_px = diameter_px / 2 * rng.lognormal(0, rng.uniform(0.05, 0.25), n_cells)
        centres = scatter(rng, side_px, side_px, radii_px, clump=rng.uniform(0, 0.8), margin_px=margin_px)
    stretch = {"ring": 1.25, "blob": 1.6, "nuclei": 1.9, "membrane": 1.5}[style]
    shape = geometry(
        rng,
        side_px,
        side_px,
        centres,
        radii_px,
        irregularity=rng.uniform(0.01, 0.10),
        elongation=rng.uniform(1.0, stretch),
    )
    clutter = rng.uniform(0.2, 1.5) if rng.random() < 0.35 else 0.0
    return render(rng, style, shape, diameter_px, noise=rng.uniform(0.3, 5.0), clutter=clutter, vary=1.0)


def _texture(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> np.ndarray:
    """Smooth random field of unit variance whose grains are about scale_px wide."""
    # A coarse grain is drawn small and stretched: the blur of a wide kernel would cost seconds.
    step = max(1, int(scale_px / 2))
    small = rng.normal(size=(shape[0] // step + 3, shape[1] // step + 3))
    small = gaussian_filter(small, max(0.5, scale_px / step))
    small = (small - small.mean()) / (small.std() + 1e-9)
    if step == 1:
        return small[: shape[0], : shape[1]]
    return _stretch(small, shape, step)


def _stretch(small: np.ndarray, shape: tuple[int, int], step: int) -> np.ndarray:
    """Bilinear enlargement by an integer step, cut to shape."""
    y, x = np.arange(shape[0]) / step, np.arange(shape[1]) / step
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    rows = small[y0] * (1 - fy) + small[y0 + 1] * fy
    return rows[:, x0] * (1 - fx) + rows[:, x0 + 1] * fx


def _clutter(rng: np.random.Generator, height_px: int, width_px: int, diameter_px: float) -> np.ndarray:
    """Light that belongs to no cell: fibres, specks and faint diffraction rings, in grey levels."""
    canvas = np.zeros((height_px, width_px))

    def add(y: np.ndarray, x: np.ndarray, value: float) -> None:
        keep = (y >= 0) & (y < height_px) & (x >= 0) & (x < width_px)
        np.add.at(canvas, (y[keep].astype(int), x[keep].astype(int)), value)

    t = np.linspace(0, 1, 2 * (height_px + width_px))
    for _ in range(rng.poisson(0.7)):
        start, end = rng.uniform(-0.2, 1.2, 2), rng.uniform(-0.2, 1.2, 2)
        for _ in range(rng.integers(3, 15)):
            wobble = rng.normal(0, 0.25) * diameter_px + 0.1 * diameter_px * np.sin(
                rng.uniform(5, 40) * t + rng.uniform(0, 6)
            )
            y = (start[0] + (end[0] - start[0]) * t) * height_px + wobble
            x = (start[1] + (end[1] - start[1]) * t) * width_px + wobble
            add(y, x, rng.uniform(5, 60))
    for _ in range(rng.poisson(1.0)):
        radius = diameter_px * rng.uniform(0.8, 4)
        cy, cx = rng.uniform(0, height_px), rng.uniform(0, width_px)
        add(cy + radius * np.sin(2 * np.pi * t), cx + radius * np.cos(2 * np.pi * t), rng.uniform(1, 8))
    n_specks = rng.poisson(5)
    add(rng.uniform(0, height_px, n_specks), rng.uniform(0, width_px, n_specks), rng.uniform(100, 900))
    return gaussian_filter(canvas, max(0.7, 0.02 * diameter_px))


def _consecutive(labels: np.ndarray) -> np.ndarray:
    """Renumber labels to 1..n without gaps."""
    present, inverse = np.unique(labels, return_inverse=True)
    shift = 0 if present[0] == 0 else 1
    return (inverse.reshape(labels.shape) + shift).astype(np.int32)
