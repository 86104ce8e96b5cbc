"""What strangers upload is looked at before any decoder gets it."""

from __future__ import annotations

import io
import json
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from demo_runs import CAMERAS, calibration, write_cameras, write_picture, write_sweep, write_video
from PIL import Image

from mvbench_plugins.apis.multiview_calibration import read_calibrated_frame
from mvbench_plugins.demo.archives import unpack_cameras
from mvbench_plugins.demo.examples import write_cameras_example
from mvbench_plugins.demo.pictures import OBJECT_COLORS, brush_radius, index_map_of, write_first_frame, write_playable
from mvbench_plugins.demo.uploads import check_checkpoint, check_picture, check_points, check_video

LIMIT = 10**6
PLAYLIST = b'#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n'
LIKE_AVI = b'#EXTM3U\nAVI \n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/passwd\n'


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def huge_picture(path: Path) -> Path:
    Image.new('1', (8000, 8000)).save(path)
    return path


@pytest.mark.parametrize('container', ['mp4', 'avi', 'mkv', 'webm'])
def test_videos_pass_by_their_content(tmp_path, container):
    path = tmp_path / f'video.{container}'
    codec = cv2.VideoWriter_fourcc(*('VP80' if container == 'webm' else 'mp4v'))
    writer = cv2.VideoWriter(str(path), codec, 10, (96, 64))
    writer.write(np.zeros((64, 96, 3), np.uint8))
    writer.release()
    check_video(path)


def test_pictures_and_sweeps_pass(tmp_path):
    check_picture(write_picture(tmp_path / 'picture.PNG'))
    check_picture(write_picture(tmp_path / 'picture.jpg'))
    check_points(write_sweep(tmp_path / 'sweep.bin', 5))


@pytest.mark.parametrize(
    'check, make, message',
    [
        (check_video, lambda at: write(at / 'list.mp4', PLAYLIST), r'list\.mp4 does not begin as a video'),
        (check_video, lambda at: write(at / 'list.avi', LIKE_AVI), r'list\.avi does not begin as a video'),
        (check_video, lambda at: write(at / 'list.m3u8', PLAYLIST), r'list\.m3u8: found a \.m3u8 file, expected \.mp4'),
        (check_video, lambda at: write(at / 'v.mp4', b''), r'v\.mp4 is empty'),
        (check_picture, lambda at: write(at / 'p.png', b'<svg/>'), r'p\.png is not a picture'),
        (check_picture, lambda at: huge_picture(at / 'p.png'), r'p\.png: found 8000 x 8000 pixels, expected 50 mill'),
        (check_picture, lambda at: write_video(at / 'v.mp4'), r'found a \.mp4 file, expected \.jpg'),
        (check_points, lambda at: write(at / 's.bin', b'12345'), r's\.bin: found 5 bytes, expected a multiple of 4'),
        (check_points, lambda at: write(at / 's.npy', b'1234'), r's\.npy: found a \.npy file, expected \.bin'),
    ],
)
def test_other_files_are_refused(tmp_path, check: Callable, make: Callable, message: str):
    with pytest.raises(ValueError, match=message):
        check(make(tmp_path))


def test_a_frame_and_a_drive_are_unpacked(tmp_path):
    frame = unpack_cameras(write_cameras(tmp_path / 'frame.zip'), tmp_path / 'one', LIMIT)
    assert frame == tmp_path / 'one' / 'frame' and len(list(frame.glob('*.jpg'))) == len(CAMERAS)
    drive = unpack_cameras(write_cameras(tmp_path / 'drive.zip', frames=3), tmp_path / 'many', LIMIT)
    assert sorted(path.name for path in drive.iterdir()) == ['0', '1', '2']


def test_the_example_is_such_a_file(tmp_path):
    write_cameras_example(tmp_path / 'example.zip')
    frame = read_calibrated_frame(unpack_cameras(tmp_path / 'example.zip', tmp_path / 'unpacked', LIMIT))
    assert frame.size == (180, 320)
    assert all(cv2.imread(path).std() > 20 for path in frame.cameras.img_paths), 'there is something to see'


