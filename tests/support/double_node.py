"""`pasr_node` as its own process with a pipeline of known answers: loading and each frame take as long as is asked.

python double_node.py LOAD_SECONDS FRAME_SECONDS --ros-args ...
"""

from __future__ import annotations

import sys
import time

from robot import FixedPipeline, known_answer

from pasr_perception.ros import node
from pasr_perception.types import Detection, Frame, FrameResult


def main() -> int:
    load_s, frame_s = map(float, sys.argv[1:3])

    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        print("double: frame", flush=True)
        time.sleep(frame_s)
        return known_answer(frame, detections)

    def open_pipeline(*_: object) -> FixedPipeline:
        print("double: loading", flush=True)
        time.sleep(load_s)
        return FixedPipeline(answer)

    node.open_pipeline = open_pipeline
    return node.main()


if __name__ == "__main__":
    sys.exit(main())
