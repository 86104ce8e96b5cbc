"""Small frames of which each can be told from the others, and how the tests sample them."""

from __future__ import annotations

import cv2
import numpy as np

WIDTH, HEIGHT = 32, 24
CLIP = [dict(type='mmaction.SampleKeyFrameClip', clip_len=4, frame_interval=1)]


def write_frames(folder, template, count):
    """Frame i of the video (from 0) has the grey level 2 i, in file i + 1."""
    folder.mkdir(parents=True)
    for frame in range(count):
        image = np.full((HEIGHT, WIDTH, 3), 2 * frame, np.uint8)
        cv2.imwrite(str(folder / template.format(frame + 1)), image)
