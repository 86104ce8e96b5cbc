"""From a video and the masks of some objects to the masks of these objects in all frames."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models import BaseMOTModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmengine.runner.amp import autocast
from mmengine.structures import PixelData
from rich.progress import Progress

from mvbench_plugins import compat
from mvbench_plugins.apis.model_loading import check_device, find_config, load_strictly, read_checkpoint
from mvbench_plugins.apis.vos_drawing import draw_objects
from mvbench_plugins.apis.vos_frames import FrameSource, FrameStream, empty_sample, open_frames, pack_frame
from mvbench_plugins.apis.vos_given import GivenObjects, Masks
from mvbench_plugins.apis.vos_output import VOSWriter, check_output, to_record
from mvbench_plugins.apis.vos_prompts import BoxPrompt, PointPrompt, read_prompts
from mvbench_plugins.common.palette_png import read_palette

_LEAST_SIZE = 16  # pixels: one token of the network


class VOSInferencer(BaseInferencer):
    """Segments given objects through a video, with any frame-by-frame segmenter of this suite.

    Frames are read, segmented and written one by one, through a loop of this class: memory is constant in the length of
    the video.

    Args:
        model: config, path of a config file, or name of a config of this suite; None takes the config that the
            checkpoint holds.
        weights: checkpoint; None leaves the weights random, with a warning.
        device: such as ``'cuda:0'``; default: an accelerator if there is one.
        size: length in pixels that the shorter side of frames is brought to for the model; default: as the config has
            it. Results have the size of the video.
        amp: whether to compute in mixed precision: float16 on a GPU, bfloat16 on a CPU.
        mem_every: each how many frames one is memorised for longer; default: as the config has it.
        max_memory_frames: how many of these are kept, the first one included; default: as the config has it. Long
            videos of which much changes gain by some more; time and memory on the device grow with it.
        show_progress: whether to show a progress bar.

    Raises:
        FileNotFoundError, ValueError: a file is missing, an option is wrong, or the checkpoint does not fit the model.

    Examples:
        >>> inferencer = VOSInferencer('config.py', 'checkpoint.pth', amp=True)
        >>> result = inferencer('video.mp4', 'first_mask.png', out_dir='out')
        >>> result['predictions'][12]['objects'][0]
        {'id': 1, 'area': 5321, 'box': [210, 84, 296, 171]}
        >>> inferencer('frames', 'annotations')  # masks named as frames: objects may appear at any of them
        >>> inferencer('video.mp4', {0: 'first_mask.png', 40: array}, boxes=[(75, 3, (10, 20, 90, 110))])
        >>> for sample in inferencer.stream('video.mp4', points=[(0, 1, (320, 180))], point_radius=20):
        ...     print(sample.frame_index, sample.pred_sem_seg.sem_seg.shape)
    """

    def __init__(
        self,
        model: str | Path | Config | ConfigDict | dict | None = None,
        weights: str | Path | None = None,
        device: str | None = None,
        *,
        size: int | None = None,
        amp: bool = False,
        mem_every: int | None = None,
        max_memory_frames: int | None = None,
        show_progress: bool = True,
    ) -> None:
        compat.apply()
        memory = dict(mem_every=mem_every, max_memory_frames=max_memory_frames)
        self._test_cfg = {name: value for name, value in memory.items() if value is not None}
        for name, value in dict(size=size, **memory).items():
            least = _LEAST_SIZE if name == 'size' else 1
            if value is not None and value < least:
                raise ValueError(f'{name}: found {value}, expected {least} or more')
        if isinstance(model, (str, Path)):
            model = Config.fromfile(find_config(model))
        check_device(device)
        self.amp = amp
        self._size = size
        self._running: FrameStream | None = None
        init_default_scope('mmdet')
        super().__init__(
            model, None if weights is None else str(weights), device, scope='mmdet', show_progress=show_progress
        )

    def __call__(
        self,
        inputs: FrameSource,
        masks: Masks | None = None,
        *,
        boxes: Iterable[BoxPrompt] = (),
        points: Iterable[PointPrompt] = (),
        point_radius: int | None = None,
        fps: float | None = None,
        out_dir: str | Path | None = None,
        save: Sequence[str] = ('overlay', 'masks'),
        return_masks: bool = False,
    ) -> dict[str, Any]:
        """Segments one video from its beginning to its end.

        Frames before the first object are passed over: they have none. After Ctrl-C, or a frame that cannot be read,
        files hold what was found until then (``complete`` in the json is false). Ctrl-C is the way to end a camera:
        there the result is returned, elsewhere it is raised on.

        Args:
            inputs: video file, folder of frames, camera index, URL, uint8 array ``[t, h, w, 3]`` in BGR order, or an
                iterator of such frames.
            masks: the objects: a png with labels (palette or grey, 0 is the background), or an integer array
                ``[h, w]``, for the first frame; or a folder of png named as the frames (``00000.png`` on in a video);
                or a dict of png and arrays by 0-based frame index. Objects that are known already are ignored in later
                masks, and so is 255, unless it is the only label (DAVIS 2016).
            boxes: objects as rectangles, (frame, label, (x1, y1, x2, y2)) in pixels: a convenience, far less exact than
                a mask.
            points: objects as discs, (frame, label, (x, y)) in pixels: likewise, and less exact still. Several points
                of one label at one frame make one object.
            point_radius: of the discs, in pixels; default: 5 % of the shorter side of the frame.
            fps: frame rate of the video, if it does not tell it (folder, array: 30) or tells it wrong.
            out_dir: folder for files; default: none are written.
            save: which files: ``'overlay'`` (overlay.mp4, small videos enlarged), ``'frames'`` (the same as pictures,
                frames/NAME.jpg), ``'masks'`` (index maps with the palette of the first given one, masks/NAME.png),
                ``'json'`` (objects.json, the ``predictions``).
            return_masks: whether ``predictions`` hold the index map of each frame, all of which are then in memory.

        Returns:
            ``predictions``: for each frame ``frame`` (0-based index), ``name`` and ``objects``, a list of ``id`` (the
            label), ``area`` (pixels) and ``box`` (x1, y1, x2, y2; x2 and y2 are exclusive) of those that are visible;
            with ``return_masks`` also ``mask``, uint8 ``[h, w]``.
            ``visualization``: path of the overlay video or None.
            ``video``: ``source``, ``width``, ``height``, ``fps`` and ``frames`` (how many were read).

        Raises:
            FileNotFoundError, TypeError, ValueError: an input or an option is wrong, and nothing is written; or a frame
                cannot be read.
        """
        records: list[dict] = []
        stream, given = self._open(inputs, masks, boxes, points, point_radius, fps)
        with ExitStack() as stack:
            video = stack.enter_context(stream.video)
            writer = None
            if out_dir is not None:
                read = [*given.files, *(stream.files or [])]
                if isinstance(inputs, (str, Path)):
                    read.append(Path(inputs).expanduser())
                check_output(Path(out_dir), save, read)
                writer = stack.enter_context(VOSWriter(Path(out_dir), save, video, read_palette(given.palette_file)))
            progress = stack.enter_context(Progress(disable=not self.show_progress))
            complete = False
            try:
                found = self._segment(stream, given)
                for frame, sample in progress.track(found, video.num_frames, description='Frames'):
                    index_map = sample.pred_sem_seg.sem_seg[0].numpy()
                    record = to_record(sample.frame_index, sample.frame_name, index_map)
                    records.append(record | dict(mask=index_map) if return_masks else record)
                    if writer is not None:
                        writer.write(record, frame, index_map)
                complete = True
            except KeyboardInterrupt:
                complete = video.live
                if not complete:
                    raise
            finally:
                info = video.describe(inputs)
                if writer is not None:
                    writer.finish(info, complete)
        return self.postprocess(records, None if writer is None else writer.overlay) | dict(video=info)

    def stream(
        self,
        source: FrameSource,
        masks: Masks | None = None,
        *,
        boxes: Iterable[BoxPrompt] = (),
        points: Iterable[PointPrompt] = (),
        point_radius: int | None = None,
        fps: float | None = None,
    ) -> Iterator[DetDataSample]:
        """Yields the objects of each frame as soon as they are there, in constant memory.

        The model remembers one video: a stream ends with an error when another video was begun after it.

        Args:
            source: as ``inputs`` of :meth:`__call__`; so are the others.
            masks: the objects.
            boxes: objects as rectangles.
            points: objects as discs.
            point_radius: of the discs, in pixels.
            fps: frame rate of the video.

        Returns:
            A generator of data samples on the CPU: ``pred_sem_seg.sem_seg`` (index map, uint8 ``[1, h, w]``),
            ``frame_index`` (0-based) and ``frame_name``. Closing it frees the file or camera.
        """
        stream, given = self._open(source, masks, boxes, points, point_radius, fps)

        def segment() -> Iterator[DetDataSample]:
            with stream.video:
                for _, sample in self._segment(stream, given):
                    yield sample

        return segment()

    def forward(self, inputs: dict) -> list:
        """Runs the model on one packed frame."""
        with autocast(device_type=self.model.data_preprocessor.device.type, enabled=self.amp):
            return super().forward(inputs)

    def visualize(
        self, inputs: Sequence[np.ndarray], preds: Sequence[DetDataSample], palette: str | Path | None = None
    ) -> list[np.ndarray]:
        """Draws data samples of :meth:`stream` onto their frames.

        Args:
            inputs: uint8 ``[h, w, 3]`` in BGR order.
            preds: data samples.
            palette: png whose palette to draw with; default: that of DAVIS.

        Returns:
            Pictures in BGR order.
        """
        colors = read_palette(palette)
        return [
            draw_objects(frame, sample.pred_sem_seg.sem_seg[0].numpy(), colors)
            for frame, sample in zip(inputs, preds, strict=True)
        ]

    def postprocess(self, preds: list, visualization: str | None) -> dict[str, Any]:
        """Packs the results as inferencers do."""
        return dict(predictions=preds, visualization=visualization)

    def _open(
        self,
        source: FrameSource,
        masks: Masks | None,
        boxes: Iterable[BoxPrompt],
        points: Iterable[PointPrompt],
        point_radius: int | None,
        fps: float | None,
    ) -> tuple[FrameStream, GivenObjects]:
        """Opens the video, and finds the objects; whoever gets the stream closes it."""
        stream = open_frames(source, fps)
        with ExitStack() as stack:
            stack.enter_context(stream.video)
            given = GivenObjects(stream, masks, read_prompts(boxes, points, point_radius, stream.video.size))
            stack.pop_all()
        return stream, given

    def _segment(self, stream: FrameStream, given: GivenObjects) -> Iterator[tuple[np.ndarray, DetDataSample]]:
        """The loop: each frame (BGR) with its data sample on the CPU."""
        self._running = stream
        width, height = stream.video.size
        index = -1
        for index, frame in enumerate(stream.video):
            if self._running is not stream:
                raise RuntimeError(
                    f'{stream.video.origin}: another video was begun before its end, and the model remembers that one '
                    'now. Go through one after the other, or with an inferencer for each'
                )
            if index < given.first:
                sample = empty_sample(stream, index)
                sample.pred_sem_seg = PixelData(sem_seg=torch.zeros(1, height, width, dtype=torch.uint8))
            else:
                (track,) = self.forward(self.pipeline(stream, frame, index, given.first, given.at(index)))
                sample = track[0].cpu()
            yield frame, sample
        if index < given.last:
            warnings.warn(
                f'{stream.video.origin} ended at frame {index}, before the object given at frame {given.last}',
                stacklevel=2,
            )

    def _init_model(self, cfg: Config, weights: str | None, device: str = 'cpu') -> torch.nn.Module:
        """Builds the model with the chosen options, and loads it strictly."""
        checkpoint = read_checkpoint(weights, cfg)
        model_cfg = copy.deepcopy(cfg.model)
        model_cfg.test_cfg = dict(model_cfg.get('test_cfg') or {}, **self._test_cfg)
        if self._size is not None:
            model_cfg.data_preprocessor = dict(model_cfg.get('data_preprocessor') or {}, test_size=self._size)
        cfg.model = model_cfg
        model = MODELS.build(cfg.model)
        name = getattr(cfg, 'filename', None) or 'the config'
        if not isinstance(model, BaseMOTModel):
            raise ValueError(
                f'{name}: found the model {type(model).__name__}, expected one that goes through videos frame by frame'
            )
        if checkpoint is None:
            warnings.warn('Checkpoint is not loaded: the weights are random, and so are the results', stacklevel=2)
        else:
            load_strictly(model, checkpoint, name)
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Any:
        """Frames come decoded and keep their size until the data preprocessor: nothing of the test pipeline is left."""
        return pack_frame

    def _init_collate(self, cfg: Config) -> Any:
        """As the siblings; a batch holds one frame, and is packed as such."""
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """None: drawing needs no state, and the visualizer of a config would make a folder of its own."""
