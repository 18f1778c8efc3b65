"""`pasr_node` as its own process with a pipeline of known answers: loading and each frame take as long as is asked.

python double_node.py LOAD_SECONDS FRAME_SECONDS --ros-args ...

A detection of class `fault` makes the frame fail.
"""

from __future__ import annotations

import sys
import time
from collections import deque

from pasr_perception.ros.interrupts import deadly

with deadly():
    from robot import FixedPipeline, known_answer

    from pasr_perception.ros import node
    from pasr_perception.types import Detection, Frame, FrameResult


def main() -> int:
    load_s, frame_s = map(float, sys.argv[1:3])

    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        if frame_s:
            print("double: frame", flush=True)
            time.sleep(frame_s)
        if any(d.class_id == "fault" for d in detections):
            raise RuntimeError("a fault that was asked for")
        return known_answer(frame, detections)

    def open_pipeline(*_: object) -> FixedPipeline:
        print("double: loading", flush=True)
        time.sleep(load_s)
        pipeline = FixedPipeline(answer)
        pipeline.frames = deque(maxlen=1)  # keeps none of a long run
        return pipeline

    node.open_pipeline = open_pipeline
    return node.main([*sys.argv, "--ros-args", "-p", "tracking:=false"])


if __name__ == "__main__":
    sys.exit(main())
