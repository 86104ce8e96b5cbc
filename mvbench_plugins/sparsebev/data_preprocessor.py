"""Images of many frames and cameras to one batch, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from mmdet3d.models.data_preprocessors.utils import multiview_img_stack_batch
from mmdet3d.registry import MODELS
from torch import Tensor

from .color_augmentation import augment_colors
from .frames import CAMERAS
from .grid_mask import grid_mask


@MODELS.register_module()
class SparseBEVDataPreprocessor(Det3DDataPreprocessor):
    """mmdet3d's preprocessor with the augmentations of SparseBEV, over all images of a sample at once.

    Colour augmentation, channel order, normalisation, zero padding right and below, GridMask; the first and the last
    in training only. Unlike the stock class, ``pad_shape`` is the size of the batch, by which the detector divides
    projected points.

    Args:
        mean: of each channel after the exchange of channels, on 0 to 255.
        std: likewise.
        bgr_to_rgb: exchange blue and red.
        pad_size_divisor: height and width of the batch are multiples of it.
        color_augmentation: distort colours in training, each image by itself.
        grid_mask_prob: probability of a GridMask in training, one for all images of a batch.
        grid_mask_frames: number of leading frames that it is laid on, those that are trained with gradient; None: all.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        bgr_to_rgb: bool = False,
        pad_size_divisor: int = 32,
        color_augmentation: bool = True,
        grid_mask_prob: float = 0.7,
        grid_mask_frames: int | None = None,
    ) -> None:
        super().__init__(mean=mean, std=std, bgr_to_rgb=bgr_to_rgb, pad_size_divisor=pad_size_divisor)
        self.color_augmentation = color_augmentation
        self.grid_mask_prob = grid_mask_prob
        self.grid_mask_frames = grid_mask_frames

    def simple_process(self, data: dict, training: bool = False) -> dict:
        """Turn what the data loader gives into what the detector takes.

        Args:
            data: ``inputs['img']``, a list of uint8 BGR images ``[T * 6, 3, H, W]``, and perhaps ``data_samples``.
            training: augment.

        Returns:
            ``inputs['imgs']``, float32 ``[B, T * 6, 3, H, W]``, and ``data_samples``, or None.

        Raises:
            ValueError: the samples do not have the same number of images, or not six of each frame.
        """
        data = self.cast_data(data)
        samples, data_samples = data['inputs']['img'], data.get('data_samples')
        shapes = [tuple(images.shape) for images in samples]
        if len({shape[0] for shape in shapes}) != 1 or any(len(s) != 4 or s[0] % len(CAMERAS) for s in shapes):
            raise ValueError(
                f"inputs['img']: found shapes {shapes}, expected [T * {len(CAMERAS)}, 3, H, W] with one T for all "
                'samples of the batch; check num_frames of LoadMultiFrameImages'
            )
        imgs = multiview_img_stack_batch(
            [self._images(images, training) for images in samples], self.pad_size_divisor, self.pad_value
        )
        size = tuple(imgs.shape[-2:])
        for sample in data_samples or []:
            sample.set_metainfo(dict(batch_input_shape=size, pad_shape=size))
        if training and torch.rand(()) < self.grid_mask_prob:
            masked = imgs if self.grid_mask_frames is None else imgs[:, : self.grid_mask_frames * len(CAMERAS)]
            masked *= grid_mask(size).to(imgs)
        return dict(inputs=dict(imgs=imgs), data_samples=data_samples)

    def _images(self, images: Tensor, training: bool) -> Tensor:
        """Normalised images of one sample ``[T * 6, 3, H, W]``."""
        images = images.float()
        if training and self.color_augmentation:
            # Frame by frame: a dozen temporary copies of all images at once would be the peak of a training step.
            images = torch.cat([augment_colors(frame) for frame in images.split(len(CAMERAS))])
        if self._channel_conversion:
            images = images.flip(1)
        return (images - self.mean) / self.std
