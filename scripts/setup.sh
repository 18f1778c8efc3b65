#!/usr/bin/env bash
# Make ./.venv ready to run the node, the demo and the tests. Safe to run again: what is up to date takes no time.
#
#   PYTHON            interpreter to use (default: python3.11, 3.12, 3.13, python3: the first that fits)
#   PASR_ROS          auto | apt | wheels: where ROS 2 comes from (default auto: apt where PASR_ROS_SETUP exists)
#   PASR_ROS_SETUP    the apt installation's set-up file (default /opt/ros/jazzy/setup.bash)
#   PASR_TORCH_INDEX  package index for torch; `pip` = whatever pip itself is set to use (on Linux the CUDA build)
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
STAMPS=$VENV/.pasr
TORCH=torch==2.13.0
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
ROS_SETUP=${PASR_ROS_SETUP:-/opt/ros/jazzy/setup.bash}

cd "$ROOT"
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE # set where the caller is another environment's Python
exec 9<"$ROOT" && flock 9            # two `make` at once take turns

say() { printf 'set-up: %s\n' "$*"; }
die() {
    printf 'set-up: %s\n' "$@" >&2
    exit 1
}
key() { sha256sum | cut -c1-16; }
files_key() { find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | key; }
requirements_key() { # of what pyproject.toml asks for, not of its lint rules
    "$PYTHON" -c '
import json, tomllib
data = tomllib.load(open("pyproject.toml", "rb"))
print(json.dumps([data["build-system"], data["project"], data["tool"]["setuptools"]]))' | key
}
fresh() { [[ -f $STAMPS/$1 && $(<"$STAMPS/$1") == "$2" ]]; }
stamp() { printf '%s\n' "$2" >"$STAMPS/$1"; }
pip_install() { "$VENV/bin/python" -m pip install --quiet --quiet --disable-pip-version-check "$@"; }

choose_ros() {
    local asked=${PASR_ROS:-auto}
    case $asked in
        apt | wheels) ROS=$asked ;;
        auto) if [[ -f $ROS_SETUP ]]; then ROS=apt; else ROS=wheels; fi ;;
        *) die "PASR_ROS: expected auto, apt or wheels, got '$asked'" ;;
    esac
    [[ $ROS == wheels || -f $ROS_SETUP ]] || die "PASR_ROS=apt, but there is no $ROS_SETUP"
}

choose_python() {
    local fits='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' candidate
    local candidates=(python3.11 python3.12 python3.13 python3)
    if [[ $ROS == apt ]]; then candidates=(/usr/bin/python3); fi # the one that the distribution's rclpy is built for
    for candidate in "${PYTHON:-}" "${candidates[@]}"; do
        if [[ -n $candidate ]] && "$candidate" -c "$fits" 2>/dev/null; then
            PYTHON=$candidate
            return
        fi
    done
    die "no Python 3.11, 3.12 or 3.13 found" "on Debian or Ubuntu: apt-get install python3 python3-venv python3-dev"
}

