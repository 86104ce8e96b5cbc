"""The page itself, in Gradio: what stands where, and which function of the service answers what."""

from __future__ import annotations

import html
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from mvbench_plugins.demo.pictures import OBJECT_COLORS, brush_radius
from mvbench_plugins.demo.service import Choice, DemoService
from mvbench_plugins.demo.sessions import Stopped
from mvbench_plugins.demo.tasks import TASKS, Task
from mvbench_plugins.demo.uploads import CHECKPOINTS

_INTRO = '# mvbench_plugins\nChoose a task and a model, upload something, and press Run.'
_SWEEP_SECONDS = 600  # how often Gradio looks for uploads that no session has taken
_LEFTOVER_SECONDS = 3600  # and from which age it deletes them
_FONTS = ['system-ui', 'sans-serif']  # of the browser: the theme's own would be fetched from the internet
_MESSAGE_HEIGHT = 130  # pixels: the progress of a run is drawn there

_logger = logging.getLogger(__name__)


def build_page(service: DemoService) -> gr.Blocks:
    """Lays out the page.

    Args:
        service: what answers.

    Raises:
        RuntimeError: Gradio keeps its files elsewhere than the sessions: then they would outlive their visitors.
    """
    found = os.environ.get('GRADIO_TEMP_DIR')
    if found != str(service.sessions.root):
        raise RuntimeError(
            f'GRADIO_TEMP_DIR: found {found}, expected {service.sessions.root}; set it before Gradio is imported'
        )
    first = next(iter(TASKS.values()))
    with gr.Blocks(
        title='mvbench_plugins', analytics_enabled=False, delete_cache=(_SWEEP_SECONDS, _LEFTOVER_SECONDS)
    ) as page:
        gr.Markdown(_INTRO)
        with gr.Row():
            with gr.Column():
                task = gr.Dropdown(list(TASKS), value=first.title, label='Task', elem_id='task')
                checkpoint = gr.Dropdown(label='Checkpoint', elem_id='checkpoint')
                config = gr.Dropdown(label='Config', elem_id='config')
                with gr.Accordion('Or upload a checkpoint for this config', open=False, elem_id='own-weights'):
                    weights = gr.File(label='Checkpoint', file_types=list(CHECKPOINTS), elem_id='weights')
                hint = gr.Markdown(first.hint)
                upload = gr.File(label='Input', file_types=list(first.suffixes), elem_id='upload')
                example = gr.Button('Take an example', visible=bool(first.example), size='sm', elem_id='example')
                editor = gr.ImageEditor(
                    label='Objects to follow',
                    visible=False,
                    sources=(),
                    transforms=(),
                    layers=False,
                    brush=_brush(),
                    elem_id='editor',
                )
                score_thr = gr.Slider(0, 1, value=0.3, step=0.05, label='Least score', elem_id='score')
                seconds = gr.Number(10, label='Seconds of the video', visible=False, elem_id='seconds')
                with gr.Row():
                    run = gr.Button('Run', variant='primary', elem_id='run')
                    stop = gr.Button('Stop', elem_id='stop')
            with gr.Column(scale=2):  # six views side by side are wide
                message = gr.Markdown(elem_id='message', min_height=_MESSAGE_HEIGHT)
                pictures = gr.Gallery(label='Result', columns=1, object_fit='contain', elem_id='pictures')
                video = gr.Video(label='Result', visible=False, elem_id='video')
                files = gr.File(label='Download', file_count='multiple', interactive=False, elem_id='files')

        answers = _Answers(service)
        inputs = [task, config, checkpoint, weights, upload, editor, score_thr, seconds]
        results = [message, pictures, video, files]
        kinds = [checkpoint, config, hint, weights, upload, example, editor, score_thr, seconds, *results]
        page.load(answers.enter, task, kinds[:3], show_progress='hidden')
        task.change(answers.choose_task, task, kinds, show_progress='hidden')
        checkpoint.change(answers.choose_checkpoint, [task, checkpoint], config, show_progress='hidden')
        upload.upload(answers.uploaded, [task, upload], editor)
        example.click(answers.example, task, upload)
        weights.upload(answers.uploaded_weights, weights, None, show_progress='hidden')
        run.click(answers.begin, None, results, show_progress='hidden').then(
            answers.run, inputs, results, concurrency_limit=1, show_progress_on=message
        )
        stop.click(answers.stop, None, None, queue=False)
        page.unload(answers.leave)
    return page


def serve(service: DemoService, host: str, port: int) -> None:
    """Opens the page to browsers, until the process is interrupted.

    Args:
        service: what answers.
        host: address to listen on.
        port: TCP port.

    Raises:
        OSError: the port is taken.
    """
    page = build_page(service)
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        max_file_size=service.max_bytes,
        theme=gr.themes.Default(font=_FONTS, font_mono=['monospace']),
        footer_links=[],
        run_history=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f'{url} (Ctrl-C ends it)', flush=True)
    try:
        page.block_thread()
    finally:
        page.close()


