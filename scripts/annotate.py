"""Number the parts of a figure of the gallery for docs/report.md: time.png becomes annotated.png."""

from __future__ import annotations

from pathlib import Path

import cv2

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
# Number: place as shares of width and height.
PLACES = {1: (0.81, 0.027), 2: (0.97, 0.93), 3: (0.10, 0.665), 4: (0.30, 0.44), 5: (0.60, 0.27), 6: (0.035, 0.20)}
RADIUS_PX, COLOUR = 21, (122, 24, 160)  # blue, green, red


def main() -> None:
    """Write docs/gallery/annotated.png."""
    picture = cv2.imread(str(GALLERY / "time.png"))
    height_px, width_px = picture.shape[:2]
    for number, (x, y) in PLACES.items():
        centre = (round(x * width_px), round(y * height_px))
        cv2.circle(picture, centre, RADIUS_PX, COLOUR, -1, cv2.LINE_AA)
        corner = (centre[0] - 10, centre[1] + 11)
        cv2.putText(picture, str(number), corner, cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.imwrite(str(GALLERY / "annotated.png"), picture)


if __name__ == "__main__":
    main()
