"""tools/draw_tokens.py and what it is made of: the picture shows the tokens that were dropped, and no others."""

from __future__ import annotations

import itertools
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from mvbench_plugins.apis import ActionDetInferencer, key_frame_run
from mvbench_plugins.apis.video_reader import VideoSource
from mvbench_plugins.evad import KeyframeVisionTransformer, draw_tokens
from mvbench_plugins.evad.draw_tokens import Pruning, draw_prunings, draw_tile, kept_masks, record_prunings

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'draw_tokens.py'
FPS, NUM_FRAMES, PATCH, CLIP_LEN = 30, 45, 8, 8
# Short side 32; 40 pixels wide, padded to 48: of 4 x 6 tokens the last column is padding.
HEIGHT, WIDTH, GRID = 64, 80, (4, 4, 6)

pytestmark = pytest.mark.filterwarnings('ignore:Checkpoint is not loaded', 'ignore:neither the checkpoint')


@MODELS.register_module()
class DetectorThatDropsNothing(BaseModel):
    def forward(self, inputs: torch.Tensor, data_samples: list, mode: str = 'predict') -> list:
        raise AssertionError('the tool must refuse this model before it is run')


def make_backbone(**settings: object) -> KeyframeVisionTransformer:
    torch.manual_seed(0)
    backbone = KeyframeVisionTransformer(
        **dict(
            keep_rate=0.7,
            prune_blocks=(2, 0),
            out_indices=(2,),
            img_size=32,
            patch_size=PATCH,
            embed_dims=16,
            depth=3,
            num_heads=2,
            num_frames=CLIP_LEN,
        )
        | settings
    )
    return backbone.eval()


@pytest.fixture(scope='module')
def config(config_dir: Path) -> Config:
    """ViT-B's config, shrunk, with a pipeline for small clips at the rate of their video."""
    channels = 8
    cfg = Config.fromfile(config_dir / 'evad/_base_/evad_vit-b.py')
    stage = dict(in_channels=channels, num_heads=2, feedforward_channels=16)
    stage['dynamic_conv_cfg'] = dict(in_channels=channels, feat_channels=4, out_channels=channels)
    model = dict(
        data_preprocessor=dict(pad_size_divisor=16),
        backbone=dict(
            keep_rate=0.7,
            prune_blocks=(0, 2),
            out_indices=(0, 1, 2),
            img_size=32,
            patch_size=PATCH,
            embed_dims=16,
            depth=3,
            num_heads=2,
            num_frames=CLIP_LEN,
            init_cfg=None,
        ),
        neck=dict(in_channels=[16] * 3, scales=(2, 1, 0.5), out_channels=channels, num_outs=3),
        proposals=dict(num_proposals=2, proposal_feature_channel=channels),
        head=dict(
            num_classes=3,
            localizer=dict(num_stages=1, stage=stage, roi_extractor=dict(out_channels=channels)),
            refinement=dict(in_channels=16, num_frames=4, embed_dims=12, depth=1, num_heads=2, hidden_dim=8),
        ),
    )
    pipeline = [
        dict(type='SampleKeyFrameClip', clip_len=CLIP_LEN, frame_interval=2),
        dict(type='LoadClipFrames'),
        dict(type='ResizeShortSide', scale=32),
        dict(type='FormatShape', input_format='NCTHW', collapse=True),
        dict(type='PackActionInputs'),
    ]
    loader = dict(dataset=dict(type='AVAKeyFrameDataset', fps=FPS, pipeline=pipeline))
    cfg.merge_from_dict(dict(model=model, test_dataloader=loader))
    return cfg


