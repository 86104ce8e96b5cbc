"""From the six cameras of a vehicle to 3D boxes around it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.apis.inferencers.base_3d_inferencer import Base3DInferencer
from mmdet3d.registry import DATASETS, MODELS
from mmdet3d.structures import Det3DDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.structures import InstanceData
from rich.progress import Progress

from mvbench_plugins import compat
from mvbench_plugins.apis.model_loading import check_device, find_config, load_strictly, read_checkpoint
from mvbench_plugins.apis.multiview_frames import FolderFrames, Frames, MultiViewFrame, NuScenesFrames
from mvbench_plugins.apis.multiview_output import PictureWriter, check_options, write_submission
from mvbench_plugins.apis.multiview_picture import draw_frame
from mvbench_plugins.apis.result_files import write_json
from mvbench_plugins.sparsebev.dataset import CLASSES

_LOADING = 'LoadMultiFrameImages'

Inputs = str | Path | Sequence[str]


class MultiViewDet3DInferencer(Base3DInferencer):
    """Detects objects in 3D around a vehicle with six cameras, with any multi-frame detector of this suite.

    Frames run through a loop of this class, one batch after the other, since those of a drive need what came before.

    Args:
        model: config, path of a config file, or name of a config of this suite; None takes the config that the
            checkpoint holds.
        weights: checkpoint; None leaves the weights random, with a warning.
        device: such as ``'cuda:0'``; default: an accelerator if there is one.
        online: go through the frames of scenes and drives one after the other, and remember the features of past
            frames instead of computing them anew for each frame. The results are the same, in a fraction of the time.
            What is remembered reaches back as far as the model looks: 3.5 s with 8 frames, whatever the length of the
            drive.
        show_progress: whether to show a progress bar.

    Raises:
        FileNotFoundError, ValueError: a file is missing, the checkpoint does not fit the model, or the test pipeline of
            the config is not one of multi-frame detectors.

    Examples:
        >>> inferencer = MultiViewDet3DInferencer('config.py', 'checkpoint.pth', online=True)
        >>> result = inferencer('scene-0103', out='scene.mp4', nuscenes_out='results_nusc.json')
        >>> result['predictions'][0].keys()
        dict_keys(['labels_3d', 'scores_3d', 'bboxes_3d', 'box_type_3d', 'token', 'timestamp'])
        >>> for sample in inferencer.stream('drive'):  # a folder of folders with calibration files
        ...     print(sample.pred_instances_3d.bboxes_3d)
        >>> inferencer = MultiViewDet3DInferencer('config.py', 'checkpoint.pth')
        >>> inferencer('3e8750f331d7499e9b5123e9eb70f2e2', out='sample.jpg', draw_gt=True)
        >>> inferencer('frame', history=['frame_before', 'frame_before_that'], out='frame.jpg')
    """

    def __init__(
        self,
        model: str | Path | Config | ConfigDict | dict | None = None,
        weights: str | Path | None = None,
        device: str | None = None,
        online: bool = False,
        show_progress: bool = True,
    ) -> None:
        compat.apply()
        if isinstance(model, (str, Path)):
            model = Config.fromfile(find_config(model))
        check_device(device)
        self.online = online
        super().__init__(model, None if weights is None else str(weights), device)
        self.show_progress = show_progress
        self._dataset: Any = None

    def __call__(
        self,
        inputs: Inputs,
        batch_size: int = 1,
        return_datasamples: bool = False,
        *,
        history: Sequence[str | Path] | None = None,
        pred_score_thr: float = 0.3,
        draw_gt: bool = False,
        return_vis: bool = False,
        view_width: int = 640,
        fps: float | None = None,
        out: str | Path | None = None,
        json_out: str | Path | None = None,
        nuscenes_out: str | Path | None = None,
    ) -> dict[str, Any]:
        """Detects in one frame, or in all frames of a scene or a drive.

        After Ctrl-C video and json hold what was found until then (``complete`` in the json is false).

        Args:
            inputs: of the data set in ``test_dataloader`` of the config: a sample token, the name or token of a scene,
                or a list of those. Or a folder: with the pictures of six cameras and a calibration file, see
                :mod:`~mvbench_plugins.apis.multiview_calibration`, perhaps with sub-folders of the same kind for
                earlier frames; or with such folders only, the frames of a drive.
            batch_size: frames that go through the model at once; 1 in online mode.
            return_datasamples: whether ``predictions`` are data samples.
            history: folders of earlier frames, for a single folder.
            pred_score_thr: boxes that score less are not drawn; results hold them.
            draw_gt: whether to draw annotated boxes, in white.
            return_vis: whether ``visualization`` holds the pictures, all of which are then in memory.
            view_width: width of one of the six views in a picture, in pixels.
            fps: frames per second of a video; default: as they were taken.
            out: video (.mp4, .avi), picture of a single frame (.jpg, .png), or a folder for a picture of each frame.
            json_out: json file to write.
            nuscenes_out: json file for the nuScenes devkit to write; it evaluates files with all samples of a split.

        Returns:
            ``predictions``: of each frame ``bboxes_3d`` (x, y, z of the middle of the bottom, length, width, height,
            yaw, vx, vy; metres, radians and metres per second in LiDAR coordinates), ``scores_3d``, ``labels_3d``,
            ``box_type_3d``, ``token`` (or the folder) and ``timestamp``; or data samples.
            ``visualization``: pictures (BGR), or the paths of the files in ``out``.

        Raises:
            FileNotFoundError, ValueError: an input or an option is wrong; nothing is written.
        """
        frames = self._open(inputs, history, batch_size)
        check_options(frames, out, json_out, nuscenes_out, draw_gt, view_width, fps, self._classes)
        records: list[dict] = []
        samples: list[Det3DDataSample] = []
        infos: list[dict] = []
        pictures: list[np.ndarray] = []
        complete = False
        with ExitStack() as stack:
            writer = None
            if out is not None:
                writer = stack.enter_context(PictureWriter(Path(out), fps or frames.rate))
            progress = stack.enter_context(Progress(disable=not self.show_progress))
            try:
                found = self._detect(frames, batch_size)
                for frame, sample in progress.track(found, len(frames), description='Frames'):
                    records.append(self._to_record(frame, sample))
                    if return_datasamples or nuscenes_out is not None:
                        samples.append(sample)
                    if nuscenes_out is not None:
                        infos.append({key: frame.results[key] for key in ('token', 'ego2global', 'lidar_points')})
                    if writer is not None or return_vis:
                        picture = self.visualize([frame], [sample], pred_score_thr, draw_gt, view_width)[0]
                        if writer is not None:
                            writer.write(frame.name, picture)
                        if return_vis:
                            pictures.append(picture)
                complete = True
            finally:
                if json_out is not None:
                    content = dict(source=str(inputs), classes=self._classes, complete=complete, frames=records)
                    write_json(json_out, content)
        if nuscenes_out is not None:
            write_submission(Path(nuscenes_out), infos, samples, self._classes)
        shown = pictures if return_vis else writer.written if writer is not None else []
        return self.postprocess(samples if return_datasamples else records, shown)

    def stream(
        self, inputs: Inputs, batch_size: int = 1, *, history: Sequence[str | Path] | None = None
    ) -> Iterator[Det3DDataSample]:
        """Yields the detections of each frame as soon as they are there, and keeps none.

        Args:
            inputs: as in :meth:`__call__`; so are the others.
            batch_size: frames that go through the model at once.
            history: folders of earlier frames, for a single folder.

        Returns:
            A generator of data samples on the CPU, with ``pred_instances_3d`` (``bboxes_3d``, ``scores_3d``,
            ``labels_3d``).
        """
        frames = self._open(inputs, history, batch_size)
        return (sample for _, sample in self._detect(frames, batch_size))

    def visualize(
        self,
        inputs: Sequence[MultiViewFrame],
        preds: Sequence[Det3DDataSample],
        pred_score_thr: float = 0.3,
        draw_gt: bool = False,
        view_width: int = 640,
    ) -> list[np.ndarray]:
        """Draws the six views with their boxes, and beside them the scene from above.

        Args:
            inputs: frames.
            preds: data samples of each frame, on the CPU.
            pred_score_thr: boxes that score less are left out.
            draw_gt: whether to draw annotated boxes, in white.
            view_width: width of a view in pixels.

        Returns:
            Pictures in BGR order.
        """
        return [
            draw_frame(frame, sample.pred_instances_3d, self._classes, pred_score_thr, draw_gt, view_width)
            for frame, sample in zip(inputs, preds, strict=True)
        ]

    def postprocess(self, preds: list, visualization: list) -> dict[str, Any]:
        """Packs the results as inferencers do."""
        return dict(predictions=preds, visualization=visualization)

    @property
    def _classes(self) -> list[str]:
        """Names by label: as the checkpoint tells, or else the config."""
        dataset = (self.cfg.get('test_dataloader') or {}).get('dataset') or {}
        metas = (self.model.dataset_meta, dataset.get('metainfo') or {}, dict(classes=CLASSES))
        return list(next(meta['classes'] for meta in metas if 'classes' in meta))

    def _open(self, inputs: Inputs, history: Sequence[str | Path] | None, batch_size: int) -> Frames:
        """Finds the frames, and checks that they suit the mode.

        Raises:
            FileNotFoundError, ValueError: they are not there, or wrong.
        """
        if batch_size < 1 or (self.online and batch_size > 1):
            expected = '1 in online mode' if self.online else '1 or more'
            raise ValueError(f'batch_size: found {batch_size}, expected {expected}')
        frames: Frames
        if isinstance(inputs, (str, Path)) and Path(inputs).is_dir():
            frames = FolderFrames(Path(inputs), None if history is None else [Path(folder) for folder in history])
        elif history is not None:
            raise ValueError(f'history: expected for a folder with a calibration file only; {inputs} is no folder')
        else:
            names = [str(name) for name in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
            folders = [name for name in names if Path(name).is_dir()]
            if folders:
                raise ValueError(f'{folders[0]}: expected one folder at a time; earlier frames belong into history')
            frames = NuScenesFrames(self._nuscenes(names), names)
        if self.online and not frames.sequential:
            raise ValueError(
                f'{inputs}: online mode remembers past frames, and has not seen those of a single frame. Give a scene '
                'or a drive, or leave online mode off'
            )
        return frames

    def _nuscenes(self, names: list[str]) -> Any:
        """The data set of the config; read when it is first asked for."""
        if self._dataset is None:
            try:
                self._dataset = DATASETS.build(copy.deepcopy(self.cfg.test_dataloader.dataset))
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f'{names[0]!r} is no folder, and to look it up in nuScenes a file is missing: {error}. Make info '
                    'files with tools/create_nuscenes_sweeps.py, or correct test_dataloader.dataset of the config'
                ) from error
        return self._dataset

    def _detect(self, frames: Frames, batch_size: int) -> Iterator[tuple[MultiViewFrame, Det3DDataSample]]:
        if self.online:
            self.model.memory.clear()
            # Frames that lie closer together than key frames of nuScenes are all remembered, for those after them.
            reach = (self._num_frames - 1) * frames.key_interval + 1
            self.model.memory.max_frames = max(self.model.memory.max_frames, reach)
        packed = ((frame, self.pipeline(dict(frame.results))) for frame in frames)
        for chunk in self._get_chunk_data(packed, batch_size):
            found = self.forward(self.collate_fn([inputs for _, inputs in chunk]))
            for (frame, _), sample in zip(chunk, found, strict=True):
                boxes = sample.pred_instances_3d
                sample.pred_instances_3d = InstanceData(**{key: value.to('cpu') for key, value in boxes.items()})
                yield frame, sample

    def _to_record(self, frame: MultiViewFrame, sample: Det3DDataSample) -> dict[str, Any]:
        """Plain numbers, under the names of mmdet3d's inferencers."""
        return self.pred2dict(sample) | dict(token=frame.results['token'], timestamp=frame.timestamp)

    def _init_model(self, cfg: Config, weights: str | None, device: str = 'cpu') -> torch.nn.Module:
        """Builds the model, in the mode that was asked for, and loads it strictly."""
        checkpoint = read_checkpoint(weights, cfg)
        cfg.model.test_cfg = dict(cfg.model.get('test_cfg') or {}, online=self.online)
        model = MODELS.build(cfg.model)
        model.cfg = cfg
        model.dataset_meta = {}
        if checkpoint is None:
            warnings.warn('Checkpoint is not loaded: the weights are random, and so are the results', stacklevel=2)
        else:
            load_strictly(model, checkpoint, getattr(cfg, 'filename', None) or 'the config')
            model.dataset_meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        return model.to(device).eval()

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The test pipeline; in online mode it loads the pictures of the key frame only."""
        steps = copy.deepcopy(((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline') or [])
        loading = [step for step in steps if str(step['type']).endswith(_LOADING)]
        if len(loading) != 1:
            raise ValueError(
                f'config {getattr(cfg, "filename", None) or "given"}: test_dataloader.dataset.pipeline must have one '
                f'step {_LOADING}, found {[step["type"] for step in steps]}. Is it the config of a multi-frame camera '
                'detector?'
            )
        if self.online and loading[0].get('order', 'past') != 'past':
            raise ValueError(
                f'online: this model looks into the future (order={loading[0]["order"]!r} of {_LOADING}), which cannot '
                'be remembered; leave online mode off'
            )
        loading[0]['key_frame_only'] = self.online
        self._num_frames = loading[0].get('num_frames', 8)
        return Compose(steps)

    def _init_collate(self, cfg: Config) -> Any:
        """Samples of a batch stay apart; the data preprocessor pads and stacks them."""
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """None: drawing needs no state, and the visualizer of a config would make a folder of its own."""
