"""Builds the distribution; static metadata stands in setup.cfg.

Besides the Python modules an installed package carries ``configs/``, ``tools/`` and ``model-index.yml`` in
``mvbench_plugins/.mim``, which is where ``mim train``, ``mim search`` and the other mim commands look for them.

Archives depend on the sources and on ``SOURCE_DATE_EPOCH`` alone: not on who builds, where, when, with which umask.
"""

import gzip
import os
import shutil
import tarfile
import time
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mvbench_plugins'
MIM_ITEMS = ('configs', 'tools', 'model-index.yml')


def read_requirements(name: str) -> list[str]:
    """Returns the requirement lines of ``requirements/<name>.txt``, without comments and blank lines."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


class BuildWithMim(build_py):
    """``build_py`` that also provides the ``.mim`` folder.

    A wheel gets copies, so nothing is written beside the sources. An editable install gets symbolic links in the
    checkout, so that edits to configs and tools take effect at once.
    """

    def run(self) -> None:
        """Builds the modules, then the ``.mim`` folder."""
        if self.editable_mode:
            super().run()
            self._link_mim()
            return
        # What an earlier build left here would put files into the wheel that the sources no longer have.
        shutil.rmtree(Path(self.build_lib, PACKAGE), ignore_errors=True)
        super().run()
        self._copy_mim()

    def _copy_mim(self) -> None:
        mim = Path(self.build_lib, PACKAGE, '.mim')
        mim.mkdir(parents=True)
        for item in MIM_ITEMS:
            source = ROOT / item
            if source.is_dir():
                shutil.copytree(source, mim / item, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
            else:
                shutil.copy2(source, mim / item)

    def _link_mim(self) -> None:
        mim = ROOT / PACKAGE / '.mim'
        mim.mkdir(exist_ok=True)
        for item in MIM_ITEMS:
            link = mim / item
            link.unlink(missing_ok=True)
            link.symlink_to(Path('..', '..', item))


def plain_mode(path: Path) -> int:
    """The mode that a file or folder has in an archive, where users and umasks mean nothing."""
    return 0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644


class ReproducibleSdist(sdist):
    """``sdist`` without time stamps, owners and modes of the machine that builds."""

    def make_archive(self, base_name: str, format: str, root_dir=None, base_dir=None, owner=None, group=None) -> str:
        """Packs ``base_dir`` into ``base_name.tar.gz``, the one format that pip and build ask for."""
        if format != 'gztar':
            raise ValueError(
                f'sdist: found the format {format!r}, expected gztar, the only one that is reproducible here'
            )
        now = int(os.environ.get('SOURCE_DATE_EPOCH', time.time()))

        def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mode = plain_mode(Path(member.name))
            member.mtime = now
            member.uid = member.gid = 0
            member.uname = member.gname = ''
            return member

        target = Path(f'{base_name}.tar.gz')
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            target.open('wb') as file,
            gzip.GzipFile('', 'wb', fileobj=file, mtime=now) as packed,
            tarfile.open(fileobj=packed, mode='w') as archive,
        ):
            archive.add(base_dir, filter=plain)
        return str(target)


class ReproducibleWheel(bdist_wheel):
    """``bdist_wheel`` without the modes of the machine that builds; it obeys ``SOURCE_DATE_EPOCH`` by itself."""

    def write_wheelfile(self, wheelfile_base: str, **options: str) -> None:
        """Completes the folder that is packed next."""
        super().write_wheelfile(wheelfile_base, **options)
        for path in Path(self.bdist_dir).rglob('*'):
            path.chmod(plain_mode(path))


extras = {name: read_requirements(name) for name in ('optional', 'tests', 'demo')}
extras['all'] = sorted({requirement for group in extras.values() for requirement in group})

setup(
    install_requires=read_requirements('runtime'),
    extras_require=extras,
    cmdclass={'build_py': BuildWithMim, 'sdist': ReproducibleSdist, 'bdist_wheel': ReproducibleWheel},
)
