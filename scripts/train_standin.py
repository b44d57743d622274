"""Train the stand-in weights: cyto3's network and size model, from synthetic images only.

The published weights cannot be fetched everywhere. The stand-in has the identical architecture, so
its network costs the same; its masks are plausible, not cyto3's. Run from a checkout:

    python scripts/train_standin.py --out harness/engines/cellpose3/standin

Writes cyto3 (fp16 parameters) and size_cyto3.npy, named as cellpose looks for them, and loss.csv.
Nothing but harness.images.synthetic is ever shown to the network.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from cellpose.dynamics import labels_to_flows
from cellpose.resnet_torch import CPnet
from cellpose.transforms import normalize99

from harness.images import synthetic

DIAM_PX = 30.0  # cellpose trains every cell at this diameter; stored as diam_mean and diam_labels
TILE_PX = 224  # the side of cellpose's tiles, so styles are fitted on what they are used on
EMPTY_SHARE = 0.06  # images without a cell
STYLE_SHARE = {"ring": 0.45, "blob": 0.18, "nuclei": 0.19, "membrane": 0.18}


def new_net() -> CPnet:
    """The network of cyto3: 2 channels in, (dy, dx, cell probability) out."""
    return CPnet([2, 32, 64, 128, 256], 3, sz=3, mkldnn=False, max_pool=True, diam_mean=DIAM_PX)


def draw(rng: np.random.Generator, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """One training pair at about DIAM_PX: normalised image (side, side) float32 and its labels."""
    style = rng.choice(list(STYLE_SHARE), p=list(STYLE_SHARE.values()))
    diameter_px = float(np.exp(rng.uniform(np.log(10), np.log(110))))
    zoom = DIAM_PX / diameter_px * float(np.exp(rng.uniform(-0.4, 0.4)))
    scene = synthetic.training_scene(rng, max(24, int(np.ceil(side_px / zoom))), diameter_px, style)
    image, cells = scene.image.astype(np.float32), scene.labels.astype(np.float32)
    if (empty := rng.random()) < EMPTY_SHARE:  # nothing at all, as cellpose normalises it, or nothing but noise
        cells[...] = 0
        image = rng.normal(0, 1, image.shape).astype(np.float32) if empty < EMPTY_SHARE / 2 else 0 * image
    image = normalize99(image) if np.ptp(image) else image
    image = cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    labels = cv2.resize(cells, (side_px, side_px), interpolation=cv2.INTER_NEAREST)
    turns, flip = rng.integers(4), rng.random() < 0.5
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    # Percentiles of an image and of its crop differ, so gain and offset vary at random.
    if np.ptp(image):
        image = image * rng.uniform(0.5, 1.6) + rng.uniform(-0.1, 0.1)
    image, labels = np.array(image, np.float32), np.array(labels, np.int32)
    # Cellpose pads what it segments with zeros, and a cell that its border cuts ends at such a black band.
    for _ in range(4):
        if rng.random() < 0.5:
            band = slice(0, rng.integers(1, side_px // 6))
            image[band], labels[band] = 0, 0
        image, labels = np.rot90(image), np.rot90(labels)
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def batch(rng: np.random.Generator, n: int, side_px: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n training pairs as (n, 2, side, side) input and (n, 3, side, side) target."""
    pairs = [draw(rng, side_px) for _ in range(n)]
    flows = labels_to_flows([labels for _, labels in pairs], device=torch.device("cpu"))
    x = np.zeros((n, 2, side_px, side_px), np.float32)
    x[:, 0] = [image for image, _ in pairs]
    y = np.stack([f[1:4] for f in flows]).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(y)


def loss_of(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cellpose's own segmentation loss: flows (scaled by 5) and cell probability."""
    flows = torch.nn.functional.mse_loss(out[:, :2], 5.0 * target[:, 1:]) / 2
    cells = torch.nn.functional.binary_cross_entropy_with_logits(out[:, 2], (target[:, 0] > 0.5).float())
    return flows + cells


def train(net: CPnet, peak: float, steps: int, minutes: float, n: int, side_px: int, seed: int, log: Path) -> CPnet:
    """Fit the network; stops at `steps`, or finishes its schedule early when `minutes` run out."""
    rng = np.random.default_rng(seed)
    torch.set_flush_denormal(True)
    net = net.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-4)
    start = time.monotonic()
    with log.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss", "learning_rate", "elapsed_s"])
        recent: list[float] = []
        done, step = 0.0, 0
        while done < 1:
            elapsed_s = time.monotonic() - start
            # Progress is the larger of steps and time done, so the schedule always ends at zero.
            done = max(step / steps, elapsed_s / (60 * minutes))
            rate = peak * (done / 0.1 if done < 0.1 else 0.5 * (1 + np.cos(np.pi * min(1, (done - 0.1) / 0.9))))
            for group in optimiser.param_groups:
                group["lr"] = max(rate, 1e-6)
            x, y = batch(rng, n, side_px)
            loss = loss_of(net(x.to(memory_format=torch.channels_last))[0], y)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            recent.append(loss.item())
            step += 1
            if step % 10 == 0:
                mean, recent = float(np.mean(recent)), []
                writer.writerow([step, f"{mean:.5f}", f"{rate:.6f}", f"{elapsed_s:.1f}"])
                file.flush()
                print(f"step {step} loss {mean:.4f} {elapsed_s / 60:.1f} min", flush=True)
            if step % 100 == 0:
                save_net(net, log.with_name("checkpoint"))
    return net.eval()


