#!/usr/bin/env bash
# Runs fastrnn in a virtual environment of its own, .venv beside this file, made when needed.
#
#   ./run.sh                        a short training, a sample and a picture, in about a minute
#   ./run.sh train --epochs 9 ...   any fastrnn command; ./run.sh --help lists them
#   ./run.sh test                   the tests, on all cores; with arguments, which go to pytest, on one
#   ./run.sh faults                 the faults of tests/faults, all of them, with figures: some time
#   ./run.sh lint                   linter, formatter and types
#
# PYTHON names the interpreter to make the environment with; otherwise it is python3.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$here/.venv

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

make_venv() {
    local python=${PYTHON:-python3}
    command -v "$python" >/dev/null ||
        fail "$python is not there; install Python 3.10 or newer, or set PYTHON to it"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$python is too old or does not run; install Python 3.10 or newer, or set PYTHON to it"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python lacks venv; install it (on Debian and Ubuntu: apt install python3-venv)"
    echo "Making the environment $venv"
    "$python" -m venv --clear "$venv"
}

# install [EXTRA]: the package with one of its extras. The installation is editable, that is, it runs
# the code of this checkout; so it is only repeated when the metadata or the place have changed.
install() {
    local target=$here${1:+[$1]} stamp=$venv/installed${1:+-$1}
    local state
    state=$(echo "$here" && cat "$here/setup.cfg" "$here/pyproject.toml")
    [ "$(cat "$stamp" 2>/dev/null)" = "$state" ] && return
    echo "Installing fastrnn${1:+ with what \"$1\" needs} into $venv"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable "$target"
    echo "$state" >"$stamp"
}

"$venv/bin/python" -c '' 2>/dev/null || make_venv
export PATH="$venv/bin:$PATH"

case ${1-} in
test)
    shift
    install test
    cd "$here"
    if [ $# = 0 ]; then
        # Otherwise its processes would compile the same kernels at the same time.
        echo "Compiling what the cache lacks"
        printf '%s\n' rnn lstm gru | xargs -P 3 -n 1 fastrnn warmup --cell >/dev/null 2>&1 || true
        set -- --numprocesses auto --maxprocesses 8 --dist worksteal
    fi
    exec python -m pytest "$@"
    ;;
faults)
    shift
    install test
    cd "$here"
    FASTRNN_FAULTS=full exec python -m pytest tests/faults --capture no "$@"
    ;;
lint)
    install dev
    cd "$here"
    python -m ruff check
    python -m ruff format --check
    exec python -m mypy
    ;;
'')
    install
    echo "Training on the default corpus; the best model goes into $PWD/demo.h5"
    fastrnn train --epochs 9 --ckpt demo.h5
    echo "Writing a sample with it"
    fastrnn synth demo.h5
    echo "Drawing the loss into $PWD/demo.png"
    fastrnn plot demo.h5 -o demo.png
    ;;
*)
    install
    exec fastrnn "$@"
    ;;
esac
