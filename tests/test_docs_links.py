"""What the pages say is there: files and headings they link to, tools, options and configs of their commands."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import mvbench_plugins

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('configs/*/README.md')])
FENCE = re.compile(r'^ *```(\w*)\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)
#: Folders that the pages tell the reader to make.
READERS_OWN = ('configs/my/', 'configs/context_gate/', 'tests/context_gate/')
#: Positional arguments of the launch scripts before those of the tool, and how the tool gets them.
LAUNCHERS = {
    'dist_train.sh': (2, lambda config, gpus: ['train.py', config]),
    'dist_test.sh': (3, lambda config, checkpoint, gpus: ['test.py', config, checkpoint]),
    'slurm_train.sh': (4, lambda partition, job, config, work_dir: ['train.py', config, '--work-dir', work_dir]),
    'slurm_test.sh': (4, lambda partition, job, config, checkpoint: ['test.py', config, checkpoint]),
}


class Parsed(Exception):
    """The command line was understood; the tool goes no further."""


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as they are made of Markdown on the usual hosts."""
    found = set()
    for heading in re.findall(r'^#+ (.*)$', FENCE.sub('', page.read_text()), re.MULTILINE):
        text = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading).lower()
        found.add(re.sub(r'[^\w\- ]', '', text).strip().replace(' ', '-'))
    return found


@pytest.mark.parametrize('page', PAGES, ids=page_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r'`[^`\n]*`', '', FENCE.sub('', page.read_text()))
    links = [link for link in re.findall(r'\]\(([^)\s]+)\)', text) if '://' not in link]
    wrong = []
    for link in links:
        name, _, anchor = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


def commands(page: Path) -> Iterator[list[str]]:
    """Words of each command with a tool of this repository, in blocks of shell and as inline code."""
    text = page.read_text()
    blocks = [block for language, block in FENCE.findall(text) if language == 'bash']
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    lines += re.findall(r'`(python tools/[^`]*)`', FENCE.sub('', text))
    for line in lines:
        words = shlex.split(line, comments=True)
        for number, word in enumerate(words):
            if re.fullmatch(r'(tools|tests/parity)/\w+\.(py|sh)', word):
                yield words[number:]


def parse(tool: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a tool up to the point where it has parsed its arguments; a usage error fails the test."""
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *given, **options) -> None:
        parse_args(parser, *given, **options)
        raise Parsed

    spec = importlib.util.spec_from_file_location(f'documented_{tool.stem}', tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        patch.setattr('sys.argv', [tool.name, *arguments])
        with pytest.raises(Parsed):
            module.main()


@pytest.mark.parametrize('page', [page for page in PAGES if list(commands(page))], ids=page_name)
def test_tools_take_the_commands_of_the_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, *arguments in commands(page):
        script = ROOT / name
        assert script.is_file(), f'{name} {" ".join(arguments)}'
        absent = [
            word
            for word in arguments
            if re.fullmatch(r'(configs|tests)/[\w./-]+', word)
            and not word.startswith(READERS_OWN)
            and not re.search('[A-Z]{4}', word)  # a place-holder
            and not list(ROOT.glob(f'{word}*'))
        ]
        assert not absent
        if script.name in LAUNCHERS:
            count, convert = LAUNCHERS[script.name]
            assert len(arguments) >= count, arguments
            tool, *first = convert(*arguments[:count])
            script, arguments = ROOT / 'tools' / tool, [*first, *arguments[count:]]
        if script.suffix == '.py':
            parse(script, arguments, monkeypatch)


def test_the_check_refuses_what_a_tool_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is gone, or a choice: the check would be worthless if it took them."""
    for arguments in (['CONFIG', '--no-such-option'], ['CONFIG', '--launcher', 'bus'], []):
        with pytest.raises(SystemExit, match='2'):
            parse(ROOT / 'tools' / 'train.py', arguments, monkeypatch)


def test_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['version'] == mvbench_plugins.__version__ and citation['license'] == 'Apache-2.0'
    papers = {paper['url'] for paper in citation['references']}
    metafiles = [yaml.safe_load(path.read_text()) for path in ROOT.glob('configs/*/metafile.yml')]
    assert {collection['Paper']['URL'] for metafile in metafiles for collection in metafile['Collections']} <= papers
