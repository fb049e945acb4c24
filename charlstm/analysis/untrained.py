"""A net of a model's shape that has learnt nothing: what any net does with a text."""

import numpy as np

from charlstm.net.engine import Array, Engine
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS, layer_prefix


def untrained_engine(config: ModelConfig, seed: int = 0) -> Engine:
    """An engine with the weights that training starts from (docs/explanation/training.md).

    Embeddings normal; hidden blocks orthogonal; inputs uniform within 1/sqrt(I); the forget gate's
    bias 1, if there is one; all else zero.
    """
    random = np.random.default_rng(seed)
    spec, size = CELLS[config.cell], config.hidden_size
    weights: dict[str, Array] = {
        name: np.zeros(shape, np.float32) for name, shape in config.shapes().items()
    }
    weights["embedding"][:] = random.normal(size=weights["embedding"].shape)
    for layer in range(config.layers):
        prefix = layer_prefix(layer)
        inputs = weights[prefix + "weight_input"]
        bound = inputs.shape[1] ** -0.5
        inputs[:] = random.uniform(-bound, bound, inputs.shape)
        for block in spec.blocks:
            rows = spec.block(block, size)
            weights[prefix + "weight_hidden"][rows] = np.linalg.qr(
                random.normal(size=(size, size))
            )[0]
        if "forget" in spec.blocks:
            weights[prefix + "bias"][spec.block("forget", size)] = 1
    return Engine(config, weights)
