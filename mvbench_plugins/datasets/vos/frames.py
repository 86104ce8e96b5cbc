"""The frames of a video: stored in little memory, and made to what a pipeline starts with when asked for."""

from __future__ import annotations

import os
from typing import NamedTuple


class Frame(NamedTuple):
    """A frame as the data set stores it; names are relative to the folders of the video."""

    image: str
    mask: str | None  # annotation that the model is given here (training: the mask of the frame)
    labels: tuple[int, ...] | None = None  # the objects that are given; None: no mask is, or (training) not known
    gt: str | None = None  # ground truth for the metric
    save: bool = True


class VideoFrames:
    """What a pipeline starts with, by position in the video. The first frame has a mask.

    A frame at a time is made: a test asks for one frame of a video of thousands.

    Args:
        video_name: name of the video.
        frames: in order.
        images: folder of the images of this video.
        masks: folder of its masks.
        truth: folder of its ground truth.
    """

    def __init__(self, video_name: str, frames: list[Frame], images: str, masks: str, truth: str) -> None:
        self.video_name = video_name
        self.frames = frames
        self.folders = (images, masks, truth)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> dict:
        """A new dict; see ``VOSDataset`` for its keys."""
        frame = self.frames[number]
        images, masks, truth = self.folders
        return dict(
            img_path=os.path.join(images, frame.image),
            mask_path=_path(masks, frame.mask),
            gt_mask_path=_path(truth, frame.gt),
            palette_path=_path(masks, self.frames[0].mask),
            given_labels=frame.labels,
            annotated=frame.mask is not None,
            save=frame.save,
            frame_id=number,
            frame_name=os.path.splitext(frame.image)[0],
            video_name=self.video_name,
        )


def _path(folder: str, name: str | None) -> str | None:
    return None if name is None else os.path.join(folder, name)