class _Answers:
    """What the page calls, with the visitor's session."""

    def __init__(self, service: DemoService) -> None:
        self.service = service

    def enter(self, title: str, request: gr.Request) -> list[Any]:
        self.service.sessions.folder(request.session_hash)
        return self.choose_models(title)

    def choose_models(self, title: str) -> list[Any]:
        task = TASKS[title]
        checkpoints = self.service.catalogue.checkpoints(task)
        configs = self.service.catalogue.configs(task)
        newest = next(iter(checkpoints), None)
        beside = newest and checkpoints[newest].config
        return [
            gr.update(choices=list(checkpoints), value=newest),
            gr.update(choices=list(configs), value=beside or next(iter(configs), None)),
            _hint(task, len(checkpoints), self.service),
        ]

    def choose_task(self, title: str) -> list[Any]:
        task = TASKS[title]
        return [
            *self.choose_models(title),
            None,
            gr.update(file_types=list(task.suffixes), value=None),
            gr.update(visible=bool(task.example)),
            gr.update(visible=task.drawing, value=None),
            gr.update(visible=task.scored),
            gr.update(visible=task.video),
            '',
            gr.update(value=None, visible=not task.video),
            gr.update(value=None, visible=task.video),
            None,
        ]

    def choose_checkpoint(self, title: str, name: str | None) -> Any:
        chosen = self.service.catalogue.checkpoints(TASKS[title]).get(name or '')
        return gr.update(value=chosen.config) if chosen and chosen.config else gr.skip()

    def uploaded(self, title: str, upload: str, request: gr.Request) -> Any:
        with _messages():
            self.service.sessions.add_upload(request.session_hash, upload)
            if not TASKS[title].drawing:
                return gr.skip()
            picture = self.service.first_frame(request.session_hash, upload)
            drawing: dict[str, Any] = dict(background=str(picture), layers=[], composite=None)
            radius = brush_radius(picture)
            return gr.update(value=drawing, brush=_brush(radius), eraser=gr.Eraser(default_size=radius))

    def example(self, title: str, request: gr.Request) -> str:
        with _messages():
            return str(self.service.example(request.session_hash, title))

    def uploaded_weights(self, weights: str, request: gr.Request) -> None:
        with _messages():
            self.service.sessions.add_upload(request.session_hash, weights)

    def begin(self, request: gr.Request) -> list[None]:
        self.service.sessions.begin(request.session_hash)
        return [None] * 4  # the results of the run before

    def run(
        self,
        title: str,
        config: str | None,
        checkpoint: str | None,
        weights: str | None,
        upload: str | None,
        drawing: dict | None,
        score_thr: float,
        seconds: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio recognises it)
    ) -> tuple:
        def report(done: int, total: int | None) -> None:
            progress((min(done, total or done), total), desc='Computing', unit='steps')

        progress(None, desc='Loading the model')
        layers = (drawing or {}).get('layers') or []
        choice = Choice(title, config, checkpoint, weights, upload, layers, score_thr, seconds or 0)
        with _messages():
            result = self.service.run(request.session_hash, choice, report)
        shown = [str(path) for path in result.pictures] or None
        return result.summary, shown, result.video and str(result.video), [str(path) for path in result.files]

    def stop(self, request: gr.Request) -> None:
        self.service.sessions.stop(request.session_hash)

    def leave(self, request: gr.Request) -> None:
        self.service.sessions.leave(request.session_hash)


@contextmanager
def _messages() -> Iterator[None]:
    """Shows errors on the page: those of the visitor as they are, others with a trace in the console."""
    try:
        yield
    except Stopped:
        raise gr.Error('Stopped.', title='', print_exception=False) from None
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise gr.Error(html.escape(str(error)), duration=None, print_exception=False) from error
    except Exception as error:
        _logger.exception('a run has failed')
        text = html.escape(f'{type(error).__name__}: {error}')
        raise gr.Error(text, duration=None, print_exception=False) from error


def _brush(radius: int = 10) -> gr.Brush:
    colors = [f'#{red:02x}{green:02x}{blue:02x}' for red, green, blue in OBJECT_COLORS]
    return gr.Brush(default_size=radius, colors=colors, color_mode='fixed')


def _hint(task: Task, checkpoints: int, service: DemoService) -> str:
    text = f'{task.hint}\n\n{task.details}'
    if checkpoints:
        return text
    where = service.catalogue.work_dirs
    return f'{text}\n\n**There is no checkpoint for this task in `{where}`:** train or upload one.'