def archive(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def packed(name: str, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.compress_type = method
    return entry


def told(image: str) -> bytes:
    return json.dumps(calibration(lambda _: image)).encode()


@pytest.mark.parametrize(
    'entries, message',
    [
        ([('../out.png', b'')], r"entry '\.\./out\.png' reaches out of the archive"),
        ([('/tmp/out.png', b'')], r'reaches out of the archive'),
        ([('..\\out.png', b'')], r'reaches out of the archive'),
        ([(link('a.png'), b'/etc/passwd')], r"entry 'a\.png' is a link or a device"),
        ([('run.sh', b'')], r"found entry 'run\.sh', expected \.json"),
        ([('a.png', b''), ('./a.png', b'')], r'is there twice'),
        ([('a/' * 1200 + 'a.png', b'')], r'found an entry in 1200 folders, expected 20 at most'),
        (
            [(packed('a.png', zipfile.ZIP_BZIP2), b'')],
            r"entry 'a\.png' is compressed by a method that is not read here",
        ),
        ([(packed('a.png', zipfile.ZIP_LZMA), b'')], r"entry 'a\.png' is compressed by a method that is not read here"),
        (
            [('f/calibration.json', b' ' * (LIMIT + 1))],
            r"entry 'f/calibration\.json' has 1000001 bytes, expected 1000000",
        ),
        ([(f'{number}.png', b'') for number in range(2001)], r'found 2001 files, expected 2000 at most'),
        ([('a.png', bytes(2 * LIMIT + 1))], r'found 2000001 bytes of unpacked files, expected 2000000 at most'),
        ([('a.png', b'')], r'found no calibration\.json'),
        ([('f/calibration.json', told('../../secret.png'))], r"cameras\.CAM_FRONT\.image: found '\.\./\.\./secret"),
        ([('f/calibration.json', told('/etc/passwd'))], r"image: found '/etc/passwd', expected a picture in the arch"),
        ([('f/calibration.json', b'[' * 10**5)], r'f/calibration\.json is not JSON'),
        ([('f/calibration.json', told('a.png')), ('f/a.png', b'no')], r'a\.png is not a picture'),
    ],
)
def test_hostile_archives_are_refused(tmp_path, entries: list, message: str):
    outside = set(tmp_path.rglob('*'))
    path = archive(tmp_path / 'cameras.zip', *entries)
    with pytest.raises(ValueError, match=message):
        unpack_cameras(path, tmp_path / 'unpacked', 2 * LIMIT)
    written = set(tmp_path.rglob('*')) - outside - {path}
    assert all(each.is_relative_to(tmp_path / 'unpacked') for each in written)


def test_sizes_that_an_archive_tells_are_not_believed(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('a.png', bytes(50 * LIMIT))
    told_size, true_size = (1000).to_bytes(4, 'little'), (50 * LIMIT).to_bytes(4, 'little')
    path = write(tmp_path / 'bomb.zip', content.getvalue().replace(true_size, told_size))
    with pytest.raises(ValueError, match=r'bomb\.zip'):
        unpack_cameras(path, tmp_path / 'unpacked', LIMIT)
    assert sum(file.stat().st_size for file in (tmp_path / 'unpacked').rglob('*')) <= 2 * LIMIT


def test_memory_is_kept_whatever_is_unpacked(tmp_path):
    path = archive(tmp_path / 'bomb.zip', (packed('a.png', zipfile.ZIP_BZIP2), bytes(100 * LIMIT)))
    true_size = (100 * LIMIT).to_bytes(4, 'little')
    path.write_bytes(path.read_bytes().replace(true_size, (1000).to_bytes(4, 'little')))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r'bomb\.zip'):
        unpack_cameras(path, tmp_path / 'unpacked', LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * LIMIT


def test_directories_of_archives_are_limited(tmp_path):
    path = archive(tmp_path / 'names.zip', *[(f'{number:060}.png', b'') for number in range(50_000)])
    with pytest.raises(ValueError, match=r'names\.zip: found \d+ bytes of names of files, expected 4194304 at most'):
        unpack_cameras(path, tmp_path / 'unpacked', LIMIT)


def test_large_views_are_refused(tmp_path):
    content = io.BytesIO()
    Image.new('1', (4000, 4000)).save(content, 'png')
    path = archive(tmp_path / 'a.zip', ('calibration.json', told('a.png')), ('a.png', content.getvalue()))
    with pytest.raises(ValueError, match=r'a\.png: found 4000 x 4000 pixels, expected 12 million at most'):
        unpack_cameras(path, tmp_path / 'unpacked', LIMIT)


def test_compressed_checkpoints_are_refused(tmp_path):
    plain, legacy, bomb = (tmp_path / f'{name}.pth' for name in ('plain', 'legacy', 'bomb'))
    torch.save(dict(a=torch.zeros(LIMIT)), plain)
    torch.save(dict(a=torch.zeros(LIMIT)), legacy, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(plain) as content:
        archive(bomb, *[(name, content.read(name)) for name in content.namelist()])
    check_checkpoint(plain)
    check_checkpoint(legacy)
    assert bomb.stat().st_size < LIMIT / 100 and len(torch.load(bomb)['a']) == LIMIT, 'torch would unpack it'
    with pytest.raises(
        ValueError, match=r"bomb\.pth: entry '.*data\.pkl' is compressed, expected a file as torch\.save"
    ):
        check_checkpoint(bomb)


def test_damaged_archives_are_refused(tmp_path):
    whole = write_cameras(tmp_path / 'frame.zip').read_bytes()
    with pytest.raises(ValueError, match=r'half\.zip cannot be unpacked: expected a complete zip file'):
        unpack_cameras(write(tmp_path / 'half.zip', whole[: len(whole) // 2]), tmp_path / 'unpacked', LIMIT)
    accents = archive(tmp_path / 'names.zip', ('\xe9.png', b'')).read_bytes().replace('\xe9'.encode(), b'\xff\xff')
    with pytest.raises(ValueError, match=r'names\.zip cannot be unpacked: expected a complete zip file'):
        unpack_cameras(write(tmp_path / 'names.zip', accents), tmp_path / 'unpacked', LIMIT)


def test_paint_becomes_labels():
    layer = np.zeros((64, 96, 4), np.uint8)
    layer[10:20, 10:30] = (*OBJECT_COLORS[0], 255)
    layer[40:50, 60:80] = (*OBJECT_COLORS[2], 200)
    layer[40:50, 58:60] = (*OBJECT_COLORS[2], 40)  # the soft edge of the brush
    index_map = index_map_of([np.zeros_like(layer), layer], (96, 64))
    expected = np.zeros((64, 96), np.uint8)
    expected[10:20, 10:30], expected[40:50, 60:80] = 1, 3
    assert index_map.dtype == np.uint8 and (index_map == expected).all()
    # The editor may work at another size than that of the video.
    assert (index_map_of([layer], (48, 32)) == expected[::2, ::2]).all()
    with pytest.raises(ValueError, match='no object is drawn'):
        index_map_of([np.zeros_like(layer)], (96, 64))


@pytest.mark.parametrize('width, height, expected', [(224, 128, 3), (96, 64, 2), (1920, 1080, 27)])
def test_the_brush_fits_the_picture(tmp_path, width, height, expected):
    assert brush_radius(write_picture(tmp_path / 'first.png', width, height)) == expected


def test_large_videos_are_refused(tmp_path):
    video = write_video(tmp_path / 'video.mp4', frames=1, width=4096, height=4096)
    with pytest.raises(ValueError, match=r'video\.mp4: found 4096 x 4096 pixels, expected 12 million at most'):
        write_first_frame(video, tmp_path / 'first.png')


def test_videos_for_browsers(tmp_path):
    video = write_video(tmp_path / 'video.mp4', frames=5)
    playable = write_playable(video)
    assert playable.read_bytes()[:4] == b'\x1a\x45\xdf\xa3' and b'V_VP8' in playable.read_bytes()
    write_first_frame(playable, tmp_path / 'first.png')
    first = cv2.imread(str(tmp_path / 'first.png'))
    assert first.shape == (64, 96, 3) and np.abs(first[30, 30].astype(int) - (40, 40, 220)).max() < 40
