"""Prints what TensorBoard finds in the event files of a folder, a line of JSON for each record.

    python tests/tensorboard_reads.py FOLDER
"""

import json
import sys

from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

KINDS = [
    event_accumulator.SCALARS,
    event_accumulator.HISTOGRAMS,
    event_accumulator.IMAGES,
    event_accumulator.TENSORS,
]


def contents(kind, event):
    """What one record holds."""
    if kind == event_accumulator.SCALARS:
        return event.value
    if kind == event_accumulator.HISTOGRAMS:
        histogram = event.histogram_value
        buckets = zip(histogram.bucket_limit, histogram.bucket)
        return {
            "min": histogram.min,
            "max": histogram.max,
            "num": histogram.num,
            "sum": histogram.sum,
            "sum_squares": histogram.sum_squares,
            "full": [[limit, count] for limit, count in buckets if count],
        }
    if kind == event_accumulator.IMAGES:
        png = event.encoded_image_string.hex()
        return {"width": event.width, "height": event.height, "png": png}
    return [text.decode() for text in tensor_util.make_ndarray(event.tensor_proto)]


def main(folder):
    everything = {kind: 0 for kind in KINDS}
    accumulator = event_accumulator.EventAccumulator(folder, size_guidance=everything)
    accumulator.Reload()
    read = {
        event_accumulator.SCALARS: accumulator.Scalars,
        event_accumulator.HISTOGRAMS: accumulator.Histograms,
        event_accumulator.IMAGES: accumulator.Images,
        event_accumulator.TENSORS: accumulator.Tensors,
    }
    print(json.dumps({"version": accumulator.file_version}))
    for kind in KINDS:
        for tag in accumulator.Tags()[kind]:
            plugin = None
            if kind == event_accumulator.TENSORS:
                plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
            for event in read[kind](tag):
                record = [kind, plugin, tag, event.step, contents(kind, event)]
                print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