@pytest.fixture(scope='module')
def checkpoint(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with their config, as the runner saves them."""
    init_default_scope('mmaction')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    path = tmp_path_factory.mktemp('weights') / 'evad.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=config.pretty_text)), path)
    return path


@pytest.fixture(scope='module')
def inferencer(checkpoint: Path) -> ActionDetInferencer:
    return ActionDetInferencer(None, checkpoint, 'cpu', show_progress=False)


@pytest.fixture(scope='module')
def frames() -> np.ndarray:
    """Frame ``i`` has the intensity ``i`` on average, and structure that a model can attend to."""
    random = np.random.default_rng(0)
    return (np.arange(NUM_FRAMES)[:, None, None, None] + random.integers(0, 200, (1, HEIGHT, WIDTH, 3))).astype(
        np.uint8
    )


@pytest.fixture(scope='module')
def video(frames: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the frames of 1.5 s at 30 fps."""
    folder = tmp_path_factory.mktemp('videos') / 'noise'
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f'{number:03d}.png'), frame)
    return folder


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that is written into pictures, in its order."""
    written, put_text = [], cv2.putText

    def spy(image: np.ndarray, text: str, *args: object) -> np.ndarray:
        written.append(text)
        return put_text(image, text, *args)

    monkeypatch.setattr(draw_tokens.cv2, 'putText', spy)
    return written


@pytest.fixture
def run_tool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments), '--device', 'cpu'])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


@pytest.mark.parametrize('num_slices', [1, 4, 5])
def test_selections_that_follow_each_other_end_up_at_their_places_in_the_clip(num_slices):
    torch.manual_seed(num_slices)
    grid = (num_slices, 2, 3)
    key = num_slices // 2
    places = [place for place in itertools.product(*map(range, grid)) if place[0] != key]
    left = [len(places), len(places) * 2 // 3, len(places) // 3, 0]
    selections = [torch.stack([torch.randperm(n)[:k] for _ in range(2)]) for n, k in itertools.pairwise(left)]
    masks = kept_masks(selections, grid)
    assert len(masks) == 3
    for clip in range(2):
        remaining = places
        for selection, mask in zip(selections, masks, strict=True):
            remaining = [remaining[i] for i in selection[clip].tolist()]
            expected = {*remaining, *itertools.product([key], range(2), range(3))}
            assert {tuple(place) for place in mask[clip].nonzero().tolist()} == expected


def test_recorded_prunings_are_those_of_the_last_forward_pass():
    backbone = make_backbone()
    inputs = torch.rand(2, 3, CLIP_LEN, 32, 48)
    total, num_key = 4 * 4 * 6, 4 * 6
    with torch.no_grad(), record_prunings(backbone) as prunings:
        assert prunings == []
        backbone(inputs)
        first = list(prunings)
        tokens = backbone(inputs.flip(0))
        assert [block for block, _ in prunings] == [0, 2]
        assert [kept.flatten(1).sum(1).tolist() for _, kept in prunings] == [[68, 68], [48, 48]]  # ceil(0.7 * n)
        assert all(torch.equal(new.kept, old.kept.flip(0)) for new, old in zip(prunings, first, strict=True))
        last = prunings[-1].kept
        assert last.shape == (2, *tokens.grid) and last[:, 2].all()
        outside = torch.cat([last[:, :2], last[:, 3:]], dim=1).flatten(1)
        assert outside.shape[1] == total - num_key
        assert [row.nonzero()[:, 0].tolist() for row in outside] == tokens.positions.sort().values.tolist()
        backbone.keep_rate = 1.0
        backbone(inputs)
        assert prunings == []
    backbone.keep_rate = 0.5
    with torch.no_grad():
        backbone(inputs)
    assert prunings == []  # the hooks are gone


def test_exactly_the_dropped_tokens_are_grey_and_dark():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (136, 240, 3), np.uint8)  # 8.5 x 15 tokens, of 16 pixels in the picture, too
    kept = random.random((10, 16)) < 0.5  # with a row and a column of padding
    tile = draw_tile(image, kept, 16)
    assert tile.shape == image.shape
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(float)
    for y, x in itertools.product(range(136), range(240)):
        expected = image[y, x] if kept[y // 16, x // 16] else [int(grey[y, x] * 0.25 + 32)] * 3
        assert np.array_equal(tile[y, x], expected), (y, x)


@pytest.mark.parametrize(
    ('size', 'patch', 'expected'),
    [((288, 512), 16, (126, 224)), ((512, 288), 16, (224, 126)), ((96, 128), 8, (180, 240)), ((4, 4), 8, (120, 120))],
)
def test_a_token_is_a_whole_number_of_pixels_and_a_frame_at_most_240(size, patch, expected):
    kept = np.ones([-(-side // patch) for side in size], bool)
    assert draw_tile(np.zeros((*size, 3), np.uint8), kept, patch).shape[:2] == expected


@pytest.mark.parametrize(('num_frames', 'shown'), [(8, [0, 2, 4, 6]), (6, [1, 3, 5])])
def test_a_row_for_each_pruning_and_a_column_for_each_tubelet(num_frames, shown, texts):
    num_slices, key = len(shown), len(shown) // 2
    colors = [(10 * i, 200, 255 - 10 * i) for i in range(num_frames)]  # none of them is grey or the outline's
    images = np.stack([np.full((32, 40, 3), color, np.uint8) for color in colors])
    torch.manual_seed(0)
    prunings = [Pruning(block, torch.rand(2, num_slices, 4, 6) < rate) for block, rate in ((3, 0.7), (6, 0.3))]
    for _, kept in prunings:
        kept[:, key] = True
    picture = draw_prunings(images, prunings, PATCH, range(100, 100 + num_frames), 'a title')

    cell = 240 * PATCH // 40
    count, visible = num_slices * 24, num_slices * 20
    pixels = {color: int((picture == color).all(-1).sum()) for color in colors}
    for i, color in enumerate(colors):
        cells = 0
        if i in shown:
            cells = 20 + sum(int(kept[0, shown.index(i), :, :5].sum()) for _, kept in prunings)
        assert pixels[color] == cells * cell**2
    ys, xs = np.nonzero((picture == colors[shown[key]]).all(-1))
    outline_ys, outline_xs = np.nonzero((picture == (0, 120, 255)).all(-1))
    for where, outline in ((ys, outline_ys), (xs, outline_xs)):
        assert outline.min() == where.min() - 3 and outline.max() == where.max() + 3

    kept = [int(kept[0].sum()) for _, kept in prunings]
    assert texts == [
        'a title',
        *(f'{"key " if i == num_frames // 2 else ""}frame {100 + i}' for i in shown),
        f'input: {count} tokens, {count - visible} of them in the padding, not shown',
        f'block 3: {kept[0]} of {count} tokens ({kept[0] / count:.0%})',
        f'block 6: {kept[1]} of {count} tokens ({kept[1] / count:.0%})',
    ]


def test_text_that_is_wider_than_the_frames_is_not_cut():
    kept = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    title = 'a title that is much longer than one small frame is wide, and must be read'
    picture = draw_prunings(np.zeros((2, 8, 8, 3), np.uint8), [Pruning(0, kept)], 8, [0, 1], title)
    line = picture[:28].min(axis=(0, 2)) < 255
    assert line.nonzero()[0].max() > 500 and not line[-4:].any()


def test_clip_at_a_time_is_the_clip_of_that_key_frame(inferencer, frames):
    for time, key_frame in ((None, 22), (0.0, 0), (0.5, 15), (1.47, 44)):
        clip, packed = inferencer.clip_at(frames, time)
        expected = np.clip(np.arange(key_frame - 8, key_frame + 8, 2), 0, NUM_FRAMES - 1)
        assert clip.key_frame == packed['data_samples'].frame_index == key_frame
        assert clip.indices.tolist() == expected.tolist()
        assert all(np.array_equal(found, frames[i][..., ::-1]) for found, i in zip(clip.frames, expected))
        assert packed['inputs'].shape == (3, CLIP_LEN, 32, 40)


def test_middle_of_a_video_of_unknown_length_is_refused(inferencer, frames, monkeypatch):
    source = VideoSource('camera', 'stream somewhere', (frame for frame in frames), FPS)
    monkeypatch.setattr(key_frame_run, 'open_video', lambda *_: source)
    with pytest.raises(ValueError, match='stream somewhere does not tell its length.*give a time'):
        inferencer.clip_at('rtsp://somewhere')


def test_tool_draws_what_the_model_keeps(
    run_tool, checkpoint, video, frames, inferencer, tmp_path, texts, capsys, monkeypatch
):
    out = tmp_path / 'new folder' / 'tokens.png'
    run_tool(video, '--checkpoint', checkpoint, '--out', out, '--time', 0.5, '--keep-rate', 0.6)
    summary = 'keep rate 0.6, key frame 15 at 0.50 s'
    assert f'{summary}: 96 tokens, 58 after block 0, 35 after block 2: {out}' in capsys.readouterr().out
    assert texts == [
        summary,
        'frame 7',
        'frame 11',
        'key frame 15',
        'frame 19',
        'input: 96 tokens, 16 of them in the padding, not shown',
        'block 0: 58 of 96 tokens (60%)',
        'block 2: 35 of 96 tokens (36%)',
    ]

    # The same, from the parts: what each pruning leaves, and the colours of the frames.
    _, packed = inferencer.clip_at(frames, 0.5)
    inputs = inferencer.model.data_preprocessor(inferencer.collate_fn([packed]))['inputs']
    monkeypatch.setattr(inferencer.model.backbone, 'keep_rate', 0.6)
    with torch.no_grad(), record_prunings(inferencer.model.backbone) as prunings:
        inferencer.model.test_step(inferencer.collate_fn([packed]))
    assert inputs.shape[-2:] == (32, 48) and prunings[0].kept.shape[1:] == GRID
    picture = cv2.imread(str(out))
    tile_height, tile_width, cell = 192, 240, 48
    for row, kept in enumerate([torch.ones(GRID, dtype=torch.bool), *(kept[0] for _, kept in prunings)]):
        top = 3 * 28 + 8 + row * (tile_height + 2 * 8 + 28)
        for column, mask in enumerate(kept.numpy()):
            left = 8 + column * (tile_width + 8)
            found = picture[top : top + tile_height, left : left + tile_width]
            small = cv2.resize(frames[7 + 4 * column], (40, 32))
            assert np.array_equal(found, draw_tile(small, mask, PATCH))
            colourful = np.ptp(found.astype(int), axis=-1).reshape(4, cell, 5, cell).any((1, 3))
            assert np.array_equal(colourful, mask[:, :5])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--keep-rate', 1], r'error: config in .*evad\.pth: .*nothing is dropped.*such as --keep-rate 0\.7'),
        (
            ['--time', 9],
            r'error: time: found 9\.00 s, expected less: folder .* ends at 1\.50 s \(45 frames at 30 fps\)',
        ),
        (['--time', -1], 'error: time: found -1.0, expected seconds from the beginning of folder .*, 0 or more'),
        (['--config', 'absent.py'], r'error: config absent\.py does not exist'),
        (['--checkpoint', 'absent.pth'], r'error: --checkpoint: checkpoint absent\.pth does not exist'),
    ],
)
def test_tool_says_what_is_wrong(run_tool, checkpoint, video, tmp_path, arguments, message):
    out = tmp_path / 'tokens.png'
    with pytest.raises(SystemExit, match=message):
        run_tool(video, '--checkpoint', checkpoint, '--out', out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--keep-rate', 1.5], '--keep-rate: found 1.5, expected a share of tokens to keep, 0 < R <= 1'),
        (['--keep-rate', 0], '--keep-rate: found 0.0, expected'),
        (['--out', 'tokens.mp4'], '--out: found tokens.mp4, expected the name of a file that ends with .png or .jpg'),
    ],
)
def test_wrong_command_lines_are_refused_before_anything_is_loaded(run_tool, arguments, message, capsys):
    with pytest.raises(SystemExit) as refused:
        run_tool('absent.mp4', '--checkpoint', 'absent.pth', '--out', 'tokens.png', *arguments)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


def test_model_that_drops_nothing_is_refused(run_tool, config, video, tmp_path):
    path = tmp_path / 'other.pth'
    loader = config.test_dataloader.to_dict()
    cfg = Config(dict(default_scope='mmaction', model=dict(type='DetectorThatDropsNothing'), test_dataloader=loader))
    torch.save(dict(state_dict={}, meta=dict(cfg=cfg.pretty_text)), path)
    message = 'the model is DetectorThatDropsNothing with backbone NoneType, which drops no tokens; expected a config'
    with pytest.raises(SystemExit, match=message):
        run_tool(video, '--checkpoint', path, '--out', tmp_path / 'tokens.png')
