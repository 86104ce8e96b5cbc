"""What the set-up scripts say when something is missing, and that they stop cleanly. Nothing is installed here."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON_TAG = f'py{sys.version_info.major}{sys.version_info.minor}'


def script(path: Path, text: str) -> Path:
    """Writes an executable shell script, which stands in for a program of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


class Machine:
    """A pretended machine: its own cache, and programs that are found before the real ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / 'bin'
        self.bin.mkdir()
        self.cache = folder / 'cache'
        keep = {
            k: v for k, v in os.environ.items() if not k.startswith(('PIP_', 'CONDA', 'VIRTUAL_ENV', 'CXX', 'TORCH_'))
        }
        self.env = {**keep, 'PATH': f'{self.bin}:{keep["PATH"]}', 'XDG_CACHE_HOME': str(self.cache)}

    def cached_wheel(self) -> None:
        wheel = self.cache / f'mvbench/wheels/{PYTHON_TAG}-torch0-cpu/mmcv-2.1.0-x_{os.uname().machine}.whl'
        wheel.parent.mkdir(parents=True)
        wheel.touch()

    def command(self, *options: object) -> list[str]:
        return ['bash', str(ROOT / 'tools/setup_env.sh'), '--venv', str(self.folder / 'venv'), *map(str, options)]

    def error(self, *options: object, **env: str) -> str:
        """Runs the set-up, which has to fail without a Python traceback; returns its error message."""
        process = subprocess.run(
            self.command(*options), env={**self.env, **env}, cwd=self.folder, capture_output=True, text=True
        )
        assert process.returncode == 1, process.stdout + process.stderr
        assert 'Traceback' not in process.stderr
        return process.stderr.split('[setup] ERROR: ')[1]

    def shell(self, code: str, **env: str) -> subprocess.CompletedProcess:
        """Runs shell code that may use the functions of the set-up."""
        sources = (
            f'set -euo pipefail; . {ROOT}/tools/setup/helpers.sh; . {ROOT}/tools/setup/mmcv.sh; py={sys.executable}; '
        )
        return subprocess.run(
            ['bash', '-c', sources + code], env={**self.env, **env}, cwd=self.folder, capture_output=True, text=True
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_unknown_option(machine: Machine) -> None:
    assert 'unknown option: --cpu_only' in machine.error('--cpu_only')


def test_wrong_python_is_named_with_its_version(machine: Machine) -> None:
    old = script(machine.bin / 'python3.9', 'echo 3.9')
    message = machine.error('--python', old)
    assert f'found: {old} (Python 3.9)' in message and '--python /path/to' in message


def test_no_python_at_all(machine: Machine) -> None:
    for name in ('python3', 'python3.11', 'python3.12'):
        script(machine.bin / name, 'exit 127')
    message = machine.error()
    assert 'python3 (does not run), python3.11 (does not run)' in message and 'apt-get install python3' in message


def test_no_compiler(machine: Machine) -> None:
    message = machine.error('--python', sys.executable, CXX='no-such-compiler')
    assert 'no C++ compiler (no-such-compiler)' in message and 'apt-get install g++' in message


def test_compiler_without_cpp20(machine: Machine) -> None:
    old = script(machine.bin / 'g++-7', 'echo "error: unrecognized option \'-std=c++20\'"; exit 1')
    message = machine.error('--python', sys.executable, CXX=str(old))
    assert 'cannot compile C++20' in message and "unrecognized option '-std=c++20'" in message


def test_no_python_headers(machine: Machine) -> None:
    python = script(machine.bin / 'py', f'case "$*" in *include*) echo /none;; *) exec {sys.executable} "$@";; esac')
    script(machine.bin / 'c++', 'exit 0')
    message = machine.error('--python', python)
    assert 'no /none/Python.h' in message and 'python3-dev' in message


def test_no_venv_module(machine: Machine) -> None:
    python = script(machine.bin / 'py', f'case "$*" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac')
    assert 'apt-get install python3-venv' in machine.error('--python', python)


def test_too_little_disk_space(machine: Machine) -> None:
    script(
        machine.bin / 'df', 'echo "Filesystem 1024-blocks Used Available"; echo "/dev/x 9000000 7000000 2097152 78% /"'
    )
    message = machine.error('--python', sys.executable)
    assert 'not enough disk space' in message and 'about 4 GB' in message and '2 GB are free' in message


def test_foreign_folder_is_left_alone(machine: Machine) -> None:
    (machine.folder / 'venv').mkdir()
    (machine.folder / 'venv' / 'thesis.tex').touch()
    assert 'neither a virtual environment nor empty' in machine.error('--python', sys.executable)
    assert (machine.folder / 'venv' / 'thesis.tex').exists()


def test_no_network(machine: Machine) -> None:
    machine.cached_wheel()  # no compiler is needed then
    nowhere = {'PIP_INDEX_URL': 'http://127.0.0.1:9/simple', 'PIP_CONFIG_FILE': '/dev/null', 'PIP_RETRIES': '0'}
    message = machine.error('--python', sys.executable, CXX='no-such-compiler', **nowhere)
    assert 'build tools: no network' in message and 'PIP_INDEX_URL' in message
    log = message.rsplit('Log: ')[1].strip()
    assert '127.0.0.1' in Path(log).read_text()


def test_waits_for_another_setup_and_ends_on_a_signal(machine: Machine) -> None:
    machine.cached_wheel()
    with open(machine.cache / 'mvbench/setup.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            machine.command('--python', sys.executable),
            env=machine.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines = []
        while 'waiting for another set-up' not in (line := process.stdout.readline()):
            assert line, ''.join(lines)
            lines.append(line)
        os.killpg(process.pid, signal.SIGTERM)
        assert 'Run the same command again' in process.communicate()[0]
    assert process.returncode == 143
    assert not (machine.folder / 'venv').exists()


def test_interruption_ends_the_running_job(machine: Machine) -> None:
    code = 'log=log; : >log; run_logged job "" sh -c "echo \\$\\$ >pid; sleep 300"'
    sources = f'. {ROOT}/tools/setup/helpers.sh; '
    process = subprocess.Popen(['bash', '-c', sources + code], cwd=machine.folder, stderr=subprocess.DEVNULL)
    pid = machine.folder / 'pid'
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=10) == 143
    deadline = time.time() + 10
    while Path(f'/proc/{pid.read_text().strip()}').exists():
        assert time.time() < deadline
        time.sleep(0.05)


def test_unfinished_wheel_is_not_taken(machine: Machine) -> None:
    name = f'mmcv-2.1.0-cp311-cp311-linux_{os.uname().machine}.whl'
    (machine.folder / 'build/dist').mkdir(parents=True)
    (machine.folder / 'build/dist' / name).touch()
    (machine.folder / 'mmcv-2.1.0-cp311-cp311-linux_otherchip.whl').touch()
    assert machine.shell('cached_wheel .').stdout == ''
    (machine.folder / name).touch()
    assert machine.shell('cached_wheel .').stdout.strip() == f'./{name}'


@pytest.mark.parametrize(
    ('torch', 'env', 'key'),
    [
        ('torch_version=2.13.0+cpu torch_cuda=none cpu_only=0', {}, 'torch2.13.0-cpu-cpu'),
        (
            'torch_version=2.11.0+cu130 torch_cuda=13.0 cpu_only=0',
            {'TORCH_CUDA_ARCH_LIST': '8.0;9.0'},
            'torch2.11.0-cu130-cuda13.0-sm8_0_9_0',
        ),
        (
            'torch_version=2.11.0+cu130 torch_cuda=13.0 cpu_only=1',
            {'TORCH_CUDA_ARCH_LIST': '9.0'},
            'torch2.11.0-cu130-cpu',
        ),
    ],
)
def test_wheel_key_tells_python_torch_and_operators(
    machine: Machine, torch: str, env: dict[str, str], key: str
) -> None:
    process = machine.shell(f'{torch}; choose_operators; echo $wheel_key', **env)
    assert process.stdout.strip() == f'{PYTHON_TAG}-{key}', process.stderr


def test_cuda_toolkit_of_another_version(machine: Machine) -> None:
    script(machine.bin / 'nvcc', 'echo "Cuda compilation tools, release 12.4, V12.4.131"')
    process = machine.shell('torch_cuda=13.0; find_nvcc', CUDA_HOME=str(machine.folder))
    assert process.returncode == 1
    assert f'CUDA 13.0, but {machine.bin}/nvcc is of CUDA 12' in process.stderr and '--cpu-only' in process.stderr
    assert machine.shell(
        'torch_cuda=12.6; find_nvcc; echo $CUDA_HOME', CUDA_HOME=str(machine.folder)
    ).stdout.strip() == str(machine.folder)


def test_no_cuda_toolkit(machine: Machine) -> None:
    process = machine.shell('torch_cuda=13.0; PATH=/nowhere; find_nvcc', CUDA_HOME=str(machine.folder / 'none'))
    assert process.returncode == 1 and 'nvcc is neither in $CUDA_HOME/bin' in process.stderr
