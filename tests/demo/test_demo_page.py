"""What a visitor does with the page, in a headless Chromium."""

from __future__ import annotations

import json
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from demo_browser import Served, find_chromium, serve
from demo_runs import write_deqdet_run, write_picture, write_run, write_video
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE = 60_000  # milliseconds: the machine may be busy
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope='module')
def served(tmp_path_factory, config_dir) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp('page')
    write_deqdet_run(config_dir, folder / 'work_dirs')
    write_run(config_dir, folder / 'work_dirs', 'jointformer', 'jointformer_toy', {})
    with serve(folder / 'work_dirs', folder / 'temporary', '--max-upload-mb', '1') as page:
        yield page
        assert page.end() == 0 and not list(page.temporary.iterdir()), 'nothing is left after SIGTERM'


@pytest.fixture(scope='module')
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Debian's sandbox needs rights that containers and root do not have.
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    page = browser.new_page(viewport=dict(width=1280, height=1400))
    page.set_default_timeout(PATIENCE)
    foreign: list[str] = []
    page.on('request', lambda request: foreign.append(request.url) if is_foreign(request.url, served) else None)
    page.goto(served.url)
    expect(page.locator('#checkpoint input')).to_have_value('deqdet_r18_toy/epoch_1.pth')
    yield page
    page.close()
    assert not foreign, 'the page works without the internet, and tells nobody of its visitors'
    wait_until(lambda: not served.files(), 'files of a visitor who has left are deleted')


def is_foreign(url: str, served: Served) -> bool:
    return not url.startswith((served.url, 'data:', 'blob:'))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def upload(page: Page, path: Path) -> None:
    page.set_input_files('#upload input[type=file]', path)


def wait_for_upload(page: Page, name: str) -> None:
    expect(page.locator(f'#upload [aria-label="{name}"]')).to_be_visible()


def download(page: Page, name: str, folder: Path) -> Path:
    with page.expect_download() as started:
        page.locator(f'#files tr:has([aria-label="{name}"]) a').click()
    started.value.save_as(folder / name)
    return folder / name


def test_objects_in_a_picture(page: Page, tmp_path: Path):
    expect(page.locator('#config input')).to_have_value('deqdet_r18_toy/deqdet_r18_toy.py')
    upload(page, write_picture(tmp_path / 'picture.png'))
    wait_for_upload(page, 'picture.png')
    page.locator('#score input[type=number]').fill('0')
    page.keyboard.press('Tab')
    page.click('#run')
    expect(page.locator('#message')).to_contain_text('16 objects of score 0 or more.')
    shown = page.locator('#pictures img').first
    expect(shown).to_be_visible()
    wait_until(lambda: shown.evaluate('image => image.naturalWidth') == 96, 'the picture is loaded')
    assert len(json.loads(download(page, 'objects.json', tmp_path).read_text())['bboxes']) == 16
    page.screenshot(path=tmp_path / 'objects.png', full_page=True)


def test_an_example_is_taken(page: Page, tmp_path: Path):
    expect(page.locator('#example')).to_be_hidden()
    page.click('#task input')
    page.get_by_role('option', name='3D detection with six cameras').click()
    page.click('#example')
    wait_for_upload(page, 'example.zip')
    with page.expect_download() as started:
        page.locator('#upload tr:has([aria-label="example.zip"]) a').click()
    started.value.save_as(tmp_path / 'example.zip')
    with zipfile.ZipFile(tmp_path / 'example.zip') as content:
        assert 'calibration.json' in content.namelist() and len(content.namelist()) == 7
    page.screenshot(path=tmp_path / 'example.png', full_page=True)


def open_video(page: Page, path: Path) -> None:
    page.click('#task input')
    page.get_by_role('option', name='Video object segmentation').click()
    expect(page.locator('#checkpoint input')).to_have_value('jointformer_toy/epoch_1.pth')
    expect(page.locator('#score')).to_be_hidden()
    upload(page, path)
    expect(page.locator('#editor canvas').first).to_be_visible()
    page.wait_for_timeout(2000)  # the editor fades its picture in, and takes no strokes before


def draw(page: Page) -> None:
    """A dot on the square."""
    box = page.locator('#editor canvas').first.bounding_box()
    page.mouse.move(box['x'] + box['width'] * 0.35, box['y'] + box['height'] * 0.5)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] * 0.36, box['y'] + box['height'] * 0.52, steps=5)
    page.mouse.up()


def test_an_object_is_drawn_and_followed(page: Page, tmp_path: Path):
    open_video(page, write_video(tmp_path / 'video.mp4'))
    page.click('#run')
    expect(page.get_by_test_id('toast-text')).to_contain_text('no object is drawn: paint the objects to follow')
    draw(page)
    page.screenshot(path=tmp_path / 'drawn.png', full_page=True)
    page.click('#run')
    expect(page.locator('#message')).to_contain_text('1 object in 12 frames.')
    video = page.locator('#video video')
    wait_until(lambda: video.evaluate('video => video.readyState') >= 2, 'the browser plays the video')
    assert video.evaluate('video => video.videoWidth / video.videoHeight') == 96 / 64
    with zipfile.ZipFile(download(page, 'masks.zip', tmp_path)) as masks:
        assert len(masks.namelist()) == 12
    page.screenshot(path=tmp_path / 'followed.png', full_page=True)


def test_a_run_is_watched_and_stopped(page: Page, tmp_path: Path):
    open_video(page, write_video(tmp_path / 'video.mp4', frames=1800))  # long enough for a slow browser
    page.locator('#seconds input').fill('180')
    draw(page)
    page.click('#run')
    expect(page.locator('#message')).to_contain_text('/1.8k steps')
    page.screenshot(path=tmp_path / 'watched.png', full_page=True)
    page.click('#stop')
    expect(page.get_by_test_id('toast-text')).to_contain_text('Stopped.')


def test_mistakes_are_told_on_the_page(page: Page, tmp_path: Path):
    toast = page.get_by_test_id('toast-text')
    page.click('#run')
    expect(toast).to_contain_text('nothing is uploaded to look at')
    page.get_by_test_id('toast-close').click()
    path = tmp_path / 'not_a.png'
    path.write_text('<img src=x onerror=alert(1)>')
    upload(page, path)
    wait_for_upload(page, 'not_a.png')
    page.click('#run')
    expect(toast).to_contain_text('not_a.png is not a picture that can be read here')
    expect(page.locator('#files tr')).to_have_count(0)


def test_large_uploads_are_refused(page: Page, served: Served, tmp_path: Path):
    path = tmp_path / 'large.png'
    path.write_bytes(bytes(3 * 10**6))
    upload(page, path)
    expect(page.get_by_test_id('toast-text')).to_contain_text('exceed the maximum allowed size')
    # That was the browser; others may not ask before they send.
    with path.open('rb') as file:
        answer = requests.post(f'{served.url}gradio_api/upload', files=dict(files=file), timeout=60)
    assert answer.status_code == 413 and not served.files()


def test_only_this_machine_is_listened_to(served: Served):
    with socket.create_connection(('127.0.0.1', served.port), timeout=5):
        pass
    with pytest.raises(OSError):  # another address of the loopback: a page for everyone would answer
        socket.create_connection(('127.0.0.2', served.port), timeout=5)
