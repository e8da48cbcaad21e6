"""Training: configuration, losses, augmentation and the resumable training loop."""

from gexpr.training.config import TrainConfig, from_dict, load_config

__all__ = ["TrainConfig", "TrainResult", "from_dict", "load_config", "train"]


def __getattr__(name: str):  # type: ignore[no-untyped-def]
    # The configuration is useful without torch and Lightning, which are slow to import.
    if name in ("train", "TrainResult"):
        from gexpr.training import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module 'gexpr.training' has no attribute {name!r}")
