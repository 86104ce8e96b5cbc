# Sourced by tools/setup_env.sh: messages, running a command with a sign of life, and questions about an environment.
# Uses the variables that the caller sets: py (the environment's Python), log, job.

say() { printf '[setup] %s\n' "$*"; }
note() { printf '        %s\n' "$*"; }
duration() { if [ "$1" -lt 60 ]; then printf '%ds' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi; }

# die MESSAGE [LINE...]: one clear error, then what to do about it.
die() {
    printf '\n[setup] ERROR: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '        %s\n' "$line" >&2; done
    exit 1
}

interrupted() {
    printf '\n[setup] interrupted. Run the same command again: it continues where it stopped.\n' >&2
    exit "$1"
}

# A job runs in a process group of its own; without this it would go on after Ctrl-C.
job=
trap '[ -z "$job" ] || kill -TERM -- "-$job" 2>/dev/null || true' EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM HUP

# run_logged LABEL PROGRESS COMMAND...: output goes to $log, a sign of life to the screen. PROGRESS is a function that
# prints how far the command is, or ''.
run_logged() {
    local label=$1 progress=$2 start=$SECONDS shown=0 begin status=0 text
    shift 2
    begin=$(($(wc -c <"$log") + 1))
    set -m # a process group of its own
    "$@" </dev/null >>"$log" 2>&1 9>&- &
    job=$!
    set +m
    while kill -0 "$job" 2>/dev/null; do
        sleep 0.5
        text="$label: $(duration $((SECONDS - start)))${progress:+$($progress)}"
        if [ -t 1 ]; then
            printf '\r        %s ' "$text"
        elif [ $((SECONDS - start - shown)) -ge 30 ]; then
            shown=$((SECONDS - start))
            note "$text"
        fi
    done
    wait "$job" 2>/dev/null || status=$?
    job=
    [ ! -t 1 ] || printf '\r\033[K'
    [ $status = 0 ] || fail_from_log "$label" "$begin"
    note "$label: done in $(duration $((SECONDS - start)))"
}

# fail_from_log LABEL BYTE: ends the script with what the log says from BYTE on.
fail_from_log() {
    local text network='NewConnectionError|NameResolutionError|ConnectTimeout|ConnectionRefused|ProxyError'
    network+='|ConnectionReset|ReadTimeout|Connection refused|Network is unreachable|from versions: none'
    text=$(tail -c "+$2" "$log")
    tail -n 15 <<<"$text" >&2
    if grep -qE 'No space left on device' <<<"$text"; then
        die "$1: the disk is full." 'Free some space and run the command again.' "Log: $log"
    elif grep -qE "$network" <<<"$text"; then
        die "$1: no network: pip cannot reach a package index (or it holds nothing for this Python)." \
            'Check the connection, or a proxy (HTTPS_PROXY), or name a mirror (PIP_INDEX_URL=URL).' \
            'Without network: collect the wheels in a folder and set PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR.' "Log: $log"
    fi
    die "$1 failed; the end of its output stands above." "Log: $log"
}

# need_space DIR GB WHAT
need_space() {
    local dir=$1 free
    while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
    free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free" -ge "$2" ] || die "not enough disk space: $3 needs about $2 GB in $dir, $free GB are free." \
        'Free some space, or choose another place (--venv DIR for the environment, XDG_CACHE_HOME=DIR for the cache).'
}

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# run_python ARGUMENTS...: Python code from standard input, isolated from the current folder.
run_python() { "$py" -I -W ignore - "$@"; }
pip() { "$py" -m pip --disable-pip-version-check --no-input "$@"; }

# pins_met FILE...: is every `name==version` line of these files installed? Reads metadata only.
pins_met() {
    run_python "$@" 2>/dev/null <<'PY'
import re, sys
from importlib import metadata
for path in sys.argv[1:]:
    for name, version in re.findall(r'^([\w.-]+)==(\S+)', open(path).read(), re.M):
        if metadata.version(name) != version:
            sys.exit(1)
PY
}

# own DISTRIBUTION PATH: has pip remove PATH (relative to site-packages) when it removes the distribution.
own() {
    run_python "$@" <<'PY'
import sys
from importlib import metadata
record = next(f for f in metadata.distribution(sys.argv[1]).files if f.match('*.dist-info/RECORD')).locate()
with open(record, 'a') as stream:
    stream.write(f'{sys.argv[2]},,\n')
PY
}