check_tools() {
    local missing=() include
    include=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing+=("$(basename "$PYTHON")-venv")
    if [[ $ROS == wheels ]]; then # these build the interface packages
        [[ -f $include/Python.h ]] || missing+=("$(basename "$PYTHON")-dev")
        command -v g++ >/dev/null || missing+=(g++)
        command -v make >/dev/null || missing+=(make)
    fi
    ((${#missing[@]} == 0)) || die "missing: ${missing[*]}" "on Debian or Ubuntu: apt-get install ${missing[*]}"
}

make_venv() {
    local want
    want="$ROOT $ROS $("$PYTHON" -c 'import sys; print(sys.version.split()[0])')"
    if fresh venv "$want" && [[ -x $VENV/bin/python ]]; then return; fi
    check_tools
    say "new .venv with $("$PYTHON" --version), ROS 2 from $ROS"
    rm -rf "$VENV"
    if [[ $ROS == apt ]]; then "$PYTHON" -m venv --system-site-packages "$VENV"; else "$PYTHON" -m venv "$VENV"; fi
    mkdir -p "$STAMPS"
    touch "$VENV/COLCON_IGNORE" # colcon would take the packages in here for sources
    if [[ $ROS == apt ]]; then printf '%s\n' "$ROS_SETUP" >"$STAMPS/ros_setup"; fi
    stamp venv "$want"
}

# The CPU build is a tenth of the size of the CUDA build that the public index serves for Linux.
install_torch() {
    local want="$TORCH ${PASR_TORCH_INDEX:-}"
    if fresh torch "$want"; then return; fi
    if [[ ${PASR_TORCH_INDEX:-} == pip ]]; then
        say "torch from pip's own index, as asked"
        pip_install "$TORCH"
    elif [[ -n ${PASR_TORCH_INDEX:-} ]]; then
        say "torch from $PASR_TORCH_INDEX"
        pip_install --no-deps --index-url "$PASR_TORCH_INDEX" "$TORCH"
    elif pip_install --no-index --no-deps "$TORCH" 2>/dev/null; then
        say "torch from the wheels on this machine (pip's find-links)"
    elif "$VENV/bin/python" -c "import urllib.request as u; u.urlopen('$TORCH_CPU_INDEX/torch/', timeout=5)" 2>/dev/null; then
        say "torch, CPU build, from $TORCH_CPU_INDEX"
        pip_install --no-deps --index-url "$TORCH_CPU_INDEX" "$TORCH"
    else
        say "torch from pip's own index: on Linux this is the CUDA build, several GB (the CPU index did not answer)"
        pip_install "$TORCH"
    fi
    stamp torch "$want"
}

install_packages() {
    local extras=test,dev,transformers,bench constraints=requirements/constraints-apt.txt want
    if [[ $ROS == wheels ]]; then extras=ros,$extras constraints=requirements/constraints.txt; fi
    want="$(requirements_key) $(files_key "$constraints" scripts/fix_ros_wheels.py)"
    if ! fresh packages "$want"; then
        pip_install --constraint "$constraints" 'setuptools>=77,<80'
        install_torch
        say "Python packages (about a minute)"
        pip_install --constraint "$constraints" --no-build-isolation --editable ".[$extras]"
        if [[ $ROS == wheels ]]; then
            command -v cmake >/dev/null || pip_install 'cmake<4'
            "$VENV/bin/python" scripts/fix_ros_wheels.py
        fi
        stamp packages "$want"
    fi
    install_torch
}

build_interfaces() {
    local want importable=("$VENV/bin/python" -c 'import tf2_msgs.msg, vision_msgs.msg') build=$STAMPS/interfaces.build
    want=$(files_key ros2_ws/interfaces requirements/constraints.txt) # they are built against those wheels
    if fresh interfaces "$want"; then return; fi
    if [[ $ROS == apt ]]; then
        (set +u && source "$ROS_SETUP" && "${importable[@]}" 2>/dev/null) ||
            die "vision_msgs or tf2_msgs is missing: apt-get install ros-jazzy-vision-msgs ros-jazzy-tf2-msgs"
    else
        say "vision_msgs and tf2_msgs, which no wheel has (half a minute)"
        mkdir -p "$build"
        env PATH="$VENV/bin:$PATH" AMENT_PREFIX_PATH="$VENV" CMAKE_PREFIX_PATH="$VENV" \
            "$VENV/bin/python" -m colcon --log-base "$build/log" build \
            --base-paths ros2_ws/interfaces/vision_msgs ros2_ws/interfaces/tf2_msgs \
            --merge-install --install-base "$VENV" --build-base "$build" \
            --cmake-args -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release >"$build/out" 2>&1 ||
            { tail -n 40 "$build/out" >&2 && die "the interface packages did not build; all of the output: $build/out"; }
        "${importable[@]}"
    fi
    stamp interfaces "$want"
}

choose_ros
choose_python
make_venv
install_packages
build_interfaces
say "ready: .venv (ROS 2 from $ROS), ${SECONDS} s"
