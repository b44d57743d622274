"""Number the parts of a figure of the gallery for docs/report.md: time-log.png becomes annotated.png."""

from __future__ import annotations

from pathlib import Path

import cv2

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
# Number: place as shares of width and height.
PLACES = {1: (0.40, 0.027), 2: (0.86, 0.105), 3: (0.345, 0.53), 4: (0.36, 0.44), 5: (0.80, 0.44), 6: (0.045, 0.61)}
RADIUS_PX, COLOUR = 21, (122, 24, 160)  # blue, green, red


def main() -> None:
    """Write docs/gallery/annotated.png."""
    layers = cv2.imread(str(GALLERY / "time-log.png"), cv2.IMREAD_UNCHANGED).astype(float)
    opacity = layers[..., 3:] / 255
    picture = (layers[..., :3] * opacity + 255 * (1 - opacity)).astype("uint8")  # on white
    height_px, width_px = picture.shape[:2]
    for number, (x, y) in PLACES.items():
        centre = (round(x * width_px), round(y * height_px))
        cv2.circle(picture, centre, RADIUS_PX, COLOUR, -1, cv2.LINE_AA)
        corner = (centre[0] - 10, centre[1] + 11)
        cv2.putText(picture, str(number), corner, cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.imwrite(str(GALLERY / "annotated.png"), picture)


if __name__ == "__main__":
    main()
