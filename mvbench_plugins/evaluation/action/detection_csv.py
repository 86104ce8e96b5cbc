"""The csv in which AVA detections are published: video,second,x1,y1,x2,y2,action,score with five decimals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .predictions import KeyFrame

DECIMALS = 5


def as_written(values: np.ndarray) -> np.ndarray:
    """Return the float64 numbers that reading back ``f'{value:.5f}'`` gives."""
    scaled = values.astype(np.float64) * 10**DECIMALS
    rounded = np.rint(scaled) / 10**DECIMALS
    # Scaling rounds as well: next to a half only the text itself tells to which side the decimal value falls.
    doubtful = np.abs(np.abs(scaled - np.floor(scaled)) - 0.5) < 1e-6
    rounded[doubtful] = [float(f'{value:.{DECIMALS}f}') for value in values[doubtful].tolist()]
    return rounded


def write_detections(path: str | Path, frames: list[KeyFrame], ids: dict[int, int], action_thr: float) -> None:
    """Write every (box, action) pair with a score of at least ``action_thr``.

    Args:
        path: file to write; its folder is created.
        frames: detections, each key frame once.
        ids: score column -> action id, for the columns to write.
        action_thr: lowest score.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as file:
        for frame in frames:
            wanted = frame.scores[:, list(ids)] >= action_thr
            for box, scores, chosen in zip(frame.boxes.tolist(), frame.scores.tolist(), wanted.tolist()):
                start = f'{frame.video},{frame.timestamp:04d},' + ','.join(f'{value:.{DECIMALS}f}' for value in box)
                file.writelines(
                    f'{start},{action},{scores[column]:.{DECIMALS}f}\n'
                    for (column, action), keep in zip(ids.items(), chosen)
                    if keep
                )
