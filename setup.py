"""Builds the distribution; static metadata stands in setup.cfg.

Besides the Python modules an installed package carries ``configs/``, ``tools/`` and ``model-index.yml`` in
``mvbench_plugins/.mim``, which is where ``mim train``, ``mim search`` and the other mim commands look for them.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

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


extras = {name: read_requirements(name) for name in ('optional', 'tests')}
extras['all'] = sorted({requirement for group in extras.values() for requirement in group})

setup(
    install_requires=read_requirements('runtime'),
    extras_require=extras,
    cmdclass={'build_py': BuildWithMim},
)
