"""Test-time augmentation of LinK's detectors: maps are averaged over flips, boxes are united over rotations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.ops import nms_rotated
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .det_flips import Mirroring, merge_views

Maps = list[list[dict[str, Tensor]]]  # as CenterHead gives them: for each task, a list of one


@MODELS.register_module()
class LinKCenterPointTTA(BaseTTAModel):
    """Runs a detector on views of a sample that were rotated first and mirrored then.

    The maps of views with the same angle are averaged and decoded together; boxes are turned back; with several angles,
    the boxes of all are united by suppression within each class.

    Args:
        module: :class:`~mvbench_plugins.link.detector.LinKCenterPoint`, built or as a config.
        nms_thresholds: for each class, the overlap in the bird's-eye view above which the better one of two boxes
            suppresses the other; used with several angles only.
        max_per_sample: with several angles, at most this many boxes.
        data_preprocessor: as in ``BaseTTAModel``.
    """

    def __init__(
        self,
        module: nn.Module | dict,
        nms_thresholds: Sequence[float],
        max_per_sample: int = 500,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        self.nms_thresholds = tuple(nms_thresholds)
        self.max_per_sample = max_per_sample

    def test_step(self, data: dict[str, list]) -> list[Det3DDataSample]:
        """Detections of the samples.

        Args:
            data: ``inputs`` and ``data_samples`` with one entry per view, as ``TestTimeAug`` gives them.
        """
        model = self.module.module if is_model_wrapper(self.module) else self.module
        by_angle: dict[float, list[tuple[Maps, Mirroring]]] = {}
        for inputs, samples in zip(data['inputs'], data['data_samples'], strict=True):
            view = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), False)
            metas = [sample.metainfo for sample in view['data_samples']]
            _, feats = model.extract_feat(view['inputs'], metas)
            mirroring = Mirroring(bool(metas[0]['pcd_horizontal_flip']), bool(metas[0]['pcd_vertical_flip']))
            angle = float(metas[0].get('pcd_rotation_angle', 0.0))
            by_angle.setdefault(angle, []).append((model.pts_bbox_head(feats), mirroring))
        results = [self.detect(model.pts_bbox_head, views, metas, angle) for angle, views in by_angle.items()]
        merged = self.merge_preds(list(zip(*results, strict=True)))
        return model.add_pred_to_datasample(view['data_samples'], merged)

    @staticmethod
    def detect(
        head: nn.Module, views: Sequence[tuple[Maps, Mirroring]], metas: list[dict], angle: float
    ) -> list[InstanceData]:
        """Detections of all samples from the views of one angle.

        Args:
            head: decodes the maps.
            views: maps and mirroring of each view.
            metas: meta information of each sample.
            angle: by which the points were rotated, in radians, counterclockwise.
        """
        mirrorings = [mirroring for _, mirroring in views]
        tasks = zip(*(maps for maps, _ in views), strict=True)
        merged = [[merge_views([maps for (maps,) in task], mirrorings)] for task in tasks]
        results = head.predict_by_feat(merged, metas)
        for result in results:
            if len(result.bboxes_3d):
                result.bboxes_3d.rotate(-angle)
        return results

    def merge_preds(self, data_samples_list: Sequence[Sequence[InstanceData]]) -> list[InstanceData]:
        """Unite the detections of each sample over its angles.

        Args:
            data_samples_list: for each sample, its detections by angle.
        """
        return [angles[0] if len(angles) == 1 else self._unite(list(angles)) for angles in data_samples_list]

    def _unite(self, angles: list[InstanceData]) -> InstanceData:
        boxes = angles[0].bboxes_3d.cat([result.bboxes_3d for result in angles])
        scores = torch.cat([result.scores_3d for result in angles])
        labels = torch.cat([result.labels_3d for result in angles])
        kept = []
        for label, threshold in enumerate(self.nms_thresholds):
            (own,) = torch.where(labels == label)
            if len(own):
                kept.append(own[nms_rotated(boxes.bev[own], scores[own], threshold)[1]])
        kept = torch.cat(kept) if kept else labels.new_zeros(0, dtype=torch.long)
        kept = kept[scores[kept].argsort(descending=True)[: self.max_per_sample]]
        return InstanceData(bboxes_3d=boxes[kept], scores_3d=scores[kept], labels_3d=labels[kept])
