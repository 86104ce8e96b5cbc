# Sourced by tools/setup_env.sh: mmcv with operators compiled for the installed torch. The wheel is kept in the user's
# cache, in a folder named after Python, torch and the kind of operators, because it fits exactly one of each.
# Uses the caller's variables: py, site, cache, log, cpu_only, torch_version, torch_cuda ('none' for a CPU build).

mmcv_version=2.1.0

install_mmcv() {
    choose_operators
    if has_mmcv 2>/dev/null; then
        note "mmcv's operators are there"
        return
    fi
    local folder=$cache/wheels/$wheel_key
    [ -n "$(cached_wheel "$folder")" ] || compile_mmcv "$folder"
    note "using $(cached_wheel "$folder")"
    run_logged 'mmcv wheel' '' pip install --no-deps --force-reinstall "$(cached_wheel "$folder")"
    own mmcv "mmcv-$mmcv_version.dist-info/mvbench_wheel_key"
    printf %s "$wheel_key" >"$site/mmcv-$mmcv_version.dist-info/mvbench_wheel_key"
}

cached_wheel() { compgen -G "$1/mmcv-$mmcv_version-*_$(uname -m).whl" | head -n 1 || true; }

# Sets cuda (0 or 1) and wheel_key.
choose_operators() {
    local kind=cpu
    cuda=0
    if [ "$torch_cuda" != none ] && [ "$cpu_only" = 0 ]; then
        TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$(visible_architectures)}
        if [ -n "$TORCH_CUDA_ARCH_LIST" ]; then
            export TORCH_CUDA_ARCH_LIST
            cuda=1
            kind=cuda$torch_cuda-sm$(tr -c 'A-Za-z0-9\n' _ <<<"$TORCH_CUDA_ARCH_LIST")
        else
            note 'torch is a CUDA build, but no GPU is visible: CPU operators'
            note '(for CUDA operators all the same set TORCH_CUDA_ARCH_LIST, for instance to 9.0)'
        fi
    fi
    wheel_key=py$(python_version "$py" | tr -d .)-torch${torch_version//+/-}-$kind
}

visible_architectures() {
    run_python <<'PY'
import torch
devices = range(torch.cuda.device_count())
print(';'.join(sorted({'%d.%d' % torch.cuda.get_device_capability(device) for device in devices})))
PY
}

# Does the installed mmcv do? Ours carries its key. One that the user brought does if it works and is of the wanted
# kind.
has_mmcv() {
    run_python "$wheel_key" "$cuda" "$cpu_only" "$mmcv_version" <<'PY'
import sys
from importlib import metadata
wanted, cuda, cpu_only, version = sys.argv[1], sys.argv[2] == '1', sys.argv[3] == '1', sys.argv[4]
mmcv = metadata.distribution('mmcv')
key = mmcv.read_text('mvbench_wheel_key')
if key:
    # CUDA operators stay when the GPU is just out of sight, as on the login node of a cluster.
    same_torch = key.startswith(wanted.removesuffix('cpu') + 'cuda')
    sys.exit(not (key == wanted or (same_torch and not cuda and not cpu_only)))
from mmcv.ops import get_compiling_cuda_version
sys.exit(mmcv.version != version or (cuda and get_compiling_cuda_version() == 'not available'))
PY
}

# check_compiler PYTHON: compiles a file that needs C++20 and the headers of PYTHON, as mmcv does.
check_compiler() {
    local compiler=${CXX:-c++} remedy='Debian: apt-get install g++ python3-dev' include errors
    command -v "$compiler" >/dev/null ||
        die "no C++ compiler ($compiler), but mmcv's operators are compiled for the installed torch." "$remedy"
    include=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$include/Python.h" ] || die "the Python headers are missing: there is no $include/Python.h." "$remedy"
    errors=$(printf '#include <Python.h>\n#include <concepts>\n' |
        "$compiler" -std=c++20 -I"$include" -fsyntax-only -x c++ - 2>&1) ||
        die "$compiler cannot compile C++20, which torch's headers need. It says: ${errors%%$'\n'*}" \
            'Install g++ 10 or newer, or name one: CXX=g++-12'
    need_space "$cache" 1 'the compilation of mmcv'
}

