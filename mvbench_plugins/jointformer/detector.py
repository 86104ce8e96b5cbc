"""JointFormer (arXiv 2308.13505): given the masks of objects where they appear, their masks on all later frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.mot import BaseMOTModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import mask2bbox
from mmengine.structures import InstanceData, PixelData
from torch import Tensor
from torch.nn import functional as F

from mvbench_plugins.common.settings import complete_settings

from .aggregation import memory_frames, soft_aggregate
from .attention import TopK
from .checkpoint import accept_official_files
from .labels import clip_targets, one_hot, unknown_labels
from .memory import VideoMemory
from .padding import Padding
from .training import ClipDraws, segment_clip


@MODELS.register_module()
class JointFormer(BaseMOTModel):
    """Backbone with joint blocks, mask head, and in tests the memory of one video.

    Tests go through a video frame by frame, in order; whatever ``frame_id`` 0 belongs to starts anew. Official files
    load under their own key names, those of ConvMAE through ``backbone.init_cfg``.

    Args:
        backbone: :class:`~mvbench_plugins.jointformer.backbone.JointConvMAE`.
        mask_head: :class:`~mvbench_plugins.jointformer.mask_head.JointFormerMaskHead`.
        loss_ce: loss of the logits of real objects and background; needed for training only.
        loss_dice: loss of the probabilities of all slots; needed for training only.
        train_cfg: ``num_slots``: objects of a clip at most, 3; ``num_ref_frames``: frames in memory that are read, 2;
            ``token_update_prob``: how often a memorised frame updates the compressed tokens, 0.6.
        test_cfg: ``mem_every`` (5) and ``max_memory_frames`` (1, the first one included), see
            :class:`~mvbench_plugins.jointformer.memory.VideoMemory`; ``topk``: arguments of
            :class:`~mvbench_plugins.jointformer.attention.TopK`, or None (default) to attend to the whole memory;
            ``with_instances``: also give ``pred_track_instances``, which the stock visualizer draws.
        data_preprocessor: :class:`~mvbench_plugins.jointformer.data_preprocessor.VOSDataPreprocessor`.
        init_cfg: initialisation of the whole model.

    Raises:
        ValueError: there is no such setting, or it is out of its range.
    """

    def __init__(
        self,
        backbone: dict,
        mask_head: dict,
        loss_ce: dict | None = None,
        loss_dice: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.mask_head = MODELS.build(mask_head)
        self.loss_ce = None if loss_ce is None else MODELS.build(loss_ce)
        self.loss_dice = None if loss_dice is None else MODELS.build(loss_dice)
        train = complete_settings('model.train_cfg', train_cfg, num_slots=3, num_ref_frames=2, token_update_prob=0.6)
        test = complete_settings(
            'model.test_cfg', test_cfg, mem_every=5, max_memory_frames=1, topk=None, with_instances=False
        )
        self.num_slots = train['num_slots']
        self.draws = ClipDraws(train['num_ref_frames'], train['token_update_prob'])
        self.mem_every, self.max_memory_frames = test['mem_every'], test['max_memory_frames']
        self.topk = None if test['topk'] is None else TopK(**test['topk'])
        self.with_instances = test['with_instances']
        self.reset()
        accept_official_files(self)

    def reset(self) -> None:
        """Forget the video."""
        self._last_place: tuple | None = None
        self.memory = VideoMemory(self.mem_every, self.max_memory_frames)

    def loss(self, inputs: dict, data_samples: Sequence[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of a batch of clips.

        Args:
            inputs: ``img`` ``[B, F, 3, H, W]``, preprocessed; H and W are multiples of 16.
            data_samples: with ``num_objects``, and with ``gt_sem_seg`` on each frame: 0, and slots 1 to num_objects.

        Returns:
            ``loss_ce_t`` and ``loss_dice_t`` for each frame t behind the first, and ``bootstrap_share``, the share
            of pixels that the cross entropies are taken of.

        Raises:
            ValueError: labels or their number do not fit the slots.
        """
        if self.loss_ce is None or self.loss_dice is None:
            raise ValueError('model.loss_ce and model.loss_dice: found None, expected both for training')
        targets, num_objects = clip_targets(data_samples, self.num_slots, self.loss_ce.ignore_index)
        first = one_hot(targets[:, 0], range(1, self.num_slots + 1))
        selector = torch.arange(self.num_slots, device=targets.device) < num_objects[:, None]
        losses = dict(bootstrap_share=targets.new_tensor(self.loss_ce.current_share, dtype=torch.float32))
        clip = segment_clip(self, inputs['img'], first, selector.float(), self.draws)
        counts = num_objects.tolist()
        for t, output in enumerate(clip, start=1):
            losses[f'loss_ce_{t}'] = self.loss_ce(output.logits, targets[:, t], counts)
            losses[f'loss_dice_{t}'] = self.loss_dice(output.prob, targets[:, t])
        return losses

    @torch.no_grad()
    def predict(self, inputs: dict, data_samples: Sequence[TrackDataSample]) -> Sequence[TrackDataSample]:
        """Index maps of the next frames of a video, in ``pred_sem_seg`` of each.

        Args:
            inputs: ``img`` ``[1, T, 3, h, w]``, preprocessed; usually T = 1.
            data_samples: of one video. Each frame says ``frame_id``, ``ori_shape``, ``video_length`` (None if nobody
                knows) and ``annotated``; annotated ones have ``gt_sem_seg`` of the images' size.

        Raises:
            ValueError: there are several videos in a batch, or frames of several sizes in a video; frames are out of
                order; values of an index map are no labels.
        """
        if len(data_samples) != 1:
            raise ValueError(
                f'found a batch of {len(data_samples)} videos, expected one, frame by frame and in order: set '
                'batch_size=1 for testing'
            )
        for image, frame in zip(inputs['img'][0], data_samples[0].video_data_samples, strict=True):
            self._follow(frame)
            self._predict_frame(image, frame)
        return data_samples

    def train(self, mode: bool = True) -> JointFormer:
        """Set the mode, and forget the video, whose memory would take room in training."""
        self.reset()
        return super().train(mode)

    def _follow(self, frame: DetDataSample) -> None:
        """Start anew with the first frame of a video; make sure that the others come in order."""
        place = (frame.get('video_id'), frame.frame_id)
        if frame.frame_id == 0:
            self.reset()
        elif self._last_place != (place[0], place[1] - 1):
            raise ValueError(
                f'{frame.get("img_path", "frame")}: found (video_id, frame_id) = {place} after {self._last_place}, '
                'expected the frames of a video in order, from frame_id 0 on: test with batch_size=1 and '
                "sampler=dict(type='TrackImgSampler')"
            )
        self._last_place = place

    def _predict_frame(self, image: Tensor, frame: DetDataSample) -> None:
        masks, source = None, frame.get('img_path', 'frame')
        if frame.get('annotated'):
            given = frame.gt_sem_seg.sem_seg[0]
            new = unknown_labels(given, self.memory.labels, source)
            self.memory.labels += new
            masks = one_hot(given, new)
        length = frame.get('video_length')
        try:
            prob = self.step(image, masks, is_last=length is not None and frame.frame_id == length - 1)
        except ValueError as error:
            raise ValueError(f'{source}: {error}') from error
        prob = F.interpolate(prob[None], tuple(frame.ori_shape), mode='bilinear', align_corners=False)[0]
        labels = prob.new_tensor([0, *self.memory.labels], dtype=torch.uint8)
        index_map = labels[prob.argmax(0)]
        frame.pred_sem_seg = PixelData(sem_seg=index_map[None])
        if self.with_instances:
            frame.pred_track_instances = _instances(index_map, self.memory.labels)

    @torch.no_grad()
    def step(self, image: Tensor, new_masks: Tensor | None = None, is_last: bool = False) -> Tensor:
        """Segment the next frame of the video, and remember it.

        Args:
            image: normalised ``[3, h, w]``.
            new_masks: the frame is annotated; 0 and 1, of the objects that enter on it ``[k, h, w]``, which come behind
                those that are known. None: it is not. Without any object so far, k = 0 is None.
            is_last: nothing needs to be remembered of the frame.

        Returns:
            Probabilities of the background and all n objects so far, ``[1 + n, h, w]``, float32.

        Raises:
            ValueError: earlier frames of the video had another size.
        """
        memory, padding = self.memory, Padding.to_stride(*image.shape[-2:])
        entering = 0 if new_masks is None else len(new_masks)
        if not memory.num_objects + entering:
            return image.new_ones(1, *image.shape[-2:], dtype=torch.float32)
        padded = padding.add(image)[None]
        memory.check_size(*image.shape[-2:])
        prob = self._segment(padded) if memory.num_objects else padded.new_ones(1, *padded.shape[-2:])
        if new_masks is not None:
            prob = _merge(prob, padding.add(new_masks).to(image))
            memory.enter(self.backbone.cls_token, entering)
        if not is_last:
            frames = memory_frames(padded[0], prob[1:], self.backbone.mask_channels)
            stored, memory.tokens = self.backbone.memorize(frames, memory.tokens, self.topk)
            memory.store(stored, annotated=new_masks is not None)
        memory.step += 1
        return padding.remove(prob)

    def _segment(self, image: Tensor) -> Tensor:
        """Probabilities ``[1 + n, H, W]`` of the known objects on a padded image ``[1, 3, H, W]``; tokens follow."""
        memory, stem = self.memory, self.backbone.stem(image)
        f16 = torch.cat(
            [self.backbone.read(stem, [frame.memory for frame in group.frames], self.topk) for group in memory.groups]
        )
        enhanced = self.backbone.enhance(f16, memory.tokens)
        logits, fusion = self.mask_head(f16, enhanced, stem.f8, stem.f4)
        memory.tokens = self.backbone.update_token(fusion, memory.tokens, self.topk)
        return soft_aggregate(logits[:, 0].sigmoid())[1]


def _merge(prob: Tensor, new_masks: Tensor) -> Tensor:
    """Probabilities of known objects and masks of new ones, aggregated anew; new masks take their pixels."""
    known = prob[1:] * (new_masks.sum(0) < 0.5)
    return soft_aggregate(torch.cat([known, new_masks]))[1]


def _instances(index_map: Tensor, labels: Sequence[int]) -> InstanceData:
    """The objects that are to be seen on an index map ``[H, W]``."""
    ids = torch.tensor(labels, dtype=torch.long, device=index_map.device)
    masks = index_map[None] == ids[:, None, None]
    visible = masks.flatten(1).any(1)
    masks, ids = masks[visible], ids[visible]
    return InstanceData(
        masks=masks,
        instances_id=ids,
        labels=torch.zeros_like(ids),
        scores=torch.ones(len(ids), device=ids.device),
        bboxes=mask2bbox(masks),
    )
