"""Frames and index maps of a video to tensors of one size, on the device."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.data_preprocessors import TrackDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from torch import Tensor
from torch.nn import functional as F


@MODELS.register_module()
class VOSDataPreprocessor(TrackDataPreprocessor):
    """mmdet's preprocessor of clips, which then resizes the normalised images; index maps follow.

    Resizing floats is what the published numbers were made with; a pipeline's ``Resize`` rounds to whole grey values
    first. Nothing is padded: the model pads on all sides.

    Args:
        mean: of each channel, in the order of the images (RGB), on 0 to 255.
        std: likewise.
        test_size: shorter side in tests, in pixels; the longer one is ``int(test_size * long / short)``. None: frames
            keep their size.

    Raises:
        ValueError: ``test_size`` is less than 16, one patch.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], test_size: int | None = 480) -> None:
        super().__init__(mean=mean, std=std)
        if test_size is not None and test_size < 16:
            raise ValueError(f'data_preprocessor.test_size: found {test_size}, expected at least 16, or None')
        self.test_size = test_size

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turn what the data loader gives into what the model takes.

        Args:
            data: ``inputs['img']``, a list of uint8 images ``[T, 3, H, W]``, and ``data_samples``, a list of
                TrackDataSample whose annotated frames have ``gt_sem_seg`` of the images' size.
            training: leave sizes as they are.

        Returns:
            ``inputs['img']``, float32 ``[B, T, 3, h, w]``, and ``data_samples``, with index maps of that size.

        Raises:
            ValueError: an index map has another size than its image, or clips do not have the same size.
        """
        images, samples = data['inputs']['img'], data.get('data_samples')
        shapes = {tuple(clip.shape) for clip in images}
        if len(shapes) != 1:
            raise ValueError(
                f"inputs['img']: found clips of the sizes {sorted(shapes)}, expected one [T, 3, H, W] for the whole "
                'batch: crop or resize the clips of training to one size, and test with batch_size=1'
            )
        for sample in samples or []:
            _check_masks(sample, images[0].shape[-2:])
        data = super().forward(dict(inputs=list(images), data_samples=samples), training)
        clips = data['inputs']
        if not training and self.test_size is not None:
            clips = self._resize(clips)
            for sample in data['data_samples'] or []:
                for frame in sample.video_data_samples:
                    _resize_mask(frame, tuple(clips.shape[-2:]))
        return dict(inputs=dict(img=clips), data_samples=data['data_samples'])

    def _resize(self, clips: Tensor) -> Tensor:
        """The shorter side to ``test_size``."""
        size = clips.shape[-2:]
        height, width = (
            self.test_size if side == min(size) else int(self.test_size * side / min(size)) for side in size
        )
        if (height, width) == tuple(size):
            return clips
        resized = F.interpolate(clips.flatten(0, 1), (height, width), mode='bilinear', align_corners=False)
        return resized.unflatten(0, clips.shape[:2])


def _check_masks(sample: TrackDataSample, size: Sequence[int]) -> None:
    for frame in sample.video_data_samples:
        if 'gt_sem_seg' not in frame:
            continue
        found = tuple(frame.gt_sem_seg.sem_seg.shape[-2:])
        if found != tuple(size):
            raise ValueError(
                f'{frame.get("img_path", "frame")}: its mask is {found[0]} x {found[1]} (height x width), expected '
                f'{size[0]} x {size[1]} like the image; take the mask that belongs to it, or resize the mask with '
                'nearest neighbours'
            )


def _resize_mask(frame: DetDataSample, size: tuple[int, int]) -> None:
    if 'gt_sem_seg' not in frame or tuple(frame.gt_sem_seg.sem_seg.shape[-2:]) == size:
        return
    labels = frame.gt_sem_seg.sem_seg
    resized = F.interpolate(labels[None].float(), size, mode='nearest')[0].to(labels.dtype)
    # A PixelData keeps the size of its first entry, hence a new one.
    frame.gt_sem_seg = type(frame.gt_sem_seg)(sem_seg=resized)
