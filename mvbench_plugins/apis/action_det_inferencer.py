"""From a video to people and what they do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope
from rich.progress import Progress

from mvbench_plugins import compat
from mvbench_plugins.apis.action_names import find_action_names
from mvbench_plugins.apis.action_records import to_record
from mvbench_plugins.apis.clip_settings import read_clip_settings
from mvbench_plugins.apis.clips import Clip, iter_clips, key_frames
from mvbench_plugins.apis.draw_actions import draw_actions
from mvbench_plugins.apis.key_frame_run import KeyFrameRun, RunOptions, open_run, reopen
from mvbench_plugins.apis.model_loading import check_device, find_config, load_strictly
from mvbench_plugins.apis.people import People
from mvbench_plugins.apis.result_files import write_json
from mvbench_plugins.apis.two_pass import detect_with_memory
from mvbench_plugins.apis.video_reader import Source, VideoSource
from mvbench_plugins.apis.video_writer import AnnotatedVideoWriter
from mvbench_plugins.datasets.action.ava_files import read_label_map
from mvbench_plugins.datasets.action.transforms import clip_indices

_PERSON_SCORE_THR = 0.8  # of published models


class ActionDetInferencer(BaseInferencer):
    """Detects people and their actions in videos, with any action detector of this suite.

    A detection belongs to a *key frame* and is made from the clip around it. Key frames lie at 0 s, ``interval``,
    2 * ``interval`` ...; clips are sampled as the test pipeline of the config says, counted at the frame rate that the
    model was trained at (``fps`` of the test dataset: 30 for AVA; JHMDB and UCF101-24 have none, there frames are taken
    as they are). Clips that reach over an end of the video repeat its first or last frame.

    :class:`~mmengine.infer.BaseInferencer` handles a list of whole inputs, which for videos would be all of their
    frames. Model and config are therefore loaded as it does, but frames run through a loop of this class that keeps
    one clip and one batch, whatever the length of the video.

    Models that tell the actions of *given* people (CycleACR) need ``person_boxes``. They look at the people of the key
    frames around, too: by number, so that 30 key frames are the half a minute that published models were trained with
    only at the default ``interval`` of 1 s. What they remember is bounded by that window.

    Args:
        model: config, path of a config file, or name of a config of this suite; None takes the config that the
            checkpoint holds.
        weights: checkpoint; None leaves the weights random, with a warning.
        device: such as ``'cuda:0'``; default: an accelerator if there is one.
        show_progress: whether to show a progress bar.
        label_map: label map (``.pbtxt``) with the names of the actions; default: what the checkpoint or the config
            tells.

    Raises:
        FileNotFoundError, ValueError: a file is missing, the checkpoint does not fit the model, or the test pipeline of
            the config has no key frames.

    Examples:
        >>> inferencer = ActionDetInferencer('config.py', 'checkpoint.pth')
        >>> result = inferencer('video.mp4', batch_size=4, out='annotated.mp4', json_out='actions.json')
        >>> result['predictions'][0]['detections'][0]['actions'][0]
        {'id': 12, 'name': 'stand', 'score': 0.93}
        >>> for sample in inferencer.stream(0):  # a camera
        ...     print(sample.time, sample.pred_instances.bboxes)
        >>> cycleacr = ActionDetInferencer('cycleacr_config.py', 'cycleacr.pth')
        >>> result = cycleacr('video.mp4', person_boxes=PersonDetector('mmdet_config.py', 'mmdet.pth'))
        >>> result = cycleacr('video.mp4', person_boxes={0: [[10, 20, 60, 180]], 30: [[12, 20, 62, 181]]})
    """

    def __init__(
        self,
        model: str | Path | Config | ConfigDict | dict | None = None,
        weights: str | Path | None = None,
        device: str | None = None,
        show_progress: bool = True,
        label_map: str | Path | None = None,
    ) -> None:
        compat.apply()
        config = Config.fromfile(find_config(model)) if isinstance(model, (str, Path)) else model
        check_device(device)
        if label_map is not None and not Path(label_map).is_file():
            raise FileNotFoundError(f'label map {label_map} does not exist (current folder: {Path.cwd()})')
        names = read_label_map(label_map) if label_map is not None else None
        init_default_scope((config or {}).get('default_scope') or 'mmaction')
        super().__init__(
            config, None if weights is None else str(weights), device, scope='mmaction', show_progress=show_progress
        )
        self._names = names or find_action_names(self.model.dataset_meta, self._settings.dataset)

    def __call__(
        self,
        inputs: Source,
        batch_size: int = 1,
        return_datasamples: bool = False,
        *,
        interval: float = 1.0,
        step: int | None = None,
        fps: float | None = None,
        max_seconds: float | None = None,
        person_boxes: People | None = None,
        first_second: int = 0,
        det_score_thr: float | None = None,
        lookahead: int | None = None,
        pred_score_thr: float = 0.3,
        action_thr: float = 0.5,
        out: str | Path | None = None,
        json_out: str | Path | None = None,
    ) -> dict[str, Any]:
        """Detects in one video from its beginning to its end.

        Ctrl-C is the way to end the stream of a camera: the files are finished and the result is returned. With other
        videos it is raised on, after the files were finished with what was found until then (``complete`` in the json
        is false).

        Args:
            inputs: video file, folder of frames, camera index, URL, or uint8 array ``[t, h, w, 3]`` in BGR order. One
                video per call.
            batch_size: clips that go through the model at once.
            return_datasamples: whether ``predictions`` are data samples, with all boxes and all scores.
            interval: seconds from key frame to key frame.
            step: the same in frames of the video, instead of ``interval``; 1 looks at each frame.
            fps: frame rate of the video, if it does not tell it (folder, array: 30) or tells it wrong.
            max_seconds: end after so many seconds of video.
            person_boxes: the people, for models that do not find them: a
                :class:`~mvbench_plugins.apis.PersonDetector`; boxes **in pixels of the video**, ``[n, 4]`` (x1, y1, x2,
                y2) or ``[n, 5]`` (and a score), as a list with an entry for each key frame or as a dict by 0-based
                frame index, where key frames that it lacks are without people; a file (csv, pkl) with boxes **in
                fractions of the image** for whole seconds of videos, or what
                :func:`~mvbench_plugins.datasets.action.person_boxes.read_person_boxes` made of one.
            first_second: what such a file calls the second of the video's first frame; 900 for AVA.
            det_score_thr: people whose box has a lower score are not looked at; default: ``person_score_thr`` of the
                test dataset, or 0.8. Boxes without score have 1.
            lookahead: how many later key frames a key frame waits for, to know what happens there; default: all that
                the memory of the model holds, and none for cameras and streams.
            pred_score_thr: people with a lower person score are neither drawn nor listed.
            action_thr: actions with a lower score are neither drawn nor listed.
            out: annotated video to write (.mp4), with all frames of the original, small ones enlarged. Detections
                stand from half an interval before their key frame until half an interval after it. Where key frames
                wait for others, the video is read a second time for it.
            json_out: json file to write.

        Returns:
            ``predictions``: for each key frame ``time`` (seconds), ``frame`` (0-based index) and ``detections``, a list
            of ``box`` (x1, y1, x2, y2 in pixels of the video), ``person_score`` (where the model has it) and
            ``actions`` (``id``, ``name``, ``score``, best first); or data samples.
            ``visualization``: path of the annotated video or None.
            ``video``: ``source``, ``width``, ``height``, ``fps`` and ``frames`` (how many were read).

        Raises:
            FileNotFoundError, TypeError, ValueError: an input or an option is wrong; nothing is written.
        """
        _check_output(out, inputs, '.mp4')
        _check_output(json_out, inputs, '.json')
        options = RunOptions(
            batch_size, interval, step, fps, max_seconds, person_boxes, first_second, det_score_thr, lookahead
        )
        records: list[dict] = []
        samples: list[ActionDataSample] = []
        complete = False
        with ExitStack() as stack:
            run = self._open(inputs, options)
            video = stack.enter_context(run.video)
            writer, draw_later = None, run.lookahead > 0 and not video.live
            if out is not None:
                run.check_delay()
                writer = AnnotatedVideoWriter(out, video.size, video.fps, run.spacing / 2, draw_actions)
                stack.enter_context(writer)
                if not draw_later:
                    run.frames = writer.watch(run.frames)
            progress = stack.enter_context(Progress(disable=not self.show_progress))
            try:
                for sample in progress.track(self._detect(run), run.num_clips, description='Key frames'):
                    record = to_record(sample, video.size, self._names, pred_score_thr, action_thr)
                    records.append(record)
                    if return_datasamples:
                        samples.append(sample)
                    if writer is not None and not draw_later:
                        writer.add(record['frame'], record['detections'])
                complete = True
            except KeyboardInterrupt:
                complete = video.live
                if not complete:
                    raise
            finally:
                info = video.describe(inputs)
                if json_out is not None:
                    write_json(json_out, dict(video=info, complete=complete, key_frames=records))
                if writer is not None and draw_later:
                    with reopen(inputs, run) as again:
                        frames = progress.track(islice(again, video.num_read), video.num_read, description='Drawing')
                        writer.write_all(frames, ((record['frame'], record['detections']) for record in records))
        results = self.postprocess(samples if return_datasamples else records, None if out is None else str(out))
        return dict(**results, video=info)

    def stream(
        self,
        source: Source,
        batch_size: int = 1,
        *,
        interval: float = 1.0,
        step: int | None = None,
        fps: float | None = None,
        max_seconds: float | None = None,
        person_boxes: People | None = None,
        first_second: int = 0,
        det_score_thr: float | None = None,
        lookahead: int | None = None,
    ) -> Iterator[ActionDataSample]:
        """Yields the detections of each key frame as soon as they are there, in constant memory.

        They come when the second half of the clip is read and the batch is full: with AVA's clips of 64 frames about
        one second after the key frame. A model with a memory waits for ``lookahead`` more key frames. Frames that a
        camera delivers while the model computes wait in its driver, and are lost when that is full: choose an
        ``interval`` that the model keeps up with.

        Args:
            source: as ``inputs`` of :meth:`__call__`; so are the others.
            batch_size: clips that go through the model at once.
            interval: seconds from key frame to key frame.
            step: the same in frames, instead of ``interval``.
            fps: frame rate of the video.
            max_seconds: end after so many seconds of video.
            person_boxes: the people, for models that do not find them.
            first_second: what a file of boxes calls the second of the video's first frame.
            det_score_thr: people whose box has a lower score are not looked at.
            lookahead: how many later key frames a key frame waits for.

        Returns:
            A generator of data samples on the CPU: ``pred_instances`` (``bboxes`` xyxy normalised to [0, 1]; ``scores``
            with one column per action id; ``person_scores`` where the model has them), ``frame_index`` (0-based),
            ``time`` (seconds). Closing it frees the file or camera.
        """
        options = RunOptions(
            batch_size, interval, step, fps, max_seconds, person_boxes, first_second, det_score_thr, lookahead
        )
        run = self._open(source, options)

        def detect() -> Iterator[ActionDataSample]:
            with run.video:
                yield from self._detect(run)

        return detect()

    def clip_at(
        self, source: Source, time: float | None = None, fps: float | None = None
    ) -> tuple[Clip, dict[str, Any]]:
        """The clip around one moment of a video, to look into the model with; for models that find people themselves.

        Args:
            source: as ``inputs`` of :meth:`__call__`; it is read up to the end of the clip.
            time: seconds from the beginning of the video; default: its middle.
            fps: frame rate of the video.

        Returns:
            The clip, and what the test pipeline makes of it: ``model.test_step(self.collate_fn([packed]))``.

        Raises:
            FileNotFoundError, TypeError, ValueError: the video is wrong, or has no such moment.
        """
        run = self._open(source, RunOptions(step=1, fps=fps))
        with run.video as video:
            key_frame = _moment(video, time)
            clip = next(self._cut(run, count(key_frame)), None)
            if clip is None:
                raise ValueError(
                    f'time: found {key_frame / video.fps:.2f} s, expected less: {video.origin} ends at '
                    f'{video.num_read / video.fps:.2f} s ({video.num_read} frames at {video.fps:g} fps)'
                )
            return clip, self._pack(clip, run)

    def visualize(self, inputs: list[np.ndarray], preds: list[dict]) -> list[np.ndarray]:
        """Draws records (``predictions`` of :meth:`__call__`) onto frames, both in BGR order; returns the drawings."""
        return [draw_actions(frame, record['detections']) for frame, record in zip(inputs, preds, strict=True)]

    def postprocess(self, preds: list, visualization: str | None) -> dict[str, Any]:
        """Packs the results as inferencers do."""
        return dict(predictions=preds, visualization=visualization)

    def _open(self, source: Source, options: RunOptions) -> KeyFrameRun:
        score_thr = self._settings.dataset.get('person_score_thr', _PERSON_SCORE_THR)
        return open_run(source, options, getattr(self.model, 'memory', None), score_thr)

    def _detect(self, run: KeyFrameRun) -> Iterator[ActionDataSample]:
        """The loop: frames to clips, clips to batches, batches to one data sample per key frame."""
        batch_size = run.options.batch_size
        packed = (self._pack(clip, run) for clip in self._cut(run, key_frames(run.spacing)))
        batches = map(self.collate_fn, self._get_chunk_data(packed, batch_size))
        found: Iterator[ActionDataSample]
        if run.find_people is None:
            found = (sample for batch in batches for sample in self.forward(batch))
        else:
            found = detect_with_memory(self.model, batches, run.lookahead, batch_size)
        for sample in found:
            yield sample.cpu()

    def _cut(self, run: KeyFrameRun, wanted: Iterator[int]) -> Iterator[Clip]:
        """The clips around key frames, as the config samples them."""
        settings = self._settings
        rate = run.video.fps / settings.fps if settings.fps else 1.0

        def indices(key_frame: int) -> np.ndarray:
            centre = key_frame / rate + settings.offset
            return clip_indices(centre, None, settings.clip_len, settings.frame_interval, rate)

        return iter_clips(run.frames, wanted, indices)

    def _pack(self, clip: Clip, run: KeyFrameRun) -> dict[str, Any]:
        """Runs a clip through the test pipeline, from where the frames are decoded."""
        video = run.video
        time = clip.key_frame / video.fps
        size = clip.frames[0].shape[:2]
        people = {} if run.find_people is None else dict(zip(('proposals', 'scores'), run.find_people(clip)))
        packed = self.pipeline(
            dict(
                imgs=list(clip.frames),
                img_shape=size,
                original_shape=size,
                modality='RGB',
                num_clips=1,
                clip_len=len(clip.frames),
                frame_interval=self._settings.frame_interval,
                frame_inds=clip.indices,
                total_frames=video.num_frames,
                video_id=video.name,
                timestamp=int(time),
                img_key=f'{video.name},{int(time):04d}',
                **people,
            )
        )
        packed['data_samples'].set_metainfo(dict(frame_index=clip.key_frame, time=time))
        return packed

    def _init_model(self, cfg: Config, weights: str | None, device: str = 'cpu') -> torch.nn.Module:
        try:
            return super()._init_model(cfg, weights, device)
        except AssertionError as error:
            if cfg:
                raise
            raise ValueError(f'checkpoint {weights} does not hold its config: give the config file too') from error

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The test pipeline behind the decoding; what comes before is done by this class."""
        self._settings = read_clip_settings(cfg)
        return Compose(self._settings.steps)

    def _init_collate(self, cfg: Config) -> Any:
        """Clips of a batch stay apart; the data preprocessor pads and stacks them."""
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """None: drawing needs no state, and the visualizer of a config would make a folder of its own."""

    def _load_weights_to_model(self, model: torch.nn.Module, checkpoint: dict | None, cfg: Config) -> None:
        """Loads strictly: a model with random parts would give silent nonsense."""
        model.dataset_meta = ((checkpoint or {}).get('meta') or {}).get('dataset_meta') or {}
        if checkpoint is None:
            super()._load_weights_to_model(model, checkpoint, cfg)
            return
        load_strictly(model, checkpoint, getattr(cfg, 'filename', None) or 'the config')


def _moment(video: VideoSource, time: float | None) -> int:
    """Index of the frame at a time in seconds, of the middle frame for None."""
    if time is None:
        if video.num_frames is None:
            raise ValueError(f'{video.origin} does not tell its length, nor where its middle is: give a time')
        return video.num_frames // 2
    if not 0 <= time < float('inf'):
        raise ValueError(f'time: found {time}, expected seconds from the beginning of {video.origin}, 0 or more')
    return math.floor(time * video.fps + 0.5)


def _check_output(path: str | Path | None, source: Source, suffix: str) -> None:
    if path is None:
        return
    if Path(path).suffix.lower() != suffix or Path(path).is_dir():
        raise ValueError(f'output {path}: expected the name of a file that ends with {suffix}')
    if isinstance(source, (str, Path)) and Path(path).resolve() == Path(source).resolve():
        raise ValueError(f'output {path} is the input: choose another name')