# Sets CUDA_HOME to a toolkit that fits torch.
find_nvcc() {
    local nvcc=${CUDA_HOME:-/usr/local/cuda}/bin/nvcc wanted=${torch_cuda%%.*} found remedy
    remedy="Install the CUDA $wanted toolkit, set CUDA_HOME to it, or take CPU operators: --cpu-only"
    [ -x "$nvcc" ] || nvcc=$(command -v nvcc) ||
        die "torch is built for CUDA $torch_cuda, but nvcc is neither in \$CUDA_HOME/bin nor in PATH." \
            "$remedy"
    found=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    [ "$found" = "$wanted" ] || die "torch is built for CUDA $torch_cuda, but $nvcc is of CUDA $found." "$remedy"
    CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
    export CUDA_HOME
}

compile_progress() {
    grep -oE '^ *\[[0-9]+/[0-9]+\]' "$log" | tail -n 1 | sed -E 's#.*\[(.*)/(.*)\]#, compiled \1 of \2 files#' || true
}

# compile_mmcv FOLDER: leaves a wheel there. The build folder stays until then, so that ninja goes on where it stopped.
compile_mmcv() {
    local build=$1/build source=$1/build/mmcv-$mmcv_version jobs memory setup_log=$log
    check_compiler "$py"
    [ $cuda = 0 ] || find_nvcc
    memory=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo) # GB; a job takes about 1
    jobs=${MAX_JOBS:-$(nproc)}
    [ "$jobs" -le "$memory" ] || jobs=$((memory > 1 ? memory : 1))
    mkdir -p "$build"
    [ -d "$source" ] || unpack_mmcv "$build"
    log=$1/build.log
    : >"$log"
    note "compiling mmcv $mmcv_version for $wheel_key, once:"
    note "about $(((cuda ? 35 : 12) / jobs + 1)) minutes with $jobs jobs on an idle machine"
    note "log: $log"
    # mmcv's setup.py looks for a GPU by itself: hide it where CPU operators are wanted.
    local environment=(MMCV_WITH_OPS=1 FORCE_CUDA=$cuda MAX_JOBS="$jobs")
    [ $cuda = 1 ] || environment+=(CUDA_VISIBLE_DEVICES=)
    run_logged 'mmcv' compile_progress env "${environment[@]}" \
        "$py" -m pip --disable-pip-version-check wheel -v --no-deps --no-build-isolation -w "$build/dist" "$source"
    "$py" -m zipfile -l "$build"/dist/mmcv-*.whl | grep 'mmcv/_ext\.' >/dev/null ||
        die 'the mmcv wheel has no compiled operators.' "Log: $log"
    mv "$build"/dist/mmcv-*.whl "$1/" # atomic: a wheel in FOLDER is a whole one
    rm -rf "$build"
    log=$setup_log
}

# unpack_mmcv BUILD: the source, mended for today's torch. Not built by pip from the index: pip would cache that wheel
# and take it for every other torch.
unpack_mmcv() {
    local temporary
    temporary=$(mktemp -d "$1/unpack.XXXX")
    run_logged 'mmcv source' '' \
        pip download --no-deps --no-build-isolation --no-binary mmcv -d "$temporary" "mmcv==$mmcv_version"
    tar -xzf "$temporary/mmcv-$mmcv_version.tar.gz" -C "$temporary"
    # torch's headers are C++20 (open-mmlab/mmcv#3341) and no longer have the THC folder.
    sed -i 's/-std=c++17/-std=c++20/' "$temporary/mmcv-$mmcv_version/setup.py"
    grep -rl 'THC/THCAtomics.cuh' "$temporary/mmcv-$mmcv_version/mmcv/ops/csrc" |
        xargs -r sed -i 's#THC/THCAtomics.cuh#ATen/cuda/Atomic.cuh#'
    mv "$temporary/mmcv-$mmcv_version" "$1/"
    rm -rf "$1"/unpack.*
}
