#!/usr/bin/env bash
# Sets up everything the suite needs: a virtual environment with torch, the OpenMMLab packages, mmcv's compiled
# operators and the suite itself. May be interrupted and run again at any time; what is done is skipped.
#
# Usage: bash tools/setup_env.sh [--python PY] [--venv DIR] [--torch-index URL] [--cpu-only]
#
#   --python PY        interpreter that the virtual environment is made with (Python 3.11 or 3.12); default: python3
#   --venv DIR         virtual environment to make or to complete. Default: an active environment that has torch, else
#                      .venv in the checkout
#   --torch-index URL  package index to take torch from, for instance one that holds CPU-only builds
#   --cpu-only         compile mmcv's operators for the CPU even if there is a GPU
#
# Environment: TORCH_SPEC (default torch==2.13.0; used only if the environment has no torch), TORCH_CUDA_ARCH_LIST and
# CUDA_HOME (CUDA operators), MAX_JOBS (compile jobs), XDG_CACHE_HOME (default ~/.cache; the compiled wheel is kept in
# mvbench/wheels there), and pip's own: PIP_INDEX_URL, PIP_NO_INDEX, PIP_FIND_LINKS, ...

# quickstart.sh and test.sh source this file. It sets py (the environment's Python), activate (the command) and rest (the
# options it does not know, if the caller sets other_options=1). with_tests=1 adds requirements/{tests,demo,spconv}.txt;
# banner is printed first.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
requirements=$root/requirements
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mvbench
source "$root/tools/setup/helpers.sh"
source "$root/tools/setup/mmcv.sh"

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

parse_options() {
    python='' venv='' torch_index='' cpu_only=0 rest=()
    while [ $# -gt 0 ]; do
        case $1 in
        --python | --venv | --torch-index)
            [ -n "${2:-}" ] || die "$1 needs a value." "See: bash $0 --help"
            case $1 in --python) python=$2 ;; --venv) venv=$2 ;; *) torch_index=$2 ;; esac
            shift
            ;;
        --cpu-only) cpu_only=1 ;;
        -h | --help) usage && exit ;;
        *)
            [ "${other_options:-0}" = 1 ] || die "unknown option: $1" "See: bash $0 --help"
            rest+=("$1")
            ;;
        esac
        shift
    done
}

# Sets prefix, py and activate (the command; empty for an environment that is active).
choose_environment() {
    local active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
    prefix=$(realpath -m "${venv:-$root/.venv}")
    activate="source $prefix/bin/activate"
    if [ -z "$venv$python" ] && [ -n "$active" ] && [ ! "$active" -ef "$prefix" ] &&
        has_torch "$active/bin/python"; then
        prefix=$active
        activate=''
        say "using the active environment $prefix, which has torch (for another one: --venv DIR)"
    fi
    py=$prefix/bin/python
}

is_no_venv() { "$1" -c 'import sys; sys.exit(sys.prefix != sys.base_prefix)'; }
has_torch() { "$1" -I -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("torch"))' 2>/dev/null; }