def style_of(net: CPnet, image: np.ndarray) -> np.ndarray:
    """The style vector that cellpose would average over an image's tiles; (256,) of unit length."""
    tiles = [
        image[y : y + TILE_PX, x : x + TILE_PX]
        for y in range(0, image.shape[0] - TILE_PX + 1, TILE_PX)
        for x in range(0, image.shape[1] - TILE_PX + 1, TILE_PX)
    ]
    x = np.zeros((len(tiles), 2, TILE_PX, TILE_PX), np.float32)
    x[:, 0] = tiles
    with torch.no_grad():
        style = net(torch.from_numpy(x).to(memory_format=torch.channels_last))[1].numpy().sum(axis=0)
    return style / np.sqrt((style**2).sum())


def median_diameter_px(labels: np.ndarray) -> float:
    """Cellpose's diameter: median over cells of sqrt(area), times 2 / sqrt(pi)."""
    areas = np.bincount(labels.ravel())[1:]
    return float(np.median(np.sqrt(areas)) * 2 / np.sqrt(np.pi))


def fit_size(net: CPnet, n_images: int, seed: int) -> dict[str, np.ndarray | float]:
    """Ridge regression of log(diameter / 30) on the style vector; the penalty is chosen on held-out images."""
    rng = np.random.default_rng([seed, 1])
    styles, targets = [], []
    while len(styles) < n_images:
        if (empty := rng.random()) < EMPTY_SHARE:
            # Without a cell there is no diameter; 30 px keeps the image's own scale, the least work for the call.
            shape = (2 * TILE_PX, 2 * TILE_PX)
            noise = normalize99(rng.normal(0, 1, shape).astype(np.float32))
            styles.append(style_of(net, noise if empty < 0.8 * EMPTY_SHARE else np.zeros(shape, np.float32)))
            targets.append(0.0)
            continue
        style = rng.choice(list(STYLE_SHARE), p=list(STYLE_SHARE.values()))
        scene = synthetic.training_scene(rng, 2 * TILE_PX, float(np.exp(rng.uniform(np.log(9), np.log(115)))), style)
        if scene.n_cells:
            styles.append(style_of(net, normalize99(scene.image.astype(np.float32))))
            targets.append(np.log(median_diameter_px(scene.labels) / DIAM_PX))
    x, y = np.array(styles), np.array(targets)
    fit, held = slice(0, int(0.8 * n_images)), slice(int(0.8 * n_images), None)

    def solve(rows: slice, penalty: float) -> tuple[np.ndarray, np.ndarray, float]:
        mean_x, mean_y = x[rows].mean(axis=0), y[rows].mean()
        a = x[rows] - mean_x
        return np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ (y[rows] - mean_y)), mean_x, mean_y

    def error(penalty: float) -> float:
        w, mean_x, mean_y = solve(fit, penalty)
        return float(np.sqrt(np.mean(((x[held] - mean_x) @ w + mean_y - y[held]) ** 2)))

    penalty = min((10.0**k for k in range(-5, 2)), key=error)
    print(f"size model: penalty {penalty:g}, held-out rms error of log diameter {error(penalty):.3f}", flush=True)
    w, mean_x, mean_y = solve(slice(None), penalty)
    return {
        "A": w.astype(np.float32),
        "smean": mean_x.astype(np.float32),
        "diam_mean": np.float32(DIAM_PX),
        "ymean": np.float32(mean_y),
    }


def save_net(net: CPnet, path: Path) -> None:
    """Write the parameters as fp16, half the size; cellpose copies them into its fp32 network."""
    state = {k: v.detach().contiguous().half() for k, v in net.state_dict().items() if v.is_floating_point()}
    torch.save(state, path)


def load_net(path: Path) -> CPnet:
    """Read parameters back as cellpose does."""
    net = new_net()
    net.load_state_dict(torch.load(path, weights_only=True), strict=False)
    return net.eval().to(memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--minutes", type=float, default=120.0, help="finish the schedule within this time")
    parser.add_argument("--crops", type=int, default=6, help="crops per step")
    parser.add_argument("--side", type=int, default=160, help="side of a training crop, px")
    parser.add_argument("--size-images", type=int, default=320)
    parser.add_argument("--peak", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--start", type=Path, help="continue from these weights instead of random ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size-only", action="store_true", help="fit only the size model of the weights in --out")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.size_only:
        net = load_net(args.out / "cyto3")
    else:
        torch.manual_seed(args.seed)
        net = load_net(args.start) if args.start else new_net()
        net = train(net, args.peak, args.steps, args.minutes, args.crops, args.side, args.seed, args.out / "loss.csv")
        save_net(net, args.out / "cyto3")
    np.save(args.out / "size_cyto3.npy", fit_size(net, args.size_images, args.seed), allow_pickle=True)


if __name__ == "__main__":
    main()
