"""Write the checkpoint in this folder. Needs TensorFlow, which the project itself does not; see README.md."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1


def main(folder: Path) -> None:
    tf1.disable_eager_execution()
    shapes: dict[str, tuple[int, ...]] = {"scalar": ()}
    for task in (1, 2):
        for stage in (1, 2, 3, 4, 5):
            own, fused = f"vgg_16_{task}_{stage}/conv{stage}/conv{stage}_1", f"nddr_{stage}/nddr_{stage}_n{task}"
            shapes |= {f"{own}/weights": (3, 3, 3, 4), f"{fused}/weights": (1, 1, 8, 4)}
            for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                shapes |= {f"{own}/BatchNorm/{part}": (4,), f"{fused}/BatchNorm/{part}": (4,)}
        shapes |= {f"vgg_16_{task}_6/fc8_voc12/weights": (1, 1, 4, 5), f"vgg_16_{task}_6/fc8_voc12/biases": (5,)}
    with tf1.Session(config=tf1.ConfigProto(device_count={"CPU": 2})) as session:
        for number, name in enumerate(sorted(shapes)):
            values = number + np.arange(np.prod(shapes[name], dtype=int)).reshape(shapes[name]) / 64
            with tf1.device(f"/cpu:{number % 2}"):  # a sharded Saver writes one data file per device
                tf1.get_variable(name, initializer=tf.constant(values.astype(np.float32)))
        step = tf1.train.get_or_create_global_step()
        with tf1.variable_scope("sliced", partitioner=tf1.fixed_size_partitioner(2)):
            tf1.get_variable("weights", shape=(6, 2))
        session.run(tf1.global_variables_initializer())
        session.run(tf1.assign(step, 20000))
        tf1.train.Saver(sharded=True).save(session, f"{folder}/model.ckpt", global_step=20000, write_meta_graph=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