# fingerprint: changes when anything changes that the set-up depends on. Takes a fraction of a second.
fingerprint() {
    {
        cat "$requirements"/{build,runtime,mm}.txt "$root"/setup.{py,cfg} "$root"/tools/{setup_env,setup/*}.sh
        echo "$root $cpu_only ${TORCH_CUDA_ARCH_LIST:-} $(compgen -G '/dev/nvidia[0-9]*' | wc -l)"
        run_python "$requirements"/{build,runtime,mm}.txt <<'PY'
import re, sys
from importlib import metadata
names = ['torch', 'mmcv', 'mvbench_plugins']
for path in sys.argv[1:]:
    names += re.findall(r'^[\w.-]+', open(path).read(), re.M)
print(sys.version, [(name, metadata.version(name)) for name in names])
PY
    } | sha256sum
}

is_complete() {
    [ -x "$py" ] && [ -e "$prefix/mvbench_setup.stamp" ] && [ -e "$root/mvbench_plugins/.mim/configs" ] &&
        [ "$(fingerprint 2>/dev/null)" = "$(cat "$prefix/mvbench_setup.stamp")" ]
}

# check_python PYTHON...: sets base to the first that serves.
check_python() {
    local candidate version found=
    for candidate in "$@"; do
        version=$(python_version "$candidate") || version=
        case $version in 3.11 | 3.12) base=$candidate && return ;; esac
        found+="${found:+, }$candidate ($([ -n "$version" ] && echo "Python $version" || echo 'does not run'))"
    done
    die "Python 3.11 or 3.12 is needed, found: $found." \
        'Install one (Debian 12: apt-get install python3 python3-venv python3-dev)' \
        'or name it: --python /path/to/python3.11'
}

# Everything that can be known to be missing before minutes have been spent.
check_prerequisites() {
    if [ -x "$py" ]; then
        check_python "$py"
        [ -z "$python" ] || [ "$(python_version "$python")" = "$(python_version "$py")" ] ||
            die "$prefix holds Python $(python_version "$py"), but --python $python is of another version." \
                'Remove that folder, or choose another one with --venv DIR.'
    else
        if [ -n "$python" ]; then check_python "$python"; else check_python python3 python3.11 python3.12; fi
        [ ! -e "$prefix" ] || [ -e "$prefix/pyvenv.cfg" ] || [ -z "$(ls -A "$prefix")" ] ||
            die "$prefix is neither a virtual environment nor empty." 'Choose another folder with --venv DIR.'
        "$base" -c 'import venv, ensurepip' 2>/dev/null ||
            die "$base cannot make virtual environments: its venv module is missing." \
                'Debian: apt-get install python3-venv'
    fi
    pins_met "$requirements"/{runtime,mm}.txt || need_space "$prefix" 4 'the environment (CPU build of torch)'
    pins_met <(echo "mmcv==$mmcv_version") ||
        [ -n "$(cached_wheel "$cache/wheels/py$(python_version "$base" | tr -d .)-torch*")" ] || check_compiler "$base"
}

make_environment() {
    if ! "$py" -c 'import pip' 2>/dev/null; then
        local options=()
        # A machine that brings its own torch, as GPU containers do: keep that one.
        if [ -z "${TORCH_SPEC:-}" ] && has_torch "$base" && is_no_venv "$base"; then
            options=(--system-site-packages)
            note "$base has torch: the environment uses it (for another one set TORCH_SPEC)"
        fi
        "$base" -m venv "${options[@]}" "$prefix" ||
            die "cannot make a virtual environment in $prefix." 'Remove that folder and run the command again.'
    fi
    site=$("$py" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    log=$prefix/mvbench_setup.log
    printf '\n=== %s ===\n' "$(date)" >>"$log"
    note "$prefix, log: $log"
    pins_met "$requirements/build.txt" || run_logged 'build tools' '' pip install -r "$requirements/build.txt"
}

# Sets torch_version and torch_cuda.
install_torch() {
    local spec=${TORCH_SPEC:-torch==2.13.0} facts='import torch; print(torch.__version__, torch.version.cuda or "none")'
    if run_python <<<"$facts" >/dev/null 2>&1; then
        note 'keeping the torch that is there'
    else
        run_logged "$spec" '' pip install ${torch_index:+--index-url "$torch_index"} "$spec"
    fi
    read -r torch_version torch_cuda < <(run_python <<<"$facts") ||
        die 'the installed torch cannot be imported, see the error above.' \
            "Take another one: TORCH_SPEC=torch==VERSION. Log: $log"
    note "torch $torch_version, CUDA: $torch_cuda"
}

install_packages() {
    pins_met "$requirements/runtime.txt" || run_logged 'Python packages' '' pip install -r "$requirements/runtime.txt"
    pins_met "$requirements/mm.txt" ||
        run_logged 'OpenMMLab packages' '' pip install --no-deps -r "$requirements/mm.txt"
    local find='import importlib.util as u; print(u.find_spec("mmaction").submodule_search_locations[0])' drn
    drn=$(run_python <<<"$find")/models/localizers/drn
    if [ ! -e "$drn/drn.py" ]; then # the wheel imports this sub-package but lacks it (open-mmlab/mmaction2#2714)
        mkdir -p "$drn"
        : >"$drn/__init__.py"
        cat >"$drn/drn.py" <<'PY'
class DRN:
    def __init__(self, *args, **kwargs):
        raise NotImplementedError('the mmaction2 1.2.0 wheel does not contain DRN')
PY
        note 'added the missing mmaction.models.localizers.drn'
    fi
}

install_suite() {
    run_logged 'mvbench_plugins' '' pip install --no-build-isolation --no-deps -e "$root"
    # mim looks for <site-packages>/mvbench_plugins/.mim, which an editable install does not have.
    [ ! -L "$site/mvbench_plugins" ] || rm "$site/mvbench_plugins"
    [ ! -e "$site/mvbench_plugins" ] ||
        die "$site/mvbench_plugins is left over from another installation." 'Remove it and run the command again.'
    own mvbench_plugins mvbench_plugins
    ln -s "$root/mvbench_plugins" "$site/mvbench_plugins"
}

check_result() {
    run_python <<'PY'
import importlib
import pathlib
import torch
import mmcv.ops
import mim.utils
for name in ('mmdet', 'mmdet3d', 'mmaction'):
    importlib.import_module(name + '.utils').register_all_modules(init_default_scope=False)
    print(name, 'registers')
device = 'cuda' if torch.cuda.is_available() and mmcv.ops.get_compiling_cuda_version() != 'not available' else 'cpu'
boxes = torch.tensor([[0., 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]], device=device)
keep = mmcv.ops.nms(boxes, torch.tensor([.9, .8, .7], device=device), 0.5)[1].tolist()
if keep != [0, 2]:
    raise SystemExit(f'mmcv.ops.nms on {device} keeps {keep}, expected [0, 2]')
mim_folder = pathlib.Path(mim.utils.get_installed_path('mvbench_plugins'), '.mim')
if not (mim_folder / 'configs').is_dir():
    raise SystemExit(f'mim does not find the configs: there is no {mim_folder}/configs')
PY
}

set_up() {
    local start=$SECONDS
    parse_options "$@"
    [ -z "${banner:-}" ] || printf '%s\n' "$banner"
    choose_environment
    if is_complete; then
        say "$prefix is complete"
    else
        check_prerequisites
        say "setting up $prefix"
        note 'On a fresh machine: about 2 minutes of installing (more on a slow network), then 6 to 10 minutes on'
        note '2 cores to compile mmcv, once. Ctrl-C is safe: run the command again to continue.'
        mkdir -p "$cache"
        exec 9>"$cache/setup.lock" # released by the kernel, however this script ends
        flock -n 9 || say 'waiting for another set-up of this user to end'
        # In the background: a signal that comes while bash waits for a foreground command would wait with it.
        until flock -n 9; do sleep 1 & wait "$!"; done
        say '1/6 virtual environment' && make_environment
        say '2/6 torch' && install_torch
        say '3/6 Python packages' && install_packages
        say "4/6 mmcv's operators" && install_mmcv
        say '5/6 the suite, editable' && install_suite
        say '6/6 check: the registers of the toolboxes, one operator, mim' && run_logged 'check' '' check_result
        fingerprint >"$prefix/mvbench_setup.stamp"
        exec 9>&-
    fi
    local group
    for group in tests demo; do
        if [ "${with_tests:-0}" = 1 ] && ! pins_met "$requirements/$group.txt"; then
            log=$prefix/mvbench_setup.log
            run_logged "$group tools" '' pip install -r "$requirements/$group.txt"
        fi
    done
    if [ "${with_tests:-0}" = 1 ] && ! pins_met "$requirements/spconv.txt"; then
        log=$prefix/mvbench_setup.log
        run_logged 'spconv' '' pip install --no-deps -r "$requirements/spconv.txt"
    fi
    say "ready in $(duration $((SECONDS - start)))${activate:+; activate with: $activate}"
}

set_up "$@"
