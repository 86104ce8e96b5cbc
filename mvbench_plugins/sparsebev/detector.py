"""SparseBEV (arXiv 2308.09244): surround images of several frames go in, 3D boxes with velocities come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmdet3d.models.detectors import Base3DDetector
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample
from torch import Tensor, nn

from mvbench_plugins.common.precision import at_least_float32
from mvbench_plugins.common.settings import complete_settings
from mvbench_plugins.ops.msmv_sampling import FlatViews, flatten_views

from .checkpoint import accept_official_files
from .frames import CAMERAS
from .head import HeadOutputs
from .online import FeatureMemory


@MODELS.register_module()
class SparseBEV(Base3DDetector):
    """Backbone and neck for each image, and the head for all.

    Under autocast, only backbone and neck run in half precision. Official files load under their own key names.

    Args:
        img_backbone: backbone for images.
        pts_bbox_head: :class:`~mvbench_plugins.sparsebev.head.SparseBEVHead`.
        img_neck: makes all feature maps as wide as the queries; None: the backbone does.
        num_grad_frames: in training, only so many leading frames are trained through backbone and neck; the others run
            frame by frame, without gradient and in evaluation mode. None: all frames are trained.
        train_cfg: ``assigner``, for the head.
        test_cfg: ``online``: compute features of the key frame only, and remember those of earlier frames, see
            :class:`~mvbench_plugins.sparsebev.online.FeatureMemory`. Same results, for samples in the order of time.
            ``frames_at_once``: in tests, only so many frames go through backbone and neck at a time, to save memory;
            None: all.
        data_preprocessor: :class:`~mvbench_plugins.sparsebev.data_preprocessor.SparseBEVDataPreprocessor`.
        init_cfg: initialisation of the whole model.

    Raises:
        ValueError: ``num_grad_frames`` or ``frames_at_once`` is less than 1, or there is no such setting for tests.
    """

    def __init__(
        self,
        img_backbone: dict,
        pts_bbox_head: dict,
        img_neck: dict | None = None,
        num_grad_frames: int | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        test = complete_settings('model.test_cfg', test_cfg, online=False, frames_at_once=None)
        self.num_grad_frames = _checked_count('num_grad_frames', num_grad_frames)
        self.frames_at_once = _checked_count('test_cfg.frames_at_once', test['frames_at_once'])
        self.img_backbone = MODELS.build(img_backbone)
        self.img_neck = None if img_neck is None else MODELS.build(img_neck)
        self.pts_bbox_head = MODELS.build({**pts_bbox_head, 'train_cfg': train_cfg})
        # Twice as many frames as are needed, as published.
        self.memory = FeatureMemory(2 * self.pts_bbox_head.num_frames) if test['online'] else None
        accept_official_files(self)
        self.register_load_state_dict_post_hook(_forget)

    def loss(self, inputs: dict, data_samples: Sequence[Det3DDataSample]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: ``imgs`` ``[B, T * 6, 3, H, W]``, preprocessed.
            data_samples: with annotations, and with the geometry of the images in their meta information.
        """
        views = self.extract_feat(inputs['imgs'])
        with _single_precision(views):
            return self.pts_bbox_head.loss(views, data_samples)

    def predict(self, inputs: dict, data_samples: Sequence[Det3DDataSample]) -> Sequence[Det3DDataSample]:
        """Detections, in the data samples' ``pred_instances_3d``.

        Args:
            inputs: ``imgs`` ``[B, T * 6, 3, H, W]``; in online mode those of the key frame are enough.
            data_samples: with the geometry of the images in their meta information.
        """
        if self.memory is None:
            views = self.extract_feat(inputs['imgs'])
        else:
            views = self.memory.views(inputs['imgs'], data_samples, self.extract_feat)
        with _single_precision(views):
            return self.add_pred_to_datasample(data_samples, self.pts_bbox_head.predict(views, data_samples))

    def _forward(self, inputs: dict, data_samples: Sequence[Det3DDataSample]) -> HeadOutputs:
        """Raw predictions of all stages; arguments as for :meth:`predict`, never online."""
        views = self.extract_feat(inputs['imgs'])
        with _single_precision(views):
            return self.pts_bbox_head(views, data_samples)

    def extract_feat(self, imgs: Tensor) -> FlatViews:
        """Features of images ``[B, T * 6, 3, H, W]``, laid out for the head."""
        if not self.training and self.frames_at_once is not None:
            return self._features_in_parts(imgs, self.frames_at_once * len(CAMERAS))
        trained = (self.num_grad_frames or 0) * len(CAMERAS)
        if not self.training or not 0 < trained < imgs.shape[1]:
            return self._features(imgs)
        views = self._features(imgs[:, :trained])
        with torch.no_grad(), _evaluating(self.img_backbone, self.img_neck):
            others = [self._features(frame).value for frame in imgs[:, trained:].split(len(CAMERAS), dim=1)]
        return views._replace(value=torch.cat([views.value, *others], dim=1))

    def _features_in_parts(self, imgs: Tensor, images_at_once: int) -> FlatViews:
        """The same, written into place: concatenated parts would take twice the memory."""
        value, done = None, 0
        for part in imgs.split(images_at_once, dim=1):
            views = self._features(part)
            if value is None:
                frames = imgs.shape[1] // len(CAMERAS)
                value = views.value.new_empty(len(imgs), frames, *views.value.shape[2:])
            value[:, done : done + views.value.shape[1]] = views.value
            done += views.value.shape[1]
        return views._replace(value=value)

    def _features(self, imgs: Tensor) -> FlatViews:
        feats = self.img_backbone(imgs.flatten(0, 1))
        if self.img_neck is not None:
            feats = self.img_neck(feats)
        views = flatten_views(
            [feat.unflatten(0, imgs.shape[:2]) for feat in feats], len(CAMERAS), self.pts_bbox_head.num_groups
        )
        # Half precision stays on a GPU that only reads them. Gradients of all decoder layers add up in single
        # precision, and a CPU would widen them again for each layer.
        if torch.is_grad_enabled() or not views.value.is_cuda:
            views = views._replace(value=at_least_float32(views.value))
        return views

    def train(self, mode: bool = True) -> SparseBEV:
        """Set the mode; weights may have changed since the last test, so what was remembered is forgotten."""
        _forget(self)
        return super().train(mode)


def _checked_count(name: str, count: int | None) -> int | None:
    if count is not None and count < 1:
        raise ValueError(f'{name}: found {count}, expected at least 1, or None for all frames')
    return count


def _forget(model: SparseBEV, *_) -> None:
    if model.memory is not None:
        model.memory.clear()


def _single_precision(views: FlatViews) -> torch.autocast:
    """No autocast in the head: boxes, sampling points and distances in metres do not survive half precision."""
    return torch.autocast(views.value.device.type, enabled=False)


@contextmanager
def _evaluating(*modules: nn.Module | None) -> Iterator[None]:
    """Evaluation mode, after which every submodule is in the mode that it was in before."""
    before = {part: part.training for module in modules if module is not None for part in module.modules()}
    for part in before:
        part.training = False
    try:
        yield
    finally:
        for part, mode in before.items():
            part.training = mode
