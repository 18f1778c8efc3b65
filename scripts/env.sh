# Source this in bash: puts the project's environment first on PATH, after the ROS 2 installation it was set up with, if any.
_pasr_venv=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv
if [[ -f $_pasr_venv/.pasr/ros_setup ]]; then
    case $- in *u*) _pasr_nounset=1 ;; *) _pasr_nounset= ;; esac
    set +u # ROS's own set-up files read unset variables
    source "$(<"$_pasr_venv/.pasr/ros_setup")"
    if [[ -n $_pasr_nounset ]]; then set -u; fi
fi
export PATH="$_pasr_venv/bin:$PATH"
unset _pasr_venv _pasr_nounset
# Large temporaries come and go all the time: keep their pages instead of handing them back to the kernel each time.
export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-1073741824} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-4294967296}
