"""An untrained network of a model's shape, as a baseline for what training adds."""

import numpy as np

from charlstm.net.engine import Array, Engine
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS, layer_prefix


def untrained_engine(config: ModelConfig, seed: int = 0) -> Engine:
    """An engine with initial weights, as at the start of training (docs/explanation/training.md).

    Embeddings are normal, hidden blocks orthogonal, input weights uniform within 1/sqrt(I); the
    bias of a forget gate is 1; everything else is zero.
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
